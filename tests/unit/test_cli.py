"""The command line: values, environment, exit status, one line of error."""
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gwfast import cli
from gwfast.identity import digest
from gwfast.errors import UsageError
from gwfast.serve.options import EngineOptions, ServeOptions


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os
    for name in list(os.environ):
        if name.startswith("GWFAST_"):
            monkeypatch.delenv(name)


def options(*arguments):
    return cli.serve_options(cli.parser("run").parse_args(["run", "conf", *arguments]))


CASES = [
    ("--workers", "3", "workers", 3),
    ("--admin", "0.0.0.0:1", "admin", ("0.0.0.0", 1)),
    ("--admin", "[::1]:9", "admin", ("::1", 9)),
    ("--admin", ":9", "admin", ("", 9)),
    ("--route-metrics", "0", "route_metrics", 0),
    ("--gateway", "ns/a", "gateway", "ns/a"),
    ("--gateway-class", "x", "gateway_class", "x"),
    ("--dns-template", "{name}.{namespace}.svc,{name}", "dns_templates", ("{name}.{namespace}.svc", "{name}")),
    ("--kubernetes", None, "kubernetes", True),
    ("--kubeconfig", "admin.conf", "kubeconfig", "admin.conf"),
    ("--context", "staging", "context", "staging"),
    ("--watch-namespaces", "shop, blog,shop", "watch_namespaces", ("shop", "blog")),
    ("--controller-name", "example.net/gateways", "controller_name", "example.net/gateways"),
    ("--publish-service", "ingress/gwfast", "publish_service", ("ingress", "gwfast")),
    ("--publish-status-address", "192.0.2.1, fd00::1,lb.example", "publish_addresses", ("192.0.2.1", "fd00::1", "lb.example")),
    ("--leader-election-lease", "ingress/leader.example", "election_lease", ("ingress", "leader.example")),
    ("--no-leader-election", None, "election", False),
    ("--no-status", None, "status", False),
    ("--port-map", "80:8080,443:0", "port_map", {80: 8080, 443: 0}),
    ("--bind", "::0", "bind", "::"),
    ("--no-watch", None, "watch", False),
    ("--drain-timeout", "500ms", "drain_timeout", 0.5),
    ("--worker-timeout", "0s", "worker_timeout", 0.0),
    ("--upgrade-timeout", "2m", "upgrade_timeout", 120.0),
    ("--pid-file", "/run/gwfast.pid", "pid_file", "/run/gwfast.pid"),
    ("--dns-refresh", "1m", "dns_refresh", 60.0),
    ("--log-format", "json", "log_format", "json"),
    ("--log-level", "debug", "log_level", "debug"),
    ("--access-log", "off", "engine.access_log", "off"),
    ("--trusted-proxies", "10.1.2.3/8,::1", "engine.trusted_proxies", ("10.0.0.0/8", "::1/128")),
    ("--session-key-file", __file__, "engine.session_key", digest(Path(__file__).read_bytes(), 32)),
    ("--via", "gw", "engine.via", "gw"),
    ("--forward-client-cert", None, "engine.forward_client_cert", True),
    ("--connections", "7", "engine.connections", 7),
    ("--connections-per-address", "7", "engine.connections_per_address", 7),
    ("--max-header-bytes", "256KiB", "engine.max_header_bytes", 262144),
    ("--max-field-bytes", "32768", "engine.max_field_bytes", 32768),
    ("--max-fields", "1000", "engine.max_fields", 1000),
    ("--head-timeout", "2", "engine.head_timeout", 2.0),
    ("--body-timeout", "2s", "engine.body_timeout", 2.0),
    ("--send-timeout", "1.5", "engine.send_timeout", 1.5),
    ("--idle-timeout", "2h", "engine.idle_timeout", 7200.0),
    ("--stream-idle-timeout", "2h", "engine.stream_idle_timeout", 7200.0),
    ("--tcp-idle-timeout", "10m", "engine.tcp_idle_timeout", 600.0),
    ("--udp-idle-timeout", "500ms", "engine.udp_idle_timeout", 0.5),
    ("--connect-timeout", "2s", "engine.connect_timeout", 2.0),
    ("--response-timeout", "2s", "engine.response_timeout", 2.0),
    ("--controller", "https://c.example:8443", "controller", "https://c.example:8443"),
    ("--token-file", "/run/token", "token_file", "/run/token"),
    ("--ca-file", "/run/ca.crt", "ca_file", "/run/ca.crt"),
    ("--state-dir", "/var/lib/gwfast", "state_dir", "/var/lib/gwfast"),
]


