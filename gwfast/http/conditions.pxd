# Does a candidate hold for a request: its method, its conditions on header fields and on query parameters.
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.automaton cimport Automaton
from gwfast.http.head cimport RequestHead
from gwfast.table.layout cimport Candidate, Image

cdef enum:
    MAX_PARAMETERS = 256   # of a query: those behind are not seen (limits.QUERY_PARAMETERS)

cdef struct Parameter:
    const char *name
    const char *value
    uint32_t name_len
    uint32_t value_len
    uint32_t hash

# A request while its rule is searched.
cdef struct MatchedRequest:
    const Image *image
    const RequestHead *head
    const char *host           # the HostIndex that is searched: what its nodes' offsets count from
    uint32_t ordinal           # the best so far; NONE: nothing yet
    uint32_t rule
    int parameters             # -1: the query was not parsed yet
    Parameter parameter[MAX_PARAMETERS]    # decoded: in head.room, behind the paths

# An automaton on its way through a value that may come in pieces.
cdef struct AutomatonRun:
    const Automaton *automaton
    uint32_t state
    uint64_t places[4]

cdef bint holds(MatchedRequest *asked, const Candidate *candidate) noexcept nogil

# ---- Header fields: `i` is the index of a line in head.fields; -1: none ----
cdef int first_line(const RequestHead *head, uint32_t hash, const char *name, uint32_t n) noexcept nogil
# The value that begins with line `i`; the hash is that of hash_bytes().
cdef bint header_equals(const RequestHead *head, int i, const char *value, uint32_t n) noexcept nogil
cdef uint64_t header_hash(const RequestHead *head, int i) noexcept nogil

# ---- The query: the number of parameters; parses them into asked.parameter at the first call ----
cdef int parameters(MatchedRequest *asked) noexcept nogil

# ---- Automata ----
cdef void automaton_begin(AutomatonRun *run, const Image *image, uint32_t at) noexcept nogil
cdef void automaton_read(AutomatonRun *run, const char *at, uint32_t n) noexcept nogil
cdef bint automaton_accepts(const AutomatonRun *run) noexcept nogil
# Sets bit i of `found`, which has a word for each 64 patterns, where pattern i of an automaton of several matches.
cdef void run_union(const Automaton *automaton, const char *at, uint32_t n, uint64_t *found) noexcept nogil
