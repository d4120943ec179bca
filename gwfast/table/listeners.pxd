# Binds and listeners.
from libc.stdint cimport uint32_t
from gwfast.table.arena cimport Arena
from gwfast.table.hosts cimport Hosts
from gwfast.table.image cimport Sections, Texts
from gwfast.table.rules cimport Rules

cdef class ListenerBlock:
    cdef object hosts          # of the plan's Listener
    cdef list blocks           # their HostBlocks
    cdef uint32_t asking       # of these together
    cdef list places           # its indexes among the listeners: a listener on several addresses has as many
    cdef ssize_t names         # where its Names lie in the index
    cdef object front          # of the plan's Listener; None
    cdef uint32_t front_slot   # its index among the rules

cdef class Listeners:
    cdef Sections sections
    cdef Texts texts
    cdef Rules rules
    cdef Hosts hosts
    cdef Arena *index
    cdef dict blocks           # Listener.id -> ListenerBlock
    cdef list last_binds       # (Bind, id) of the last plan
    cdef int write(self, list binds) except -1
    cdef bint same_binds(self, list binds, list changed) except *
    cdef int write_binds(self, list binds) except -1
    cdef int bind(self, object bind, uint32_t id) except -1
    cdef uint32_t listener(self, object listener) except? 0
    cdef int renew(self, object listener) except -1
    cdef int set_front(self, ListenerBlock block, object front) except -1
    cdef int write_hosts(self, ListenerBlock listener, object hosts) except -1
