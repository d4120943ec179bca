# The class that acts for an Exchange: from the head of a request to the last byte of its response (see exchange.pxd).
from gwfast.exchange.exchange cimport Exchange, Gateway
from gwfast.http.head cimport ResponseHead

cdef class ForwardingGateway(Gateway):
    pass

cdef class ForwardedExchange(Exchange):
    # attempts
    cdef void refused(self) noexcept
    cdef void transmit(self) noexcept
    cdef bint again(self, bint refused) noexcept
    cdef void resend(self, bint refused) noexcept
    cdef bint came_too_late(self, bint reset) noexcept
    cdef void broken(self) noexcept
    # the response
    cdef size_t take_reply(self, char *at, size_t n) noexcept
    cdef size_t take_head(self, char *at, size_t n) noexcept
    cdef size_t take_trailers(self, char *at, size_t n) noexcept
    cdef int carry_reply(self, int *reads) noexcept
    cdef void upstream_eof(self, bint reset) noexcept
    cdef bint inform(self, const ResponseHead *head) noexcept
    cdef void switch(self, const ResponseHead *head, const char *at, size_t n) noexcept
    cdef void reply_ended(self) noexcept
    cdef void close_half(self) noexcept
    # the end
    cdef void judge(self) noexcept       # what its end says of the endpoint's health
    cdef void give_back(self) noexcept
    cdef void reset(self) noexcept
