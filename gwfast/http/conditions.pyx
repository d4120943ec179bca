# Does a candidate hold for a request: its method, its conditions on header fields and on query parameters.
#
# Rules:
# - several lines of one field are one value, joined with ', ' (RFC 9110 5.3), which is never put together: it is
#   compared, hashed and matched piece by piece; fields that will be dropped (names with '_') are not there
# - a query is parsed when the first condition asks for it, once: split at '&', percent-decoded, '+' as it is; the first
#   parameter of a name counts (H:685-698)
# - an automaton takes one step a byte: a deterministic one a table lookup, another at most 256 unions of sets of places
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memset

from gwfast.table.automaton cimport Automaton, automaton_at, next_states
from gwfast.http.bytes cimport alike, same_name
from gwfast.http.head cimport FIELD_UNDERSCORE, Field, RequestHead, name_hash
from gwfast.table.hash cimport HASH_SEED, hash_end, hash_step
from gwfast.table.layout cimport Candidate, Image, Predicate, predicate_at, text

cdef extern from *:
    int __builtin_ctzll(unsigned long long) nogil


cdef bint holds(MatchedRequest *asked, const Candidate *candidate) noexcept nogil:
    cdef const Predicate *predicate = predicate_at(asked.image, candidate.predicates)
    cdef uint32_t i
    if candidate.method and candidate.method != asked.head.method_id:
        return False
    for i in range(candidate.headers):
        if not header_holds(asked, predicate + i):
            return False
    predicate += candidate.headers
    for i in range(candidate.queries):
        if not query_holds(asked, predicate + i):
            return False
    return True


# ---- Header fields ----

cdef int first_line(const RequestHead *head, uint32_t hash, const char *name, uint32_t n) noexcept nogil:
    cdef int i
    for i in range(head.count):
        if head.fields[i].hash == hash and head.fields[i].name_len == n and \
                not head.fields[i].flags & FIELD_UNDERSCORE and same_name(name, head.fields[i].name, n):
            return i
    return -1


cdef inline int line_after(const RequestHead *head, int i) noexcept nogil:
    cdef const Field *field = &head.fields[i]
    for i in range(i + 1, head.count):
        if head.fields[i].hash == field.hash and head.fields[i].name_len == field.name_len and \
                not head.fields[i].flags & FIELD_UNDERSCORE and alike(head.fields[i].name, field.name, field.name_len):
            return i
    return -1


# Whether the value whose first line is `i` equals these bytes.
cdef bint header_equals(const RequestHead *head, int i, const char *value, uint32_t n) noexcept nogil:
    cdef const Field *field
    while True:
        field = &head.fields[i]
        if field.value_len > n or memcmp(field.value, value, field.value_len):
            return False
        value += field.value_len
        n -= field.value_len
        i = line_after(head, i)
        if i < 0:
            return n == 0
        if n < 2 or value[0] != c',' or value[1] != c' ':
            return False
        value += 2
        n -= 2


