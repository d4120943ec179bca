# Copies of a request for its mirrors (RequestMirror): sent at the launch, told each part of the body, let go with the exchange.
from gwfast.exchange.exchange cimport Exchange

cdef void send_mirrors(Exchange exchange) noexcept
# A part of the body, or (`trailers`) its trailers, for the mirrors too.
cdef void mirror_body(Exchange exchange, const char *at, size_t n, bint end, bint trailers) noexcept
cdef void drop_mirrors(Exchange exchange) noexcept
