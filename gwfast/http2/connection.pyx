"""A client's HTTP/2 connection: what comes (see connection.pxd).

Rules
- A frame is judged by `frames` alone, a field block by `hpack` and `head`; what depends on streams and windows is here.
- What a peer may make us do has a budget: streams that end early (resets), frames that carry nothing (glitches), a field
  block's size, answers that it does not read (nothing is read while more waits for the socket than a buffer holds).
  Who spends it all gets GOAWAY ENHANCE_YOUR_CALM. Work earns it again: a busy client's PINGs are explained by its DATA.
- What still comes for a stream that has ended is ignored where it may have crossed its end (RFC 9113 5.1).
- Windows are given back when the exchange took the bytes, so a slow backend holds its client back.
- A stream that the client resets is cancelled at its upstream in the same round; one that was not launched never is.
"""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from gwfast.engine.pages cimport BLOCK_BYTES, block_give, block_take
from gwfast.http.bytes cimport same
from gwfast.engine.clients cimport Client
from gwfast.exchange.exchange cimport Exchange
from gwfast.http.fault cimport FAULT_BAD_REQUEST, FAULT_DRAINING, FAULT_NO_RULE, fault_of_parse
from gwfast.http2.frames cimport *
from gwfast.http.head cimport (BAD_FIELDS_LARGE, BAD_TARGET_LONG, FIELD_UNDERSCORE, FRAMING_LENGTH, METHOD_HEAD, WHY_NONE,
                               Field, RequestHead)
from gwfast.http2.head cimport MALFORMED, list_most, read_http2_head, read_http2_trailers
from gwfast.http2.hpack cimport (HEADER_TABLE_BYTES, HPACK_BAD, HPACK_CALM, HPACK_LARGE, HPACK_OK, FieldBlock, DynamicTable,
                                 block_start, hpack_decode, table_bytes, table_fold, table_start, table_unfold)
from gwfast.http2.hpack_encoder cimport Encoding, encoding_bytes, encoding_limit, encoding_start
from gwfast.engine.linger cimport let_arrive
from gwfast.engine.loop cimport READ, READ_AGAIN, READS, Peer, append, consume, release, waiting
from gwfast.http2.recent cimport recent_enter, recent_is_marked
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport Bind

cdef enum:
    STREAMS = 100              # limits.STREAMS
    STREAM_WINDOW = 65536      # limits.STREAM_WINDOW
    WINDOW = 1048576           # limits.CONNECTION_WINDOW
    FIRST_WINDOW = 65535       # RFC 9113 6.9.2
    RESETS = 1000              # limits.STREAM_RESETS
    RESETS_RATE = 33           # limits.STREAM_RESETS_PER_SECOND
    GLITCHES = 1000            # limits.GLITCHES
    UPDATES = 8000             # limits.WINDOW_UPDATES
    GLITCHES_RATE = 100        # limits.GLITCHES_PER_SECOND
    EARNED = 4                 # limits.GLITCHES_PER_STREAM
    RASH_MS = 50               # limits.STREAM_RESET_AGE
    LINGER_MS = 2000           # limits.LINGER_TIMEOUT
    DRAIN_IDLE_MS = 1000       # limits.DRAIN_IDLE
    REST_MS = 1000             # limits.IDLE_REST


