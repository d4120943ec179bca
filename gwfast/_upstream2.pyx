"""HTTP/2 connections to backends and their streams (see _upstream2.pxd).

Rules
- A frame is judged by _frames alone, a field block by _hpack and _transcode; what depends on streams and windows is here.
- No request is sent before the backend's SETTINGS say how many there may be at once, and whether they may be tunnels
  (RFC 8441 3); until then it can go anywhere else.
- The connection's window is given back when payload comes, a stream's when its client took it: a client that is slow
  holds its own stream back and no other.
- What a backend may make us keep is bounded: a window for each stream, a field block's size, answers that it does not read.
"""
import base64
import hashlib

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from gwfast._chunked cimport keep_trailers
from gwfast._fault cimport FAULT_CONNECT, FAULT_CONNECT_TIMEOUT
from gwfast._filter2 cimport encode_trailers
from gwfast._frames cimport *
from gwfast._head cimport *
from gwfast._head2 cimport read_trailers2
from gwfast._hpack cimport (
    HEADER_TABLE_BYTES, HPACK_BAD, HPACK_CALM, HPACK_LARGE, FieldBlock, arena_bytes, hpack_decode, table_bytes, table_start)
from gwfast._hpack_encode cimport encoding_bytes, encoding_limit, encoding_start
from gwfast._loop cimport READ, READ_AGAIN, READS, SCRATCH, Peer, append, consume, release, reserve, waiting
from gwfast._sys cimport *
from gwfast._table cimport PROTO_H2C
from gwfast._tls cimport CHOSEN_H2
from gwfast._transcode cimport KEY, encode_request, read_response2
from gwfast._upstream cimport BUSY, CONNECTING

cdef enum:
    STREAMS = 100              # limits.STREAMS
    STREAM_WINDOW = 65536      # limits.STREAM_WINDOW
    WINDOW = 1048576           # limits.CONNECTION_WINDOW
    FIRST_WINDOW = 65535       # RFC 9113 6.9.2
    HEAD_MOST = 32768          # limits.HEAD_BYTES
    BLOCK_MOST = 65536         # limits.FIELD_BLOCK_BYTES
    ANSWERS = 1000             # limits.UNSENT_ANSWERS
    GLITCHES = 1000            # limits.GLITCHES
    GLITCHES_RATE = 100        # limits.GLITCHES_PER_SECOND
    POOL_REQUESTS = 100000     # limits.POOL_REQUESTS
    GATHER = 32768             # sent at once when so much is there
    SWITCH_ROOM = 128          # lines of a WebSocket's handshake behind those of a field block
    HANDSHAKE = 28             # characters of a Sec-WebSocket-Accept


@cython.final
@cython.no_gc
cdef class Pools(Upstreams):
    def __cinit__(self):
        self.room = <char *>malloc(FRAME_HEAD + MAX_FRAME + READ)
        self.arena = <char *>malloc(arena_bytes(HEAD_MOST, HEADER_TABLE_BYTES) + SWITCH_ROOM)
        if self.room == NULL or self.arena == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.room)
        free(self.arena)

    cdef Upstream take(self, State *state, bint fresh):
        cdef Mux mux
        if state.protocol != PROTO_H2C and state.muxes == NULL:
            return Upstreams.take(self, state, fresh)
        mux = self.roomy(state, fresh)
        if mux is None and state.protocol != PROTO_H2C:
            return Upstreams.take(self, state, fresh)
        if mux is None:
            mux = self.connect(state)
        return mux.enter() if mux is not None else None

    cdef Mux roomy(self, State *state, bint fresh):
        """`fresh`: one that no request was sent on yet."""
        cdef PyObject *at = state.muxes
        cdef Mux mux
        while at != NULL:
            mux = <Mux>at
            at = mux.under
            if (self.loop.now_ms - mux.born_ms > self.pool_age_ms or mux.requests >= POOL_REQUESTS
                    or mux.next_id >= WINDOW_MOST):
                mux.leave()
                mux.rest_or_end()
            elif mux.count + mux.queued + mux.cancelled < mux.most and not (fresh and mux.opened):
                return mux
        return None

    cdef Mux connect(self, State *state):
        cdef Mux mux = Mux.__new__(Mux)
        cdef Dial dial
        cdef Upstream link = self.dial(state)
        if link is None:
            return None
        if mux.prepare(self, state) < 0:
            link.close()
            return None
        dial = Dial.__new__(Dial)
        dial.mux = mux
        mux.link = link
        link.waiter = dial
        return mux

    cdef int place(self, Stream stream, State *state) noexcept:
        cdef Mux mux = self.roomy(state, True)
        if mux is None:
            mux = self.connect(state)
        if mux is None:
            return -1
        mux.queue_up(stream)
        return 0

    cdef int adopt(self, Upstream upstream) noexcept:
        cdef Waiter waiter = upstream.waiter
        cdef Mux mux = Mux.__new__(Mux)
        cdef Stream stream
        if mux.prepare(self, upstream.state) < 0:
            return -1
        stream = mux.enter()
        mux.take_over(upstream)
        waiter.upstream_moved(stream)
        mux.connected()
        return 0

    cdef void retire(self, State *state) noexcept:
        cdef Mux mux
        state.retired = True
        state.connections += 1     # keep it through the loop
        while state.muxes != NULL:
            mux = <Mux>state.muxes
            mux.leave()
            mux.rest_or_end()
        state.connections -= 1
        Upstreams.retire(self, state)

    cdef bint shed(self) noexcept:
        cdef PyObject *at
        cdef uint32_t i
        if Upstreams.shed(self):
            return True
        if self.loop.counters.totals.upstream_idle:
            for i in range(self.size):
                at = self.states[i].muxes if self.states[i] != NULL else NULL
                while at != NULL:
                    if (<Mux>at).idle:
                        (<Mux>at).close()
                        return True
                    at = (<Mux>at).under
        return False


