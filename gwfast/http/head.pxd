# The head of a message as slices of the bytes that were received. Nothing is copied, nothing is owned: a head is
# valid as long as the buffer it was parsed from. Room for the slices is as large as the limits ask for: room_for_request().
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from gwfast.http.bytes cimport gw_hash

cdef enum:
    MAX_HOST = 256
    HEAD_MOST = 32768          # limits.HEAD_BYTES
    FIELD_MOST = 16384         # limits.FIELD_BYTES
    COUNT_MOST = 200           # limits.FIELD_COUNT
    REWRITTEN = 2048           # bytes that a filter may make a target longer by, before it is read again

cdef struct Slice:
    const char *at
    uint32_t n

# Fields that the gateway itself acts on; every other name is FIELD_OTHER.
cdef enum FieldId:
    FIELD_OTHER = 0
    FIELD_HOST
    FIELD_CONTENT_LENGTH
    FIELD_TRANSFER_ENCODING
    FIELD_CONNECTION
    FIELD_KEEP_ALIVE
    FIELD_PROXY_CONNECTION
    FIELD_PROXY_AUTHENTICATE
    FIELD_PROXY_AUTHORIZATION
    FIELD_TE
    FIELD_TRAILER
    FIELD_UPGRADE
    FIELD_EXPECT
    FIELD_DATE
    FIELD_SERVER
    FIELD_VIA
    FIELD_FORWARDED
    FIELD_X_FORWARDED_FOR
    FIELD_X_FORWARDED_PROTO
    FIELD_X_FORWARDED_HOST
    FIELD_X_FORWARDED_PORT
    FIELD_X_REAL_IP
    FIELD_X_REQUEST_ID
    FIELD_HTTP2_SETTINGS
    FIELD_USER_AGENT
    FIELD_REFERER
    FIELD_COOKIE
    FIELD_ORIGIN
    FIELD_AUTHORIZATION
    FIELD_LOCATION
    FIELD_X_FORWARDED_CLIENT_CERT
    FIELD_X_FORWARDED      # any other name that begins with 'X-Forwarded-'

# flags of a field
cdef enum:
    FIELD_HOP = 1      # hop-by-hop, or named by Connection: never forwarded
    FIELD_UNDERSCORE = 2   # the name has an underscore: dropped from requests (limits)

cdef struct Field:
    const char *name
    const char *value      # without surrounding white space
    uint32_t name_len
    uint32_t value_len
    uint32_t line_len      # from name to after CRLF: the raw line, safe to forward as it is
    uint32_t hash          # name_hash() of the name in lower case
    uint16_t id            # FieldId
    uint16_t flags

cdef enum Method:
    METHOD_OTHER = 0
    METHOD_GET
    METHOD_HEAD
    METHOD_POST
    METHOD_PUT
    METHOD_DELETE
    METHOD_CONNECT
    METHOD_OPTIONS
    METHOD_TRACE
    METHOD_PATCH

# RFC 9110 9.2.2
cdef inline bint idempotent(uint8_t method_id) noexcept nogil:
    return (method_id == METHOD_GET or method_id == METHOD_HEAD or method_id == METHOD_PUT
            or method_id == METHOD_DELETE or method_id == METHOD_OPTIONS or method_id == METHOD_TRACE)

cdef enum Framing:
    FRAMING_NONE = 0       # no body
    FRAMING_LENGTH         # content_length bytes (may be 0)
    FRAMING_CHUNKED
    FRAMING_CLOSE          # responses only: until the connection ends
    FRAMING_TUNNEL         # after 101

# What parsing returns when it does not return a length (> 0). The failure table (http/fault) gives each its status.
cdef enum:
    PARTIAL = 0            # more bytes are needed
    BAD_REQUEST = -1       # 400
    BAD_TARGET_LONG = -2   # 414
    BAD_FIELDS_LARGE = -3  # 431
    BAD_VERSION = -4       # 505
    BAD_METHOD = -5        # 405: CONNECT, TRACE
    BAD_EXPECTATION = -6   # 417
    BAD_RESPONSE = -7      # 502 (responses only)

# Why a request is BAD_REQUEST or malformed: http/fault has a word for each.
cdef enum Why:
    WHY_NONE = 0
    WHY_LINE_END           # a bare CR or LF, or what is not the end of a line
    WHY_METHOD
    WHY_TARGET
    WHY_VERSION            # no 'HTTP/' DIGIT '.' DIGIT
    WHY_NAME               # of a field
    WHY_VALUE              # of a field
    WHY_FOLDED             # a field line that goes on in the next (RFC 9112 5.2)
    WHY_HOST
    WHY_HOST_MISSING
    WHY_HOST_TWICE
    WHY_HOST_CONFLICT      # with what the target, or :authority, says
    WHY_LENGTH
    WHY_LENGTH_CONFLICT    # twice, or beside Transfer-Encoding
    WHY_LENGTH_MISMATCH    # of a body that has come (RFC 9113 8.1.1)
    WHY_CODING             # Transfer-Encoding
    WHY_CONNECTION
    WHY_PSEUDO             # a pseudo-header field (RFC 9113 8.3)
    WHY_OF_CONNECTION      # a field that HTTP/2 has no place for (RFC 9113 8.2.2)
    WHY_PROTOCOL           # of an extended CONNECT (RFC 8441 4)
    WHYS

