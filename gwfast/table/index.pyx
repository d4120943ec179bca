# Writes the part of an image that find() reads: see layout.pxd for its layout.
#
# Rules:
# - what is written of a host depends on that Host alone (and on the places of what all hosts share), so that it stays
#   while the Host does; of one that changes, the paths are written anew whose entries change, and nothing else
# - ordinals of patterns are places in their host: where a pattern comes or goes the host is written as a whole
# - what comes behind a candidate without conditions is not written: it can never win
# - a list of more than LEAF candidates is indexed: each candidate is filed under that of its exact conditions
#   (method, header, query parameter) that fewest others of the list share, and the lists that result are treated alike
from collections import ChainMap

import cython
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from gwfast.table.arena cimport Arena
from gwfast.table.automaton cimport Automaton
from gwfast.http.head cimport (METHOD_CONNECT, METHOD_DELETE, METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_PATCH,
                               METHOD_POST, METHOD_PUT, METHOD_TRACE, name_hash)
from gwfast.table.layout cimport (ANY_DEPTH, KEY_HEADER, KEY_QUERY, Candidate, HostIndex, KeySlot, Keys, NameSlot, Names, Node,
                                  PathNode, PathSlot, Predicate, Regexes, RegexSlot, Text, Values, ValueSlot, hash_bytes,
                                  hash_name, hash_path)

from gwfast.table.union import determine
from gwfast.graph.methods import ANY_CALL
from gwfast.plan import regex
from gwfast.plan.union import split

METHODS = {
    "": 0, "GET": METHOD_GET, "HEAD": METHOD_HEAD, "POST": METHOD_POST, "PUT": METHOD_PUT, "DELETE": METHOD_DELETE,
    "CONNECT": METHOD_CONNECT, "OPTIONS": METHOD_OPTIONS, "TRACE": METHOD_TRACE, "PATCH": METHOD_PATCH,
}
EVERY_CALL = ANY_CALL[1]
cdef const char *SLASH = b"/"
KINDS = {"Exact": TERM_EXACT, "PathPrefix": TERM_PREFIX, "RegularExpression": TERM_REGEX}

cdef enum:
    LEAF = 8               # candidates that are tried one by one
    FEW = 16               # entries that change one by one
    END = 0xFFFFFFFF       # of a chain


# Fields whose value is the gateway's to say unless the peer is trusted: a match is to see what the backend will see.
cdef bint is_ours(str name) except -1:
    return name.startswith("x-forwarded-") or name in ("forwarded", "via", "x-real-ip", "x-request-id")


@cython.final
cdef class Texts:
    def __cinit__(self):
        self.arena = Arena()
        self.places = {}

    cdef int put(self, str s, Text *text) except -1:
        cdef ssize_t n
        cdef object place = self.places.get(s)
        if place is not None:
            PyUnicode_AsUTF8AndSize(s, &n)
            text.n = <uint32_t>n
            text.at = place
            return 0
        self.append(s, text)
        self.places[s] = text.at
        return 0

    cdef int append(self, str s, Text *text) except -1:
        cdef ssize_t n
        cdef const char *utf8 = PyUnicode_AsUTF8AndSize(s, &n)
        cdef Arena arena = self.arena
        arena.reserve(n)
        memcpy(arena.at + arena.used, utf8, n)
        text.n = <uint32_t>n
        text.at = <uint32_t>arena.used
        arena.used += n
        return 0


