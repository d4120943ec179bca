"""ClientHellos, before TLS begins: what is read of them, and which alert refuses what is none (RFC 8446 4.1.2 and 6.2, RFC 6066 3,
RFC 7301 3.1).

Each is read at a guard page at every length of what has arrived, and cut into records of several sizes: the verdict comes
once, and stays. Those of real clients are made here by the libraries that clients use.
"""
import ssl

import pytest

from gwfast import limits
from gwfast.tls.client_hello import ALERTS, alert_of, hello_at

PARTIAL = ""
UNEXPECTED, OVERFLOW, ILLEGAL, DECODE = "unexpected_message", "record_overflow", "illegal_parameter", "decode_error"
VERSION, NAME = "protocol_version", "unrecognized_name"
SERVER_NAME, ALPN, VERSIONS = 0, 16, 43


def sized(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(number: int, data: bytes) -> bytes:
    return number.to_bytes(2, "big") + sized(data, 2)


def names(*given: bytes, type=0) -> bytes:
    return extension(SERVER_NAME, sized(b"".join(bytes([type]) + sized(name, 2) for name in given), 2))


def offers(*given: bytes) -> bytes:
    return extension(ALPN, sized(b"".join(sized(word, 1) for word in given), 2))


def versions(*given: int) -> bytes:
    return extension(VERSIONS, sized(b"".join(v.to_bytes(2, "big") for v in given), 1))


def message(*extensions: bytes, legacy=0x0303, session=b"s" * 32, ciphers=b"\x13\x01\x13\x02", compressions=b"\0", type=1,
            tail=b"", bare=False) -> bytes:
    body = (legacy.to_bytes(2, "big") + b"r" * 32 + sized(session, 1) + sized(ciphers, 2) + sized(compressions, 1)
            + (b"" if bare else sized(b"".join(extensions), 2)) + tail)
    return bytes([type]) + sized(body, 3)


def records(data: bytes, size=16384, type=22, version=0x0301) -> bytes:
    return b"".join(bytes([type]) + version.to_bytes(2, "big") + sized(data[at:at + size], 2)
                    for at in range(0, len(data), size))


def hello(*extensions: bytes, **options) -> bytes:
    return records(message(*extensions, **options))


def read(guard, data: bytes):
    """Return the verdict on data, after asserting that it does not depend on how the bytes arrive."""
    whole = hello_at(guard.at(data), len(data))
    decided = False
    for n in range(len(data) + 1):
        verdict = hello_at(guard.at(data[:n]), n)
        assert verdict == whole or (verdict == PARTIAL and not decided), n
        decided = verdict != PARTIAL
    return whole


def recut(data: bytes, size: int) -> bytes:
    """The same message in records of another size."""
    inside = b""
    while data:
        length = int.from_bytes(data[3:5], "big")
        inside, data = inside + data[5:5 + length], data[5 + length:]
    return records(inside, size)


LONGEST = b".".join([b"a" * 63] * 3 + [b"b" * 61])
SERVED = {
    "one name": (hello(names(b"a.example")), dict(name="a.example", offers=set(), version=0x0303, legacy=0x0303)),
    "in lower case": (hello(names(b"A.eXample.COM")), dict(name="a.example.com")),
    "no name": (hello(offers(b"h2")), dict(name="", offers={"any", "h2"})),
    "one label": (hello(names(b"localhost")), dict(name="localhost")),
    "digits, '-' and '_'": (hello(names(b"a-1_x.9.example")), dict(name="a-1_x.9.example")),
    "the longest name": (hello(names(LONGEST)), dict(name=LONGEST.decode())),
    "no extensions": (hello(bare=True), dict(name="", offers=set(), version=0x0303)),
    "an empty list of extensions": (hello(), dict(name="")),
    "no session id": (hello(names(b"a"), session=b""), dict(name="a")),
    "protocols": (hello(offers(b"h2", b"http/1.1")), dict(offers={"any", "h2", "http/1.1"})),
    "other protocols": (hello(offers(b"h3", b"http/1.0", b"http/1.11", b"h2c", b"a" * 255)), dict(offers={"any"})),
    "a certificate's challenge": (hello(offers(b"acme-tls/1")), dict(offers={"any", "acme-tls/1"})),
    "the highest version": (hello(versions(0x0303, 0x0304, 0x0302)), dict(version=0x0304)),
    "versions that nobody knows": (hello(versions(0x7a7a, 0x0305, 0xfefd, 0x0304)), dict(version=0x0304)),
    "only such": (hello(versions(0xdada)), dict(version=0, legacy=0x0303)),
    "an old version": (hello(legacy=0x0301), dict(version=0x0301)),
    "an old version beside others": (hello(versions(0x0304), legacy=0x0301), dict(version=0x0304, legacy=0x0301)),
    "a later version": (hello(legacy=0x0403), dict(version=0x0303, legacy=0x0403)),
    "a later version beside others": (hello(versions(0x0304), legacy=0xffff), dict(version=0x0304)),
    "TLS 1.3 without the extension": (hello(legacy=0x0304), dict(version=0x0303)),
    "extensions that are not looked at": (
        hello(extension(0xfe0d, b"x" * 200), names(b"a"), extension(51, b""), extension(51, b"")), dict(name="a")),
    "all together": (hello(versions(0x0304), offers(b"h2"), names(b"b.example")),
                     dict(name="b.example", offers={"any", "h2"}, version=0x0304)),
    **{f"records of version {version:#06x}": (records(message(names(b"a")), version=version), dict(name="a"))
       for version in (0x0300, 0x0302, 0x0303, 0x03ff)},
    "many extensions": (hello(*(extension(1000 + i, b"") for i in range(200)), names(b"a")), dict(name="a")),
}
REFUSED = {
    "HTTP": (UNEXPECTED, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/2": (UNEXPECTED, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "the PROXY protocol": (UNEXPECTED, b"PROXY UNKNOWN\r\n"),
    "SSL 2": (VERSION, bytes([0x80, 0x2e, 1, 3, 1]) + bytes(44)),
    "SSL 2 that offers TLS 1.2": (VERSION, b"\x80\x2e\1\3\3" + bytes(44)),
    "another message of SSL 2": (UNEXPECTED, bytes([0x80, 0x2e, 4, 0, 2]) + bytes(44)),
    "nothing that anybody speaks": (UNEXPECTED, b"\xff\xff\xff\xff"),
    "an alert": (UNEXPECTED, b"\x15\3\1\0\2\2\x28"),
    "a change of ciphers": (UNEXPECTED, b"\x14\3\3\0\1\1"),
    "a heartbeat": (UNEXPECTED, b"\x18\3\1\0\3\1\x40\0"),
    "another kind of record": (UNEXPECTED, records(message(names(b"a")), type=23)),
    "another protocol's version": (VERSION, records(message(names(b"a")), version=0x0201)),
    "another protocol's version in between": (VERSION, records(message(names(b"a")), size=60)[:65] + b"\x16\2\1\0\1"),
    "an empty record": (UNEXPECTED, records(message(names(b"a")))[:3] + b"\0\0" + records(message(names(b"a")))),
    "an empty record in between": (UNEXPECTED, records(message(names(b"a")), size=60)[:65] + b"\x16\3\1\0\0"),
    "a record that is too long": (OVERFLOW, b"\x16\3\1\x40\1\1"),
    "a record that is too long in between": (OVERFLOW, records(message(names(b"a")), size=60)[:65] + b"\x16\3\3\x40\1"),
    "another message": (UNEXPECTED, hello(names(b"a"), type=2)),
    "another message behind": (UNEXPECTED, records(message(names(b"a")) + message(names(b"b")))),
    "a byte behind": (UNEXPECTED, records(message(names(b"a")) + b"\0")),
    "an alert in between": (UNEXPECTED, records(message(names(b"a")), size=60)[:65] + b"\x15\3\1\0\2\1\0"),
    "shorter than any": (DECODE, records(b"\1\0\0\x28" + bytes(40))),
    **{f"version {version:#06x}": (VERSION, hello(versions(0x0304), names(b"a"), legacy=version))
       for version in (0, 1, 0x0002, 0x0101, 0x0200, 0x02ff)},
    "a session id that is too long": (DECODE, hello(names(b"a"), session=b"s" * 33)),
    "no cipher suites": (DECODE, hello(names(b"a"), ciphers=b"")),
    "half a cipher suite": (DECODE, hello(names(b"a"), ciphers=b"\x13\1\x13")),
    "no compression methods": (DECODE, hello(names(b"a"), compressions=b"")),
    "a byte behind the extensions": (DECODE, hello(names(b"a"), tail=b"\0")),
    "half a length of extensions": (DECODE, hello(bare=True, tail=b"\0")),
    "fewer extensions than said": (DECODE, hello(bare=True, tail=b"\0\5\0\0\0\0")),
    "more extensions than said": (DECODE, hello(bare=True, tail=b"\0\3\0\0\0\0")),
    "half an extension": (DECODE, hello(b"\0")),
    "an extension without a length": (DECODE, hello(b"\0\x10\0")),
    "an extension beyond the end": (DECODE, hello(b"\0\x10\0\4abc")),
    "two names": (DECODE, hello(names(b"a", b"b"))),
    "two lists of names": (ILLEGAL, hello(names(b"a"), names(b"a"))),
    "no names": (DECODE, hello(extension(SERVER_NAME, b"\0\0"))),
    "an empty extension of names": (DECODE, hello(extension(SERVER_NAME, b""))),
    "another type of name": (DECODE, hello(names(b"a", type=1))),
    "a byte behind the name": (DECODE, hello(extension(SERVER_NAME, sized(b"\0" + sized(b"a", 2) + b"\0", 2)))),
    "a byte behind the names": (DECODE, hello(extension(SERVER_NAME, sized(b"\0" + sized(b"a", 2), 2) + b"\0"))),
    "a name beyond the end": (DECODE, hello(extension(SERVER_NAME, sized(b"\0\0\5a", 2)))),
    "an empty name": (DECODE, hello(names(b""))),
    "a final dot": (NAME, hello(names(b"a.example."))),
    "a dot alone": (NAME, hello(names(b"."))),
    "an empty label": (NAME, hello(names(b"a..example"))),
    "an empty label before": (NAME, hello(names(b".a.example"))),
    "a label that is too long": (NAME, hello(names(b"a" * 64 + b".example"))),
    "a name that is too long": (NAME, hello(names(LONGEST + b"b"))),
    "a name that is far too long": (NAME, hello(names(b".".join([b"a"] * 500)))),
    "NUL": (NAME, hello(names(b"a.example\0.b.example"))),
    "a wildcard": (NAME, hello(names(b"*.example"))),
    "a space": (NAME, hello(names(b"a example"))),
    "a colon": (NAME, hello(names(b"::1"))),
    "a slash": (NAME, hello(names(b"a/b"))),
    "UTF-8": (NAME, hello(names("ä.example".encode()))),
    "the byte before 'a'": (NAME, hello(names(b"`"))),
    "the byte behind 'Z'": (NAME, hello(names(b"["))),
    "no protocols": (DECODE, hello(offers())),
    "an empty protocol": (DECODE, hello(offers(b"h2", b""))),
    "a protocol beyond the end": (DECODE, hello(extension(ALPN, b"\0\4\5h2c"))),
    "a byte behind the protocols": (DECODE, hello(extension(ALPN, sized(sized(b"h2", 1), 2) + b"\0"))),
    "two lists of protocols": (ILLEGAL, hello(offers(b"h2"), offers(b"http/1.1"))),
    "no versions": (DECODE, hello(extension(VERSIONS, b"\0"))),
    "half a version": (DECODE, hello(extension(VERSIONS, b"\3\3\4\3"))),
    "two lists of versions": (ILLEGAL, hello(versions(0x0304), versions(0x0303))),
}




@pytest.mark.parametrize(("data", "expected"), SERVED.values(), ids=SERVED)
@pytest.mark.parametrize("size", [None, 1, 3, 7, 100])
def test_served(guard, data, expected, size):
    data = recut(data, size) if size else data
    parts = read(guard, data)
    assert parts["length"] == len(data)
    assert {key: parts[key] for key in expected} == expected
    more = data + b"\x16\3\3\0\1"  # what is behind it is not looked at
    assert hello_at(guard.at(more), len(more)) == parts


@pytest.mark.parametrize(("alert", "data"), REFUSED.values(), ids=REFUSED)
def test_refused(guard, alert, data):
    assert read(guard, data) == alert


@pytest.mark.parametrize(("version", "minor"), [(0, 3), (0x0300, 0), (0x0301, 1), (0x0302, 2), (0x0303, 3), (0x0304, 3)])
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_one_that_its_reader_knows(alert, version, minor):
    assert alert_of(alert, version) == bytes([21, 3, minor, 0, 2, 2, alert])


@pytest.mark.parametrize("length", range(6))
def test_what_is_not_whole_waits(guard, length):
    data = hello(names(b"a"))[:length]
    assert hello_at(guard.at(data), length) == PARTIAL


def test_as_large_as_it_may_be(guard):
    room = limits.HELLO_BYTES - len(hello(extension(0xfe0d, b""), names(b"a")))
    data = hello(extension(0xfe0d, b"x" * room), names(b"a"))
    assert len(data) == limits.HELLO_BYTES
    assert hello_at(guard.at(data), len(data))["name"] == "a"
    assert hello_at(guard.at(data), len(data) - 1) == PARTIAL
    larger = hello(extension(0xfe0d, b"x" * (room + 1)), names(b"a"))
    assert hello_at(guard.at(larger[:9]), 9) == ILLEGAL, "its length says so"
    assert read(guard, larger[:600]) == ILLEGAL


@pytest.mark.parametrize("size", [1, 3, 5000])
def test_records_count_as_well(guard, size):
    data = recut(hello(extension(0xfe0d, b"x" * 16000), names(b"a")), size)
    assert (hello_at(guard.at(data), len(data)) == ILLEGAL) == (len(data) > limits.HELLO_BYTES)


def test_each_byte_changed_is_still_read_within_bounds(guard):
    data = hello(versions(0x0304, 0x0303), offers(b"h2", b"http/1.1"), names(b"a.example"))
    for at in range(len(data)):
        for value in (0, 1, 0x7f, 0x80, 0xff):
            changed = data[:at] + bytes([value]) + data[at + 1:]
            assert hello_at(guard.at(changed), len(changed)) is not None


def from_ssl(name, offered, highest=None):
    context = ssl.create_default_context()
    if offered:
        context.set_alpn_protocols(offered)
    if highest:
        context.maximum_version = highest
    sent = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()


def from_pyopenssl(name, offered):
    from OpenSSL import SSL
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if offered:
        context.set_alpn_protos([word.encode() for word in offered])
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    if name:
        connection.set_tlsext_host_name(name.encode())
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(65536)


REAL = {
    "ssl": (from_ssl("a.Example", []), "a.example", set(), 0x0304),
    "ssl, TLS 1.2": (from_ssl("a.example", ["http/1.1"], ssl.TLSVersion.TLSv1_2), "a.example", {"any", "http/1.1"}, 0x0303),
    "ssl, h2": (from_ssl("www.example.com", ["h2", "http/1.1"]), "www.example.com", {"any", "h2", "http/1.1"}, 0x0304),
    "ssl, an address": (from_ssl("127.0.0.1", []), "", set(), 0x0304),
    "pyOpenSSL": (from_pyopenssl("b.example", ["h2"]), "b.example", {"any", "h2"}, 0x0304),
    "pyOpenSSL, no name": (from_pyopenssl("", []), "", set(), 0x0304),
}


@pytest.mark.parametrize(("data", "name", "offered", "version"), REAL.values(), ids=REAL)
@pytest.mark.parametrize("size", [None, 1, 50])
def test_of_real_clients(guard, data, name, offered, version, size):
    parts = read(guard, recut(data, size) if size else data)
    assert (parts["name"], parts["offers"], parts["version"]) == (name, offered, version)
