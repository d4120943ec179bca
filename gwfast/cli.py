"""The command line. Each option is also an environment variable: --drain-timeout is GWFAST_DRAIN_TIMEOUT.

Exit status: 0 fine, 1 problems, 2 usage. What is wrong is one line on standard error.
"""
import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from gwfast import __version__, limits
from gwfast.errors import UsageError
from gwfast.kinds import (
    address, bounded, ip, key_file, names, networks, one_of, port_map, port_number, pseudonym, seconds, size, switch, whole)
from gwfast.observe import sink
from gwfast.serve.options import EngineOptions, ServeOptions

QUICK = ("run", "reload", "healthcheck", "echo", "--version")
ENDS = {
    "run": "Exit status: 0 a signal has ended it, 1 it could not begin, 2 the command line or the environment is wrong.",
    "reload": "Exit status: 0 the files serve, 1 one of them has an error or no gateway answers, 2 the command line is wrong.",
    "healthcheck": "Exit status: 0 the gateway is ready, 1 it is not, or none answers, 2 the command line is wrong.",
    "echo": "Exit status: 0 a signal has ended it, 1 it could not begin, 2 the command line is wrong.",
}
LEVELS = ("debug", "info", "warning", "error")
LOOKUP_THREADS = "16"  # of libuv, which resolves names in them; its default is 4


# ---- values


def workers(text: str) -> int:
    """'auto' (the CPUs that this process may use) or a number."""
    if text == "auto":
        return available_cpus()
    cpus = available_cpus()
    most = max(limits.WORKERS_LEAST, limits.WORKERS_PER_CPU * cpus)
    if not text.isascii() or not text.isdigit() or not text.strip("0"):
        raise ValueError("auto or a whole number from 1 is needed")
    if len(text) > 20 or (count := int(text)) > most:
        raise ValueError(f"at most {most} workers are of use on {cpus} CPU{'s' * (cpus > 1)}; auto is one for each")
    return count


