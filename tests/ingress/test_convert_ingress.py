"""`gwfast convert`: what comes out is valid and served, everything that was read is in the report, exit statuses."""
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from ingress_cases import PREFIX, asked, converted, differing, ingress, kinds, outcome, words

from gwfast.cli import main
from gwfast.config.read import read as read_document
from gwfast.ingress import annotations, options
from gwfast.ingress.annotations.table import Outcome
from gwfast.ingress.report import FORMATS, render

HOST = "http://shop.example"
SAMPLES = {  # of kinds that do not read any text
    "boolean": "true", "number": "3", "networks": "10.0.0.0/8", "numbers": "404,503", "seconds": "60", "size": "8m", "path": "/a",
    "url": "http://auth.shop.svc/check"}


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "gwfast", *arguments], input=text, capture_output=True, text=True)


def sample(name: str) -> str:
    """A value that the annotation's kind reads."""
    kind = annotations.TABLE[name].kind
    for text in (SAMPLES.get(kind.__name__, ""), "x-name", "on", "basic", "auth-file", "cookie", "balanced", "sticky", "any", "Lax", "GRPC",
                 "/a", "1.1", "all"):
        try:
            if text:
                kind(text)
                return text
        except ValueError:
            continue
    raise AssertionError(name)


def test_the_table_has_every_key() -> None:
    assert len(annotations.TABLE) == 138 and annotations.ALIASES.keys() < annotations.TABLE.keys()


@pytest.mark.parametrize("name", annotations.TABLE)
def test_every_annotation_is_in_the_report_once_with_its_line(tmp_path, name):
    for also in ({}, {"auth-url": "http://auth.shop.svc/check", "enable-cors": "true", "affinity": "cookie", "mirror-target": "http://m.shop.svc",
                      "backend-protocol": "HTTPS", "canary": "true", "auth-tls-secret": "a/b", "auth-type": "basic"}):
        document = ingress("shop/web", "shop.example", {"/": "web"}, **({**also, name: sample(name)}))
        result = converted(tmp_path, document)
        [entry] = [entry for (_, key, line), entry in result.report.entries.items() if key == name and line < 0]
        lines = (tmp_path / "ingresses.yaml").read_text().splitlines()
        assert lines[entry.source.line - 1].strip().startswith(f"{PREFIX}/{name}:")
        assert entry.outcome in Outcome and (entry.words or entry.outcome is Outcome.CONVERTED)


def test_keys_by_outcome(tmp_path, capsys) -> None:
    """The count of keys by outcome, for a value that means something, with what it belongs to beside it."""
    counts: Counter[Outcome] = Counter()
    for name in annotations.TABLE:
        beside = {"enable-cors": "true"} if name.startswith("cors-") else {"affinity": "cookie"} if name.startswith("session-") else {}
        beside |= {"canary": "true", "canary-by-header": "x"} if name.startswith("canary-") else {}
        beside |= {"permanent-redirect": "https://a.example$request_uri"} if name == "permanent-redirect-code" else {}
        beside |= {"backend-protocol": "HTTPS"} if name.startswith("proxy-ssl-") else {}
        value = {"permanent-redirect": "https://a.example$request_uri", "temporal-redirect": "https://a.example$request_uri",
                 "permanent-redirect-code": "308", "upstream-vhost": "a.example", "mirror-target": "http://m.shop.svc$request_uri",
                 "rewrite-target": "/b", "proxy-next-upstream": "error timeout http_502 non_idempotent",
                 "configuration-snippet": "more_set_headers \"X-A: b\";"}.get(name, sample(name))
        canary = [ingress("shop/primary", "shop.example", {"/": "web"})] if name.startswith("canary") else []
        result = converted(tmp_path, *canary, ingress("shop/web", "shop.example", {"/": "other" if canary else "web"}, tls="shop", **{
            **beside, name: value}))
        counts[outcome(result, name)] += 1
    with capsys.disabled():
        print("\nkeys of ingress-nginx: " + ", ".join(f"{counts[one]} {one}" for one in Outcome))
    assert sum(counts.values()) == len(annotations.TABLE)
    assert counts[Outcome.CONVERTED] + counts[Outcome.NOT_NEEDED] >= 60