@cython.final
@cython.no_gc
cdef class Http2Connection(Http2Output):
    def __dealloc__(self):
        if self.tables != NULL:
            block_give(&self.loop.blocks, self.tables)
        else:
            free(self.decoder)
        free(self.streams)

    cdef void take_over(self, const char *at, size_t n) noexcept:
        if append(&self.loop.pool, &self.input, at, n) < 0:
            self.gone()

    cdef void start(self) noexcept:
        cdef uint8_t room[9 + 4 * 6 + 13]
        cdef uint8_t *p = put_head(room, 4 * 6, FRAME_SETTINGS, 0, 0)
        self.gateway.counters.totals.http2_connections += 1
        self.window = FIRST_WINDOW
        self.credit = WINDOW
        settings_start(&self.peer)
        self.frames.more = more_continuations(self.gateway.limits.head)
        p = put_setting(p, SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS)
        p = put_setting(p, SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW)
        p = put_setting(p, SETTINGS_MAX_HEADER_LIST_SIZE, self.gateway.limits.head)
        p = put_setting(p, SETTINGS_ENABLE_CONNECT_PROTOCOL, 1)
        p = put_window_update(p, 0, WINDOW - FIRST_WINDOW)
        self.since_ms = self.loop.now_ms
        if append(&self.loop.pool, &self.gather, <char *>room, p - room) < 0:
            self.gone()
            return
        self.loop.later(self)
        self.rearm()
        if self.gateway.draining:
            self.drain()
        self.readable = True
        self.take_input()          # what was read already
        self.pump()

    # -- events --------------------------------------------------------------------------------------------------------

    cdef void on_events(self, uint32_t events) noexcept:
        if events & EPOLLERR:
            self.gone()
            return
        if events & (EPOLLRDHUP | EPOLLHUP):
            self.hangup = True
        if events & EPOLLOUT and self.out.base != NULL:
            if self.flush() < 0:
                self.gone()
                return
            self.rearm()               # it takes something
            if self.out.base == NULL:
                self.pump_queue()
                self.pump()
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) and not self.closed:
            self.readable = True
            self.pump()

    cdef void on_later(self) noexcept:
        if self.failing:
            self.failing = False
            self.fail(INTERNAL_ERROR)
        if self.push() < 0:
            self.gone()
        elif self.lingering:
            self.half_close()

    cdef void on_deadline(self) noexcept:
        cdef uint64_t now = self.loop.now_ms
        if self.lingering or self.out.base != NULL:
            self.torn = self.out.base != NULL
            self.gone()
        elif self.drain_ms and not self.leaving and now >= self.drain_ms + DRAIN_IDLE_MS:
            self.leave()
        elif not self.acknowledged or self.block.base != NULL:
            if now >= self.since_ms + self.clients.head_ms:
                self.fail(SETTINGS_TIMEOUT if not self.acknowledged else ENHANCE_YOUR_CALM)
            else:
                self.rearm()
        elif self.count == 0 and now >= self.since_ms + self.clients.idle_for():
            self.fail(NO_ERROR)
        else:
            self.rest()
            self.rearm()

    cdef void rearm(self) noexcept:
        """The next moment at which this connection, not a stream of it, may be late."""
        cdef uint64_t at = 0
        if self.closed:
            return
        if self.lingering:
            at = self.loop.now_ms + LINGER_MS
        elif self.out.base != NULL:
            at = self.loop.now_ms + self.clients.send_ms
        elif self.drain_ms and not self.leaving:
            at = self.drain_ms + DRAIN_IDLE_MS
        elif not self.acknowledged or self.block.base != NULL:
            at = self.since_ms + self.clients.head_ms
        elif self.count == 0:
            at = self.since_ms + self.clients.idle_for()
            if self.encoder != NULL and self.loop.now_ms < self.since_ms + REST_MS < at:
                at = self.since_ms + REST_MS
        self.loop.arm(self, at)

    cdef void drain(self) noexcept:
        """The first GOAWAY: no new streams please, those that are on their way are served (RFC 9113 6.8)."""
        if self.drain_ms == 0 and not self.lingering:
            self.drain_ms = self.loop.now_ms
            self.say_goodbye(WINDOW_MOST, NO_ERROR)
            self.rearm()

    cdef void say_goodbye(self, uint32_t last, uint32_t code) noexcept:
        cdef uint8_t *p
        if self.leaving:
            last = self.promised       # it may not grow again (RFC 9113 6.8)
        self.promised = last
        if self.room(17) == 0:
            p = <uint8_t *>self.gather.base + self.gather.end
            self.gather.end += <uint32_t>(put_goaway(p, last, code) - p)

    cdef void leave(self) noexcept:
        """The second: which streams were the last."""
        self.say_goodbye(self.recent.last, NO_ERROR)
        self.leaving = True
        if self.count == 0:
            self.fail(NO_ERROR)
        self.rearm()

    cdef void fail(self, uint32_t code) noexcept:
        """End the connection with this error (RFC 9113 5.4.1)."""
        if self.closed or self.lingering:
            return
        if code == ENHANCE_YOUR_CALM:
            self.gateway.counters.totals.http2_floods += 1
        if code != NO_ERROR or not self.leaving:
            self.say_goodbye(self.recent.last, code)
        self.lingering = True
        self.end_streams()
        release(&self.loop.pool, &self.block)
        self.loop.later(self)
        self.rearm()

    cdef void cut(self) noexcept:
        cdef ClientStream stream
        cdef int i
        for i in range(BUCKETS):
            while self.streams != NULL and self.streams[i] != NULL:
                stream = <ClientStream>self.streams[i]
                if stream.exchange is not None:
                    stream.exchange.fail(FAULT_DRAINING)
                if not stream.closed:
                    stream.reset(INTERNAL_ERROR)
        self.fail(NO_ERROR)
        self.push()
        self.torn = self.out.base != NULL
        self.close()

    cdef void gone(self) noexcept:
        self.end_streams()
        if not self.closed and self.tls is not None and self.tls.alerts():
            self.forget_input()
            let_arrive(self)
        else:
            self.close()

    cdef void end_streams(self) noexcept:
        """The client is not there any more, or not to be listened to."""
        cdef ClientStream stream
        cdef int i
        for i in range(BUCKETS):
            while self.streams != NULL and self.streams[i] != NULL:
                stream = <ClientStream>self.streams[i]
                stream.drop()

    cdef void close(self) noexcept:
        if self.closed:
            return
        self.forget_input()
        Client.close(self)

    cdef void forget_input(self) noexcept:
        release(&self.loop.pool, &self.input)
        release(&self.loop.pool, &self.block)
        release(&self.loop.pool, &self.gather)

    # -- reading -------------------------------------------------------------------------------------------------------

    cdef void pump(self) noexcept:
        cdef ssize_t n
        cdef size_t used
        cdef int reads = 0
        if self.pumping:
            return
        self.pumping = True
        while not self.closed and self.readable and waiting(&self.out) < READ:
            reads += 1
            if reads > READS:      # others want their turn: the kernel announces the rest again
                self.loop.watch(self, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                break
            n = self.read(self.loop.input, READ)
            if n <= 0:
                if n != READ_AGAIN:
                    self.gone()
                break
            if self.lingering:
                continue
            if self.input.base == NULL:
                used = self.take(self.loop.input, n)
                if not self.closed and not self.lingering and used < <size_t>n:
                    if append(&self.loop.pool, &self.input, self.loop.input + used, n - used) < 0:
                        self.gone()
            elif append(&self.loop.pool, &self.input, self.loop.input, n) < 0:
                self.gone()
            else:
                self.take_input()
        self.pumping = False

    cdef void take_input(self) noexcept:
        cdef size_t used
        if self.input.base != NULL:
            used = self.take(self.input.base + self.input.start, waiting(&self.input))
            if self.input.base != NULL:        # else the connection is over
                consume(&self.loop.pool, &self.input, <uint32_t>used)

    cdef size_t take(self, char *at, size_t n) noexcept:
        cdef size_t used = 0
        cdef Frame frame
        cdef int step
        if not self.greeted:
            step = read_preface(<uint8_t *>at, <uint32_t>n)
            if step == FRAME_BAD:
                self.fail(PROTOCOL_ERROR)
                return n
            if step == FRAME_PARTIAL:
                return 0
            self.greeted = True
            used = step
        while used < n and not self.closed and not self.lingering:
            step = frame_next(&self.frames, <uint8_t *>at + used, <uint32_t>(n - used), &frame)
            if step == FRAME_PARTIAL:
                break
            if step == FRAME_BAD:
                self.fail(frame.error)
                break
            used += step
            self.on_frame(&frame)
        self.launch_pending()
        return used

    cdef void on_frame(self, Frame *frame) noexcept:
        if frame.idle:
            self.spend_glitch()
        if frame.type == FRAME_DATA:
            self.on_data(frame)
        elif frame.type == FRAME_HEADERS or frame.type == FRAME_CONTINUATION:
            self.on_headers(frame)
        elif frame.type == FRAME_WINDOW_UPDATE:
            self.on_window_update(frame)
        elif frame.type == FRAME_RST_STREAM:
            self.on_reset(frame)
        elif frame.type == FRAME_SETTINGS:
            self.on_settings(frame)
        elif frame.type == FRAME_PING:
            self.spend_glitch()
            if not frame.flags & FLAG_ACK:
                self.put_frame(FRAME_PING, FLAG_ACK, 0, <const char *>frame.at, 8)
        elif frame.type == FRAME_GOAWAY:
            self.spend_glitch()
            self.drain()
        elif frame.error:              # PRIORITY
            self.on_bad_priority(frame)

    cdef void on_bad_priority(self, Frame *frame) noexcept:
        cdef ClientStream stream = self.find(frame.stream)
        if stream is not None:
            self.spend_reset()
            stream.reset(frame.error)
        elif frame.stream > self.recent.last:
            self.fail(frame.error)         # an idle stream cannot be reset (RFC 9113 6.4)
        elif not recent_is_marked(&self.recent, frame.stream):
            self.spend_reset()
            self.put_reset(frame.stream, frame.error)   # the answer was faster

    cdef void on_settings(self, Frame *frame) noexcept:
        cdef uint32_t before = self.peer.window
        cdef int64_t change
        cdef PyObject *at
        cdef int i
        self.spend_glitch()
        if frame.flags & FLAG_ACK:
            self.acknowledged = True
            self.rearm()
            return
        settings_apply(&self.peer, frame)
        if self.encoder != NULL:
            encoding_limit(self.encoder, self.peer.header_table)
        self.put_frame(FRAME_SETTINGS, FLAG_ACK, 0, NULL, 0)
        change = <int64_t>self.peer.window - before
        if change == 0 or self.streams == NULL:
            return
        for i in range(BUCKETS):
            at = self.streams[i]
            while at != NULL:
                (<ClientStream>at).window += change
                if (<ClientStream>at).window > WINDOW_MOST:      # RFC 9113 6.9.2
                    self.fail(FLOW_CONTROL_ERROR)
                    return
                if (<ClientStream>at).out.base != NULL and (<ClientStream>at).window > 0:
                    self.enqueue(<ClientStream>at)
                at = (<ClientStream>at).next
        self.pump_queue()

    cdef void on_window_update(self, Frame *frame) noexcept:
        cdef ClientStream stream
        self.spend(&self.updates, UPDATES, GLITCHES_RATE)
        if self.lingering:
            return
        if frame.stream == 0:
            self.window += frame.code
            if self.window > WINDOW_MOST:
                self.fail(FLOW_CONTROL_ERROR)
            else:
                self.pump_queue()
            return
        if frame.stream > self.recent.last:
            self.fail(PROTOCOL_ERROR)      # of an idle stream (RFC 9113 5.1)
            return
        stream = self.find(frame.stream)
        if stream is None:
            return                         # it has just ended: Go sends one for each body (RFC 9113 5.1)
        if frame.error or stream.window + frame.code > WINDOW_MOST:
            self.spend_reset()
            stream.reset(frame.error if frame.error else FLOW_CONTROL_ERROR)
            return
        stream.window += frame.code
        if stream.out.base != NULL and stream.window > 0:
            self.enqueue(stream)
            self.pump_queue()

    cdef void on_reset(self, Frame *frame) noexcept:
        cdef ClientStream stream
        if frame.stream > self.recent.last:
            self.fail(PROTOCOL_ERROR)
            return
        stream = self.find(frame.stream)
        if stream is None:
            self.spend_glitch()            # the answer was faster (RFC 9113 5.1)
            return
        if self.is_rash(stream):
            self.spend_reset()
        if self.lingering:
            return
        self.gateway.counters.totals.http2_resets += 1
        stream.drop()

    cdef bint is_rash(self, ClientStream stream) noexcept:
        """Whether to cancel it is cheap for a client and dear for its backend: not once the response has begun, nor where
        it held its place for as long as many a response takes."""
        cdef Exchange exchange = stream.exchange
        return exchange is not None and not exchange.replied and self.loop.now_ms - stream.born_ms < RASH_MS

    cdef void on_data(self, Frame *frame) noexcept:
        cdef ClientStream stream = self.find(frame.stream)
        cdef uint32_t padding = frame.length - frame.n
        cdef bint end = frame.flags & FLAG_END_STREAM
        self.credit -= frame.length
        if self.credit < 0:
            self.fail(FLOW_CONTROL_ERROR)
            return
        if stream is None or stream.remote_ended:
            self.owe(None, frame.length)
            if frame.stream > self.recent.last:
                self.fail(PROTOCOL_ERROR)
            elif recent_is_marked(&self.recent, frame.stream):
                if frame.length == 0:
                    self.spend_glitch()
            else:
                self.spend_reset()
                if stream is not None:
                    stream.reset(STREAM_CLOSED)
                else:
                    self.put_reset(frame.stream, STREAM_CLOSED)
            return
        stream.credit -= frame.length
        if stream.credit < 0:
            self.owe(None, frame.length)
            self.spend_reset()
            stream.reset(FLOW_CONTROL_ERROR)
            return
        if stream.sized and (frame.n > stream.left or end and frame.n != stream.left):
            self.owe(None, frame.length)       # another length than was said: malformed (RFC 9113 8.1.1)
            self.spend_reset()
            stream.refuse_body()
            return
        stream.left -= frame.n
        if frame.n:
            earn(&self.glitches, 1)
        if padding:
            self.owe(stream, padding)
        stream.take_data(<char *>frame.at, frame.n, end)

    # -- requests ------------------------------------------------------------------------------------------------------

    cdef void on_headers(self, Frame *frame) noexcept:
        cdef bint whole = frame.flags & FLAG_END_HEADERS
        if frame.type == FRAME_HEADERS:
            self.block_stream = frame.stream
            self.block_flags = frame.flags
            self.block_error = frame.error
            if whole:
                self.take_block(frame.stream, frame.at, frame.n, frame.flags & FLAG_END_STREAM)
                return
            self.since_ms = self.loop.now_ms
        if waiting(&self.block) + frame.n > block_most(self.gateway.limits.head):
            self.fail(ENHANCE_YOUR_CALM)
            return
        if frame.n == 0 and not whole:
            self.spend_glitch()
        if append(&self.loop.pool, &self.block, <const char *>frame.at, frame.n) < 0:
            self.gone()
            return
        if whole:
            self.take_block(self.block_stream, <uint8_t *>self.block.base + self.block.start, waiting(&self.block),
                            self.block_flags & FLAG_END_STREAM)
            release(&self.loop.pool, &self.block)
        self.rearm()

    cdef int codecs(self) noexcept:
        cdef DynamicTable *folded = self.decoder
        invariant(table_bytes(HEADER_TABLE_BYTES) <= BLOCK_BYTES // 2 and encoding_bytes(HEADER_TABLE_BYTES) <= BLOCK_BYTES // 2)
        if self.tables != NULL:
            return 0
        self.tables = block_take(&self.loop.blocks)
        if self.tables == NULL:
            return -1
        self.decoder = <DynamicTable *>self.tables
        if folded != NULL:
            memcpy(self.decoder, folded, sizeof(DynamicTable) + folded.room)
            free(folded)
            table_unfold(self.decoder)
        else:
            table_start(self.decoder, HEADER_TABLE_BYTES)
        self.encoder = <Encoding *>(<char *>self.tables + BLOCK_BYTES // 2)
        encoding_start(self.encoder, HEADER_TABLE_BYTES)
        encoding_limit(self.encoder, self.peer.header_table)
        if self.served:            # the peer's table is emptied as well (RFC 7541 4.2)
            self.encoder.lowest, self.encoder.announce = 0, 1
        return 0

    cdef void rest(self) noexcept:
        """Give memory back. What the peer has told us is kept, folded; what we told it can be told again."""
        cdef DynamicTable *folded
        cdef size_t n
        if self.tables != NULL:
            n = table_fold(self.decoder)
            folded = <DynamicTable *>malloc(n)
            if folded == NULL:
                table_unfold(self.decoder)
                return
            memcpy(folded, self.decoder, n)
            block_give(&self.loop.blocks, self.tables)
            self.decoder, self.encoder, self.tables = folded, NULL, NULL
        Peer.rest(self)

    cdef void take_block(self, uint32_t id, const uint8_t *at, uint32_t n, bint ended) noexcept:
        """Decode a field block, whatever becomes of it: the table must know it. Lines lie in loop.output meanwhile."""
        cdef FieldBlock block
        cdef ClientStream stream
        cdef uint32_t used = 0
        cdef int result
        if self.codecs() < 0:
            self.gone()
            return
        block_start(&block, self.gateway.head.fields, self.gateway.head.most, self.loop.output,
                    list_most(&self.gateway.limits), spare_most(self.gateway.limits.head), True)
        result = hpack_decode(self.decoder, at, n, True, &block, &used)
        if result == HPACK_BAD or result == HPACK_CALM:
            self.fail(COMPRESSION_ERROR if result == HPACK_BAD else ENHANCE_YOUR_CALM)
            return
        if id > self.recent.last:
            recent_enter(&self.recent, id)
            if result == HPACK_LARGE:
                result = BAD_TARGET_LONG if block.path else BAD_FIELDS_LARGE
            self.open_stream(id, result, block.count, block.at, ended)
            return
        stream = self.find(id)
        if stream is None:
            if recent_is_marked(&self.recent, id):
                self.spend_glitch()
            else:                          # RFC 9113 5.1, 5.1.1
                self.fail(STREAM_CLOSED if id == self.recent.last else PROTOCOL_ERROR)
        elif stream.remote_ended:
            self.spend_reset()
            stream.reset(STREAM_CLOSED)
        elif not ended or self.block_error or result == HPACK_LARGE or not read_http2_trailers(block.fields, block.count) or (
                stream.sized and stream.left):
            self.spend_reset()
            stream.refuse_body()
        else:
            self.take_trailers(stream, block.fields, block.count)

    cdef void open_stream(self, uint32_t id, int result, uint32_t count, char *end, bint ended) noexcept:
        """A request, as far as its field block could be decoded."""
        cdef char key[25]
        cdef ClientStream stream
        cdef bint whole = result == HPACK_OK
        if self.leaving or self.count >= STREAMS:
            self.spend_reset()
            self.put_reset(id, REFUSED_STREAM)
            return
        if result == HPACK_OK:
            websocket_key(self.loop.random(), self.loop.random(), key)
            result = read_http2_head(&self.gateway.head, count, &self.gateway.limits, self.loop.output, end, ended, key)
        if result == MALFORMED or self.block_error:
            self.gateway.log.refusal(self.address, self.address_n, self.tls, 2, FAULT_BAD_REQUEST,
                                     self.gateway.head.why if result == MALFORMED else WHY_NONE, 0)
            self.spend_reset()
            self.put_reset(id, PROTOCOL_ERROR)
            return
        stream = self.admit(id, ended)
        if stream is None:
            self.gone()
            return
        stream.head_only = whole and self.gateway.head.method_id == METHOD_HEAD
        if result < 0:
            stream.refuse(fault_of_parse(result))
        else:
            self.begin(stream)

    cdef ClientStream admit(self, uint32_t id, bint ended):
        """A stream more; None where there is no memory."""
        cdef ClientStream stream
        if self.streams == NULL:
            self.streams = <PyObject **>calloc(BUCKETS, sizeof(PyObject *))
            if self.streams == NULL:
                return None
        stream = ClientStream.__new__(ClientStream)
        stream.conn, stream.loop, stream.gateway = self, self.loop, self.gateway
        memcpy(stream.address, self.address, self.address_n)
        stream.address_n, stream.trusted, stream.https = self.address_n, self.trusted, self.https
        stream.listener_id, stream.certificate = self.listener_id, self.certificate
        stream.id = id
        stream.born_ms = self.loop.now_ms
        stream.window, stream.credit = self.peer.window, STREAM_WINDOW
        stream.remote_ended = ended
        stream.next = self.streams[id // 2 % BUCKETS]
        self.streams[id // 2 % BUCKETS] = <PyObject *>stream
        Py_INCREF(stream)
        self.count += 1
        self.served += 1
        earn(&self.glitches, EARNED)
        earn(&self.updates, EARNED)
        if self.count == 1:
            self.rearm()
        if self.served >= self.clients.keepalive_requests or (
                self.loop.now_ms - self.born_ms >= self.clients.keepalive_age_ms):
            self.drain()
        return stream

    cdef void begin(self, ClientStream stream) noexcept:
        """Begin the exchange of the request in gateway.head."""
        cdef RequestHead *head = &self.gateway.head
        cdef const Bind *bind = self.bind()
        cdef Exchange exchange
        cdef uint32_t i
        if bind == NULL:
            stream.refuse(FAULT_NO_RULE)
            return
        stream.upgrade = head.upgrade
        stream.sized, stream.left = head.framing == FRAMING_LENGTH, head.content_length
        for i in range(head.count):
            if head.fields[i].name_len == 12 and head.fields[i].value_len >= 16 and (
                    same(head.fields[i].name, b"content-type", 12)):
                stream.grpc = same(head.fields[i].value, b"application/grpc", 16)
        exchange = self.gateway.exchange()
        if exchange.begin(stream, bind, head) != 0 or stream.exchange is None:
            return
        if head.expect:
            stream.send_continue()
        self.pend(stream)
        if not stream.remote_ended:
            stream.body_clock()

    cdef void take_trailers(self, ClientStream stream, Field *fields, uint32_t count) noexcept:
        cdef uint32_t i
        for i in range(count):
            if not fields[i].flags & FIELD_UNDERSCORE and (
                    append(&self.loop.pool, &stream.trailing, fields[i].name, fields[i].line_len) < 0):
                self.break_off()
                return
        stream.take_data(NULL, 0, True)

    # -- streams -------------------------------------------------------------------------------------------------------

    cdef ClientStream find(self, uint32_t id):
        cdef PyObject *at
        if self.streams == NULL:
            return None
        at = self.streams[id // 2 % BUCKETS]
        while at != NULL:
            if (<ClientStream>at).id == id:
                return <ClientStream>at
            at = (<ClientStream>at).next
        return None

    cdef void remove(self, ClientStream stream) noexcept:
        cdef PyObject **at = &self.streams[stream.id // 2 % BUCKETS]
        invariant(not stream.closed and self.count > 0)
        while at[0] != <PyObject *>stream:
            at = &(<ClientStream>at[0]).next
        at[0] = stream.next
        self.unqueue(stream)
        self.forget_pending(stream)
        self.owe(None, waiting(&stream.input))
        release(&self.loop.pool, &stream.input)
        release(&self.loop.pool, &stream.trailing)
        release(&self.loop.pool, &stream.behind)
        Peer.close(stream)
        stream.conn = None
        Py_DECREF(stream)
        self.count -= 1
        if self.count == 0 and not self.closed:
            free(self.streams)
            self.streams = NULL
            self.since_ms = self.loop.now_ms
            if self.leaving:
                self.fail(NO_ERROR)
            self.rearm()

    cdef void spend(self, TokenBucket *budget, uint32_t burst, uint32_t rate) noexcept:
        if overspends(budget, self.loop.now_ms, burst, rate):
            self.fail(ENHANCE_YOUR_CALM)

    cdef void spend_glitch(self) noexcept:
        self.spend(&self.glitches, GLITCHES, GLITCHES_RATE)

    cdef void spend_reset(self) noexcept:
        self.spend(&self.resets, RESETS, RESETS_RATE)


cdef void websocket_key(uint64_t a, uint64_t b, char *to) noexcept nogil:
    """16 random bytes in base 64 (RFC 6455 4.1)."""
    cdef const char *digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef int i
    for i in range(21):
        to[i] = digits[(a if i < 10 else b) >> (6 * (i % 10 if i < 20 else 9)) & 63]
    to[21] = digits[b & 48]
    to[22] = to[23] = c"="
    to[24] = 0
