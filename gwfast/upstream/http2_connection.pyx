"""HTTP/2 towards a backend: the reading half of a connection, and its life (see http2_connection.pxd).

Rules
- A frame is judged by http2/frames alone, a field block by hpack and transcode; what depends on streams and windows is here.
- No request is sent before the backend's SETTINGS say how many there may be at once, and whether they may be tunnels
  (RFC 8441 3); until then it can go anywhere else.
- The connection's window is given back when payload comes, so that no stream waits for another's client.
- What a backend may make us keep is bounded: a window for each stream, a field block's size, answers that it does not read.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from gwfast.http1.chunked cimport keep_trailers
from gwfast.http.fault cimport FAULT_CONNECT, FAULT_CONNECT_TIMEOUT
from gwfast.http2.frames cimport *
from gwfast.http.head cimport *
from gwfast.http2.head cimport list_most, sift_http2_trailers
from gwfast.http2.hpack cimport (HEADER_TABLE_BYTES, HPACK_BAD, HPACK_CALM, HPACK_LARGE, FieldBlock, DynamicTable, arena_bytes,
                                 block_start, hpack_decode, table_bytes, table_start)
from gwfast.http2.hpack_encoder cimport Encoding, encoding_bytes, encoding_limit, encoding_start
from gwfast.engine.loop cimport READ, READ_AGAIN, READ_BROKEN, READS, Peer, append, release, waiting
from gwfast.engine.sys cimport *
from gwfast.upstream.http2_stream cimport NOTHING
from gwfast.upstream.transcode cimport read_http2_response
from gwfast.upstream.pool cimport BUSY, Waiter, discard, keep_ticket

cdef enum:
    STREAMS = 100              # limits.STREAMS
    WINDOW = 1048576           # limits.CONNECTION_WINDOW
    FIRST_WINDOW = 65535       # RFC 9113 6.9.2
    GLITCHES = 1000            # limits.GLITCHES
    GLITCHES_RATE = 100        # limits.GLITCHES_PER_SECOND
    EARNED = 4                 # limits.GLITCHES_PER_STREAM
    SWITCH_ROOM = 128          # lines of a WebSocket's handshake behind those of a field block


@cython.no_gc
cdef class UpstreamHttp2Connections(Upstreams):
    cdef int begin(self, ResponseHead *reply, const HeadLimits *limits) except -1:
        """Read heads of responses to `reply`, within these limits."""
        self.reply, self.limits = reply, limits
        self.room = <char *>malloc(FRAME_HEAD + MAX_FRAME + READ)
        self.arena = <char *>malloc(arena_bytes(list_most(limits), HEADER_TABLE_BYTES) + SWITCH_ROOM)
        if self.room == NULL or self.arena == NULL:
            raise MemoryError
        return 0

    def __dealloc__(self):
        free(self.room)
        free(self.arena)

    cdef int place(self, UpstreamStream stream, State *state) noexcept:
        return -1


@cython.final
@cython.no_gc
cdef class UpstreamHttp2Connection(UpstreamHttp2Output):
    # -- its life ------------------------------------------------------------------------------------------------------

    def __dealloc__(self):
        free(self.decoder)

    cdef int prepare(self, UpstreamHttp2Connections home, State *state) noexcept:
        self.decoder = <DynamicTable *>malloc(table_bytes(HEADER_TABLE_BYTES))
        self.encoder = <Encoding *>malloc(encoding_bytes(HEADER_TABLE_BYTES))
        if self.decoder == NULL or self.encoder == NULL:
            return -1
        table_start(self.decoder, HEADER_TABLE_BYTES)
        encoding_start(self.encoder, HEADER_TABLE_BYTES)
        settings_start(&self.peer)
        self.frames.client = 1
        self.frames.more = more_continuations(home.limits.head)
        self.home = home
        self.loop = home.loop
        self.state = state
        self.born_ms = self.received_ms = home.loop.now_ms
        self.window, self.credit = FIRST_WINDOW, WINDOW
        self.unread, self.next_id = NOTHING, 1
        self.most = state.streams if state.streams else STREAMS
        self.under = state.http2
        state.http2 = <PyObject *>self
        self.linked = True
        return 0

    cdef UpstreamStream enter(self):
        """A stream for another request: to be used at once, or waiting in the queue."""
        cdef UpstreamStream stream = UpstreamStream.__new__(UpstreamStream)
        stream.loop = self.loop
        stream.home = self.home
        stream.reused = self.requests > 0
        if self.requests:
            self.loop.counters.totals.upstream_reused += 1
        self.requests += 1
        if self.idle:
            self.idle = False
            self.deadline = 0
            self.state.idles -= 1
            self.loop.counters.totals.upstream_idle -= 1
        if not self.opened:
            self.loop.arm(stream, self.loop.now_ms + self.home.connect_ms)
            self.queue_up(stream)
            return stream
        stream.connection = self
        stream.status = BUSY
        self.count += 1
        return stream

    cdef void take_over(self, Upstream upstream) noexcept:
        self.link = None
        self.loop.replace(upstream, self, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        upstream.waiter = None
        upstream.state = NULL      # the connection counts on as this one

    cdef void connected(self) noexcept:
        """Greet: preface, SETTINGS, the connection's window."""
        cdef uint8_t *p = self.gather_room(PREFACE + 2 * FRAME_HEAD + 3 * 6 + 4)
        if p == NULL:
            self.gone()
            return
        memcpy(p, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", PREFACE)
        p = put_head(p + PREFACE, 3 * 6, FRAME_SETTINGS, 0, 0)
        p = put_setting(p, SETTINGS_ENABLE_PUSH, 0)
        p = put_setting(p, SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW)
        p = put_setting(p, SETTINGS_MAX_HEADER_LIST_SIZE, self.home.limits.head)
        put_window_update(p, 0, WINDOW - FIRST_WINDOW)
        self.gather.end += PREFACE + 2 * FRAME_HEAD + 3 * 6 + 4
        self.loop.arm(self, self.loop.now_ms + self.home.connect_ms)

    cdef void open_queued(self) noexcept:
        """Begin what waited; what has no room here goes elsewhere."""
        cdef UpstreamStream stream
        cdef Waiter waiter
        self.opened = True
        while self.queue != NULL and self.count + self.cancelled < self.most:
            stream = self.unqueue()
            stream.connection = self
            stream.status = BUSY
            self.count += 1
            self.loop.arm(stream, 0)
            waiter = stream.waiter
            waiter.upstream_open()
            if self.closed:
                return
        while self.queue != NULL:
            stream = self.unqueue()
            waiter = stream.waiter
            if self.most == 0 or self.home.place(stream, self.state) < 0:
                waiter.upstream_failed(FAULT_CONNECT)
        self.rest_or_end()

    cdef void fail_queued(self, int fault) noexcept:
        cdef UpstreamStream stream
        while self.queue != NULL:
            stream = self.unqueue()
            stream.waiter.upstream_failed(fault)

    cdef void requeue(self) noexcept:
        cdef UpstreamStream stream
        self.leave()
        while self.queue != NULL:
            stream = self.unqueue()
            stream.waiter.upstream_reset(True)

    cdef void on_events(self, uint32_t events) noexcept:
        if events & EPOLLRDHUP:
            self.hangup = True
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.readable = True
        if events & EPOLLOUT and self.out.base != NULL and self.flush() == 1:
            self.push()
            self.feed()
        if self.readable and not self.closed:
            self.pump()

    cdef void on_deadline(self) noexcept:
        if not self.frames.begun:
            self.leave()
            self.fail_queued(FAULT_CONNECT_TIMEOUT)
            self.gone()
        elif self.idle:
            self.close()

    cdef void on_later(self) noexcept:
        if self.readable and not self.frames.begun:    # its SETTINGS came with the end of TLS's handshake
            self.pump()
        if self.closed:
            return
        if self.push() < 0:
            self.readable = True   # what it said before it broke is still there
            self.pump()
            if not self.closed:
                self.gone()
        elif self.leaving and self.count + self.queued == 0:
            self.close()

    cdef void leave(self) noexcept:
        """Take no more streams."""
        cdef PyObject **at
        self.leaving = True
        if self.linked:
            self.linked = False
            at = &self.state.http2
            while at[0] != <PyObject *>self:
                at = &(<UpstreamHttp2Connection>at[0]).under
            at[0] = self.under
            self.under = NULL

    cdef void rest_or_end(self) noexcept:
        """Nothing may be under way any more: wait for the next request, or end when the round is over."""
        cdef State *state = self.state
        if self.closed or self.count + self.queued:
            return
        if self.link is not None:
            self.close()           # nobody waits for it any more
        elif not self.idle and not self.leaving and not state.retired and state.idles < self.home.pool_size:
            if not self.opened:
                return
            self.idle = True
            if self.tls is not None and self.requests == 1:
                keep_ticket(state, self.tls)
            state.idles += 1
            self.loop.counters.totals.upstream_idle += 1
            self.loop.arm(self, self.loop.now_ms + self.home.pool_idle_ms)
        elif not self.idle or self.leaving:
            self.leave()
            self.loop.later(self)

    cdef void gone(self) noexcept:
        """The connection has ended."""
        cdef UpstreamStream stream
        cdef uint32_t i
        self.leave()
        self.fail_queued(FAULT_CONNECT)
        for i in range(BUCKETS):
            while self.streams[i] != NULL:
                stream = <UpstreamStream>self.streams[i]
                self.detach(stream)
                if not stream.ended:
                    stream.hangup = self.hangup
                    stream.waiter.upstream_reset(stream.begins >= self.unread and not stream.replied)
        self.close()

    cdef void fail(self, uint32_t code) noexcept:
        """The backend broke a rule of the connection."""
        cdef uint8_t *p = self.gather_room(FRAME_HEAD + 8)
        if p != NULL:
            put_goaway(p, 0, code)
            self.gather.end += FRAME_HEAD + 8
        self.push()
        self.gone()

    cdef void close(self) noexcept:
        cdef State *state = self.state
        cdef Upstream link = self.link
        if self.closed:
            return
        invariant(self.count == 0 and self.queued == 0)
        self.leave()
        if self.idle:
            self.idle = False
            state.idles -= 1
            self.loop.counters.totals.upstream_idle -= 1
        release(&self.loop.pool, &self.input)
        release(&self.loop.pool, &self.block)
        release(&self.loop.pool, &self.gather)
        self.run = None
        self.state = NULL
        Peer.close(self)
        if link is not None:
            self.link = None
            link.close()
            return
        self.loop.counters.totals.upstream_open -= 1
        state.connections -= 1
        if state.retired and state.connections == 0 and state.outstanding == 0:
            discard(state)

    # -- reading -------------------------------------------------------------------------------------------------------

    cdef void pump(self) noexcept:
        cdef char *room = self.home.room
        cdef uint32_t left
        cdef size_t used
        cdef ssize_t n
        cdef int reads = 0
        while self.readable and not self.closed:
            reads += 1
            if reads > READS:      # others want their turn: the kernel announces the rest again
                self.loop.watch(self, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                return
            left = waiting(&self.input)
            n = self.read(room + left, READ)
            if n <= 0:
                if n != READ_AGAIN:
                    self.unread, self.hangup = self.first_unread(n == READ_BROKEN), True
                    self.gone()
                return
            self.received_ms = self.loop.now_ms
            if left:
                memcpy(room, self.input.base + self.input.start, left)
                release(&self.loop.pool, &self.input)
            used = self.take(room, left + n)
            if not self.closed and append(&self.loop.pool, &self.input, room + used, left + n - used) < 0:
                self.gone()

    cdef size_t take(self, char *at, size_t n) noexcept:
        cdef Frame frame
        cdef size_t used = 0
        cdef int length
        while not self.closed:
            length = frame_next(&self.frames, <uint8_t *>at + used, <uint32_t>(n - used), &frame)
            if length > 0:
                used += length
                self.on_frame(&frame)
                continue
            self.hand_over()
            if length == FRAME_BAD and not self.closed:
                self.fail(frame.error)
            return used
        return n

    cdef void hand_over(self) noexcept:
        cdef UpstreamStream stream = self.run
        self.run = None
        if stream is not None and not stream.closed:
            stream.deliver(self.run_head, self.run_at, self.run_n, self.run_end)

    cdef void on_frame(self, Frame *frame) noexcept:
        cdef UpstreamStream stream
        if self.run is not None and (frame.type != FRAME_DATA or frame.stream != self.run.id):
            self.hand_over()
            if self.closed:
                return
        if frame.idle:
            if overspends(&self.glitches, self.loop.now_ms, GLITCHES, GLITCHES_RATE):
                self.fail(ENHANCE_YOUR_CALM)
                return
        if frame.type == FRAME_DATA:
            self.on_data(frame)
        elif frame.type == FRAME_HEADERS or frame.type == FRAME_CONTINUATION:
            self.on_headers(frame)
        elif frame.error:
            stream = self.find(frame.stream)
            if stream is not None:
                self.bad(stream, frame.error)
        elif frame.type == FRAME_SETTINGS:
            self.on_settings(frame)
        elif frame.type == FRAME_WINDOW_UPDATE:
            self.on_window_update(frame)
        elif frame.type == FRAME_RST_STREAM:
            self.on_reset(frame)
        elif frame.type == FRAME_GOAWAY:
            self.on_goaway(frame)
        elif frame.type == FRAME_PING and not frame.flags & FLAG_ACK:
            self.answer(FRAME_HEAD + 8)
            if not self.closed:
                memcpy(put_head(<uint8_t *>self.gather.base + self.gather.end, 8, FRAME_PING, FLAG_ACK, 0), frame.at, 8)
                self.gather.end += FRAME_HEAD + 8

    cdef void on_data(self, Frame *frame) noexcept:
        cdef bint end = frame.flags & FLAG_END_STREAM
        cdef UpstreamStream stream
        self.credit -= frame.length
        if self.credit < 0:
            self.fail(FLOW_CONTROL_ERROR)
            return
        if self.credit < WINDOW // 2:
            self.put_credit(0, <uint32_t>(WINDOW - self.credit))
            self.credit = WINDOW
        stream = self.find(frame.stream)
        if stream is None:
            if self.is_idle_number(frame.stream):
                self.fail(PROTOCOL_ERROR)
            return
        if frame.n:
            earn(&self.glitches, 1)
        stream.credit -= frame.length
        if stream.credit < 0:
            self.bad(stream, FLOW_CONTROL_ERROR)
        elif stream.ended:
            self.bad(stream, STREAM_CLOSED)
        elif not stream.replied or (stream.bodiless and frame.n):
            self.bad(stream, PROTOCOL_ERROR)
        elif stream.sized and (frame.n > stream.left or (end and frame.n < stream.left)):
            self.bad(stream, PROTOCOL_ERROR)       # RFC 9113 8.1.1
        else:
            stream.left -= frame.n
            stream.ended = end
            if self.run is None:
                self.run, self.run_at, self.run_n, self.run_head, self.run_end = stream, <char *>frame.at, 0, False, False
            elif self.run_n == 0:
                self.run_at = <char *>frame.at
            else:
                memmove(self.run_at + self.run_n, frame.at, frame.n)
            self.run_n += frame.n
            self.run_end |= end

    cdef void on_headers(self, Frame *frame) noexcept:
        if frame.type == FRAME_HEADERS:
            self.block_stream, self.block_flags, self.block_error = frame.stream, frame.flags, frame.error
            if self.is_idle_number(frame.stream):
                self.fail(PROTOCOL_ERROR)
                return
            if frame.flags & FLAG_END_HEADERS:
                self.take_block(frame.at, frame.n)
                return
        if waiting(&self.block) + frame.n > block_most(self.home.limits.head):
            self.fail(ENHANCE_YOUR_CALM)
        elif append(&self.loop.pool, &self.block, <const char *>frame.at, frame.n) < 0:
            self.gone()
        elif frame.flags & FLAG_END_HEADERS:
            self.take_block(<uint8_t *>self.block.base + self.block.start, waiting(&self.block))
            release(&self.loop.pool, &self.block)

    cdef void take_block(self, const uint8_t *at, uint32_t n) noexcept:
        """Decode a field block, whatever becomes of it: the table must know it."""
        cdef FieldBlock block
        cdef UpstreamStream stream
        cdef uint32_t used
        cdef bint end = self.block_flags & FLAG_END_STREAM
        cdef int result
        block_start(&block, self.home.reply.fields, self.home.reply.most, self.home.arena, list_most(self.home.limits),
                    spare_most(self.home.limits.head), False)
        result = hpack_decode(self.decoder, at, n, True, &block, &used)
        if result == HPACK_BAD or result == HPACK_CALM:
            self.fail(COMPRESSION_ERROR if result == HPACK_BAD else ENHANCE_YOUR_CALM)
            return
        stream = self.find(self.block_stream)
        if stream is None:
            return
        if self.block_error or stream.ended:
            self.bad(stream, self.block_error if self.block_error else STREAM_CLOSED)
        elif result == HPACK_LARGE or (stream.replied and not end):
            self.bad(stream, PROTOCOL_ERROR)
        elif stream.replied:
            self.take_trailers(stream, block.count)
        elif read_http2_response(self.home.reply, block.count, self.home.limits, stream.asked.head_only, end) < 0:
            self.bad(stream, PROTOCOL_ERROR)
        elif self.home.reply.status < 200:
            stream.waiter.upstream_reply(NULL, 0, False)
        elif stream.asked.websocket and end and self.home.reply.status < 300:
            self.bad(stream, PROTOCOL_ERROR)           # a tunnel that ends where it begins: a page, of somebody who made none
        else:
            if stream.asked.websocket:
                stream.switch(self.home.reply, block.at)
            self.take_head(stream, end)

    cdef void take_head(self, UpstreamStream stream, bint end) noexcept:
        stream.replied = True
        stream.ended = end
        earn(&self.glitches, EARNED)
        stream.sized = self.home.reply.framing == FRAMING_LENGTH
        stream.left = self.home.reply.content_length
        stream.bodiless = self.home.reply.framing == FRAMING_NONE
        self.run, self.run_at, self.run_n, self.run_head = stream, NULL, 0, True
        self.run_end = end or stream.bodiless

    cdef void take_trailers(self, UpstreamStream stream, uint32_t count) noexcept:
        cdef Field *fields = self.home.reply.fields
        cdef uint32_t n
        if not sift_http2_trailers(fields, count) or (stream.sized and stream.left):
            self.bad(stream, PROTOCOL_ERROR)
            return
        stream.ended = True
        n = keep_trailers(self.home.arena, fields, count, FIELD_HOP)
        if stream.input.base != NULL:
            if append(&self.loop.pool, &stream.input, self.home.arena, n) < 0:
                self.bad(stream, INTERNAL_ERROR)
        elif n:
            stream.waiter.upstream_trailers(self.home.arena, n)
        else:
            stream.waiter.upstream_data(NULL, 0, True)

    cdef void on_settings(self, Frame *frame) noexcept:
        cdef int64_t more = -<int64_t>self.peer.window
        if frame.flags & FLAG_ACK:
            return
        settings_apply(&self.peer, frame)
        encoding_limit(self.encoder, self.peer.header_table)
        more += self.peer.window
        if more and self.widen(more) < 0:
            self.fail(FLOW_CONTROL_ERROR)
            return
        self.most = self.state.streams = min(self.peer.streams, <uint32_t>STREAMS)
        self.answer(FRAME_HEAD)
        if self.closed:
            return
        put_head(<uint8_t *>self.gather.base + self.gather.end, 0, FRAME_SETTINGS, FLAG_ACK, 0)
        self.gather.end += FRAME_HEAD
        if not self.opened:
            self.loop.arm(self, 0)
            self.open_queued()
        elif more > 0:
            self.feed()
