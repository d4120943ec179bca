# Those who are shown a response: the request filters that asked for it, the last one first. Each is given the head, may take its
# time, and gives it back; and each part of the body, which it may change.
from gwfast.exchange.exchange cimport Exchange, RequestFilter
from gwfast.http.head cimport ResponseHead

cdef void add_response_filter(Exchange exchange, RequestFilter filter) noexcept      # it stays with the exchange until the end
# Ask the next one. In the middle of a read: whether they take their time, or have ended the exchange.
cdef void ask_response_filter(Exchange exchange, const ResponseHead *head) noexcept
cdef bint response_filters_wait(Exchange exchange, const ResponseHead *head) noexcept
# By the one that was asked: these n bytes are the head now.
cdef void response_filtered(Exchange exchange, RequestFilter filter, const char *head, size_t n) noexcept
# A part of the body, as they leave it. -1: the response is cut.
cdef int filter_body(Exchange exchange, const char **at, size_t *n, bint end) noexcept
# Trailers come: the body is over, and those that watch it may have a last word. -1: that ended the exchange.
cdef int end_body_filters(Exchange exchange) noexcept
cdef void drop_response_filters(Exchange exchange) noexcept

# By a request filter. These n bytes as a head (-1: they are not one); answer with it, and with n bytes of body.
cdef int read_reply(Exchange exchange, const char *at, size_t n, ResponseHead *head) noexcept
cdef void reply_with(Exchange exchange, const ResponseHead *head, const char *at, size_t n) noexcept
