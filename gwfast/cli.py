"""The command line. Each option (gwfast.options) is also an environment variable: --drain-timeout is GWFAST_DRAIN_TIMEOUT.

Exit status: 0 fine, 1 problems, 2 usage. What is wrong is one line on standard error.
"""
import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from gwfast import __version__
from gwfast.errors import Source, UsageError
from gwfast.kinds import port_number
from gwfast.observe import sink
from gwfast.options import (
    ADMIN, CLIENT, CLUSTER, CONTROLLER, DATA_PLANE, ELECTION, LOGGING, READING, REPORTING, SERVING, TRAFFIC, add_options,
    available_cpus, take)
from gwfast.serve.options import EngineOptions, ServeOptions

QUICK = ("run", "controller", "reload", "upgrade", "healthcheck", "echo", "--version")
LOOKING = ("check", "routes", "explain")  # they need no converter
ENDS = {
    "run": "Exit status: 0 a signal has ended it, 1 it could not begin, 2 the command line or the environment is wrong.",
    "controller": "Exit status: 0 a signal has ended it, 1 it could not begin, 2 the command line or the environment is wrong.",
    "reload": "Exit status: 0 the files serve, 1 one of them has an error or no gateway answers, 2 the command line is wrong.",
    "upgrade": "Exit status: 0 the new program serves, 1 the old one does, or no gateway answers, 2 the command line is wrong.",
    "healthcheck": "Exit status: 0 the gateway is ready, 1 it is not, or none answers, 2 the command line is wrong.",
    "echo": "Exit status: 0 a signal has ended it, 1 it could not begin, 2 the command line is wrong.",
}
LOOKUP_THREADS = "16"  # of libuv, which resolves names in them; its default is 4


# ---- the verbs


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    from gwfast import linux
    linux.share_heap()
    options = serve_options(arguments)
    check_paths(options.paths, options.kubernetes, options.controller)
    where = None
    if options.kubernetes:
        import ssl  # noqa: F401 - its client needs it, and `light_imports` makes the event loop do without where it is not there yet
        from gwfast.kubernetes import kubeconfig
        where = kubeconfig.access(options.kubeconfig, options.context)
    from gwfast.serve import start
    files = start.raise_file_limit(options.workers)
    os.environ.setdefault("UV_THREADPOOL_SIZE", LOOKUP_THREADS)
    from gwfast.serve import light_imports
    light_imports.load_event_loop()
    from gwfast.serve import handover, spawn
    if (given := handover.inherit()) is not None:
        options = given.applied(options)
    if tls := _expects_tls(options, where):
        from gwfast.serve import certs
        certs.roots()  # of every worker: see there
    try:
        fork_server = spawn.ForkServer()  # before what follows makes this process large
        workers = [fork_server.worker() for _ in range(options.workers)]
    except OSError as error:
        raise OSError(error.errno, f"cannot start a worker: {start.cannot_start(error)}") from None
    if not tls:
        fork_server.close()
    import uvloop

    from gwfast.observe.log import Log
    log = Log(options.log_format, options.log_level)
    start.tell_what_is_odd(options, files, available_cpus(), log)
    if options.controller:
        from gwfast.controller.plane import supervise_plane
        return uvloop.run(supervise_plane(options, log, workers, fork_server))
    if where is not None:
        from gwfast.serve.cluster import supervise_cluster
        return uvloop.run(supervise_cluster(where, options, log, workers, fork_server, _maker, given))
    from gwfast.serve.files import Files
    from gwfast.serve.supervisor import supervise
    return uvloop.run(supervise(Files(options.paths), options, log, workers, fork_server, given=given))


def _maker(*given: Any, **named: Any) -> Any:
    """Return who makes objects for what a gateway of one process serves: of a module that most have no use for (2 MiB)."""
    from gwfast.controller.selected import Maker
    return Maker(*given, **named)


def _expects_tls(options: ServeOptions, where: Any) -> bool:
    """Say whether files, or the cluster that is to be read, mention TLS. Nobody knows what a controller will say."""
    if options.controller:
        return True
    if where is not None:
        from gwfast.kubernetes import expect_tls
        return expect_tls.expects_tls(where, options.watch_namespaces)
    from gwfast.serve.expect_tls import expects_tls
    return expects_tls(options.paths)


