# Finds the rule for a request, or for a connection.
#
# Rules:
# - the most specific listener of the bind serves the request, alone (isolation, spec 5.3)
# - within it the hosts that cover the name are tried from the most to the least specific; the first that has a
#   matching entry decides (spec 5.1)
# - within a host: the exact path, then regular expressions, then the longest prefix by element; those of a GRPCRoute come
#   behind every prefix but '/' (a named service is more than any, spec 5.6)
# - candidates of one path lie in the spec's final order: the lowest ordinal that holds wins
# - a connection that is not HTTP is found as a request for '/' at the name that its SNI says
#
# Nothing here allocates, and no cost depends on the number of routes or hosts. Of the candidates of one path those are
# looked at whose key condition the request fulfils, and at most 8 others, except that conditions that are regular
# expressions on one and the same header or parameter are tried one after the other. Of regular expressions on paths that
# begin with the same literal elements each automaton is run, which is one for all of them unless these would need too many
# states (plan/union.py); of those that match, each is looked at until a rule is found.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from gwfast.table.automaton cimport Automaton, automaton_at
from gwfast.http.bytes cimport gw_places, lowest, same_name
from gwfast.http.conditions cimport (MatchedRequest, Parameter, AutomatonRun, first_line, header_equals, header_hash, holds,
                                     parameters, automaton_accepts, automaton_begin, automaton_read, run_union)
from gwfast.http.head cimport (FIELD_UNDERSCORE, MAX_HOST, METHOD_CONNECT, METHOD_DELETE, METHOD_GET, METHOD_HEAD,
                               METHOD_OPTIONS, METHOD_OTHER, METHOD_PATCH, METHOD_POST, METHOD_PUT, METHOD_TRACE, Field,
                               HeadLimits, RequestHead, Slice, forget_request, name_hash, room_for_request)
from gwfast.table.hash cimport HASH_SEED, hash_bytes, hash_element, hash_name
from gwfast.table.layout cimport (ANY_DEPTH, IMAGE_VERSION, KEY_HEADER, KEY_NONE, KEY_QUERY, SECTIONS, SECTION_BINDS,
                                  SECTION_INDEX, UNION_WORDS, Bind, Candidate, HostIndex, Image, KeySlot, Keys, Listener,
                                  NameSlot, Names, Node, PathNode, PathSlot, RegexSlot, Regexes, Rule, Section, Text, ValueSlot,
                                  Values, bind_at, count_of, element_size, image_magic, listener_at, rule_at, section_at, text)

cdef extern from *:
    int __builtin_ctzll(unsigned long long) nogil

cdef enum:
    MAX_LABELS = MAX_HOST // 2 + 1
    MAX_ELEMENTS = 512     # of a path: a configured path has at most 1024 characters (CRD)
    NONE = 0xFFFFFFFF
    UNREAD = 0xFFFFFFFF

# The name, and where its labels end: with a dot at each of dot[0..labels - 1]. Read when first asked for.
cdef struct NameParts:
    const char *at
    uint32_t n
    uint32_t labels        # behind the first dot; UNREAD at first
    uint16_t dot[MAX_LABELS]

# The path with the hash of each prefix that ends with an element: hash[d] is that of the first d elements. Read when
# first asked for.
cdef struct PathHashes:
    const char *at
    uint32_t n
    uint32_t elements      # UNREAD at first
    uint64_t whole
    uint64_t hash[MAX_ELEMENTS + 1]
    uint32_t end[MAX_ELEMENTS + 1]

cdef int find(const Image *image, const Bind *bind, const RequestHead *head, Found *found) noexcept nogil:
    cdef Found other
    cdef MatchedRequest asked
    cdef NameParts name
    asked.image = image
    asked.head = head
    asked.parameters = -1
    name.at = head.host.at
    name.n = head.host.n
    name.labels = UNREAD
    cdef const Listener *listener = listener_of(image, bind, &name)
    found.rule = other.rule = NULL
    found.listener = other.listener = listener
    if listener == NULL:
        return NO_RULE
    if listener.asks and not head.stated:
        return UNSTATED
    find_path(&asked, &name, &head.match_path, found)
    if head.slash_path.n:
        find_path(&asked, &name, &head.slash_path, &other)
        if other.rule != found.rule:
            return AMBIGUOUS
    return FOUND if found.rule != NULL else NO_RULE


