"""The options of the command line: flag, kind, default and help of each, in tables that verbs are made of.

Each option is also an environment variable: --drain-timeout is GWFAST_DRAIN_TIMEOUT. `gwfast run` has READING, CLUSTER,
REPORTING, DATA_PLANE, SERVING and TRAFFIC (a GatewayParameters of a cluster names them without their dashes), `gwfast controller`
CLUSTER, ELECTION, CONTROLLER and LOGGING.
"""
import argparse
import os
from collections.abc import Callable
from typing import Any

import msgspec

from gwfast import limits
from gwfast.errors import UsageError
from gwfast.kinds import (
    address, bounded, controller, hosts, ip, key_file, listed, names, namespaces, networks, object_name, one_of, port_map,
    pseudonym, seconds, size, stream_url, switch, whole)
from gwfast.serve.options import CA_FILE, CONTROLLER_NAME, TOKEN_FILE

LEVELS = ("debug", "info", "warning", "error")


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
LOGGING = (
    Option("--log-format", one_of("json", "text"), "text", "json|text", "the program's own log, on stderr (text)"),
    Option("--log-level", one_of(*LEVELS), "info", "LEVEL", "from debug to error (info)"),
)
READING = (
    Option("--gateway", str, "", "NAME", "serve only this Gateway (NAME or NAMESPACE/NAME)"),
    Option("--gateway-class", str, "", "NAME", "serve only Gateways of this class"),
    Option("--dns-template", names, ("{name}.{namespace}", "{name}"), "T,...",
           "names to look Services up by, first that resolves wins ({name}.{namespace},{name})"),
)
CLUSTER = (
    Option("--kubernetes", switch, False, "", "read a cluster's API server instead of files, and follow it"),
    Option("--kubeconfig", str, "", "FILE", "how to reach it ($KUBECONFIG, else what a Pod is given, else ~/.kube/config)"),
    Option("--context", str, "", "NAME", "of the kubeconfig (its current-context)"),
    Option("--watch-namespaces", namespaces, (), "NAME,...", "read these namespaces alone: Roles in them are enough (all)"),
    Option("--controller-name", controller, CONTROLLER_NAME, "NAME", "serve GatewayClasses with this controllerName "
           f"({CONTROLLER_NAME})"),
)
ELECTION = (
    Option("--leader-election-lease", object_name, ("", ""), "NAMESPACE/NAME", "of the replicas the one that has this Lease "
           "writes status (in the Pod's namespace, named as the controller: gateway-controller.gwfast.dev)"),
)
REPORTING = (
    Option("--publish-service", object_name, None, "NAMESPACE/NAME", "the Service in front of us: Gateways without addresses of "
           "their own have its load balancer's and external addresses, or its cluster IPs"),
    Option("--publish-status-address", hosts, (), "ADDRESS,...", "they have these instead (POD_IP, or the address that this "
           "machine reaches the API server from)"),
    *ELECTION,
    Option("--no-leader-election", switch, False, "", "write status without a Lease: there is one replica"),
    Option("--no-status", switch, False, "", "write no status"),
)
DATA_PLANE = (
    Option("--controller", stream_url, "", "URL", "serve what a `gwfast controller` says, https://HOST:PORT, instead of files"),
    Option("--token-file", str, TOKEN_FILE, "FILE", f"the ServiceAccount token that is shown to it ({TOKEN_FILE})"),
    Option("--ca-file", str, CA_FILE, "FILE", f"authorities of its certificate, PEM ({CA_FILE})"),
    Option("--state-dir", str, "", "DIR", "keep the last good copy here, Secrets included, and start from it where no controller "
           "answers (none is kept)"),
)
CONTROLLER = (
    Option("--listen", address, ("", 8443), "HOST:PORT", "where data planes connect (:8443)"),
    Option("--url", stream_url, "", "URL", "the same as they reach it: the Service's, https://NAME.NAMESPACE.svc:PORT"),
    Option("--image", str, "", "IMAGE", "of the data planes' containers"),
    Option("--image-pull-policy", one_of("Always", "IfNotPresent", "Never"), "", "POLICY", "of that image"),
    Option("--image-pull-secrets", listed, (), "NAME,...", "of the controller's namespace, for that image"),
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
    Option("--upgrade-timeout", seconds, limits.UPGRADE_TIMEOUT, "TIME", "for the new program of an upgrade to serve; then this "
           "one serves on (60s)"),
    Option("--pid-file", str, "", "FILE", "write the process id here (nowhere)"),
    Option("--dns-refresh", seconds, 5.0, "TIME", "how often names of backends are looked up again (5s)"),
    Option("--route-metrics", bounded(whole, 0, limits.ROUTES_SHOWN_MOST), limits.ROUTES_SHOWN, "N",
           "routes with metrics of their own; those beyond are counted together, as route \"other\" (1024)"),
    *LOGGING,
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
