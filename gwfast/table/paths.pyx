# Writes the part of an image that find() walks from a host on: see layout.pxd for its layout.
#
# Rules:
# - what is written of a host depends on its terms alone (and on the places of what all hosts share); of one that changes, the
#   paths are written anew whose terms change, and nothing else
# - ordinals of patterns are places in their host: where a pattern comes or goes the host is written as a whole
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from gwfast.table.arena cimport Arena, reserve, take
from gwfast.table.candidates cimport CHAIN_END, write_chain, write_list
from gwfast.table.hash cimport hash_path
from gwfast.table.layout cimport ANY_DEPTH, HostIndex, PathNode, PathSlot, Regexes, RegexSlot
from gwfast.table.slots cimport Slots, empty_slot, find_slot, free_slot, is_taken, slot_at, slots_of, table_mask
from gwfast.table.terms cimport TERM_CALL, TERM_EXACT, TERM_KINDS, TERM_PREFIX, TERM_REGEX, Term, Terms

from gwfast.plan.union import split
from gwfast.table.union import determine

cdef enum:
    FEW = 16               # terms that change one by one

# The terms of one path: a chain through `next` for each TermKind, in final order.
cdef struct Group:
    uint32_t some          # any term of it
    uint32_t first[TERM_KINDS]
    uint32_t last[TERM_KINDS]

# Where the groups are while a host is written, by the hash of their paths.
cdef struct GroupSlot:
    uint32_t pad
    uint32_t group         # 1 + its number; 0: free

# What is needed while one host is written.
cdef struct Draft:
    Term *terms
    uint32_t count
    uint32_t groups
    Group *group
    uint32_t *next         # by term
    Slots slots            # GroupSlots

# A path that is looked for among the groups of a draft, or in a host.
cdef struct Wanted:
    const Term *term
    const Draft *draft
    const char *host


cdef uint32_t write_host(Arena *blob, Term *terms, uint32_t count, Terms shared) except? 0:
    cdef Draft draft
    cdef uint32_t mask = table_mask(count)
    draft.terms = terms
    draft.count = count
    draft.groups = 0
    draft.group = <Group *>malloc((count + 1) * sizeof(Group))
    draft.next = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
    draft.slots = slots_of(calloc(mask + 1, sizeof(GroupSlot)), sizeof(GroupSlot), mask)
    try:
        if draft.group == NULL or draft.next == NULL or draft.slots.at == NULL:
            raise MemoryError
        group_paths(&draft)
        write_paths(blob, &draft, shared)
        return draft.groups
    finally:
        free(draft.group)
        free(draft.next)
        free(draft.slots.at)


cdef bint patch_host(Arena *blob, Term *terms, uint32_t count, uint32_t *paths, const Term *touched, uint32_t n,
                     Terms shared) except? False:
    cdef Draft draft
    cdef Group groups[FEW]
    cdef const Term *changed[FEW]          # a term of each group's path
    cdef uint32_t g
    cdef uint32_t room = (<HostIndex *>blob.at).mask + 1
    if n > FEW or <uint64_t>(paths[0] + n) * 8 > <uint64_t>room * 3:
        return False
    draft.terms = terms
    draft.count = count
    draft.groups = 0
    draft.group = groups
    draft.next = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
    try:
        if draft.next == NULL:
            raise MemoryError
        if not regroup(&draft, touched, n, changed):
            return False
        for g in range(draft.groups):
            patch_path(blob, paths, &draft, &groups[g], changed[g], shared)
        return True
    finally:
        free(draft.next)


# ---- Groups


cdef void group_paths(Draft *draft) noexcept nogil:
    cdef Wanted wanted
    cdef GroupSlot *slot
    cdef uint32_t i
    wanted.draft = draft
    for i in range(draft.count):
        wanted.term = &draft.terms[i]
        slot = <GroupSlot *>slot_at(&draft.slots, find_slot(&draft.slots, wanted.term.hash, is_group, &wanted))
        if slot.group == 0:
            begin_group(&draft.group[draft.groups], i)
            draft.groups += 1
            slot.group = draft.groups
        chain(draft, &draft.group[slot.group - 1], i)


cdef bint is_group(const void *slot, const void *key) noexcept nogil:
    cdef const Wanted *wanted = <const Wanted *>key
    cdef const Draft *draft = wanted.draft
    return same_path(&draft.terms[draft.group[(<const GroupSlot *>slot).group - 1].some], wanted.term)


# The groups of the paths of `touched`, with what they are now. False where there is a pattern among them.
cdef bint regroup(Draft *draft, const Term *touched, uint32_t n, const Term **paths) noexcept nogil:
    cdef uint32_t i, g
    for i in range(n):
        for g in range(draft.groups):
            if same_path(paths[g], &touched[i]):
                break
        else:
            paths[draft.groups] = &touched[i]
            begin_group(&draft.group[draft.groups], 0)
            draft.groups += 1
        if touched[i].kind >= TERM_REGEX:
            return False
    for i in range(draft.count):
        for g in range(draft.groups):
            if same_path(paths[g], &draft.terms[i]):
                if draft.terms[i].kind >= TERM_REGEX:
                    return False
                draft.group[g].some = i
                chain(draft, &draft.group[g], i)
    return True


cdef inline bint same_path(const Term *a, const Term *b) noexcept nogil:
    return a.hash == b.hash and a.n == b.n and memcmp(a.path, b.path, a.n) == 0


cdef inline void begin_group(Group *group, uint32_t some) noexcept nogil:
    group.some = some
    memset(group.first, 0xFF, sizeof(group.first))     # CHAIN_END


