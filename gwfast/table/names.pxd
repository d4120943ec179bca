# Hostnames, and the tables that lead from them to what has the name.
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.arena cimport Arena
from gwfast.table.image cimport Texts
from gwfast.table.layout cimport Text

# A hostname: 'a.example' (or '.example' for '*.example') with its hash; n == 0 for any.
cdef struct Name:
    Text text
    uint64_t hash
    uint32_t labels        # of a wildcard; else 0

# `once`: its text is that of every equal name.
cdef int make_name(Name *name, str hostname, Texts texts, bint once) except -1
# An empty Names table for `count` names at the end of the arena; returns its offset.
cdef ssize_t write_names(Arena *arena, uint32_t count) except -1
# How many names it has room for.
cdef uint32_t room_for_names(Arena *arena, ssize_t at) noexcept
# Adds to it; of several values for a name the first stays, unless `again`.
cdef void set_name(Arena *arena, ssize_t at, const Name *name, uint32_t value, bint again) noexcept
cdef void remove_name(Arena *arena, ssize_t at, const Name *name, Texts texts) noexcept