def available_cpus(quota: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Count the CPUs of the affinity mask, at most those that the container's quota pays for (rounded up)."""
    count = len(os.sched_getaffinity(0))
    try:
        with open(quota) as file:
            most, period = file.read().split()
        return max(1, min(count, -(-int(most) // int(period))))
    except (OSError, ValueError):
        return count


# ---- options


class Option(msgspec.Struct, frozen=True):
    """One option: its value comes from the command line, else from the environment, else it is `default`."""

    flag: str
    kind: Callable[[str], Any]
    default: Any
    metavar: str
    help: str

    @property
    def name(self) -> str:
        return self.flag[2:].replace("-", "_")

    @property
    def variable(self) -> str:
        return "GWFAST_" + self.name.upper()

    def add(self, parser) -> None:
        text = f"{self.help} [{self.variable}]".replace("%", "%%")
        if self.kind is switch:
            parser.add_argument(self.flag, action="store_const", const="on", help=text)
        else:
            parser.add_argument(self.flag, metavar=self.metavar, help=text)

    def value(self, given: str | None) -> Any:
        """Parse what was given; UsageError names where it came from."""
        name = self.flag
        if given is None:
            given, name = os.environ.get(self.variable) or None, self.variable
        if given is None:
            return self.default
        try:
            return self.kind(given)
        except ValueError as error:
            raise UsageError(f"{name} {given!r}: {error}") from None


ADMIN = Option("--admin", address, ("127.0.0.1", 9000), "HOST:PORT", "where admin listens (127.0.0.1:9000)")
READING = (
    Option("--gateway", str, "", "NAME", "serve only this Gateway (NAME or NAMESPACE/NAME)"),
    Option("--gateway-class", str, "", "NAME", "serve only Gateways of this class"),
    Option("--dns-template", names, ("{name}.{namespace}", "{name}"), "T,...",
           "names to look Services up by, first that resolves wins ({name}.{namespace},{name})"),
)
SERVING = (
    Option("--workers", workers, None, "N|auto", "worker processes (auto: one for each CPU)"),
    ADMIN,
    Option("--port-map", port_map, {}, "80:8080,...", "listen on other ports than the Gateways' (0: a free one)"),
    Option("--bind", ip, "", "ADDRESS", "listen here for Gateways without addresses (all, IPv4 and IPv6)"),
    Option("--no-watch", switch, False, "", "do not reload when files change"),
    Option("--drain-timeout", seconds, limits.DRAIN_TIMEOUT, "TIME", "for requests to finish at the end (30s)"),
    Option("--worker-timeout", seconds, limits.WORKER_TIMEOUT, "TIME", "for a worker that does not answer; then it is killed and "
           "replaced (10s, 0s: never)"),
    Option("--dns-refresh", seconds, 5.0, "TIME", "how often names of backends are looked up again (5s)"),
    Option("--route-metrics", bounded(whole, 0, limits.ROUTES_SHOWN_MOST), limits.ROUTES_SHOWN, "N",
           "routes with metrics of their own; those beyond are counted together, as route \"other\" (1024)"),
    Option("--log-format", one_of("json", "text"), "text", "json|text", "the program's own log, on stderr (text)"),
    Option("--log-level", one_of(*LEVELS), "info", "LEVEL", "from debug to error (info)"),
)
TRAFFIC = (
    Option("--access-log", one_of("json", "common", "off"), "json", "json|common|off",
           "one line a request, on stdout (json)"),
    Option("--trusted-proxies", networks, (), "CIDR,...",
           "whose X-Forwarded-* are believed (nobody's)"),
    Option("--forward-client-cert", switch, False, "", "tell backends of clients' certificates: X-Forwarded-Client-Cert"),
    Option("--session-key-file", key_file, b"", "FILE", "what tokens of sessions are made with, for several gateways or one that "
           "starts again (random at each start)"),
    Option("--via", pseudonym, "", "NAME", "add Via with this pseudonym (no Via)"),
    Option("--connections", whole, limits.CONNECTIONS, "N", "clients of one worker (half of the file limit)"),
    Option("--connections-per-address", whole, 0, "N", "of one client address (no cap)"),
    Option("--max-header-bytes", bounded(size, limits.HEAD_BYTES_LEAST, limits.HEAD_BYTES_MOST), limits.HEAD_BYTES, "SIZE",
           "of the head of a request or response, 256k at most (32k)"),
    Option("--max-field-bytes", bounded(size, limits.FIELD_BYTES_LEAST, limits.FIELD_BYTES_MOST), limits.FIELD_BYTES, "SIZE",
           "of one of its fields, and of the request line, 64k at most (16k)"),
    Option("--max-fields", bounded(whole, limits.FIELD_COUNT_LEAST, limits.FIELD_COUNT_MOST), limits.FIELD_COUNT, "N",
           "that it has, 1000 at most (200)"),
    Option("--head-timeout", seconds, limits.HEAD_TIMEOUT, "TIME", "for a request's head (10s)"),
    Option("--body-timeout", seconds, limits.BODY_TIMEOUT, "TIME",
           "between two reads of a request's body, until the response begins (30s)"),
    Option("--stream-idle-timeout", seconds, limits.STREAM_IDLE_TIMEOUT, "TIME",
           "of a request without a byte either way, once its response has begun (5m; 0: none)"),
    Option("--send-timeout", seconds, limits.SEND_TIMEOUT, "TIME", "for a client that takes nothing (30s)"),
    Option("--idle-timeout", seconds, limits.IDLE_TIMEOUT, "TIME", "of a connection without a request (60s)"),
    Option("--tcp-idle-timeout", seconds, limits.TCP_IDLE_TIMEOUT, "TIME", "of a TCP or TLS connection without a byte (1h)"),
    Option("--udp-idle-timeout", seconds, limits.UDP_IDLE_TIMEOUT, "TIME", "of a UDP session without a datagram (30s)"),
    Option("--connect-timeout", seconds, limits.CONNECT_TIMEOUT, "TIME", "for a connection to a backend (5s)"),
    Option("--response-timeout", seconds, limits.RESPONSE_TIMEOUT, "TIME", "for a backend's response to begin (60s)"),
)
CLIENT = (ADMIN,)


def add_options(parser, options: tuple[Option, ...]) -> None:
    for option in options:
        option.add(parser)


def take(arguments: argparse.Namespace, options: tuple[Option, ...]) -> dict[str, Any]:
    """Return the values of options by name."""
    return {option.name: option.value(getattr(arguments, option.name)) for option in options}


# ---- the verbs


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    options = serve_options(arguments)
    for path in options.paths:
        if path != "-" and not os.path.exists(path):
            raise UsageError(f"no such file or folder: {path}")
    from gwfast.serve import start
    files = start.raise_file_limit(options.workers)
    os.environ.setdefault("UV_THREADPOOL_SIZE", LOOKUP_THREADS)
    from gwfast.serve import lean
    lean.load()
    from gwfast.serve import spawn
    from gwfast.serve.foresight import foresees_tls
    if tls := foresees_tls(options.paths):
        from gwfast.serve import certs
        certs.roots()  # of every worker: see there
    try:
        nursery = spawn.Nursery()  # before what follows makes this process large
        workers = [nursery.worker() for _ in range(options.workers)]
    except OSError as error:
        raise OSError(error.errno, f"cannot start a worker: {start.cannot_start(error)}") from None
    if not tls:
        nursery.close()
    import uvloop

    from gwfast.observe.log import Log
    from gwfast.serve.supervisor import supervise
    log = Log(options.log_format, options.log_level)
    start.tell_what_is_odd(options, files, available_cpus(), log)
    return uvloop.run(supervise(options, log, workers, nursery))


def serve_options(arguments: argparse.Namespace) -> ServeOptions:
    """Turn the command line and the environment into options."""
    reading = take(arguments, READING)
    serving = take(arguments, SERVING)
    traffic = take(arguments, TRAFFIC)
    if traffic["max_field_bytes"] > traffic["max_header_bytes"]:
        raise UsageError(f"--max-field-bytes {traffic['max_field_bytes']}: a field is a part of the head, which "
                         f"--max-header-bytes lets have {traffic['max_header_bytes']}")
    return ServeOptions(
        paths=tuple(arguments.paths),
        gateway=reading["gateway"],
        gateway_class=reading["gateway_class"],
        dns_templates=reading["dns_template"],
        workers=serving.pop("workers") or available_cpus(),
        watch=not serving.pop("no_watch"),
        engine=EngineOptions(session_key=traffic.pop("session_key_file"), **traffic),
        **serving,
    )


def graph_options(arguments: argparse.Namespace):
    """Turn what the verbs that only look were told into the graph's options."""
    from gwfast.graph.model import GraphOptions
    reading = take(arguments, READING)
    return GraphOptions(gateway=reading["gateway"], gateway_class=reading["gateway_class"],
                        dns_templates=reading["dns_template"])


def reload(arguments: argparse.Namespace) -> int:
    """Let the running gateway read its files again; print what is wrong with them."""
    status, body = _ask(arguments, "POST", "/reload", timeout=120)
    if status not in (200, 500):
        raise ConnectionError(f"the admin server answered {status}")
    result = json.loads(body)
    for problem in result["problems"]:
        print(problem["text"])
    errors = sum(problem["severity"] == "error" for problem in result["problems"])
    print("failed: the table before serves; see the gateway's log" if result["failed"]
          else f"generation {result['generation']} serves, {errors} error{'' if errors == 1 else 's'}")
    return 1 if result["failed"] or errors else 0


def healthcheck(arguments: argparse.Namespace) -> int:
    """Tell by the exit status whether the running gateway is ready."""
    status, body = _ask(arguments, "GET", "/readyz", timeout=3)
    print(body.decode("utf-8", "replace").strip())
    return 0 if status == 200 else 1


def _ask(arguments: argparse.Namespace, method: str, path: str, timeout: float) -> tuple[int, bytes]:
    import http.client
    host, port = take(arguments, CLIENT)["admin"]
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or error
        raise ConnectionError(f"no gateway answers at {_host_port(host, port)}: {why}") from None
    finally:
        connection.close()


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def echo(arguments: argparse.Namespace) -> int:
    """Be the echo backend."""
    import uvloop

    from gwfast import echo as backend
    where = []
    for text in [*arguments.ports, *arguments.port]:
        name, equals, port = text.rpartition("=")
        try:
            where.append((name if equals else arguments.name, arguments.host, port_number(port)))
        except ValueError as error:
            raise UsageError(f"{text!r}: {error}") from None
    if not where:
        raise UsageError("echo needs a port")
    mode = arguments.mode or "http"
    tls = None
    if arguments.tls_cert or arguments.tls_key or arguments.tls_client_ca:
        if not (arguments.tls_cert and arguments.tls_key) or mode == "udp":
            raise UsageError("--tls-cert and --tls-key are needed together, and not with --udp")
        files = (arguments.tls_cert, arguments.tls_key, arguments.tls_client_ca)
        try:
            tls = backend.tls_context(*files, http=mode != "tcp")
        except OSError as error:  # of ssl as well
            raise UsageError(f"{', '.join(filter(None, files))}: {error.strerror or error}") from None
    try:
        uvloop.run(backend.serve(where, mode=mode, namespace=arguments.namespace, show=arguments.show, tls=tls))
    except KeyboardInterrupt:
        pass
    return 0


# ---- the parser


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def error(self, message: str):
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser(verb_wanted: str = "") -> Parser:
    """Build the parser of every verb; a parsed verb's `run` is its function.

    The verbs that need the whole pipeline to be imported are left out where a quick one is wanted.
    """
    top = Parser(prog="gwfast", allow_abbrev=False,
                 description="A fast gateway that speaks the Kubernetes Gateway API.")
    top.add_argument("--version", action="version", version=f"gwfast {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    common = Parser(add_help=False, allow_abbrev=False)
    common.add_argument("paths", nargs="+", metavar="PATH",
                        help="file or folder with YAML or JSON; '-': standard input")
    add_options(common, READING)

    verb = verbs.add_parser("run", help="serve", parents=[common], allow_abbrev=False, epilog=ENDS["run"])
    add_options(verb, SERVING)
    add_options(verb.add_argument_group("traffic"), TRAFFIC)
    verb.set_defaults(run=run)
    if verb_wanted not in QUICK:
        from gwfast.show import add_parsers
        add_parsers(verbs, common, graph_options)
    for name, function, text in (("reload", reload, "let the running gateway read its files again"),
                                 ("healthcheck", healthcheck, "exit 0 if the running gateway is ready")):
        verb = verbs.add_parser(name, help=text, allow_abbrev=False, epilog=ENDS[name])
        add_options(verb, CLIENT)
        verb.set_defaults(run=function)
    _add_echo(verbs)
    return top


def _add_echo(verbs) -> None:
    verb = verbs.add_parser("echo", help="be an echo backend, to try things with", allow_abbrev=False, epilog=ENDS["echo"])
    verb.add_argument("ports", nargs="*", metavar="[NAME=]PORT", help="where to listen (0: a free port)")
    verb.add_argument("--port", action="append", default=[], help="the same as an option")
    verb.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    verb.add_argument("--name", default="echo", help="the service's name, shown in responses (echo)")
    verb.add_argument("--namespace", default="default", help="its namespace, shown in responses (default)")
    modes = verb.add_mutually_exclusive_group()
    for mode, text in (("fast", "answer 35 fixed bytes, for load tests"), ("tcp", "send back what a connection brings"),
                       ("udp", "send back each datagram")):
        modes.add_argument(f"--{mode}", action="store_const", dest="mode", const=mode, help=text)
    for name, text in (("cert", "serve over TLS with this chain (PEM)"), ("key", "and this key (PEM)"),
                       ("client-ca", "for clients with a certificate of these authorities (PEM) alone")):
        verb.add_argument(f"--tls-{name}", metavar="FILE", default="", help=text)
    verb.add_argument("--show", action="store_true", help="print requests as they arrive")
    verb.set_defaults(run=echo)


def main(argv: list[str] | None = None) -> int:
    """Run one command, that of this process where there are no arguments; return the exit status."""
    if argv is None:
        argv = sys.argv[1:]
        sink.open_closed()
        if argv[:1] == ["run"]:
            sink.install()
    try:
        arguments = parser(argv[0] if argv else "").parse_args(argv)
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"gwfast: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sink.forget_output()
        return 1
    except OSError as error:
        print(f"gwfast: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr)
        sink.forget_output()
        return 1
    except MemoryError:
        print("gwfast: there is not enough memory (`ulimit -v`, memory.max of the cgroup)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        sink.finish()
