# Blocks of whole pages, for what a connection needs only while it works (the tables of HPACK). What is given back leaves memory
# at once: pages that lie between those of others would stay with malloc, and connections that come together rest together.
#
#     take: one of the hot, whose pages are there; else a cold one, whose pages the kernel has; else of a new mapping of CHUNK
#     give: to the hot while there are few, else to the cold
from libc.stdint cimport uint32_t

cdef enum:
    BLOCK_BYTES = 16384        # limits.TABLE_BLOCK_BYTES
    HOT = 64                   # limits.TABLE_BLOCKS_KEPT
    CHUNK = 64

cdef struct Blocks:
    void *hot[HOT]
    uint32_t hots
    void **cold                # room for as many as were ever mapped
    uint32_t colds
    void **chunks              # what was mapped
    uint32_t count             # of chunks

cdef void *block_take(Blocks *blocks) noexcept nogil               # NULL: no memory
cdef void block_give(Blocks *blocks, void *block) noexcept nogil
cdef void blocks_free(Blocks *blocks) noexcept nogil               # with all that was taken