@cython.final
@cython.no_gc
cdef class Dial(Waiter):
    cdef void upstream_open(self) noexcept:
        cdef Mux mux = self.mux
        cdef Upstream link = mux.link
        if link.tls is not None and link.tls.chosen() != CHOSEN_H2:
            self.upstream_failed(FAULT_CONNECT)
            return
        mux.take_over(link)
        mux.connected()

    cdef void upstream_failed(self, int fault) noexcept:
        cdef Mux mux = self.mux
        mux.leave()
        mux.fail_queued(fault)
        mux.close()

    cdef void upstream_late(self) noexcept:
        self.upstream_failed(FAULT_CONNECT_TIMEOUT)


@cython.final
@cython.no_gc
cdef class Mux(Peer):
    # -- its life ------------------------------------------------------------------------------------------------------

    def __dealloc__(self):
        free(self.decoder)
        free(self.encoder)

    cdef int prepare(self, Pools home, State *state) noexcept:
        self.decoder = <Table *>malloc(table_bytes(HEADER_TABLE_BYTES))
        self.encoder = <Encoding *>malloc(encoding_bytes(HEADER_TABLE_BYTES))
        if self.decoder == NULL or self.encoder == NULL:
            return -1
        table_start(self.decoder, HEADER_TABLE_BYTES)
        encoding_start(self.encoder, HEADER_TABLE_BYTES)
        settings_start(&self.peer)
        self.frames.client = 1
        self.home = home
        self.loop = home.loop
        self.state = state
        self.born_ms = self.heard_ms = home.loop.now_ms
        self.window = FIRST_WINDOW
        self.credit = WINDOW
        self.next_id = 1
        self.most = state.streams if state.streams else STREAMS
        self.under = state.muxes
        state.muxes = <PyObject *>self
        self.linked = True
        return 0

    cdef Stream enter(self):
        """A stream for another request: to be used at once, or waiting in the queue."""
        cdef Stream stream = Stream.__new__(Stream)
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
        stream.mux = self
        stream.status = BUSY
        self.count += 1
        return stream

    cdef void queue_up(self, Stream stream) noexcept:
        cdef PyObject **at = &self.queue
        while at[0] != NULL:
            at = &(<Stream>at[0]).next
        at[0] = <PyObject *>stream
        Py_INCREF(stream)
        stream.next = NULL
        stream.mux = self
        stream.status = CONNECTING
        self.queued += 1

    cdef Stream unqueue(self):
        cdef Stream stream = <Stream>self.queue
        self.queue = stream.next
        Py_DECREF(stream)
        self.queued -= 1
        stream.mux = None
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
        p = put_setting(p, SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_MOST)
        put_window_update(p, 0, WINDOW - FIRST_WINDOW)
        self.gather.end += PREFACE + 2 * FRAME_HEAD + 3 * 6 + 4
        self.loop.arm(self, self.loop.now_ms + self.home.connect_ms)

    cdef void open_queued(self) noexcept:
        """Begin what waited; what has no room here goes elsewhere."""
        cdef Stream stream
        cdef Waiter waiter
        self.opened = True
        while self.queue != NULL and self.count + self.cancelled < self.most:
            stream = self.unqueue()
            stream.mux = self
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
        cdef Stream stream
        while self.queue != NULL:
            stream = self.unqueue()
            stream.waiter.upstream_failed(fault)

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
            at = &self.state.muxes
            while at[0] != <PyObject *>self:
                at = &(<Mux>at[0]).under
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
            state.idles += 1
            self.loop.counters.totals.upstream_idle += 1
            self.loop.arm(self, self.loop.now_ms + self.home.pool_idle_ms)
        elif not self.idle or self.leaving:
            self.leave()
            self.loop.later(self)

    cdef void gone(self) noexcept:
        """The connection has ended."""
        cdef Stream stream
        cdef uint32_t i
        self.leave()
        self.fail_queued(FAULT_CONNECT)
        for i in range(BUCKETS):
            while self.streams[i] != NULL:
                stream = <Stream>self.streams[i]
                self.detach(stream)
                if not stream.ended:
                    stream.waiter.upstream_reset(False)
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
            free(state)

    # -- streams -------------------------------------------------------------------------------------------------------

    cdef Stream find(self, uint32_t id):
        cdef PyObject *at = self.streams[id // 2 % BUCKETS]
        while at != NULL:
            if (<Stream>at).id == id:
                return <Stream>at
            at = (<Stream>at).next
        return None

    cdef Stream any_above(self, uint32_t bucket, uint32_t id, bint waits):
        """One of a chain with a higher number; `waits`: that could send some of what it has."""
        cdef PyObject *at = self.streams[bucket]
        while at != NULL:
            if (<Stream>at).id > id and (not waits or ((<Stream>at).out.base != NULL and (<Stream>at).window > 0)):
                return <Stream>at
            at = (<Stream>at).next
        return None

    cdef bint is_idle_number(self, uint32_t id) noexcept:
        return id >= self.next_id

    cdef void chain(self, Stream stream) noexcept:
        cdef PyObject **at = &self.streams[self.next_id // 2 % BUCKETS]
        stream.id = self.next_id
        stream.window = self.peer.window
        stream.credit = STREAM_WINDOW
        stream.asked_ms = self.loop.now_ms
        stream.next = at[0]
        at[0] = <PyObject *>stream
        Py_INCREF(stream)
        self.next_id += 2

    cdef void detach(self, Stream stream) noexcept:
        """It has ended: no frame of it will be sent or read."""
        cdef PyObject **at = &self.streams[stream.id // 2 % BUCKETS]
        self.count -= 1
        if stream.out.base != NULL:
            self.stalled -= 1
            release(&self.loop.pool, &stream.out)
        stream.mux = None
        if stream.id:
            while at[0] != <PyObject *>stream:
                at = &(<Stream>at[0]).next
            at[0] = stream.next
            Py_DECREF(stream)
        self.rest_or_end()

    cdef void forget(self, Stream stream) noexcept:
        """Its request is over, whatever is still under way."""
        cdef PyObject **at = &self.queue
        if stream.status == CONNECTING:
            while at[0] != <PyObject *>stream:
                at = &(<Stream>at[0]).next
            at[0] = stream.next
            stream.mux = None
            self.queued -= 1
            Py_DECREF(stream)
            self.rest_or_end()
            return
        if stream.id and not (stream.ended and stream.sent_end):
            self.put_reset(stream.id, CANCEL)
        self.detach(stream)

    cdef void bad(self, Stream stream, uint32_t code) noexcept:
        """Its response is malformed."""
        cdef Waiter waiter = stream.waiter
        if self.run is stream:
            self.run = None
        self.put_reset(stream.id, code)
        self.detach(stream)
        waiter.upstream_bad()

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
                    self.gone()
                return
            self.heard_ms = self.loop.now_ms
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
        cdef Stream stream = self.run
        self.run = None
        if stream is not None and not stream.closed:
            stream.deliver(self.run_head, self.run_at, self.run_n, self.run_end)

    cdef void on_frame(self, Frame *frame) noexcept:
        cdef uint64_t back
        cdef Stream stream
        if self.run is not None and (frame.type != FRAME_DATA or frame.stream != self.run.id):
            self.hand_over()
            if self.closed:
                return
        if frame.idle:
            back = (self.loop.now_ms - self.glitches_ms) * GLITCHES_RATE // 1000
            if back:
                self.glitches = self.glitches - <uint32_t>back if back < self.glitches else 0
                self.glitches_ms = self.loop.now_ms
            self.glitches += 1
            if self.glitches > GLITCHES:
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
        cdef Stream stream
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
        if waiting(&self.block) + frame.n > BLOCK_MOST:
            self.fail(ENHANCE_YOUR_CALM)
        elif append(&self.loop.pool, &self.block, <const char *>frame.at, frame.n) < 0:
            self.gone()
        elif frame.flags & FLAG_END_HEADERS:
            self.take_block(<uint8_t *>self.block.base + self.block.start, waiting(&self.block))
            release(&self.loop.pool, &self.block)

    cdef void take_block(self, const uint8_t *at, uint32_t n) noexcept:
        """Decode a field block, whatever becomes of it: the table must know it."""
        cdef FieldBlock block
        cdef Stream stream
        cdef uint32_t used
        cdef bint end = self.block_flags & FLAG_END_STREAM
        cdef int result
        block.fields, block.room, block.count = self.home.reply.fields, MAX_FIELDS, 0
        block.at, block.left, block.spare = self.home.arena, HEAD_MOST, HEAD_MOST
        block.begun = block.large = 0
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
        elif read_response2(self.home.reply, block.count, stream.asked.head_only, end) < 0:
            self.bad(stream, PROTOCOL_ERROR)
        elif self.home.reply.status < 200:
            stream.waiter.upstream_reply(NULL, 0, False)
        else:
            if stream.asked.websocket:
                stream.switch(self.home.reply, block.at)
            self.take_head(stream, block.count, end)

    cdef void take_head(self, Stream stream, uint32_t count, bint end) noexcept:
        stream.replied = True
        stream.ended = end
        stream.sized = self.home.reply.framing == FRAMING_LENGTH
        stream.left = self.home.reply.content_length
        stream.bodiless = self.home.reply.framing == FRAMING_NONE
        self.run, self.run_at, self.run_n, self.run_head = stream, NULL, 0, True
        self.run_end = end or stream.bodiless

    cdef void take_trailers(self, Stream stream, uint32_t count) noexcept:
        cdef Field *fields = self.home.reply.fields
        cdef uint32_t n
        if not read_trailers2(fields, count) or (stream.sized and stream.left):
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
        cdef PyObject *at
        cdef uint32_t i
        if frame.flags & FLAG_ACK:
            return
        settings_apply(&self.peer, frame)
        encoding_limit(self.encoder, self.peer.header_table)
        more += self.peer.window
        if more:
            for i in range(BUCKETS):
                at = self.streams[i]
                while at != NULL:
                    (<Stream>at).window += more
                    if (<Stream>at).window > WINDOW_MOST:      # RFC 9113 6.9.2
                        self.fail(FLOW_CONTROL_ERROR)
                        return
                    at = (<Stream>at).next
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

    cdef void on_window_update(self, Frame *frame) noexcept:
        cdef Stream stream
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
        cdef Stream stream = self.find(frame.stream)
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
        cdef Stream stream
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
        if self.closed or reserve(&self.loop.pool, &self.gather, n) < 0:
            return NULL
        self.loop.later(self)
        return <uint8_t *>self.gather.base + self.gather.end

    cdef int push(self) noexcept:
        """Send what was gathered. -1: the connection is broken."""
        cdef int result = 0
        if self.out.base == NULL and self.gather.base != NULL:
            result = self.send(self.gather.base + self.gather.start, waiting(&self.gather))
            release(&self.loop.pool, &self.gather)
        if self.out.base == NULL:
            self.cancelled = self.answers = 0
        return result

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

    cdef size_t put_data(self, Stream stream, const char *at, size_t n, bint end) noexcept:
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
            if waiting(&self.gather) >= GATHER:
                self.push()
            if stream.sent_end:
                break
        return used

    cdef int put_trailers(self, Stream stream, const char *at, size_t n) noexcept:
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length = encode_trailers(self.encoder, at, <uint32_t>n, to, to + SCRATCH)
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
        cdef Stream stream
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
@cython.freelist(64)
cdef class Stream(Upstream):
    cdef int send_request(self, const char *head, size_t head_n, bint chunked, const char *at, size_t n, bint end) noexcept:
        cdef Mux mux = self.mux
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length
        if mux is None or mux.closed:
            return -1
        length = encode_request(mux.encoder, head, <uint32_t>head_n, mux.tls is not None, mux.peer.connect_protocol,
                                &self.asked, to, to + SCRATCH)
        if length < 0:
            mux.leave()            # its table may not be the peer's any more
            return -1
        end = end and not self.asked.websocket
        mux.chain(self)
        self.sent_end = self.ending = end and n == 0
        mux.put_block(self.id, to, length, self.sent_end)
        return self.send_body(at, n, end) if n else 0

    cdef int send_body(self, const char *at, size_t n, bint end) noexcept:
        cdef Mux mux = self.mux
        cdef size_t used = 0
        if mux is None or self.ending:
            return -1 if mux is None else 0
        self.ending = end
        if self.out.base == NULL:
            used = mux.put_data(self, at, n, end)
            if used == n:
                return 0
            mux.stalled += 1
        return append(&self.loop.pool, &self.out, at + used, n - used)

    cdef int send_trailers(self, const char *at, size_t n) noexcept:
        if n == 0 or self.mux is None or self.ending:
            return self.send_body(NULL, 0, True)
        self.ending = True
        if self.out.base != NULL:
            return append(&self.loop.pool, &self.tail, at, n)
        return self.mux.put_trailers(self, at, n)

    cdef int send(self, const char *at, size_t n) noexcept:
        return self.send_body(at, n, False)        # of a tunnel

    cdef void half_close(self) noexcept:
        self.send_body(NULL, 0, True)

    cdef void feed(self) noexcept:
        """There is room for some of what waits."""
        cdef Mux mux = self.mux
        cdef size_t used = mux.put_data(self, self.out.base + self.out.start, waiting(&self.out),
                                        self.ending and self.tail.base == NULL)
        consume(&self.loop.pool, &self.out, <uint32_t>used)
        if self.out.base != NULL:
            return
        mux.stalled -= 1
        if self.tail.base != NULL:
            if mux.put_trailers(self, self.tail.base + self.tail.start, waiting(&self.tail)) < 0:
                mux.leave()
            release(&self.loop.pool, &self.tail)
        self.waiter.upstream_drained()

    cdef void on_deadline(self) noexcept:
        if self.mux is not None and self.id and self.mux.heard_ms < self.asked_ms:
            self.mux.leave()       # it has not said a word since: others had better not wait there
        self.waiter.upstream_late()

    cdef void deliver(self, bint head, const char *at, size_t n, bint end) noexcept:
        if head:
            self.waiter.upstream_reply(at, n, end)
        elif self.input.base != NULL or (n and not self.waiter.upstream_wanted()):
            if append(&self.loop.pool, &self.input, at, n) < 0 and self.mux is not None:
                self.mux.bad(self, INTERNAL_ERROR)
            self.kept += <uint32_t>n
            return
        else:
            self.waiter.upstream_data(at, n, end)
        if not self.closed:
            self.repay()

    cdef void repay(self) noexcept:
        """Let the backend send more where the client took what came."""
        if (self.mux is not None and not self.ended and self.credit <= STREAM_WINDOW // 2
                and self.waiter.upstream_wanted()):
            self.mux.put_credit(self.id, <uint32_t>(STREAM_WINDOW - self.credit))
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
        if head.status >= 300 or head.count > MAX_FIELDS - 2:
            self.asked.websocket = False
            self.send_body(NULL, 0, True)
            return
        head.status, head.framing, head.upgrade, head.content_length = 101, FRAMING_TUNNEL, 1, 0
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

    cdef void close(self) noexcept:
        cdef Mux mux = self.mux
        if self.closed:
            return
        self.waiter = None
        if mux is not None:
            mux.forget(self)
        release(&self.loop.pool, &self.input)
        release(&self.loop.pool, &self.tail)
        Peer.close(self)


cdef void accept_key(const char *key, char *to) noexcept:
    # RFC 6455 4.2.2
    cdef bytes made = base64.b64encode(hashlib.sha1(key[:KEY] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    memcpy(to, <const char *>made, HANDSHAKE)