def test_every_option_of_the_ConfigMap_is_in_the_report(tmp_path) -> None:
    data = {name: "7" for name in sorted(options.DOCUMENTED)} | {"enable-magic": "true"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx"},
              "data": data}
    result = converted(tmp_path, config, ingress("shop/web", "shop.example", {"/": "web"}))
    lines = (tmp_path / "ingresses.yaml").read_text().splitlines()
    for name in data:
        [entry] = [entry for (of, key, _), entry in result.report.entries.items() if of.startswith("ConfigMap") and key == name]
        assert lines[entry.source.line - 1].strip().startswith(f"{name}:") and entry.words
    assert outcome(result, "enable-magic") is Outcome.LOST


SNIPPET = """
# a comment; with {braces}
more_set_headers "X-Frame-Options: DENY" 'X-B: c';
proxy_set_header X-Scope "a b";
proxy_set_header X-Who $remote_user;
if ($http_x = "1;2") {
  return 403;
}
proxy_buffer_size 8k;
"""


def test_snippets_are_shown_line_by_line(tmp_path):
    result = converted(tmp_path, ingress("shop/web", "shop.example", {"/": "web"}, configuration_snippet=SNIPPET.lstrip()))
    lines = (tmp_path / "ingresses.yaml").read_text().splitlines()
    found = [(lines[entry.source.line - 1].strip(), entry.value, str(entry.outcome)) for (_, key, line), entry in
             result.report.entries.items() if line >= 0]
    assert [(value, how) for _, value, how in found] == [
        ("more_set_headers \"X-Frame-Options: DENY\" 'X-B: c';", "converted"), ('proxy_set_header X-Scope "a b";', "converted"),
        ("proxy_set_header X-Who $remote_user;", "lost"), ('if ($http_x = "1;2") {', "lost"), ("return 403;", "lost"),
        ("proxy_buffer_size 8k;", "not needed")]
    assert all(line == value for line, value, _ in found), found  # a block scalar is written as it is
    written = [each for each in result.resources if each["kind"] == "HTTPRoute"][0]["spec"]["rules"][0]["filters"]
    assert {"name": "X-B", "value": "c"} in written[1]["responseHeaderModifier"]["set"]
    assert written[0]["requestHeaderModifier"]["set"] == [{"name": "X-Scope", "value": "a b"}]
    assert outcome(result, "configuration-snippet") is Outcome.LOST


@pytest.mark.parametrize(("annotation", "status"), [({}, 0), ({"enable_cors": "true"}, 0), ({"proxy_body_size": "8m"}, 1),
                                                    ({"limit_rps": "5"}, 2), ({"no_such_key": "5"}, 2)])
def test_the_exit_status_is_that_of_the_worst(tmp_path, capsys, annotation, status):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(ingress("shop/web", "shop.example", {"/": "web"}, **annotation)))
    assert main(["convert", str(tmp_path / "a.yaml")]) == status
    written, said = capsys.readouterr()
    assert [each["kind"] for each in yaml.safe_load_all(written)] == ["Gateway", "ListenerSet", "HTTPRoute"]
    assert ("lost" in said.split("\n\n")[0]) == (status == 2)


@pytest.mark.parametrize("arguments", [(), ("no-such-file",), (".", "--faithful", "--clean"), (".", "--gateway", "x"),
                                       (".", "--report", "pdf"), (".", "--annotations-prefix", "")])
def test_a_wrong_command_line_is_one_line_and_2(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gwfast: ") and said.count("\n") == 1


@pytest.mark.parametrize(("text", "place"), [("a: b: c\n", ":1:"), ("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n"
                                                                   "spec: {rules: [{hots: a.example}]}\n", ":4:")])
def test_what_cannot_be_read_has_its_line_and_is_2(tmp_path, capsys, text, place):
    (tmp_path / "a.yaml").write_text(text)
    assert main(["convert", str(tmp_path / "a.yaml")]) == 2
    assert f"a.yaml{place} error" in capsys.readouterr().err


def test_standard_input_and_lists_and_old_shapes(tmp_path) -> None:
    old = {"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "old"}, "spec": {
        "rules": [{"host": "old.example", "http": {"paths": [{"path": "/", "backend": {"serviceName": "old", "servicePort": 80}}]}}]}}
    done = run("convert", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": [old, ingress("a/web", "b.example", {"/": "web"})]},
                                               indent=1))
    assert done.returncode == 0, done.stderr
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(done.stdout) if each["kind"] == "HTTPRoute"] == ["old", "web"]


