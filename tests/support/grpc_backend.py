"""A backend of gRPC."""
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from support.gateway import resource

Code = grpc.StatusCode
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Backend(grpc.GenericRpcHandler):
    """A grpcio server whose methods have any service's name; messages are bytes. `name` comes back as metadata."""

    def __init__(self, name: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self.name = name
        self.begun: list[str] = []  # methods that wait for their caller to go
        self.ended: list[str] = []  # and those whose caller has gone
        self.seen: list[dict] = []
        self.server = grpc.server(ThreadPoolExecutor(16), handlers=[self], options=OPTIONS)
        if credentials:
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def close(self) -> None:
        self.server.stop(0).wait(10)

    def service(self, details):
        self.seen.append({"method": details.method, **dict(details.invocation_metadata)})
        method = getattr(self, details.method.rpartition("/")[2], None)
        kinds = {"Many": grpc.unary_stream_rpc_method_handler, "Half": grpc.unary_stream_rpc_method_handler,
                 "Sum": grpc.stream_unary_rpc_method_handler, "Chat": grpc.stream_stream_rpc_method_handler}
        return method and kinds.get(method.__name__, grpc.unary_unary_rpc_method_handler)(method)

    def Say(self, message: bytes, context) -> bytes:
        sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        context.send_initial_metadata([("backend", self.name), *sent])
        context.set_trailing_metadata([("last-words", "bye"), ("some-bin", bytes(range(256)))])
        return message

    def Many(self, message: bytes, context) -> Iterator[bytes]:
        for n in range(int(message)):
            yield b"%d" % n

    def Sum(self, messages: Iterator[bytes], context) -> bytes:
        return b"%d" % sum(map(len, messages))

    def Chat(self, messages: Iterator[bytes], context) -> Iterator[bytes]:
        for message in messages:
            yield message.upper()

    def Fail(self, message: bytes, context) -> bytes:
        context.set_trailing_metadata([("why", "rules")])
        context.abort(Code.PERMISSION_DENIED, "not tödäy: 100 %\n")

    def Half(self, message: bytes, context) -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        context.abort(Code.DATA_LOSS, "that was it")

    def Slow(self, message: bytes, context) -> bytes:
        gone = threading.Event()
        if not context.add_callback(gone.set):
            gone.set()  # already
        self.begun.append("Slow")
        if gone.wait(10):
            self.ended.append("Slow")
        return message


def service(name: str, port: int, app_protocol: str = "kubernetes.io/h2c") -> list[dict]:
    return [resource("Service", name, {"ports": [{"port": 80, "appProtocol": app_protocol}]}, "v1"),
            {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
             "addressType": "IPv4", "ports": [{"port": port}], "endpoints": [{"addresses": ["127.0.0.1"]}]}]