cdef inline uint64_t hash_value(uint64_t h, const char *value, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        h = hash_step(h, <uint8_t>value[i])
    return h


cdef uint64_t header_hash(const RequestHead *head, int i) noexcept nogil:
    cdef uint64_t h = HASH_SEED
    while True:
        h = hash_value(h, head.fields[i].value, head.fields[i].value_len)
        i = line_after(head, i)
        if i < 0:
            return hash_end(h)
        h = hash_value(h, b', ', 2)


cdef bint header_holds(MatchedRequest *asked, const Predicate *predicate) noexcept nogil:
    cdef const RequestHead *head = asked.head
    cdef AutomatonRun run
    cdef int i = first_line(head, predicate.hash, text(asked.image, predicate.name), predicate.name.n)
    if i < 0:
        return False
    if not predicate.automaton:
        return header_equals(head, i, text(asked.image, predicate.value), predicate.value.n)
    automaton_begin(&run, asked.image, predicate.automaton)
    while True:
        automaton_read(&run, head.fields[i].value, head.fields[i].value_len)
        i = line_after(head, i)
        if i < 0:
            return automaton_accepts(&run)
        automaton_read(&run, b', ', 2)


# ---- The query ----

cdef bint query_holds(MatchedRequest *asked, const Predicate *predicate) noexcept nogil:
    cdef const Parameter *p
    cdef AutomatonRun run
    cdef const char *name = text(asked.image, predicate.name)
    cdef int i
    for i in range(parameters(asked)):
        p = &asked.parameter[i]
        if p.hash != predicate.hash or p.name_len != predicate.name.n or memcmp(p.name, name, p.name_len):
            continue
        if not predicate.automaton:       # the first of a name counts (H:685-698)
            return p.value_len == predicate.value.n and \
                memcmp(p.value, text(asked.image, predicate.value), p.value_len) == 0
        automaton_begin(&run, asked.image, predicate.automaton)
        automaton_read(&run, p.value, p.value_len)
        return automaton_accepts(&run)
    return False


# The number of parameters; parses them at the first call. The first of each name is kept, '+' stays '+'.
cdef int parameters(MatchedRequest *asked) noexcept nogil:
    cdef const char *at = asked.head.query.at
    cdef const char *end
    cdef const char *stop
    cdef char *room = asked.head.room + 2 * asked.head.longest
    if asked.parameters >= 0:
        return asked.parameters
    asked.parameters = 0
    if at == NULL or asked.head.query.n > asked.head.longest:
        return 0
    end = at + asked.head.query.n
    while at < end and asked.parameters < MAX_PARAMETERS:
        stop = <const char *>memchr(at, c'&', end - at)
        if stop == NULL:
            stop = end
        if stop > at:
            room = parameter(asked, at, stop, room)
        at = stop + 1
    return asked.parameters


cdef char *parameter(MatchedRequest *asked, const char *at, const char *stop, char *room) noexcept nogil:
    cdef Parameter *p = &asked.parameter[asked.parameters]
    cdef const char *equals = <const char *>memchr(at, c'=', stop - at)
    cdef const char *name_end = equals if equals != NULL else stop
    cdef int i
    p.name = room
    room = decoded(at, name_end, room)
    p.name_len = <uint32_t>(room - p.name)
    p.value = room
    if equals != NULL:
        room = decoded(equals + 1, stop, room)
    p.value_len = <uint32_t>(room - p.value)
    p.hash = name_hash(p.name, p.name_len)
    for i in range(asked.parameters):
        if asked.parameter[i].hash == p.hash and asked.parameter[i].name_len == p.name_len and \
                memcmp(asked.parameter[i].name, p.name, p.name_len) == 0:
            return room
    asked.parameters += 1
    return room


cdef inline int digit(uint8_t c) noexcept nogil:
    if c >= c'0' and c <= c'9':
        return c - c'0'
    c |= 32
    return c - c'a' + 10 if c >= c'a' and c <= c'f' else -1


# Writes the bytes with %XX decoded; what is no escape stays as it is. Returns the end of what was written.
cdef char *decoded(const char *at, const char *stop, char *room) noexcept nogil:
    while at < stop:
        if at[0] == c'%' and stop - at > 2 and digit(at[1]) >= 0 and digit(at[2]) >= 0:
            room[0] = <char>(digit(at[1]) * 16 + digit(at[2]))
            at += 3
        else:
            room[0] = at[0]
            at += 1
        room += 1
    return room


# ---- Automata ----

cdef void automaton_begin(AutomatonRun *run, const Image *image, uint32_t at) noexcept nogil:
    run.automaton = automaton_at(image, at)
    run.state = run.automaton.start
    run.places[0] = 1
    run.places[1] = run.places[2] = run.places[3] = 0


cdef void automaton_read(AutomatonRun *run, const char *at, uint32_t n) noexcept nogil:
    cdef const Automaton *automaton = run.automaton
    cdef const uint16_t *states = <const uint16_t *>(automaton + 1)
    cdef uint32_t state = run.state
    cdef uint32_t i
    if automaton.states == 0:
        automaton_places(run, at, n)
        return
    for i in range(n):
        if state == 0:
            break
        state = states[state * automaton.classes + automaton.class_of[<uint8_t>at[i]]]
    run.state = state


# Every place at once: those that follow from where we are, and that the byte leads to.
cdef void automaton_places(AutomatonRun *run, const char *at, uint32_t n) noexcept nogil:
    cdef const uint64_t *follow = <const uint64_t *>(run.automaton + 1) + 4
    cdef const uint64_t *leading = follow + <size_t>run.automaton.places * 4
    cdef const uint64_t *here
    cdef uint64_t after[4]
    cdef uint64_t left
    cdef uint32_t i
    cdef int w, k
    for i in range(n):
        memset(after, 0, sizeof(after))
        for w in range(4):
            left = run.places[w]
            while left:
                here = follow + (w * 64 + __builtin_ctzll(left)) * 4
                left &= left - 1
                for k in range(4):
                    after[k] |= here[k]
        here = leading + <size_t>run.automaton.class_of[<uint8_t>at[i]] * 4
        for k in range(4):
            run.places[k] = after[k] & here[k]
        if not (run.places[0] | run.places[1] | run.places[2] | run.places[3]):
            break


cdef bint automaton_accepts(const AutomatonRun *run) noexcept nogil:
    cdef const uint64_t *accepting = <const uint64_t *>(run.automaton + 1)
    cdef int k
    if run.automaton.states:
        return run.state >= run.automaton.accept
    for k in range(4):
        if run.places[k] & accepting[k]:
            return True
    return False


cdef void run_union(const Automaton *automaton, const char *at, uint32_t n, uint64_t *found) noexcept nogil:
    cdef const uint16_t *states = <const uint16_t *>(automaton + 1)
    cdef const uint32_t *ends = <const uint32_t *>(<const char *>states + next_states(automaton))
    cdef const uint32_t *opens = ends + automaton.states - automaton.accept
    cdef const uint16_t *lists = <const uint16_t *>(opens + automaton.states)
    cdef uint32_t state = automaton.start
    cdef uint32_t before = automaton.states
    cdef uint32_t i
    for i in range(n):
        if state >= automaton.accept and state != before:
            note(found, lists + opens[state])
            before = state
        state = states[state * automaton.classes + automaton.class_of[<uint8_t>at[i]]]
        if state == 0:
            return
    if state >= automaton.accept:
        note(found, lists + opens[state])
    note(found, lists + ends[state])


cdef inline void note(uint64_t *found, const uint16_t *numbers) noexcept nogil:
    cdef uint32_t i
    for i in range(1, numbers[0] + 1):
        found[numbers[i] >> 6] |= <uint64_t>1 << (numbers[i] & 63)
