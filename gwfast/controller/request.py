"""The request that asks for a stream, and the answer of one that gets none: HTTP/1.1 by h11."""
import asyncio
from http import HTTPStatus

import h11

from gwfast import limits

PATH = b"/v1/feed"
READ_BYTES = 64 * 1024


class Refused(Exception):
    """A request that gets no stream."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


async def read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """Return the head of a request; EOFError, h11.ProtocolError."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise EOFError
        data = await reader.read(READ_BYTES)
        if not data:
            raise EOFError
        connection.receive_data(data)


async def answer(connection: h11.Connection, writer: asyncio.StreamWriter, refused: Refused) -> None:
    """Answer a request that gets no stream, and end the connection."""
    body = f"{refused.message}\n".encode()
    head = h11.Response(status_code=refused.status, reason=HTTPStatus(refused.status).phrase.encode(), headers=[
        ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), ("Connection", "close")])
    writer.write(connection.send(head) + connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage()))
    async with asyncio.timeout(limits.HEAD_TIMEOUT):
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def token_of(request: h11.Request) -> str:
    """Return the token of a request; Refused for one that is not ours."""
    if request.target.partition(b"?")[0] != PATH:
        raise Refused(404, "there is nothing here")
    if request.method != b"POST":
        raise Refused(405, "POST is needed")
    scheme, _, token = field(request, b"authorization").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "a bearer token is needed")
    return token.strip()


def field(request: h11.Request, name: bytes) -> str:
    """Return the first value of a field, '' without one."""
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")
