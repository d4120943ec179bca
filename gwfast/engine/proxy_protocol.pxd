# The PROXY protocol, versions 1 and 2 (haproxy.org, "The PROXY protocol"): who a connection is really from.
from libc.stdint cimport uint8_t

cdef enum:
    PROXY_ROOM = 46
    PROXY_MOST = 4096      # limits.PROXY_HEADER_BYTES

# Length of the header (> 0), 0 where more bytes are needed, -1 where it is none. Writes the source address as text; n == 0
# where the header names none (UNKNOWN, LOCAL): the connection's own address stays.
cdef int parse_proxy(const char *at, size_t n, char *address, uint8_t *address_n) noexcept nogil
