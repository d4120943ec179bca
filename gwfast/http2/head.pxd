# A request's head from the field block of HTTP/2 (RFC 9113 8.3), in the words of HTTP/1.1: the same RequestHead, whose fields
# are lines that leave as they are. Pure.
from libc.stdint cimport uint8_t, uint32_t
from gwfast.http.head cimport Field, HeadLimits, RequestHead, room_of

cdef enum:
    MALFORMED = -16            # beside BAD_*: the stream ends with PROTOCOL_ERROR (RFC 9113 8.1.1)
    WEBSOCKET_LINES = 128      # bytes that an extended CONNECT may add behind its lines
    LIST_OVERHEAD = 32         # of a field, in the size of a list (RFC 9113 6.5.2)

# Judges what was decoded into head.fields (`count` of them, their lines from `lines` to `end`; as many bytes again lie
# free behind `end`) and fills in the rest of the head. 0, BAD_* (answered with its status) or MALFORMED.
# `ended`: no body follows. `key`: 24 characters for the Sec-WebSocket-Key of an extended CONNECT.
cdef int read_http2_head(RequestHead *head, uint32_t count, const HeadLimits *limits, const char *lines, char *end, bint ended,
                    const char *key) noexcept nogil
# How much a field list may have before it is looked at, as RFC 9113 6.5.2 counts: no list within the limits has more.
cdef inline uint32_t list_most(const HeadLimits *limits) noexcept nogil:
    return limits.head + LIST_OVERHEAD * room_of(limits)
# Trailers: whether they may be passed on; flags those that may not (RFC 9113 8.1, RFC 9110 6.5.1).
cdef bint read_http2_trailers(Field *fields, uint32_t count) noexcept nogil
# Those of a response: fields that do not belong there are flagged FIELD_HOP, not refused. False: malformed (RFC 9113 8.2).
cdef bint sift_http2_trailers(Field *fields, uint32_t count) noexcept nogil
