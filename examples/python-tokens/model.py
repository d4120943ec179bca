"""Stands for a language model: sends 20 tokens as server-sent events, one after the other."""
import http.server
import signal
import sys
import time


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in (*(f"token {n}" for n in range(20)), "[DONE]"):
            line = f"data: {event}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(0.005)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True   # who still listens does not keep the port


def end(*_) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with Server(("127.0.0.1", int(sys.argv[1])), Model) as server:
        print("model listens on 127.0.0.1:%d" % server.server_port, flush=True)
        server.serve_forever()
