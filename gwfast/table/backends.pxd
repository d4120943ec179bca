# Backends and their endpoints.
from libc.stdint cimport uint32_t
from gwfast.table.blocks cimport BackendBlock, RuleBlock
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport Backend, Endpoint

cdef class Backends:
    cdef object registry
    cdef Sections sections
    cdef Texts texts
    cdef dict blocks           # Backend.key -> BackendBlock
    cdef dict fresh            # the same of those without endpoints yet
    cdef list free             # indexes
    cdef object last_endpoints # of the last plan
    # The index of a backend that a rule names.
    cdef uint32_t index(self, object backend, RuleBlock rule) except? 0
    cdef int leave(self, RuleBlock rule) except -1
    # What the plan or the registry says anew about where endpoints are.
    cdef int refresh(self, object endpoints) except -1
    cdef int close(self) except -1
    cdef Backend *at(self, BackendBlock block) noexcept
    cdef int write_budget(self, object budget, Backend *out) except -1
    cdef int write_health(self, BackendBlock block) except -1
    cdef int write_endpoints(self, BackendBlock block) except -1
    cdef int locate(self, object endpoints) except -1
    cdef int drop_endpoints(self, BackendBlock block) except -1
    cdef int drop(self, BackendBlock block) except -1

# Where an address is; False: it is none.
cdef bint parse_address(str ip, Endpoint *out) except -1
