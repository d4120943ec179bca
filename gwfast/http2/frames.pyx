"""Frames of HTTP/2: what RFC 9113 4 and 6 say of each by itself.

Rules: a frame is judged by its head as soon as that is there, and by its payload when all of it is; the verdict does not
depend on how the bytes arrived. What is an error of a stream here is one that its neighbours survive; where the RFC leaves
the choice, the connection ends. Which streams are open, and windows, are the connection's matter.
"""
import cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memset

cdef extern from *:
    """
    #include <stdint.h>
    enum { GW_STREAM = 1, GW_CONNECTION = 2, GW_FIXED = 4 };

    /* Of each type: the flags that it has, its least length, whether that is its length, and where it may be sent. */
    static const struct gw_form { uint8_t flags, least, form; } gw_frame[] = {
        {0x1 | 0x8, 0, GW_STREAM},                          /* DATA: END_STREAM, PADDED */
        {0x1 | 0x4 | 0x8 | 0x20, 0, GW_STREAM},             /* HEADERS: and END_HEADERS, PRIORITY */
        {0, 5, GW_STREAM | GW_FIXED},                       /* PRIORITY */
        {0, 4, GW_STREAM | GW_FIXED},                       /* RST_STREAM */
        {0x1, 0, GW_CONNECTION},                            /* SETTINGS: ACK */
        {0, 0, GW_STREAM},                                  /* PUSH_PROMISE, which nobody may send us */
        {0x1, 8, GW_CONNECTION | GW_FIXED},                 /* PING: ACK */
        {0, 8, GW_CONNECTION},                              /* GOAWAY */
        {0, 4, GW_STREAM | GW_CONNECTION | GW_FIXED},       /* WINDOW_UPDATE */
        {0x4, 0, GW_STREAM},                                /* CONTINUATION: END_HEADERS */
    };
    static const char gw_preface[] = "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n";
    """
    cdef struct Form "gw_form":
        uint8_t flags
        uint8_t least
        uint8_t form
    const Form *gw_frame
    const char *gw_preface
    enum:
        GW_STREAM
        GW_CONNECTION
        GW_FIXED


cdef int read_preface(const uint8_t *at, uint32_t n) noexcept nogil:
    if memcmp(at, gw_preface, min(n, <uint32_t>PREFACE)) != 0:
        return FRAME_BAD
    return PREFACE if n >= PREFACE else FRAME_PARTIAL


# What the type of a frame says of its length: NO_ERROR, or the error; a stream's for PRIORITY alone (RFC 9113 6.3).
cdef inline uint32_t check_length(const Frame *frame) noexcept nogil:
    cdef const Form *form = &gw_frame[frame.type]
    if frame.length < form.least or (form.form & GW_FIXED and frame.length != form.least):
        return FRAME_SIZE_ERROR
    if frame.type == FRAME_SETTINGS and (frame.length % 6 or (frame.flags & FLAG_ACK and frame.length)):
        return FRAME_SIZE_ERROR   # RFC 9113 6.5
    return NO_ERROR


# Where a frame comes in the order of frames (RFC 9113 3.4, 6.10): whether it may.
cdef inline bint is_in_turn(const FrameState *state, const Frame *frame) noexcept nogil:
    if not state.begun:
        return frame.type == FRAME_SETTINGS and not frame.flags & FLAG_ACK
    if frame.type == FRAME_CONTINUATION:
        return state.block != 0 and state.block == frame.stream
    return state.block == 0


# What the head of a frame says by itself: NO_ERROR or the error that ends the connection.
cdef uint32_t check_head(const FrameState *state, const Frame *frame) noexcept nogil:
    cdef uint8_t place
    if not is_in_turn(state, frame):
        return PROTOCOL_ERROR
    if frame.length > MAX_FRAME:
        return FRAME_SIZE_ERROR
    if frame.type >= FRAME_OTHER:
        return NO_ERROR
    place = gw_frame[frame.type].form
    if not place & (GW_STREAM if frame.stream else GW_CONNECTION) or frame.type == FRAME_PUSH_PROMISE:
        return PROTOCOL_ERROR
    # Streams are opened by clients, since nobody may push to us: an even one stays idle (RFC 9113 5.1, 5.1.1).
    if frame.stream and frame.stream & 1 == 0 and frame.type != FRAME_PRIORITY:
        return PROTOCOL_ERROR
    if frame.type == FRAME_CONTINUATION and state.continuations >= CONTINUATIONS + state.more:
        return ENHANCE_YOUR_CALM
    return check_length(frame) if frame.type != FRAME_PRIORITY else NO_ERROR