cdef const Listener *find_listener(const Image *image, const Bind *bind, const char *at, uint32_t n) noexcept nogil:
    cdef NameParts name
    name.at = at
    name.n = n
    name.labels = UNREAD
    return listener_of(image, bind, &name)


cdef int find_route(const Image *image, const Bind *bind, const char *at, uint32_t n, Found *found) noexcept nogil:
    cdef RequestHead head
    cdef MatchedRequest asked
    cdef NameParts name
    head.match_path.at = b"/"
    head.match_path.n = 1
    head.query.at = NULL
    head.query.n = 0
    head.method_id = METHOD_OTHER
    head.count = 0
    asked.image = image
    asked.head = &head
    asked.parameters = -1
    name.at = at
    name.n = n
    name.labels = UNREAD
    found.rule = NULL
    found.listener = listener_of(image, bind, &name)
    if found.listener == NULL:
        return NO_RULE
    find_path(&asked, &name, &head.match_path, found)
    return FOUND if found.rule != NULL else NO_RULE


# ---- Names ----

cdef void read_name(NameParts *name) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t dots
    name.labels = 0
    while i < name.n:
        dots = gw_places(name.at + i, name.n - i, c'.')
        while dots and name.labels < MAX_LABELS:
            name.dot[name.labels] = <uint16_t>(i + lowest(dots))
            name.labels += 1
            dots &= dots - 1
        i += 16


cdef inline uint32_t name_value(const Image *image, const Names *names, const char *at, uint32_t n,
                                uint64_t hash) noexcept nogil:
    cdef const NameSlot *slots = <const NameSlot *>(names + 1)
    cdef uint32_t i = <uint32_t>hash & names.mask
    while slots[i].value:
        if slots[i].hash == <uint32_t>(hash >> 32) and slots[i].name.n == n and \
                memcmp(text(image, slots[i].name), at, n) == 0:
            return slots[i].value
        i = (i + 1) & names.mask
    return 0


# How many steps there are from the most specific (labels + 1: the name itself) to the least (0: any).
cdef inline uint32_t steps(const Names *names, NameParts *name) noexcept nogil:
    if names.depths == 0:
        return 1
    if name.labels == UNREAD:
        read_name(name)
    return name.labels + 2


# The value for a name at one step.
cdef inline uint32_t name_step(const Image *image, const Names *names, const NameParts *name,
                               uint32_t step) noexcept nogil:
    cdef uint32_t start = 0
    if step == 0:
        return names.any
    if step <= name.labels:
        start = name.dot[name.labels - step]
        if start == 0 or not names.depths >> min(step, <uint32_t>ANY_DEPTH) & 1:
            return 0
    elif not names.depths & 1 or name.n == 0 or name.at[0] == c'.':   # what begins with a dot is the key of a wildcard
        return 0
    return name_value(image, names, name.at + start, name.n - start, hash_name(name.at + start, name.n - start))


cdef inline const Names *names_at(const Image *image, uint32_t at) noexcept nogil:
    return <const Names *>(section_at(image, SECTION_INDEX) + <uint64_t>at * 8)


cdef inline const HostIndex *host_at(const Image *image, uint32_t at) noexcept nogil:
    return <const HostIndex *>(section_at(image, SECTION_INDEX) + <uint64_t>at * 8)


cdef const Listener *listener_of(const Image *image, const Bind *bind, NameParts *name) noexcept nogil:
    cdef const Names *names = names_at(image, bind.hosts)
    cdef uint32_t step = steps(names, name)
    cdef uint32_t value
    while step:
        step -= 1
        value = name_step(image, names, name, step)
        if value:
            return listener_at(image, value - 1)
    return NULL


# ---- Paths ----

