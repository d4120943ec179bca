"""Filters in Python (see python_filter.pxd).

Rules
- A PythonFilter whose exchange is over does nothing, whoever still calls it.
- What a filter raises ends its own request at most, and is told to the host.
- The head goes to Python as bytes and comes back so; it is parsed again, as strictly as what a client sent.
- What the host decides within its own begin() or respond() (`deciding`) is noted there, and done when that has returned: so the
  engine goes on with no frame of Python below it, and its clock and graveyard are those of the round.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from gwfast.exchange.request_filters cimport filter_passed
from gwfast.exchange.response_filters cimport add_response_filter, read_reply, reply_with, response_filtered
from gwfast.http.fault cimport FAULT_EXTENSION, FAULT_INTERNAL
from gwfast.extend.filter_headers cimport Headers
from gwfast.extend.filter_version cimport FilterVersion
from gwfast.http.head cimport (FIELD_CONTENT_LENGTH, FIELD_HOP, FIELD_TRANSFER_ENCODING, FRAMING_LENGTH, Field, ResponseHead,
                               Slice)
from gwfast.engine.loop cimport append, release
from gwfast.table.layout cimport NO_BACKEND, Choice, Image, Op, Text, backend_at, choice_at, extension_at, text
from gwfast.tls.records cimport Session

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *)
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1


@cython.final
@cython.no_gc
cdef class PythonFilters(RequestFilters):
    cdef RequestFilter filter(self, Exchange exchange, const Op *op):
        cdef PythonFilter made
        if self.host is None:
            return None
        made = PythonFilter.__new__(PythonFilter)
        made.exchange = exchange
        made.home = self
        made.id = extension_at(exchange.table.image, op.hash).id
        return made


@cython.final
cdef class PythonFilter(RequestFilter):
    """One request on its way through one filter."""

    # -- the engine's side ---------------------------------------------------------------------------------------------

    cdef void start(self) noexcept:
        self.deciding = True
        try:
            self.task = self.home.host.begin(self)
            self.decided()
        except BaseException as error:     # nobody is below who could take it
            self.undecided(error)

    cdef int decided(self) except -1:
        """The host has returned: do what it decided, if it did."""
        cdef int decision = self.decision
        self.deciding, self.decision = False, UNDECIDED
        if decision == UNDECIDED:
            if self.task is None or self.task.done():
                self.broken()
            return 0
        self.task = None
        self.home.gateway.loop.clock()     # a filter may have taken its time
        if self.request is not None:
            if self.listens or Py_REFCNT(<PyObject *>self.request) > 1:
                self.request.keep()
            if not self.listens:
                self.request = None
        context, self.context = self.context, None
        if context is None:
            self.carry_out(decision)
            return 0
        PyContext_Enter(context)   # the next filter of the request sees what this one set there
        self.carry_out(decision)
        PyContext_Exit(context)
        return 0

    cdef void carry_out(self, int decision) noexcept:
        head, body, self.given_head, self.given = self.given_head, self.given, None, None
        if decision == PASSES:
            self.let_pass(head, body, self.number)
        elif decision == ANSWERS:
            self.answer_with(head, body)
        elif decision == RESPONDS:
            self.reply_goes_on(head, body)
        else:
            self.fail_with(self.number)

    cdef void decide(self, int decision, head, given, int number) noexcept:
        self.decision, self.given_head, self.given, self.number = decision, head, given, number

    cdef void undecided(self, error) noexcept:
        self.deciding, self.decision = False, UNDECIDED
        self.told(error)
        self.broken()

    cdef void more(self) noexcept:
        try:
            if self.waiter is not None and self.arrived():
                waiter, self.waiter = self.waiter, None
                if not waiter.done():
                    waiter.set_result(None)
        except Exception as error:
            self.told(error)

    cdef void drop(self) noexcept:
        task, self.task, self.waiter, self.change = self.task, None, None, None
        self.exchange = None
        try:
            if task is not None:
                task.cancel()
        except Exception as error:
            self.told(error)
        self.leave()

    cdef void leave(self) noexcept:
        cdef FilterVersion version = self.version
        self.version = None
        try:
            if version is not None:
                version.leave()
        except Exception as error:
            self.told(error)

    cdef void on_response(self, const ResponseHead *head) noexcept:
        try:
            lines, more = self.reply_lines(head)
            self.deciding = True
            self.task = self.home.host.respond(self, head.status, lines, more)
            self.decided()
        except BaseException as error:
            self.undecided(error)

    cdef tuple reply_lines(self, const ResponseHead *head):
        """Return the fields of a response as filters see them, and what says how long it is."""
        cdef Headers fields = Headers.__new__(Headers)
        cdef Headers more = Headers.__new__(Headers)
        cdef const Field *field
        cdef uint32_t i
        for i in range(head.count):
            field = &head.fields[i]
            if field.flags & FIELD_HOP or field.id == FIELD_TRANSFER_ENCODING:
                continue
            (more if field.id == FIELD_CONTENT_LENGTH else fields).put(field.name, field.name_len, field.value, field.value_len)
        if head.framing == FRAMING_LENGTH:
            return fields._lines(), b"Content-Length: %d\r\n" % head.content_length
        return fields._lines(), more._lines()

    cdef int body_part(self, const char **at, size_t *n, bint end) noexcept:
        if self.change is None:
            return 0
        try:
            self.last = self.change(at[0][:n[0]] if n[0] else b"", end)
            if end:
                self.change = None
            at[0], n[0] = <const char *>self.last, len(self.last)
            return 0
        except Exception as error:
            self.told(error)
            return -1

    cdef void told(self, error) noexcept:
        try:
            self.home.host.wrong(self.id, self.version, error)
        except Exception:
            self.home.gateway.counters.totals.bugs += 1

    cdef bint begun(self) noexcept:
        """Whether the exchange is still there; then the engine's clock is set for what is done to it."""
        if self.exchange is None:
            return False
        self.task = None
        self.home.gateway.loop.clock()
        return True

    cdef void ended(self) noexcept:
        self.home.gateway.loop.settle()

    cdef void broken(self) noexcept:
        cdef Exchange exchange = self.exchange
        if exchange is not None:
            exchange.fail(FAULT_EXTENSION)

    cdef bint arrived(self) noexcept:
        return self.exchange is None or self.exchange.requested or self.exchange.early_body > self.most

    # -- the host's side -----------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nobody waits for the filter any more."""
        return self.exchange is None

    @property
    def whole(self) -> bool:
        """Whether the request has come as a whole."""
        return self.exchange is not None and self.exchange.requested

    cpdef bytes head(self):
        """Return the request's head as it would go to a backend."""
        return self.exchange.request.base[self.exchange.request.start:self.exchange.request.end]

    def facts(self) -> tuple:
        """Return (client's address, whether over TLS, (what is told of its certificate, version, cipher, SNI), route, names of
        the rule's backends: none where one of them was chosen already)."""
        cdef Exchange exchange = self.exchange
        cdef const Image *image
        cdef const Choice *choice
        cdef Session session
        cdef Slice address
        cdef Text name
        cdef uint32_t i, n
        if exchange is None:
            raise RuntimeError("the exchange is over: nobody knows what it was")
        image, session, address = exchange.table.image, exchange.client.session(), exchange.client_address()
        names = []
        n = exchange.rule.choices.count + exchange.rule.idle if exchange.extras.filter_at < exchange.ops.count[0] else 0
        for i in range(n):
            choice = choice_at(image, exchange.rule.choices.first + i)
            if choice.backend == NO_BACKEND:
                names.append("")
            else:
                name = backend_at(image, choice.backend).name
                names.append(text(image, name)[:name.n].decode())
        return (address.at[:address.n].decode(), bool(exchange.secure()),
                ((exchange.client.certificate or b"").decode(), *(() if session is None else session.facts())),
                text(image, exchange.rule.route)[:exchange.rule.route.n].decode(), tuple(names))

    def body(self, uint64_t most) -> bool:
        """Say whether the body, or more of it than `most`, is there; if not, so much is kept, and `waiter` will be told."""
        self.most = most
        if not self.arrived() and self.exchange.extras.keep <= most:
            self.exchange.extras.keep = <uint32_t>(most + 1)
            self.home.gateway.loop.clock()
            self.exchange.client.resume()
            self.ended()
        return self.arrived()

    def taken(self) -> bytes:
        """Return the body so far."""
        if self.exchange is None or self.exchange.early_body == 0:
            return b""
        return self.exchange.early.base[self.exchange.early.start:self.exchange.early.start + self.exchange.early_body]

    cpdef object pass_on(self, bytes head, bytes body, int choice, bint listens):
        """Let the request go on: with this head and this body (None: as they are), to this choice of the rule (-1: by weight).

        listens: its response is to be shown as well.
        """
        self.listens = listens
        if self.deciding:
            self.decide(PASSES, head, body, choice)
        elif self.begun():
            self.let_pass(head, body, choice)
            self.ended()

    def answer(self, bytes head not None, bytes body not None) -> None:
        """Answer the request with this head (HTTP/1.1, with the length of the body)."""
        if self.deciding:
            self.decide(ANSWERS, head, body, 0)
        elif self.begun():
            self.answer_with(head, body)
            self.ended()

    def respond(self, bytes head not None, change) -> None:
        """Let the response go on with this head; change(piece, last), if any, is given its body."""
        if self.deciding:
            self.decide(RESPONDS, head, change, 0)
        elif self.begun():
            self.reply_goes_on(head, change)
            self.ended()

    def fail(self, int status) -> None:
        """Answer with this status; a response that has begun is cut."""
        if self.deciding:
            self.decide(FAILS, None, None, status)
        elif self.begun():
            self.fail_with(status)
            self.ended()

    # -- what it decided -----------------------------------------------------------------------------------------------

    cdef void let_pass(self, bytes head, bytes body, int choice) noexcept:
        cdef Exchange exchange = self.exchange
        if self.replace(&exchange.request, head) < 0 or self.replace(&exchange.early, body) < 0:
            exchange.fail(FAULT_INTERNAL)
            return
        if body is not None:
            exchange.early_body = <uint32_t>len(body)
        if choice >= 0:
            exchange.extras.prefer = <uint32_t>choice
        if self.listens:
            add_response_filter(exchange, self)
        else:
            self.exchange = None
            self.leave()
        filter_passed(exchange)

    cdef int replace(self, Buf *buf, bytes by) noexcept:
        """Let these bytes be what waits there; None: it stays. -1: no memory."""
        if by is None:
            return 0
        release(&self.home.gateway.loop.pool, buf)
        return append(&self.home.gateway.loop.pool, buf, <const char *>by, len(by))

    cdef void answer_with(self, bytes head, bytes body) noexcept:
        cdef Exchange exchange = self.exchange
        cdef ResponseHead *reply = &exchange.gateway.reply
        if read_reply(exchange, <const char *>head, len(head), reply) < 0:
            self.broken()
        else:
            reply_with(exchange, reply, <const char *>body, len(body))

    cdef void reply_goes_on(self, bytes head, change) noexcept:
        self.change = change
        response_filtered(self.exchange, self, <const char *>head, len(head))

    cdef void fail_with(self, int status) noexcept:
        cdef Exchange exchange = self.exchange
        if status == 500 or exchange.upstream is not None:
            exchange.fail(FAULT_EXTENSION)
        else:
            exchange.answer(status, FAULT_EXTENSION, NULL, 0)