def check_paths(paths: Sequence[str], kubernetes: bool, controller: str = "") -> None:
    """Raise UsageError where there are paths beside a cluster, or neither, or one that does not exist."""
    if kubernetes and controller:
        raise UsageError("a controller (--controller) cannot be followed beside a cluster (--kubernetes)")
    if (kubernetes or controller) and paths:
        what = "a cluster (--kubernetes)" if kubernetes else "a controller (--controller)"
        raise UsageError(f"{paths[0]}: a PATH cannot be read beside {what}")
    if not kubernetes and not controller and not paths:
        raise UsageError("a PATH is needed, or --kubernetes")
    for path in paths:
        if path != "-" and not os.path.exists(path):
            raise UsageError(f"no such file or folder: {path}")


def serve_options(arguments: argparse.Namespace) -> ServeOptions:
    """Turn the command line and the environment into options."""
    reading = take(arguments, READING)
    cluster = take(arguments, CLUSTER)
    reporting = take(arguments, REPORTING)
    plane = take(arguments, DATA_PLANE)
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
        watch=not serving.pop("no_watch") or cluster["kubernetes"] or bool(plane["controller"]),
        engine=EngineOptions(session_key=traffic.pop("session_key_file"), **traffic),
        status=not reporting["no_status"],
        election=not reporting["no_leader_election"],
        election_lease=reporting["leader_election_lease"],
        publish_service=reporting["publish_service"],
        publish_addresses=reporting["publish_status_address"],
        **cluster,
        **plane,
        **serving,
    )


def controller(arguments: argparse.Namespace) -> int:
    """Decide for a cluster until a signal ends it."""
    import ssl  # noqa: F401 - before the event loop, see run

    import uvloop

    from gwfast import linux
    from gwfast.controller import link, run as running
    from gwfast.kubernetes import kubeconfig
    from gwfast.observe.log import Log
    from gwfast.serve import start
    linux.share_heap()
    given, cluster, lease = (take(arguments, table) for table in (CONTROLLER, CLUSTER, ELECTION))
    for name in ("url", "image"):
        if not given[name]:
            raise UsageError(f"--{name} is needed: what data planes are made of")
    where = kubeconfig.access(cluster["kubeconfig"], cluster["context"])
    log = take(arguments, LOGGING)
    start.raise_file_limit(0)  # each data plane has a connection, and strangers have some
    options = running.ControllerOptions(
        controller_name=cluster["controller_name"], url=given["url"], host=link.where(given["url"], "", "").host,
        image=given["image"], namespace=os.environ.get("POD_NAMESPACE") or where.namespace, listen=given["listen"],
        admin=take(arguments, (ADMIN,))["admin"], pull_policy=given["image_pull_policy"],
        pull_secrets=given["image_pull_secrets"], watch_namespaces=cluster["watch_namespaces"],
        lease=lease["leader_election_lease"])
    return uvloop.run(running.control(where, options, Log(log["log_format"], log["log_level"])))


def graph_options(arguments: argparse.Namespace):
    """Turn what the verbs that only look were told into the graph's options."""
    from gwfast.graph.model import GraphOptions
    reading = take(arguments, READING)
    cluster = take(arguments, CLUSTER)
    ours = {}
    if cluster["kubernetes"]:
        from gwfast.parameters import fault
        ours = {"controller_name": cluster["controller_name"], "strict_services": True, "filters_by_class": True,
                "parameters_fault": fault}
    return GraphOptions(gateway=reading["gateway"], gateway_class=reading["gateway_class"],
                        dns_templates=reading["dns_template"], **ours)


def look(arguments: argparse.Namespace):
    """Read what the verbs that only look were told to; return what it holds, and what names it."""
    options = take(arguments, CLUSTER)
    check_paths(arguments.paths, options["kubernetes"])
    if options["kubernetes"]:
        from gwfast.kubernetes import kubeconfig
        from gwfast.observe.log import Log
        from gwfast.serve import cluster
        where = kubeconfig.access(options["kubeconfig"], options["context"])
        return cluster.look(where, options["watch_namespaces"], options["controller_name"], Log("text", "warning"))
    from gwfast.config.load import load
    return load(arguments.paths), Source(arguments.paths[0])


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


def upgrade(arguments: argparse.Namespace) -> int:
    """Let the program that is on disk now take the place of the running gateway; print what serves then."""
    status, body = _ask(arguments, "POST", "/upgrade", timeout=None)  # the gateway knows for how long
    if status not in (200, 500):
        raise ConnectionError(f"the admin server answered {status}: {body.decode('utf-8', 'replace').partition(chr(10))[0]}")
    result = json.loads(body)
    if arguments.output == "json":
        print(json.dumps(result, indent=1))
    elif result["upgraded"]:
        print(f"gwfast {result['version']} (process {result['pid']}) serves after {result['seconds']:.1f} s; "
              f"gwfast {result['version_before']} (process {result['before']}) drains")
    else:
        print(f"no upgrade: {result['reason']}; gwfast {result['version']} (process {result['pid']}) serves on")
    return 0 if result["upgraded"] else 1


