# A request of the gateway's own to a backend: a mirror's copy of a client's, what an authorizer is asked.
#
#   begin     the endpoint is chosen, the head copied                    -1: there is none, or it has too many
#   start     what there is of the body is taken over, a connection is taken from the pool or dialled; where none can be made,
#             to another endpoint
#   more      the rest of the body as it comes: what the backend does not take at once waits in `queue`, `most` bytes of it;
#             beyond that the call is over (CALL_SLOW): whoever has the bytes is never told to wait
#   over      the response was read and forgotten (CALL_ANSWERED), or it failed; counted, once
#
# A call belongs to whoever made it until let_go(), and goes on without it when its request is complete. Those that are over
# and let go are kept by Subrequests, to be used again: so a call that ends in the middle of a callback is never freed there.
# A subclass that wants the response has got_head(), got() and got_trailers() for it, and ended().
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.http.body cimport Body
from gwfast.http.head cimport HeadLimits
from gwfast.engine.loop cimport Buf
from gwfast.table.layout cimport Backend, Image
from gwfast.upstream.pool cimport State, Upstream, Upstreams, Waiter

cdef enum SubrequestEnd:
    CALL_ANSWERED = 0
    CALL_FAILED            # no connection, or it broke, or the response is malformed
    CALL_SLOW              # it does not take the body
    CALL_LATE              # no end of the response in time
    CALL_BUSY              # its endpoint has as many as it may have
    SUBREQUEST_ENDS

cdef class Subrequests:
    cdef Upstreams upstreams
    cdef HeadLimits limits
    cdef uint32_t most         # at once to one endpoint
    cdef Subrequest spare
    cdef Subrequest call(self)
    cdef void count(self, int end) noexcept
    cdef PyObject *first       # of those that are under way, each with a reference: its connection's may end before it does
    cdef void forget(self) noexcept      # ends them all, and lets go of the spare ones: they refer to it

cdef class Subrequest(Waiter):
    cdef Subrequest next             # among the spare ones, or those of one exchange
    cdef PyObject *after       # among those that are under way
    cdef PyObject *before
    cdef Subrequests home
    cdef object table
    cdef const Image *image
    cdef const Backend *backend
    cdef uint32_t chosen       # of its endpoints
    cdef uint32_t attempts
    cdef Upstream upstream
    cdef State *state          # NULL: it is over
    cdef Buf request           # the head, in HTTP/1.1 form
    cdef Buf queue             # of the body: until a connection is open, and while bytes wait in it; trailers behind it
    cdef Buf kept              # all that a stream was sent of it, and is told to wait: it may have to be sent again
    cdef uint32_t kept_body    # bytes of `kept` that are body
    cdef Body body             # of the response
    cdef uint32_t queued       # bytes of `queue` that are body
    cdef uint32_t most
    cdef uint32_t seen
    cdef uint32_t informed
    cdef uint32_t within_ms    # for the response, from the end of the request
    cdef uint64_t until_ms     # when that is over; 0: the request has not ended
    cdef uint8_t method_id
    cdef bint repeats          # it may be sent again where nobody knows what became of it
    cdef bint held             # somebody has it
    cdef bint chunked
    cdef bint complete         # nothing of the request is to come
    cdef bint sent             # its first part was
    cdef bint handed           # what is in the queue waits behind that
    cdef bint streamed         # more than is kept was sent: it cannot be sent again
    cdef uint8_t resent
    cdef bint replied
    cdef bint keep
    cdef bint bad              # a failure of its endpoint, for whoever watches its health
    cdef bint ends             # the end of the body waits, behind what is in the queue

    # `table` keeps the image as long as it is under way
    cdef int begin(self, object table, const Image *image, const Backend *backend, const Buf *head, uint8_t method_id,
                   bint chunked) noexcept
    cdef void start(self, const char *at, uint32_t n, uint32_t trailers, bint complete) noexcept
    cdef void more(self, const char *at, size_t n, bint end) noexcept
    cdef void trailers(self, const char *at, size_t n) noexcept
    cdef void let_go(self) noexcept
    cdef bint choose(self, uint32_t avoid) noexcept
    cdef void leave(self) noexcept
    cdef void dial(self, bint fresh) noexcept
    cdef bint again(self, bint refused) noexcept
    cdef void elsewhere(self) noexcept
    cdef void transmit(self) noexcept
    cdef int flush(self) noexcept
    cdef void hand_over(self) noexcept
    cdef void keep_more(self, const char *at, size_t n, bint body) noexcept
    cdef void finished(self) noexcept
    cdef size_t take(self, char *at, size_t n) noexcept
    cdef size_t take_body(self, char *at, size_t n) noexcept
    cdef void broken(self) noexcept
    cdef void over(self, int end) noexcept
    cdef void store(self) noexcept
    cdef void got_head(self) noexcept                          # home.upstreams.reply
    cdef void got(self, const char *at, size_t n) noexcept     # a part of the response's body
    cdef void got_trailers(self, const char *at, size_t n) noexcept        # lines as HTTP/1.1 has them, of HTTP/2 alone
    cdef void ended(self, int end) noexcept
