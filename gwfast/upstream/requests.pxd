# Requests to backends of either protocol: an HTTP/1.1 connection for each, or a stream of an HTTP/2 connection that they share.
#
#   Pools      the Upstreams of a worker
#   Dial       the Waiter of the connection that an UpstreamHttp2Connection begins as
#
# An UpstreamHttp2Connection begins as an Upstream that dial() makes, and takes its descriptor (and its Session) over when
# that opens. So TLS needs nothing here: whoever finishes a handshake calls the waiter's upstream_open(), and Dial looks at
# what ALPN chose. A connection that was dialled for one request and turns out to speak HTTP/2 is handed to adopt(); from
# then on its endpoint has an UpstreamHttp2Connection, and take() finds that.
#
# Counters: upstream_connects, _open and _idle count connections of either protocol; upstream_reused counts requests on a
# connection that served one before.
from libc.stdint cimport uint32_t
from gwfast.upstream.http2_connection cimport UpstreamHttp2Connection, UpstreamHttp2Connections
from gwfast.upstream.queue cimport Queues
from gwfast.upstream.http2_stream cimport UpstreamStream
from gwfast.table.layout cimport Backend, Image
from gwfast.upstream.pool cimport State, Upstream, Upstreams, Waiter

cdef class Pools(UpstreamHttp2Connections):
    cdef Queues queues         # of requests that wait for an endpoint
    cdef uint32_t worker
    cdef uint32_t workers

    cdef uint32_t better(self, const Image *image, const Backend *backend, uint32_t avoid) noexcept
    cdef uint32_t lesser(self, const Image *image, const Backend *backend, uint32_t a, uint32_t b) noexcept
    cdef State *known(self, const Image *image, const Backend *backend, uint32_t i) noexcept   # behind serves(); NULL: no memory
    cdef uint32_t roomy_one(self, const Image *image, const Backend *backend, uint32_t full, uint32_t avoid) noexcept
    cdef uint32_t warm(self, const Image *image, const Backend *backend, uint32_t i) noexcept
    cdef uint32_t draw(self, const Image *image, const Backend *backend, uint32_t other, uint32_t beside, bint must) noexcept
    cdef void recount(self, State *state) noexcept
    cdef bint others(self, State *state) noexcept
    cdef UpstreamHttp2Connection roomy(self, State *state, bint fresh)     # one that takes another stream, or None
    cdef UpstreamHttp2Connection connect(self, State *state)               # a new one, or None
    # The connection of `upstream`, which has just opened and speaks HTTP/2, becomes an UpstreamHttp2Connection; its waiter
    # goes on with a stream of it: upstream_moved(), and upstream_open() when the backend's SETTINGS have come. -1: no
    # memory; nothing has changed.
    cdef int adopt(self, Upstream upstream) noexcept

cdef class Dial(Waiter):
    cdef UpstreamHttp2Connection connection
