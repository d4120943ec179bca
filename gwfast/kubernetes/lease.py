"""One leader, by a Lease (coordination.k8s.io/v1), as client-go elects it."""
from collections.abc import Callable

from gwfast.kubernetes.client import Client


class Election:
    """Stands for election; `changed(leads)` is called on the event loop. Ask `leads` before each write."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str, changed: Callable[[bool], None], *,
                 duration: float = 15.0, renew: float = 10.0, retry: float = 2.0, log=None):
        ...

    @property
    def leads(self) -> bool:
        """Whether the lease is ours, by the monotonic clock of this moment: a process that was frozen sees that it is over."""

    async def run(self) -> None:
        """Stand, renew, and stand again, until cancelled; never raises."""

    async def release(self) -> None:
        """Give the lease back, where it is ours, so that another need not wait; after run() was cancelled."""
