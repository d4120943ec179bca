# The heads that leave for clients of HTTP/2: field blocks, with the filters of the rule and of the chosen backendRef applied
# as http/header_writer applies them to lines. Pure but for the encoder's table.
from libc.stdint cimport int32_t, uint8_t, uint32_t
from gwfast.http.header_writer cimport Ops
from gwfast.http.head cimport ResponseHead
from gwfast.http2.hpack_encoder cimport Encoding

# Each writes at most to `end` and returns how many bytes that were, or -1 where there was no room: then the encoder's table
# and the peer's may differ, and the connection has to end.
cdef int32_t encode_response(Encoding *encoding, const Ops *ops, const ResponseHead *head, uint32_t status,
                             const char *date, bint drop_length, uint8_t *to, uint8_t *end) noexcept nogil
# Our own answer. location: where to go, or NULL; length: of the body. grpc >= 0: a trailers-only response with this status.
cdef int32_t encode_answer(Encoding *encoding, const Ops *ops, int status, const char *date, const char *location,
                           uint32_t n, uint32_t length, int grpc, uint8_t *to, uint8_t *end) noexcept nogil
# The body of such an answer, `size` bytes (answer_size): '404 Not Found' and a line feed.
cdef void answer_body(char *to, int status, uint32_t size) noexcept nogil
# A head that is nothing but its status; there is room.
cdef int32_t encode_status(Encoding *encoding, uint32_t status, uint8_t *to, uint8_t *end) noexcept nogil
# A trailer section of lines as HTTP/1.1 has them.
cdef int32_t encode_trailers(Encoding *encoding, const char *at, uint32_t n, uint8_t *to, uint8_t *end) noexcept nogil
# What a status is to gRPC (grpc/doc/http-grpc-status-mapping.md, and grpcroute_types.go for a route that is not there).
cdef int grpc_status(int status) noexcept nogil
