# Automata, as they lie in an image: see plan/automaton.py for those of one pattern, plan/union.py for those of several.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from gwfast.table.layout cimport SECTION_AUTOMATA, Image, section_at

# Deterministic: next states follow, uint16_t [states][classes]; state 0 refuses all, those from `accept` on accept.
# Where states == 0, sets of places (4 uint64_t each): accepting; following [places]; led to by a class [classes].
# Of several patterns: behind the next states (a multiple of 8 bytes) for each state the list of those that match where the value
# ends, for each from `accept` on that of those that match whatever follows; then the lists, uint16_t [places]: how many, and
# which, in ascending order. The first one is empty.
cdef struct Automaton:
    uint32_t states
    uint32_t classes
    uint32_t start
    uint32_t accept
    uint32_t places
    uint32_t patterns      # 0: one
    uint8_t class_of[256]

cdef inline uint64_t next_states(const Automaton *automaton) noexcept nogil:
    return (<uint64_t>automaton.states * automaton.classes * sizeof(uint16_t) + 7) & ~<uint64_t>7

cdef inline uint64_t automaton_size(const Automaton *automaton) noexcept nogil:
    cdef uint64_t n = next_states(automaton)
    if automaton.states == 0:
        return (<uint64_t>automaton.places + automaton.classes + 1) * 32
    if automaton.patterns:
        n += (2 * <uint64_t>automaton.states - automaton.accept) * sizeof(uint32_t)
        n += <uint64_t>automaton.places * sizeof(uint16_t)
    return (n + 7) & ~<uint64_t>7

cdef inline const Automaton *automaton_at(const Image *image, uint32_t at) noexcept nogil:
    return <const Automaton *>(section_at(image, SECTION_AUTOMATA) + <uint64_t>at * 8)
