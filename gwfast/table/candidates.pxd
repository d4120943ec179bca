# The candidates of a path.
from libc.stdint cimport uint32_t
from gwfast.table.arena cimport Arena
from gwfast.table.terms cimport Term, Terms

cdef enum:
    CHAIN_END = 0xFFFFFFFF

# Writes the node of a chain of terms to the end of an arena, up to the first without conditions, and returns its offset: 0 for an
# empty chain. `next` leads from each term to the next one.
cdef uint32_t write_chain(Arena *blob, Term *terms, const uint32_t *next, uint32_t first, Terms shared) except? 0
# The same of a list of items.
cdef uint32_t write_list(Arena *blob, Term *terms, list items, Terms shared) except? 0
