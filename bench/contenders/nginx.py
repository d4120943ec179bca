"""nginx: a `server` for each host, a `location` or two for each path, a `map` where headers decide.

A location is found in a tree of prefixes, a host and a value of a map in a hash. Keep-alive to backends is on (256 a
worker); X-Request-Id and the X-Forwarded fields are added as gwfast adds them. Bodies are passed on as
they come, never by way of a disk.
"""
from pathlib import Path

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, Unsupported, by_host, rows, services
from gwfast.plan.ir import Plan

FRAME = """\
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    keepalive_requests 10000000;
    server_names_hash_max_size 1048576; server_names_hash_bucket_size 128;
    map_hash_max_size 1048576; map_hash_bucket_size 128;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
{upstreams}{maps}{servers}    server {{ listen 127.0.0.1:{port} default_server; return 404; }}
}}
"""


def config(plan: Plan, directory: Path, port: int, workers: int) -> str:
    """Return nginx.conf."""
    maps: list[str] = []
    hosts = by_host(rows(plan))
    servers = "".join(_server(hostname, found, port, maps) for hostname, found in hosts.items())
    text = FRAME.format(workers=workers, directory=directory, port=port, servers=servers, maps="".join(maps),
                        upstreams="".join(map(_upstream, services(plan).items())))
    if "" in hosts:  # the host of any name is the default itself
        text = text.replace(f"    server {{ listen 127.0.0.1:{port} default_server; return 404; }}\n", "")
    return text


def _upstream(service) -> str:
    name, addresses = service
    servers = "".join(f" server {ip}:{port};" for ip, port in addresses) or " server 127.0.0.1:1 down;"
    return f"    upstream {name} {{{servers} keepalive 256; keepalive_requests 10000000; }}\n"


def _server(hostname: str, found: list[Row], port: int, maps: list[str]) -> str:
    named = f"server_name {hostname};" if hostname else ""
    paths: dict[tuple[str, bool], list[Row]] = {}  # sorted below: nginx 1.22 sorts locations by insertion
    for row in found:
        paths.setdefault((row.path, row.exact), []).append(row)
    locations = "".join(_location(path, exact, some, maps) for (path, exact), some in sorted(paths.items()))
    if ("/", False) not in paths:
        locations += "        location / { return 404; }\n"
    default = "" if hostname else " default_server"
    return f"    server {{ listen 127.0.0.1:{port}{default}; {named}\n{locations}    }}\n"


def _location(path: str, exact: bool, found: list[Row], maps: list[str]) -> str:
    to = f"proxy_pass http://{found[0].service};"
    if found[0].header:
        variable = f"$to{len(maps)}"
        maps.append(_map(variable, found))
        to = f'if ({variable} = "") {{ return 404; }} proxy_pass http://{variable};'
    if exact or path == "/":
        return f"        location {'= ' if exact else ''}{path} {{ {to} }}\n"
    return f"        location = {path} {{ {to} }}\n        location {path}/ {{ {to} }}\n"


def _map(variable: str, found: list[Row]) -> str:
    names = {row.header[0] if row.header else None for row in found} - {None}
    if len(names) != 1:
        raise Unsupported("different headers on one path")
    lines = "".join(f'        "{row.header[1]}" {row.service};\n' for row in found if row.header)
    lines += "".join(f"        default {row.service};\n" for row in found if not row.header)
    header = names.pop().lower().replace("-", "_")
    return f"    map $http_{header} {variable} {{\n{lines}    }}\n"


class Nginx(Contender):
    name, program, package, version_option = "nginx", "nginx", "apt-get install nginx-light", "-v"

    def write_plan(self, plan: Plan) -> None:
        self.directory.chmod(0o755)
        (self.directory / "nginx.conf").write_text(config(plan, self.directory, self.port, self.workers))

    def command(self) -> list[str]:
        return [find("nginx"), "-p", str(self.directory), "-e", str(self.directory / "nginx.err"),
                "-c", str(self.directory / "nginx.conf")]
