"""An authorizer that is asked over gRPC (envoy.service.auth.v3.Authorization/Check), in the Python that gwfast itself needs.

    python examples/external-auth-grpc/authorizer.py 3002

It knows two users by their tokens, keeps tokens from the backend, and lets one of them read what is below /admin. A real one
would be made with grpcio and Envoy's .proto files: the messages are the same.
"""
import asyncio
import signal
import sys

import h2.config
import h2.connection
import h2.events
import h2.exceptions

USERS = {"Bearer ann-token": "ann", "Bearer root-token": "root"}
METHOD = "/envoy.service.auth.v3.Authorization/Check"
OK, UNIMPLEMENTED, PERMISSION_DENIED, UNAUTHENTICATED = 0, 12, 7, 16       # of gRPC


# ---- protobuf: a message is numbered fields, each a number or so many bytes (protobuf.dev/programming-guides/encoding) ----

def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    made = b""
    for number, value in fields:
        if isinstance(value, int):
            made += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            made += varint(number << 3 | 2) + varint(len(data)) + data
    return made


def read(data: bytes) -> dict[int, list]:
    """Return the fields of a message: number -> values."""
    found: dict[int, list] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = number()
        value: int | bytes = number()
        if tag & 7 == 2:
            at, value = at + value, data[at:at + value]
        found.setdefault(tag >> 3, []).append(value)
    return found


# ---- what is asked, and what is answered ----

def header(name: str, value: str) -> bytes:
    """Return a HeaderValueOption."""
    return message((1, message((1, name), (2, value))))


def shown(request: bytes) -> tuple[str, dict[str, str]]:
    """Return what a CheckRequest shows, path and fields: path and headers of attributes.request.http."""
    http = read(read(read(read(request)[1][0])[4][0])[2][0])
    entries = [read(each) for each in http.get(3, [])]
    return http[4][0].decode(), {each[1][0].decode(): each.get(2, [b""])[0].decode() for each in entries}


def check(request: bytes) -> bytes:
    """Return the CheckResponse for a CheckRequest."""
    path, fields = shown(request)
    user = USERS.get(fields.get("authorization", ""))
    if user is None:
        return denied(UNAUTHENTICATED, 401, "who are you?\n", header("www-authenticate", "Bearer"))
    if path.startswith("/admin") and user != "root":
        return denied(PERMISSION_DENIED, 403, f"not for {user}\n")
    allowed = ((2, header("x-user", user)), (5, "authorization"), (6, header("x-checked-for", user)))
    return message((1, message((1, OK))), (3, message(*allowed)))


def denied(code: int, status: int, body: str, *headers: bytes) -> bytes:
    return message((1, message((1, code))), (2, message((1, message((1, status))), *((2, each) for each in headers), (3, body))))


# ---- gRPC: a message with five bytes before it, in an HTTP/2 stream ----

class Connection(asyncio.Protocol):
    """One connection of the gateway's: many questions at once."""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.asked: dict[int, tuple[str, bytearray]] = {}
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        try:
            for event in self.h2.receive_data(data):
                self.take(event)
        except h2.exceptions.ProtocolError:
            self.transport.close()
        self.transport.write(self.h2.data_to_send())

    def take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.asked[event.stream_id] = (dict(event.headers)[":path"], bytearray())
        elif isinstance(event, h2.events.DataReceived):
            self.asked[event.stream_id][1].extend(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.asked.pop(event.stream_id, None)
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(event.stream_id, *self.asked.pop(event.stream_id))

    def answer(self, stream: int, path: str, data: bytes) -> None:
        head = [(":status", "200"), ("content-type", "application/grpc")]
        if path != METHOD:
            self.h2.send_headers(stream, [*head, ("grpc-status", str(UNIMPLEMENTED))], end_stream=True)
            return
        made = check(bytes(data[5:]))
        self.h2.send_headers(stream, head)
        self.h2.send_data(stream, b"\0" + len(made).to_bytes(4, "big") + made)
        self.h2.send_headers(stream, [("grpc-status", str(OK))], end_stream=True)


async def main(port: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with await loop.create_server(Connection, "127.0.0.1", port) as server:
        print("authorizer listens on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
