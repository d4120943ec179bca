"""What a rule says of time (`timeouts`) and of trying again (`retry`): spec.md 5.5."""
import contextlib
import functools
import socket
import struct
import threading
import time

import pytest
from msgspec import structs
from support.scripted import Backend, head, one_rule, readable, rest
from support.waiting import elapse

from gwfast.plan import ir

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAST = ir.Retry(codes=(503,), attempts=2, backoff=0.001)


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def timeouts(request: float | None = None, backend: float | None = None) -> ir.Timeouts:
    return ir.Timeouts(request=request, backend_request=backend)


def exactly(connection: socket.socket, n: int) -> bytes:
    got = b""
    while len(got) < n:
        assert (data := connection.recv(n - len(got)))
        got += data
    return got


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def engine(start, backend):
    return lambda options=None, **rule: start([("127.0.0.1", backend.port)], functools.partial(one_rule, **rule), **options or {})


# -- timeouts ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "word"), [(timeouts(0.3), "request_timeout"), (timeouts(backend=0.3), "upstream_timeout"),
                                            (timeouts(5, 0.3), "upstream_timeout"), (timeouts(0.3, 0.3), "request_timeout")], ids=str)
def test_who_is_not_answered_in_time_gets_504_and_the_backend_hears_of_it(engine, backend, said, word):
    running = engine(timeouts=said)
    client = running.connect()
    began = time.monotonic()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    assert head(client).startswith(b"HTTP/1.1 504 ")
    assert 0.3 <= time.monotonic() - began < 3
    assert rest(upstream) in (b"", b"<RST>")
    assert running.count(word) == 1


def test_an_answer_that_is_not_complete_in_time_is_cut(engine, backend):
    running = engine(timeouts=timeouts(0.4))
    client = running.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
    assert rest(client).endswith(b"begun<RST>")
    assert rest(upstream) in (b"", b"<RST>")


@pytest.mark.parametrize("said", [timeouts(0), timeouts(backend=0), timeouts(5), timeouts(backend=5)], ids=str)
def test_what_the_rule_says_holds_in_the_place_of_the_gateways_limit(engine, backend, said):
    running = engine({"response_timeout": 0.1}, timeouts=said)
    client = running.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    elapse(0.6)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


def test_the_gateways_limit_holds_where_the_rule_says_nothing(engine, backend):
    client = engine({"response_timeout": 0.1}, retry=FAST).connect()
    client.sendall(GET)
    backend.accept()
    assert head(client).startswith(b"HTTP/1.1 504 ")


def test_requests_in_time_leave_nothing_behind(engine, backend):
    running = engine(timeouts=timeouts(0.3, 0.2))
    client = running.connect()
    for _ in range(3):
        client.sendall(GET)
        upstream = backend.accepted[0] if backend.accepted else backend.accept()
        head(upstream)
        upstream.sendall(OK)
        head(client)
        assert exactly(client, 2) == b"ok"
        elapse(0.15)
    elapse(0.4)
    assert running.count("requests") == 3 and running.count("request_timeout") == 0
    client.sendall(GET)
    head(upstream)
    upstream.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


def test_an_upgraded_connection_has_no_deadline(engine, backend):
    client = engine(timeouts=timeouts(0.2, 0.2)).connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    head(client)
    elapse(0.5)
    client.sendall(b"still")
    assert exactly(upstream, 5) == b"still"


# -- retries -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 404])
def test_a_status_that_is_named_is_tried_again(engine, backend, status):
    running = engine(retry=ir.Retry(codes=(status,), attempts=2, backoff=0.001))
    client = running.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(answer(status, b"not this one"))
    again = backend.accept()
    head(again)
    again.sendall(OK)
    assert b"ok" in head(client) + client.recv(2)
    assert running.count("upstream_retries") == 1


def test_other_statuses_are_answers(engine, backend):
    running = engine(retry=FAST)
    client = running.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(answer(500))
    assert head(client).startswith(b"HTTP/1.1 500 ")
    assert running.count("upstream_retries") == 0


