"""Threads that write to the API server, so that nobody else waits for it.

    work.later(job, argument)    once, and again every 0.2 s while the API server cannot be reached or is overloaded
    work.tell(pod)               work.report(pod) soon; never twice at a time for one Pod, for the later status would be the older
"""
import http.client
import queue
import threading
from collections.abc import Callable, Hashable

from kubeapi import ApiError
from node.container import now

AGAIN_SECONDS = 0.2


def is_final(problem: Exception) -> bool:
    """Whether there is nothing to write any more: what it was for is gone, or another one has its name."""
    code = getattr(problem, "code", 0)
    return code == 404 or code == 409 and "has been modified" not in str(problem)


class Work:
    """`threads` threads; `report` is what is done for a Pod that is told of."""

    def __init__(self, threads: int, report: Callable[[Hashable], None]):
        self._report = report
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._told: dict[Hashable, bool] = {}  # Pods that are being reported; whether they were told of again meanwhile
        self._lock = threading.Lock()
        for _ in range(threads):
            threading.Thread(target=self._run, name="writer", daemon=True).start()

    def later(self, job: Callable, *arguments: object) -> None:
        self._queue.put((job, arguments))

    def tell(self, pod: Hashable) -> None:
        with self._lock:
            if pod in self._told:
                self._told[pod] = True
                return
            self._told[pod] = False
        self.later(self._tell, pod)

    def _tell(self, pod: Hashable) -> None:
        self._report(pod)  # where it raises, this is done again, and the Pod stays among those that are reported
        with self._lock:
            again = self._told.pop(pod)
        if again:
            self.tell(pod)

    def _run(self) -> None:
        while True:
            job, arguments = self._queue.get()
            try:
                job(*arguments)
            except ApiError as problem:
                if not is_final(problem):
                    self._again(job, arguments, problem)
            except (OSError, http.client.HTTPException) as problem:
                self._again(job, arguments, problem)

    def _again(self, job: Callable, arguments: tuple, problem: Exception) -> None:
        print(f"{now()} {job.__name__}: {problem!r}", flush=True)
        threading.Timer(AGAIN_SECONDS, self.later, (job, *arguments)).start()
