"""`gwfast check` of what would serve something else than its author meant, or nothing: the line, and the exit status."""
import sys

import pytest

from gwfast.cli import main
from gwfast.serve import loading

GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: web, protocol: HTTP, port: 80}]
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Check the files of a folder: the exit status, and what is wrong without the conditions."""
    monkeypatch.chdir(tmp_path)

    def check(*options: str, **files: str) -> tuple[int, list[str]]:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        status = main(["check", ".", *options])
        return status, capsys.readouterr().out.partition("\n\n")[0].splitlines()
    return check


# ---- What cannot be read, and nothing to serve


@pytest.mark.parametrize("name, target, words", [
    ("sub", "sub", "Too many levels of symbolic links"), ("sub", "gone", "it is a link to gone, where nothing is"),
    ("a.yaml", "a.yaml", "Too many levels of symbolic links"), ("a.yaml", "gone", "it is a link to gone, where nothing is")])
def test_what_cannot_be_read_is_an_error(check, tmp_path, name, target, words):
    (tmp_path / name).symlink_to(target)
    assert check(gateway=GATEWAY) == (1, [f"./{name}:1: error: cannot be read: {words} (Unreadable)"])


IDLE = {
    "empty": ((), {}, "there is no Gateway"),
    "another name": (("--gateway", "other/gw"), {"gateway": GATEWAY},
                     "no Gateway is called other/gw, there is default/gw of class any"),
    "another class": (("--gateway-class", "nginx", "--gateway", "gw"), {"gateway": GATEWAY},
                      "no Gateway is called gw and is of class nginx, there is default/gw of class any"),
    "no address": ((), {"gateway": GATEWAY + "  addresses: [{type: Hostname, value: a.example}]\n"},
                   "no listener of Gateway default/gw can be served: its Gateway cannot be used: addresses of type Hostname are not "
                   "supported"),
}


@pytest.mark.parametrize("options, files, why", IDLE.values(), ids=IDLE)
def test_nothing_to_serve_is_a_warning(check, options, files, why):
    _, lines = check(*options, **files)
    assert [line for line in lines if "NothingToServe" in line] == [f".:1: warning: nothing is served: {why} (NothingToServe)"]


# ---- Backends that nothing can be sent to

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: s, port: 80}]}]
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: http, port: 80, targetPort: %s}]}\n"
SLICE = """\
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, labels: {kubernetes.io/service-name: s}}
addressType: %s
ports: [%s]
endpoints: [%s]
"""
ONE = "{addresses: [10.0.0.1]}"
NOBODY = "./service.yaml:4: warning: Service default/s spec.ports[0]: port 80 (http) of Service default/s has no endpoint: "
NOWHERE = {
    "another name": (SERVICE % 8080 + SLICE % ("a", "IPv4", "{name: https, port: 8443}", ONE),
                     NOBODY + "no EndpointSlice has a port named http: a has https 8443: requests for it get 503 (NoEndpoints)"),
    "the same name for UDP": (
        SERVICE % 8080 + SLICE % ("a", "IPv4", "{name: http, port: 8080, protocol: UDP}", ONE),
        NOBODY + "no EndpointSlice has a port named http: a has http 8080 UDP: requests for it get 503 (NoEndpoints)"),
    "no port": (SERVICE % 8080 + SLICE % ("a", "IPv4", "", ONE),
                NOBODY + "no EndpointSlice has a port named http: a has none: requests for it get 503 (NoEndpoints)"),
    "no endpoint": (SERVICE % 8080 + SLICE % ("a", "IPv4", "{name: http, port: 8080}", ""),
                    NOBODY + "its EndpointSlices have no endpoints: requests for it get 503 (NoEndpoints)"),
    "none is ready": (
        SERVICE % 8080 + SLICE % ("a", "FQDN", "{name: http, port: 8080}", "{addresses: [x], conditions: {ready: false}}"),
        NOBODY + "none of its 1 endpoints is ready: requests for it get 503 (NoEndpoints)"),
    "slices alone": (SLICE % ("a", "IPv4", "{name: https, port: 8443}", ONE),
                     "./service.yaml:6: warning: EndpointSlice default/a ports: port 80 of Service default/s has no endpoint: no "
                     "EndpointSlice has a port 80 or without a name: a has https 8443: requests for it get 503 (NoEndpoints)"),
    "a slice beside the right one": (
        SERVICE % 8080 + SLICE % ("a", "IPv4", "{name: http, port: 8080}", ONE) + SLICE % ("b", "IPv4", "{name: https, port: 8443}", ONE),
        "./service.yaml:17: warning: EndpointSlice default/b ports: its endpoints get nothing, no port of Service default/s is one of "
        "its ports: b has https 8443 (NoEndpoints)"),
    "a name without slices": (SERVICE % "web",
                              "./service.yaml:4: warning: Service default/s spec.ports[0].targetPort: web is a name, and without an "
                              "EndpointSlice nothing says which number it is: 80, the Service's own, is dialled (NamedPort)"),
}


@pytest.mark.parametrize("service, line", NOWHERE.values(), ids=NOWHERE)
def test_a_backend_without_endpoints_is_one_warning_that_says_why(check, service, line):
    assert check(gateway=GATEWAY, route=ROUTE, service=service) == (0, [line])


FINE = {
    "its name": SERVICE % 8080 + SLICE % ("a", "IPv4", "{name: http, port: 3000}", ONE),
    "its target port": SERVICE % 8080 + SLICE % ("a", "IPv4", "{name: web, port: 8080}", ONE),
    "the name of its target port": SERVICE % "web" + SLICE % ("a", "IPv4", "{name: web, port: 3000}", ONE),
    "names": SERVICE % 8080 + SLICE % ("a", "FQDN", "{name: http, port: 3000}", "{addresses: [b.example]}"),
    "no slices": SERVICE % 8080,
}


@pytest.mark.parametrize("service", FINE.values(), ids=FINE)
def test_a_backend_with_endpoints_is_no_problem(check, service):
    status, lines = check(gateway=GATEWAY, route=ROUTE, service=service)
    assert (status, lines[0]) == (0, "Gateway default/gw    Accepted, Programmed, ResolvedRefs")


def test_a_service_that_is_nowhere_is_a_note_once(check):
    status, lines = check(gateway=GATEWAY, route=ROUTE + "---\n" + ROUTE.replace("name: r}", "name: z}").replace(
        "rules: [{", "rules: [{matches: [{path: {value: /z}}], "))
    assert (status, lines) == (0, ["./route.yaml:6: note: HTTPRoute default/r spec.rules[0].backendRefs[0]: there is no Service default/s "
                                   "in the files: s.default or s is looked up in DNS; 1 more name it (BackendNotFound)"])


WRONG = {
    "a quoted number": (SERVICE % '"8080"', "spec.ports[0].targetPort: '8080' is not allowed, a name must be at most 15 lower-case "
                        "letters, digits and '-', with a letter among them: a number has no quotes (Invalid)"),
    "a name as an IPv4": (SLICE % ("a", "IPv4", "{port: 80}", "{addresses: [api]}"),
                          "endpoints[0].addresses[0]: 'api' is not allowed, must be an IPv4 address as addressType IPv4 says (Invalid)"),
    "IPv6 as IPv4": (SLICE % ("a", "IPv4", "{port: 80}", "{addresses: ['::1']}"),
                     "endpoints[0].addresses[0]: '::1' is not allowed, must be an IPv4 address as addressType IPv4 says (Invalid)"),
    "IPv4 as IPv6": (SLICE % ("a", "IPv6", "{port: 80}", f"{ONE}, {{addresses: ['::1', 10.0.0.1]}}"),
                     "endpoints[0].addresses[0]: '10.0.0.1' is not allowed, must be an IPv6 address as addressType IPv6 says (Invalid)"),
    "a URL as a name": (SLICE % ("a", "FQDN", "{port: 80}", "{addresses: ['http://a.example']}"),
                        "endpoints[0].addresses[0]: 'http://a.example' is not allowed, must be a DNS name as addressType FQDN says "
                        "(Invalid)"),
}


@pytest.mark.parametrize("text, words", WRONG.values(), ids=WRONG)
def test_what_kubernetes_would_not_take_is_an_error(check, text, words):
    status, lines = check(gateway=GATEWAY, service=text)
    assert status == 1 and lines[0].partition("default/")[2].partition(" ")[2] == words


# ---- Slips of the pen


SLIPS = {
    "a field": (ROUTE.replace("backendRefs", "backendRef"),
                "./route.yaml:6: error: HTTPRoute default/r spec.rules[0].backendRef: unknown field, did you mean backendRefs? "
                "(UnknownField)"),
    "a kind": (ROUTE.replace("HTTPRoute", "HttpRoute"),
               "./route.yaml:1: error: gateway.networking.k8s.io/v1 HttpRoute does not exist, did you mean "
               "gateway.networking.k8s.io/v1 HTTPRoute? (UnknownKind)"),
    "a version": (ROUTE.replace("k8s.io/v1", "k8s.io/v2"),
                  "./route.yaml:1: error: gateway.networking.k8s.io/v2 HTTPRoute does not exist, did you mean "
                  "gateway.networking.k8s.io/v1 HTTPRoute? (UnknownKind)"),
}


@pytest.mark.parametrize("route, line", SLIPS.values(), ids=SLIPS)
def test_a_slip_that_changes_what_serves_is_an_error(check, route, line):
    assert check(gateway=GATEWAY, route=route) == (1, [line])


# ---- Filters in Python

FILTER = "apiVersion: gwfast.dev/v1alpha1\nkind: PythonFilter\nmetadata: {name: f}\nspec: {%s, class: Flags, config: {a: 1}}\n"
FLAGS = "class Flags:\n    def __init__(self, config):\n        pass\n\n    async def on_request(self, request):\n        pass\n"
UNLOADABLE = {
    "no file": ("file: gone.py", "spec.file: cannot be loaded: there is no file {}/gone.py"),
    "syntax": ("def (", "spec.file: cannot be loaded: File \"{}/f.py\", line 1 def ( ^ SyntaxError: invalid syntax"),
    "an exception": ("\nimport nowhere_at_all", "spec.file: cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all' "
                     "(f.py line 2)"),
    "another class": (FLAGS.replace("Flags", "Flag"), "spec.class: cannot be loaded: f.py has no class Flags"),
    "no filter": (FLAGS.replace("on_request", "request"), "spec.class: cannot be loaded: Flags has neither on_request nor on_response"),
    "its config": (FLAGS.replace("pass", "config['b']"), "spec.file: cannot be loaded: KeyError: 'b' (f.py line 3)"),
    "it exits": ("raise SystemExit(3)", "spec.file: cannot be loaded: SystemExit: 3 (f.py line 1)"),
    "it ends the process": ("import os\nos._exit(3)", "spec.file: cannot be loaded: it ends the process that loads it (status 3)"),
    "it waits": ("import time\ntime.sleep(60)", "spec.file: cannot be loaded: it has not been loaded within 1 s"),
    "no module": ("module: nowhere.at_all", "spec.module: cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
    "fine": ("print('hello')\n" + FLAGS, ""),
    "a module": ("module: gwfast_test_flags", ""),
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # there are threads: pytest's
@pytest.mark.parametrize("code, words", UNLOADABLE.values(), ids=UNLOADABLE)
def test_a_filter_that_no_worker_could_load_is_an_error(check, tmp_path, monkeypatch, code, words):
    monkeypatch.setattr(loading.fault, "__defaults__", (1.0,))
    monkeypatch.syspath_prepend(tmp_path)
    where = code if code.startswith(("file:", "module:")) else "file: f.py"
    (tmp_path / "f.py").write_text(code)
    (tmp_path / "gwfast_test_flags.py").write_text(FLAGS)
    status, lines = check(gateway=GATEWAY, filter=FILTER % where)
    expected = [f"./filter.yaml:4: error: PythonFilter default/f {words.format(tmp_path)} (NotLoaded)"] if words else []
    assert (status, [line for line in lines if "NotLoaded" in line]) == (bool(words), expected)
    assert "gwfast_test_flags" not in sys.modules


# ---- The exit status


@pytest.mark.parametrize("service, plain, strict", [(FINE["names"], 0, 0), (NOWHERE["no endpoint"][0], 0, 1), ("a: [", 1, 1)],
                         ids=["nothing", "a warning", "an error"])
def test_strict_makes_warnings_count(check, service, plain, strict):
    assert [check(*options, gateway=GATEWAY, route=ROUTE, service=service)[0] for options in ((), ("--strict",))] == [plain, strict]


@pytest.mark.parametrize("verb", ["run", "check", "routes", "explain", "reload", "healthcheck", "echo"])
def test_every_verb_says_its_exit_status(capsys, verb):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0 and "Exit status: 0 " in " ".join(capsys.readouterr().out.split())
