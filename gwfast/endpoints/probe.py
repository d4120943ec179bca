"""One probe of one endpoint: a connection of its own, one question, and what is wrong with the answer.

Rules
- TCP: the connection opens. HTTP: the final status is one of those that are expected, and the response ends as its framing
  says; of a long one the beginning is enough. GRPC: grpc.health.v1.Health/Check says SERVING, and grpc-status 0
  (grpc/doc/health-checking.md).
- The question goes the way of requests: over TLS where they do, in HTTP/2 where ALPN chose it, to h2c and for GRPC, else in
  HTTP/1.1.
- Bytes from outside raise Failed and nothing else; the connection is closed whatever ends the probe, a cancellation too.
"""
import contextlib

import h11

from gwfast import limits
from gwfast.endpoints.link import AGENT, Failed, Link, Subject, words


async def probe(loop, subject: Subject, certs=None) -> None:
    """Ask an endpoint once, for as long as it takes; raise Failed."""
    try:
        opened = Link(loop, subject.ip, subject.port)
    except OSError as error:  # no descriptor is left, or no such interface
        raise Failed("unable", words(error)) from None
    with contextlib.closing(opened) as link:
        await link.connect()
        try:
            if subject.tls:
                await link.secure(certs, subject.tls)
            if subject.check.type != "TCP":
                await _ask(link, subject)
        except OSError as error:
            raise Failed("broken", f"the connection broke: {words(error)}") from None


async def _ask(link: Link, subject: Subject) -> None:
    wanted = subject.check.type == "GRPC" or subject.protocol == "h2c"
    negotiated = subject.tls and subject.protocol != "tcp"
    if negotiated and wanted and link.chosen != "h2":
        raise Failed("broken", "it speaks no HTTP/2")
    if link.chosen != "h2" and not wanted:
        status = await _status(link, subject)
    else:
        from gwfast.endpoints import http2_probe  # whoever asks in HTTP/1.1 alone does not have h2 in memory

        if subject.check.type == "GRPC":
            await http2_probe.check(link, subject)
            return
        status = await http2_probe.status(link, subject)
    if status not in subject.check.statuses:
        raise Failed("status", f"it answered {status}")


async def _status(link: Link, subject: Subject) -> int:
    """Ask in HTTP/1.1; return the status."""
    check, status = subject.check, 0
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.HEAD_BYTES)
    fields = [("Host", subject.host), ("User-Agent", AGENT), ("Accept", "*/*"), ("Connection", "close")]
    await link.send(connection.send(h11.Request(method=check.method, target=check.path, headers=fields))
                    + connection.send(h11.EndOfMessage()))
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if status and link.full:
                    return status
                connection.receive_data(await link.receive())
            elif isinstance(event, h11.Response):
                status = event.status_code
                if status not in check.statuses:
                    return status
            elif isinstance(event, h11.EndOfMessage):
                return status
            elif event is h11.PAUSED:
                raise Failed("broken", "it answered 101 and was not asked to")
    except h11.RemoteProtocolError as error:
        raise Failed("broken", f"no HTTP/1.1: {error}") from None
