"""nghttpx: a backend line for each row; hosts and paths only.

It insists on a backend for all other requests: one where nobody listens, so that they get 502 or 503.
"""
from pathlib import Path

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, Unsupported, certificates, rows, services, speak_h2c
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan

FRAME = """\
frontend=127.0.0.1,{port}{how}workers={workers}
errorlog-file={directory}/error.log
pid-file={directory}/pid
add-x-forwarded-for=yes
no-via=yes
backend-connections-per-host=256
{backends}"""


def config(plan: Plan, directory: Path, port: int, workers: int, wire: Wire = CLEAR) -> str:
    """Return nghttpx.conf."""
    found, h2c = services(plan), speak_h2c(plan)
    patterns = [(row.service, _pattern(row)) for row in rows(plan)]
    lines = [f"backend={ip},{port};{pattern}{';proto=h2' if service in h2c else ''}\n"
             for service, pattern in patterns for ip, port in found[service]]
    if not any(pattern == "/" for _, pattern in patterns):
        lines.append("backend=127.0.0.1,1;/\n")
    how = f"\ncertificate-file={directory}/chain.pem\nprivate-key-file={directory}/key.pem\n" if wire.tls else ";no-tls\n"
    return FRAME.format(port=port, how=how, workers=workers, directory=directory, backends="".join(lines))


def _pattern(row: Row) -> str:
    if row.header:
        raise Unsupported("headers")
    return row.hostname + (row.path if row.exact or row.path == "/" else f"{row.path}/")


class Nghttpx(Contender):
    name, program, package = "nghttpx", "nghttpx", "apt-get install nghttp2-proxy"
    nowhere = (404, 502, 503)
    released = {"1.52.0": "2023-02-13"}

    def files(self, plan: Plan) -> dict[str, bytes]:
        if self.log:
            raise Unsupported("a log in JSON")
        text = config(plan, self.directory, self.port, self.workers, self.wire)
        return {**certificates(plan), "nghttpx.conf": text.encode()}

    def command(self) -> list[str]:
        return [find(self.program), f"--conf={self.directory / 'nghttpx.conf'}"]