cdef inline void chain(Draft *draft, Group *group, uint32_t i) noexcept nogil:
    cdef uint8_t kind = draft.terms[i].kind
    draft.next[i] = CHAIN_END
    if group.first[kind] == CHAIN_END:
        group.first[kind] = i
    else:
        draft.next[group.last[kind]] = i
    group.last[kind] = i


# ---- Paths


cdef int write_paths(Arena *blob, Draft *draft, Terms shared) except -1:
    cdef uint32_t mask = table_mask(2 * draft.groups)
    cdef uint32_t g
    cdef uint64_t hash
    cdef Slots slots
    cdef ssize_t table, at
    reserve(blob, sizeof(HostIndex) + (mask + 1) * sizeof(PathSlot) + draft.groups * 64)
    take(blob, sizeof(HostIndex))
    table = take(blob, (mask + 1) * sizeof(PathSlot))
    (<HostIndex *>blob.at).mask = mask
    (<HostIndex *>blob.at).paths = <uint32_t>(table // 8)
    for g in range(draft.groups):
        at = write_path(blob, draft, &draft.group[g], shared)
        hash = draft.terms[draft.group[g].some].hash
        slots = paths_of(blob.at)
        put_path(&slots, free_slot(&slots, hash), hash, at)
    return 0


# Writes one path anew, or takes it out where it has no terms any more.
cdef int patch_path(Arena *blob, uint32_t *paths, Draft *draft, Group *group, const Term *path, Terms shared) except -1:
    cdef bint left = group.first[<int>TERM_EXACT] != CHAIN_END or group.first[<int>TERM_PREFIX] != CHAIN_END
    cdef ssize_t at = write_path(blob, draft, group, shared) if left else 0
    cdef Slots slots = paths_of(blob.at)
    cdef Wanted wanted
    cdef uint32_t i
    wanted.term = path
    wanted.host = blob.at
    i = find_slot(&slots, path.hash, is_path, &wanted)
    if left:
        paths[0] += not is_taken(&slots, i)
        put_path(&slots, i, path.hash, at)
    elif is_taken(&slots, i):
        paths[0] -= 1
        empty_slot(&slots, i, home_of_path, blob.at)
        if path.n == 1:
            (<HostIndex *>blob.at).root = 0
    return 0


cdef inline Slots paths_of(char *host) noexcept nogil:
    return slots_of(host + <size_t>(<HostIndex *>host).paths * 8, sizeof(PathSlot), (<HostIndex *>host).mask)


cdef inline void put_path(const Slots *slots, uint32_t i, uint64_t hash, ssize_t at) noexcept nogil:
    cdef PathSlot *slot = <PathSlot *>slot_at(slots, i)
    slot.hash = <uint32_t>(hash >> 32)
    slot.path = <uint32_t>(at // 8)


cdef inline const PathNode *path_of(const void *slot, const char *host) noexcept nogil:
    return <const PathNode *>(host + <size_t>(<const PathSlot *>slot).path * 8)


cdef bint is_path(const void *slot, const void *key) noexcept nogil:
    cdef const Wanted *wanted = <const Wanted *>key
    cdef const PathNode *node = path_of(slot, wanted.host)
    return node.n == wanted.term.n and memcmp(<const char *>(node + 1), wanted.term.path, node.n) == 0


cdef uint64_t home_of_path(const void *slot, const void *host) noexcept nogil:
    cdef const PathNode *node = path_of(slot, <const char *>host)
    return hash_path(<const char *>(node + 1), node.n)


# The PathNode of a group. What '/' is a prefix of goes to the host itself: every path has it.
cdef ssize_t write_path(Arena *blob, Draft *draft, Group *group, Terms shared) except -1:
    cdef Term *term = &draft.terms[group.some]
    cdef ssize_t at = take(blob, sizeof(PathNode) + term.n)
    cdef PathNode *node = <PathNode *>(blob.at + at)
    node.n = term.n
    memcpy(node + 1, term.path, term.n)
    cdef uint32_t exact = write_chain(blob, draft.terms, draft.next, group.first[<int>TERM_EXACT], shared)
    cdef uint32_t prefix = write_chain(blob, draft.terms, draft.next, group.first[<int>TERM_PREFIX], shared)
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


# ---- Regular expressions


# One node for each pattern of a chain, and automata for all of them; ordinals are places in the host.
cdef uint32_t write_regexes(Arena *blob, Draft *draft, uint32_t first, Terms shared) except? 0:
    cdef dict items = {}
    cdef uint32_t i = first
    while i != CHAIN_END:
        items.setdefault(shared.patterns[draft.terms[i].pattern], []).append((i, i, 0, 0))
        i = draft.next[i]
    if not items:
        return 0
    parts = split(list(items), shared.unions, determine)      # in the order in which they first appear
    parts.sort(key=lambda part: items[part.patterns[0]][0])
    cdef ssize_t at = take(blob, sizeof(Regexes) + len(parts) * sizeof(RegexSlot))
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


cdef uint32_t write_nodes(Arena *blob, Draft *draft, list lists, object automata, Terms shared) except? 0:
    cdef ssize_t at = take(blob, (len(lists) + len(automata)) * sizeof(uint32_t))
    cdef uint32_t i, node
    for i, place in enumerate(automata, len(lists)):
        (<uint32_t *>(blob.at + at))[i] = place
    for i, items in enumerate(lists):
        node = write_list(blob, draft.terms, items, shared)
        (<uint32_t *>(blob.at + at))[i] = node
    return <uint32_t>(at // 8)
