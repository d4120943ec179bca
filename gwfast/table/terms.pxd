# What a match of the plan is in the terms of an image, and what all hosts share for that: predicates and automata.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast.table.arena cimport Arena
from gwfast.table.image cimport Sections, Texts

cdef enum TermKind:
    TERM_EXACT = 0
    TERM_PREFIX
    TERM_REGEX
    TERM_CALL              # a regular expression of a GRPCRoute
    TERM_KINDS             # how many

# One plan Entry.
cdef struct Term:
    uint64_t hash          # of the path
    const char *path       # lives as long as the plan's Match; of a pattern: see Terms.elements
    uint32_t n
    uint32_t rule
    uint32_t predicates
    uint32_t pattern       # of a regular expression: its number in Terms.patterns
    uint8_t kind           # TermKind
    uint8_t method
    uint8_t headers
    uint8_t queries
    uint8_t asks           # on a field that is the gateway's to say

cdef inline bint asks_nothing(const Term *term) noexcept nogil:
    return not (term.method or term.headers or term.queries)

cdef class Terms:
    cdef Sections sections
    cdef Texts texts
    cdef Arena *automata
    cdef dict automaton_places     # pattern, or the key of a plan.union.Part -> offset in units of 8 bytes
    cdef list patterns     # on paths
    cdef dict numbers      # of these
    cdef object unions     # as plan.union.split knows them
    cdef dict literals     # pattern -> Terms.elements(pattern)
    cdef bytes elements(self, str pattern)
    cdef int put(self, object match, uint32_t rule, bint grpc, Term *term) except -1
    cdef int conditions(self, tuple headers, tuple query, Term *term) except -1
    cdef uint32_t condition(self, str name, object condition) except? 0
    cdef uint32_t number(self, str pattern) except? 0
    cdef uint32_t automaton(self, str pattern) except? 0
    cdef uint32_t automaton_of(self, tuple key, bytes written) except? 0
