# Writes the part of an image that find() reads: names, hosts, paths, candidates, predicates, automata.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast.table.arena cimport Arena
from gwfast.table.layout cimport Text

# The text section.
cdef class Texts:
    cdef Arena arena
    cdef dict places
    cdef int put(self, str s, Text *text) except -1       # each string once
    cdef int append(self, str s, Text *text) except -1    # for what is not asked for again

# One plan Entry in the terms of the image.
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

cdef enum TermKind:
    TERM_EXACT = 0
    TERM_PREFIX
    TERM_REGEX
    TERM_CALL              # a regular expression of a GRPCRoute

# What all hosts share: predicates and automata.
cdef class Terms:
    cdef Texts texts
    cdef Arena predicates
    cdef Arena automata
    cdef dict automaton_places     # pattern, or the key of a plan.union.Part -> offset in units of 8 bytes
    cdef list patterns     # on paths
    cdef dict numbers      # of these
    cdef object unions     # as plan.union.split knows them
    cdef dict literals     # pattern -> Terms.elements(pattern)
    cdef bytes elements(self, str pattern)
    cdef int put(self, object match, uint32_t rule, bint grpc, Term *term) except -1
    cdef int conditions(self, tuple headers, tuple query, Term *term) except -1
    cdef int condition(self, str name, object condition) except -1
    cdef uint32_t number(self, str pattern) except? 0
    cdef uint32_t automaton(self, str pattern) except? 0
    cdef uint32_t automaton_of(self, tuple key, bytes written) except? 0

# A hostname: 'a.example' (or '.example' for '*.example') with its hash; n == 0 for any.
cdef struct Name:
    Text text
    uint64_t hash
    uint32_t labels        # of a wildcard; else 0

# What became of one plan Host.
cdef class HostBlock:
    cdef object host
    cdef Name name
    cdef Term *terms
    cdef uint32_t count
    cdef uint32_t asking   # terms that ask what the gateway says of the client
    cdef uint32_t paths
    cdef size_t at         # in the index
    cdef size_t room       # what it took when it was written as a whole

# Writes a HostIndex and what hangs below it to the end of an arena whose base is there; returns how many paths it has.
cdef uint32_t write_host(Arena blob, Term *terms, uint32_t count, Terms shared) except? 0
# Brings a HostIndex, at the base of the arena, to what its terms are after those of `touched` came or went; what is new
# is written to the arena's end. False: it must be written as a whole.
cdef bint patch_host(Arena blob, HostBlock block, const Term *touched, uint32_t n, Terms shared) except? False
# `once`: its text is that of every equal name.
cdef int make_name(Name *name, str hostname, Texts texts, bint once) except -1
# An empty Names table for `count` names at the end of the arena; returns its offset.
cdef ssize_t write_names(Arena arena, uint32_t count) except -1
# How many names it has room for.
cdef uint32_t room_for_names(Arena arena, ssize_t at) noexcept
# Adds to it; of several values for a name the first stays, unless `again`.
cdef void set_name(Arena arena, ssize_t at, const Name *name, uint32_t value, bint again) noexcept
cdef void remove_name(Arena arena, ssize_t at, const Name *name, Texts texts) noexcept
