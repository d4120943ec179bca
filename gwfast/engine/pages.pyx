"""Blocks of whole pages (see pages.pxd)."""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from gwfast.engine.sys cimport *


cdef int more(Blocks *blocks) noexcept nogil:
    """Map a chunk, all of it cold."""
    cdef uint32_t i
    cdef void *mapped
    cdef void **cold = <void **>realloc(blocks.cold, (blocks.count + 1) * CHUNK * sizeof(void *))
    cdef void **chunks
    if cold == NULL:
        return -1
    blocks.cold = cold
    chunks = <void **>realloc(blocks.chunks, (blocks.count + 1) * sizeof(void *))
    if chunks == NULL:
        return -1
    blocks.chunks = chunks
    mapped = mmap(NULL, CHUNK * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if mapped == MAP_FAILED:
        return -1
    blocks.chunks[blocks.count] = mapped
    blocks.count += 1
    for i in range(CHUNK):
        blocks.cold[blocks.colds] = <char *>mapped + i * BLOCK_BYTES
        blocks.colds += 1
    return 0


cdef void *block_take(Blocks *blocks) noexcept nogil:
    if blocks.hots:
        blocks.hots -= 1
        return blocks.hot[blocks.hots]
    if blocks.colds == 0 and more(blocks) < 0:
        return NULL
    blocks.colds -= 1
    return blocks.cold[blocks.colds]


cdef void block_give(Blocks *blocks, void *block) noexcept nogil:
    if blocks.hots < HOT:
        blocks.hot[blocks.hots] = block
        blocks.hots += 1
        return
    madvise(block, BLOCK_BYTES, MADV_DONTNEED)
    blocks.cold[blocks.colds] = block
    blocks.colds += 1


cdef void blocks_free(Blocks *blocks) noexcept nogil:
    cdef uint32_t i
    for i in range(blocks.count):
        munmap(blocks.chunks[i], CHUNK * BLOCK_BYTES)
    free(blocks.chunks)
    free(blocks.cold)
    memset(blocks, 0, sizeof(Blocks))
