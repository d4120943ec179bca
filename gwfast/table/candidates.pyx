# Writes the candidates of a path, and what they are filed under: see layout.pxd for the layout.
#
# Rules:
# - what comes behind a candidate without conditions is not written: it can never win
# - a list of more than LEAF candidates is indexed: each candidate is filed under that of its exact conditions
#   (method, header, query parameter) that fewest others of the list share, and the lists that result are treated alike
# - an item of a list is (ordinal, index of the term, conditions that were keys already, of these those that hold); bit i of
#   both masks is predicate i, bit 63 the method
from libc.stdint cimport uint32_t, uint64_t

from gwfast.http.head cimport name_hash
from gwfast.table.arena cimport Arena, take
from gwfast.table.hash cimport hash_bytes
from gwfast.table.layout cimport (KEY_HEADER, KEY_QUERY, SECTION_PREDICATES, Candidate, Keys, KeySlot, Node, Predicate, Text,
                                  Values, ValueSlot)
from gwfast.table.slots cimport Slots, free_slot, slot_at, slots_of, table_mask
from gwfast.table.terms cimport Term, Terms, asks_nothing

cdef enum:
    LEAF = 8               # candidates that are tried one by one


cdef inline void put_candidate(Candidate *candidate, const Term *term, uint32_t ordinal) noexcept nogil:
    candidate.rule = term.rule
    candidate.ordinal = ordinal
    candidate.predicates = term.predicates
    candidate.method = term.method
    candidate.headers = term.headers
    candidate.queries = term.queries
    candidate.pad = 0


cdef uint32_t write_chain(Arena *blob, Term *terms, const uint32_t *next, uint32_t first, Terms shared) except? 0:
    cdef Candidate *candidate
    cdef Term *term
    cdef uint32_t count = 0
    cdef uint32_t i = first
    cdef ssize_t at
    while i != CHAIN_END:
        term = &terms[i]
        count += 1
        i = next[i]
        if asks_nothing(term):
            break
    if count == 0:
        return 0
    if count > LEAF:
        items = []
        i = first
        while len(items) < <ssize_t>count:
            items.append((len(items), i, 0, 0))
            i = next[i]
        return write_list(blob, terms, items, shared)
    at = take(blob, sizeof(Node) + count * sizeof(Candidate))
    (<Node *>(blob.at + at)).count = count
    candidate = <Candidate *>(blob.at + at + sizeof(Node))
    for i in range(count):
        put_candidate(&candidate[i], &terms[first], i)
        first = next[first]
    return <uint32_t>(at // 8)


cdef uint32_t write_list(Arena *blob, Term *terms, list items, Terms shared) except? 0:
    cdef list kept = []
    for item in items:
        kept.append(item)
        if not conditions_left(&terms[<uint32_t>item[1]], item[3]):
            break
    cdef dict keys = {}
    cdef list rest = file_under_keys(terms, kept, shared, keys) if len(kept) > LEAF else kept
    cdef ssize_t at = take(blob, sizeof(Node) + len(rest) * sizeof(Candidate))
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
    cdef const Predicate *p = <const Predicate *>shared.sections.element(SECTION_PREDICATES, term.predicates)
    cdef list found = []
    cdef uint32_t i
    if term.method and not used >> 63:
        found.append((0, "", term.method, 63))
    for i in range(term.headers + term.queries):
        if not used >> i & 1:
            found.append((KEY_HEADER if i < term.headers else KEY_QUERY, shared.texts.read(p[i].name),
                          None if p[i].automaton else shared.texts.read(p[i].value), i))
    return found


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


cdef uint32_t write_keys(Arena *blob, Term *terms, dict keys, Terms shared) except? 0:
    cdef dict names = {}
    cdef dict methods = {}
    for (kind, name, value), items in keys.items():
        node = write_list(blob, terms, items, shared)
        if kind == 0:
            methods[value] = node
        else:
            names.setdefault((kind, name), {})[value] = node
    cdef uint32_t mask = table_mask(<uint32_t>len(names))
    cdef ssize_t at = take(blob, sizeof(Keys) + (mask + 1) * sizeof(KeySlot))
    cdef Keys *table = <Keys *>(blob.at + at)
    table.mask = mask
    table.headers = sum(kind == KEY_HEADER for kind, _ in names)
    table.queries = sum(kind == KEY_QUERY for kind, _ in names)
    for method, node in methods.items():
        table.methods[<uint32_t>method] = node
    for (kind, name), values in names.items():
        write_key(blob, at, kind, name, values, shared)
    return <uint32_t>(at // 8)


cdef int write_key(Arena *blob, ssize_t at, uint32_t kind, str name, dict values, Terms shared) except -1:
    cdef uint32_t present = values.pop(None, 0)
    cdef uint32_t written = write_values(blob, values, shared) if values else 0
    cdef Keys *table = <Keys *>(blob.at + at)
    cdef Slots slots = slots_of(table + 1, sizeof(KeySlot), table.mask)
    cdef KeySlot *slot
    cdef Text text
    shared.texts.put(name, &text)
    cdef uint32_t hash = name_hash(shared.texts.arena.at + text.at, text.n)
    slot = <KeySlot *>slot_at(&slots, free_slot(&slots, hash))
    slot.hash = hash
    slot.kind = kind
    slot.name = text
    slot.values = written
    slot.present = present
    return 0


cdef uint32_t write_values(Arena *blob, dict values, Terms shared) except? 0:
    cdef uint32_t mask = table_mask(<uint32_t>len(values))
    cdef ssize_t at = take(blob, sizeof(Values) + (mask + 1) * sizeof(ValueSlot))
    cdef Slots slots = slots_of(blob.at + at + sizeof(Values), sizeof(ValueSlot), mask)
    cdef ValueSlot *slot
    cdef Text text
    cdef uint64_t hash
    (<Values *>(blob.at + at)).mask = mask
    for value, node in values.items():
        shared.texts.put(value, &text)
        hash = hash_bytes(shared.texts.arena.at + text.at, text.n)
        slot = <ValueSlot *>slot_at(&slots, free_slot(&slots, hash))
        slot.hash = <uint32_t>(hash >> 32)
        slot.node = node
        slot.value = text
    return <uint32_t>(at // 8)
