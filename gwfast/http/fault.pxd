# The failure table: every way that a request can fail to be forwarded, as one row.
#
#   fault      the row's number
#   status     what the client gets
#   side       whose fault it is; that of an endpoint counts against its health
#   retried    whether another attempt may end better, and on which condition
#   word       for the log's `flags` and the metric's label
#
# A fault is an int on the hot path and becomes a status, a word and a counter here and nowhere else. A new one has its name below
# and its row in fault.pyx, at the same place: the compiler refuses the one without the other.
from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    FAULT_NONE = 0
    FAULT_BAD_REQUEST
    FAULT_TARGET_LONG
    FAULT_FIELDS_LARGE
    FAULT_VERSION
    FAULT_METHOD
    FAULT_EXPECTATION
    FAULT_HEAD_TIMEOUT
    FAULT_BODY_TIMEOUT
    FAULT_BAD_BODY
    FAULT_CLIENT_GONE
    FAULT_SEND_TIMEOUT
    FAULT_NO_RULE
    FAULT_AMBIGUOUS
    FAULT_NO_BACKEND
    FAULT_FILTER
    FAULT_NO_ENDPOINT
    FAULT_CONNECT
    FAULT_CONNECT_TIMEOUT
    FAULT_UPSTREAM_RESET
    FAULT_UPSTREAM_BAD
    FAULT_UPSTREAM_TIMEOUT
    FAULT_UPSTREAM_CUT
    FAULT_PROXY_HEADER
    FAULT_INTERNAL
    FAULT_DRAINING
    FAULT_MISDIRECTED
    FAULT_HELLO
    FAULT_TLS
    FAULT_IDLE
    FAULT_UPSTREAM_TLS
    FAULT_UPSTREAM_NAME
    FAULT_UPSTREAM_EXPIRED
    FAULT_UPSTREAM_UNTRUSTED
    FAULT_REQUEST_TIMEOUT
    FAULT_DENIED           # by an authorizer
    FAULT_AUTHORIZER       # it could not be asked
    FAULT_BODY_LARGE       # for it
    FAULT_EXTENSION
    FAULT_RETRY_BUDGET
    FAULT_QUEUE_FULL       # of those that wait for an endpoint of its backend
    FAULT_QUEUE_TIMEOUT
    FAULT_STREAM_IDLE      # its response has begun, and nobody says anything any more
    FAULT_BAD_CHUNK        # of a request's body in chunks; FAULT_BAD_BODY: of one with another length than was said
    FAULT_BAD_TRAILER
    FAULT_UPSTREAM_TRAILERS    # of a backend, beyond what a head may have
    FAULTS

cdef enum Side:
    SIDE_NOBODY
    SIDE_CLIENT            # also: what it asked for is not there, or not for it
    SIDE_CONFIGURATION
    SIDE_UPSTREAM          # an endpoint's
    SIDE_GATEWAY           # ours, and that of whom we ask

cdef enum Retried:
    RETRIED_NEVER
    RETRIED_BY_STATUS      # as if an endpoint had answered with the row's status: where the rule's `retry` names that code
    RETRIED_UNANSWERED     # in any case: no endpoint has answered anything

cdef struct FaultRow:
    uint16_t status        # 0: nothing can be answered any more
    uint8_t side           # Side
    uint8_t retried        # Retried
    const char *word

cdef const FaultRow *fault_row(int fault) noexcept nogil
cdef int fault_of_tls(long verdict) noexcept nogil      # why a backend is not believed, by X509_V_ERR_*
cdef int fault_of_parse(int result) noexcept nogil      # from what http1/parser returns
cdef const char *why_word(int why) noexcept nogil      # of a Why: the log's `reason` of a bad_request; NULL: there is none
cdef const char *reason_phrase(int status) noexcept nogil
