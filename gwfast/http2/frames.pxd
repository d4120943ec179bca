# Frames of HTTP/2 (RFC 9113 4 and 6). Pure: bytes in, slices out, nothing allocated.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    FRAME_HEAD = 9
    PREFACE = 24               # bytes of the client's connection preface (RFC 9113 3.4)
    MAX_FRAME = 16384          # of a payload that we take (limits.FRAME_BYTES)
    CONTINUATIONS = 8          # of one field block (limits.CONTINUATIONS)
    BLOCK_LEAST = 65536        # limits.FIELD_BLOCK_BYTES
    BLOCK_HEADS = 4            # limits.FIELD_BLOCK_HEADS
    WINDOW_MOST = 0x7fffffff   # RFC 9113 6.9.1

cdef enum FrameType:
    FRAME_DATA = 0
    FRAME_HEADERS
    FRAME_PRIORITY
    FRAME_RST_STREAM
    FRAME_SETTINGS
    FRAME_PUSH_PROMISE
    FRAME_PING
    FRAME_GOAWAY
    FRAME_WINDOW_UPDATE
    FRAME_CONTINUATION
    FRAME_OTHER                # and above: ignored (RFC 9113 5.5)

cdef enum:
    FLAG_END_STREAM = 1
    FLAG_ACK = 1
    FLAG_END_HEADERS = 4
    FLAG_PADDED = 8
    FLAG_PRIORITY = 32

# RFC 9113 7
cdef enum ErrorCode:
    NO_ERROR = 0
    PROTOCOL_ERROR
    INTERNAL_ERROR
    FLOW_CONTROL_ERROR
    SETTINGS_TIMEOUT
    STREAM_CLOSED
    FRAME_SIZE_ERROR
    REFUSED_STREAM
    CANCEL
    COMPRESSION_ERROR
    CONNECT_ERROR
    ENHANCE_YOUR_CALM
    INADEQUATE_SECURITY
    HTTP_1_1_REQUIRED

# RFC 9113 6.5.2, RFC 8441 3
cdef enum Setting:
    SETTINGS_HEADER_TABLE_SIZE = 1
    SETTINGS_ENABLE_PUSH
    SETTINGS_MAX_CONCURRENT_STREAMS
    SETTINGS_INITIAL_WINDOW_SIZE
    SETTINGS_MAX_FRAME_SIZE
    SETTINGS_MAX_HEADER_LIST_SIZE
    SETTINGS_ENABLE_CONNECT_PROTOCOL = 8

# What the peer may send next. All zeros are a server's that waits for a client's first frame.
cdef struct FrameState:
    uint32_t block             # the stream whose field block goes on; 0: none does
    uint8_t continuations      # that it had
    uint8_t more               # that it may have, beyond CONTINUATIONS, where larger heads are allowed
    uint8_t begun              # the first frame was read: it must be SETTINGS (RFC 9113 3.4)
    uint8_t client             # we are the client

cdef struct Frame:
    const uint8_t *at          # the payload, without padding and priority
    uint32_t n
    uint32_t length            # the whole payload: what flow control counts (RFC 9113 6.9.1)
    uint32_t stream
    uint32_t error             # of the stream, where reading goes on; of the connection, where it does not
    uint32_t code              # RST_STREAM, GOAWAY: error code; WINDOW_UPDATE: increment
    uint32_t last_stream       # GOAWAY
    uint8_t type
    uint8_t flags              # those that this type has
    uint8_t idle               # it carries nothing: what has a budget (empty DATA without an end, PRIORITY, unknown types)

cdef enum:
    FRAME_PARTIAL = 0
    FRAME_BAD = -1             # the connection ends with frame.error

# Reads one whole frame: how many bytes it has (its head included), or FRAME_*. An error of the stream alone is in
# frame.error; its frame was read, and a field block in it must be decoded all the same.
cdef int frame_next(FrameState *state, const uint8_t *at, uint32_t n, Frame *frame) noexcept nogil

# Whether these are the preface, or as much of it: PREFACE, FRAME_PARTIAL or FRAME_BAD.
cdef int read_preface(const uint8_t *at, uint32_t n) noexcept nogil

# What a peer may be sent. Values are those of RFC 9113 6.5.2 at first.
cdef struct Settings:
    uint32_t header_table
    uint32_t push
    uint32_t streams
    uint32_t window
    uint32_t frame
    uint32_t list
    uint32_t connect_protocol

# What a peer may make us do that no request needs: so much at once, so much each second, and more where it does work that
# explains it. All zeros: nothing was spent.
cdef struct TokenBucket:
    uint32_t spent
    uint64_t at_ms

# Spends one: whether that was one too many.
cdef inline bint overspends(TokenBucket *budget, uint64_t now_ms, uint32_t burst, uint32_t rate) noexcept nogil:
    cdef uint64_t back = (now_ms - budget.at_ms) * rate // 1000
    if back:
        budget.spent = budget.spent - <uint32_t>back if back < budget.spent else 0
        budget.at_ms = now_ms
    budget.spent += 1
    return budget.spent > burst

cdef inline void earn(TokenBucket *budget, uint32_t n) noexcept nogil:
    budget.spent -= min(n, budget.spent)

# The largest field block of heads with so many bytes, as it arrives, and the CONTINUATIONs that it may need beyond the usual.
cdef inline uint32_t block_most(uint32_t head) noexcept nogil:
    return max(<uint32_t>BLOCK_LEAST, BLOCK_HEADS * head)

# So much of it may be left out: what Huffman's code makes of it (8 bits of 5), and a little more. Beyond that tables are abused.
cdef inline uint32_t spare_most(uint32_t head) noexcept nogil:
    return 2 * block_most(head)

cdef inline uint8_t more_continuations(uint32_t head) noexcept nogil:
    return <uint8_t>max(0, <int>(block_most(head) // MAX_FRAME) - CONTINUATIONS)

cdef void settings_start(Settings *settings) noexcept nogil
# Takes over what a SETTINGS frame says.
cdef void settings_apply(Settings *settings, const Frame *frame) noexcept nogil

cdef inline uint32_t load_32(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]

cdef inline uint8_t *put_32(uint8_t *to, uint32_t value) noexcept nogil:
    to[0], to[1], to[2], to[3] = <uint8_t>(value >> 24), <uint8_t>(value >> 16), <uint8_t>(value >> 8), <uint8_t>value
    return to + 4

# Each writes at `to`, which has the room, and returns where it ends.
cdef inline uint8_t *put_head(uint8_t *to, uint32_t length, uint8_t type, uint8_t flags, uint32_t stream) noexcept nogil:
    to = put_32(to, length << 8 | type)
    to[0] = flags
    return put_32(to + 1, stream)

cdef inline uint8_t *put_rst_stream(uint8_t *to, uint32_t stream, uint32_t code) noexcept nogil:
    return put_32(put_head(to, 4, FRAME_RST_STREAM, 0, stream), code)

cdef inline uint8_t *put_window_update(uint8_t *to, uint32_t stream, uint32_t increment) noexcept nogil:
    return put_32(put_head(to, 4, FRAME_WINDOW_UPDATE, 0, stream), increment)

cdef inline uint8_t *put_goaway(uint8_t *to, uint32_t last_stream, uint32_t code) noexcept nogil:
    return put_32(put_32(put_head(to, 8, FRAME_GOAWAY, 0, 0), last_stream), code)

cdef inline uint8_t *put_setting(uint8_t *to, uint16_t setting, uint32_t value) noexcept nogil:
    to[0], to[1] = <uint8_t>(setting >> 8), <uint8_t>setting
    return put_32(to + 2, value)
