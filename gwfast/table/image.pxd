# An image in the making, and the finished one.
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.arena cimport Arena
from gwfast.table.layout cimport SECTIONS, Section, Text
from gwfast.table.layout cimport Image as Header

cdef class Image:
    cdef readonly int fd
    cdef readonly Py_ssize_t size
    cdef readonly uint64_t generation
    cdef void *at
    cdef int put(self, const char *at, size_t n, uint64_t where) except -1

cdef class Sections:
    cdef Arena arenas[SECTIONS]    # by Section
    cdef uint32_t put(self, Section section, const void *element) except? 0    # its index
    cdef uint32_t add(self, Section section, uint32_t n) except? 0             # the index of the first of n elements, all zeros
    cdef void *element(self, Section section, uint32_t i) noexcept
    cdef void clear(self, Section section, uint32_t i) noexcept
    cdef uint32_t count(self, Section section) noexcept
    cdef size_t appended(self) noexcept
    cdef uint64_t write_section(self, Image image, Arena *arena, uint64_t at) except 0    # where the next one begins
    # Fills an image with these sections and seals it; of the header what is said of sections is written here.
    cdef int write(self, Image image, Header *header) except -1

# The text section: strings, each once.
cdef class Texts:
    cdef Sections sections         # lives as long as the arena is asked for
    cdef Arena *arena
    cdef dict places
    cdef int put(self, str s, Text *text) except -1
    cdef int append(self, str s, Text *text) except -1    # for what is not asked for again
    cdef str read(self, Text text)
