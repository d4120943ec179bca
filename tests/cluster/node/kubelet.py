"""What the API server asks a kubelet for: the logs of a container (`kubectl logs`, with --follow, --previous, --since, --tail)."""
import re
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from node.container import Container
from node.network import NODE_IP

if TYPE_CHECKING:
    from node.__main__ import Node

PORT = 10250

Line = tuple[float, bytes]


def since(query: dict[str, str]) -> float:
    if "sinceTime" in query:
        return datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")).timestamp()
    return time.time() - float(query["sinceSeconds"]) if "sinceSeconds" in query else 0.0


def selected(lines: list[Line], query: dict[str, str]) -> list[Line]:
    begin = since(query)
    lines = [line for line in lines if line[0] >= begin]
    if "tailLines" in query:
        lines = lines[-int(query["tailLines"]):] if int(query["tailLines"]) else []
    return lines


def written(lines: list[Line], query: dict[str, str]) -> bytes:
    if query.get("timestamps") != "true":
        return b"".join(text for _, text in lines)
    return b"".join(datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode() + text for when, text in lines)


def pieces(container: Container, query: dict[str, str]) -> Iterator[bytes]:
    """Yield what a client asks for, piece by piece where it follows."""
    log = container.previous if query.get("previous") == "true" else container.log
    if query.get("follow") != "true":
        yield written(selected(log.lines(), query), query)
        return
    first = True
    for lines in container.follow(log):
        yield written(selected(lines, query) if first else lines, query)
        first = False


class Server(ThreadingTCPServer):
    """A kubelet's port, over TLS. (An HTTPServer would ask DNS for its own name, and nobody answers here.)"""
    daemon_threads = allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, node: "Node", folder: Path):
        self.node = node
        super().__init__((NODE_IP, PORT), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        found = re.fullmatch(r"/containerLogs/([^/]+)/([^/]+)/([^/]+)", url.path)
        container = found and self.server.node.container(*found.groups())
        if not container:
            self.send_error(404, "container not found")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in pieces(container, dict(parse_qsl(url.query))):
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
