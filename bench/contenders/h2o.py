"""H2O: hosts and their paths, one address a backend; it does not change while it runs (start_server is no part of it)."""
import getpass
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, Unsupported, by_host, certificates, rows, services, speak_h2c
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan


def config(plan: Plan, directory: Path, port: int, workers: int, wire: Wire = CLEAR) -> dict[str, Any]:
    """Return h2o.conf: JSON, which is YAML. The first host is asked for names that no other has."""
    found = services(plan)
    if speak_h2c(plan):
        raise Unsupported("backends that speak HTTP/2")
    ssl = {"ssl": {"certificate-file": str(directory / "chain.pem"), "key-file": str(directory / "key.pem")}} if wire.tls else {}
    hosts = {hostname: {"paths": {row.path: _proxy(row, found) for row in some}}
             for hostname, some in by_host(rows(plan)).items()}
    anyone = hosts.pop("", {"paths": {"/nobody": {"file.dir": str(directory)}}})
    return {"user": getpass.getuser(), "num-threads": workers, "listen": {"host": "127.0.0.1", "port": port, **ssl},
            "max-connections": 30000, "error-log": str(directory / "error.log"), "pid-file": str(directory / "pid"),
            "proxy.preserve-host": "ON", "proxy.timeout.keepalive": 60000,
            "hosts": {"any.invalid": anyone, **hosts}}


def _proxy(row: Row, found: dict) -> dict[str, Any]:
    if row.header or row.exact:
        raise Unsupported("headers or exact paths")
    if len(found[row.service]) != 1:
        raise Unsupported("several endpoints")
    (ip, port), = found[row.service]
    return {"proxy.reverse.url": f"http://{ip}:{port}{row.path}"}


class H2o(Contender):
    name, program, package = "h2o", "h2o", "apt-get install h2o"
    changes = False
    released = {"2.2.5": "2018-06-01"}

    def files(self, plan: Plan) -> dict[str, bytes]:
        if self.log:
            raise Unsupported("a log in JSON")
        told = config(plan, self.directory, self.port, self.workers, self.wire)
        return {**certificates(plan), "h2o.conf": msgspec.json.encode(told)}

    def command(self) -> list[str]:
        return [find(self.program), "-c", str(self.directory / "h2o.conf")]