@cython.final
cdef class Terms:
    def __cinit__(self, Texts texts, dict unions):
        self.texts = texts
        self.predicates = Arena()
        self.automata = Arena()
        self.automata.take(8)              # offset 0 stands for none
        self.automaton_places = {}
        self.patterns = []
        self.numbers = {}
        self.unions = ChainMap({}, unions) # what was used last time is not made again, and kept only if it is used
        self.literals = {}

    cdef int put(self, object match, uint32_t rule, bint grpc, Term *term) except -1:
        cdef ssize_t n
        cdef tuple headers = match.headers
        cdef tuple query = match.query
        cdef str path = match.path
        cdef bytes elements
        memset(term, 0, sizeof(Term))
        term.path = PyUnicode_AsUTF8AndSize(path, &n)
        term.n = <uint32_t>n
        term.rule = rule
        term.kind = KINDS[match.path_type]
        term.method = METHODS[match.method]
        if grpc and path == EVERY_CALL:    # comes last in the order: of what '/' takes
            term.path, term.n, term.kind = SLASH, 1, TERM_PREFIX
        if term.kind == TERM_REGEX:
            term.pattern = self.number(path)
            elements = self.elements(path)
            if grpc:
                elements = b"/"
                term.kind = TERM_CALL
            term.path = elements
            term.n = <uint32_t>len(elements)
        term.hash = hash_path(term.path, term.n)
        if headers or query:
            self.conditions(headers, query, term)
        return 0

    cdef int conditions(self, tuple headers, tuple query, Term *term) except -1:
        cdef list seen = []
        for condition in headers:          # only the first of equivalent names counts (H:614-621)
            if condition.name.lower() not in [name for name, _ in seen]:
                seen.append((condition.name.lower(), condition))
        term.headers = <uint8_t>len(seen)
        term.asks = any([is_ours(name) for name, _ in seen])
        cdef list names = []
        for condition in query:
            if condition.name not in names:
                names.append(condition.name)
                seen.append((condition.name, condition))
        term.queries = <uint8_t>len(names)
        if len(seen) > 64:
            raise ValueError("a match has more than 64 conditions")
        term.predicates = <uint32_t>(self.predicates.used // sizeof(Predicate))
        for name, condition in seen:
            self.condition(name, condition)
        return 0

    cdef int condition(self, str name, object condition) except -1:
        cdef Predicate p
        self.texts.put(name, &p.name)
        self.texts.put(condition.value, &p.value)
        p.hash = name_hash(self.texts.arena.at + p.name.at, p.name.n)
        p.automaton = self.automaton(condition.value) if condition.regex else 0
        cdef ssize_t at = self.predicates.take(sizeof(Predicate))
        memcpy(self.predicates.at + at, &p, sizeof(Predicate))
        return 0

    cdef uint32_t number(self, str pattern) except? 0:
        number = self.numbers.get(pattern)
        if number is None:
            number = self.numbers[pattern] = len(self.patterns)
            self.patterns.append(pattern)
        return number

    cdef uint32_t automaton(self, str pattern) except? 0:
        place = self.automaton_places.get(pattern)
        if place is not None:
            return place
        compiled = regex.compile(pattern)
        cdef bytes classes = compiled.classes
        cdef bytes table = compiled.table
        cdef ssize_t at = self.automata.take(sizeof(Automaton) + len(table))
        cdef Automaton *automaton = <Automaton *>(self.automata.at + at)
        automaton.states = compiled.count
        automaton.classes = compiled.width
        automaton.start = compiled.start
        automaton.accept = compiled.accept
        automaton.places = compiled.places
        memcpy(automaton.class_of, <const char *>classes, 256)
        memcpy(automaton + 1, <const char *>table, len(table))
        self.automaton_places[pattern] = at // 8
        return <uint32_t>(at // 8)

    # That of several patterns.
    cdef uint32_t automaton_of(self, tuple key, bytes written) except? 0:
        cdef ssize_t at
        place = self.automaton_places.get(key)
        if place is None:
            at = self.automata.take(len(written))
            memcpy(self.automata.at + at, <const char *>written, len(written))
            place = self.automaton_places[key] = at // 8
        return place

    # The whole elements of the literal text that every match of a pattern begins with; '/' where there are none.
    cdef bytes elements(self, str pattern):
        elements = self.literals.get(pattern)
        if elements is None:
            literal = regex.compile(pattern).literal
            elements = self.literals[pattern] = literal[:literal.rfind(b"/")] if literal[:1] == b"/" else b""
        return elements or b"/"


# ---- Hosts ----

# The entries of one path: a chain through `next` for each TermKind, in final order.
cdef struct Group:
    uint32_t some          # any term of it
    uint32_t first[4]
    uint32_t last[4]

# What is needed while one host is written.
cdef struct Draft:
    Term *terms
    uint32_t count
    uint32_t groups
    Group *group
    uint32_t *next         # by term
    uint32_t *slot         # hash table: 1 + group
    uint32_t mask


@cython.final
cdef class HostBlock:
    def __dealloc__(self):
        free(self.terms)


cdef uint32_t write_host(Arena blob, Term *terms, uint32_t count, Terms shared) except? 0:
    cdef Draft draft
    draft.terms = terms
    draft.count = count
    draft.groups = 0
    draft.mask = table_mask(count)
    draft.group = <Group *>malloc((count + 1) * sizeof(Group))
    draft.next = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
    draft.slot = <uint32_t *>calloc(draft.mask + 1, sizeof(uint32_t))
    try:
        if draft.group == NULL or draft.next == NULL or draft.slot == NULL:
            raise MemoryError
        group_paths(&draft)
        write_paths(blob, &draft, shared)
        return draft.groups
    finally:
        free(draft.group)
        free(draft.next)
        free(draft.slot)


cdef bint patch_host(Arena blob, HostBlock block, const Term *touched, uint32_t n, Terms shared) except? False:
    cdef Draft draft
    cdef Group groups[FEW]
    cdef const Term *paths[FEW]            # of the groups
    cdef uint32_t g
    cdef uint32_t room = (<HostIndex *>blob.at).mask + 1
    if n > FEW or <uint64_t>(block.paths + n) * 8 > <uint64_t>room * 3:
        return False
    draft.terms = block.terms
    draft.count = block.count
    draft.groups = 0
    draft.group = groups
    draft.next = <uint32_t *>malloc((block.count + 1) * sizeof(uint32_t))
    try:
        if draft.next == NULL:
            raise MemoryError
        if not regroup(&draft, touched, n, paths):
            return False
        for g in range(draft.groups):
            patch_path(blob, block, &draft, &groups[g], paths[g], shared)
        return True
    finally:
        free(draft.next)


# The groups of the paths of `touched`, with what they are now. False where there is a pattern among them.
cdef bint regroup(Draft *draft, const Term *touched, uint32_t n, const Term **paths) noexcept nogil:
    cdef uint32_t i, g
    for i in range(n):
        for g in range(draft.groups):
            if same_path(paths[g], &touched[i]):
                break
        else:
            paths[draft.groups] = &touched[i]
            memset(draft.group[draft.groups].first, 0xFF, sizeof(draft.group[0].first))
            draft.groups += 1
        if touched[i].kind >= TERM_REGEX:
            return False
    for i in range(draft.count):
        for g in range(draft.groups):
            if same_path(paths[g], &draft.terms[i]):
                if draft.terms[i].kind >= TERM_REGEX:
                    return False
                draft.group[g].some = i
                chain(draft, &draft.group[g], i, draft.terms[i].kind)
    return True


cdef inline bint same_path(const Term *a, const Term *b) noexcept nogil:
    return a.hash == b.hash and a.n == b.n and memcmp(a.path, b.path, a.n) == 0


# Writes one path anew, or takes it out where it has no entries any more.
cdef int patch_path(Arena blob, HostBlock block, Draft *draft, Group *group, const Term *path, Terms shared) except -1:
    cdef bint left = group.first[<int>TERM_EXACT] != END or group.first[<int>TERM_PREFIX] != END
    cdef ssize_t at = write_path(blob, draft, group, shared) if left else 0
    cdef HostIndex *host = <HostIndex *>blob.at
    cdef PathSlot *slots = <PathSlot *>(blob.at + <size_t>host.paths * 8)
    cdef const PathNode *node
    cdef uint32_t i = <uint32_t>path.hash & host.mask
    while slots[i].path:
        node = <const PathNode *>(blob.at + <size_t>slots[i].path * 8)
        if node.n == path.n and memcmp(<const char *>(node + 1), path.path, path.n) == 0:
            break
        i = (i + 1) & host.mask
    if left:
        block.paths += slots[i].path == 0
        slots[i].hash = <uint32_t>(path.hash >> 32)
        slots[i].path = <uint32_t>(at // 8)
    elif slots[i].path:
        block.paths -= 1
        remove_path(blob, host, slots, i)
        if path.n == 1:
            host.root = 0
    return 0


# Empties a slot; those behind it that could not be nearer to their place move up.
cdef void remove_path(Arena blob, const HostIndex *host, PathSlot *slots, uint32_t i) noexcept nogil:
    cdef const PathNode *node
    cdef uint32_t home
    cdef uint32_t j = (i + 1) & host.mask
    while slots[j].path:
        node = <const PathNode *>(blob.at + <size_t>slots[j].path * 8)
        home = <uint32_t>hash_path(<const char *>(node + 1), node.n) & host.mask
        if ((j - home) & host.mask) >= ((j - i) & host.mask):
            slots[i] = slots[j]
            i = j
        j = (j + 1) & host.mask
    memset(&slots[i], 0, sizeof(PathSlot))


# Slots - 1 of a table for n keys: at most half of it is used.
cdef uint32_t table_mask(uint32_t n) noexcept nogil:
    cdef uint32_t slots = 2
    while slots < n * 2:
        slots *= 2
    return slots - 1


cdef void group_paths(Draft *draft) noexcept nogil:
    cdef Term *term
    cdef Term *other
    cdef uint32_t i, at
    for i in range(draft.count):
        term = &draft.terms[i]
        at = <uint32_t>term.hash & draft.mask
        while draft.slot[at]:
            other = &draft.terms[draft.group[draft.slot[at] - 1].some]
            if other.hash == term.hash and other.n == term.n and memcmp(other.path, term.path, term.n) == 0:
                break
            at = (at + 1) & draft.mask
        if not draft.slot[at]:
            draft.group[draft.groups].some = i
            memset(draft.group[draft.groups].first, 0xFF, sizeof(draft.group[0].first))
            draft.groups += 1
            draft.slot[at] = draft.groups
        chain(draft, &draft.group[draft.slot[at] - 1], i, term.kind)


cdef inline void chain(Draft *draft, Group *group, uint32_t i, uint8_t kind) noexcept nogil:
    draft.next[i] = END
    if group.first[kind] == END:
        group.first[kind] = i
    else:
        draft.next[group.last[kind]] = i
    group.last[kind] = i


cdef int write_paths(Arena blob, Draft *draft, Terms shared) except -1:
    cdef uint32_t mask = table_mask(2 * draft.groups)
    cdef uint32_t g, i
    cdef uint64_t hash
    cdef PathSlot *slots
    cdef ssize_t table, at
    blob.reserve(sizeof(HostIndex) + (mask + 1) * sizeof(PathSlot) + draft.groups * 64)
    blob.take(sizeof(HostIndex))
    table = blob.take((mask + 1) * sizeof(PathSlot))
    (<HostIndex *>blob.at).mask = mask
    (<HostIndex *>blob.at).paths = <uint32_t>(table // 8)
    for g in range(draft.groups):
        at = write_path(blob, draft, &draft.group[g], shared)
        hash = draft.terms[draft.group[g].some].hash
        slots = <PathSlot *>(blob.at + table)
        i = <uint32_t>hash & mask
        while slots[i].path:
            i = (i + 1) & mask
        slots[i].hash = <uint32_t>(hash >> 32)
        slots[i].path = <uint32_t>(at // 8)
    return 0


# The PathNode of a group. What '/' is a prefix of goes to the host itself: every path has it.
cdef ssize_t write_path(Arena blob, Draft *draft, Group *group, Terms shared) except -1:
    cdef Term *term = &draft.terms[group.some]
    cdef ssize_t at = blob.take(sizeof(PathNode) + term.n)
    cdef PathNode *node = <PathNode *>(blob.at + at)
    node.n = term.n
    memcpy(node + 1, term.path, term.n)
    cdef uint32_t exact = write_chain(blob, draft, group.first[<int>TERM_EXACT], shared)
    cdef uint32_t prefix = write_chain(blob, draft, group.first[<int>TERM_PREFIX], shared)
    cdef uint32_t regexes = write_regexes(blob, draft, group.first[<int>TERM_REGEX], shared)
    cdef uint32_t calls = write_regexes(blob, draft, group.first[<int>TERM_CALL], shared)
    cdef HostIndex *host = <HostIndex *>blob.at
    cdef uint64_t depth = <uint64_t>1 << min(elements(term), <uint32_t>ANY_DEPTH)
    node = <PathNode *>(blob.at + at)
    node.exact = exact
    host.exact_depths |= depth if exact else 0
    if term.n == 1:
        host.root = prefix
        host.regexes = regexes
        host.calls = calls
        return at
    node.prefix = prefix
    node.regexes = regexes
    host.depths |= depth if prefix else 0
    host.regex_depths |= depth if regexes else 0
    return at


cdef uint32_t elements(Term *term) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t d = 0
    for i in range(term.n):
        d += term.path[i] == c'/'
    return d


# One node for each pattern of a chain, and automata for all of them; ordinals are places in the host.
cdef uint32_t write_regexes(Arena blob, Draft *draft, uint32_t first, Terms shared) except? 0:
    cdef dict items = {}
    cdef uint32_t i = first
    while i != END:
        items.setdefault(shared.patterns[draft.terms[i].pattern], []).append((i, i, 0, 0))
        i = draft.next[i]
    if not items:
        return 0
    parts = split(list(items), shared.unions, determine)      # in the order in which they first appear
    parts.sort(key=lambda part: items[part.patterns[0]][0])
    cdef ssize_t at = blob.take(sizeof(Regexes) + len(parts) * sizeof(RegexSlot))
    cdef RegexSlot slot
    (<Regexes *>(blob.at + at)).count = <uint32_t>len(parts)
    for i, (patterns, automaton, sure) in enumerate(parts):
        memset(&slot, 0, sizeof(RegexSlot))
        slot.first = items[patterns[0]][0][0]
        if automaton:
            slot.automaton = shared.automaton_of((sure, patterns), automaton)
            slot.nodes = write_nodes(blob, draft, [items[pattern] for pattern in patterns],
                                     () if sure else [shared.automaton(pattern) for pattern in patterns], shared)
            slot.sieve = not sure
        else:
            slot.automaton = shared.automaton(patterns[0])
            slot.node = write_list(blob, draft.terms, items[patterns[0]], shared)
        (<RegexSlot *>(blob.at + at + sizeof(Regexes)))[i] = slot
    return <uint32_t>(at // 8)


cdef uint32_t write_nodes(Arena blob, Draft *draft, list lists, object automata, Terms shared) except? 0:
    cdef ssize_t at = blob.take((len(lists) + len(automata)) * sizeof(uint32_t))
    cdef uint32_t i, node
    for i, place in enumerate(automata, len(lists)):
        (<uint32_t *>(blob.at + at))[i] = place
    for i, items in enumerate(lists):
        node = write_list(blob, draft.terms, items, shared)
        (<uint32_t *>(blob.at + at))[i] = node
    return <uint32_t>(at // 8)


# ---- Candidates ----

cdef inline void put_candidate(Candidate *candidate, const Term *term, uint32_t ordinal) noexcept nogil:
    candidate.rule = term.rule
    candidate.ordinal = ordinal
    candidate.predicates = term.predicates
    candidate.method = term.method
    candidate.headers = term.headers
    candidate.queries = term.queries
    candidate.pad = 0


# The node of a chain of terms, up to the first without conditions; 0 for an empty chain.
cdef uint32_t write_chain(Arena blob, Draft *draft, uint32_t first, Terms shared) except? 0:
    cdef Candidate *candidate
    cdef Term *term
    cdef uint32_t count = 0
    cdef uint32_t i = first
    cdef ssize_t at
    while i != END:
        term = &draft.terms[i]
        count += 1
        i = draft.next[i]
        if not (term.method or term.headers or term.queries):
            break
    if count == 0:
        return 0
    if count > LEAF:
        terms = []
        i = first
        while len(terms) < <ssize_t>count:
            terms.append((len(terms), i, 0, 0))
            i = draft.next[i]
        return write_list(blob, draft.terms, terms, shared)
    at = blob.take(sizeof(Node) + count * sizeof(Candidate))
    (<Node *>(blob.at + at)).count = count
    candidate = <Candidate *>(blob.at + at + sizeof(Node))
    for i in range(count):
        put_candidate(&candidate[i], &draft.terms[first], i)
        first = draft.next[first]
    return <uint32_t>(at // 8)


# The node of a list of (ordinal, index of the term, conditions that were keys already, of these those that hold).
# Bit i of both masks is predicate i, bit 63 the method.
cdef uint32_t write_list(Arena blob, Term *terms, list items, Terms shared) except? 0:
    cdef list kept = []
    for item in items:
        kept.append(item)
        if not conditions_left(&terms[<uint32_t>item[1]], item[3]):
            break
    cdef dict keys = {}
    cdef list rest = file_under_keys(terms, kept, shared, keys) if len(kept) > LEAF else kept
    cdef ssize_t at = blob.take(sizeof(Node) + len(rest) * sizeof(Candidate))
    cdef Node *node = <Node *>(blob.at + at)
    cdef uint32_t i
    node.first = kept[0][0]
    node.count = <uint32_t>len(rest)
    for i, item in enumerate(rest):
        put_candidate(<Candidate *>(node + 1) + i, &terms[<uint32_t>item[1]], item[0])
    cdef uint32_t written
    if keys:
        written = write_keys(blob, terms, keys, shared)
        (<Node *>(blob.at + at)).keys = written
    return <uint32_t>(at // 8)


cdef bint conditions_left(Term *term, uint64_t held) noexcept nogil:
    cdef uint32_t n = term.headers + term.queries
    cdef uint64_t all = (<uint64_t>1 << n) - 1
    return (term.method != 0 and not held >> 63) or (held & all) != all


# Conditions of a term that may still be keys: (kind, name, value, bit); value None where only the name can be one.
cdef list possible_keys(Term *term, uint64_t used, Terms shared):
    cdef const Predicate *p = <const Predicate *>shared.predicates.at + term.predicates
    cdef list found = []
    cdef uint32_t i
    if term.method and not used >> 63:
        found.append((0, "", term.method, 63))
    for i in range(term.headers + term.queries):
        if not used >> i & 1:
            found.append((KEY_HEADER if i < term.headers else KEY_QUERY, string(shared, p[i].name),
                          None if p[i].automaton else string(shared, p[i].value), i))
    return found


cdef str string(Terms shared, Text text):
    return (shared.texts.arena.at + text.at)[:text.n].decode()


# Fills `keys` {(kind, name, value): items} and returns the items that have no key.
cdef list file_under_keys(Term *terms, list items, Terms shared, dict keys):
    cdef dict shares = {}
    cdef list possible = [possible_keys(&terms[<uint32_t>item[1]], item[2], shared) for item in items]
    cdef list rest = []
    for found in possible:
        for key in found:
            shares[key[:3]] = shares.get(key[:3], 0) + 1
    for item, found in zip(items, possible):
        if not found:
            rest.append(item)
            continue
        best = min(found, key=lambda key: (key[2] is None, shares[key[:3]]))
        bit = 1 << best[3]
        ordinal, term, used, held = item
        keys.setdefault(best[:3], []).append(
            (ordinal, term, used | bit, held if best[2] is None else held | bit))
    return rest


cdef uint32_t write_keys(Arena blob, Term *terms, dict keys, Terms shared) except? 0:
    cdef dict names = {}
    cdef dict methods = {}
    for (kind, name, value), items in keys.items():
        node = write_list(blob, terms, items, shared)
        if kind == 0:
            methods[value] = node
        else:
            names.setdefault((kind, name), {})[value] = node
    cdef uint32_t mask = table_mask(<uint32_t>len(names))
    cdef ssize_t at = blob.take(sizeof(Keys) + (mask + 1) * sizeof(KeySlot))
    cdef Keys *table = <Keys *>(blob.at + at)
    table.mask = mask
    table.headers = sum(kind == KEY_HEADER for kind, _ in names)
    table.queries = sum(kind == KEY_QUERY for kind, _ in names)
    for method, node in methods.items():
        table.methods[<uint32_t>method] = node
    for (kind, name), values in names.items():
        write_key(blob, at, kind, name, values, shared)
    return <uint32_t>(at // 8)


cdef int write_key(Arena blob, ssize_t at, uint32_t kind, str name, dict values, Terms shared) except -1:
    cdef uint32_t present = values.pop(None, 0)
    cdef uint32_t written = write_values(blob, values, shared) if values else 0
    cdef Keys *table = <Keys *>(blob.at + at)
    cdef KeySlot *slots = <KeySlot *>(table + 1)
    cdef Text text
    shared.texts.put(name, &text)
    cdef uint32_t hash = name_hash(shared.texts.arena.at + text.at, text.n)
    cdef uint32_t i = hash & table.mask
    while slots[i].kind:
        i = (i + 1) & table.mask
    slots[i].hash = hash
    slots[i].kind = kind
    slots[i].name = text
    slots[i].values = written
    slots[i].present = present
    return 0


cdef uint32_t write_values(Arena blob, dict values, Terms shared) except? 0:
    cdef uint32_t mask = table_mask(<uint32_t>len(values))
    cdef ssize_t at = blob.take(sizeof(Values) + (mask + 1) * sizeof(ValueSlot))
    cdef ValueSlot *slots = <ValueSlot *>(blob.at + at + sizeof(Values))
    cdef Text text
    cdef uint64_t hash
    cdef uint32_t i
    (<Values *>(blob.at + at)).mask = mask
    for value, node in values.items():
        shared.texts.put(value, &text)
        hash = hash_bytes(shared.texts.arena.at + text.at, text.n)
        i = <uint32_t>hash & mask
        while slots[i].node:
            i = (i + 1) & mask
        slots[i].hash = <uint32_t>(hash >> 32)
        slots[i].node = node
        slots[i].value = text
    return <uint32_t>(at // 8)


# ---- Names ----

cdef ssize_t write_names(Arena arena, uint32_t count) except -1:
    cdef uint32_t mask = table_mask(count)
    cdef ssize_t at = arena.take(sizeof(Names) + (mask + 1) * sizeof(NameSlot))
    (<Names *>(arena.at + at)).mask = mask
    return at


cdef uint32_t room_for_names(Arena arena, ssize_t at) noexcept:
    return ((<Names *>(arena.at + at)).mask + 1) // 2


cdef int make_name(Name *name, str hostname, Texts texts, bint once) except -1:
    name.labels = 0
    if hostname[:2] == "*.":
        hostname = hostname[1:]
        name.labels = <uint32_t>hostname.count(".")
    if once:
        texts.put(hostname, &name.text)
    else:
        texts.append(hostname, &name.text)
    name.hash = hash_name(texts.arena.at + name.text.at, name.text.n)
    return 0


cdef void set_name(Arena arena, ssize_t at, const Name *name, uint32_t value, bint again) noexcept:
    cdef Names *names = <Names *>(arena.at + at)
    cdef NameSlot *slots = <NameSlot *>(names + 1)
    cdef uint32_t i
    if name.text.n == 0:
        if again or not names.any:
            names.any = value
        return
    names.depths |= <uint64_t>1 << min(name.labels, <uint32_t>ANY_DEPTH)
    i = name_slot(names, name)
    if slots[i].value and not again:
        return
    slots[i].hash = <uint32_t>(name.hash >> 32)
    slots[i].value = value
    slots[i].name = name.text


# Where a name is, or would be.
cdef uint32_t name_slot(const Names *names, const Name *name) noexcept nogil:
    cdef const NameSlot *slots = <const NameSlot *>(names + 1)
    cdef uint32_t i = <uint32_t>name.hash & names.mask
    while slots[i].value and not (slots[i].name.at == name.text.at and slots[i].name.n == name.text.n):
        i = (i + 1) & names.mask
    return i


cdef void remove_name(Arena arena, ssize_t at, const Name *name, Texts texts) noexcept:
    cdef Names *names = <Names *>(arena.at + at)
    cdef NameSlot *slots = <NameSlot *>(names + 1)
    cdef uint32_t i = name_slot(names, name)
    cdef uint32_t j, home
    if name.text.n == 0:
        names.any = 0
        return
    j = (i + 1) & names.mask
    while slots[j].value:
        home = <uint32_t>hash_name(texts.arena.at + slots[j].name.at, slots[j].name.n) & names.mask
        if ((j - home) & names.mask) >= ((j - i) & names.mask):
            slots[i] = slots[j]
            i = j
        j = (j + 1) & names.mask
    memset(&slots[i], 0, sizeof(NameSlot))
