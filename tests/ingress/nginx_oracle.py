"""A real nginx, configured from Ingresses as ingress-nginx's template does it, with an echo behind it that says who was asked for what.

Rule: nothing of gwfast is in here. What is written is what controller.go, location.go and nginx.tmpl of ingress-nginx 1.15 write, as
far as plain nginx has it: Lua's redirect to https is an `if`, its balancer a `map`. There are sockets in a folder and no ports, so that
nobody else can have them; which scheme a client used is said by a field, X-Test-Scheme.
"""
import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PREFIX = "nginx.ingress.kubernetes.io/"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PATIENCE = 30.0  # seconds


class Duplicate(Exception):
    """nginx would refuse the configuration: two locations have one name."""


class Answer(NamedTuple):
    """What a client sees: the status; where it is sent; the upstream and the path that it was asked for."""

    status: int
    location: str = ""
    upstream: str = ""
    path: str = ""


def get(ingress: dict, name: str, default: str = "") -> str:
    return ingress["metadata"].get("annotations", {}).get(PREFIX + name, default)


def true(ingress: dict, name: str, default: str = "false") -> bool:
    return get(ingress, name, default) == "true"


def upstream_of(ingress: dict, backend: dict) -> str:
    port = backend["service"]["port"]
    return f"{ingress['metadata']['namespace']}-{backend['service']['name']}-{port.get('number') or port['name']}"


def oldest_first(ingresses: Iterable[dict]) -> list[dict]:
    """By creationTimestamp; of one time the last name first."""
    by_name = sorted(ingresses, key=lambda one: f"{one['metadata']['namespace']}/{one['metadata']['name']}", reverse=True)
    return sorted(by_name, key=lambda one: one["metadata"].get("creationTimestamp", ""))


def servers_of(ingresses: list[dict]) -> dict[str, dict]:
    """Host -> {locations, tls, aliases}; a location is {path, type, ingress, upstream, default}."""
    root = {"path": "/", "type": "Prefix", "ingress": None, "upstream": "", "default": True}
    servers = {"_": {"locations": [root], "tls": False, "aliases": []}}
    primary = [one for one in ingresses if not true(one, "canary")]
    for ingress in primary:
        default = ingress["spec"].get("defaultBackend")
        upstream = upstream_of(ingress, default) if default else ""
        rules = ingress["spec"].get("rules", [])
        if default and not rules and root["ingress"] is None:
            root.update(upstream=upstream, ingress={"metadata": {"annotations": {}}}, default=False)
        for rule in rules:
            host = rule.get("host") or "_"
            servers.setdefault(host, {"tls": False, "aliases": [], "locations": [
                {"path": "/", "type": "Prefix", "ingress": ingress, "upstream": upstream, "default": True}]})
    for ingress in primary:
        for rule in ingress["spec"].get("rules", []):
            server = servers[rule.get("host") or "_"]
            server["tls"] = server["tls"] or bool(ingress["spec"].get("tls"))
            server["aliases"] = server["aliases"] or [one for one in get(ingress, "server-alias").split(",") if one]
    _add_paths(servers, ingresses)
    return servers


def _add_paths(servers: dict[str, dict], ingresses: list[dict]) -> None:
    only_canary = {}
    for ingress in ingresses:
        for rule in ingress["spec"].get("rules", []):
            for path in rule["http"]["paths"]:
                only_canary.setdefault(upstream_of(ingress, path["backend"]), true(ingress, "canary"))
    for ingress in ingresses:
        for rule in ingress["spec"].get("rules", []):
            locations = servers.get(rule.get("host") or "_", servers["_"])["locations"]
            for path in rule["http"]["paths"]:
                upstream = upstream_of(ingress, path["backend"])
                if only_canary[upstream]:
                    continue
                same = [one for one in locations if one["path"] == path["path"]]
                first = same[0] if same and same[0]["type"] == path["pathType"] else None
                if first is None:
                    locations.append({"path": path["path"], "type": path["pathType"], "ingress": ingress, "upstream": upstream,
                                      "default": False})
                elif first["default"]:
                    first.update(upstream=upstream, ingress=ingress, default=False)