def test_a_file_for_each_resource(tmp_path, capsys) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(ingress("shop/web", "shop.example", {"/": "web"})))
    made = tmp_path / "made"
    assert main(["convert", str(tmp_path / "a.yaml"), "--output", str(made), "--report", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == 0
    assert sorted(file.name for file in made.iterdir()) == [
        "shop-gateway-ingress-nginx.yaml", "shop-httproute-web.yaml", "shop-listenerset-ingress-nginx.yaml"]
    assert main(["convert", str(tmp_path / "a.yaml"), "--output", str(made)]) == 0
    (made / "mine.yaml").write_text("")
    assert main(["convert", str(tmp_path / "a.yaml"), "--output", str(made)]) == 2
    assert "mine.yaml is there" in capsys.readouterr().err


def test_reports_say_the_same_in_every_form(tmp_path) -> None:
    result = converted(tmp_path, ingress("shop/web", "shop.example", {"/": "web"}, limit_rps="5", enable_cors="true", server_snippet="<b>|x;"))
    for how in FORMATS:
        text = render(result.report, how)
        assert "limit-rps" in text and "gwfast has no rate limits yet" in text and "1 MiB" in text
    assert "&lt;b&gt;|x;" in render(result.report, "html") and "<b>|" not in render(result.report, "html")
    assert "<b>\\|x;" in render(result.report, "markdown")
    assert json.loads(render(result.report, "json"))["counts"] == {"lost": 2, "reduced": 0, "converted": 1, "not needed": 0}


def test_classes(tmp_path) -> None:
    def class_(name: str, controller: str) -> dict:
        return {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name}, "spec": {"controller": controller}}
    documents = [class_("internal", "k8s.io/ingress-nginx"), class_("traefik", "traefik.io/ingress-controller"),
                 ingress("a", "a.example", {"/": "a"}, ingress_class="internal"), ingress("b", "b.example", {"/": "b"}, ingress_class="traefik")]
    result = converted(tmp_path, *documents)
    assert result.site.servers.keys() == {"_", "a.example"}
    assert [one.of for one in result.report.skipped] == ["Ingress default/b"]
    assert converted(tmp_path, *documents, ingress_class="traefik").site.servers.keys() == {"_", "b.example"}


def test_the_prefix_of_annotations(tmp_path) -> None:
    document = ingress("a", "a.example", {"/x": "a"})
    document["metadata"]["annotations"] = {"custom.example/rewrite-target": "/", f"{PREFIX}/rewrite-target": "/no", "cert-manager.io/issuer": "x"}
    result = converted(tmp_path, document, prefix="custom.example")
    assert not differing(result, ["http://a.example/x/y"])
    assert asked(result, "http://a.example/x/y")["http://a.example/x/y"].gwfast.shares[0][2] == "/"
    assert outcome(result, "cert-manager.io/issuer") is Outcome.NOT_NEEDED


def test_standard_only_has_nothing_but_the_standard_channel(tmp_path) -> None:
    result = converted(tmp_path, ingress("a", "a.example", {"/": "a"}, tls="a", affinity="cookie", auth_url="http://auth.a.svc/x", ssl_ciphers="AES"),
                       standard_only=True)
    assert "sessionPersistence" not in str(result.resources) and "ExternalAuth" not in str(result.resources) and "gwfast.dev" not in str(result.resources)
    assert outcome(result, "affinity") is outcome(result, "auth-url") is outcome(result, "ssl-ciphers") is Outcome.LOST


def test_more_than_64_listeners_and_16_rules(tmp_path) -> None:
    many = [ingress(f"web-{number}", f"h{number}.example", {"/": "web"}) for number in range(70)]
    result = converted(tmp_path, *many, ingress("paths", "p.example", {f"/p{number:02}": f"s{number}" for number in range(40)}))
    assert kinds(result).count("ListenerSet") == 2
    assert max(len(each["spec"]["listeners"]) for each in result.resources if each["kind"] == "ListenerSet") == 64
    assert not differing(result, [f"http://h{number}.example/" for number in range(0, 70, 10)] + [f"http://p.example/p{n:02}/x" for n in range(40)])
    assert max(len(each["spec"]["rules"]) for each in result.resources if each["kind"] == "HTTPRoute") == 16


def test_named_ports_need_the_Service(tmp_path) -> None:
    document = ingress("a", "a.example", {"/": "a"})
    document["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"name": "web"}
    result = converted(tmp_path, document)
    assert outcome(result, "path /") is Outcome.LOST and "its port 'web' is a name" in words(result, "path /")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"name": "web", "port": 8080}]}}
    assert not differing(converted(tmp_path, service, document), ["http://a.example/"])


