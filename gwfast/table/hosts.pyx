# Keeps what is written of each host of the plan in line with it: see paths.pyx for what is written.
#
# Rules:
# - what is written of a host stays while the plan's Host does; of one that changed, what differs from its last version is
#   found by what the two share (gwfast.sharing)
# - a host is written at the end of the index, and again at its place where it still fits there
import cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from gwfast.table.arena cimport Arena, discard, push, rebase, take
from gwfast.table.image cimport Sections
from gwfast.table.layout cimport SECTION_INDEX
from gwfast.table.names cimport make_name
from gwfast.table.paths cimport patch_host, write_host
from gwfast.table.rules cimport Rules
from gwfast.table.terms cimport Term, Terms

from gwfast.sharing import items_of, spans


@cython.final
@cython.no_gc
cdef class HostBlock:
    def __dealloc__(self):
        free(self.terms)


@cython.final
cdef class Hosts:
    def __cinit__(self, Sections sections, Terms terms, Rules rules):
        self.sections = sections
        self.texts = terms.texts
        self.terms = terms
        self.rules = rules
        self.index = &sections.arenas[<int>SECTION_INDEX]
        take(self.index, 8)                # offset 0 stands for none

    cdef HostBlock block(self, object host, HostBlock block):
        cdef Arena touched = EMPTY         # Terms that came or went
        cdef Term *before
        cdef bint same_order
        if block is None:
            block = HostBlock.__new__(HostBlock)
            make_name(&block.name, host.hostname, self.texts, False)
        elif block.host is host:
            return block
        before = block.terms
        try:
            same_order = self.renew_terms(host, block, &touched)
            if not (before != NULL and same_order and self.patch(block, &touched)):
                self.write_whole(block)
        finally:
            free(before)
            discard(&touched)
        block.host = host
        return block

    # Gives a block the terms of a host. False where what stays is not in the order in which it was.
    cdef bint renew_terms(self, object host, HostBlock block, Arena *touched) except *:
        cdef object entries = host.entries
        cdef object known = block.host.entries if block.host is not None else ()
        cdef Term *old = block.terms
        cdef Term *new = <Term *>malloc((len(entries) + 1) * sizeof(Term))
        cdef ssize_t a, b, c, d
        cdef ssize_t i = 0
        cdef ssize_t j = 0
        cdef bint same_order = True
        if new == NULL:
            raise MemoryError
        block.terms = new                  # `old` is the caller's
        for a, b, c, d in spans(known, entries):
            if a > i:                      # else there may be no old ones at all
                memcpy(new + j, old + i, (a - i) * sizeof(Term))
            places = {id(entry): at for at, entry in enumerate(items_of(known, a, b), a)}
            i = a
            for j, entry in enumerate(items_of(entries, c, d), c):
                at = places.pop(id(entry), None)
                if at is None:
                    self.come(entry, new + j, touched)
                    block.asking += new[j].asks
                else:
                    new[j] = old[<ssize_t>at]
                    same_order = same_order and <ssize_t>at >= i
                    i = at
            for at in places.values():
                self.go(old + <ssize_t>at, touched)
                block.asking -= old[<ssize_t>at].asks
            i = b
            j = d
        if <ssize_t>len(entries) > j:
            memcpy(new + j, old + i, (<ssize_t>len(entries) - j) * sizeof(Term))
        block.count = <uint32_t>len(entries)
        return same_order

    cdef int come(self, object entry, Term *term, Arena *touched) except -1:
        cdef object rule = entry.rule
        self.terms.put(entry.match, self.rules.hold(rule), rule.kind == "GRPCRoute", term)
        return note_term(touched, term)

    cdef int go(self, const Term *term, Arena *touched) except -1:
        self.rules.leave(term.rule)
        return note_term(touched, term)

    cdef bint patch(self, HostBlock block, Arena *touched) except *:
        rebase(self.index, block.at)
        try:
            return patch_host(self.index, block.terms, block.count, &block.paths, <Term *>touched.at,
                              <uint32_t>(touched.used // sizeof(Term)), self.terms)
        finally:
            rebase(self.index, 0)

    # At its place if it fits there, else at the end of the index.
    cdef int write_whole(self, HostBlock block) except -1:
        cdef Arena blob = EMPTY
        if block.room:
            try:
                block.paths = write_host(&blob, block.terms, block.count, self.terms)
                if blob.used > block.room:
                    block.room = blob.used
                    block.at = take(self.index, blob.used)
                memcpy(self.index.at + block.at, blob.at, blob.used)
            finally:
                discard(&blob)
            return 0
        block.at = self.index.used
        rebase(self.index, block.at)
        try:
            block.paths = write_host(self.index, block.terms, block.count, self.terms)
        finally:
            block.room = self.index.used
            rebase(self.index, 0)
        return 0

    cdef int drop(self, HostBlock block) except -1:
        cdef uint32_t i
        for i in range(block.count):
            self.rules.leave(block.terms[i].rule)
        return 0


cdef Arena EMPTY


cdef int note_term(Arena *terms, const Term *term) except -1:
    cdef ssize_t at = push(terms, sizeof(Term))
    memcpy(terms.at + at, term, sizeof(Term))
    return 0
