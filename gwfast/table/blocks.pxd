# What became of the objects of the last plan.
from libc.stdint cimport uint32_t

cdef class BackendBlock:
    cdef object backend
    cdef object endpoints      # the plan's Endpoints of the same key
    cdef object addresses      # what was written
    cdef list held             # endpoints, as the registry knows them
    cdef uint32_t index
    cdef uint32_t refs         # of rules
    cdef uint32_t choice       # where it is chosen alone, with this weight
    cdef uint32_t weight

cdef class RuleBlock:
    cdef object rule
    cdef tuple backends        # BackendBlocks
    cdef tuple weights         # of the selector state that it holds; None: none
    cdef list shares           # (id, weights) of that of its mirrors; None: none
    cdef list extensions       # their indexes; None: none
    cdef uint32_t slot         # its index
    cdef uint32_t refs         # of entries, and of listeners that it is the front of