cdef void read_path(PathHashes *path) noexcept nogil:
    cdef uint64_t h = HASH_SEED
    cdef uint32_t at = 1
    cdef uint32_t begin = 1
    cdef uint32_t d = 0
    cdef uint32_t end, slashes
    while at < path.n:
        slashes = gw_places(path.at + at, path.n - at, c'/')
        while slashes:
            end = at + lowest(slashes)
            slashes &= slashes - 1
            h = hash_element(h, path.at + begin, end - begin)
            begin = end + 1
            if d < MAX_ELEMENTS:
                d += 1
                path.hash[d] = h
                path.end[d] = end
        at += 16
    h = hash_element(h, path.at + begin, path.n - begin)
    path.whole = h
    if path.n > 1 and d < MAX_ELEMENTS:
        d += 1
        path.hash[d] = h
        path.end[d] = path.n
    path.elements = d


cdef inline const PathNode *path_node(const HostIndex *host, const char *at, uint32_t n, uint64_t hash) noexcept nogil:
    cdef const PathSlot *slots = <const PathSlot *>(<const char *>host + <uint64_t>host.paths * 8)
    cdef const PathNode *node
    cdef uint32_t i = <uint32_t>hash & host.mask
    while slots[i].path:
        if slots[i].hash == <uint32_t>(hash >> 32):
            node = <const PathNode *>(<const char *>host + <uint64_t>slots[i].path * 8)
            if node.n == n and memcmp(<const char *>(node + 1), at, n) == 0:
                return node
        i = (i + 1) & host.mask
    return NULL


cdef void find_path(MatchedRequest *asked, NameParts *name, const Slice *path, Found *found) noexcept nogil:
    cdef const Names *names = names_at(asked.image, found.listener.hosts)
    cdef PathHashes hashes
    cdef uint32_t step = steps(names, name)
    cdef uint32_t value
    if path.n == 0 or path.at[0] != c'/':
        return                     # OPTIONS *
    hashes.at = path.at
    hashes.n = path.n
    hashes.elements = UNREAD
    while step:
        step -= 1
        value = name_step(asked.image, names, name, step)
        if value and find_in_host(asked, host_at(asked.image, value), &hashes, found):
            found.rule_index = asked.rule
            found.rule = rule_at(asked.image, asked.rule)
            return


cdef bint find_in_host(MatchedRequest *asked, const HostIndex *host, PathHashes *path, Found *found) noexcept nogil:
    cdef const PathNode *node = NULL
    cdef uint32_t d
    if path.elements == UNREAD and host.depths | host.exact_depths | host.regex_depths:
        read_path(path)
    if (host.depths | host.exact_depths) >> min(max(path.elements, <uint32_t>1), <uint32_t>ANY_DEPTH) & 1:
        node = path_node(host, path.at, path.n, path.whole)
    asked.host = <const char *>host
    asked.ordinal = NONE
    found.prefix = found.prefix_len = 0
    if node != NULL and node.exact and search(asked, node.exact):
        return True
    if (host.regexes != 0 or host.regex_depths != 0) and find_regex(asked, host, path):
        return True
    found.prefix = 1
    if host.depths:
        for d in range(path.elements, 0, -1):
            if not host.depths >> min(d, <uint32_t>ANY_DEPTH) & 1:
                continue
            if path.end[d] != path.n:
                node = path_node(host, path.at, path.end[d], path.hash[d])
            if node != NULL and node.prefix and search(asked, node.prefix):
                found.prefix_len = path.end[d]
                found.prefix_at = <const char *>(node + 1)
                return True
    if host.calls and find_call(asked, host, path):
        found.prefix = 0
        return True
    return host.root != 0 and search(asked, host.root)


# Patterns are filed under the elements that all of their matches begin with; the lowest ordinal of all that match wins.
cdef bint find_regex(MatchedRequest *asked, const HostIndex *host, const PathHashes *path) noexcept nogil:
    cdef const PathNode *node
    cdef uint32_t d
    if host.regexes:
        try_regexes(asked, host.regexes, path)
    if host.regex_depths:
        for d in range(1, path.elements + 1):
            if host.regex_depths >> min(d, <uint32_t>ANY_DEPTH) & 1:
                node = path_node(host, path.at, path.end[d], path.hash[d])
                if node != NULL and node.regexes:
                    try_regexes(asked, node.regexes, path)
    return asked.ordinal != NONE