# Takes the padding away (RFC 9113 6.1).
cdef inline uint32_t strip_padding(Frame *frame) noexcept nogil:
    cdef uint32_t padding
    if not frame.flags & FLAG_PADDED:
        return NO_ERROR
    if frame.n == 0:
        return FRAME_SIZE_ERROR
    padding = frame.at[0]
    if padding >= frame.n:
        return PROTOCOL_ERROR
    frame.at += 1
    frame.n -= padding + 1
    return NO_ERROR


# Takes the priority away; a stream that depends on itself is an error of that stream (RFC 7540 5.3.1).
cdef inline uint32_t strip_priority(Frame *frame) noexcept nogil:
    if not frame.flags & FLAG_PRIORITY:
        return NO_ERROR
    if frame.n < 5:
        return FRAME_SIZE_ERROR
    if load_32(frame.at) & WINDOW_MOST == frame.stream:
        frame.error = PROTOCOL_ERROR
    frame.at += 5
    frame.n -= 5
    return NO_ERROR


cdef uint32_t check_setting(const FrameState *state, uint32_t setting, uint32_t value) noexcept nogil:
    if setting == SETTINGS_ENABLE_PUSH:
        return NO_ERROR if value == 0 or (value == 1 and not state.client) else PROTOCOL_ERROR
    if setting == SETTINGS_INITIAL_WINDOW_SIZE:
        return NO_ERROR if value <= WINDOW_MOST else FLOW_CONTROL_ERROR
    if setting == SETTINGS_MAX_FRAME_SIZE:
        return NO_ERROR if 1 << 14 <= value < 1 << 24 else PROTOCOL_ERROR
    if setting == SETTINGS_ENABLE_CONNECT_PROTOCOL:
        return NO_ERROR if value <= 1 else PROTOCOL_ERROR
    return NO_ERROR


cdef inline uint32_t setting_at(const Frame *frame, uint32_t i) noexcept nogil:
    return <uint32_t>frame.at[i] << 8 | frame.at[i + 1]


cdef uint32_t check_settings(const FrameState *state, const Frame *frame) noexcept nogil:
    cdef uint32_t i, error
    for i in range(0, frame.n, 6):
        error = check_setting(state, setting_at(frame, i), load_32(frame.at + i + 2))
        if error:
            return error
    return NO_ERROR


# What the payload says: NO_ERROR or the error that ends the connection; a stream's is left in the frame.
cdef uint32_t read_payload(const FrameState *state, Frame *frame) noexcept nogil:
    cdef uint32_t error
    if frame.type == FRAME_DATA:
        error = strip_padding(frame)
        frame.idle = frame.n == 0 and not frame.flags & FLAG_END_STREAM
        return error
    if frame.type == FRAME_HEADERS:
        error = strip_padding(frame)
        return error if error else strip_priority(frame)
    if frame.type == FRAME_PRIORITY:
        frame.idle = 1
        frame.error = check_length(frame)
        if not frame.error and load_32(frame.at) & WINDOW_MOST == frame.stream:
            frame.error = PROTOCOL_ERROR
    elif frame.type == FRAME_RST_STREAM:
        frame.code = load_32(frame.at)
    elif frame.type == FRAME_SETTINGS:
        return check_settings(state, frame)
    elif frame.type == FRAME_GOAWAY:
        frame.last_stream = load_32(frame.at) & WINDOW_MOST
        frame.code = load_32(frame.at + 4)
    elif frame.type == FRAME_WINDOW_UPDATE:
        frame.code = load_32(frame.at) & WINDOW_MOST
        if frame.code == 0:       # RFC 9113 6.9
            frame.error = PROTOCOL_ERROR
            return NO_ERROR if frame.stream else PROTOCOL_ERROR
    elif frame.type >= FRAME_OTHER:
        frame.idle = 1
    return NO_ERROR


cdef int refused(Frame *frame, uint32_t error) noexcept nogil:
    frame.error = error
    return FRAME_BAD


