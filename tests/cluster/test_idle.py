"""A cluster in which nothing happens: nothing is written to the API server but the Lease of who leads."""
import re
from collections import Counter

import pytest

from cluster import Cluster
from installed import BACKEND, address, install_yaml, routed

WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")
RENEWALS = 10  # of the Lease, in which nothing else is written
SETTLED = 3  # the same, before it is counted
# What others write by themselves: a node and the Kubernetes controllers say that they live, a data plane's token is reviewed.
OTHERS = {("", "nodes"), ("", "pods"), ("", "events"), ("events.k8s.io", "events"), ("authentication.k8s.io", "tokenreviews"),
          ("authorization.k8s.io", "subjectaccessreviews"), ("discovery.k8s.io", "endpointslices"), ("", "endpoints")}


@pytest.fixture
def cluster(fresh_cluster: Cluster) -> Cluster:
    return fresh_cluster


def writes(cluster: Cluster) -> Counter[str]:
    """Return how often the API server was asked to write, by verb and resource."""
    counts: Counter[str] = Counter()
    for labels, value in re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", cluster.api.get("/metrics"), re.M):
        said = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if said["verb"] in WRITES and (said["group"], said["resource"]) not in OTHERS:
            counts[f"{said['verb']} {said['resource']} {said['subresource']}".strip()] += int(float(value))
    return counts


def renewed(cluster: Cluster) -> tuple[int, str]:
    """Return the version of the Lease that says who leads."""
    (lease,) = [each for each in cluster.objects("Lease", "gwfast-system") if "gwfast" in each["metadata"]["name"]]
    return int(lease["metadata"]["resourceVersion"]), lease["spec"]["renewTime"]


def beside_leases(cluster: Cluster, renewals: int) -> Counter[str]:
    """Return what else is written while the Lease is renewed so many times."""
    before, seen = writes(cluster), {renewed(cluster)}

    def often() -> bool:
        seen.add(renewed(cluster))
        return len(seen) > renewals
    cluster.wait_for(often, "the Lease to be renewed", 180)
    new = writes(cluster) - before
    return Counter({what: count for what, count in new.items() if " leases" not in what})


def test_nothing_is_written_but_the_lease(cluster: Cluster) -> None:
    install_yaml(cluster)
    cluster.apply(BACKEND + routed("one") + routed("two"))
    for name in ("one-gateway", "two-gateway"):
        address(cluster, name)
    cluster.wait_for(lambda: not beside_leases(cluster, SETTLED), "everything to be written", 300)
    written = beside_leases(cluster, RENEWALS)
    assert not written, written
