"""ExternalAuth (see ext_authz.pxd).

Rules
- The authorizer is asked with the request's own method, target (behind the path prefix) and Host, with Authorization and the
  fields that are allowed, and with a Content-Length that is the question's own.
- Only 200 lets pass. What the authorizer says then replaces fields of the same name; never those that frame a message, belong
  to a connection or describe content: those say what its own answer is.
- Another 2xx must not look like success: it is 403. Every other answer goes to the client as it is, its body up to a bound.
- Over gRPC only a whole message with the status 0 of gRPC and the code 0 lets pass. Fields are set, then appended, then removed
  (as Envoy does); never those that frame a message or belong to a connection. A denial without a status is 403.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset, strlen

from gwfast.engine.address cimport ADDRESS_TEXT, address_text, raw_address
from gwfast.http.bytes cimport alike, same
from gwfast.extend.subrequest cimport CALL_ANSWERED
from gwfast.exchange.request_filters cimport filter_passed
from gwfast.exchange.response_filters cimport add_response_filter, reply_with, response_filtered
from gwfast.extend.check_request cimport check_room, listed, write_check
from gwfast.http.fault cimport FAULT_AUTHORIZER, FAULT_BODY_LARGE, FAULT_DENIED, FAULT_EXTENSION, reason_phrase
from gwfast.http.fields cimport field_line
from gwfast.http.header_writer cimport Out, put, put_number, put_text, say
from gwfast.http.head cimport (FIELD_AUTHORIZATION, FIELD_CONTENT_LENGTH, FIELD_DATE, FIELD_EXPECT, FIELD_HOP, FIELD_HOST,
                               FIELD_TRANSFER_ENCODING, FIELD_X_REQUEST_ID, FRAMING_LENGTH, METHOD_HEAD, METHOD_POST, Field,
                               HeadLimits, RequestHead, ResponseHead, Slice, any_head)
from gwfast.http1.parser cimport parse_request, parse_response
from gwfast.engine.loop cimport Pool, append, release, reserve, waiting
from gwfast.engine.sys cimport CLOCK_REALTIME, clock_gettime, getsockname, sockaddr, sockaddr_storage, socklen_t, timespec
from gwfast.table.layout cimport Image, Text, authorizer_at, backend_at, text
from gwfast.extend.check_response cimport (PLACE_DENIAL, PLACE_REQUEST, PLACE_RESPONSE, changes_response, changes_room, is_grpc,
                                           put_changes, read_check_response)

cdef enum:
    DENIAL_BYTES = 32768           # limits.BUFFER_BYTES
    AUTHORIZATION_MS = 5000        # limits.AUTHORIZATION_TIMEOUT
    FRAMING = ((1 << FIELD_HOST) | (1 << FIELD_CONTENT_LENGTH) | (1 << FIELD_TRANSFER_ENCODING) | (1 << FIELD_EXPECT))


@cython.final
@cython.no_gc
cdef class Authorizers(RequestFilters):
    cdef RequestFilter filter(self, Exchange exchange, const Op *op):
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


cdef inline bint frames(const Field *field) noexcept nogil:
    return field.flags & FIELD_HOP != 0 or (FRAMING >> field.id) & 1


# Whether a field of the authorizer's 200 goes on with the request.
cdef bint goes_on(const Image *image, Text names, const Field *field) noexcept nogil:
    if frames(field) or field.id == FIELD_DATE or (field.name_len > 8 and same(field.name, b"content-", 8)):
        return False
    return names.n == 0 or is_named(image, names, field)


cdef bint is_named(const Image *image, Text names, const Field *field) noexcept nogil:
    cdef Slice list_
    list_.at, list_.n = text(image, names), names.n
    return listed(&list_, field)


# Reads the head that is to go on.
cdef bint read_request(const Buf *request, RequestHead *head) noexcept:
    cdef HeadLimits most = any_head(waiting(request))
    return parse_request(request.base + request.start, waiting(request), 0, &most, head) == <int>waiting(request)


cdef inline void begin(Out *out, Buf *buf) noexcept:
    out.at = buf.base
    out.end = out.at + buf.cap
    out.full = False


cdef inline void begin_response(Out *out, Buf *buf, uint64_t status, const char *reason, size_t n) noexcept:
    begin(out, buf)
    say(out, b"HTTP/1.1 ")
    put_number(out, status)
    say(out, b" ")
    put(out, reason, n)
    say(out, b"\r\n")


@cython.final
@cython.no_gc
cdef class Authorization(RequestFilter):
    cdef void start(self) noexcept:
        cdef Extras extras = self.exchange.extras
        extras.keep = max(extras.keep, self.rule.max_body + 1)
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
        cdef bint grpc = self.rule.grpc
        cdef Buf head
        cdef Buf message
        memset(&head, 0, sizeof(Buf))
        memset(&message, 0, sizeof(Buf))
        self.question = question
        question.owner = self
        question.status = -1
        if (self.write_call(&head, &message, n) if grpc else self.write(&head, n)) < 0:
            question.ended(CALL_ANSWERED + 1)
        elif question.begin(exchange.table, image, backend_at(image, self.rule.backend), &head,
                            METHOD_POST if grpc else exchange.method_id, False) == 0:
            question.within_ms = AUTHORIZATION_MS
            question.repeats = True        # whatever its method is, it only asks
            if grpc:
                question.start(message.base + message.start, waiting(&message), 0, True)
            else:
                question.start(exchange.early.base + exchange.early.start, n, 0, True)
        release(pool, &head)
        release(pool, &message)

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
        begin(&out, to)
        put(&out, head.method.at, head.method.n)
        say(&out, b" ")
        put_text(&out, image, self.rule.path)
        put(&out, head.target.at, head.target.n)
        say(&out, b" HTTP/1.1\r\nHost: ")
        put(&out, head.authority.at, head.authority.n)
        say(&out, b"\r\n")
        for i in range(head.count):
            field = &head.fields[i]
            if field.id == FIELD_AUTHORIZATION or (not frames(field) and is_named(image, self.rule.headers, field)):
                put(&out, field.name, field.line_len)
        say(&out, b"Content-Length: ")
        put_number(&out, n)
        say(&out, b"\r\n\r\n")
        to.end = <uint32_t>(out.at - to.base)
        return -1 if out.full else 0

    cdef int write_call(self, Buf *to, Buf *message, uint32_t n) noexcept:
        """The head of a call of gRPC, and its message, with a body of n bytes."""
        cdef Exchange exchange = self.exchange
        cdef const Image *image = exchange.table.image
        cdef Text name = backend_at(image, self.rule.backend).name     # 'namespace/name:port': from behind the '/'
        cdef const char *host = text(image, name)
        cdef char server[ADDRESS_TEXT]
        cdef char *at
        cdef CheckRequest asked
        cdef Out out
        if not read_request(&exchange.request, &exchange.gateway.head):
            return -1
        self.describe(&asked, n)
        server_address(exchange.client.descriptor(), server, &asked.server)
        if reserve(&exchange.gateway.loop.pool, message, check_room(&asked)) < 0 or reserve(
                &exchange.gateway.loop.pool, to, name.n + 192) < 0:
            return -1
        at = write_check(message.base, message.base + message.cap, &asked)
        if at == NULL:
            return -1
        message.start, message.end = <uint32_t>(at - message.base), message.cap
        while name.n and host[0] != c"/":
            host += 1
            name.n -= 1
        begin(&out, to)
        say(&out, b"POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\nHost: ")
        put(&out, host + 1, max(name.n, 1) - 1)
        say(&out, b"\r\nContent-Type: application/grpc\r\nTE: trailers\r\nGrpc-Timeout: ")
        put_number(&out, AUTHORIZATION_MS)
        say(&out, b"m\r\n\r\n")
        to.end = <uint32_t>(out.at - to.base)
        return -1 if out.full else 0

    cdef void describe(self, CheckRequest *asked, uint32_t n) noexcept:
        """All but the gateway's own address; the request's head is gateway.head."""
        cdef Exchange exchange = self.exchange
        cdef RequestHead *head = &exchange.gateway.head
        cdef timespec now
        cdef uint32_t i
        memset(asked, 0, sizeof(CheckRequest))
        clock_gettime(CLOCK_REALTIME, &now)
        asked.seconds, asked.nanos = <uint64_t>now.tv_sec, <uint32_t>now.tv_nsec
        asked.head = head
        asked.names.at, asked.names.n = text(exchange.table.image, self.rule.headers), self.rule.headers.n
        asked.client = exchange.client_address()
        asked.port = exchange.extras.bound.port
        asked.scheme.at, asked.scheme.n = (b"https", 5) if exchange.secure() else (b"http", 4)
        asked.protocol.at, asked.protocol.n = b"HTTP/1.1" if exchange.minor else b"HTTP/1.0", 8
        if exchange.client.fd < 0:
            asked.protocol.at, asked.protocol.n = b"HTTP/2", 6
        for i in range(head.count):
            if head.fields[i].id == FIELD_X_REQUEST_ID:
                asked.id.at, asked.id.n = head.fields[i].value, head.fields[i].value_len
        asked.body.at, asked.body.n = exchange.early.base + exchange.early.start, n
        asked.size = -1
        if exchange.requested:
            asked.size = exchange.early_body
        elif head.framing == FRAMING_LENGTH:
            asked.size = <int64_t>head.content_length

    cdef void answered(self) noexcept:
        """The head of the answer is in gateway.reply until this returns."""
        if self.rule.grpc:
            if not is_grpc(&self.exchange.gateway.reply):
                self.question.over(CALL_ANSWERED + 1)
            return
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
        begin(&out, &self.made)
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
        return -1 if out.full or not read_request(&self.made, head) else 0     # it may have too many fields

    cdef int keep_denial(self) noexcept:
        """Keep what the client is told, but for what frames it: of HEAD the length is the authorizer's to say (RFC 9110 8.6)."""
        cdef Pool *pool = &self.exchange.gateway.loop.pool
        cdef ResponseHead *reply = &self.exchange.gateway.reply
        cdef bint bodiless = self.exchange.method_id == METHOD_HEAD
        cdef uint32_t i, room = reply.reason.n + 64
        cdef Out out
        for i in range(reply.count):
            room += reply.fields[i].line_len
        if reserve(pool, &self.made, room) < 0:
            return -1
        begin_response(&out, &self.made, reply.status, reply.reason.at, reply.reason.n)
        for i in range(reply.count):
            if not frames(&reply.fields[i]) or (bodiless and reply.fields[i].id == FIELD_CONTENT_LENGTH):
                put(&out, reply.fields[i].name, reply.fields[i].line_len)
        self.made.end = <uint32_t>(out.at - self.made.base)
        return -1 if out.full else 0

    cdef void finished(self, int end) noexcept:
        """The question is over: only an answer that was read to its end lets pass."""
        cdef Exchange exchange = self.exchange
        if end != CALL_ANSWERED or (self.rule.grpc and self.judge() < 0):
            exchange.answer(403, FAULT_AUTHORIZER, NULL, 0)
        elif not self.passes:
            self.deny()
        else:
            release(&exchange.gateway.loop.pool, &exchange.request)
            exchange.request = self.made
            memset(&self.made, 0, sizeof(Buf))
            if self.rule.grpc and changes_response(&self.home.verdict):
                add_response_filter(exchange, self)
            else:
                self.store()
            filter_passed(exchange)

    cdef int judge(self) noexcept:
        """Read the answer of a call. -1: it is none."""
        cdef CheckResponse *verdict = &self.home.verdict
        if self.long or self.status != 0 or \
                read_check_response(verdict, self.body.base + self.body.start, waiting(&self.body)) < 0:
            return -1
        self.passes = verdict.code == 0
        if self.passes:
            return -1 if verdict.denies else self.change_request()
        return self.word_denial()

    cdef int change_request(self) noexcept:
        """Make the head that goes on."""
        cdef Exchange exchange = self.exchange
        cdef RequestHead *head = &exchange.gateway.head
        cdef CheckResponse *verdict = &self.home.verdict
        cdef const char *start
        cdef Out out
        if not read_request(&exchange.request, head) or reserve(
                &exchange.gateway.loop.pool, &self.made, waiting(&exchange.request) + changes_room(verdict) + 2) < 0:
            return -1
        start = exchange.request.base + exchange.request.start
        begin(&out, &self.made)
        put(&out, start, (head.fields[0].name if head.count else start + waiting(&exchange.request) - 2) - start)
        put_changes(&out, verdict, PLACE_REQUEST, head.fields, head.count)
        say(&out, b"\r\n")
        self.made.end = <uint32_t>(out.at - self.made.base)
        return -1 if out.full or not read_request(&self.made, head) else 0

    cdef int word_denial(self) noexcept:
        """Make the head of the denial, but for its length, and leave its body alone in `body`."""
        cdef Pool *pool = &self.exchange.gateway.loop.pool
        cdef CheckResponse *verdict = &self.home.verdict
        cdef uint64_t status = verdict.status if verdict.status else 403
        cdef const char *phrase = reason_phrase(<int>status)
        cdef Out out
        if not 200 <= status <= 599 or reserve(pool, &self.made, changes_room(verdict) + 64) < 0:
            return -1
        begin_response(&out, &self.made, status, phrase, strlen(phrase))
        put_changes(&out, verdict, PLACE_DENIAL, NULL, 0)
        self.made.end = <uint32_t>(out.at - self.made.base)
        self.body.start = <uint32_t>(verdict.body.at - self.body.base)
        self.body.end = self.body.start + verdict.body.n
        return -1 if out.full else 0

    cdef void on_response(self, const ResponseHead *reply) noexcept:
        """The backend answers: what the authorizer says to the client goes with that."""
        cdef Exchange exchange = self.exchange
        cdef CheckResponse *verdict = &self.home.verdict
        cdef uint32_t i, room
        cdef Out out
        if read_check_response(verdict, self.body.base + self.body.start, waiting(&self.body)) < 0:
            exchange.fail(FAULT_EXTENSION)
            return
        room = changes_room(verdict) + reply.reason.n + 32
        for i in range(reply.count):
            room += reply.fields[i].line_len
        if reserve(&exchange.gateway.loop.pool, &self.made, room) < 0:
            exchange.fail(FAULT_EXTENSION)
            return
        begin_response(&out, &self.made, reply.status, reply.reason.at, reply.reason.n)
        put_changes(&out, verdict, PLACE_RESPONSE, reply.fields, reply.count)
        say(&out, b"\r\n")
        self.made.end = <uint32_t>(out.at - self.made.base)
        response_filtered(exchange, self, self.made.base, waiting(&self.made))

    cdef void deny(self) noexcept:
        cdef Exchange exchange = self.exchange
        cdef Gateway gateway = exchange.gateway
        cdef HeadLimits most = any_head(0)
        cdef uint32_t n = waiting(&self.body)
        cdef char tail[48]
        cdef Out out
        out.at = tail
        out.end = tail + sizeof(tail)
        out.full = False
        if self.rule.grpc or exchange.method_id != METHOD_HEAD:
            say(&out, b"Content-Length: ")
            put_number(&out, n)
            say(&out, b"\r\n")
        say(&out, b"\r\n")
        if append(&gateway.loop.pool, &self.made, tail, out.at - tail) < 0:
            exchange.answer(403, FAULT_AUTHORIZER, NULL, 0)
            return
        most.head = most.line = waiting(&self.made)
        if parse_response(self.made.base + self.made.start, waiting(&self.made), 0, &most, exchange.method_id,
                          &gateway.reply) <= 0:
            exchange.answer(403, FAULT_AUTHORIZER, NULL, 0)
        elif gateway.reply.status < 300 or gateway.reply.status == 304:
            exchange.answer(403, FAULT_DENIED, NULL, 0)
        elif self.long:
            exchange.answer(gateway.reply.status, FAULT_DENIED, NULL, 0)
        else:
            exchange.fault = FAULT_DENIED
            reply_with(exchange, &gateway.reply, self.body.base + self.body.start, n)

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


