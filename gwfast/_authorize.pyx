"""ExternalAuth over HTTP (see _authorize.pxd).

Rules
- The authorizer is asked with the request's own method, target (behind the path prefix) and Host, with Authorization and the
  fields that are allowed, and with a Content-Length that is the question's own.
- Only 200 lets pass. What the authorizer says then replaces fields of the same name; never those that frame a message, belong
  to a connection or describe content: those say what its own answer is.
- Another 2xx must not look like success: it is 403. Every other answer goes to the client as it is, its body up to a bound.
"""
cimport cython
from libc.stdint cimport uint32_t
from libc.string cimport memset

from gwfast._bytes cimport alike, same
from gwfast._call cimport CALL_ANSWERED
from gwfast._fault cimport FAULT_AUTHORIZER, FAULT_BODY_LARGE, FAULT_DENIED
from gwfast._fields cimport next_member
from gwfast._filter cimport Out, put, put_number, put_text, say
from gwfast._head cimport (FIELD_AUTHORIZATION, FIELD_CONTENT_LENGTH, FIELD_DATE, FIELD_EXPECT, FIELD_HOP, FIELD_HOST,
                           FIELD_TRANSFER_ENCODING, METHOD_GET, Field, HeadLimits, MAX_FIELDS, RequestHead, ResponseHead, Slice)
from gwfast._http1 cimport parse_request, parse_response
from gwfast._loop cimport Pool, append, release, reserve, waiting
from gwfast._table cimport Image, Text, authorizer_at, backend_at, text

cdef enum:
    DENIAL_BYTES = 32768           # limits.BUFFER_BYTES
    AUTHORIZATION_MS = 5000        # limits.AUTHORIZATION_TIMEOUT
    FRAMING = ((1 << FIELD_HOST) | (1 << FIELD_CONTENT_LENGTH) | (1 << FIELD_TRANSFER_ENCODING) | (1 << FIELD_EXPECT))


@cython.final
@cython.no_gc
cdef class Authorizers(Holds):
    cdef Hold hold(self, Exchange exchange, const Op *op):
        cdef Authorization made = self.spare
        if made is None:
            made = Authorization.__new__(Authorization)
            made.home = self
        else:
            self.spare = made.next_spare
            made.next_spare = None
        made.exchange = exchange
        made.rule = authorizer_at(exchange.table.image, op.hash)
        made.passes = made.long = False
        return made

    cdef void forget(self) noexcept:
        cdef Authorization one
        while self.spare is not None:
            one = self.spare
            self.spare = one.next_spare
            one.next_spare = None
        self.calls.forget()

    cdef Question question(self):
        cdef Question made
        if self.calls.spare is None:
            made = Question.__new__(Question)
            made.home = self.calls
        else:
            made = <Question>self.calls.spare
            self.calls.spare = made.next
            made.next = None
        return made


# Whether a name is in a list of names between commas.
cdef bint listed(const Image *image, Text names, const Field *field) noexcept nogil:
    cdef Slice rest
    cdef Slice member
    rest.at, rest.n = text(image, names), names.n
    while next_member(&rest, &member):
        if member.n == field.name_len and alike(member.at, field.name, member.n):
            return True
    return False


cdef inline bint frames(const Field *field) noexcept nogil:
    return field.flags & FIELD_HOP != 0 or (FRAMING >> field.id) & 1


# Whether a field of the authorizer's 200 goes on with the request.
cdef bint goes_on(const Image *image, Text names, const Field *field) noexcept nogil:
    if frames(field) or field.id == FIELD_DATE or (field.name_len > 8 and same(field.name, b"content-", 8)):
        return False
    return names.n == 0 or listed(image, names, field)


# Reads the head that is to go on.
cdef bint read_request(const Buf *request, RequestHead *head) noexcept:
    cdef HeadLimits most
    most.head = most.line = waiting(request)
    most.count = MAX_FIELDS
    return parse_request(request.base + request.start, waiting(request), 0, &most, head) == <int>waiting(request)


