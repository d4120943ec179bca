"""A cluster for the tests of this folder (cluster.py): one for each process of pytest, started when the first test asks for it.

    def test_something(cluster, namespace): ...      the process' own cluster, and a namespace that is this test's alone
    def test_other(new_cluster): new_cluster(authorization="AlwaysAllow")       one apart, ended with the test
    def test_third(fresh_cluster): ...               one apart with the usual CRDs, in which nothing is installed

A test may kill or freeze any part of its cluster; what it leaves so is mended behind it. Where no cluster can run, each test
says why it is skipped.
"""
import itertools
from collections.abc import Callable, Iterator

import pytest

import binaries
from cluster import Cluster

LOG_LINES = 40  # of each program, under a test that failed
TALKATIVE = ("etcd", "kube-apiserver", "kube-controller-manager")  # of whom a few lines are enough
numbers = itertools.count(1)


def require_cluster() -> None:
    if why := binaries.missing():
        pytest.skip(why)


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[Cluster]:
    require_cluster()
    with Cluster() as cluster:
        cluster.install_crds()
        yield cluster


@pytest.fixture
def cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    yield session_cluster
    session_cluster.mend()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own; it is deleted behind it, and nobody waits until that is done."""
    name = f"test-{next(numbers)}"
    cluster.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.wait_for(lambda: cluster.get("ServiceAccount", "default", name), "the namespace's ServiceAccount")
    yield name
    cluster.mend()
    cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def new_cluster() -> Iterator[Callable[..., Cluster]]:
    require_cluster()
    made: list[Cluster] = []

    def make(**options: object) -> Cluster:
        made.append(Cluster(**options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def fresh_cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    made = new_cluster()
    made.install_crds()
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Show the ends of the logs under a test that failed."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster) and cluster.state.is_dir():
        for log in sorted(cluster.state.glob("*.log")):
            if lines := log.read_text(errors="replace").splitlines()[-(5 if log.stem in TALKATIVE else LOG_LINES):]:
                report.sections.append((log.name, "\n".join(lines)))
    return report
