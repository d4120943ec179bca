# HTTP in clear where TLS is expected: told from everything else, and answered in a few fixed bytes. Pure.
from libc.stdint cimport uint8_t, uint32_t

cdef enum Clear:
    CLEAR_PARTIAL              # a request may come of it
    CLEAR_NONE                 # no HTTP that could be answered
    CLEAR_HTTP1                # the first line of a request of HTTP/1.x
    CLEAR_HTTP2                # the preface of HTTP/2 (RFC 9113 3.4)

cdef enum:
    LINE_MOST = 16384          # limits.HELLO_BYTES: what begins like such a line and is longer is taken for one
    CLEAR_BYTES = 256          # of an answer, at most

# What the first bytes of a connection are. The verdict does not depend on how they arrived.
cdef Clear clear_peek(const uint8_t *at, uint32_t n) noexcept nogil

# Writes the answer to CLEAR_HTTP1 or CLEAR_HTTP2, whose request begins at `at`; returns where it ends. `date` as in Loop.
cdef uint8_t *clear_answer(Clear what, const uint8_t *at, const char *date, uint8_t *to) noexcept nogil
