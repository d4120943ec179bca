"""HAProxy: maps from host, path and header to backends, each looked up in a tree, once.

A prefix is looked up with a '/' behind it, so that it ends where an element of the path ends. Reload is by the master.
A request whose endpoint fails goes to another one at the first retry (`redispatch 1`), not at the last. Connections to
backends are kept even where clients hold most of the files (tune.pool-*-fd-ratio; by default above a quarter they are not).
"""
import signal
from pathlib import Path

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, Unsupported, certificates, rows, services, speak_h2c
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan

FRAME = """\
global
    nbthread {workers}
    stats socket {directory}/stats mode 600 level admin expose-fd listeners
    hard-stop-after 30s
    tune.pool-low-fd-ratio 80
    tune.pool-high-fd-ratio 90
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
    retries 2
    retry-on conn-failure empty-response
    option redispatch 1
    option forwardfor
frontend web
    bind 127.0.0.1:{port}{how}
{log}    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Request-Id %[uuid()]
{use}{backends}{nowhere}"""
LOG = """\
    log stdout format raw local0
    http-request capture req.hdr(host) len 128
    http-request capture req.hdr(user-agent) len 256
    log-format '{"time":"%[date,utime(%FT%TZ)]","client":"%ci","method":"%HM","host":"%[capture.req.hdr(0),json(utf8s)]",\
"target":"%[capture.req.uri,json(utf8s)]","protocol":"%HV","status":%ST,"flags":"%ts","duration_ms":%Ta,"upstream_ms":%Tr,\
"bytes_in":%U,"bytes_out":%B,"backend":"%b","endpoint":"%s","user_agent":"%[capture.req.hdr(1),json(utf8s)]"}'
"""
NOWHERE = """\
backend nowhere
    http-request return status 404
"""


def config(plan: Plan, directory: Path, port: int, workers: int,
           wire: Wire = CLEAR, log: bool = False) -> tuple[str, dict[str, str]]:
    """Return haproxy.cfg and the maps that it names, by file name."""
    maps: dict[str, list[str]] = {}
    found = list(rows(plan))
    anything = found[0].service if len(found) == 1 and _is_for_all(found[0]) else ""
    for row in [] if anything else found:
        kind, key = _key(row)
        maps.setdefault(kind, []).append(f"{key} {row.service}\n")
    use = "".join(_use(kind, directory) for kind in sorted(maps, key=_order))
    use += f"    default_backend {anything or 'nowhere'}\n"
    how = f" ssl crt {directory}/web.pem alpn h2,http/1.1" if wire.tls else " proto h2" if wire.h2 else ""
    h2c = speak_h2c(plan)
    text = FRAME.format(workers=workers, directory=directory, port=port, how=how, use=use,
                        scheme="https" if wire.tls else "http", log=LOG if log else "", nowhere="" if anything else NOWHERE,
                        backends="".join(_backend(name, each, name in h2c) for name, each in services(plan).items()))
    return text, {f"{kind}.map": "".join(lines) for kind, lines in maps.items()}


def _is_for_all(row: Row) -> bool:
    return row.path == "/" and not (row.exact or row.header or row.hostname)


def _key(row: Row) -> tuple[str, str]:
    """The map that decides this row, and its key there."""
    if row.hostname.startswith("*"):
        raise Unsupported("wildcard hosts")
    if row.header:
        if row.path != "/" or row.hostname:
            raise Unsupported("headers on hosts or paths")
        return f"header-{row.header[0].lower()}", row.header[1]
    if row.exact:
        raise Unsupported("exact paths")
    path = row.path.rstrip("/") + "/"
    return ("host", row.hostname + path) if row.hostname else ("path", path)


def _found(kind: str, directory: Path) -> str:
    file = directory / f"{kind}.map"
    if kind.startswith("header-"):
        return f"req.hdr({kind.removeprefix('header-')}),map_str({file})"
    key = "base,lower" if kind == "host" else "path"
    return f"{key},concat(/),map_beg({file})"


def _order(kind: str) -> int:
    return ["host", "path"].index(kind) if kind in ("host", "path") else -1


def _use(kind: str, directory: Path) -> str:
    variable = f"txn.{kind.replace('-', '_')}"
    return (f"    http-request set-var({variable}) {_found(kind, directory)}\n"
            f"    use_backend %[var({variable})] if {{ var({variable}) -m found }}\n")


def _backend(name: str, addresses, h2c: bool) -> str:
    how = "pool-max-conn 256" + " proto h2" * h2c
    servers = "".join(f"    server {name}-{n} {ip}:{port} {how}\n" for n, (ip, port) in enumerate(addresses))
    return f"backend {name}\n{servers}"


class HAProxy(Contender):
    name, program, package, version_option = "haproxy", "haproxy", "apt-get install haproxy", "-v"
    reload_signal = signal.SIGUSR2
    log_name = "output"
    settles = 0.1  # a signal that comes while the master starts anew is lost

    def files(self, plan: Plan) -> dict[str, bytes]:
        text, maps = config(plan, self.directory, self.port, self.workers, self.wire, self.log)
        return certificates(plan) | {name: lines.encode() for name, lines in [*maps.items(), ("haproxy.cfg", text)]}

    def command(self) -> list[str]:
        return [find(self.program), "-W", "-f", str(self.directory / "haproxy.cfg")]
