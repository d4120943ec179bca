# Between the words of HTTP/1.1 and the field blocks of HTTP/2, towards backends: the head of a request as header_writer wrote it
# becomes a field block, a field block becomes the head of a response (RFC 9113 8.3). Pure but for the encoder's table.
from libc.stdint cimport int32_t, uint8_t, uint32_t
from gwfast.http.head cimport HeadLimits, ResponseHead
from gwfast.http2.hpack_encoder cimport Encoding

cdef enum:
    KEY = 24               # characters of a Sec-WebSocket-Key (RFC 6455 4.1)

# What of a request matters for its response.
cdef struct SentRequest:
    uint8_t head_only      # HEAD
    uint8_t websocket      # it went as an extended CONNECT (RFC 8441)
    char key[KEY]          # then: of its handshake, which HTTP/2 does not have

# Writes the field block at most to `end`: how many bytes that were, or -1 where there was no room: then the encoder's table
# and the peer's may differ, and the connection has to end. `tunnels`: the backend knows extended CONNECT; where it does not,
# a WebSocket's handshake goes as the request that it is without Upgrade, as every other upgrade does.
cdef int32_t encode_request(Encoding *encoding, const char *head, uint32_t n, bint https, bint tunnels, SentRequest *asked,
                            uint8_t *to, uint8_t *end) noexcept nogil
# Judges what was decoded into head.fields (`count` of them) and fills in the rest of the head: 0, BAD_FIELDS_LARGE or MALFORMED
# (of http2/head).
# `ended`: no body follows.
cdef int read_http2_response(ResponseHead *head, uint32_t count, const HeadLimits *limits, bint head_only,
                             bint ended) noexcept nogil
