# Is an image whole? For tests and debugging, since it costs the image's size; `_match.check` is what a worker asks before it
# uses one.
#
# An image is whole where
# - every span, index, text and offset lies within its section, every table has room for a miss to end
# - candidates of a node are in ascending order, and the tables of an automaton name only its own states, lists and patterns
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from gwfast.table.automaton cimport Automaton, automaton_at, automaton_size, next_states
from gwfast._match cimport check
from gwfast.table.layout cimport (AUTH_ANY, BIND_UDP, KEY_HEADER, KEY_NONE, KEY_QUERY, MODE_UDP, NO_BACKEND, OP_AUTHORIZE,
                                  OP_CORS, OP_EXTENSION, OP_MIRROR, OP_REDIRECT, OP_REQUEST_SET, RULE_POLICY,
                                  SECTION_AUTHORIZERS, SECTION_AUTOMATA, SECTION_BACKENDS, SECTION_BINDS, SECTION_CHOICES,
                                  SECTION_CORS, SECTION_ENDPOINTS, SECTION_EXTENSIONS, SECTION_INDEX, SECTION_LISTENERS,
                                  SECTION_MIRRORS, SECTION_OPS, SECTION_ORIGINS, SECTION_PERSISTENCES, SECTION_POLICIES,
                                  SECTION_PREDICATES, SECTION_REDIRECTS, SECTION_RULES, SECTION_TEXT, UNION_PATTERNS,
                                  Candidate, Cors, HostIndex, Image, KeySlot, Keys, NameSlot, Names, Node, Op, PathNode,
                                  PathSlot, Predicate, RegexSlot, Regexes, Rule, Span, Text, ValueSlot, Values, authorizer_at,
                                  backend_at, bind_at, choice_at, cors_at, count_of, endpoint_at, extension_at, listener_at,
                                  mirror_at, op_at, origin_at, persistence_at, predicate_at, redirect_at, rule_at, section_at)

cdef enum:
    DEEPEST = 80               # nodes below nodes: one for each condition of a match at most


