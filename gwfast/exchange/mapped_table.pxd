# A table image in a worker's memory: mapped from a descriptor, and unmapped with the last request that was begun on it.
from libc.stdint cimport uint32_t
from gwfast.table.layout cimport Bind, Image

cdef class MappedTable:
    cdef const Image *image
    cdef size_t size
    cdef uint32_t *index       # bind id -> index of the bind, from 1 on; 0: there is none
    cdef uint32_t ids
    cdef const Bind *bind(self, uint32_t bind_id) noexcept     # NULL: the table has none with this id
