# The way of a connection, or of a client's datagrams, that is not HTTP: rule, backend, endpoint; what is counted and logged.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast.exchange.exchange cimport Gateway
from gwfast.exchange.mapped_table cimport MappedTable
from gwfast.table.layout cimport Backend, Bind, Endpoint, Image, Listener, Rule
from gwfast.tls.records cimport Session
from gwfast.upstream.pool cimport State

cdef class Flow:
    cdef Gateway gateway
    cdef MappedTable table
    cdef const Listener *listener
    cdef const Rule *rule
    cdef const Backend *backend
    cdef State *state          # of the endpoint; what it has outstanding counts this one
    cdef uint32_t chosen
    cdef uint32_t attempts
    cdef uint64_t started_us
    cdef uint64_t bytes_in
    cdef uint64_t bytes_out
    cdef uint8_t fault

    # Finds the rule for a name ('' but for TLS) and picks a backend. 0, or the fault: nobody is there to be sent to.
    cdef int find(self, const Bind *bind, const char *name, uint32_t n) noexcept
    cdef State *next(self) noexcept        # the endpoint to try, another one each time; NULL: there is none (left)
    cdef void leave(self) noexcept         # the endpoint has one less
    # Of what has no name: goes on in the table of now, where this bind still leads to its endpoint; False: it does not.
    cdef bint renew(self, const Bind *bind) noexcept
    cdef bint enter(self, const Endpoint *endpoint, const Backend *backend) noexcept
    cdef uint32_t place_in(self, const Image *image, uint32_t backend) noexcept
    cdef bint may_move(self) noexcept      # its endpoint is out (BackendPolicy), and another one serves
    # Counts and logs. tls: the client's, where it ended here.
    cdef void end(self, const char *client, uint8_t client_n, const char *name, uint32_t n, Session tls) noexcept