# The address that a client is connected to, as text.
cdef void server_address(int fd, char *room, Slice *to) noexcept:
    cdef sockaddr_storage address
    cdef socklen_t n = sizeof(address)
    cdef uint8_t raw[16]
    cdef uint8_t length
    if getsockname(fd, <sockaddr *>&address, &n) == 0:
        raw_address(&address, raw)
        address_text(raw, room, &length)
        to.at, to.n = room, length


@cython.final
@cython.no_gc
cdef class Question(Subrequest):
    cdef void told(self, const char *name, uint32_t name_n, const char *value, uint32_t n) noexcept:
        """A field of the head or the trailers: is it the status of gRPC?"""
        if name_n == 11 and same(name, b"grpc-status", 11):
            self.status = 0 if n == 1 and value[0] == c'0' else 1

    cdef void got_head(self) noexcept:
        cdef ResponseHead *reply = self.home.upstreams.reply
        cdef uint32_t i
        for i in range(reply.count):
            self.told(reply.fields[i].name, reply.fields[i].name_len, reply.fields[i].value, reply.fields[i].value_len)
        if self.owner is not None:
            self.owner.answered()

    cdef void got_trailers(self, const char *at, size_t n) noexcept:
        cdef const char *end = at + n
        cdef Field field
        cdef int used
        while at < end:
            used = field_line(at, end, 0xffffffff, &field)
            if used <= 0:
                return
            self.told(field.name, field.name_len, field.value, field.value_len)
            at += used

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
            owner.status = self.status
            owner.finished(end)
