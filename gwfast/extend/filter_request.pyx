"""A request as filters in Python see it (see filter_request.pxd).

Rules
- A head is one that the engine wrote: a request line of three words, lines of fields, each with its CRLF, and an empty line.
- What a filter sets is refused where it sets it (gwfast.sendable), so what is written here may be sent.
- What frames the message, or belongs to the connection, is not shown; it is written again as it came.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeLatin1
from functools import partial
from libc.string cimport memchr

from gwfast import sendable
from gwfast.extend.filter_headers cimport Headers, Line, latin, read_line
from gwfast.http.bytes cimport same
from gwfast.sendable import InvalidValueError

cdef enum Shown:
    A_FIELD
    HOST
    LENGTH             # Content-Length, Transfer-Encoding: how the message is framed
    HOP                # others that the gateway keeps for itself


cdef Shown kind_of(const Line *line) noexcept:
    cdef const char *name = line.name
    if line.name_n == 2:
        return HOP if same(name, b"te", 2) else A_FIELD
    if line.name_n == 4:
        return HOST if same(name, b"host", 4) else A_FIELD
    if line.name_n == 7:
        return HOP if same(name, b"upgrade", 7) else A_FIELD
    if line.name_n == 10:
        return HOP if same(name, b"connection", 10) else A_FIELD
    if line.name_n == 14:
        return LENGTH if same(name, b"content-length", 14) else A_FIELD
    if line.name_n == 17:
        return LENGTH if same(name, b"transfer-encoding", 17) else A_FIELD
    return A_FIELD


cdef int put_text(Headers to, text) except -1:
    cdef Py_ssize_t n = 0
    cdef const char *at = latin(text, &n)
    return to.write(at, n)


cdef class FilterRequest:
    """What gwfast.filters.Request is made of."""

    def __init__(self, method, path, query="", host="", headers=(), *, peer="", tls=None, route="", backends=(), read=None):
        self.raw = self.shown = self.talk = None
        self.line_waits = self.fields_wait = False
        self._method, self._backend, self._headers = "", "", Headers()
        self.method, self.path, self.query, self.host = method, path, query, host
        self.headers = headers
        self.peer, self.tls, self.route, self.backends = peer, tls, route, backends
        self.reads = read

    cdef int comes(self, bytes raw, talk, reads) except -1:
        """Be one that came: `talk` is its PythonFilter, reads.body_of(talk) reads its body."""
        self.raw, self.talk, self.shown, self.reads, self._backend = raw, talk, talk, reads, ""
        self.line_waits = self.fields_wait = True
        return 0

    # -- taken apart ---------------------------------------------------------------------------------------------------

    cdef int take_line(self) except -1:
        cdef const char *at = self.raw
        cdef const char *end = <const char *>memchr(at, b'\n', len(self.raw))
        if end == NULL or end == at:
            raise ValueError("no head of a request")
        self._method, target, _ = PyUnicode_DecodeLatin1(at, end - at - 1, NULL).split(" ")
        self._path, mark, self._query = target.partition("?")
        self.bare = bool(mark) and not self._query
        self.line_waits = False
        return 0

    cdef int take_fields(self) except -1:
        cdef const char *at = self.raw
        cdef const char *end = at + len(self.raw)
        cdef Headers fields = Headers.__new__(Headers)
        cdef Line line
        cdef Shown kind
        self._host = self.came_host = ""
        at = read_line(self.first_line(), end, &line)
        while at != NULL:
            kind = kind_of(&line)
            if kind == A_FIELD:
                fields.put(line.name, line.name_n, line.value, line.value_n)
            elif kind == HOST:
                self._host = self.came_host = PyUnicode_DecodeLatin1(line.value, line.value_n, NULL)
            at = read_line(at, end, &line)
        self._headers, self.fields_wait = fields, False
        return 0

    cdef const char *first_line(self) except NULL:
        """Where the lines of fields begin."""
        cdef const char *at = self.raw
        at = <const char *>memchr(at, b'\n', len(self.raw))
        if at == NULL:
            raise ValueError("no head of a request")
        return at + 1

    cdef int take_facts(self) except -1:
        self._peer, secure, known, self._route, self._backends = self.shown.facts()
        self._tls = self._known(*known) if secure else None
        self.shown = None
        return 0

    cdef int keep(self) except -1:
        """Whoever has it may look at it after its exchange: ask for what only that knows."""
        return 0 if self.shown is None else self.take_facts()

    def _keep(self):
        self.keep()

    # -- written again -------------------------------------------------------------------------------------------------

    cdef int keep_host(self) except -1:
        """Be of the host that it came to, whatever a filter has set."""
        if not self.fields_wait and self._host != self.came_host:
            self._host, self.fields_changed = self.came_host, True
        return 0

    cdef bint is_same(self) noexcept:
        """Whether its head is what it was."""
        return not (self.line_changed or self.fields_changed) and (self.fields_wait or not self._headers.changed)

    cdef bytes written(self, bytes body):
        """Return its head, of a request with this body; None where it is what it was, with the body that it has."""
        cdef const char *at
        cdef const char *end
        cdef Headers to
        cdef Line line
        cdef Shown kind
        if self.raw is None or body is None and self.is_same():
            return None
        if self.fields_wait:
            self.take_fields()
        to = Headers.__new__(Headers)
        self.write_line(to)
        to.write(b"Host: ", 6)
        put_text(to, self._host)
        to.write(b"\r\n", 2)
        to.write(self._headers.at, self._headers.n)
        end = <const char *>self.raw + len(self.raw)
        at = read_line(self.first_line(), end, &line)
        while at != NULL:
            kind = kind_of(&line)
            if kind == HOP or kind == LENGTH and body is None:
                to.put(line.name, line.name_n, line.value, line.value_n)
            at = read_line(at, end, &line)
        if body is not None:
            put_text(to, f"Content-Length: {len(body)}\r\n")
        to.write(b"\r\n", 2)
        return PyBytes_FromStringAndSize(to.at, to.n)

    cdef int write_line(self, Headers to) except -1:
        if not self.line_changed:
            return to.write(self.raw, self.first_line() - <const char *>self.raw)
        put_text(to, self._method)
        to.write(b" ", 1)
        put_text(to, self._path)
        if self._query or self.bare:
            to.write(b"?", 1)
        put_text(to, self._query)
        return to.write(b" HTTP/1.1\r\n", 11)

    # -- what filters see ----------------------------------------------------------------------------------------------

    @property
    def method(self):
        if self.line_waits:
            self.take_line()
        return self._method

    @method.setter
    def method(self, value):
        new, known = sendable.method(value), self.method
        if known and (new == "HEAD") != (known == "HEAD"):
            raise InvalidValueError(f"{new!r} is no method for what was a {known}: responses to HEAD have no body")
        self.line_changed |= new != known
        self._method = new

    @property
    def path(self):
        """As it was sent, without the query."""
        if self.line_waits:
            self.take_line()
        return self._path

    @path.setter
    def path(self, value):
        new = sendable.path(value)
        self.line_changed |= new != self.path
        self._path = new

    @property
    def query(self):
        """'' where there is none."""
        if self.line_waits:
            self.take_line()
        return self._query

    @query.setter
    def query(self, value):
        new = sendable.query(value)
        if new != self.query:
            self.line_changed, self.bare = True, False
        self._query = new

    @property
    def host(self):
        """Of the Host field."""
        if self.fields_wait:
            self.take_fields()
        return self._host

    @host.setter
    def host(self, value):
        new = sendable.host(value)
        self.fields_changed |= new != self.host
        self._host = new

    @property
    def headers(self):
        """All other fields."""
        if self.fields_wait:
            self.take_fields()
        return self._headers

    @headers.setter
    def headers(self, value):
        new = Headers(value)
        if self.fields_wait:
            self.take_fields()
        self._headers, self.fields_changed = new, True

    @property
    def peer(self):
        """The client's address."""
        self.keep()
        return self._peer

    @peer.setter
    def peer(self, value):
        self.keep()
        self._peer = value

    @property
    def tls(self):
        """None in clear."""
        self.keep()
        return self._tls

    @tls.setter
    def tls(self, value):
        self.keep()
        self._tls = value

    @property
    def route(self):
        """'namespace/name' of the route."""
        self.keep()
        return self._route

    @route.setter
    def route(self, value):
        self.keep()
        self._route = value

    @property
    def backends(self):
        """Names of the rule's backendRefs."""
        self.keep()
        return self._backends

    @backends.setter
    def backends(self, value):
        self.keep()
        self._backends = value

    @property
    def backend(self):
        """One of `backends`: its whole name, without the port, or without the namespace too; '' lets weights choose."""
        return self._backend

    @backend.setter
    def backend(self, value):
        sendable.place_of(value, self.backends)
        self._backend = value

    def replace_body(self, body):
        """Send this in the place of the body, which was read (`body`) or is dropped."""
        self._body = bytes(sendable.body(body))
        self.replaced, self.reads = True, None

    def _reader(self):
        """Return what reads the body; None where there is none to read."""
        if self.talk is None or self.reads is None:
            return self.reads
        return partial(self.reads.body_of, self.talk)

    def __repr__(self):
        return f"<Request {self.method} {self.path} of {self.host}>"