def test_the_last_attempt_is_the_answer(engine, backend):
    running = engine(retry=FAST)
    client = running.connect()
    client.sendall(GET)
    for n in range(3):
        upstream = backend.accept()
        head(upstream)
        upstream.sendall(answer(503, b"%d" % n))
    assert head(client).startswith(b"HTTP/1.1 503 ") and client.recv(1) == b"2"
    assert running.count("upstream_retries") == 2 and running.count("requests") == 1


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("end", [socket.socket.close, reset])
def test_a_connection_that_ends_without_an_answer_is_tried_again(engine, backend, end, method):
    client = engine(retry=ir.Retry(backoff=0.001)).connect()
    client.sendall(GET.replace(b"GET", method))
    upstream = backend.accept()
    head(upstream)
    end(upstream)
    again = backend.accept()
    assert head(again).startswith(method)
    again.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


def test_what_is_not_connected_to_is_tried_again_later(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    running = start([("127.0.0.1", port)], functools.partial(one_rule, retry=ir.Retry(attempts=9, backoff=0.1)))
    client = running.connect()
    client.sendall(GET)
    running.wait("upstream_retries", 1)
    with contextlib.closing(Backend.__new__(Backend)) as late:
        late.socket, late.port, late.accepted = socket.create_server(("127.0.0.1", port)), port, []
        late.socket.settimeout(5)
        upstream = late.accept()
        head(upstream)
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ")


def test_an_attempt_that_is_late_is_tried_again_where_504_is_named(engine, backend):
    """The second attempt is answered; where this process is late to do that, the next one is."""
    running = engine(retry=ir.Retry(codes=(504,), attempts=20, backoff=0.001), timeouts=timeouts(backend=0.2))
    client = running.connect()
    client.sendall(GET)
    upstream = backend.accept()
    head(upstream)
    while not readable(client):
        again = backend.accept()
        head(again)
        again.sendall(OK)
        readable(client, seconds=0.2)
    assert head(client).startswith(b"HTTP/1.1 200 ")
    assert rest(upstream) in (b"", b"<RST>")


def test_another_endpoint_is_asked_where_there_is_one(start, backend, other):
    running = start([("127.0.0.1", backend.port), ("127.0.0.1", other.port)], functools.partial(one_rule, retry=FAST))
    for asked in (backend, other):
        asked.socket.settimeout(0.05)
    client = running.connect()
    seen = []
    for _ in range(4):
        client.sendall(GET)
        for status in (503, 200):
            while True:
                asked = other if seen and seen[-1] is backend else backend
                with contextlib.suppress(TimeoutError):
                    upstream = asked.accept()
                    break
                with contextlib.suppress(TimeoutError):
                    asked = backend if asked is other else other
                    upstream = asked.accept()
                    break
            seen.append(asked)
            head(upstream)
            upstream.sendall(answer(status) + b"")
            upstream.close()
        assert head(client).startswith(b"HTTP/1.1 200 ")
    assert all(first is not second for first, second in zip(seen[::2], seen[1::2], strict=True))


@pytest.mark.parametrize("size", [1, 1000, 40_000, 65_536])
def test_a_body_is_sent_again(engine, backend, size):
    body = bytes(n % 251 for n in range(size))
    client = engine(retry=FAST).connect()
    client.sendall(post(body))
    for status in (503, 503, 200):
        upstream = backend.accept()
        head(upstream)
        assert exactly(upstream, size) == body
        upstream.sendall(answer(status))
    assert head(client).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_still_comes_is_sent_whole(engine, backend):
    client = engine(retry=FAST).connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    upstream = backend.accept()
    head(upstream)
    assert exactly(upstream, 10) == b"5\r\nhello\r\n"
    upstream.sendall(answer(503))
    again = backend.accept()
    head(again)
    client.sendall(b"6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += again.recv(1000)
    assert got.replace(b"6\r\n", b"").replace(b"5\r\n", b"").startswith(b"hello\r\n world") and b"X-Sum: 1" in got
    again.sendall(OK)
    assert head(client).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_too_long_to_keep_is_sent_once(engine, backend):
    running = engine(retry=FAST)
    client = running.connect()
    body = bytes(200_000)
    thread = threading.Thread(target=client.sendall, args=(post(body),))
    thread.start()
    upstream = backend.accept()
    head(upstream)
    assert exactly(upstream, len(body)) == body
    upstream.sendall(answer(503))
    assert head(client).startswith(b"HTTP/1.1 503 ")
    thread.join()
    assert running.count("upstream_retries") == 0


def test_the_whole_request_has_one_deadline(engine, backend):
    running = engine(retry=ir.Retry(codes=(503,), attempts=1000, backoff=0.05), timeouts=timeouts(0.5))
    client = running.connect()
    began = time.monotonic()
    client.sendall(GET)
    backend.socket.settimeout(0.6)
    with contextlib.suppress(TimeoutError):
        while time.monotonic() - began < 3:
            upstream = backend.accept()
            head(upstream)
            upstream.sendall(answer(503))
    assert head(client)[:13] in (b"HTTP/1.1 503 ", b"HTTP/1.1 504 ")
    assert 1 <= running.count("upstream_retries") <= 10


@pytest.mark.parametrize(("budget", "percent", "rate"), [(None, 20, 10), (ir.RetryBudget(50, 10.0, 1, 10.0), 50, 1),
                                                         (ir.RetryBudget(0, 10.0, 3, 1.0), 0, 3)], ids=str)
def test_a_storm_of_retries_has_a_budget(start, backend, budget, percent, rate):
    """Against a backend that always says 503: so many retries a second at least, or that share of what is sent."""
    def plan(addresses):
        made = ir.Backend(namespace="default", name="echo", port=80, retry_budget=budget)
        one = one_rule(addresses, retry=ir.Retry(codes=(503,), attempts=5, backoff=0.001), backends=(ir.WeightedBackend(backend=made),))
        return structs.replace(one, backends=(made,))
    running = start([("127.0.0.1", backend.port)], plan)
    stopping = threading.Event()

    def serve(connection):
        with contextlib.suppress(OSError, EOFError):
            while True:
                head(connection)
                connection.sendall(answer(503))

    def accept():
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=serve, args=(backend.accept(),), daemon=True).start()
    thread = threading.Thread(target=accept)
    backend.socket.settimeout(0.2)
    thread.start()
    client = running.connect()
    began = time.monotonic()
    for _ in range(300):
        client.sendall(GET)
        got = head(client)
        assert got.startswith(b"HTTP/1.1 503 ")
        exactly(client, int(got.lower().partition(b"content-length: ")[2].split()[0]))
    took = time.monotonic() - began
    stopping.set()
    thread.join()
    retries = running.count("upstream_retries")
    assert rate <= retries <= rate * (took + 2) + percent / 100 * (300 + retries)
    assert retries >= percent / 100 * 300


# -- HTTP/2 --------------------------------------------------------------------------------------------------------------------


def test_a_stream_is_tried_again_and_its_body_with_it(start_http2):
    async def handler(request):
        await request.ended.wait()
        seen.append(request.body)
        await request.answer(b"ok", 503 if len(seen) < 3 else 200)
    seen = []
    running, _ = start_http2(handler, make_plan=functools.partial(one_rule, protocol="h2c", retry=FAST))
    client = running.connect()
    client.sendall(post(b"x" * 30_000))
    assert head(client).startswith(b"HTTP/1.1 200 ") and exactly(client, 2) == b"ok"
    assert seen == [b"x" * 30_000] * 3


@pytest.mark.parametrize(("said", "word"), [(timeouts(0.3), "request_timeout"), (timeouts(backend=0.3), "upstream_timeout")], ids=str)
def test_a_stream_that_is_late_is_reset(start_http2, said, word):
    async def handler(request):
        requests.append(request)
        await request.ended.wait()
    requests = []
    running, _ = start_http2(handler, make_plan=functools.partial(one_rule, protocol="h2c", timeouts=said))
    client = running.connect()
    client.sendall(GET)
    assert head(client).startswith(b"HTTP/1.1 504 ")
    assert running.count(word) == 1
    for _ in range(500):
        if requests[0].reset is not None:
            break
        elapse(0.01)
    assert requests[0].reset == 8      # CANCEL