cdef int frame_next(FrameState *state, const uint8_t *at, uint32_t n, Frame *frame) noexcept nogil:
    cdef uint32_t error
    if n < FRAME_HEAD:
        return FRAME_PARTIAL
    frame.length = load_32(at) >> 8
    frame.type = at[3]
    frame.flags = at[4] & gw_frame[frame.type].flags if frame.type < FRAME_OTHER else at[4]
    frame.stream = load_32(at + 5) & WINDOW_MOST
    frame.at = at + FRAME_HEAD
    frame.n = frame.length
    frame.error = frame.code = frame.last_stream = 0
    frame.idle = 0
    error = check_head(state, frame)
    if error:
        return refused(frame, error)
    if n - FRAME_HEAD < frame.length:
        return FRAME_PARTIAL
    error = read_payload(state, frame)
    if error:
        return refused(frame, error)
    state.begun = 1
    if frame.type == FRAME_HEADERS or frame.type == FRAME_CONTINUATION:
        state.continuations = state.continuations + 1 if frame.type == FRAME_CONTINUATION else 0
        state.block = 0 if frame.flags & FLAG_END_HEADERS else frame.stream
    return <int>(FRAME_HEAD + frame.length)


# ---- settings -------------------------------------------------------------------------------------------------------

cdef void settings_start(Settings *settings) noexcept nogil:
    settings.header_table = 4096
    settings.push = 1
    settings.streams = settings.list = 0xffffffff
    settings.window = 65535
    settings.frame = 16384
    settings.connect_protocol = 0


cdef void settings_apply(Settings *settings, const Frame *frame) noexcept nogil:
    cdef uint32_t i, setting, value
    for i in range(0, frame.n, 6):
        setting = setting_at(frame, i)
        value = load_32(frame.at + i + 2)
        if setting == SETTINGS_HEADER_TABLE_SIZE:
            settings.header_table = value
        elif setting == SETTINGS_ENABLE_PUSH:
            settings.push = value
        elif setting == SETTINGS_MAX_CONCURRENT_STREAMS:
            settings.streams = value
        elif setting == SETTINGS_INITIAL_WINDOW_SIZE:
            settings.window = value
        elif setting == SETTINGS_MAX_FRAME_SIZE:
            settings.frame = value
        elif setting == SETTINGS_MAX_HEADER_LIST_SIZE:
            settings.list = value
        elif setting == SETTINGS_ENABLE_CONNECT_PROTOCOL:
            settings.connect_protocol = value


# ---- doors for Python: tests and tools, never the hot path -----------------------------------------------------------

@cython.final
cdef class Reader:
    """Reads the frames that a peer sends; `client` says that we are the client."""

    cdef FrameState state
    cdef Settings settings_

    def __cinit__(self, bint client=False):
        memset(&self.state, 0, sizeof(FrameState))
        self.state.client = client
        settings_start(&self.settings_)

    def next_at(self, size_t address, uint32_t n):
        """Read a frame at an address: (bytes used or FRAME_*, its parts: a dict, whatever was read of it)."""
        cdef Frame frame
        memset(&frame, 0, sizeof(Frame))
        used = frame_next(&self.state, <const uint8_t *>address, n, &frame)
        if used > 0 and frame.type == FRAME_SETTINGS:
            settings_apply(&self.settings_, &frame)
        return used, {"type": frame.type, "flags": frame.flags, "stream": frame.stream, "length": frame.length,
                      "error": frame.error, "code": frame.code, "last_stream": frame.last_stream, "idle": frame.idle,
                      "payload": frame.at[:frame.n] if used > 0 else b""}

    def next(self, data: bytes):
        """Read a frame: as next_at()."""
        return self.next_at(<size_t><const char *>data, <uint32_t>len(data))

    @property
    def block(self):
        """The stream whose field block goes on, or 0."""
        return self.state.block

    @property
    def settings(self):
        """The peer's settings."""
        return {"header_table": self.settings_.header_table, "push": self.settings_.push, "streams": self.settings_.streams,
                "window": self.settings_.window, "frame": self.settings_.frame, "list": self.settings_.list,
                "connect_protocol": self.settings_.connect_protocol}


def preface_at(size_t address, uint32_t n):
    """Read the client's connection preface at an address: 24, 0 (partial) or -1."""
    return read_preface(<const uint8_t *>address, n)


def written(word: str, uint32_t stream=0, uint32_t value=0, uint16_t setting=0) -> bytes:
    """Write a frame, or a part of one: 'head' (of 5 octets of type 7), 'rst_stream', 'window_update', 'goaway', 'setting'."""
    cdef uint8_t room[32]
    cdef uint8_t *end
    if word == "head":
        end = put_head(room, value, FRAME_GOAWAY, 5, stream)
    elif word == "rst_stream":
        end = put_rst_stream(room, stream, value)
    elif word == "window_update":
        end = put_window_update(room, stream, value)
    elif word == "goaway":
        end = put_goaway(room, stream, value)
    else:
        end = put_setting(room, setting, value)
    return (<const char *>room)[:end - room]