@cython.final
@cython.no_gc
cdef class Authorization(Hold):
    cdef void start(self) noexcept:
        self.exchange.keep = max(self.exchange.keep, self.rule.max_body + 1)
        self.more()

    cdef void more(self) noexcept:
        cdef Exchange exchange = self.exchange
        if self.question is not None:
            return
        if self.rule.max_body and exchange.early_body > self.rule.max_body:
            exchange.answer(413, FAULT_BODY_LARGE, NULL, 0)
        elif exchange.requested or not self.rule.max_body:
            self.ask()

    cdef void ask(self) noexcept:
        cdef Exchange exchange = self.exchange
        cdef const Image *image = exchange.table.image
        cdef Question question = self.home.question()
        cdef uint32_t n = exchange.early_body if self.rule.max_body else 0
        cdef Pool *pool = &exchange.gateway.loop.pool
        cdef Buf head
        memset(&head, 0, sizeof(Buf))
        self.question = question
        question.owner = self
        if self.write(&head, n) < 0:
            self.finished(CALL_ANSWERED + 1)
        elif question.begin(image, backend_at(image, self.rule.backend), &head, exchange.method_id, False) == 0:
            question.within_ms = AUTHORIZATION_MS
            question.start(exchange.early.base + exchange.early.start, n, 0, True)
        release(pool, &head)

    cdef int write(self, Buf *to, uint32_t n) noexcept:
        """The question's head, with a body of n bytes."""
        cdef Exchange exchange = self.exchange
        cdef const Image *image = exchange.table.image
        cdef RequestHead *head = &exchange.gateway.head
        cdef const Field *field
        cdef uint32_t i
        cdef Out out
        if not read_request(&exchange.request, head) or reserve(
                &exchange.gateway.loop.pool, to, waiting(&exchange.request) + self.rule.path.n + 64) < 0:
            return -1
        out.at = to.base
        out.end = out.at + to.cap
        out.full = False
        put(&out, head.method.at, head.method.n)
        say(&out, b" ")
        put_text(&out, image, self.rule.path)
        put(&out, head.target.at, head.target.n)
        say(&out, b" HTTP/1.1\r\nHost: ")
        put(&out, head.authority.at, head.authority.n)
        say(&out, b"\r\n")
        for i in range(head.count):
            field = &head.fields[i]
            if field.id == FIELD_AUTHORIZATION or (not frames(field) and listed(image, self.rule.headers, field)):
                put(&out, field.name, field.line_len)
        say(&out, b"Content-Length: ")
        put_number(&out, n)
        say(&out, b"\r\n\r\n")
        to.end = <uint32_t>(out.at - to.base)
        return -1 if out.full else 0

    cdef void answered(self) noexcept:
        """The head of the answer is in gateway.reply until this returns."""
        self.passes = self.exchange.gateway.reply.status == 200
        if (self.let_pass() if self.passes else self.keep_denial()) < 0:
            self.question.over(CALL_ANSWERED + 1)

    cdef int let_pass(self) noexcept:
        """Make the head that goes on: the request's, with what the authorizer says in the place of what has the same name."""
        cdef Exchange exchange = self.exchange
        cdef const Image *image = exchange.table.image
        cdef RequestHead *head = &exchange.gateway.head
        cdef ResponseHead *reply = &exchange.gateway.reply
        cdef uint32_t i, k, room
        cdef bint stays
        cdef Out out
        if not read_request(&exchange.request, head):
            return -1
        room = waiting(&exchange.request) + 2
        for i in range(reply.count):
            room += reply.fields[i].line_len
        if reserve(&exchange.gateway.loop.pool, &self.made, room) < 0:
            return -1
        out.at = self.made.base
        out.end = out.at + self.made.cap
        out.full = False
        # the request line, as it is
        put(&out, exchange.request.base + exchange.request.start,
            (head.fields[0].name if head.count else exchange.request.base + exchange.request.end - 2)
            - (exchange.request.base + exchange.request.start))
        for i in range(head.count):
            stays = True
            for k in range(reply.count):
                if (reply.fields[k].hash == head.fields[i].hash and reply.fields[k].name_len == head.fields[i].name_len
                        and alike(reply.fields[k].name, head.fields[i].name, head.fields[i].name_len)
                        and goes_on(image, self.rule.answers, &reply.fields[k])):
                    stays = False
                    break
            if stays:
                put(&out, head.fields[i].name, head.fields[i].line_len)
        for k in range(reply.count):
            if goes_on(image, self.rule.answers, &reply.fields[k]):
                put(&out, reply.fields[k].name, reply.fields[k].line_len)
        say(&out, b"\r\n")
        self.made.end = <uint32_t>(out.at - self.made.base)
        return -1 if out.full else 0

    cdef int keep_denial(self) noexcept:
        """Keep what the client is told, but for what frames it."""
        cdef Pool *pool = &self.exchange.gateway.loop.pool
        cdef ResponseHead *reply = &self.exchange.gateway.reply
        cdef uint32_t i, room = reply.reason.n + 64
        cdef Out out
        for i in range(reply.count):
            room += reply.fields[i].line_len
        if reserve(pool, &self.made, room) < 0:
            return -1
        out.at = self.made.base
        out.end = out.at + self.made.cap
        out.full = False
        say(&out, b"HTTP/1.1 ")
        put_number(&out, reply.status)
        say(&out, b" ")
        put(&out, reply.reason.at, reply.reason.n)
        say(&out, b"\r\n")
        for i in range(reply.count):
            if not frames(&reply.fields[i]):
                put(&out, reply.fields[i].name, reply.fields[i].line_len)
        self.made.end = <uint32_t>(out.at - self.made.base)
        return -1 if out.full else 0

    cdef void finished(self, int end) noexcept:
        """The question is over: only an answer that was read to its end lets pass."""
        cdef Exchange exchange = self.exchange
        if end != CALL_ANSWERED:
            exchange.answer(403, FAULT_AUTHORIZER, NULL, 0)
        elif not self.passes:
            self.deny()
        else:
            release(&exchange.gateway.loop.pool, &exchange.request)
            exchange.request = self.made
            memset(&self.made, 0, sizeof(Buf))
            self.store()
            exchange.passed()

    cdef void deny(self) noexcept:
        cdef Exchange exchange = self.exchange
        cdef Gateway gateway = exchange.gateway
        cdef HeadLimits most
        cdef uint32_t n = waiting(&self.body)
        cdef char tail[48]
        cdef Out out
        out.at = tail
        out.end = tail + sizeof(tail)
        out.full = False
        say(&out, b"Content-Length: ")
        put_number(&out, n)
        say(&out, b"\r\n\r\n")
        if append(&gateway.loop.pool, &self.made, tail, out.at - tail) < 0:
            exchange.answer(403, FAULT_AUTHORIZER, NULL, 0)
            return
        most.head = most.line = waiting(&self.made)
        most.count = MAX_FIELDS
        if parse_response(self.made.base + self.made.start, waiting(&self.made), 0, &most, METHOD_GET, &gateway.reply) <= 0:
            exchange.answer(403, FAULT_AUTHORIZER, NULL, 0)
        elif gateway.reply.status < 300 or gateway.reply.status == 304:
            exchange.answer(403, FAULT_DENIED, NULL, 0)
        elif self.long:
            exchange.answer(gateway.reply.status, FAULT_DENIED, NULL, 0)
        else:
            exchange.fault = FAULT_DENIED
            exchange.reply_with(self.body.base + self.body.start, n)

    cdef void drop(self) noexcept:
        cdef Question question = self.question
        if question is not None:
            self.question = None
            question.owner = None
            question.held = False
            if question.state != NULL:
                question.over(CALL_ANSWERED + 1)
        self.store()

    cdef void store(self) noexcept:
        """It is over."""
        cdef Pool *pool = &self.exchange.gateway.loop.pool
        release(pool, &self.made)
        release(pool, &self.body)
        self.exchange = None
        self.next_spare = self.home.spare
        self.home.spare = self


@cython.final
@cython.no_gc
cdef class Question(Call):
    cdef void got_head(self) noexcept:
        if self.owner is not None:
            self.owner.answered()

    cdef void got(self, const char *at, size_t n) noexcept:
        cdef Authorization owner = self.owner
        if owner is None or owner.passes or owner.long:
            return
        owner.long = waiting(&owner.body) + n > DENIAL_BYTES or append(
            &self.home.upstreams.loop.pool, &owner.body, at, n) < 0

    cdef void ended(self, int end) noexcept:
        cdef Authorization owner = self.owner
        self.owner = None
        self.held = False
        if owner is not None:
            owner.question = None
            owner.finished(end)
