"""HTTP in clear where TLS is expected: told from everything else at every length of what has arrived, and answered."""
import h2.connection
import h2.events
import pytest

from gwfast import limits
from gwfast.tls.cleartext import clear_of

TEXT = b"The plain HTTP request was sent to HTTPS port"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HTTP1 = {
    "GET": b"GET / HTTP/1.1\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n",
    "a later minor version": b"GET / HTTP/1.9\r\n",
    "a bare line feed": b"GET / HTTP/1.1\n",
    "an absolute target": b"GET http://a.example/b?c HTTP/1.1\r\n",
    "to a proxy": b"CONNECT a.example:443 HTTP/1.1\r\n",
    "of the server": b"OPTIONS * HTTP/1.1\r\n",
    "of no registry": b"M-SEARCH * HTTP/1.1\r\n",
    "the longest method": b"A" * 32 + b" / HTTP/1.1\r\n",
    "bytes that are no characters": b"GET /\xe4\xff HTTP/1.1\r\n",
    "what HTTP/2 begins with": b"PRI * HTTP/1.1\r\n",
    "a target that is too long": b"GET /" + b"a" * limits.HELLO_BYTES,
}
NONE = {
    "nothing of it": bytes(8),
    "a ClientHello": b"\x16\3\1\2\0\1",
    "an empty line": b"\r\n\r\n",
    "a space": b" GET / HTTP/1.1\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "no target": b"GET  HTTP/1.1\r\n",
    "HTTP/2 in a request's line": b"GET / HTTP/2.0\r\n",
    "another name": b"GET / HTCPCP/1.0\r\n",
    "a name in lower case": b"GET / http/1.1\r\n",
    "no number": b"GET / HTTP/1.x\r\n",
    "two digits": b"GET / HTTP/1.10\r\n",
    "a space behind": b"GET / HTTP/1.1 \r\n",
    "a bare carriage return": b"GET / HTTP/1.1\rX",
    "a tab": b"GET\t/ HTTP/1.1\r\n",
    "a method that is none": b"G{T / HTTP/1.1\r\n",
    "a method that is too long": b"A" * 33,
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "SMTP": b"EHLO a.example\r\n",
    "SIP": b"OPTIONS sip:a@b SIP/2.0\r\n",
    "the PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "another preface": PREFACE[:-2] + b"XX",
}


def look(data: bytes) -> tuple[str, bytes]:
    """The verdict, after asserting that it does not depend on how the bytes arrive."""
    whole, answer = clear_of(data)
    decided = False
    for n in range(1, len(data) + 1):
        verdict, _ = clear_of(data[:n])
        assert verdict == whole or (verdict == "partial" and not decided), n
        decided = verdict != "partial"
    return whole, answer


@pytest.mark.parametrize("data", HTTP1.values(), ids=HTTP1)
def test_a_request_is_answered(data):
    what, answer = look(data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert what == "http1"
    assert head.split(b"\r\n") == [b"HTTP/1.1 400 Bad Request", b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"Content-Type: text/plain",
                                   b"Content-Length: %d" % len(TEXT + b"\n"), b"Connection: close"]
    assert body == TEXT + b"\n"
    assert look(data + b"Host: a\r\n\r\n") == (what, answer), "what is behind it is not looked at"


def test_the_answer_to_head_has_no_body():
    head, = [answer for what, answer in [look(b"HEAD / HTTP/1.1\r\n")] if what == "http1"]
    assert head == clear_of(b"GET / HTTP/1.1\r\n")[1].removesuffix(TEXT + b"\n")
    assert clear_of(b"HEADS / HTTP/1.1\r\n")[1].endswith(TEXT + b"\n")


def test_http2_is_told_in_http2():
    """A client reads the server's preface, then why it ends (RFC 9113 9.2)."""
    what, answer = look(PREFACE)
    assert what == "http2"
    client = h2.connection.H2Connection()
    client.initiate_connection()
    settings, end = client.receive_data(answer)
    assert isinstance(settings, h2.events.RemoteSettingsChanged) and not settings.changed_settings
    assert isinstance(end, h2.events.ConnectionTerminated)
    assert (end.error_code, end.last_stream_id, end.additional_data) == (0xc, 0, TEXT)


@pytest.mark.parametrize("data", NONE.values(), ids=NONE)
def test_what_is_none(data):
    assert look(data) == ("none", b"")


@pytest.mark.parametrize("data", [b"G", b"GET", b"GET ", b"GET /", b"GET / ", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", PREFACE[:-1]])
def test_what_may_become_one_waits(data):
    assert look(data) == ("partial", b"")
