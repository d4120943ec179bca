# Rules, and where their requests go.
from libc.stdint cimport uint32_t
from gwfast.table.arena cimport Arena
from gwfast.table.backends cimport Backends
from gwfast.table.blocks cimport RuleBlock
from gwfast.table.filters cimport Filters
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport Rule, Text

cdef class Rules:
    cdef object registry
    cdef Sections sections
    cdef Texts texts
    cdef Backends backends
    cdef Filters filters
    cdef dict blocks           # Rule -> RuleBlock
    cdef list slots            # RuleBlock by its index
    cdef list free             # indexes
    cdef Arena left            # uint32_t: the rule of each holder that went while this image is written
    cdef dict policy_places    # (Timeouts, Retry) -> index
    cdef dict persistence_places   # plan.sessions.Sessions -> index
    cdef str route             # that was written last, and where
    cdef Text route_text
    # The index of a rule, which one more names.
    cdef uint32_t hold(self, object rule) except? 0
    # One less names it, once drop_left() is called.
    cdef int leave(self, uint32_t slot) except -1
    cdef int drop_left(self) except -1
    # Lets go of everything that the registry holds for rules.
    cdef int close(self) except -1
    cdef int drop(self, RuleBlock block) except -1
    cdef int let_go(self, RuleBlock block) except -1
    cdef int write(self, object rule, RuleBlock block) except -1
    cdef int write_choices(self, object rule, RuleBlock block, Rule *out) except -1
    cdef int share_choice(self, object item, RuleBlock rule, Rule *out) except -1
    cdef uint32_t policy(self, object timeouts, object retry) except? 0
    cdef uint32_t persistence(self, object sessions) except? 0
