"""Exchanges with a backend of HTTP/2, for the tests of the engine."""
import fcntl
import sys
import termios
import threading
import time

from support.scripted import head

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"".join(b"%015d\n" % n for n in range(1 << 16))


async def echo(request):
    await request.ended.wait()
    await request.answer(request.body)


def exchange(client, data: bytes) -> tuple[bytes, bytes]:
    """A request's answer: head and content (not of HEAD)."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    got = head(client)
    sender.join()
    fields = dict(line.lower().split(b": ", 1) for line in got.split(b"\r\n")[1:-2])
    if b"content-length" in fields:
        return got, take(client, int(fields[b"content-length"]))
    body = b""
    while n := int(line(client), 16):
        body += take(client, n)
        assert line(client) == b""
    assert line(client) == b""
    return got, body


def line(client) -> bytes:
    got = b""
    while not got.endswith(b"\r\n"):
        got += client.recv(1)
    return got[:-2]


def take(client, n: int) -> bytes:
    got = bytearray()
    while len(got) < n and (data := client.recv(n - len(got))):
        got += data
    return bytes(got)


def post(body: bytes, chunked=False, path=b"/x") -> bytes:
    if chunked:
        return (b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
                + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for at in range(0, len(body), 50_000)
                           if (part := body[at:at + 50_000])) + b"0\r\n\r\n")
    return b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(*pairs) -> bytes:
    return b"".join(b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in pairs)


def arrived(connection):
    """Wait until the other side's kernel has all that was sent."""
    end = time.monotonic() + 5
    while int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder):     # SIOCOUTQ, of a socket
        assert time.monotonic() < end
        time.sleep(0.001)
