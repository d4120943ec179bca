"""What a probe asks in HTTP/2 (see probe): a status, or how a gRPC service is."""
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import msgspec

from gwfast.endpoints.link import AGENT, Failed, Link, Subject

STREAM = 1
CHECK = "/grpc.health.v1.Health/Check"
SERVING = 1
STATES = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
MESSAGE_BYTES = 4096  # of a HealthCheckResponse, which has 2


class _Answer(msgspec.Struct):
    """What came back: fields of the head and of the trailers together, the later one wins."""

    fields: dict[str, str]
    body: bytes = b""

    @property
    def status(self) -> int:
        written = self.fields[":status"]
        if len(written) != 3 or not written.isascii() or not written.isdecimal():
            raise Failed("broken", "no HTTP/2: its status is none")
        return int(written)


async def status(link: Link, subject: Subject) -> int:
    """Ask as HTTP; return the status."""
    check = subject.check
    answer = await _exchange(link, subject, check.method, check.path, [("accept", "*/*")])
    return answer.status


async def check(link: Link, subject: Subject) -> None:
    """Ask grpc.health.v1.Health/Check; raise Failed unless it says SERVING."""
    name = subject.check.service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""  # HealthCheckRequest.service = 1
    fields = [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", f"{subject.check.timeout_ms}m")]
    answer = await _exchange(link, subject, "POST", CHECK, fields, b"\0" + len(message).to_bytes(4) + message)
    if answer.status != 200:
        raise Failed("status", f"it answered {answer.status}")
    if not answer.fields.get("content-type", "").startswith("application/grpc"):
        raise Failed("broken", "its answer is no gRPC")
    if (code := answer.fields.get("grpc-status")) != "0":
        raise Failed("status", f"it answered grpc-status {code}" if code else "it answered without a grpc-status")
    try:
        state = serving_status(answer.body)
    except (ValueError, IndexError):
        raise Failed("broken", "its answer is no HealthCheckResponse") from None
    if state != SERVING:
        raise Failed("status", f"it answered {STATES.get(state, state)}")


async def _exchange(link: Link, subject: Subject, method: str, path: str, fields: list[tuple[str, str]],
                    body: bytes = b"") -> _Answer:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
    connection.initiate_connection()
    connection.update_settings({h2.settings.SettingCodes.ENABLE_PUSH: 0})
    connection.send_headers(STREAM, [(":method", method), (":scheme", "https" if subject.tls else "http"), (":path", path),
                                     (":authority", subject.host), ("user-agent", AGENT), *fields], end_stream=not body)
    if body:
        connection.send_data(STREAM, body, end_stream=True)
    answer = _Answer({})
    while True:
        await link.send(connection.data_to_send())
        if ":status" in answer.fields and link.full:
            return answer
        data = await link.receive()
        if not data:
            raise Failed("broken", "it hung up")
        try:
            if any(_ends(connection, event, answer) for event in connection.receive_data(data)):
                return answer
        except h2.exceptions.ProtocolError as error:
            raise Failed("broken", f"no HTTP/2: {error}") from None


def _ends(connection, event: h2.events.Event, answer: _Answer) -> bool:
    """Take in what an event says; return whether the answer is complete."""
    match event:
        case h2.events.ResponseReceived() | h2.events.TrailersReceived():
            answer.fields.update(event.headers)  # type: ignore[arg-type]  # header_encoding: they are str
        case h2.events.DataReceived():
            answer.body += event.data[:MESSAGE_BYTES - len(answer.body)]
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        case h2.events.StreamReset():
            raise Failed("broken", f"it reset the request: {event.error_code}")
        case h2.events.ConnectionTerminated():
            raise Failed("broken", f"it ended the connection: {event.error_code}")
    return isinstance(event, h2.events.StreamEnded)


def serving_status(body: bytes) -> int:
    """Return the status of the one HealthCheckResponse in a gRPC body. Raise ValueError or IndexError for anything else."""
    if body[0] != 0 or len(body) != 5 + int.from_bytes(body[1:5]):
        raise ValueError("not one message, or compressed")
    at, state = 5, 0
    while at < len(body):
        key, at = _number(body, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(body, at)
            state = value if key >> 3 == 1 else state
        elif kind == 2:
            size, at = _number(body, at)
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("no such wire type")
    if at != len(body):
        raise ValueError("cut off")
    return state


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint; return it and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at + shift // 7]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise ValueError("a varint has 10 bytes at most")


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])  # below 2^14: a name has 253 bytes at most