cdef bint find_call(MatchedRequest *asked, const HostIndex *host, const PathHashes *path) noexcept nogil:
    try_regexes(asked, host.calls, path)
    return asked.ordinal != NONE


cdef void try_regexes(MatchedRequest *asked, uint32_t at, const PathHashes *path) noexcept nogil:
    cdef const Regexes *regexes = <const Regexes *>(asked.host + <uint64_t>at * 8)
    cdef const RegexSlot *slots = <const RegexSlot *>(regexes + 1)
    cdef uint32_t i
    for i in range(regexes.count):
        if slots[i].first >= asked.ordinal:
            break
        if slots[i].nodes:
            try_union(asked, &slots[i], path)
            continue
        if accepts(asked.image, slots[i].automaton, path):
            search(asked, slots[i].node)


cdef bint accepts(const Image *image, uint32_t automaton, const PathHashes *path) noexcept nogil:
    cdef AutomatonRun run
    automaton_begin(&run, image, automaton)
    automaton_read(&run, path.at, path.n)
    return automaton_accepts(&run)


# All patterns of one automaton that match, those first that come first in their host.
cdef void try_union(MatchedRequest *asked, const RegexSlot *slot, const PathHashes *path) noexcept nogil:
    cdef const Automaton *automaton = automaton_at(asked.image, slot.automaton)
    cdef const uint32_t *nodes = <const uint32_t *>(asked.host + <uint64_t>slot.nodes * 8)
    cdef uint64_t found[UNION_WORDS]
    cdef uint64_t left
    cdef uint32_t w, i
    for w in range((automaton.patterns + 63) // 64):
        found[w] = 0
    run_union(automaton, path.at, path.n, found)
    for w in range((automaton.patterns + 63) // 64):
        left = found[w]
        while left:
            i = w * 64 + __builtin_ctzll(left)
            left &= left - 1
            if node_at(asked, nodes[i]).first >= asked.ordinal:
                return
            if not slot.sieve or accepts(asked.image, nodes[automaton.patterns + i], path):
                search(asked, nodes[i])


# ---- Candidates ----

cdef inline const Node *node_at(MatchedRequest *asked, uint32_t at) noexcept nogil:
    return <const Node *>(asked.host + <uint64_t>at * 8)


# Looks for a candidate better than the best so far, in and below a node. True where there is any, now or before.
cdef bint search(MatchedRequest *asked, uint32_t at) noexcept nogil:
    cdef const Node *node = node_at(asked, at)
    cdef const Candidate *candidate = <const Candidate *>(node + 1)
    cdef uint32_t i
    if node.keys and node.first < asked.ordinal:
        search_keys(asked, <const Keys *>(asked.host + <uint64_t>node.keys * 8))
    for i in range(node.count):
        if candidate[i].ordinal >= asked.ordinal:
            break
        if holds(asked, &candidate[i]):
            asked.ordinal = candidate[i].ordinal
            asked.rule = candidate[i].rule
            break
    return asked.ordinal != NONE


cdef void search_keys(MatchedRequest *asked, const Keys *keys) noexcept nogil:
    cdef const RequestHead *head = asked.head
    cdef const KeySlot *key
    cdef const Parameter *p
    cdef int i
    if keys.methods[head.method_id]:
        search(asked, keys.methods[head.method_id])
    if keys.headers:
        for i in range(head.count):
            key = find_key(asked.image, keys, KEY_HEADER, head.fields[i].hash, head.fields[i].name,
                           head.fields[i].name_len)
            if key != NULL and first_line(head, key.hash, text(asked.image, key.name), key.name.n) == i:
                search_key(asked, key, header_hash(head, i), i, NULL)
    if keys.queries:
        for i in range(parameters(asked)):
            p = &asked.parameter[i]
            key = find_key(asked.image, keys, KEY_QUERY, p.hash, p.name, p.name_len)
            if key != NULL:
                search_key(asked, key, hash_bytes(p.value, p.value_len), i, p)


cdef void search_key(MatchedRequest *asked, const KeySlot *key, uint64_t hash, int line, const Parameter *p) noexcept nogil:
    cdef const Values *values
    cdef const ValueSlot *slots
    cdef uint32_t i
    if key.present:
        search(asked, key.present)
    if key.values == 0:
        return
    values = <const Values *>(asked.host + <uint64_t>key.values * 8)
    slots = <const ValueSlot *>(values + 1)
    i = <uint32_t>hash & values.mask
    while slots[i].node:
        if slots[i].hash == <uint32_t>(hash >> 32) and value_equals(asked, slots[i].value, line, p):
            search(asked, slots[i].node)
            return
        i = (i + 1) & values.mask


cdef bint value_equals(MatchedRequest *asked, Text value, int line, const Parameter *p) noexcept nogil:
    if p == NULL:
        return header_equals(asked.head, line, text(asked.image, value), value.n)
    return p.value_len == value.n and memcmp(p.value, text(asked.image, value), value.n) == 0


cdef const KeySlot *find_key(const Image *image, const Keys *keys, uint32_t kind, uint32_t hash, const char *name,
                             uint32_t n) noexcept nogil:
    cdef const KeySlot *slots = <const KeySlot *>(keys + 1)
    cdef uint32_t i = hash & keys.mask
    while slots[i].kind != KEY_NONE:
        if slots[i].hash == hash and slots[i].kind == kind and slots[i].name.n == n and (
                same_name(text(image, slots[i].name), name, n) if kind == KEY_HEADER
                else memcmp(name, text(image, slots[i].name), n) == 0):
            return &slots[i]
        i = (i + 1) & keys.mask
    return NULL


# ---- The image as a whole ----

# 0 where every section lies within `size` bytes, else which rule it breaks. Whoever maps an image calls this first.
cdef int check(const Image *image, uint64_t size) noexcept nogil:
    if size < sizeof(Image) or <size_t>image & 7:
        return 1
    if image.magic != image_magic() or image.version != IMAGE_VERSION or image.header_size != sizeof(Image):
        return 2
    if image.size != size:
        return 3
    return check_sections(image, size)


cdef inline bint within(uint64_t size, uint64_t at, uint64_t count, uint64_t each) noexcept nogil:
    return at & 7 == 0 and at >= sizeof(Image) and at <= size and count <= (size - at) // each


cdef int check_sections(const Image *image, uint64_t size) noexcept nogil:
    cdef int i
    for i in range(SECTIONS):
        if not within(size, image.sections[i].at, image.sections[i].count, element_size(<Section>i)):
            return 4
    return 0


cdef const Bind *find_bind(const Image *image, uint32_t id) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_BINDS)):
        if bind_at(image, i).id == id:
            return bind_at(image, i)
    return NULL


