# What an authorizer answers over gRPC: a CheckResponse of envoy.service.auth.v3 in its frame (check_request), and what it
# changes. Pure.
#
# CheckResponse:  status 1 { code 1 }, denied_response 2 { status 1 { code 1 }, headers 2, body 3 },
#                 ok_response 3 { headers 2, headers_to_remove 5, response_headers_to_add 6 }
# A header:       header 1 { key 1, value 2, raw_value 3 }, append 2 { value 1 }, append_action 3
from libc.stdint cimport uint32_t, uint64_t
from gwfast.http.header_writer cimport Out
from gwfast.http.head cimport Field, ResponseHead, Slice

cdef enum:
    CHANGES = 100              # limits.AUTHORIZATION_HEADERS

cdef enum Action:              # what becomes of a field of the same name
    ACTION_SET = 0             # it is replaced
    ACTION_APPEND              # it stays too
    ACTION_IF_ABSENT           # it stays, this one goes
    ACTION_IF_PRESENT          # it is replaced, and where there is none this one goes

cdef enum Place:
    PLACE_REQUEST = 0          # ok_response.headers
    PLACE_REMOVE               # ok_response.headers_to_remove: a name alone
    PLACE_RESPONSE             # ok_response.response_headers_to_add
    PLACE_DENIAL               # denied_response.headers

cdef struct Change:            # of one field
    Slice name
    Slice value
    int place
    int action

cdef struct CheckResponse:           # what a CheckResponse says; slices of its bytes
    Slice body                 # of the denial
    uint64_t code              # of the status; 0 is OK
    uint64_t status            # of the denial; 0: not said
    uint32_t count
    bint denies                # there is a denied_response
    Change changes[CHANGES]

# Reads one message in its frame, all of n bytes. -1: it is none, or is not whole, or has names or values that no field can have.
cdef int read_check_response(CheckResponse *verdict, const char *at, uint32_t n) noexcept nogil
# These fields (of a head) as they are changed, those of the connection left out, and what is added behind them.
cdef void put_changes(Out *out, const CheckResponse *verdict, int place, const Field *fields, uint32_t count) noexcept nogil
cdef uint32_t changes_room(const CheckResponse *verdict) noexcept nogil  # bytes that may be added
cdef bint changes_response(const CheckResponse *verdict) noexcept nogil
cdef bint is_grpc(const ResponseHead *reply) noexcept nogil        # whether the head of an answer is gRPC's
