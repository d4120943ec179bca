"""Five sets of Ingresses as charts have them: converted, checked, served, and the same requests asked of nginx and of gwfast.

`requests.txt` has the requests; what is below a line `# differs: why` gets another answer, and the report has to say of something
that it is lost or reduced.
"""
import http.client
import json
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from nginx_oracle import NGINX, PATIENCE, Answer, Nginx
from support import pki
from support.backend import Backend
from support.gateway import Gateway, free_port

from gwfast.ingress.locations import normal

SITES = sorted(folder for folder in (Path(__file__).parent / "sites").iterdir() if folder.is_dir())
by_name = pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)


def documents(site: Path) -> list[dict]:
    return [each for each in yaml.safe_load_all((site / "ingresses.yaml").read_text()) if each]


def certificates(site: Path) -> list[dict]:
    """A Secret for each that an Ingress names."""
    found = {}
    for one in documents(site):
        for tls in one["spec"].get("tls", ()) if one["kind"] == "Ingress" else ():
            certificate, key = pki.pair(*tls["hosts"])
            found[one["metadata"]["namespace"], tls["secretName"]] = {
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": tls["secretName"], "namespace": one["metadata"]["namespace"]},
                "stringData": {"tls.crt": certificate.decode(), "tls.key": key.decode()}}
    return list(found.values())


def requests(site: Path) -> tuple[list[str], list[str]]:
    """Requests that get the same, and those that do not."""
    same, _, others = (site / "requests.txt").read_text().partition("# differs:")
    return same.splitlines(), others.splitlines()[1:]


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "gwfast", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def converted(site: Path, tmp_path: Path) -> Path:
    """A folder with what was made, and what was there before: Services and Secrets."""
    (tmp_path / "secrets.yaml").write_text(yaml.safe_dump_all(certificates(site)))
    done = run("convert", site, tmp_path / "secrets.yaml", "--output", tmp_path / "made", "--report", "json")
    assert done.stderr == "", done.stderr
    (tmp_path / "report.json").write_text(done.stdout)
    rest = [one for one in documents(site) if one["kind"] == "Service"] + certificates(site)
    (tmp_path / "made" / "zz-kept.yaml").write_text(yaml.safe_dump_all(rest))
    return tmp_path


@by_name
def test_no_difference_but_those_that_are_told(site, converted):
    same, others = requests(site)
    for lines, status in ((same, 0), (others, 1)):
        (converted / "requests").write_text("\n".join(lines))
        for paths in ((), (converted / "made",)):
            done = run("compare", *paths, "--ingress", site, "--requests", converted / "requests", "-o", "json")
            told = json.loads(done.stdout)
            assert done.returncode == (status if lines else 0), done.stdout
            assert told["different"] == (len(lines) if status else 0) and told["asked"] == len(lines)
    report = json.loads((converted / "report.json").read_text())
    assert not others or report["status"] > 0


@by_name
def test_what_comes_out_is_fine_for_check(site, converted):
    done = run("check", converted / "made")
    assert done.returncode == 0, done.stdout
    warnings = [line for line in done.stdout.splitlines() if ": warning: " in line]
    assert all(line.endswith("answers 500 (NoBackends)") for line in warnings), done.stdout  # of paths that are closed
    assert bool(warnings) is (site.name == "signin")


class Served:
    """gwfast with a backend for each Service."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.backends: dict[str, Backend] = {}
        slices = []
        for one in documents(site):
            if one["kind"] == "Service":
                namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
                backend = self.backends[f"{namespace}-{name}"] = Backend(f"{namespace}/{name}")
                slices.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": {
                    "name": f"{name}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
                    "ports": [{"port": backend.port, **({"name": port["name"]} if "name" in port else {})} for port in one["spec"]["ports"]],
                    "endpoints": [{"addresses": ["127.0.0.1"]}]})
        (folder / "made" / "zz-slices.yaml").write_text(yaml.safe_dump_all(slices))
        self.ports = {"http": free_port(), "https": free_port()}
        self.gateway = Gateway(folder / "made", "--bind", "127.0.0.1", "--port-map",
                               f"80:{self.ports['http']},443:{self.ports['https']},2222:{free_port()}")

    def ask(self, scheme: str, host: str, target: str, headers) -> Answer:
        connected = socket.create_connection(("127.0.0.1", self.ports[scheme]), PATIENCE)
        if scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connected = context.wrap_socket(connected, server_hostname=host)
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = connected
        try:
            connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
            for name, value in (("Host", host), *headers):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        if location := response.headers.get("Location"):
            return Answer(response.status, location)
        if response.status != 200:
            return Answer(response.status)
        told = json.loads(body)
        return Answer(200, "", told["backend"], told["target"].partition("?")[0])

    def stop(self) -> None:
        self.gateway.stop()
        for backend in self.backends.values():
            backend.close()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@by_name
def test_the_same_requests_of_nginx_and_of_gwfast(site, converted):
    """No difference of bytes that a client or a backend sees, but those that are told."""
    from gwfast.ingress.compare import place, questions
    from gwfast.ingress.convert import convert
    from gwfast.ingress.annotations.table import Options
    from gwfast.ingress.read import read
    known = convert(read([str(site)]), Options()).site
    same, others = requests(site)
    served = Served(site, converted)
    try:
        ingresses = [one for one in documents(site) if one["kind"] == "Ingress"]
        with tempfile.TemporaryDirectory() as folder, Nginx(ingresses, Path(folder)) as nginx:
            for lines, wanted in ((same, True), (others, False)):
                for one in questions(lines, known):
                    scheme, _, rest = one.url.partition("://")
                    host, slash, target = rest.partition("/")
                    fields = [tuple(each.split(": ", 1)) for each in one.headers]
                    left, right = (side.ask(scheme, host, slash + target, fields) for side in (nginx, served))
                    if left.upstream:
                        upstream = known.upstreams[left.upstream]
                        left = left._replace(upstream=f"{upstream.namespace}/{upstream.service}", path=normal(left.path))
                        right = right._replace(path=normal(right.path or "/"))
                    left, right = (each._replace(location=place(each.location, each.status == 308).replace(f":{served.ports['http']}", "")) for each in (left, right))
                    assert (left == right) is wanted, f"{one.url} {one.headers}: nginx {left}, gwfast {right}"
    finally:
        served.stop()
