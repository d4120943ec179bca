"""What parsing a head costs: instructions, counted by callgrind (the same on every run), and nanoseconds beside them.

Run as a script, this module is what callgrind watches: only what runs inside the parser is counted.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from gwfast._http1 import spin

TIMES = 200
SPINS = 100_000

MESSAGES = {
    "wrk": b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
    "curl": b"GET /api/v1/items/42?x=1 HTTP/1.1\r\nHost: www.example.com:8080\r\nUser-Agent: curl/8.5.0\r\n"
            b"Accept: */*\r\n\r\n",
    "browser": b"GET /search/results/page?q=gateway+api&lang=en HTTP/1.1\r\nHost: www.example.com\r\n"
               b"Connection: keep-alive\r\nCache-Control: max-age=0\r\n"
               b"sec-ch-ua: \"Chromium\";v=\"128\", \"Not;A=Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n"
               b"Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
               b"(KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,"
               b"application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: none\r\n"
               b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"
               b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n",
    "odd path": b"GET /a/./b//c/%7Euser/../%2e%2e/caf%c3%a9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "response": b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 02:00:00 GMT\r\n"
                b"Content-Type: text/plain\r\nContent-Length: 35\r\nConnection: keep-alive\r\n\r\n",
}


class Count(msgspec.Struct, frozen=True):
    """Of one message: its bytes, and what parsing it once costs."""

    message: str
    size: int
    instructions: float
    nanoseconds: float


def run() -> list[Count]:
    return [Count(name, len(data), counted(name), timed(data)) for name, data in MESSAGES.items()]


def is_response(data: bytes) -> bool:
    return data.startswith(b"HTTP/")


def timed(data: bytes) -> float:
    """Nanoseconds of one head: the best of five rounds."""
    return min(spin(data, is_response(data), SPINS)[1] for _ in range(5)) / SPINS


def counted(name: str) -> float:
    """Instructions of one head."""
    with tempfile.NamedTemporaryFile() as profile:
        subprocess.run(
            ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*_http1_parse_re*",
             f"--callgrind-out-file={profile.name}", sys.executable, "-m", __name__, name],
            check=True, capture_output=True)
        lines = Path(profile.name).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("totals:")) / TIMES


def table(found: list[Count]) -> str:
    lines = [f"{'head':10}{'bytes':>7}{'instructions':>14}{'ns':>7}"]
    lines += [f"{each.message:10}{each.size:7}{each.instructions:14.0f}{each.nanoseconds:7.0f}" for each in found]
    return "\n".join(lines)


if __name__ == "__main__":
    message = MESSAGES[sys.argv[1]]
    assert spin(message, is_response(message), TIMES)[0] == len(message)