cdef struct RequestHead:
    Slice method
    Slice target           # as received
    Slice path             # of the target, as received, without the query; '*' for OPTIONS *; '/' where an
                           # absolute-form has none (for OPTIONS '*': RFC 9112 3.2.4)
    Slice query            # behind '?', without it; query.at is NULL where there is no '?'; its escapes are not checked
    Slice match_path       # normalised (RFC 3986 6.2.2): unreserved octets decoded, dot segments and '//' removed;
                           # is `path` itself where that changes nothing, else lies in `room`
    Slice slash_path       # match_path with %2F decoded to '/' too; n == 0 where there is no %2F: see find()
    Slice authority        # of Host or of an absolute-form target, as received, port included; n may be 0 (HTTP/1.0)
    Slice host             # authority in lower case without port and trailing dot; lies in `host_room`;
                           # an IPv6 address keeps its brackets
    uint64_t content_length
    uint8_t method_id      # Method
    uint8_t minor          # 0 or 1
    uint8_t framing        # Framing
    uint8_t keep_alive     # the client wants the connection kept
    uint8_t upgrade        # Connection: upgrade with an Upgrade field, HTTP/1.1, no body, and not to h2c
    uint8_t expect         # Expect: 100-continue, HTTP/1.1, with a body to come
    uint8_t absolute       # absolute-form target
    uint8_t unnormal         # the path holds what normalising could change
    uint8_t trailers       # TE: trailers
    uint8_t why            # Why, where it is refused
    uint8_t cookies        # Cookie fields that are to be one (RFC 6265 5.4), up to 2; over HTTP/2 they are one already
    uint8_t stated         # what the gateway says of the client is among the fields (see http/forwarded)
    uint16_t count
    uint16_t most          # fields that there is room for
    uint32_t longest       # bytes of a target that there is room for
    uint32_t head_len      # bytes of the whole head
    uint32_t ids           # a bit for each FieldId that a field has, FIELD_OTHER aside
    Field *fields
    char *room             # match_path, slash_path and the query's parameters, `longest` for each
    char host_room[MAX_HOST]

cdef inline int refused(RequestHead *head, int result, uint8_t why) noexcept nogil:
    head.why = why
    return result

cdef struct ResponseHead:
    Slice reason
    uint64_t content_length
    uint16_t status
    uint8_t minor
    uint8_t framing
    uint8_t keep_alive
    uint8_t upgrade        # Connection: upgrade with an Upgrade field
    uint16_t count
    uint16_t most          # fields that there is room for
    uint32_t head_len
    uint32_t ids           # a bit for each FieldId that a field has, FIELD_OTHER aside
    Field *fields

# What a message may have, as it is written in HTTP/1.1 also where it came over HTTP/2: so both versions give one verdict.
cdef struct HeadLimits:
    uint32_t head          # bytes of a whole head
    uint32_t line          # bytes of one line, its CRLF included
    uint32_t count         # fields

# How many fields there must be room for: crumbs of cookies may lie between any two others, and we add lines of our own.
cdef inline uint32_t room_of(const HeadLimits *limits) noexcept nogil:
    return 2 * limits.count + 24

# Room for heads within these limits; -1: there is none. forget_*() gives it back.
cdef inline int room_for_request(RequestHead *head, const HeadLimits *limits) noexcept nogil:
    head.most = <uint16_t>room_of(limits)
    head.longest = limits.line + REWRITTEN
    head.fields = <Field *>malloc(head.most * sizeof(Field))
    head.room = <char *>malloc(3 * <size_t>head.longest)
    return 0 if head.fields != NULL and head.room != NULL else -1

cdef inline void forget_request(RequestHead *head) noexcept nogil:
    free(head.fields)
    free(head.room)
    head.fields = NULL
    head.room = NULL

cdef inline int room_for_response(ResponseHead *head, const HeadLimits *limits) noexcept nogil:
    head.most = <uint16_t>room_of(limits)
    head.fields = <Field *>malloc(head.most * sizeof(Field))
    return 0 if head.fields != NULL else -1

cdef inline void forget_response(ResponseHead *head) noexcept nogil:
    free(head.fields)
    head.fields = NULL

# What lines and cookies of a field block and what is made of them need, before they are looked at: see http2/head.list_most().
cdef inline size_t scratch_bytes(const HeadLimits *limits) noexcept nogil:
    return 4 * <size_t>limits.head + 64 * room_of(limits) + 8192

# Of heads that we wrote ourselves: they may have all that there is room for.
cdef inline HeadLimits any_head(uint32_t n) noexcept nogil:
    return HeadLimits(n, n, 0xffff)

# Hash of a field name, the same in upper and lower case: the table's predicates carry it too. Names that differ may have
# the same one, and '^' and '~' do.
cdef inline uint32_t name_hash(const char *name, uint32_t n) noexcept nogil:
    return <uint32_t>(gw_hash(0, name, n, 0x20) >> 32)