# ---- For tests, benchmarks and people ----

@cython.final
cdef class Table:
    """An image that can be asked. It keeps the buffer it was made of."""

    cdef Py_buffer view
    cdef const Image *image
    cdef RequestHead head
    cdef list kept             # the bytes that `head` points into

    def __cinit__(self, buffer):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE)
        self.image = <const Image *>self.view.buf
        cdef int broken = check(self.image, self.view.len)
        if broken:
            raise ValueError(f"not a table image (rule {broken})")
        cdef HeadLimits any_query = HeadLimits(0, 0x10000, 1000)
        if room_for_request(&self.head, &any_query) < 0:
            raise MemoryError

    def __dealloc__(self):
        forget_request(&self.head)
        PyBuffer_Release(&self.view)

    @property
    def generation(self):
        return self.image.generation

    def find(self, uint32_t bind_id, str method, str target, headers=(), str slash_path=""):
        """Return (listener id, rule id, bytes of the path that a prefix match covers or -1), None, or 'ambiguous'.

        `target` is a normalised path and query; `headers` are pairs, among them 'host'.
        """
        cdef Found found
        self.ask(method, target, headers, slash_path)
        cdef const Bind *bind = find_bind(self.image, bind_id)
        if bind == NULL:
            raise KeyError(bind_id)
        cdef int result = find(self.image, bind, &self.head, &found)
        if result != FOUND:
            return "ambiguous" if result == AMBIGUOUS else None
        return self.string(found.listener.id), self.rule_id(found.rule), found.prefix_len if found.prefix else -1

    def route(self, uint32_t bind_id, str name):
        """Return (listener id, rule id or None) of a connection for this name, in lower case; None without a listener."""
        cdef Found found
        cdef bytes sni = name.encode()
        cdef const Bind *bind = find_bind(self.image, bind_id)
        if bind == NULL:
            raise KeyError(bind_id)
        cdef int result = find_route(self.image, bind, sni, <uint32_t>len(sni), &found)
        if found.listener == NULL:
            return None
        return self.string(found.listener.id), self.rule_id(found.rule) if result == FOUND else None

    def spin(self, uint32_t bind_id, str method, paths, headers, uint64_t n):
        """Find each of `paths` in turn, `n` times in all; return (how many found a rule, the nanoseconds it took)."""
        cdef Slice *slices = <Slice *>malloc(len(paths) * sizeof(Slice))
        cdef const Bind *bind = find_bind(self.image, bind_id)
        cdef uint64_t _i, hits = 0
        cdef uint32_t at = 0
        cdef uint32_t count = <uint32_t>len(paths)
        cdef Found found
        cdef timespec begin, end
        if slices == NULL:
            raise MemoryError
        self.ask(method, "/", headers, "")
        for at in range(count):
            slices[at] = self.keep(paths[at])
        clock_gettime(CLOCK_MONOTONIC, &begin)
        for _i in range(n):
            at = at + 1 if at + 1 < count else 0
            self.head.match_path = slices[at]
            hits += find(self.image, bind, &self.head, &found) == FOUND
        clock_gettime(CLOCK_MONOTONIC, &end)
        free(slices)
        return hits, (end.tv_sec - begin.tv_sec) * 1_000_000_000 + end.tv_nsec - begin.tv_nsec

    cdef str string(self, Text t):
        return text(self.image, t)[:t.n].decode()

    cdef str rule_id(self, const Rule *rule):
        return f"{self.string(rule.kind)}/{self.string(rule.route)}/{rule.rule_index}"

    cdef Slice keep(self, str s) except *:
        cdef bytes kept = s.encode("utf-8", "surrogateescape")
        cdef Slice slice
        self.kept.append(kept)
        slice.at = kept
        slice.n = <uint32_t>len(kept)
        return slice

    cdef int ask(self, str method, str target, headers, str slash_path) except -1:
        cdef RequestHead *head = &self.head
        cdef Field *field
        cdef Slice kept
        cdef str path, query, mark
        head.match_path.n = head.slash_path.n = head.query.n = head.host.n = head.count = 0
        head.match_path.at = head.slash_path.at = head.query.at = head.host.at = NULL
        self.kept = []
        head.stated = 1                    # these are the fields that a backend would see
        path, mark, query = target.partition("?")
        head.method_id = METHODS.get(method, METHOD_OTHER)
        head.match_path = self.keep(path)
        head.slash_path = self.keep(slash_path)
        if mark:
            head.query = self.keep(query)
        if len(headers) > head.most:
            raise ValueError(f"at most {head.most} fields")
        for name, value in headers:
            field = &head.fields[head.count]
            field.name = self.keep(name).at
            field.name_len = <uint32_t>len(name)
            kept = self.keep(value)
            field.value = kept.at
            field.value_len = kept.n
            field.hash = name_hash(field.name, field.name_len)
            field.flags = FIELD_UNDERSCORE if "_" in name else 0
            if name.lower() == "host":
                head.host = self.keep(value.lower())
            head.count += 1
        return 0


METHODS = {
    "GET": METHOD_GET, "HEAD": METHOD_HEAD, "POST": METHOD_POST, "PUT": METHOD_PUT, "DELETE": METHOD_DELETE,
    "CONNECT": METHOD_CONNECT, "OPTIONS": METHOD_OPTIONS, "TRACE": METHOD_TRACE, "PATCH": METHOD_PATCH,
}
