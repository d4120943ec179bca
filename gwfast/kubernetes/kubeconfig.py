"""Where the API server is and who we are: in a cluster, or by kubeconfig files."""
import msgspec


class Access(msgspec.Struct, frozen=True):
    """How to reach an API server."""

    server: str  # https://host:port/prefix, without a slash at its end
    namespace: str = "default"  # the context's, or the Pod's


def in_cluster(folder: str = "/var/run/secrets/kubernetes.io/serviceaccount") -> Access:
    """Read what a Pod is given; UsageError where this is none."""


def from_kubeconfig(path: str = "", context: str = "") -> Access:
    """Read kubeconfig files: `path`, else those of $KUBECONFIG, else ~/.kube/config; UsageError names file, context, field."""
