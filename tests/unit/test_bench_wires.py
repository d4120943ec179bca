"""What clients of the benchmarks speak: how h2load is called and read, and what one ask finds, beside a server of h2's own."""
import contextlib
import socket
import ssl
import threading

import h2.config
import h2.connection
import h2.events
import msgspec
import pytest
from cryptography import x509

from bench import h2load
from bench.asked import Answer, answer
from bench.scenes import Ask, plain, unary
from bench.wire import CLEAR, GRPC, H2, H2C, HOST, TLS, certificate

SAID = """\
starting benchmark...

finished in 1.05s, 37122.00 req/s, 6.62MB/s
requests: 37122 total, 37378 started, 37122 done, 37100 succeeded, 22 failed, 4 errored, 1 timeout
status codes: 37100 2xx, 0 3xx, 2 4xx, 15 5xx
traffic: 6.62MB (6943214) total, 1.20MB (1258291) headers (space savings 89.00%), 1.24MB (1298500) data
                     min         max         mean         sd        +/- sd
"""


def test_what_h2load_says():
    seen = h2load.parsed(SAID, 35)
    assert (seen.asked, seen.answered, seen.wrong, seen.broken, seen.lost, seen.seconds) == (37378, 37117, 17, 4, 1, 1.05)
    assert seen.said() == "2 4xx, 15 5xx, 4 broken, 1 never answered" and seen.errors == 22


@pytest.mark.parametrize("size, wrong", [(35, 17), (36, 18), (-1, 17)])
def test_bodies_that_are_too_short(size, wrong):
    assert h2load.parsed(SAID, size).wrong == wrong


def test_h2load_that_failed():
    with pytest.raises(ValueError, match="h2load said: no"):
        h2load.parsed("no", 35)


HOW = {"connections": 16, "streams": 4, "seconds": 0.5, "requests": 0, "body": ""}


@pytest.mark.parametrize("wire, words, url", [
    (TLS, {"--h1", f"--tls13-ciphers={h2load.CIPHER}"}, f"https://{HOST}/"),
    (H2, {f"--tls13-ciphers={h2load.CIPHER}"}, f"https://{HOST}/"),
    (H2C, set(), f"http://{HOST}/"), (CLEAR, {"--h1"}, f"http://{HOST}/")], ids=["tls", "h2", "h2c", "clear"])
def test_how_h2load_is_called(wire, words, url):
    said = h2load.command(99, Ask(), wire, **HOW)
    assert said[-1] == url and "--connect-to=127.0.0.1:99" in said and "--duration=500ms" in said
    assert {word for word in said if word == "--h1" or "ciphers" in word} == words


def test_a_number_of_requests_with_bodies():
    ask = unary().asks[""]
    said = h2load.command(99, ask, GRPC, **HOW | {"requests": 7, "body": "/tmp/body"})
    assert "--requests=7" in said and "--data=/tmp/body" in said and "--header=te: trailers" in said
    assert not [word for word in said if word.startswith("--duration")]


def test_bodies():
    assert GRPC.body(8) == b"\0\0\0\0\3..." and H2.body(3) == b"..." and plain(3).asks[""].method == "POST"


def test_the_certificate_is_for_the_host_and_made_once():
    chain, _ = certificate()
    made = x509.load_pem_x509_certificate(chain)
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [HOST]
    assert made.public_key().curve.name == "secp256r1" and certificate()[0] is chain


# -- one ask ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(wire, tmp_path, status="0"):
    """A server for one connection that answers with what it was asked: the length of the body."""
    def serve():
        connection = listening.accept()[0]
        if wire.tls:
            chain, key = (tmp_path / "chain", tmp_path / "key")
            for file, text in zip((chain, key), certificate(), strict=True):
                file.write_bytes(text)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, key)
            context.set_alpn_protocols(["h2"] if wire.h2 else ["http/1.1"])
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            (serve_h2 if wire.h2 else serve_h1)(connection, status)

    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)
    thread = threading.Thread(target=serve)
    thread.start()
    with listening:
        yield listening.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def serve_h1(connection, status):
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while len(body) < size:
        body += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Backend: 7\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve_h2(connection, status):
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    state.initiate_connection()
    connection.sendall(state.data_to_send())
    size = 0
    while True:
        for event in state.receive_data(connection.recv(65536)):
            if isinstance(event, h2.events.DataReceived):
                size += len(event.data)
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                state.send_headers(1, [(":status", "200"), ("x-backend", "7"), ("x-size", str(size))])
                state.send_data(1, b"." * min(size, 10))
                state.send_headers(1, [("grpc-status", status)], end_stream=True)
                connection.sendall(state.data_to_send())
                return
        connection.sendall(state.data_to_send())


@pytest.mark.parametrize("wire", [CLEAR, TLS], ids=["clear", "tls"])
def test_one_ask_over_http1(wire, tmp_path):
    with serving(wire, tmp_path) as port:
        assert answer(port, Ask(body=300_000), wire) == Answer(200, "7", 300_000)


@pytest.mark.parametrize("wire", [H2C, H2], ids=["h2c", "h2"])
def test_one_ask_over_http2(wire, tmp_path):
    with serving(wire, tmp_path) as port:  # more than all windows hold
        assert answer(port, Ask(body=300_000), wire) == Answer(200, "7", 10)


@pytest.mark.parametrize("status, found", [("0", 200), ("14", 0)])
def test_a_call_is_right_where_its_trailer_says_so(status, found, tmp_path):
    with serving(GRPC, tmp_path, status) as port:
        assert answer(port, unary(64).asks[""], GRPC) == Answer(found, "7", 10)


@pytest.mark.parametrize("wire", [CLEAR, H2C], ids=["http1", "http2"])
def test_no_answer_is_an_error_of_the_system(wire):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: listening.accept()[0].close())
        thread.start()
        with pytest.raises(OSError):
            answer(listening.getsockname()[1], Ask(), wire)
        thread.join()


def test_a_load_without_times():
    assert msgspec.to_builtins(h2load.parsed(SAID, -1))["p99"] == 0.0
