"""nginx: a `server` for each host, a `location` or two for each path, a `map` where headers decide.

A location is found in a tree of prefixes, a host and a value of a map in a hash. Keep-alive to backends is on (256 a
worker); X-Request-Id and the X-Forwarded fields are added as gwfast adds them. Bodies are passed on as they come, never
by way of a disk, in larger pieces than by default. Who refuses a connection is left alone for a second; the request goes
to another one. HTTP/2 in clear has a listener of its own kind (nginx 1.22 speaks one or the other there); calls go by grpc_pass.
"""
from pathlib import Path

from bench.contenders.base import Contender, find
from bench.contenders.rows import Row, Unsupported, by_host, certificates, rows, services, speak_h2c
from bench.wire import CLEAR, Wire
from gwfast.plan.ir import Plan

FRAME = """\
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
events {{ worker_connections 32768; }}
http {{
    {log}
    client_max_body_size 0;
    client_body_buffer_size 64k;
    proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
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
    grpc_set_header X-Forwarded-For $remote_addr;
    grpc_set_header X-Forwarded-Proto $scheme;
    grpc_set_header X-Forwarded-Host $http_host;
    grpc_set_header X-Request-Id $request_id;
{tls}{upstreams}{maps}{servers}}}
"""


LOG = """\
log_format json escape=json '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$http_host",'
        '"target":"$request_uri","protocol":"$server_protocol","status":$status,"duration_s":$request_time,'
        '"upstream_s":"$upstream_response_time","bytes_in":$request_length,"bytes_out":$body_bytes_sent,'
        '"backend":"$proxy_host","endpoint":"$upstream_addr","request_id":"$request_id","referer":"$http_referer",'
        '"user_agent":"$http_user_agent"}}';
    access_log {directory}/access.log json buffer=32k flush=1s;"""
TLS = """\
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {directory}/chain.pem; ssl_certificate_key {directory}/key.pem;
"""


def config(plan: Plan, directory: Path, port: int, workers: int, wire: Wire = CLEAR, log: bool = False) -> str:
    """Return nginx.conf."""
    maps: list[str] = []
    hosts = by_host(rows(plan))
    listen = f"listen 127.0.0.1:{port}{' ssl http2' if wire.tls else ' http2' if wire.h2 else ''}"
    h2c = speak_h2c(plan)
    default = f"{listen} default_server{' reuseport' if workers > 1 else ''}"
    servers = "".join(_server(hostname, found, listen if hostname else default, maps, h2c) for hostname, found in hosts.items())
    if "" not in hosts:
        servers += f"    server {{ {default}; return 404; }}\n"
    return FRAME.format(workers=workers, directory=directory, servers=servers, maps="".join(maps),
                        tls=TLS.format(directory=directory) if wire.tls else "",
                        log=LOG.format(directory=directory) if log else "access_log off;",
                        upstreams="".join(map(_upstream, services(plan).items())))


def _upstream(service) -> str:
    name, addresses = service
    servers = "".join(f" server {ip}:{port} max_fails=1 fail_timeout=1s;" for ip, port in addresses)
    servers = servers or " server 127.0.0.1:1 down;"
    return f"    upstream {name} {{{servers} keepalive 256; keepalive_requests 10000000; }}\n"


def _server(hostname: str, found: list[Row], listen: str, maps: list[str], h2c: set[str]) -> str:
    named = f"server_name {hostname};" if hostname else ""
    paths: dict[tuple[str, bool], list[Row]] = {}  # sorted below: nginx 1.22 sorts locations by insertion
    for row in found:
        paths.setdefault((row.path, row.exact), []).append(row)
    locations = "".join(_location(path, exact, some, maps, h2c) for (path, exact), some in sorted(paths.items()))
    if ("/", False) not in paths:
        locations += "        location / { return 404; }\n"
    return f"    server {{ {listen}; {named}\n{locations}    }}\n"


def _location(path: str, exact: bool, found: list[Row], maps: list[str], h2c: set[str]) -> str:
    to = f"{'grpc_pass grpc' if found[0].service in h2c else 'proxy_pass http'}://{found[0].service};"
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
    released = {"1.22.1": "2022-10-19", "1.31.4": "2026-08-19"}

    def files(self, plan: Plan) -> dict[str, bytes]:
        self.directory.chmod(0o755)  # its workers have another user
        text = config(plan, self.directory, self.port, self.workers, self.wire, self.log)
        return {**certificates(plan), "nginx.conf": text.encode()}

    def command(self) -> list[str]:
        return [find(self.program), "-p", str(self.directory), "-e", str(self.directory / "nginx.err"),
                "-c", str(self.directory / "nginx.conf")]
