# The fields of a message as filters in Python see them: its lines, one behind the other in one block of memory.
#
#   name: value CRLF name: value CRLF ...
#
# They are looked up where they stand, and go out as they stand. A line is checked before it comes in: names are tokens, values
# what HTTP has room for, and none frames the message.
cdef class Headers:
    cdef char *at
    cdef Py_ssize_t n          # bytes of all lines
    cdef Py_ssize_t size       # bytes that there is room for
    cdef bint changed          # since they came

    cdef int write(self, const char *at, Py_ssize_t n) except -1
    cdef int put(self, const char *name, Py_ssize_t name_n, const char *value, Py_ssize_t value_n) except -1
    cdef int put_field(self, name, value) except -1
    cdef int append_field(self, name, value) except -1
    cdef int read(self, fields) except -1
    cdef const char *find(self, const char *begin, name) except? NULL
    cdef int remove(self, name) except -1

# A field among lines.
cdef struct Line:
    const char *name
    const char *value          # without white space around it
    Py_ssize_t name_n
    Py_ssize_t value_n

# Read the line at `at`: return where the next one begins, NULL where there is none (the empty line, or the end).
cdef const char *read_line(const char *at, const char *end, Line *line) except? NULL
# The bytes of a str with characters of latin-1 alone; NULL, without an error, of another.
cdef const char *latin(text, Py_ssize_t *n) except? NULL
