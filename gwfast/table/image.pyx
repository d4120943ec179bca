# Images: sections while they are written, and the sealed memory that workers map. See layout.pxd for the layout.
#
# Rules:
# - a section is an arena, and all of them are there by number: what holds for every section is said once, in a loop
# - what became of an object of the plan stays at its place while the object does; an image costs one copy of the sections
# - memory is most of what an image costs, so it may be there before the image is (`Image.make_room`)
import fcntl
import os

import cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_PRIVATE, PROT_READ, mmap, munmap
from posix.unistd cimport close, pwrite

from gwfast.table.arena cimport Arena, discard, push, reserve
from gwfast.table.layout cimport (IMAGE_VERSION, SECTIONS, SECTION_BACKENDS, SECTION_BINDS, SECTION_LISTENERS, SECTION_RULES,
                                  SECTION_TEXT, Section, Text, element_size, image_magic)
from gwfast.table.layout cimport Image as Header

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

cdef char NOTHING[65536]               # zeros


@cython.final
cdef class Image:
    """A finished image in a sealed memfd; bytes-like (read-only). `fd` closes with it."""

    def __cinit__(self):
        self.fd = -1
        self.fd = os.memfd_create("gwfast-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, self.size)
        if self.fd >= 0:
            close(self.fd)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.at == NULL:
            self.at = mmap(NULL, self.size, PROT_READ, MAP_PRIVATE, self.fd, 0)
            if self.at == MAP_FAILED:
                self.at = NULL
                raise OSError("an image cannot be mapped")
        PyBuffer_FillInfo(buffer, self, self.at, self.size, 1, flags)

    def make_room(self, uint64_t size):
        """Have the kernel find memory for `size` bytes, which takes it far longer than to write them; others run meanwhile."""
        cdef uint64_t at = 0
        cdef ssize_t written = 1
        with nogil:
            while at < size and written > 0:
                written = pwrite(self.fd, NOTHING, min(sizeof(NOTHING), size - at), at)
                at += written
        if written <= 0:
            raise OSError("there is no memory for an image")

    cdef int put(self, const char *at, size_t n, uint64_t where) except -1:
        cdef ssize_t written
        while n:
            written = pwrite(self.fd, at, n, where)
            if written <= 0:
                raise OSError("an image cannot be written")
            at += written
            where += written
            n -= written
        return 0


@cython.final
cdef class Sections:
    """Every section of an image in the making."""

    def __dealloc__(self):
        cdef int i
        for i in range(SECTIONS):
            discard(&self.arenas[i])

    cdef uint32_t put(self, Section section, const void *element) except? 0:
        cdef uint32_t at = self.add(section, 1)
        memcpy(self.element(section, at), element, element_size(section))
        return at

    cdef uint32_t add(self, Section section, uint32_t n) except? 0:
        cdef uint64_t each = element_size(section)
        return <uint32_t>(push(&self.arenas[<int>section], n * each) // each)

    cdef void *element(self, Section section, uint32_t i) noexcept:
        return self.arenas[<int>section].at + i * element_size(section)

    cdef void clear(self, Section section, uint32_t i) noexcept:
        memset(self.element(section, i), 0, element_size(section))

    cdef uint32_t count(self, Section section) noexcept:
        return <uint32_t>(self.arenas[<int>section].used // element_size(section))

    # Bytes of the sections whose places are not given back.
    cdef size_t appended(self) noexcept:
        cdef size_t n = 0
        cdef int i
        for i in range(SECTIONS):
            if i not in (SECTION_BINDS, SECTION_LISTENERS, SECTION_RULES, SECTION_BACKENDS):
                n += self.arenas[i].used
        return n

    cdef int write(self, Image image, Header *header) except -1:
        cdef uint64_t end = sizeof(Header)
        cdef int i
        for i in range(SECTIONS):
            header.sections[i].count = self.arenas[i].used // element_size(<Section>i)
            header.sections[i].at = end
            end = self.write_section(image, &self.arenas[i], end)
        header.magic = image_magic()
        header.version = IMAGE_VERSION
        header.header_size = sizeof(Header)
        header.size = end
        image.generation = header.generation
        image.size = end
        image.put(<const char *>header, sizeof(Header), 0)
        os.ftruncate(image.fd, end)
        fcntl.fcntl(image.fd, fcntl.F_ADD_SEALS, SEALS)
        return 0

    cdef uint64_t write_section(self, Image image, Arena *arena, uint64_t at) except 0:
        cdef uint64_t end = (at + arena.used + 7) & ~<uint64_t>7
        reserve(arena, 8)                  # what is behind its end, up to the next section, is zeros
        memset(arena.at + arena.used, 0, 8)
        image.put(arena.at, end - at, at)
        return end


@cython.final
cdef class Texts:
    """The text section, and where each string is."""

    def __cinit__(self, Sections sections):
        self.sections = sections
        self.arena = &sections.arenas[<int>SECTION_TEXT]
        self.places = {}

    cdef int put(self, str s, Text *text) except -1:
        cdef ssize_t n
        cdef object place = self.places.get(s)
        if place is not None:
            PyUnicode_AsUTF8AndSize(s, &n)
            text.n = <uint32_t>n
            text.at = place
            return 0
        self.append(s, text)
        self.places[s] = text.at
        return 0

    cdef int append(self, str s, Text *text) except -1:
        cdef ssize_t n
        cdef const char *utf8 = PyUnicode_AsUTF8AndSize(s, &n)
        reserve(self.arena, n)
        memcpy(self.arena.at + self.arena.used, utf8, n)
        text.n = <uint32_t>n
        text.at = <uint32_t>self.arena.used
        self.arena.used += n
        return 0

    cdef str read(self, Text text):
        return (self.arena.at + text.at)[:text.n].decode()
