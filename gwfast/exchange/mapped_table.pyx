"""A table image in a worker's memory (see mapped_table.pxd)."""
import os

cimport cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from gwfast._match cimport check
from gwfast.engine.sys cimport MAP_FAILED, MAP_PRIVATE, PROT_READ, errno, mmap, munmap
from gwfast.table.layout cimport SECTION_BINDS, Bind, Image, bind_at, count_of


@cython.final
@cython.no_gc
cdef class MappedTable:
    """A table image, mapped from a descriptor; raises ValueError where it is not one."""

    def __cinit__(self, int fd):
        cdef uint32_t i, id
        cdef void *base
        self.size = os.fstat(fd).st_size
        if self.size < sizeof(Image):
            raise ValueError("not a table image: too short")
        # private: before Linux 6.7 a sealed memfd cannot be mapped shared; the pages are the same ones
        base = mmap(NULL, self.size, PROT_READ, MAP_PRIVATE, fd, 0)
        if base == MAP_FAILED:
            raise OSError(errno, "cannot map the table image")
        self.image = <const Image *>base
        if check(self.image, self.size) != 0:
            raise ValueError("not a table image of this version")
        for i in range(count_of(self.image, SECTION_BINDS)):
            self.ids = max(self.ids, bind_at(self.image, i).id + 1)
        if self.ids > 1 << 20:
            raise ValueError("not a table image: a bind's number is out of range")
        self.index = <uint32_t *>calloc(self.ids + 1, sizeof(uint32_t))
        if self.index == NULL:
            raise MemoryError
        for i in range(count_of(self.image, SECTION_BINDS)):
            id = bind_at(self.image, i).id
            self.index[id] = i + 1

    def __dealloc__(self):
        free(self.index)
        if self.image != NULL:
            munmap(<void *>self.image, self.size)

    cdef const Bind *bind(self, uint32_t bind_id) noexcept:
        if bind_id >= self.ids or self.index[bind_id] == 0:
            return NULL
        return bind_at(self.image, self.index[bind_id] - 1)
