# Memory that grows; what was written stays at its offset. Offsets count from `base`, which may be moved for a while.
cdef class Arena:
    cdef char *at
    cdef size_t used
    cdef size_t room
    cdef size_t base
    cdef void rebase(self, size_t base) noexcept
    cdef ssize_t push(self, size_t n) except -1        # offset of n zeroed bytes
    cdef ssize_t take(self, size_t n) except -1        # the same, n rounded up to a multiple of 8
    cdef int reserve(self, size_t n) except -1
