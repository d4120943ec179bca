"""HTTP/2 towards a backend: the sending half of a connection, and its streams (see http2_stream.pxd).

Rules
- Payload is taken as far as windows and the socket go; the rest waits in its stream, whose sender stops.
- A stream's window is given back when its client took what came: one that is slow holds its own stream back.
- A cancelled stream counts until its RST_STREAM is sent, so clients that come and go quickly open no more than others.
"""
import base64
from _sha1 import sha1  # hashlib would load another OpenSSL: gwfast.identity

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EPIPE, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from gwfast.http2.header_writer cimport encode_trailers
from gwfast.http2.frames cimport *
from gwfast.http.head cimport *
from gwfast.engine.loop cimport Peer, append, consume, release, reserve, waiting
from gwfast.engine.sys cimport SIOCOUTQ, ioctl
from gwfast.upstream.transcode cimport KEY, encode_request
from gwfast.upstream.pool cimport CONNECTING, Waiter

cdef enum:
    ANSWERS = 1000             # limits.UNSENT_ANSWERS
    GATHER = 32768             # sent at once when so much is there
    HANDSHAKE = 28             # characters of a Sec-WebSocket-Accept


@cython.no_gc
cdef class UpstreamHttp2Output(Peer):
    def __dealloc__(self):
        free(self.encoder)

    cdef void rest_or_end(self) noexcept:
        pass

    cdef void leave(self) noexcept:
        pass

    cdef void fail(self, uint32_t code) noexcept:
        pass

    cdef void gone(self) noexcept:
        pass

    # -- streams -------------------------------------------------------------------------------------------------------

    cdef void queue_up(self, UpstreamStream stream) noexcept:
        cdef PyObject **at = &self.queue
        while at[0] != NULL:
            at = &(<UpstreamStream>at[0]).next
        at[0] = <PyObject *>stream
        Py_INCREF(stream)
        stream.next = NULL
        stream.connection = self
        stream.status = CONNECTING
        self.queued += 1

    cdef UpstreamStream unqueue(self):
        cdef UpstreamStream stream = <UpstreamStream>self.queue
        self.queue = stream.next
        Py_DECREF(stream)
        self.queued -= 1
        stream.connection = None
        return stream

    cdef UpstreamStream find(self, uint32_t id):
        cdef PyObject *at = self.streams[id // 2 % BUCKETS]
        while at != NULL:
            if (<UpstreamStream>at).id == id:
                return <UpstreamStream>at
            at = (<UpstreamStream>at).next
        return None

    cdef UpstreamStream any_above(self, uint32_t bucket, uint32_t id, bint waits):
        """One of a chain with a higher number; `waits`: that could send some of what it has."""
        cdef PyObject *at = self.streams[bucket]
        while at != NULL:
            if (<UpstreamStream>at).id > id and (
                    not waits or ((<UpstreamStream>at).out.base != NULL and (<UpstreamStream>at).window > 0)):
                return <UpstreamStream>at
            at = (<UpstreamStream>at).next
        return None

    cdef bint is_idle_number(self, uint32_t id) noexcept:
        return id >= self.next_id

    cdef void chain(self, UpstreamStream stream) noexcept:
        cdef PyObject **at = &self.streams[self.next_id // 2 % BUCKETS]
        stream.id = self.next_id
        stream.window = self.peer.window
        stream.credit = STREAM_WINDOW
        stream.asked_ms = self.loop.now_ms
        stream.next = at[0]
        at[0] = <PyObject *>stream
        Py_INCREF(stream)
        self.next_id += 2

    cdef void detach(self, UpstreamStream stream) noexcept:
        """It has ended: no frame of it will be sent or read."""
        cdef PyObject **at = &self.streams[stream.id // 2 % BUCKETS]
        self.count -= 1
        if stream.out.base != NULL:
            self.stalled -= 1
            release(&self.loop.pool, &stream.out)
        stream.connection = None
        if stream.id:
            while at[0] != <PyObject *>stream:
                at = &(<UpstreamStream>at[0]).next
            at[0] = stream.next
            Py_DECREF(stream)
        self.rest_or_end()

    cdef void forget(self, UpstreamStream stream) noexcept:
        """Its request is over, whatever is still under way."""
        cdef PyObject **at = &self.queue
        if stream.status == CONNECTING:
            while at[0] != <PyObject *>stream:
                at = &(<UpstreamStream>at[0]).next
            at[0] = stream.next
            stream.connection = None
            self.queued -= 1
            Py_DECREF(stream)
            self.rest_or_end()
            return
        if stream.id and not (stream.ended and stream.sent_end):
            self.put_reset(stream.id, CANCEL)
        self.detach(stream)

    cdef void bad(self, UpstreamStream stream, uint32_t code) noexcept:
        """Its response is malformed."""
        cdef Waiter waiter = stream.waiter
        if self.run is stream:
            self.run = None
        self.put_reset(stream.id, code)
        self.detach(stream)
        waiter.upstream_bad()

    # -- what the backend says of streams and windows -----------------------------------------------------------------

    cdef int widen(self, int64_t more) noexcept:
        """Every stream's window, by what the initial one changed (RFC 9113 6.9.2). -1: one is too large."""
        cdef PyObject *at
        cdef uint32_t i
        for i in range(BUCKETS):
            at = self.streams[i]
            while at != NULL:
                (<UpstreamStream>at).window += more
                if (<UpstreamStream>at).window > WINDOW_MOST:
                    return -1
                at = (<UpstreamStream>at).next
        return 0

    cdef void on_window_update(self, Frame *frame) noexcept:
        cdef UpstreamStream stream
        if frame.stream == 0:
            self.window += frame.code
            if self.window > WINDOW_MOST:
                self.fail(FLOW_CONTROL_ERROR)
            else:
                self.feed()
            return
        stream = self.find(frame.stream)
        if stream is None:
            if self.is_idle_number(frame.stream):
                self.fail(PROTOCOL_ERROR)
            return
        stream.window += frame.code
        if stream.window > WINDOW_MOST:
            self.bad(stream, FLOW_CONTROL_ERROR)
        elif stream.out.base != NULL:
            stream.feed()

    cdef void on_reset(self, Frame *frame) noexcept:
        cdef UpstreamStream stream = self.find(frame.stream)
        cdef Waiter waiter
        if stream is None:
            if self.is_idle_number(frame.stream):
                self.fail(PROTOCOL_ERROR)
            return
        waiter = stream.waiter
        if frame.code == REFUSED_STREAM and self.count > 1:
            self.most = min(self.most, self.count - 1)
        self.detach(stream)
        if not stream.ended:
            waiter.upstream_reset(frame.code == REFUSED_STREAM and not stream.replied)
        else:
            waiter.upstream_drained()  # the rest of the request is not needed (RFC 9113 8.1)

    cdef void on_goaway(self, Frame *frame) noexcept:
        cdef UpstreamStream stream
        cdef uint32_t i
        self.leave()
        for i in range(BUCKETS):
            stream = self.any_above(i, frame.last_stream, False)
            while stream is not None:
                self.detach(stream)
                if not stream.ended:
                    stream.waiter.upstream_reset(True)
                if self.closed:
                    return
                stream = self.any_above(i, frame.last_stream, False)
        self.rest_or_end()

    # -- sending -------------------------------------------------------------------------------------------------------

    cdef uint8_t *gather_room(self, uint32_t n) noexcept:
        """Room for n bytes of frames, which will be sent; NULL: the connection is over."""
        if self.closed:
            return NULL
        if reserve(&self.loop.pool, &self.gather, n) < 0:
            self.break_off()
            return NULL
        self.loop.later(self)
        return <uint8_t *>self.gather.base + self.gather.end

    cdef int push(self) noexcept:
        """Send what was gathered. -1: the connection is broken."""
        cdef int result = 0
        if self.out.base == NULL and self.gather.base != NULL:
            self.given += waiting(&self.gather)
            result = self.send(self.gather.base + self.gather.start, waiting(&self.gather))
            release(&self.loop.pool, &self.gather)
        if self.out.base == NULL:
            self.cancelled = self.answers = 0
        return result

    cdef uint64_t first_unread(self, bint reset) noexcept:
        """From which byte on nobody has looked at what was sent, when the end was read: a FIN acknowledges what came before the
        backend closed, and an RST that makes EPIPE comes behind one. Over TLS: what has not left us."""
        cdef int left = 0
        if self.tls is not None:
            return self.given
        if (reset and errno != EPIPE) or ioctl(self.fd, SIOCOUTQ, &left) < 0:
            return NOTHING
        return self.given - waiting(&self.out) - <uint32_t>left

    cdef void answer(self, uint32_t n) noexcept:
        """Make room for an answer; a backend that does not read them gets no more."""
        self.answers += 1
        if self.answers > ANSWERS:
            self.fail(ENHANCE_YOUR_CALM)
        elif self.gather_room(n) == NULL:
            self.gone()

    cdef void put_block(self, uint32_t id, const uint8_t *at, uint32_t n, bint end) noexcept:
        cdef uint8_t flags = FLAG_END_STREAM if end else 0
        cdef uint8_t type = FRAME_HEADERS
        cdef uint32_t step
        cdef uint8_t *p = self.gather_room(n + (n // MAX_FRAME + 1) * FRAME_HEAD)
        if p == NULL:
            return
        while True:
            step = min(n, <uint32_t>MAX_FRAME)
            if step == n:
                flags |= FLAG_END_HEADERS
            memcpy(put_head(p, step, type, flags, id), at, step)
            p += FRAME_HEAD + step
            at += step
            n -= step
            self.gather.end += FRAME_HEAD + step
            if n == 0:
                return
            type, flags = FRAME_CONTINUATION, 0

    cdef size_t put_data(self, UpstreamStream stream, const char *at, size_t n, bint end) noexcept:
        """Send what windows and the socket take: how many bytes. Sets sent_end where that was all, and the end."""
        cdef size_t used = 0
        cdef int64_t step
        cdef uint8_t *p
        while used < n or end:
            step = 0
            if used < n:
                step = min(min(<int64_t>(n - used), <int64_t>MAX_FRAME), min(self.window, stream.window))
                if step <= 0 or self.out.base != NULL:
                    break
            p = self.gather_room(FRAME_HEAD + <uint32_t>step)
            if p == NULL:
                break
            stream.sent_end = end and used + step == n
            p = put_head(p, <uint32_t>step, FRAME_DATA, FLAG_END_STREAM if stream.sent_end else 0, stream.id)
            if step:
                memcpy(p, at + used, step)
            self.gather.end += FRAME_HEAD + <uint32_t>step
            self.window -= step
            stream.window -= step
            used += step
            earn(&self.glitches, step > 0)     # backends estimate their bandwidth too: a PING for what they are sent
            if waiting(&self.gather) >= GATHER:
                self.push()
            if stream.sent_end:
                break
        return used

    cdef int put_trailers(self, UpstreamStream stream, const char *at, size_t n) noexcept:
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length = encode_trailers(self.encoder, at, <uint32_t>n, to, to + self.loop.scratch)
        if length < 0:
            return -1
        self.put_block(stream.id, to, length, True)
        stream.sent_end = True
        return 0

    cdef void put_reset(self, uint32_t id, uint32_t code) noexcept:
        cdef uint8_t *p = self.gather_room(FRAME_HEAD + 4)
        if p != NULL:
            put_rst_stream(p, id, code)
            self.gather.end += FRAME_HEAD + 4
            self.cancelled += 1

    cdef void put_credit(self, uint32_t id, uint32_t n) noexcept:
        cdef uint8_t *p = self.gather_room(FRAME_HEAD + 4)
        if p != NULL:
            put_window_update(p, id, n)
            self.gather.end += FRAME_HEAD + 4

    cdef void feed(self) noexcept:
        """Let streams send what waits, each in its turn first."""
        cdef UpstreamStream stream
        cdef uint32_t i
        self.turn += 1
        for i in range(BUCKETS):
            if self.stalled == 0:
                return
            stream = self.any_above((self.turn + i) % BUCKETS, 0, True)
            while stream is not None:
                if self.window <= 0 or self.out.base != NULL or self.closed:
                    return
                stream.feed()
                stream = self.any_above((self.turn + i) % BUCKETS, 0, True)


@cython.final
@cython.no_gc
cdef class UpstreamStream(Upstream):
    cdef int send_request(self, const char *head, size_t head_n, bint chunked, const char *at, size_t n, bint end) noexcept:
        cdef UpstreamHttp2Output connection = self.connection
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length
        if connection is None or connection.closed:
            return -1
        length = encode_request(connection.encoder, head, <uint32_t>head_n, connection.tls is not None,
                                connection.peer.connect_protocol, &self.asked, to, to + self.loop.scratch)
        if length < 0:
            connection.leave()            # its table may not be the peer's any more
            return -1
        end = end and not self.asked.websocket
        connection.chain(self)
        self.begins = connection.given + waiting(&connection.gather)
        self.sent_end = self.ending = end and n == 0
        connection.put_block(self.id, to, length, self.sent_end)
        return self.send_body(at, n, end) if n else 0

    cdef int send_body(self, const char *at, size_t n, bint end) noexcept:
        cdef UpstreamHttp2Output connection = self.connection
        cdef bint stalls = self.out.base == NULL
        cdef size_t used = 0
        if connection is None or self.ending:
            return -1 if connection is None else 0
        self.ending = end
        if stalls:
            used = connection.put_data(self, at, n, end)
            if used == n:
                return 0
        if append(&self.loop.pool, &self.out, at + used, n - used) < 0:
            return connection.break_off()
        connection.stalled += stalls
        return 0

    cdef int send_trailers(self, const char *at, size_t n) noexcept:
        if n == 0 or self.connection is None or self.ending:
            return self.send_body(NULL, 0, True)
        self.ending = True
        if self.out.base != NULL:
            return 0 if append(&self.loop.pool, &self.tail, at, n) == 0 else self.connection.break_off()
        return self.connection.put_trailers(self, at, n)

    cdef int send(self, const char *at, size_t n) noexcept:
        return self.send_body(at, n, False)        # of a tunnel

    cdef void half_close(self) noexcept:
        self.send_body(NULL, 0, True)

    cdef void feed(self) noexcept:
        """There is room for some of what waits."""
        cdef UpstreamHttp2Output connection = self.connection
        cdef size_t used = connection.put_data(self, self.out.base + self.out.start, waiting(&self.out),
                                        self.ending and self.tail.base == NULL)
        consume(&self.loop.pool, &self.out, <uint32_t>used)
        if self.out.base != NULL:
            return
        connection.stalled -= 1
        if self.tail.base != NULL:
            if connection.put_trailers(self, self.tail.base + self.tail.start, waiting(&self.tail)) < 0:
                connection.leave()
            release(&self.loop.pool, &self.tail)
        self.waiter.upstream_drained()

    cdef void on_deadline(self) noexcept:
        if self.connection is not None and self.id and self.connection.received_ms < self.asked_ms:
            self.connection.leave()       # it has not said a word since: others had better not wait there
        self.waiter.upstream_late()

    cdef void deliver(self, bint head, const char *at, size_t n, bint end) noexcept:
        if head:
            self.waiter.upstream_reply(at, n, end)
        elif self.input.base != NULL or (n and not self.waiter.upstream_wanted()):
            if append(&self.loop.pool, &self.input, at, n) < 0 and self.connection is not None:
                self.connection.bad(self, INTERNAL_ERROR)
            self.kept += <uint32_t>n
            return
        else:
            self.waiter.upstream_data(at, n, end)
        if not self.closed:
            self.repay()

    cdef void repay(self) noexcept:
        """Let the backend send more where the client took what came."""
        if (self.connection is not None and not self.ended and self.credit <= STREAM_WINDOW // 2
                and self.waiter.upstream_wanted()):
            self.connection.put_credit(self.id, <uint32_t>(STREAM_WINDOW - self.credit))
            self.credit = STREAM_WINDOW

    cdef void pull(self) noexcept:
        cdef Buf input = self.input
        cdef uint32_t kept = self.kept
        cdef uint32_t trailers = waiting(&input) - kept
        cdef const char *at = input.base + input.start
        if input.base != NULL:
            memset(&self.input, 0, sizeof(Buf))
            self.kept = 0
            self.waiter.upstream_data(at, kept, self.ended and not trailers)
            if trailers and not self.closed:
                self.waiter.upstream_trailers(at + kept, trailers)
            release(&self.loop.pool, &input)
        if not self.closed:
            self.repay()

    cdef void switch(self, ResponseHead *head, char *at) noexcept:
        """The response to an extended CONNECT in the words of HTTP/1.1 (RFC 8441 5): a 2xx is its 101."""
        cdef Field *field
        if head.status >= 300 or head.count + 2 > head.most:
            self.asked.websocket = False
            self.send_body(NULL, 0, True)
            return
        head.status, head.framing, head.upgrade, head.content_length = 101, FRAMING_TUNNEL, 1, 0
        head.reason.at, head.reason.n = b"Switching Protocols", 19
        field = &head.fields[head.count]
        memcpy(at, b"Upgrade: websocket\r\n", 20)
        field.name, field.name_len, field.value, field.value_len, field.line_len = at, 7, at + 9, 9, 20
        field.id, field.flags, field.hash = FIELD_UPGRADE, FIELD_HOP, name_hash(at, 7)
        at += 20
        field += 1
        memcpy(at, b"Sec-WebSocket-Accept: ", 22)
        accept_key(self.asked.key, at + 22)
        memcpy(at + 22 + HANDSHAKE, b"\r\n", 2)
        field.name, field.name_len, field.value, field.value_len = at, 20, at + 22, HANDSHAKE
        field.line_len = 22 + HANDSHAKE + 2
        field.id, field.flags, field.hash = FIELD_OTHER, 0, name_hash(at, 20)
        head.count += 2
        head.ids |= <uint32_t>1 << FIELD_UPGRADE

    cdef void park(self) noexcept:
        self.close()

    cdef void abort(self) noexcept:
        self.close()           # of a stream a reset shows in any case

    cdef void close(self) noexcept:
        cdef UpstreamHttp2Output connection = self.connection
        if self.closed:
            return
        self.waiter = None
        if connection is not None:
            connection.forget(self)
        release(&self.loop.pool, &self.input)
        release(&self.loop.pool, &self.tail)
        Peer.close(self)


cdef void accept_key(const char *key, char *to) noexcept:
    # RFC 6455 4.2.2
    cdef bytes made = base64.b64encode(sha1(key[:KEY] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    memcpy(to, <const char *>made, HANDSHAKE)
