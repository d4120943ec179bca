"""A filter in Python as it was loaded (see filter_version.pxd)."""


cdef class FilterEntry:
    """A filter of a table."""


cdef class FilterVersion:
    """One load of a filter; it ends behind the last request that began with it."""

    def __init__(self, FilterEntry loaded not None, made, on_request, bint listens):
        self.loaded, self.made, self.on_request, self.listens = loaded, made, on_request, listens

    cdef int leave(self) except -1:
        self.inside -= 1
        if self.retired and self.inside == 0:
            self.end()
        return 0

    def retire(self) -> None:
        """Nobody begins with it any more."""
        self.retired = True
        if self.inside == 0:
            self.end()

    def end(self) -> None:
        """Nobody is inside, and nobody will be."""
