"""TLS in memory: what goes in at one end comes out at the other, however it is cut, and how it ends.

The other end is pyOpenSSL's own Connection, or a Session that is a client.
"""
import subprocess
import sys

from support import pki
import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, _util, crypto

from gwfast import limits

from gwfast.tls import records

END, MORE, BROKEN = 0, -1, -2
CHAIN, KEY = pki.pair("a.example")
RECORD = 5 + 1 + 16  # a record's head, the type in it and its tag (TLS 1.3)
VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]
both = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


def server(**options):
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(x509.load_pem_x509_certificate(CHAIN))
    context.use_privatekey(load_pem_private_key(KEY, None))
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    context.set_session_id(b"tests")
    return records.Setting(context, **options)


def client(version=0, alpn=(), trust=True, **options):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if alpn:
        context.set_alpn_protos(list(alpn))
    if trust:
        context.get_cert_store().add_cert(crypto.X509.from_cryptography(x509.load_pem_x509_certificate(CHAIN)))
    return records.Setting(context, verify=SSL.VERIFY_PEER, **options)


def met(ours, theirs, at_once=1 << 20):
    """Let two Taps shake hands, so many bytes at once; the server's tickets are read."""
    waiting = {ours: b"", theirs: b""}
    for _ in range(40000):
        for one, other in ((theirs, ours), (ours, theirs)):
            data, waiting[one] = waiting[one][:at_once], waiting[one][at_once:]
            if one.facts["done"]:
                waiting[other] += one.open(data)[1] if data else b""
                continue
            result, sent = one.handshake(data)
            waiting[other] += sent
            if result < 0:
                raise ConnectionError(one.session.reason())
        if not any(waiting.values()) and ours.facts["done"] and theirs.facts["done"]:
            return ours, theirs
    raise AssertionError("it does not end")


def pair(version=0, alpn=(), at_once=1 << 20, ticket=None, settings=None):
    ours, theirs = settings or (server(alpn=True), client(version, alpn))
    return met(records.Tap(ours), records.Tap(theirs, client=True, name=b"a.example", ticket=ticket), at_once)


@both
@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_a_handshake_cut_in_any_way(version, at_once):
    ours, theirs = pair(version, at_once=at_once)
    sent = theirs.seal(b"GET / HTTP/1.1\r\n\r\n")
    got = b""
    for at in range(0, len(sent), at_once):
        text, answer = ours.open(sent[at:at + at_once])
        assert answer == b""
        if text != MORE:
            got += text
    assert got == b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize(("offered", "chosen"), [
    ((), ""), ((b"h2",), "h2"), ((b"http/1.1",), "http/1.1"), ((b"http/1.1", b"h2"), "h2"), ((b"h3", b"http/1.1"), "http/1.1")])
def test_h2_is_chosen_where_it_is_offered(offered, chosen):
    ours, theirs = pair(alpn=offered)
    assert ours.facts["chosen"] == theirs.facts["chosen"] == chosen


def test_a_client_that_speaks_neither_is_refused():
    with pytest.raises(ConnectionError):
        pair(alpn=(b"h3",))


def test_a_small_response_is_one_record():
    ours, theirs = pair(SSL.TLS1_3_VERSION)
    parts = b"HTTP/1.1 200 OK\r\n\r\n", b"1\r\n", b"body", b"\r\n0\r\n\r\n"
    sent = ours.seal(*parts)
    assert len(sent) == sum(map(len, parts)) + RECORD
    assert theirs.open(sent)[0] == b"".join(parts)


@pytest.mark.parametrize("sizes", [
    (1,), (16384,), (16385,), (100, 16284), (100, 16285), (100, 40000), (40000, 100), (100, 40000, 100), (16384, 16384, 1),
    (0, 5, 0), (40000, 40000, 7)], ids=str)
def test_records_are_filled(sizes):
    ours, theirs = pair(SSL.TLS1_3_VERSION)
    parts = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    whole = b"".join(parts)
    sent = ours.seal(*parts)
    fewest = -(-len(whole) // limits.RECORD_BYTES)
    assert len(whole) + RECORD * fewest <= len(sent) <= len(whole) + RECORD * (fewest + len(sizes) - 1)
    assert theirs.open(sent, len(whole) + 1)[0] == whole


def test_what_does_not_fit_is_there_the_next_time():
    ours, theirs = pair()
    whole = bytes(range(256)) * 200
    text, _ = theirs.open(ours.seal(whole), 1000)
    while len(text) < len(whole):
        more, _ = theirs.open(b"", 1000)
        assert len(more) == min(1000, len(whole) - len(text))
        text += more
    assert text == whole
    assert theirs.open(b"")[0] == MORE


# -- how it ends -----------------------------------------------------------------------------------------------------------


@both
def test_the_end_is_told(version):
    ours, theirs = pair(version)
    text, _ = ours.open(theirs.seal(b"last") + theirs.goodbye())
    assert text == b"last"
    assert ours.open(b"")[0] == END and ours.facts["ended"]
    assert ours.open(b"")[0] == END
    assert theirs.open(ours.seal(b"still answered"))[0] == b"still answered", "one side ends by itself (RFC 8446 6.1)"


@both
def test_what_is_cut_has_no_end(version):
    for cut in range(100 + RECORD):
        ours, theirs = pair(version)
        sent = theirs.seal(b"x" * 100) + theirs.goodbye()
        text, _ = ours.open(sent[:-1 - cut])
        assert text in (MORE, b"x" * 100) and not ours.facts["ended"]
        assert ours.open(b"")[0] == MORE


@both
def test_a_changed_byte_breaks_it(version):
    for at in (0, 3, 5, 40):
        ours, theirs = pair(version)
        sent = bytearray(theirs.seal(b"x" * 100))
        sent[at] ^= 0x55
        text, alert = ours.open(bytes(sent) + bytes(20000))
        assert text == BROKEN and ours.session.reason()
        assert ours.open(theirs.seal(b"y"))[0] == BROKEN
        with pytest.raises(ConnectionError):
            ours.seal(b"y")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\3\1\0\5\2\0\0\1\0"])
def test_what_is_no_handshake_breaks_it(data):
    ours = records.Tap(server())
    assert ours.handshake(data)[0] == -1
    assert ours.session.reason()
    assert ours.handshake(b"")[0] == -1 and ours.open(b"")[0] == BROKEN


def test_an_error_that_somebody_left_behind_is_nobodys():
    """OpenSSL's queue of errors is one for the thread, and SSL_get_error looks at it."""
    ours, theirs = pair()
    other, _ = pair()
    other.open(bytes(100))
    assert _util.lib.ERR_peek_error() == 0
    _util.lib.ERR_put_error(20, 0, 1, b"", 0)
    assert _util.lib.ERR_peek_error() != 0
    assert ours.open(b"")[0] == MORE
    _util.lib.ERR_put_error(20, 0, 1, b"", 0)
    assert ours.open(theirs.seal(b"x"))[0] == b"x"
    _util.lib.ERR_clear_error()


def test_a_server_that_is_not_trusted():
    with pytest.raises(ConnectionError, match="certificate verify failed: self-signed certificate"):
        pair(settings=(server(), client(trust=False)))


# -- resumption, memory ------------------------------------------------------------------------------------------------------


@both
def test_a_client_resumes(version):
    settings = server(), client(version)
    _, first = pair(settings=settings)
    ticket = first.ticket()
    ours, theirs = pair(settings=settings, ticket=ticket)
    assert ours.facts["resumed"] and theirs.facts["resumed"]
    again, _ = pair(settings=settings, ticket=ticket)
    assert again.facts["resumed"], "the connection before was not ended in order, which is no reason"
    anew, _ = pair(settings=(server(), settings[1]), ticket=ticket)
    assert not anew.facts["resumed"], "another context has other keys"


@both
def test_tickets_have_the_keys_of_the_root(version):
    root = server()
    theirs = client(version)
    _, first = pair(settings=(server(root=root), theirs))
    ours, _ = pair(settings=(server(root=root), theirs), ticket=first.ticket())
    assert ours.facts["resumed"]


def test_memory_is_given_back():
    ours, theirs = pair()
    theirs.open(ours.seal(b"x" * 100000), 200000)
    assert ours.rest()
    assert not ours.rest()
    assert ours.open(b"")[0] == MORE
    assert theirs.open(ours.seal(b"after"))[0] == b"after"
    assert ours.rest()
    assert ours.open(theirs.seal(b"again"))[0] == b"again"
    assert ours.rest()
    assert theirs.open(ours.goodbye())[0] == END
    ours.open(theirs.seal(b"y" * 5000)[:3000])  # the half of a record is OpenSSL's, and stays
    ours.rest()
    assert ours.open(b"")[0] == MORE


def test_nothing_is_given_back_that_is_still_needed():
    ours, theirs = pair()
    sent = theirs.seal(b"x" * 30000)
    assert ours.open(sent, 10)[0] == b"x" * 10
    ours.rest()
    assert ours.open(b"", 40000)[0] == b"x" * 29990


# -- the library -------------------------------------------------------------------------------------------------------------

POINTERS = {
    "SSL_new": "SSL *(*)(SSL_CTX *)", "SSL_free": "void(*)(SSL *)", "SSL_set_bio": "void(*)(SSL *, BIO *, BIO *)",
    "SSL_set_SSL_CTX": "SSL_CTX *(*)(SSL *, SSL_CTX *)",
    "SSL_set_verify": "void(*)(SSL *, int, int(*)(int, X509_STORE_CTX *))", "SSL_set_accept_state": "void(*)(SSL *)",
    "SSL_set_connect_state": "void(*)(SSL *)", "SSL_set_tlsext_host_name": "void(*)(SSL *, char *)",
    "SSL_set_session": "int(*)(SSL *, SSL_SESSION *)", "SSL_get1_session": "SSL_SESSION *(*)(SSL *)",
    "SSL_SESSION_free": "void(*)(SSL_SESSION *)", "SSL_session_reused": "int(*)(SSL *)", "SSL_do_handshake": "int(*)(SSL *)",
    "SSL_read": "int(*)(SSL *, void *, int)", "SSL_write": "int(*)(SSL *, void *, int)", "SSL_pending": "int(*)(SSL *)",
    "SSL_get_error": "int(*)(SSL *, int)", "SSL_shutdown": "int(*)(SSL *)", "SSL_set_shutdown": "void(*)(SSL *, int)",
    "SSL_get0_alpn_selected": "void(*)(SSL *, unsigned char * *, unsigned int *)",
    "SSL_get_verify_result": "long(*)(SSL *)",
    "SSL_CTX_set_alpn_select_cb": "void(*)(SSL_CTX *, int(*)(SSL *, unsigned char * *, unsigned char *, unsigned char *, "
                                  "unsigned int, void *), void *)",
    "BIO_new": "BIO *(*)(BIO_METHOD *)", "BIO_free": "int(*)(BIO *)", "BIO_s_mem": "BIO_METHOD *(*)()",
    "BIO_read": "int(*)(BIO *, void *, int)", "BIO_write": "int(*)(BIO *, void *, int)",
    "BIO_get_mem_data": "long(*)(BIO *, char * *)", "ERR_get_error": "unsigned long(*)()",
    "ERR_peek_error": "unsigned long(*)()", "ERR_clear_error": "void(*)()",
    "SSL_get_version": "char *(*)(SSL *)", "SSL_get_current_cipher": "SSL_CIPHER *(*)(SSL *)",
    "SSL_CIPHER_get_name": "char *(*)(SSL_CIPHER *)",
}


def test_every_function_is_there_and_takes_what_it_is_given():
    """A pyOpenSSL that moved one, or changed what it takes, must be seen here and not in a crash."""
    assert set(POINTERS) == set(records.NAMES)
    functions = _util.lib._original_lib
    assert {name: _util.ffi.typeof(_util.ffi.addressof(functions, name)).cname for name in records.NAMES} == POINTERS


@pytest.mark.parametrize("change", ["del lib._original_lib", "lib._original_lib = object()"])
def test_a_pyopenssl_without_them_is_refused_in_words(change):
    code = f"from OpenSSL._util import lib\n{change}\nfrom gwfast.tls import records\nrecords.load()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: this pyOpenSSL offers no function SSL_new" in done.stderr


def test_the_library_is_not_imported_without_need():
    code = "import sys\nfrom gwfast.tls import records\nfrom gwfast.engine import engine\nassert 'OpenSSL' not in sys.modules and 'cryptography' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
