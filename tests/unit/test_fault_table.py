"""The failure table: each row says a word of its own, and its facts fit together."""
import re
from pathlib import Path

import pytest

from gwfast.http import fault

ROWS = fault.table()
SOURCE = Path(fault.__file__).with_name("fault.pxd").read_text()


def test_each_fault_has_a_name_and_a_word_of_its_own():
    assert len(re.findall(r"^    FAULT_\w+", SOURCE, re.M)) == len(ROWS)
    assert len({word for word, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("word", "status", "side", "retried"), ROWS, ids=[row[0] for row in ROWS])
def test_its_facts_fit_together(word, status, side, retried):
    assert re.fullmatch(r"-|[a-z_]+", word) and (status == 0 or 200 <= status <= 599)
    if retried != "never":             # what is tried again is an endpoint's, and is answered if all attempts end so
        assert side == "upstream" and status >= 500
    if side == "client":
        assert status == 0 or 400 <= status < 500 or word == "version"
    if side in ("upstream", "gateway", "configuration"):
        assert status == 0 or status >= 500 or word == "authorizer_failed"     # it fails closed: 403


@pytest.mark.parametrize(("word", "retried"), {
    "connect_failed": "unanswered", "upstream_reset": "unanswered", "upstream_tls_untrusted": "unanswered",
    "upstream_malformed": "by status", "upstream_timeout": "by status",
    "upstream_cut": "never", "request_timeout": "never", "no_endpoint": "never", "internal": "never"}.items())
def test_what_is_tried_again(word, retried):
    assert {row[0]: row[3] for row in ROWS}[word] == retried
