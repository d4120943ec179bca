"""`make conformance`: the official conformance suite of the Gateway API, unmodified, against gwfast in a cluster of its own.

    python tests/cluster/conformance.py [--mode MODE] [--version VERSION] [--to FOLDER] [flags of the suite]

    default      deploy/install.yaml as it is, CRDs of the experimental channel
    standard     the same, CRDs of the standard channel
    dedicated    the same as default, and each Gateway has data planes of its own
    one-process  `gwfast run --kubernetes` on the node, and nothing else, with one address for all Gateways (one_address.py)

All profiles run with the suite's own timeouts and with the features that the GatewayClass' status says: none is exempt and no test is
skipped, but for the last mode, whose report is never written into conformance/. Exit status 0 means that the suite's was 0 and that each test it has ran and passed; the report that it wrote is in FOLDER then
(conformance/ where nothing is said), else in build/conformance with the logs. A run with flags of one's own (--run-test=NAME), or of a
release that is not the first of binaries.RELEASES, never writes into conformance/.
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

import yaml

import binaries
import one_address
import suite
from cluster import PROJECT, Cluster, Failed
from node.network import NODE_IP
from sandbox import Process

sys.path.append(str(PROJECT))

from gwfast import __version__

PUBLISHED = PROJECT / "conformance"
LOGS = PROJECT / "build" / "conformance"
SYSTEM, CLASS = "gwfast-system", "gwfast"
IMPLEMENTATION = {"organization": "gwfast", "project": "gwfast", "url": "https://gwfast.dev", "contact": "@gwfast/maintainers"}
# What the suite asks for: an address that a Gateway may have, of those that Services of type LoadBalancer get (where there are none,
# that of the node), and one that it may not.
USABLE, UNUSABLE = "10.244.240.200", "192.0.2.1"
READY_SECONDS = 120.0
RUN_SECONDS = 3600.0  # the suite's own timeouts end each test long before; a run takes a minute or two
LOOK_SECONDS = 0.5
MODES = {"default": "experimental", "standard": "standard", "dedicated": "experimental", "one-process": "experimental"}
DEDICATED = f"""
apiVersion: gwfast.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: {CLASS}, namespace: {SYSTEM}}}
spec: {{dedicated: true, replicas: 1, options: {{workers: "1"}}}}
"""


class Run:
    """One run: what is asked for, and where its logs and reports are."""

    def __init__(self, mode: str, version: str, to: Path, flags: list[str]):
        self.mode, self.version, self.flags = mode, version, flags
        self.release = binaries.RELEASES[version]
        self.replaced = binaries.replaced(self.release.module)
        self.one_process = mode == "one-process"
        self.apart = one_address.needing(version) if self.one_process and not flags else {}
        self.publishable = version == binaries.GATEWAY_API and not flags and not self.one_process
        self.to = to if self.publishable or to != PUBLISHED else LOGS
        self.name = f"{version}-{mode}"
        self.log, self.report = LOGS / f"{self.name}.log", LOGS / f"{self.name}-report.yaml"

    def suite_flags(self) -> list[str]:
        """The name of the implementation's version says it where it was no suite as it is published that ran."""
        version = f"v{__version__}" + "".join(f" (with {each})" for each in self.replaced)
        told = IMPLEMENTATION | {
            "version": version, "gateway-class": CLASS, "conformance-profiles": ",".join(suite.PROFILES),
            "usable-address": NODE_IP if self.one_process else USABLE, "unusable-address": UNUSABLE,
            "mode": "default" if self.mode == "standard" else self.mode, "report-output": str(self.report)}
        if self.apart:
            told["skip-tests"] = ",".join(self.apart)
        return [f"--{name}={value}" for name, value in told.items()] + [one_address.PARALLEL] * bool(self.apart) + self.flags

    def publish(self) -> Path:
        """Put the report where it belongs, exactly as the suite wrote it; one of a suite with another module in it says so."""
        text = self.report.read_text()
        channel, mode = MODES[self.mode], yaml.safe_load(text)["mode"]
        named = f"{channel}-v{__version__}-{mode}-report.yaml"
        if not self.publishable:
            named = f"development-{self.version}-{named}"
            text = "".join(f"# A check of development, not to be published: the suite was built with {each}.\n"
                           for each in self.replaced) + text
        self.to.mkdir(parents=True, exist_ok=True)
        target = self.to / named
        target.write_text(text)
        return target


def install(cluster: Cluster, run: Run) -> list[str]:
    """Install gwfast as users do. Returns the features that its GatewayClass claims."""
    cluster.install_crds(MODES[run.mode], run.version)
    if run.one_process:
        one_address.install(cluster)
        return cluster.wait_for(lambda: claimed(cluster), "the GatewayClass to be accepted", READY_SECONDS)
    cluster.apply(PROJECT / "deploy" / "install.yaml", "--server-side")
    if run.mode == "dedicated":
        cluster.apply(DEDICATED)
        reference = {"group": "gwfast.dev", "kind": "GatewayParameters", "namespace": SYSTEM, "name": CLASS}
        cluster.kubectl("patch", "gatewayclass", CLASS, "--type=merge", "-p", json.dumps({"spec": {"parametersRef": reference}}))
    return cluster.wait_for(lambda: claimed(cluster), "the GatewayClass to be accepted", READY_SECONDS)


def claimed(cluster: Cluster) -> list[str]:
    """The features that the GatewayClass says, once it is accepted as it is by now."""
    seen = cluster.get("GatewayClass", CLASS, "") or {"metadata": {}}
    accepted = any(one["type"] == "Accepted" and one["status"] == "True" and one["observedGeneration"] == seen["metadata"]["generation"]
                   for one in seen.get("status", {}).get("conditions") or ())
    return [one["name"] for one in seen["status"].get("supportedFeatures") or ()] if accepted else []