def test_gRPC_TLS_and_passthrough(tmp_path) -> None:
    result = converted(tmp_path, ingress("a/grpc", "grpc.example", {"/": "g", "/shop.Cart": "c"}, backend_protocol="GRPC"),
                       ingress("a/tls", "tls.example", {"/": "t"}, backend_protocol="HTTPS", proxy_ssl_verify="on", proxy_ssl_secret="a/ca",
                               proxy_ssl_name="t.internal"),
                       ingress("a/pass", "pass.example", {"/": "p"}, ssl_passthrough="true"),
                       {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": "a"}, "stringData": {"ca.crt": "PEM"}})
    by_kind = {each["kind"]: each for each in result.resources}
    assert by_kind["GRPCRoute"]["spec"]["rules"][0]["matches"] == [{"method": {"service": "shop.Cart"}}]
    assert by_kind["BackendTLSPolicy"]["spec"]["validation"] == {
        "hostname": "t.internal", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca-ca"}]}
    assert by_kind["ConfigMap"]["data"] == {"ca.crt": "PEM"}
    assert by_kind["TLSRoute"]["spec"]["hostnames"] == ["pass.example"]
    assert outcome(result, "ssl-passthrough") is Outcome.CONVERTED


def test_ports_that_are_passed_through(tmp_path) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tcp-services", "namespace": "ingress-nginx"},
              "data": {"5432": "db/postgres:5432", "9000": "nonsense"}}
    result = converted(tmp_path, config, ingress("a", "a.example", {"/": "a"}))
    [route] = [each for each in result.resources if each["kind"] == "TCPRoute"]
    assert route["metadata"]["namespace"] == "db" and route["spec"]["parentRefs"][0]["sectionName"] == "tcp-5432"
    assert outcome(result, "5432") is Outcome.CONVERTED and outcome(result, "9000") is Outcome.LOST


def test_www_aliases_and_default_backends(tmp_path) -> None:
    result = converted(tmp_path, ingress("a", "a.example", {"/x": "a"}, from_to_www_redirect="true", server_alias="b.example,*.c.example", default="d"),
                       ingress("all", default="e"))
    assert not differing(result, ["http://www.a.example/x?y=1", "http://a.example/x", "http://a.example/", "http://b.example/x",
                                  "http://q.c.example/x", "http://other.example/x"])
    assert outcome(result, "server-alias") is outcome(result, "from-to-www-redirect") is Outcome.CONVERTED


@pytest.mark.parametrize("faithful", [True, False])
def test_what_comes_out_is_valid(tmp_path, faithful) -> None:
    """No document is refused by the loader: what the API server checks, it checks."""
    result = converted(tmp_path, *(ingress(f"s{n}/w", f"{name}.example", {"/": "web", "~/a(/|$)(.*)": "b"}, tls="t", **{name: sample(name)})
                                   for n, name in enumerate(annotations.TABLE) if name != "canary"), faithful=faithful)
    for resource in result.resources:
        [item] = read_document(json.dumps(resource).encode(), {})
        assert item.resource is not None and not item.findings, (resource, item.findings)


def test_a_thousand_Ingresses_are_read_and_decided_once_each(tmp_path, monkeypatch) -> None:
    """No step looks at all Ingresses, or at all servers, for each Ingress."""
    import gwfast.ingress.convert as converting
    calls: Counter[str] = Counter()

    def counted(module, name):
        function = getattr(module, name)

        def call(*given, **more):
            calls[name] += 1
            return function(*given, **more)
        monkeypatch.setattr(module, name, call)
    counted(annotations, "read")
    counted(converting, "places")
    counted(converting, "resource")
    converted(tmp_path, *(ingress(f"s/w{number}", f"h{number}.example", {"/": "web", "/api": "api"}, rewrite_target="/") for number in range(1000)))
    assert calls == {"read": 1000, "places": 1001, "resource": 1000}


@pytest.mark.parametrize("name", ["convert", "compare"])
def test_help_says_the_exit_status(capsys, name) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "Exit status" in capsys.readouterr().out


def test_nothing_in_gives_nothing(tmp_path, capsys) -> None:
    Path(tmp_path / "a.yaml").write_text("")
    assert main(["convert", str(tmp_path / "a.yaml")]) == 0
    assert capsys.readouterr().out == ""
