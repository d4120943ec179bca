# Of whom a trusted peer speaks: X-Forwarded-For, -Proto, -Host and -Port of a peer among --trusted-proxies.
from libc.stdint cimport uint8_t, uint16_t
from gwfast.engine.address cimport ADDRESS_TEXT, Networks
from gwfast.http.head cimport RequestHead, Slice

cdef struct Source:
    char address[ADDRESS_TEXT]     # of the client
    uint8_t address_n              # 0: that of the peer
    uint8_t https                  # what the client speaks
    uint16_t port                  # that the client asked; 0: the listener's

# https: whether the peer itself speaks TLS.
cdef void read_source(Source *source, const RequestHead *head, Networks trusted, bint https) noexcept
# The host that the client asked, without port; what is no host leaves `host` as it is.
cdef void forwarded_host(const RequestHead *head, Slice *host) noexcept nogil
