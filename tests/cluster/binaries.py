"""The programs that a cluster is made of, and the Gateway API's CRDs: built once, from Go modules.

    python tests/cluster/binaries.py [PROGRAM...]     builds what is missing or out of date, into build/cluster
    python tests/cluster/binaries.py --missing        says why no cluster can run here, and fails where that is so

Nothing is fetched but Go modules (programs/*/go.mod, pinned by go.sum). Cold, on two cores, it takes a quarter of an hour and
6 GB of Go's caches; what has been built from the same go.sum stays. GWFAST_CLUSTER_BIN names a folder of programs that were built
elsewhere; it is used as it is. `missing()` says in one sentence why no cluster can run here.

The conformance suite, its echo server and the CRDs are of a release of the Gateway API (RELEASES): the first is what everything is
tested with; another one is built when it is asked for, with the Go that its go.mod names (`toolchain`), which Go fetches itself.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
BUILD = HERE.parents[1] / "build" / "cluster"
TOOLS = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "mount": "mount"}


class Program(NamedTuple):
    """A main package of a module in programs/, or the tests of that module."""
    module: str
    package: str
    flags: tuple[str, ...] = ("-ldflags=-s -w",)
    verb: tuple[str, ...] = ("build",)


KUBERNETES = ("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}",)
NEEDED = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", KUBERNETES),
    "kube-controller-manager": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", KUBERNETES),
    "echo-basic": Program("gateway-api", "sigs.k8s.io/gateway-api/conformance/echo-basic"),
}
WHERE_ABSENT = {"kubectl": Program("kubernetes", "k8s.io/kubernetes/cmd/kubectl", KUBERNETES)}
SUITE = ((), ("test", "-c"))
BESIDE = {"conformance.test": Program("gateway-api", ".", *SUITE)}
ASKED_FOR = {
    "conformance-1.7.0.test": Program("gateway-api-1.7.0", ".", *SUITE),
    "echo-basic-1.7.0": Program("gateway-api-1.7.0", "sigs.k8s.io/gateway-api-conformance-images/echo-basic"),
}


class Release(NamedTuple):
    """What is of one release of the Gateway API: names of programs, and the module in programs/ that they are built in."""
    module: str
    suite: str
    echo: str


RELEASES = {
    "v1.6.1": Release("gateway-api", "conformance.test", "echo-basic"),
    "v1.7.0": Release("gateway-api-1.7.0", "conformance-1.7.0.test", "echo-basic-1.7.0"),
}
GATEWAY_API = next(iter(RELEASES))


def folder() -> Path:
    """Where the programs are."""
    return Path(os.environ.get("GWFAST_CLUSTER_BIN") or BUILD / "bin")


def program(name: str) -> str:
    """Return the path of a program; kubectl may be this machine's own."""
    built = folder() / name
    return str(built) if built.exists() or name not in WHERE_ABSENT else shutil.which(name) or str(built)


@cache
def missing() -> str:
    """Say in one sentence why no cluster can run here; empty where it can."""
    if sys.platform != "linux" or os.geteuid():
        return "a cluster needs Linux and root, for it lives in namespaces of its own"
    if absent := sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)}):
        return f"a cluster needs {' and '.join(absent)} (Debian's names)"
    if absent := [name for name in (*NEEDED, *WHERE_ABSENT) if not os.access(program(name), os.X_OK)]:
        return (f"a cluster needs {', '.join(absent)}: `make cluster-tools` builds them, once, in a quarter of an hour "
                "(or GWFAST_CLUSTER_BIN names a folder that has them)")
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"no namespaces can be made here: {probe.stderr.strip()}" if probe.returncode else ""


def crds(channel: str = "experimental", version: str = GATEWAY_API) -> list[Path]:
    """Return the files of the Gateway API's bundle (standard or experimental), from the module itself."""
    kept = BUILD / "crds" / version / channel
    if not kept.is_dir():
        source = Path(module_folder("sigs.k8s.io/gateway-api", version), "config", "crd", channel)
        kept.parent.mkdir(parents=True, exist_ok=True)
        background = Path(tempfile.mkdtemp(dir=kept.parent))
        for file in source.glob("gateway.networking*.yaml"):
            (background / file.name).write_bytes(file.read_bytes())
        try:
            background.rename(kept)
        except OSError:  # somebody else was faster
            shutil.rmtree(background)
    return sorted(kept.iterdir())


