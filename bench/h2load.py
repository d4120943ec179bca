"""Load by h2load (nghttp2) for everything but HTTP/1.1 in clear: a closed loop on connections of so many streams each.

TLS 1.3 with one cipher for all, so that nobody is faster for having chosen another.
"""
import re
import shutil
import subprocess
import tempfile

from bench.load import Load
from bench.machine import cpus, pinned
from bench.scenes import Ask
from bench.wire import Wire

PACKAGE = "apt-get install nghttp2-client"
PATIENCE = 60  # seconds
CIPHER = "TLS_AES_128_GCM_SHA256"


def command(port: int, ask: Ask, wire: Wire, *, connections: int, streams: int, seconds: float, requests: int,
            body: str) -> list[str]:
    """Return h2load's command line: for so many seconds, or so many requests where that is not 0."""
    said = ["h2load", f"--connect-to=127.0.0.1:{port}", f"--clients={connections}", f"--max-concurrent-streams={streams}"]
    said += [f"--requests={requests}"] if requests else [f"--duration={round(seconds * 1000)}ms"]
    said += [f"--header={name}: {value}" for name, value in ask.headers]
    if body:
        said.append(f"--data={body}")
    if not wire.h2:
        said.append("--h1")
    if wire.tls:
        said.append(f"--tls13-ciphers={CIPHER}")
    return [*said, f"{'https' if wire.tls else 'http'}://{ask.host}{ask.path}"]


def parsed(said: str, size: int) -> Load:
    """What h2load says, as a Load without times. `size`: of every right answer's body, -1: any. ValueError for other text."""
    counts = re.search(r"^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, "
                       r"(\d+) timeout", said, re.M)
    statuses = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said, re.M)
    data = re.search(r"\((\d+)\) data$", said, re.M)
    seconds = re.search(r"^finished in ([\d.]+)(us|ms|s|m)", said, re.M)
    if not (counts and statuses and data and seconds):
        raise ValueError(f"h2load said: {said[-500:]}")
    _, asked, done, right, failed, errored, timeout = map(int, counts.groups())
    short = size >= 0 and int(data[1]) < right * size
    return Load(asked=asked, answered=done - errored - timeout, wrong=failed - errored - timeout + short, broken=errored,
                lost=timeout, seconds=float(seconds[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[seconds[2]],
                statuses=[0, 0, *map(int, statuses.groups())])


def h2load(port: int, ask: Ask, wire: Wire, *, connections: int, streams: int = 1, seconds: float = 0.0, requests: int = 0,
           size: int = -1) -> Load:
    """Load until its end; who leaves h2load waiting for a minute has answered nothing. FileNotFoundError where h2load is not
    installed."""
    if not shutil.which("h2load"):
        raise FileNotFoundError(f"h2load is not installed ({PACKAGE})")
    with tempfile.NamedTemporaryFile() as body:
        body.write(wire.body(ask.body) if ask.body else b"")
        body.flush()
        words = command(port, ask, wire, connections=connections, streams=streams, seconds=seconds, requests=requests,
                        body=body.name if ask.body else "")
        try:
            ran = subprocess.run(pinned(cpus("load"), words), capture_output=True, text=True, timeout=seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            return Load(asked=0, answered=0, wrong=0, broken=0, lost=connections * streams, seconds=seconds, statuses=[0] * 6)
    return parsed(ran.stdout, size)
