# The steps of a filter in Python: each is said in the memory of the counters while it runs, and measured.
from libc.stdint cimport uint64_t
from gwfast.engine.counters cimport Counters

cdef class Steps:
    cdef Counters counters
    cdef uint64_t place        # engine/counters.place of the filter
    cdef object function       # what makes the awaitable
    cdef tuple arguments
    cdef object inner          # the iterator of that
    cdef readonly double longest
    cdef readonly object value # start(): what was returned; else what the first step gave, until it is handed on
    cdef readonly bint ended   # start() was the last step, too
    cdef readonly bint begun   # start() was called
    cdef bint started          # it was, and was not awaited yet

    cdef bint begin(self) except -1
    cdef object iterator(self, awaitable)
    cdef uint64_t now(self) noexcept
    cdef void over(self, uint64_t before, uint64_t began) noexcept