@pytest.mark.parametrize("way", ["option", "environment"])
@pytest.mark.parametrize("flag, text, field, value", CASES, ids=[f"{case[0]}={case[1]}" for case in CASES])
def test_option(monkeypatch, way, flag, text, field, value):
    if way == "option":
        got = options(flag, *([text] if text is not None else []))
    else:
        monkeypatch.setenv("GWFAST_" + flag[2:].upper().replace("-", "_"), text or "true")
        got = options()
    for part in field.split("."):
        got = getattr(got, part)
    assert got == value


def test_every_option_has_a_case():
    options = {option.flag for option in (*cli.READING, *cli.CLUSTER, *cli.REPORTING, *cli.DATA_PLANE, *cli.SERVING, *cli.TRAFFIC)}
    assert {case[0] for case in CASES} == options


def test_without_options_it_is_the_defaults():
    expected = ServeOptions(paths=("conf",), workers=cli.available_cpus(), engine=EngineOptions(access_log="json"))
    assert options() == expected


def test_the_command_line_wins(monkeypatch):
    monkeypatch.setenv("GWFAST_WORKERS", "9")
    assert options("--workers", "2").workers == 2
    monkeypatch.setenv("GWFAST_WORKERS", "")
    assert options().workers == cli.available_cpus()


@pytest.mark.parametrize("arguments, words", [
    ([], "VERB"),
    (["nonsense"], "invalid choice"),
    (["run"], "PATH"),
    (["run", "--kubernetes", "conf"], "conf: a PATH cannot be read beside a cluster"),
    (["check"], "a PATH is needed, or --kubernetes"),
    (["run", ".", "--watch-namespaces", "Shop"], "'Shop' is no name of a namespace"),
    (["run", ".", "--controller-name", "gwfast"], "a domain-prefixed path"),
    (["run", ".", "--publish-service", "gwfast"], "NAMESPACE/NAME is needed"),
    (["run", ".", "--leader-election-lease", "a/b/c"], "NAMESPACE/NAME is needed"),
    (["run", ".", "--publish-status-address", "10.0.0.300"], "'10.0.0.300' is neither an IP address nor the name of a host"),
    (["run", "no-such-folder"], "no such file or folder: no-such-folder"),
    (["run", ".", "--workers", "0"], "--workers '0': auto or a whole number from 1 is needed"),
    (["run", ".", "--workers", "-1"], "--workers"),
    (["run", ".", "--work", "1"], "unrecognized arguments"),
    (["run", ".", "--admin", "9000"], "HOST:PORT is needed"),
    (["run", ".", "--admin", "::1:9000"], "HOST:PORT is needed"),
    (["run", ".", "--admin", "a:99999"], "at most 65535"),
    (["run", ".", "--port-map", "80"], "pairs such as 80:8080"),
    (["run", ".", "--port-map", "80:http"], "whole number"),
    (["run", ".", "--bind", "everywhere"], "does not appear to be an IPv4 or IPv6 address"),
    (["run", ".", "--trusted-proxies", "10.0.0.0/33"], "--trusted-proxies"),
    (["run", ".", "--drain-timeout", "soon"], "a time such as 30s"),
    (["run", ".", "--max-header-bytes", "1M"], "--max-header-bytes '1M': a size such as 16384, 16k or 16KiB is needed"),
    (["run", ".", "--max-header-bytes", "257k"], "4096 to 262144 can be asked for"),
    (["run", ".", "--max-field-bytes", "65537"], "1024 to 65536 can be asked for"),
    (["run", ".", "--max-field-bytes", "64k"], "--max-field-bytes 65536: a field is a part of the head, which --max-header-bytes lets"),
    (["run", ".", "--max-fields", "1001"], "32 to 1000 can be asked for"),
    (["run", ".", "--access-log", "xml"], "one of json, common, off is needed"),
    (["run", ".", "--via", "a b"], "token"),
    (["run", ".", "--session-key-file", "no/key"], "--session-key-file 'no/key': cannot be read: No such file"),
    (["run", ".", "--session-key-file", "/dev/null"], "32 bytes or more are needed, these are 0"),
    (["run", ".", "--dns-template", "{service}"], "only {name} and {namespace}"),
    (["echo"], "needs a port"),
    (["echo", "http"], "whole number"),
    (["echo", "--tcp", "--udp", "1"], "not allowed with"),
    (["echo", "1", "--tls-cert", "a"], "needed together"),
    (["echo", "--udp", "1", "--tls-cert", "a", "--tls-key", "b"], "not with --udp"),
    (["echo", "1", "--tls-cert", "no/a", "--tls-key", "no/b"], "no/a, no/b: No such file"),
    (["echo", "1", "--tls-cert", __file__, "--tls-key", __file__], "PEM"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_usage_errors_are_one_line_and_exit_2(capsys, arguments, words):
    assert cli.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("gwfast: ") and error.count("\n") == 1 and words in error


def test_a_bad_variable_is_named(monkeypatch):
    monkeypatch.setenv("GWFAST_DRAIN_TIMEOUT", "soon")
    with pytest.raises(UsageError, match="GWFAST_DRAIN_TIMEOUT 'soon'"):
        options()


@pytest.mark.parametrize("verb", ["reload", "upgrade", "healthcheck"])
def test_without_a_gateway_the_exit_status_is_1(capsys, verb, unused_port):
    assert cli.main([verb, "--admin", f"127.0.0.1:{unused_port}"]) == 1
    assert "no gateway answers at" in capsys.readouterr().err


@pytest.fixture
def unused_port():
    import socket
    with socket.socket() as held:  # bound and not listening: connecting is refused
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("quota, cpus", [("max 100000", None), ("50000 100000", 1), ("nonsense", None), (None, None)])
def test_available_cpus(tmp_path, quota, cpus):
    path = tmp_path / "cpu.max"
    if quota is not None:
        path.write_text(quota)
    import os
    assert cli.available_cpus(path) == (cpus or len(os.sched_getaffinity(0)))


def test_help_names_every_variable(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["run", "--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    for option in (*cli.READING, *cli.CLUSTER, *cli.REPORTING, *cli.DATA_PLANE, *cli.SERVING, *cli.TRAFFIC):
        assert option.variable in text


@pytest.mark.parametrize("url", ["http://c:1", "c:1", "https://", "https://c:99999", "https://c:x", "https://c/path", "https://c?x"])
def test_a_controller_has_a_url(url, capsys):
    assert cli.main(["run", "--controller", url]) == 2
    assert capsys.readouterr().err.startswith(f"gwfast: --controller {url!r}: a URL such as https://")


@pytest.mark.parametrize("arguments, words", [
    (["run", "--controller", "https://c", "conf"], "conf: a PATH cannot be read beside a controller"),
    (["run", "--controller", "https://c", "--kubernetes"], "a controller (--controller) cannot be followed beside a cluster"),
    (["controller"], "--url is needed"), (["controller", "--url", "https://c:8443"], "--image is needed"),
])
def test_what_a_controller_and_its_data_planes_need(arguments, words, capsys):
    assert cli.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_version():
    done = subprocess.run([sys.executable, "-m", "gwfast", "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("gwfast 0.")


def test_verbs_are_told_in_the_order_of_their_use(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = re.findall(r"^    ([a-z]+)", capsys.readouterr().out, re.M)
    assert told == ["run", "check", "routes", "explain", "convert", "compare", "controller", "reload", "upgrade", "healthcheck", "echo"]


def test_echo_says_in_one_line_that_a_port_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["echo", str(taken.getsockname()[1])]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "address already in use" in err