def rewrites(location: dict) -> bool:
    target = get(location["ingress"], "rewrite-target") if location["ingress"] else ""
    return bool(target) and target != location["path"]


def quirky(location: dict) -> bool:
    return rewrites(location) or bool(location["ingress"]) and true(location["ingress"], "use-regex")


def ordered(locations: list[dict]) -> list[dict]:
    """The longest first, of one length the last in the alphabet; Prefix paths are two."""
    by_text = sorted(locations, key=lambda one: one["path"], reverse=True)
    by_length = sorted(by_text, key=lambda one: len(one["path"]), reverse=True)
    exact = {one["path"] for one in locations if one["type"] == "Exact"}
    split = []
    for one in by_length:
        if one["path"] == "/" or one["type"] != "Prefix" or quirky(one):
            split.append(one)
            continue
        split.append(one | {"path": one["path"].rstrip("/") + "/"})
        if one["path"] not in exact:
            split.append(one | {"type": "Exact"})
    return split


class Config:
    """nginx.conf for Ingresses."""

    def __init__(self, ingresses: list[dict], folder: Path) -> None:
        self.folder = folder
        ordered_ones = oldest_first(ingresses)
        self.servers = servers_of(ordered_ones)
        self.maps: list[str] = []
        self.chosen: dict[str, str] = {}
        for ingress in ordered_ones:
            if true(ingress, "canary"):
                self._canary(ingress)

    def _canary(self, ingress: dict) -> None:
        """A canary is beside the upstream of the location that it shares."""
        for rule in ingress["spec"].get("rules", []):
            for path in rule["http"]["paths"]:
                for one in self.servers.get(rule.get("host") or "_", {"locations": []})["locations"]:
                    if one["upstream"] and (one["path"], one["type"]) == (path["path"], path["pathType"]) and one["upstream"] not in self.chosen:
                        self._shape(ingress, one["upstream"], upstream_of(ingress, path["backend"]))

    def _shape(self, ingress: dict, primary: str, canary: str) -> None:
        number = len(self.chosen)
        weight = int(get(ingress, "canary-weight", "0"))
        assert weight in (0, 100), "chance is not asked here"
        last = f'"{canary if weight else primary}"'
        header, cookie = get(ingress, "canary-by-header").lower().replace("-", "_"), get(ingress, "canary-by-cookie")
        value, pattern = get(ingress, "canary-by-header-value"), get(ingress, "canary-by-header-pattern")
        if cookie:
            self.maps.append(f'map $cookie_{cookie} $by_cookie_{number} {{ default {last}; "always" "{canary}"; "never" "{primary}"; }}')
            last = f"$by_cookie_{number}"
        if header:
            cases = f'"{value}" "{canary}";' if value else f'"~{pattern}" "{canary}";' if pattern else (
                f'"always" "{canary}"; "never" "{primary}";')
            self.maps.append(f"map $http_{header} $by_header_{number} {{ default {last}; {cases} }}")
            last = f"$by_header_{number}"
        self.chosen[primary] = last

    def text(self) -> str:
        servers = "\n".join(self._server(host, server) for host, server in sorted(self.servers.items()))
        return f"""daemon off; master_process off; worker_processes 1; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; server_tokens off; merge_slashes on; port_in_redirect off; absolute_redirect off; proxy_http_version 1.1;
  client_body_temp_path {self.folder}/a; proxy_temp_path {self.folder}/b; fastcgi_temp_path {self.folder}/c;
  uwsgi_temp_path {self.folder}/d; scgi_temp_path {self.folder}/e; variables_hash_max_size 2048; server_names_hash_bucket_size 128;
  map $http_x_test_scheme $pass_scheme {{ default http; https https; }}
  map "$pass_scheme $request_uri" $without_slash {{ default $request_uri; "~^\\S+ (?<start>.*)/$" $start; }}
  {' '.join(self.maps)}
  server {{ listen unix:{self.folder}/echo; location / {{ return 200 "$http_x_upstream $request_uri"; }} }}
  server {{ listen unix:{self.folder}/nothing; location / {{ return 404; }} }}
{servers}
}}
"""

    def _server(self, host: str, server: dict) -> str:
        name = r"~^(?<subdomain>[\w-]+)" + re.escape(host[1:]) + "$" if host.startswith("*.") else host
        listen = f"listen unix:{self.folder}/http{' default_server' if host == '_' else ''};"
        locations = ordered(server["locations"])
        regex = any(map(quirky, locations))
        names = [self._name(one, regex) for one in locations]
        if not regex and len(set(names)) < len(names):
            raise Duplicate(host)
        roots = [get(one["ingress"], "app-root") for one in locations if one["ingress"]]
        root = "".join(f"if ($uri = /) {{ return 302 $pass_scheme://$http_host{one}; }}\n" for one in roots if one)
        body = "\n".join(f"  location {name} {{\n{self._location(one, server)}\n  }}" for name, one in zip(names, locations, strict=True))
        quoted = " ".join(f'"{one}"' for one in [name, *server["aliases"]])
        return f"server {{ {listen} server_name {quoted};\n{root}{body}\n}}"

    def _name(self, location: dict, regex: bool) -> str:
        if regex:
            return f'~* "^{location["path"]}"'
        return f'{"= " if location["type"] == "Exact" else ""}"{location["path"]}"'

    def _location(self, location: dict, server: dict) -> str:
        ingress = location["ingress"] or {"metadata": {}}
        lines = []
        for name, code in (("temporal-redirect", "302"), ("permanent-redirect", "301")):
            if url := get(ingress, name):
                lines.append(f"return {get(ingress, name + '-code', code)} {url};")
                break
        exempt = location["path"].startswith("/.well-known/acme-challenge")
        if not exempt and (true(ingress, "force-ssl-redirect") or server["tls"] and true(ingress, "ssl-redirect", "true") and location["ingress"]):
            lines.append("if ($pass_scheme = http) { return 308 https://$host$without_slash; }")
        if rewrites(location):
            lines.append(f'rewrite "(?i){location["path"]}" {get(ingress, "rewrite-target")} break;')
        upstream = location["upstream"]
        chosen = self.chosen.get(upstream, f'"{upstream}"')
        lines += [f"proxy_set_header X-Upstream {chosen};",
                  f"proxy_pass http://unix:{self.folder}/{'echo' if upstream else 'nothing'}:;"]
        return "\n".join(f"    {line}" for line in lines)