def verify(buffer):
    """Return None where the image is whole, else the name of the first part that is not."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    cdef const Image *image = <const Image *>view.buf
    try:
        if check(image, view.len):
            return "header"
        for part, whole in (("automata", automata_whole(image)), ("predicates", predicates_whole(image)),
                            ("ops", ops_whole(image)), ("choices", choices_whole(image)),
                            ("backends", backends_whole(image)), ("rules", rules_whole(image)),
                            ("listeners", listeners_whole(image)), ("binds", binds_whole(image))):
            if not whole:
                return part
    finally:
        PyBuffer_Release(&view)


cdef bint text_whole(const Image *image, Text t) noexcept nogil:
    return <uint64_t>t.at + t.n <= count_of(image, SECTION_TEXT)


cdef bint span_whole(Span span, uint32_t size) noexcept nogil:
    return <uint64_t>span.first + span.count <= size


# ---- What rules do ----

cdef bint ops_whole(const Image *image) noexcept nogil:
    cdef const Op *op
    cdef const Cors *cors
    cdef uint32_t i
    for i in range(count_of(image, SECTION_OPS)):
        op = op_at(image, i)
        if op.kind < OP_REQUEST_SET or op.kind > OP_CORS:
            return False
        if not (text_whole(image, op.name) and text_whole(image, op.value) and text_whole(image, op.line)):
            return False
        if op.kind == OP_REDIRECT and op.hash >= count_of(image, SECTION_REDIRECTS):
            return False
        if op.kind == OP_CORS and op.hash >= count_of(image, SECTION_CORS):
            return False
        if op.kind == OP_EXTENSION and (op.hash >= count_of(image, SECTION_EXTENSIONS)
                                        or not text_whole(image, extension_at(image, op.hash).definition)):
            return False
        if op.kind == OP_AUTHORIZE and (op.hash >= count_of(image, SECTION_AUTHORIZERS)
                                        or authorizer_at(image, op.hash).backend >= count_of(image, SECTION_BACKENDS)):
            return False
        if op.kind == OP_MIRROR and (op.hash >= count_of(image, SECTION_MIRRORS) or mirror_at(image, op.hash).backend >= count_of(image, SECTION_BACKENDS)):
            return False
    for i in range(count_of(image, SECTION_CORS)):
        cors = cors_at(image, i)
        if cors.first + <uint64_t>cors.count > count_of(image, SECTION_ORIGINS):
            return False
        if not (text_whole(image, cors.preflight) and text_whole(image, cors.actual)
                and text_whole(image, cors.methods) and text_whole(image, cors.headers)):
            return False
    for i in range(count_of(image, SECTION_ORIGINS)):
        if not text_whole(image, origin_at(image, i).host):
            return False
    for i in range(count_of(image, SECTION_REDIRECTS)):
        if not (text_whole(image, redirect_at(image, i).scheme) and text_whole(image, redirect_at(image, i).host)
                and text_whole(image, redirect_at(image, i).path)):
            return False
    return True


cdef bint choices_whole(const Image *image) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_CHOICES)):
        if not span_whole(choice_at(image, i).ops, count_of(image, SECTION_OPS)):
            return False
        if choice_at(image, i).backend != NO_BACKEND and choice_at(image, i).backend >= count_of(image, SECTION_BACKENDS):
            return False
        if choice_at(image, i).persistence > count_of(image, SECTION_PERSISTENCES):
            return False
    for i in range(count_of(image, SECTION_PERSISTENCES)):
        if not (text_whole(image, persistence_at(image, i).name) and text_whole(image, persistence_at(image, i).before)
                and text_whole(image, persistence_at(image, i).behind)):
            return False
    return True


cdef bint backends_whole(const Image *image) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_BACKENDS)):
        if not (span_whole(backend_at(image, i).endpoints, count_of(image, SECTION_ENDPOINTS))
                and text_whole(image, backend_at(image, i).name)):
            return False
    for i in range(count_of(image, SECTION_ENDPOINTS)):
        if endpoint_at(image, i).family != 4 and endpoint_at(image, i).family != 6:
            return False
        if endpoint_at(image, i).slot >= image.endpoint_slots:
            return False
    return True


cdef bint rules_whole(const Image *image) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_RULES)):
        if not rule_whole(image, rule_at(image, i)):
            return False
    return True


cdef bint rule_whole(const Image *image, const Rule *rule) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    if not (span_whole(rule.ops, count_of(image, SECTION_OPS)) and span_whole(rule.choices, count_of(image, SECTION_CHOICES))):
        return False
    if rule.choices.first + <uint64_t>rule.choices.count + rule.idle > count_of(image, SECTION_CHOICES):
        return False
    for i in range(rule.choices.count):
        if choice_at(image, rule.choices.first + i).weight == 0:
            return False
        total += choice_at(image, rule.choices.first + i).weight
    if total != rule.total or rule.counter >= image.counter_slots:
        return False
    if rule.flags & RULE_POLICY and rule.policy >= count_of(image, SECTION_POLICIES):
        return False
    if rule.choices.count > 1 and <uint64_t>rule.pick_at + rule.choices.count >= image.pick_slots:
        return False
    return text_whole(image, rule.route) and text_whole(image, rule.name) and text_whole(image, rule.kind)


# ---- Names ----

cdef bint binds_whole(const Image *image) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_BINDS)):
        if bind_at(image, i).transport > BIND_UDP:
            return False
        if not (span_whole(bind_at(image, i).listeners, count_of(image, SECTION_LISTENERS))
                and names_whole(image, bind_at(image, i).hosts, count_of(image, SECTION_LISTENERS))):
            return False
    return True


cdef bint listeners_whole(const Image *image) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_LISTENERS)):
        if listener_at(image, i).mode > MODE_UDP or listener_at(image, i).client_auth > AUTH_ANY:
            return False
        if not (text_whole(image, listener_at(image, i).id) and text_whole(image, listener_at(image, i).hostname)
                and names_whole(image, listener_at(image, i).hosts, 0)):
            return False
    return True


# `n` bytes at an offset in units of 8 from `base` lie within the index.
cdef bint inside(const Image *image, const char *base, uint32_t at, uint64_t n) noexcept nogil:
    cdef uint64_t start = <uint64_t>(base - <const char *>image) - image.sections[<int>SECTION_INDEX].at + <uint64_t>at * 8
    return at != 0 and start <= count_of(image, SECTION_INDEX) and n <= count_of(image, SECTION_INDEX) - start


cdef bint is_mask(uint32_t mask) noexcept nogil:
    return mask & (mask + 1) == 0 and mask != 0 and mask < 0x7FFFFFFF


# `listeners`: how many indexes a value may be; 0 where values are hosts.
cdef bint names_whole(const Image *image, uint32_t at, uint32_t listeners) noexcept nogil:
    cdef const char *index = section_at(image, SECTION_INDEX)
    cdef const Names *names = <const Names *>(index + <uint64_t>at * 8)
    cdef const NameSlot *slots = <const NameSlot *>(names + 1)
    cdef uint32_t i
    cdef uint32_t used = 0
    if not inside(image, index, at, sizeof(Names)) or not is_mask(names.mask) or \
            not inside(image, index, at, sizeof(Names) + (<uint64_t>names.mask + 1) * sizeof(NameSlot)):
        return False
    if names.any and not value_whole(image, names.any, listeners):
        return False
    for i in range(names.mask + 1):
        if slots[i].value == 0:
            continue
        used += 1
        if not (text_whole(image, slots[i].name) and value_whole(image, slots[i].value, listeners)):
            return False
    return used <= names.mask


cdef bint value_whole(const Image *image, uint32_t value, uint32_t listeners) noexcept nogil:
    return value <= listeners if listeners else host_whole(image, value)


# ---- Hosts ----

cdef bint host_whole(const Image *image, uint32_t at) noexcept nogil:
    cdef const char *section = section_at(image, SECTION_INDEX)
    cdef const char *host = section + <uint64_t>at * 8
    cdef const HostIndex *index = <const HostIndex *>host
    cdef const PathSlot *slots
    cdef uint32_t i
    cdef uint32_t used = 0
    if not inside(image, section, at, sizeof(HostIndex)) or not is_mask(index.mask) or \
            not inside(image, host, index.paths, (<uint64_t>index.mask + 1) * sizeof(PathSlot)):
        return False
    slots = <const PathSlot *>(host + <uint64_t>index.paths * 8)
    for i in range(index.mask + 1):
        if slots[i].path == 0:
            continue
        used += 1
        if not path_whole(image, host, slots[i].path):
            return False
    return used <= index.mask and node_whole(image, host, index.root, 0) and regexes_whole(image, host, index.regexes) \
        and regexes_whole(image, host, index.calls)


cdef bint path_whole(const Image *image, const char *host, uint32_t at) noexcept nogil:
    cdef const PathNode *node = <const PathNode *>(host + <uint64_t>at * 8)
    if not inside(image, host, at, sizeof(PathNode)) or not inside(image, host, at, sizeof(PathNode) + node.n):
        return False
    return node_whole(image, host, node.exact, 0) and node_whole(image, host, node.prefix, 0) \
        and regexes_whole(image, host, node.regexes)


cdef bint regexes_whole(const Image *image, const char *host, uint32_t at) noexcept nogil:
    cdef const Regexes *regexes = <const Regexes *>(host + <uint64_t>at * 8)
    cdef const RegexSlot *slots = <const RegexSlot *>(regexes + 1)
    cdef uint32_t i
    if at == 0:
        return True
    if not inside(image, host, at, sizeof(Regexes)) or \
            not inside(image, host, at, sizeof(Regexes) + <uint64_t>regexes.count * sizeof(RegexSlot)):
        return False
    for i in range(regexes.count):
        if not automaton_whole(image, slots[i].automaton) or not slot_whole(image, host, &slots[i]) or \
                (i and slots[i].first < slots[i - 1].first):
            return False
    return True


cdef bint slot_whole(const Image *image, const char *host, const RegexSlot *slot) noexcept nogil:
    cdef uint32_t patterns = automaton_at(image, slot.automaton).patterns
    cdef const uint32_t *nodes = &slot.node
    cdef uint32_t i
    if patterns > UNION_PATTERNS or (patterns != 0) != (slot.nodes != 0):
        return False
    if patterns:
        if slot.sieve > 1 or not inside(image, host, slot.nodes, patterns * (1 + slot.sieve) * sizeof(uint32_t)):
            return False
        nodes = <const uint32_t *>(host + <uint64_t>slot.nodes * 8)
        for i in range(patterns * slot.sieve):
            if not automaton_whole(image, nodes[patterns + i]) or automaton_at(image, nodes[patterns + i]).patterns:
                return False
    for i in range(max(patterns, <uint32_t>1)):
        if nodes[i] == 0 or not node_whole(image, host, nodes[i], 0) or \
                (<const Node *>(host + <uint64_t>nodes[i] * 8)).first < slot.first:
            return False
    return True


cdef bint node_whole(const Image *image, const char *host, uint32_t at, int depth) noexcept nogil:
    cdef const Node *node = <const Node *>(host + <uint64_t>at * 8)
    cdef const Candidate *candidate = <const Candidate *>(node + 1)
    cdef uint32_t i
    if at == 0:
        return True
    if depth > DEEPEST or not inside(image, host, at, sizeof(Node)) or \
            not inside(image, host, at, sizeof(Node) + <uint64_t>node.count * sizeof(Candidate)):
        return False
    for i in range(node.count):
        if candidate[i].rule >= count_of(image, SECTION_RULES) or candidate[i].ordinal < node.first or \
                (i and candidate[i].ordinal <= candidate[i - 1].ordinal):
            return False
        if <uint64_t>candidate[i].predicates + candidate[i].headers + candidate[i].queries > count_of(image, SECTION_PREDICATES):
            return False
    return node.keys == 0 or keys_whole(image, host, node.keys, depth)


cdef bint keys_whole(const Image *image, const char *host, uint32_t at, int depth) noexcept nogil:
    cdef const Keys *keys = <const Keys *>(host + <uint64_t>at * 8)
    cdef const KeySlot *slots = <const KeySlot *>(keys + 1)
    cdef uint32_t i
    cdef uint32_t used[3]
    used[<int>KEY_NONE] = used[<int>KEY_HEADER] = used[<int>KEY_QUERY] = 0
    if not inside(image, host, at, sizeof(Keys)) or not is_mask(keys.mask) or \
            not inside(image, host, at, sizeof(Keys) + (<uint64_t>keys.mask + 1) * sizeof(KeySlot)):
        return False
    for i in range(10):
        if not node_whole(image, host, keys.methods[i], depth + 1):
            return False
    for i in range(keys.mask + 1):
        if slots[i].kind > KEY_QUERY:
            return False
        used[<int>slots[i].kind] += 1
        if slots[i].kind and not (text_whole(image, slots[i].name)
                                  and node_whole(image, host, slots[i].present, depth + 1)
                                  and values_whole(image, host, slots[i].values, depth)):
            return False
    return used[<int>KEY_NONE] > 0 and used[<int>KEY_HEADER] == keys.headers and used[<int>KEY_QUERY] == keys.queries


cdef bint values_whole(const Image *image, const char *host, uint32_t at, int depth) noexcept nogil:
    cdef const Values *values = <const Values *>(host + <uint64_t>at * 8)
    cdef const ValueSlot *slots = <const ValueSlot *>(values + 1)
    cdef uint32_t i
    cdef uint32_t used = 0
    if at == 0:
        return True
    if not inside(image, host, at, sizeof(Values)) or not is_mask(values.mask) or \
            not inside(image, host, at, sizeof(Values) + (<uint64_t>values.mask + 1) * sizeof(ValueSlot)):
        return False
    for i in range(values.mask + 1):
        used += slots[i].node != 0
        if not (text_whole(image, slots[i].value) and node_whole(image, host, slots[i].node, depth + 1)):
            return False
    return used <= values.mask


# ---- Predicates and automata ----

cdef bint predicates_whole(const Image *image) noexcept nogil:
    cdef const Predicate *predicate = predicate_at(image, 0)
    cdef uint32_t i
    for i in range(count_of(image, SECTION_PREDICATES)):
        if not (text_whole(image, predicate[i].name) and text_whole(image, predicate[i].value)):
            return False
        if predicate[i].automaton and not automaton_whole(image, predicate[i].automaton):
            return False
    return True


# All automata, which lie one behind the other.
cdef bint automata_whole(const Image *image) noexcept nogil:
    cdef const char *section = section_at(image, SECTION_AUTOMATA)
    cdef const Automaton *automaton
    cdef const uint16_t *states
    cdef uint64_t at = 8
    cdef uint64_t i
    while at < count_of(image, SECTION_AUTOMATA):
        automaton = <const Automaton *>(section + at)
        at += sizeof(Automaton)
        if at > count_of(image, SECTION_AUTOMATA) or automaton_size(automaton) > count_of(image, SECTION_AUTOMATA) - at:
            return False
        for i in range(256):
            if automaton.class_of[i] >= automaton.classes:
                return False
        if automaton.start > automaton.states or (automaton.places > 255 and not automaton.patterns):
            return False
        states = <const uint16_t *>(automaton + 1)
        for i in range(<uint64_t>automaton.states * automaton.classes):
            if states[i] >= automaton.states:
                return False
        if automaton.patterns and not lists_whole(automaton):
            return False
        at += automaton_size(automaton)
    return True


cdef bint lists_whole(const Automaton *automaton) noexcept nogil:
    cdef const uint32_t *which = <const uint32_t *>(<const char *>(automaton + 1) + next_states(automaton))
    cdef uint64_t count = 2 * <uint64_t>automaton.states - automaton.accept
    cdef const uint16_t *lists = <const uint16_t *>(which + count)
    cdef uint64_t i, k
    if automaton.accept > automaton.states or automaton.places == 0 or lists[0] != 0:
        return False
    for i in range(count):
        if which[i] >= automaton.places or <uint64_t>which[i] + lists[which[i]] >= automaton.places:
            return False
        for k in range(lists[which[i]]):
            if lists[which[i] + 1 + k] >= automaton.patterns:
                return False
    return True


# Whether an automaton begins at this offset: their sizes lead from one to the next.
cdef bint automaton_whole(const Image *image, uint32_t offset) noexcept nogil:
    cdef const char *section = section_at(image, SECTION_AUTOMATA)
    cdef uint64_t at = 8
    while at < count_of(image, SECTION_AUTOMATA) and at < <uint64_t>offset * 8:
        at += sizeof(Automaton) + automaton_size(<const Automaton *>(section + at))
    return at == <uint64_t>offset * 8 and at < count_of(image, SECTION_AUTOMATA)