def confirm(cluster: Cluster, run: Run) -> None:
    """Raise Failed where the data planes are not those of the mode: shared ones are a Deployment beside the controller's."""
    shared = {one["metadata"]["name"] for one in cluster.objects("Deployment", SYSTEM)} - {"gwfast-controller"}
    if bool(shared) != (run.mode in ("default", "standard")):
        raise Failed(f"in mode {run.mode} there are {', '.join(shared) or 'no'} shared data planes")


def follow(running: Process, tests: int) -> None:
    """Wait until the suite has ended; on a terminal, say which test it is at. Raises TimeoutError."""
    end, shown = time.monotonic() + RUN_SECONDS, 0
    while running.poll() is None:
        if time.monotonic() > end:
            running.kill()
            raise TimeoutError(f"the suite did not end within {RUN_SECONDS:.0f} s")
        names = suite.started(running.output()) if sys.stdout.isatty() else []
        if len(names) > shown:
            shown = len(names)
            print(f"\r\033[K  {shown} begun, {tests} wanted: {names[-1]}", end="", flush=True)
        time.sleep(LOOK_SECONDS)
    if shown:
        print("\r\033[K", end="")


def keep_logs(cluster: Cluster, run: Run) -> None:
    """What gwfast's Pods have said, beside the suite's own log."""
    for pod in cluster.objects("Pod"):
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if any("gwfast" in one["image"] for one in pod["spec"]["containers"]):
            said = cluster.kubectl("logs", name, "-n", namespace, check=False)
            (LOGS / f"{run.name}-{namespace}-{name}.log").write_text(said)


def prepare(release: binaries.Release) -> tuple[Path, list[suite.Test]]:
    """Where the suite and its echo server are, built where that has to be, and which tests the suite has."""
    there = binaries.folder()
    try:
        if "GWFAST_CLUSTER_BIN" in os.environ and (there / release.echo).exists():
            return there, suite.registered(str(there / release.suite))
    except (RuntimeError, OSError):
        pass  # what was built elsewhere is of another version of the project
    binaries.build_all([release.suite, release.echo])
    there = binaries.BUILD / "bin"
    return there, suite.registered(str(there / release.suite))


def conduct(run: Run) -> int:
    """Run the suite. Returns the exit status, once everything is said."""
    programs, tests = prepare(run.release)
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in (*LOGS.glob(f"{run.name}-*.log"), run.report, run.log):
        old.unlink(missing_ok=True)
    echo = [(r"(^|/)echo-(basic|advanced)(:|@|$)", {"entrypoint": [str(programs / run.release.echo)]})]
    began = time.monotonic()
    with Cluster(images=echo) as cluster:
        features = install(cluster, run)
        print(f"conformance: Gateway API {run.version}, {MODES[run.mode]} channel, {run.mode}: gwfast is there after "
              f"{time.monotonic() - began:.0f} s and claims {len(features)} features; the suite has {len(tests)} tests for Gateways", flush=True)
        began = time.monotonic()
        running = cluster.conformance(*run.suite_flags(), log=run.log, program=str(programs / run.release.suite))
        follow(running, len(tests))
        took = time.monotonic() - began
        verdict = suite.judge([test for test in tests if test.name not in run.apart], features, suite.results(running.output()))
        confirm(cluster, run)
        if running.returncode or not verdict.complete:
            keep_logs(cluster, run)
    return conclude(run, verdict, running.returncode, len(tests), took)


def conclude(run: Run, verdict: suite.Verdict, status: int, tests: int, took: float) -> int:
    ran = len(verdict.passed) + len(verdict.failed)
    print(f"conformance: {ran} of {tests} tests ran in {took:.0f} s: {len(verdict.passed)} passed, {len(verdict.failed)} failed")
    for name in verdict.failed:
        print(f"  FAILED  {name}")
    if run.flags:
        print(f"conformance: the log is {shown(run.log)}")
        return status
    for reason in dict.fromkeys(run.apart.values()):
        names = [name for name, why in run.apart.items() if why == reason]
        print(f"  {len(names)} left out, for {reason}: {', '.join(names)}")
    for name, lacking in verdict.left_out.items():
        print(f"  left out, for {' and '.join(lacking)} is not claimed: {name}")
    for name in verdict.missing:
        print(f"  DID NOT RUN  {name}")
    if run.report.exists():
        for one in suite.Report(run.report.read_text()).profiles.values():
            print(f"  {one.name:13} {one.summary} (core {one.core.passed}, extended {one.extended.passed}, {len(one.features)} features)")
    if status or not verdict.complete:
        print(f"conformance: FAILED, with exit status {status} of the suite; the logs are {shown(LOGS)}/{run.name}*")
        return status or 1
    print(f"conformance: the report is {shown(run.publish())}")
    return 0


def shown(path: Path) -> str:
    return os.path.relpath(path)


def arguments(argv: list[str]) -> Run:
    parser = argparse.ArgumentParser(prog="conformance", allow_abbrev=False)
    parser.add_argument("--mode", choices=list(MODES), default="default")
    parser.add_argument("--version", default=binaries.GATEWAY_API, type=lambda told: "v" + told.removeprefix("v"), choices=list(binaries.RELEASES))
    parser.add_argument("--to", type=Path, default=PUBLISHED)
    told, flags = parser.parse_known_args(argv)
    return Run(told.mode, told.version, told.to, flags)


def main(argv: list[str]) -> int:
    run = arguments(argv)
    try:
        return conduct(run)
    except (Failed, RuntimeError, TimeoutError, OSError) as problem:
        print(f"conformance: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
