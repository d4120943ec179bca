# What an authorizer is asked over gRPC: envoy.service.auth.v3.Authorization/Check, in protobuf and in the frame of gRPC. Pure.
#
#   byte 0        1..4             5..
#   compressed=0  length, big end  CheckRequest
#
# A message is written from its end to its beginning, so that what a length counts is there before the length is written.
#
# CheckRequest:   attributes 1 { source 1, destination 2: { address 1 { socket_address 1 { address 2, port_value 3 }}},
#                 request 4 { time 1 { seconds 1, nanos 2 }, http 2 { id 1, method 2, headers 3 { key 1, value 2 }, path 4,
#                 host 5, scheme 6, size 9, protocol 10, raw_body 12 }}}
from libc.stdint cimport int64_t, uint32_t, uint64_t
from gwfast.http.head cimport Field, RequestHead, Slice

cdef enum:
    GRPC_PREFIX = 5            # bytes before a message

cdef struct CheckRequest:             # what a CheckRequest says
    const RequestHead *head
    Slice names                # of the fields it shows, between commas; n == 0: all, and the pseudo-header fields
    Slice client               # addresses as text; n == 0: not known
    Slice server
    Slice scheme
    Slice protocol
    Slice id
    Slice body
    uint32_t port              # of the server
    int64_t size               # of the body; -1: not known
    uint64_t seconds
    uint32_t nanos

cdef uint32_t check_room(const CheckRequest *asked) noexcept nogil        # bytes that a question may have
# Writes the question, its frame included, so that it ends at `end`; where it begins, or NULL where it does not fit.
cdef char *write_check(char *start, char *end, const CheckRequest *asked) noexcept nogil
cdef bint listed(const Slice *names, const Field *field) noexcept nogil    # whether its name is among those between commas
