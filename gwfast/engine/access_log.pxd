# The access log: lines made in compiled code, written in batches; off costs nothing.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from gwfast.http.header_writer cimport Out
from gwfast.http.head cimport Slice
from gwfast.engine.loop cimport Loop
from gwfast.tls.records cimport Session

cdef enum LogFormat:
    LOG_OFF = 0
    LOG_JSON
    LOG_COMMON

cdef struct Record:        # one request, as it ended
    Slice client
    Slice method
    Slice target
    Slice host
    Slice agent
    Slice referer
    Slice listener
    Slice route
    Slice backend
    Slice endpoint
    Slice request_id
    const char *flags      # the fault's word
    const char *reason     # why it is a bad_request; NULL: it is none
    const char *tls_version    # of the client's TLS; NULL: in clear
    const char *tls_cipher
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t duration_us
    uint64_t upstream_us   # until the head of the response; 0: none came
    uint32_t rule
    uint32_t attempts      # endpoints that were tried, one after the other
    uint16_t status
    uint8_t minor          # 2: HTTP/2

cdef void say_tls(Record *record, Session tls) noexcept    # None: in clear

cdef class AccessLog:
    cdef Loop loop
    cdef int fd
    cdef int own           # the same pipe, without blocking; -1: none
    cdef int format
    cdef bint pipe         # or a terminal
    cdef bint socket
    cdef char *buffer
    cdef uint32_t n
    cdef bint begun        # the buffer begins within a line

    cdef void line(self, const Record *record) noexcept
    # The line of what is no request; why: Why, where that is known.
    cdef void refusal(self, const char *client, uint8_t n, Session tls, int minor, int fault, int why, int status) noexcept
    cdef void flush(self) noexcept
    cdef void json(self, Out *out, const Record *record) noexcept
    cdef void common(self, Out *out, const Record *record) noexcept
    cdef void quoted(self, Out *out, Slice value) noexcept
