"""The fields of a message as filters in Python see them (see filter_headers.pxd).

Rules
- What is set is checked before anything is changed: what was refused has changed nothing.
- Whether it may be sent is looked at here, byte by byte; what may not is told by gwfast.sendable, in its words.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport (PyUnicode_1BYTE_DATA, PyUnicode_1BYTE_KIND, PyUnicode_Check, PyUnicode_DecodeLatin1,
                              PyUnicode_GET_LENGTH, PyUnicode_KIND)
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memcpy, memmove

from gwfast import grammar, sendable
from gwfast.http.bytes cimport CHAR_TOKEN, CHAR_VALUE, alike, is_a
from gwfast.http.fields cimport trim

cdef extern from "Python.h":
    int PyUnicode_READY(object) except -1

cdef frozenset FRAMING = grammar.FRAMING
cdef frozenset SINGLE = grammar.SINGLE

cdef enum:
    FEW = 512          # bytes of a first block: most heads fit


cdef const char *latin(text, Py_ssize_t *n) except? NULL:
    PyUnicode_READY(text)
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        return NULL
    n[0] = PyUnicode_GET_LENGTH(text)
    return <const char *>PyUnicode_1BYTE_DATA(text)


cdef const char *take_line(const char *at, const char *end, Line *line) except? NULL:
    """As read_line() one of Headers: each has a space before its value, and what is behind that is the value."""
    cdef const char *stop = <const char *>memchr(at, b'\n', end - at) if at < end else NULL
    cdef const char *colon
    if stop == NULL or stop - at <= 1:
        return NULL
    colon = <const char *>memchr(at, b':', stop - at)
    if colon == NULL:
        raise ValueError("no line of a field")
    line.name, line.name_n, line.value, line.value_n = at, colon - at, colon + 2, stop - colon - 3
    return stop + 1


cdef const char *read_line(const char *at, const char *end, Line *line) except? NULL:
    cdef const char *next_line = take_line(at, end, line)
    cdef const char *stop
    if next_line == NULL:
        return NULL
    stop = next_line - 2
    line.value -= 1
    while line.value < stop and (line.value[0] == b' ' or line.value[0] == b'\t'):
        line.value += 1
    line.value_n = trim(line.value, stop) - line.value
    return next_line


cdef bint all_are(const char *at, Py_ssize_t n, int kind) noexcept:
    cdef Py_ssize_t i
    for i in range(n):
        if not is_a(at[i], kind):
            return False
    return True


cdef str decoded(const char *at, Py_ssize_t n):
    return PyUnicode_DecodeLatin1(at, n, NULL)


cdef int check(name, value) except -1:
    """Raise as sendable.field() what may not be sent."""
    cdef const char *at
    cdef Py_ssize_t n = 0
    if PyUnicode_Check(name) and PyUnicode_Check(value):
        at = latin(name, &n)
        if at != NULL and n > 0 and all_are(at, n, CHAR_TOKEN) and name.lower() not in FRAMING:
            at = latin(value, &n)
            if at != NULL and all_are(at, n, CHAR_VALUE):
                return 0
    sendable.field(name, value)
    return 0


cdef class Headers:
    """Fields in their order. Names are compared without case; a name may come several times, but for what a message has once
    (Content-Type, Date, ...): there what is added takes the place of what is there. A backend gets one Cookie field of several.

    Wherever fields are given at once they are (name, value) pairs, a mapping or other Headers.
    """

    def __init__(self, fields=()):
        self.n = 0
        self.read(fields)

    def __dealloc__(self):
        PyMem_Free(self.at)

    # -- the lines -----------------------------------------------------------------------------------------------------

    cdef int write(self, const char *at, Py_ssize_t n) except -1:
        """Put bytes behind the others."""
        cdef Py_ssize_t size = self.size
        cdef void *block
        if n == 0:
            return 0
        if self.n + n > size:
            size = max(FEW, 2 * size, self.n + n)
            block = PyMem_Realloc(self.at, size)
            if block == NULL:
                raise MemoryError
            self.at, self.size = <char *>block, size
        memcpy(self.at + self.n, at, n)
        self.n += n
        return 0

    cdef int put(self, const char *name, Py_ssize_t name_n, const char *value, Py_ssize_t value_n) except -1:
        """Put a line behind the others."""
        self.write(name, name_n)
        self.write(b": ", 2)
        self.write(value, value_n)
        return self.write(b"\r\n", 2)

    cdef int put_field(self, name, value) except -1:
        """Put a field that was checked behind the others."""
        cdef Py_ssize_t name_n = 0, value_n = 0
        cdef const char *name_at = latin(name, &name_n)
        cdef const char *value_at = latin(value, &value_n)
        self.changed = True
        return self.put(name_at, name_n, value_at, value_n)

    cdef int append_field(self, name, value) except -1:
        """As put_field; of what a message has once it is the only one then."""
        if name.lower() in SINGLE:
            self.remove(name)
        return self.put_field(name, value)

    cdef int read(self, fields) except -1:
        """Put fields of any shape behind the others."""
        cdef Headers other
        if type(fields) is Headers and self.n == 0:
            other = <Headers>fields
            self.changed = True
            return self.write(other.at, other.n)
        for name, value in sendable.fields(fields):
            self.append_field(name, value)
        return 0

    cdef const char *find(self, const char *begin, name) except? NULL:
        """Return the next line of this name, from `begin` on; NULL: there is none."""
        cdef const char *end = self.at + self.n
        cdef const char *at
        cdef Py_ssize_t n = 0
        if not PyUnicode_Check(name):
            sendable.field(name, "")       # it says why not
        at = latin(name, &n)
        if at == NULL or not all_are(at, n, CHAR_TOKEN):
            return NULL
        while begin < end:
            if end - begin > n and begin[n] == b':' and alike(begin, at, <uint32_t>n):
                return begin
            begin = <const char *>memchr(begin, b'\n', end - begin) + 1
        return NULL

    cdef int remove(self, name) except -1:
        """Take away all fields of this name; return whether there were any."""
        cdef char *at = <char *>self.find(self.at, name)
        cdef char *behind
        cdef int found = at != NULL
        while at != NULL:
            behind = <char *>memchr(at, b'\n', self.at + self.n - at) + 1
            memmove(at, behind, self.at + self.n - behind)
            self.n -= behind - at
            at = <char *>self.find(at, name)
        self.changed |= found
        return found

    @staticmethod
    def _of(bytes lines not None) -> Headers:
        """Those of a message that was read: they are what they should be, and as many as they are."""
        cdef Headers made = Headers.__new__(Headers)
        made.write(lines, len(lines))
        return made

    def _lines(self) -> bytes:
        """Return them as they are sent."""
        return PyBytes_FromStringAndSize(self.at, self.n)

    # -- the mapping ---------------------------------------------------------------------------------------------------

    def get(self, name, default=None):
        """Return the first value of this name."""
        cdef const char *at = self.find(self.at, name)
        cdef Line line
        if at == NULL:
            return default
        take_line(at, self.at + self.n, &line)
        return decoded(line.value, line.value_n)

    def get_all(self, name):
        """Return every value of this name."""
        cdef const char *at = self.find(self.at, name)
        cdef Line line
        found = []
        while at != NULL:
            at = take_line(at, self.at + self.n, &line)
            found.append(decoded(line.value, line.value_n))
            at = self.find(at, name)
        return found

    def add(self, name, value):
        """Put a field behind the others, whether there is one of its name or not."""
        check(name, value)
        self.append_field(name, value)

    def extend(self, fields):
        """Put these fields behind the others."""
        self.read(fields)

    def update(self, fields):
        """Put these fields in the place of all of their names."""
        new = sendable.fields(fields)
        for name, _ in new:
            self.remove(name)
        for name, value in new:
            self.append_field(name, value)

    def setdefault(self, name, value):
        """Return the first value of this name; where there is none, it gets this one."""
        check(name, value)
        if (known := self.get(name)) is not None:
            return known
        self.put_field(name, value)
        return value

    def items(self):
        """Return (name, value) of every field, in order."""
        cdef const char *end = self.at + self.n
        cdef const char *at
        cdef Line line
        found = []
        at = take_line(self.at, end, &line)
        while at != NULL:
            found.append((decoded(line.name, line.name_n), decoded(line.value, line.value_n)))
            at = take_line(at, end, &line)
        return found

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name, value):
        """Put one field in the place of all of its name."""
        check(name, value)
        self.remove(name)
        self.put_field(name, value)

    def __delitem__(self, name):
        if not self.remove(name):
            raise KeyError(name)

    def __contains__(self, name):
        return PyUnicode_Check(name) and self.find(self.at, name) != NULL

    def __iter__(self):
        return iter(dict.fromkeys([name.lower() for name, _ in self.items()]))

    def __len__(self):
        cdef const char *at = self.at
        cdef Py_ssize_t count = 0
        while at != NULL and at < self.at + self.n:
            at = <const char *>memchr(at, b'\n', self.at + self.n - at) + 1
            count += 1
        return count

    def __eq__(self, other):
        return (isinstance(other, Headers) and self.n == (<Headers>other).n
                and (self.n == 0 or memcmp(self.at, (<Headers>other).at, self.n) == 0))

    __hash__ = None

    def __reduce__(self):
        return Headers._of, (self._lines(),)

    def __repr__(self):
        return f"Headers({self.items()!r})"
