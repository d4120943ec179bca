# Counters in shared memory: workers add, the supervisor reads. One memfd, never resized.
#
#   header | worker 0: Totals, RouteCounters x slots, RouteCounters x BACKENDS, FilterCounters x FILTERS | worker 1: ... | health
#
# (each part page-aligned; for health see endpoint_state). A row of a filter in Python is its name's for good, so it counts on
# whatever table comes and whoever takes a dead worker's place; the last one is of those for which there is no row left.
#
# Every cell of a worker is a 64-bit integer with one writer: a reader needs no lock (aligned loads are whole on all targets).
from libc.stdint cimport uint32_t, uint64_t
from gwfast.http.fault cimport FAULTS
from gwfast.upstream.endpoint_state cimport HealthFile, Places

cdef enum:
    MIRRORS = 5            # extend/subrequest.SUBREQUEST_ENDS
    HANDSHAKES = 13        # tls/records.HANDSHAKE_ENDS

cdef enum:
    FILTERS = 1000         # limits.FILTERS_SHOWN
    FILTER_NAME = 320      # 'namespace/name' (63, 1 and 253 characters) and a NUL
    FILTER_COUNTS = 9      # engine/counters.FILTER_COUNTED

cdef enum:
    BUCKETS = 21           # durations; the last one is +Inf
    BACKENDS = 1000        # limits.BACKENDS_SHOWN: rows of backends, the first of all that have none of their own
    NO_ROW = 0xFFFFFFFF

cdef struct Totals:
    uint64_t connections   # accepted
    uint64_t connections_open
    uint64_t connections_refused   # by a cap
    uint64_t requests
    uint64_t requests_open
    uint64_t requests_waiting      # for an endpoint that takes one more
    uint64_t requests_waited       # ever
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t upstream_connects
    uint64_t upstream_connect_errors
    uint64_t upstream_reused
    uint64_t upstream_retries
    uint64_t upstream_open
    uint64_t upstream_idle
    uint64_t endpoint_ejections
    uint64_t tunnels
    uint64_t tls_handshakes        # of clients, that were completed
    uint64_t tls_resumed           # of those
    uint64_t tls_failures
    uint64_t upstream_tls_handshakes
    uint64_t upstream_tls_resumed
    uint64_t http2_connections     # of clients
    uint64_t http2_resets          # streams that clients reset
    uint64_t http2_floods          # connections ended because of what they asked for
    uint64_t udp_sessions
    uint64_t udp_sessions_open
    uint64_t udp_evicted           # for newer ones
    uint64_t udp_moved             # since their endpoints are gone
    uint64_t log_dropped
    uint64_t messages_dropped      # what the process itself, or a filter, said and nobody read
    uint64_t beats                 # of the event loop: one at every tick, as long as it turns
    uint64_t running               # the filter in Python that runs at this moment: its row + 1, and LOADING
    uint64_t table_generation
    uint64_t tables_swapped
    uint64_t bugs
    uint64_t drains                # rounds of the event loop
    uint64_t events
    uint64_t mirrors[MIRRORS]      # copies of requests, by SubrequestEnd
    uint64_t handshakes[HANDSHAKES]    # of clients, that failed, by HandshakeEnd
    uint64_t faults[FAULTS]

cdef struct RouteCounters:
    uint64_t classes[6]    # 1xx .. 5xx, and what got no status
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t duration_us   # sum
    uint64_t buckets[BUCKETS]

cdef struct FilterCounters:
    uint64_t used          # whether it has a name: written behind it
    uint64_t counts[FILTER_COUNTS]
    char name[FILTER_NAME]

cdef struct CounterFile:
    uint64_t magic
    uint32_t workers
    uint32_t slots
    uint64_t stride        # bytes of one worker's part
    uint64_t first         # byte offset of worker 0's part

cdef class Mapped:
    cdef char *base
    cdef size_t size
    cdef CounterFile *header
    cdef HealthFile *health

    cdef char *part(self, uint32_t worker) noexcept    # begins with its Totals
    cdef RouteCounters *routes(self, uint32_t worker) noexcept
    cdef RouteCounters *backends(self, uint32_t worker) noexcept
    cdef FilterCounters *filters(self, uint32_t worker) noexcept

cdef class Pulse:
    cdef Mapped mapped

cdef class Counters:
    cdef Mapped mapped
    cdef Totals *totals
    cdef HealthFile *health
    cdef Places *places    # this worker's
    cdef RouteCounters *routes
    cdef RouteCounters *backends
    cdef FilterCounters *filters
    cdef uint32_t slots
    # backend: its row, NO_ROW where none was chosen; until: microseconds until the response began, 0 where none did.
    cdef void count(self, uint32_t slot, uint32_t backend, unsigned int status, uint64_t bytes_in, uint64_t bytes_out,
                    uint64_t micros, uint64_t until) noexcept
