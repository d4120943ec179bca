# Makes the automaton of several patterns that plan/union.py describes by positions; automaton.pxd has its layout.
#
# Rules:
# - a state is a set of positions, in ascending order; the sets lie one behind the other and are found by their hash
# - bytes that the same positions take are of one class; class 0 is of those that none takes
# - the first state is the empty set, which refuses all that follows; those that say something at once come last
import cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset

from gwfast.table.arena cimport Arena, discard, push
from gwfast.table.automaton cimport Automaton

cdef enum:
    FEW = 32               # positions that are put in order one by one
    DEAD = 0
    START = 1


def determine(masks, follow, ends, opens, uint32_t patterns, uint32_t most, uint64_t work):
    """Return the automaton; None where it has more than `most` states, or is more than `work` to make.

    `masks`: the bytes that lead to each position; `follow`: the positions behind each; `ends`, `opens`: the numbers of the
    patterns that match where the value ends there, or whatever follows.
    """
    cdef Making making = Making(masks, follow, work)
    return making.image(ends, opens, patterns, 4 * most) if making.states(most) else None


@cython.final
cdef class Making:
    cdef uint32_t positions
    cdef uint32_t width        # number of classes
    cdef uint64_t work         # that is left
    cdef uint32_t count        # of states
    cdef uint32_t mask         # of `slots`
    cdef uint8_t class_of[256]
    cdef Arena follow          # uint32_t: where the followers of each position begin, and one more; then these
    cdef Arena taken           # the same of the classes that lead to each position
    cdef Arena sets            # uint32_t: positions of each state
    cdef Arena begins          # uint32_t: where the set of each state begins in `sets`, and one more
    cdef Arena rows            # uint32_t [state][class]
    cdef Arena slots           # uint32_t: 1 + state, by the hash of its set
    cdef Arena marks           # uint32_t by position: the last state that gathered it
    cdef Arena near            # uint32_t: what follows a state; then the same by class
    cdef Arena room            # uint32_t [width + 1]
    cdef Arena places          # uint32_t by state: its number in what is written
    cdef Arena written         # the Automaton

    def __cinit__(self, list masks, list follow, uint64_t work):
        self.positions = <uint32_t>len(masks)
        self.work = work
        put_lists(&self.follow, [sorted(set(each)) for each in follow])
        self.classify(masks)
        push(&self.marks, self.positions * sizeof(uint32_t))
        push(&self.room, (self.width + 1) * sizeof(uint32_t))

    def __dealloc__(self):
        discard(&self.follow)
        discard(&self.taken)
        discard(&self.sets)
        discard(&self.begins)
        discard(&self.rows)
        discard(&self.slots)
        discard(&self.marks)
        discard(&self.near)
        discard(&self.room)
        discard(&self.places)
        discard(&self.written)

    cdef int classify(self, list masks) except -1:
        cdef dict kinds = {}               # mask -> its classes
        cdef dict numbers = {(): 0}
        for mask in masks:
            kinds.setdefault(mask, [])
        cdef list some = list(kinds.items())
        for byte in range(256):
            bit = <object>1 << byte        # of a Python int: there are 256
            key = tuple([n for n, (mask, _) in enumerate(some) if mask & bit])
            if key not in numbers:
                numbers[key] = len(numbers)
                for n in key:
                    some[n][1].append(numbers[key])
            self.class_of[<uint32_t>byte] = <uint8_t>numbers[key]
        self.width = <uint32_t>len(numbers)
        put_lists(&self.taken, [kinds[mask] for mask in masks])
        return 0

    # ---- States ----

    # All that can be reached. False beyond the bounds.
    cdef bint states(self, uint32_t most) except *:
        cdef uint32_t zero = 0
        cdef uint32_t state = START
        cdef uint32_t kind, n
        cdef uint32_t *row
        put(&self.begins, 0)
        self.grow()
        self.state_of(&zero, 0)            # DEAD
        self.state_of(&zero, 1)            # START
        push(&self.rows, self.width * sizeof(uint32_t))
        while state < self.count:
            push(&self.rows, self.width * sizeof(uint32_t))
            self.step(state)
            for kind in range(1, self.width):
                n = words(&self.room)[kind + 1] if kind + 1 < self.width else words(&self.room)[0]
                n -= words(&self.room)[kind]
                if n > self.work:
                    return False
                self.work -= n
                zero = self.state_of(words(&self.near) + self.positions + words(&self.room)[kind], n)
                row = words(&self.rows) + <size_t>state * self.width
                row[kind] = zero
            if self.count > most:
                return False
            state += 1
        return True

    # Gathers what follows a state, by class: that of class k begins at room[k], all of it ends at room[0].
    cdef int step(self, uint32_t state) except -1:
        cdef uint32_t n = self.gather(state)
        cdef const uint32_t *taken = words(&self.taken)
        cdef uint32_t *room = words(&self.room)
        cdef const uint32_t *near
        cdef uint32_t *out
        cdef uint32_t i, k, total
        memset(room, 0, (self.width + 1) * sizeof(uint32_t))
        near = words(&self.near)
        for i in range(n):
            for k in range(taken[near[i]], taken[near[i] + 1]):
                room[taken[k] + 1] += 1
        for k in range(1, self.width):
            room[k + 1] += room[k]
        total = room[self.width]
        if (self.positions + total) * sizeof(uint32_t) > self.near.used:
            push(&self.near, (self.positions + total) * sizeof(uint32_t) - self.near.used)
        near = words(&self.near)
        out = words(&self.near) + self.positions
        for i in range(n):
            for k in range(taken[near[i]], taken[near[i] + 1]):
                out[room[taken[k]]] = near[i]
                room[taken[k]] += 1
        for k in range(self.width - 1, 1, -1):     # each class was counted up to where the next begins
            room[k] = room[k - 1]
        if self.width > 1:
            room[1] = 0
        room[0] = total
        return 0

    # The positions that follow those of a state, in ascending order, to `near`.
    cdef uint32_t gather(self, uint32_t state) except *:
        cdef const uint32_t *follow = words(&self.follow)
        cdef const uint32_t *begins = words(&self.begins)
        cdef const uint32_t *sets = words(&self.sets)
        cdef uint32_t *marks = words(&self.marks)
        cdef uint32_t *near
        cdef uint32_t n = 0
        cdef uint32_t i, k, position
        if self.near.used < self.positions * sizeof(uint32_t):
            push(&self.near, self.positions * sizeof(uint32_t) - self.near.used)
        near = words(&self.near)
        for i in range(begins[state], begins[state + 1]):
            position = sets[i]
            for k in range(follow[position], follow[position + 1]):
                if marks[follow[k]] != state:
                    marks[follow[k]] = state
                    near[n] = follow[k]
                    n += 1
        put_in_order(near, n)
        return n

    # The state whose set these positions are, known or new.
    cdef uint32_t state_of(self, const uint32_t *positions, uint32_t n) except *:
        cdef const uint32_t *begins = words(&self.begins)
        cdef const uint32_t *slots
        cdef uint32_t state, i
        cdef ssize_t at
        if self.count * 2 > self.mask:
            self.grow()
        slots = words(&self.slots)
        i = hash_of(positions, n) & self.mask
        while slots[i]:
            state = slots[i] - 1
            if begins[state + 1] - begins[state] == n and \
                    memcmp(words(&self.sets) + begins[state], positions, n * sizeof(uint32_t)) == 0:
                return state
            i = (i + 1) & self.mask
        at = push(&self.sets, n * sizeof(uint32_t))
        if n:
            memcpy(self.sets.at + at, positions, n * sizeof(uint32_t))
        put(&self.begins, <uint32_t>(self.sets.used // sizeof(uint32_t)))
        words(&self.slots)[i] = 1 + self.count
        self.count += 1
        return self.count - 1

    cdef int grow(self) except -1:
        cdef const uint32_t *begins
        cdef uint32_t *slots
        cdef uint32_t state, i
        self.mask = max(self.mask * 2 + 1, <uint32_t>1023)
        self.slots.used = 0
        push(&self.slots, (self.mask + 1) * sizeof(uint32_t))
        slots = words(&self.slots)
        begins = words(&self.begins)
        for state in range(self.count):
            i = hash_of(words(&self.sets) + begins[state], begins[state + 1] - begins[state]) & self.mask
            while slots[i]:
                i = (i + 1) & self.mask
            slots[i] = 1 + state
        return 0

    # ---- What is written of them ----

    cdef bytes image(self, list ends, list opens, uint32_t patterns, uint32_t most):
        cdef list at_end = self.said(ends)
        cdef list at_once = self.said(opens)
        cdef list order = sorted(range(self.count), key=[bool(each) for each in at_once].__getitem__)
        cdef list place = [0] * self.count
        cdef Automaton *automaton
        cdef uint32_t number
        for number, state in enumerate(order):
            place[state] = number
        push(&self.written, sizeof(Automaton))
        automaton = <Automaton *>self.written.at
        automaton.states = self.count
        automaton.classes = self.width
        automaton.start = place[START]
        automaton.accept = self.count - sum([bool(each) for each in at_once])
        automaton.patterns = patterns
        memcpy(automaton.class_of, self.class_of, 256)
        self.write_rows(order, place)
        number = write_lists(&self.written, [at_end[state] for state in order],
                                  [at_once[state] for state in order if at_once[state]])
        if number > most:
            return None
        (<Automaton *>self.written.at).places = number
        return self.written.at[:self.written.used]

    # By state the numbers that its positions say, in ascending order.
    cdef list said(self, list numbers):
        cdef const uint32_t *begins = words(&self.begins)
        cdef const uint32_t *sets = words(&self.sets)
        cdef list found = []
        cdef uint32_t state, i
        for state in range(self.count):
            some = set()
            for i in range(begins[state], begins[state + 1]):
                if numbers[sets[i]]:
                    some.update(numbers[sets[i]])
            found.append(tuple(sorted(some)))
        return found

    cdef int write_rows(self, list order, list place) except -1:
        cdef const uint32_t *row
        cdef uint16_t *states
        cdef uint32_t kind
        cdef size_t n = 0
        cdef ssize_t at
        for number in place:
            put(&self.places, <uint32_t>number)
        at = push(&self.written, (<size_t>self.count * self.width * sizeof(uint16_t) + 7) & ~<size_t>7)
        states = <uint16_t *>(self.written.at + at)
        for state in order:
            row = words(&self.rows) + <size_t><uint32_t>state * self.width
            for kind in range(self.width):
                states[n] = <uint16_t>words(&self.places)[row[kind]]
                n += 1
        return 0


# Where the list of each state is in the lists, and these, each of them once. Returns how long they are.
cdef uint32_t write_lists(Arena *out, list at_end, list at_once) except *:
    cdef dict known = {(): 0}
    cdef list lists = [0]
    cdef uint32_t i
    for each in at_end + at_once:
        if each not in known:
            known[each] = len(lists)
            lists.append(len(each))
            lists += each
        put(out, <uint32_t>known[each])
    cdef ssize_t at = push(out, len(lists) * sizeof(uint16_t))
    for i in range(<uint32_t>len(lists)):
        (<uint16_t *>(out.at + at))[i] = <uint16_t>lists[i]
    push(out, -out.used & 7)
    return <uint32_t>len(lists)


cdef inline uint32_t *words(const Arena *arena) noexcept:
    return <uint32_t *>arena.at


cdef inline int put(Arena *arena, uint32_t value) except -1:
    cdef ssize_t at = push(arena, sizeof(uint32_t))
    (<uint32_t *>(arena.at + at))[0] = value
    return 0


# Lists one behind the other: first where each begins, counted from the first word, and where the last one ends.
cdef int put_lists(Arena *out, list lists) except -1:
    cdef size_t at = len(lists) + 1
    for each in lists:
        put(out, <uint32_t>at)
        at += len(each)
    put(out, <uint32_t>at)
    for each in lists:
        for number in each:
            put(out, <uint32_t>number)
    return 0


cdef inline uint32_t hash_of(const uint32_t *positions, uint32_t n) noexcept nogil:
    cdef uint64_t h = n
    cdef uint32_t i
    for i in range(n):
        h = (h ^ positions[i]) * 0x9E3779B97F4A7C15u
        h ^= h >> 29
    return <uint32_t>(h >> 16)


cdef int before(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const uint32_t *>a)[0]
    cdef uint32_t y = (<const uint32_t *>b)[0]
    return (x > y) - (x < y)


cdef void put_in_order(uint32_t *numbers, uint32_t n) noexcept nogil:
    cdef uint32_t i, k, number
    if n > FEW:
        qsort(numbers, n, sizeof(uint32_t), before)
        return
    for i in range(1, n):
        number = numbers[i]
        k = i
        while k > 0 and numbers[k - 1] > number:
            numbers[k] = numbers[k - 1]
            k -= 1
        numbers[k] = number
