"""Writes a plan as a table image, which workers map into their memory and serve from. The layout is in `table/layout.pxd`."""
import fcntl
import gc
import os
from collections.abc import Mapping

from gwfast.table.image import SEALS, Image
from gwfast.table.writer import Writer
from gwfast.plan.ir import Plan


AHEAD_MOST = 32 << 20  # bytes of memory that wait for the next image: 50,000 routes have such an image
GROWTH = 16  # the next image is expected to be no more than a GROWTHth longer than the last one


class Images:
    """Writes images; keeps what became of every object of the last plan, so that a change costs what changed."""

    def __init__(self, registry):
        self._registry = registry
        self._writer = Writer(registry)
        self._size = 0  # of the last image
        self._ahead: Image | None = None  # has memory, and nothing in it

    def prepare(self) -> None:
        """Get the memory of the next image, while nobody waits for that."""
        if self._ahead is None and 0 < self._size <= AHEAD_MOST:
            ahead = Image()
            ahead.make_room(self._size + self._size // GROWTH)
            self._ahead = ahead

    def build(self, plan: Plan, bind_ids: Mapping[str, int], generation: int = 0) -> Image:
        """Return the image of `plan`, bytes-like, for the binds whose sockets `bind_ids` {Bind.key: id} names.

        Raises ValueError for what no valid plan holds (a pattern that `regex.check` refuses, for instance).
        """
        old = None
        collects = gc.isenabled()
        gc.disable()  # a writer makes many objects and no cycles
        try:
            if self._writer.wasteful:
                old, self._writer = self._writer, Writer(self._registry, self._writer.unions)
            ahead, self._ahead = self._ahead, None
            image = self._writer.write(plan, bind_ids, generation, ahead)
            self._size = image.size
            return image
        except BaseException:
            self._writer.close()  # half written: the next plan starts over
            self._writer = Writer(self._registry)
            raise
        finally:
            if old is not None:
                old.close()
            if collects:
                gc.enable()


def publish(image) -> int:
    """Return a new descriptor of a sealed memfd that holds `image`; the caller closes it."""
    if isinstance(image, Image):
        return os.dup(image.fd)
    fd = os.memfd_create("gwfast-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(image)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd
