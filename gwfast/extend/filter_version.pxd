# A filter in Python as it was loaded: what the engine's side of a request has to know of it. serve.extensions does the loading.
from libc.stdint cimport uint64_t

cdef class FilterEntry:            # a filter of a table, whatever was loaded for it
    cdef public FilterVersion version      # None: none is loaded
    cdef public int row            # in the memory of the counters (Counters.filter_row)
    cdef public uint64_t place     # what is said while it runs (counters.place)
    cdef public double timeout     # seconds of one call
    cdef public bint open          # failure: Open
    cdef public uint64_t max_body

cdef class FilterVersion:          # what was loaded once. Whoever begins with it enters, and leaves when it is over
    cdef readonly FilterEntry loaded
    cdef readonly object made      # the filter itself
    cdef readonly object on_request
    cdef readonly bint listens     # it has an on_response
    cdef Py_ssize_t inside
    cdef bint retired

    cdef int leave(self) except -1
