# Writes the tables of names: of a bind's listeners, and of a listener's hosts. See layout.pxd for their layout.
from libc.stdint cimport uint32_t, uint64_t

from gwfast.table.arena cimport Arena, take
from gwfast.table.hash cimport hash_name
from gwfast.table.image cimport Texts
from gwfast.table.layout cimport ANY_DEPTH, Names, NameSlot
from gwfast.table.slots cimport Slots, empty_slot, find_slot, slot_at, slots_of, table_mask


cdef ssize_t write_names(Arena *arena, uint32_t count) except -1:
    cdef uint32_t mask = table_mask(count)
    cdef ssize_t at = take(arena, sizeof(Names) + (mask + 1) * sizeof(NameSlot))
    (<Names *>(arena.at + at)).mask = mask
    return at


cdef uint32_t room_for_names(Arena *arena, ssize_t at) noexcept:
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


cdef void set_name(Arena *arena, ssize_t at, const Name *name, uint32_t value, bint again) noexcept:
    cdef Names *names = <Names *>(arena.at + at)
    cdef Slots slots = slots_of_names(names)
    cdef NameSlot *slot
    if name.text.n == 0:
        if again or not names.any:
            names.any = value
        return
    names.depths |= <uint64_t>1 << min(name.labels, <uint32_t>ANY_DEPTH)
    slot = <NameSlot *>slot_at(&slots, find_slot(&slots, name.hash, is_name, name))
    if slot.value and not again:
        return
    slot.hash = <uint32_t>(name.hash >> 32)
    slot.value = value
    slot.name = name.text


cdef void remove_name(Arena *arena, ssize_t at, const Name *name, Texts texts) noexcept:
    cdef Names *names = <Names *>(arena.at + at)
    cdef Slots slots = slots_of_names(names)
    if name.text.n == 0:
        names.any = 0
        return
    empty_slot(&slots, find_slot(&slots, name.hash, is_name, name), home_of_name, texts.arena.at)


cdef Slots slots_of_names(Names *names) noexcept:
    return slots_of(names + 1, sizeof(NameSlot), names.mask)


cdef bint is_name(const void *slot, const void *name) noexcept nogil:
    return ((<const NameSlot *>slot).name.at == (<const Name *>name).text.at
            and (<const NameSlot *>slot).name.n == (<const Name *>name).text.n)


cdef uint64_t home_of_name(const void *slot, const void *text) noexcept nogil:
    return hash_name(<const char *>text + (<const NameSlot *>slot).name.at, (<const NameSlot *>slot).name.n)
