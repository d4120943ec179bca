# Memory that grows, for what is written piece by piece.
import cython
from libc.stdlib cimport free, realloc
from libc.string cimport memset


@cython.final
cdef class Arena:
    def __dealloc__(self):
        self.rebase(0)
        free(self.at)

    cdef void rebase(self, size_t base) noexcept:
        if self.at != NULL:
            self.at = self.at - self.base + base
        self.used = self.used + self.base - base
        self.room = self.room + self.base - base
        self.base = base

    cdef int reserve(self, size_t n) except -1:
        if self.used + n <= self.room:
            return 0
        cdef size_t room = max(self.room * 2, self.used + n, <size_t>256)
        cdef char *at = <char *>realloc(NULL if self.at == NULL else self.at - self.base, room + self.base)
        if at == NULL:
            raise MemoryError
        self.at = at + self.base
        self.room = room
        return 0

    cdef ssize_t take(self, size_t n) except -1:
        return self.push((n + 7) & ~<size_t>7)

    cdef ssize_t push(self, size_t n) except -1:
        cdef ssize_t at = self.used
        self.reserve(n)
        if n:   # an empty arena has no memory yet
            memset(self.at + at, 0, n)
        self.used += n
        return at
