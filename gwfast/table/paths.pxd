# The index of one host: its paths, and what hangs below them.
from libc.stdint cimport uint32_t
from gwfast.table.arena cimport Arena
from gwfast.table.terms cimport Term, Terms

# Writes a HostIndex and what hangs below it to the end of an arena whose base is there; returns how many paths it has.
cdef uint32_t write_host(Arena *blob, Term *terms, uint32_t count, Terms shared) except? 0
# Brings a HostIndex of `paths` paths, at the base of the arena, to what its terms are after those of `touched` came or went; what
# is new is written to the arena's end. False: it must be written as a whole.
cdef bint patch_host(Arena *blob, Term *terms, uint32_t count, uint32_t *paths, const Term *touched, uint32_t n,
                     Terms shared) except? False
