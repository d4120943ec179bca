# Writes the part of an image that find() reads: names, hosts, paths, candidates, predicates, automata.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast._table cimport Text

# Memory that grows; what was written stays at its offset.
cdef class Arena:
    cdef char *at
    cdef size_t used
    cdef size_t room
    cdef ssize_t push(self, size_t n) except -1        # offset of n zeroed bytes
    cdef ssize_t take(self, size_t n) except -1        # the same, n rounded up to a multiple of 8
    cdef int reserve(self, size_t n) except -1

# The text section: each string once.
cdef class Texts:
    cdef Arena arena
    cdef dict places
    cdef int put(self, str s, Text *text) except -1

# One plan Entry in the terms of the image.
cdef struct Term:
    uint64_t hash          # of the path
    const char *path       # lives as long as the plan's Match; of a pattern: see Terms.elements
    uint32_t n
    uint32_t rule
    uint32_t predicates
    uint32_t automaton
    uint8_t kind           # TermKind
    uint8_t method
    uint8_t headers
    uint8_t queries

cdef enum TermKind:
    TERM_EXACT = 0
    TERM_PREFIX
    TERM_REGEX

# What all hosts share: predicates and automata.
cdef class Terms:
    cdef Texts texts
    cdef Arena predicates
    cdef Arena automata
    cdef dict patterns     # pattern -> offset of its automaton in units of 8 bytes
    cdef dict literals     # pattern -> Terms.elements(pattern)
    cdef bytes elements(self, str pattern)
    cdef int put(self, object match, uint32_t rule, Term *term) except -1
    cdef int conditions(self, tuple headers, tuple query, Term *term) except -1
    cdef int condition(self, str name, object condition) except -1
    cdef uint32_t automaton(self, str pattern) except? 0

# A hostname: 'a.example' (or '.example' for '*.example') with its hash; n == 0 for any.
cdef struct Name:
    Text text
    uint64_t hash
    uint32_t labels        # of a wildcard; else 0

# The block of one plan Host.
cdef class HostBlock:
    cdef readonly object host
    cdef Name name
    cdef Term *terms
    cdef uint32_t count
    cdef Arena blob

cdef HostBlock write_host(object host, Term *terms, uint32_t count, Terms shared)
cdef int make_name(Name *name, str hostname, Texts texts) except -1
# An empty Names table for `count` names at the end of the arena; returns its offset.
cdef ssize_t write_names(Arena arena, uint32_t count) except -1
# Adds to it; the first value for a name stays.
cdef void set_name(Arena arena, ssize_t at, const Name *name, uint32_t value) noexcept