class Nginx:
    """A running nginx; `ask` says what a client sees."""

    def __init__(self, ingresses: list[dict], folder: Path) -> None:
        assert NGINX
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        (folder / "nginx.conf").write_text(Config(ingresses, folder).text())
        self.process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.process.stderr.read().decode() + (self.folder / "error.log").read_text()
            try:
                for name in ("http", "echo", "nothing"):
                    self._connected(name).close()
                return
            except OSError:
                assert time.monotonic() < end, "nginx does not listen"
                time.sleep(0.01)

    def _connected(self, name: str) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(PATIENCE)
        try:
            connected.connect(str(self.folder / name))
        except OSError:
            connected.close()
            raise
        return connected

    def ask(self, scheme: str, host: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        try:
            connection.sock = self._connected("http")
            connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
            for name, value in (("Host", host), ("X-Test-Scheme", scheme), *headers):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read().decode("latin-1")
        finally:
            connection.close()
        if location := response.headers.get("Location"):
            return Answer(response.status, f"{scheme}://{host}{location}" if location.startswith("/") else location)
        upstream, _, path = body.partition(" ") if response.status == 200 else ("", "", "")
        return Answer(response.status, "", upstream, path.partition("?")[0])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.process.stderr.close()

    def __enter__(self) -> "Nginx":
        return self

    def __exit__(self, *why: object) -> None:
        self.stop()