def module_folder(name: str, version: str, timeout: float | None = None) -> str:
    """Where Go keeps a module, with the Go that knows it: that of the release of this version, or else the oldest that serves.

    timeout: seconds. Raises RuntimeError where it cannot be had."""
    module = RELEASES.get(version, RELEASES[GATEWAY_API]).module
    try:
        told = subprocess.run([*go(), "mod", "download", "-json", f"{name}@{version}"], capture_output=True, text=True,
                              cwd=PROGRAMS / module, env=environment(module), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name} {version} did not come within {timeout:g} s") from None
    answer = json.loads(told.stdout or "{}")
    if "Dir" not in answer:
        raise RuntimeError(f"{name} {version} cannot be had: {answer.get('Error') or told.stderr.strip()}")
    return answer["Dir"]


# ---- building


def go() -> list[str]:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not found:
        raise RuntimeError("a cluster's programs are built with Go, and there is none (Debian: golang-go; or go.dev/dl)")
    return [found]


def environment(module: str) -> dict[str, str]:
    """Of Go, for a module in programs/: one that names a toolchain gets it, or this machine's where that is newer."""
    told = {"GOFLAGS": "-mod=mod", "GOWORK": "off"}
    return os.environ | told | ({"GOTOOLCHAIN": "auto"} if "\ntoolchain " in (PROGRAMS / module / "go.mod").read_text() else {})


def replaced(module: str) -> list[str]:
    """What a module in programs/ has in the place of something else: `NAME VERSION for VERSION`."""
    lines = (PROGRAMS / module / "go.mod").read_text().splitlines()
    asked = dict(line.split()[:2] for line in lines if line.startswith("\t"))
    pairs = [line.removeprefix("replace ").split(" => ") for line in lines if line.startswith("replace ")]
    return [f"{new} for {asked[old]}" for old, new in pairs]


def fingerprint(name: str, made: Program) -> str:
    """What a program is built from, in one word."""
    files = sorted((PROGRAMS / made.module).iterdir())
    return hashlib.sha256(b"\0".join([repr(made).encode(), *(file.read_bytes() for file in files)])).hexdigest()


def build(name: str, made: Program, to: Path) -> None:
    """Build one program, unless the one that is there was built from the same."""
    target, stamp = to / name, to / f".{name}.built-from"
    mark = fingerprint(name, made)
    if target.exists() and stamp.exists() and stamp.read_text() == mark:
        return
    source = to.parent / "source" / made.module  # a copy: Go may write into go.sum
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(PROGRAMS / made.module, source)
    flags = [flag.format(version=kubernetes_version()) for flag in made.flags]
    began = time.monotonic()
    background = to / f"{name}.new"
    done = subprocess.run([*go(), *made.verb, *flags, "-o", str(background), made.package], cwd=source, env=environment(made.module),
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} cannot be built:\n{done.stderr.strip()[-2000:]}")
    background.replace(target)  # whoever runs the old one goes on
    stamp.write_text(mark)
    print(f"{name}: built in {time.monotonic() - began:.0f} s", flush=True)


def kubernetes_version() -> str:
    words = (PROGRAMS / "kubernetes" / "go.mod").read_text().split()
    return words[words.index("k8s.io/kubernetes") + 1]


def wanted(names: list[str]) -> dict[str, Program]:
    absent = {name: made for name, made in WHERE_ABSENT.items() if not shutil.which(name)}
    every = NEEDED | WHERE_ABSENT | BESIDE | ASKED_FOR
    return {name: every[name] for name in names} if names else NEEDED | absent | BESIDE


def build_all(names: list[str]) -> None:
    """Build these programs, or those that everything needs. Raises RuntimeError, and KeyError where there is no such program."""
    to = BUILD / "bin"
    to.mkdir(parents=True, exist_ok=True)
    for name, made in wanted(names).items():
        build(name, made, to)


def main(names: list[str]) -> int:
    try:
        build_all(names)
        crds()
    except (RuntimeError, KeyError) as problem:
        print(f"cluster: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--missing"]:
        print(missing())
        sys.exit(bool(missing()))
    sys.exit(main(sys.argv[1:]))
