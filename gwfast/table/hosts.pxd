# What became of the hosts of the last plan.
from libc.stdint cimport uint32_t
from gwfast.table.arena cimport Arena
from gwfast.table.image cimport Sections, Texts
from gwfast.table.names cimport Name
from gwfast.table.rules cimport Rules
from gwfast.table.terms cimport Term, Terms

cdef class HostBlock:
    cdef object host
    cdef Name name
    cdef Term *terms
    cdef uint32_t count
    cdef uint32_t asking   # terms that ask what the gateway says of the client
    cdef uint32_t paths
    cdef size_t at         # in the index
    cdef size_t room       # what it took when it was written as a whole

cdef class Hosts:
    cdef Sections sections
    cdef Texts texts
    cdef Terms terms
    cdef Rules rules
    cdef Arena *index
    # The block of a host; `block` is what became of its last version, or None.
    cdef HostBlock block(self, object host, HostBlock block)
    # The rules of its terms are left.
    cdef int drop(self, HostBlock block) except -1
    cdef bint renew_terms(self, object host, HostBlock block, Arena *touched) except *
    cdef int come(self, object entry, Term *term, Arena *touched) except -1
    cdef int go(self, const Term *term, Arena *touched) except -1
    cdef bint patch(self, HostBlock block, Arena *touched) except *
    cdef int write_whole(self, HostBlock block) except -1