def healthcheck(arguments: argparse.Namespace) -> int:
    """Tell by the exit status whether the running gateway is ready."""
    status, body = _ask(arguments, "GET", "/readyz", timeout=3)
    print(body.decode("utf-8", "replace").strip())
    return 0 if status == 200 else 1


def _ask(arguments: argparse.Namespace, method: str, path: str, timeout: float | None) -> tuple[int, bytes]:
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
    uvloop.run(backend.run(where, mode=mode, namespace=arguments.namespace, show=arguments.show, tls=tls))
    return 0


# ---- the parser


class _Formatter(argparse.HelpFormatter):
    """Help as wide as argparse has it, without the module of which argparse asks the width: it would be 1 MiB of each process."""

    def __init__(self, prog: str, **given: Any):
        super().__init__(prog, width=_columns() - 2, **given)


def _columns() -> int:
    """Return how wide the terminal is, as shutil.get_terminal_size does."""
    with contextlib.suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with contextlib.suppress(AttributeError, ValueError, OSError):
        if sys.__stdout__ is not None:
            return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80
    return 80


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def __init__(self, **given: Any):
        super().__init__(formatter_class=_Formatter, **given)

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
    common.add_argument("paths", nargs="*", metavar="PATH",
                        help="file or folder with YAML or JSON; '-': standard input")
    add_options(common, READING)
    add_options(common.add_argument_group("a cluster instead of PATH"), CLUSTER)

    verb = verbs.add_parser("run", help="serve", parents=[common], allow_abbrev=False, epilog=ENDS["run"])
    add_options(verb.add_argument_group("status of a cluster's objects"), REPORTING)
    add_options(verb.add_argument_group("a controller instead of PATH"), DATA_PLANE)
    add_options(verb, SERVING)
    add_options(verb.add_argument_group("traffic"), TRAFFIC)
    verb.set_defaults(run=run)
    if verb_wanted not in QUICK:
        from gwfast.show import add_parsers
        add_parsers(verbs, common, graph_options, look)
    if verb_wanted not in QUICK + LOOKING:
        from gwfast.ingress import verbs as ingress
        ingress.add_parsers(verbs)
    verb = verbs.add_parser("controller", help="decide for a cluster, and make data planes", allow_abbrev=False,
                            epilog=ENDS["controller"])
    add_options(verb, (*(one for one in CLUSTER if one.flag != "--kubernetes"), *ELECTION, *CONTROLLER, ADMIN, *LOGGING))
    verb.set_defaults(run=controller, kubernetes=None)
    for name, function, text in (("reload", reload, "let the running gateway read its files again"),
                                 ("upgrade", upgrade, "let the program on disk take the place of the running gateway"),
                                 ("healthcheck", healthcheck, "exit 0 if the running gateway is ready")):
        verb = verbs.add_parser(name, help=text, allow_abbrev=False, epilog=ENDS[name])
        add_options(verb, CLIENT)
        verb.set_defaults(run=function)
    verbs.choices["upgrade"].add_argument("-o", "--output", choices=("text", "json"), default="text", help="(text)")
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


def _tell_the_old_one(words: str) -> None:
    """Tell a gateway whose place this process was to take why it does not."""
    if "GWFAST_HANDOVER" in os.environ:
        from gwfast.serve import handover
        handover.tell(words)


def main(argv: list[str] | None = None) -> int:
    """Run one command, that of this process where there are no arguments; return the exit status."""
    if argv is None:
        argv = sys.argv[1:]
        sink.open_closed()
        if argv[:1] in (["run"], ["controller"]):
            sink.install()
    try:
        arguments = parser(argv[0] if argv else "").parse_args(argv)
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"gwfast: {error}", file=sys.stderr)
        _tell_the_old_one(str(error))
        return 2
    except BrokenPipeError:
        sink.forget_output()
        return 1
    except OSError as error:
        words = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
        print(f"gwfast: {words}", file=sys.stderr)
        _tell_the_old_one(words)
        sink.forget_output()
        return 1
    except MemoryError:
        print("gwfast: there is not enough memory (`ulimit -v`, memory.max of the cgroup)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        sink.finish()
