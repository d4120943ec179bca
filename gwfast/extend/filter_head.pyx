"""A request's head as filters in Python see it (see filter_head.pxd).

Rules
- A head is one that the engine wrote: a request line of three words, lines of fields, each with its CRLF, and an empty line.
- What is written may be of a filter's own making: it is looked at once more (gwfast.sendable), and raised as there.
"""
cimport cython
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.string cimport memchr

from gwfast import sendable

cdef frozenset HOP = frozenset(("connection", "content-length", "te", "transfer-encoding", "upgrade"))


@cython.final
cdef class FilterHead:
    def __init__(self, bytes raw not None):
        cdef const char *at = raw
        cdef const char *end = at + len(raw)
        cdef const char *line
        self.host, self.fields, self.hop = "", [], []
        line = <const char *>memchr(at, 10, end - at)
        if line == NULL or line == at:
            raise ValueError("no head of a request")
        self.take_line(at, line - at - 1)
        at = line + 1
        while True:
            line = <const char *>memchr(at, 10, end - at)
            if line == NULL or line - at <= 1:
                break
            self.take_field(at, line - at - 1)
            at = line + 1

    cdef int take_line(self, const char *at, Py_ssize_t n) except -1:
        self.method, target, _ = PyUnicode_DecodeLatin1(at, n, NULL).split(" ")
        self.path, mark, self.query = target.partition("?")
        self.mark = bool(mark)
        return 0

    cdef int take_field(self, const char *at, Py_ssize_t n) except -1:
        cdef const char *colon = <const char *>memchr(at, 58, n)
        cdef const char *value
        cdef const char *end = at + n
        cdef Py_ssize_t name_n
        if colon == NULL:
            raise ValueError("no line of a field")
        name_n = colon - at
        value = colon + 1
        while value < end and value[0] in (32, 9):
            value += 1
        while end > value and end[-1] in (32, 9):
            end -= 1
        field = (PyUnicode_DecodeLatin1(at, name_n, NULL), PyUnicode_DecodeLatin1(value, end - value, NULL))
        if name_n not in (2, 4, 7, 10, 14, 17):        # as long as none of these names
            self.fields.append(field)
        elif name_n == 4 and field[0].lower() == "host":
            self.host = field[1]
        elif field[0].lower() in HOP:
            self.hop.append(field)
        else:
            self.fields.append(field)
        return 0

    def written(self, request, bytes body):
        """Return the head that `request` has become; None where it is what it was."""
        cdef list fields = request.headers._fields
        cdef list parts
        if body is None and self.same(request, fields):
            return None
        method, path, query, host = request.method, request.path, request.query, request.host
        for check, value in ((sendable.method, method), (sendable.path, path), (sendable.query, query), (sendable.host, host)):
            check(value)
        mark = "?" if query or self.mark and query == self.query else ""
        parts = [method, " ", path, mark, query, " HTTP/1.1\r\nHost: ", host, "\r\n"]
        put_fields(parts, fields, self.fields)
        for name, value in self.hop:
            if body is None or name.lower() not in ("content-length", "transfer-encoding"):
                parts += (name, ": ", value, "\r\n")
        parts.append("\r\n" if body is None else f"Content-Length: {len(body)}\r\n\r\n")
        return "".join(parts).encode("latin-1")

    cdef int same(self, request, list fields) except -1:
        return (fields == self.fields and request.path == self.path and request.method == self.method
                and request.query == self.query and request.host == self.host)


def put_fields(list parts not None, list fields not None, list came not None):
    """Append the lines of fields. What is none of those that came is looked at once more: it is the last chance."""
    cdef Py_ssize_t known = 0, n = len(came)
    for field in fields:
        if known < n and field is came[known]:
            known += 1
        elif field not in came:
            sendable.field(*field)
        elif known < n:        # those before it were taken away
            known = came.index(field) + 1
        parts += (field[0], ": ", field[1], "\r\n")
