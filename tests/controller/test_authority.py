"""The controller's authority over the years: who connects is always believed, and what is broken is made anew."""
import datetime

import pytest
from cryptography import x509
from cryptography.x509 import verification

from gwfast.controller.authority import AUTHORITY_LASTS, DAY, SERVER_LASTS, SERVER_RENEWED, SPREAD, _decoded, bundle_of, renewed

NAMES = ("gwfast-controller.gwfast-system.svc", "gwfast-controller.gwfast-system.svc.cluster.local")
BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def believed(data, bundle, now):
    """Whether somebody who believes a bundle takes the stream's certificate for each name; raises where not."""
    store = verification.Store(x509.load_pem_x509_certificates(bundle.encode()))
    leaf = x509.load_pem_x509_certificate(data["tls.crt"])
    for name in NAMES:
        verifier = verification.PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(name))
        verifier.verify(leaf, [])


def years(data, days, step=1):
    """Yield (now, what the Secret holds, what it held SPREAD - 1 day before) as time passes."""
    history = []
    for day in range(0, days, step):
        now = BEGIN + day * DAY
        data = renewed(data, NAMES, now) or data
        history.append(bundle_of(data))
        yield now, data, history[max(0, len(history) - SPREAD.days)]


def test_six_years():
    servers, authorities = set(), set()
    for now, data, old_bundle in years({}, 6 * 365):
        believed(data, old_bundle, now)
        left = x509.load_pem_x509_certificate(data["tls.crt"]).not_valid_after_utc - now
        assert SERVER_LASTS >= left > SERVER_RENEWED - DAY
        servers.add(data["tls.crt"])
        authorities.add(data["ca.crt"])
        assert len(x509.load_pem_x509_certificates(bundle_of(data).encode())) <= 3
    assert len(authorities) == 4 and 30 < len(servers) < 50


def test_what_is_right_is_not_written():
    data = renewed({}, NAMES, BEGIN)
    assert data.keys() == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert renewed(data, NAMES, BEGIN) is None and renewed(data, NAMES, BEGIN + 59 * DAY) is None


def test_a_cluster_that_slept_for_years_begins_anew():
    data = renewed({}, NAMES, BEGIN)
    now = BEGIN + 2 * AUTHORITY_LASTS
    after = renewed(data, NAMES, now)
    believed(after, bundle_of(after), now)
    assert after["ca.crt"] != data["ca.crt"] and "last.crt" not in after


def test_other_names_need_another_certificate_of_the_same_authority():
    data = renewed({}, NAMES[:1], BEGIN)
    after = renewed(data, NAMES, BEGIN)
    believed(after, bundle_of(data), BEGIN)
    assert after["ca.crt"] == data["ca.crt"]


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("value", [b"", b"garbage", None])
def test_what_cannot_be_read_is_made_anew(name, value):
    data = renewed({}, NAMES, BEGIN)
    broken = {**data, name: value} if value is not None else {each: data[each] for each in data if each != name}
    after = renewed(broken, NAMES, BEGIN)
    believed(after, bundle_of(after), BEGIN)
    assert (after["ca.crt"] == data["ca.crt"]) is name.startswith("tls")


def test_a_certificate_of_another_authority_is_replaced():
    data, other = renewed({}, NAMES, BEGIN), renewed({}, NAMES, BEGIN)
    after = renewed(data | {name: other[name] for name in ("tls.crt", "tls.key")}, NAMES, BEGIN)
    believed(after, bundle_of(data), BEGIN)


def test_what_a_secret_holds():
    assert _decoded(None) == _decoded({"data": None}) == {}
    assert _decoded({"data": {"a": "YQ==", "b": "no base64!"}}) == {"a": b"a", "b": b""}
