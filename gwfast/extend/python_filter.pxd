# Filters in Python (gwfast.filters): the filter of one request, and what it may do with it.
#
#   PythonFilters makes them; gateway.extensions. `host` (serve.extensions.Host) runs what is Python
#   PythonFilter  one request and one filter: asked while on_request runs, and where on_response is wanted, kept by its
#                 exchange (`response_filters`) until the end
#
#   start       -> host.begin() -> ... pass_on() | answer() | fail()
#   on_response -> host.respond() -> ... respond() | fail()    the response's head waits meanwhile, and its body in the kernel
#   body_part   -> change(piece, last)                         each piece of its body, where somebody watches
#
# A filter that waits runs between two rounds of the engine; its first step, and so most filters as a whole, within begin() or
# host.respond(), and change() too, in the middle of one: nothing that is called there calls the engine (`deciding`).
from libc.stdint cimport uint64_t
from gwfast.engine.loop cimport Buf
from gwfast.exchange.exchange cimport Exchange, Gateway, RequestFilter, RequestFilters
from gwfast.extend.filter_request cimport FilterRequest
from gwfast.extend.filter_version cimport FilterVersion
from gwfast.http.head cimport ResponseHead

cdef enum:
    UNDECIDED = 0
    PASSES
    ANSWERS
    RESPONDS
    FAILS

cdef class PythonFilters(RequestFilters):
    cdef Gateway gateway
    cdef public object host        # None: no filter can be asked

cdef class PythonFilter(RequestFilter):
    cdef PythonFilters home
    cdef readonly uint64_t id      # of the filter
    cdef public FilterRequest request  # what on_request was shown, for on_response
    cdef public FilterVersion version  # what it has entered; None: none, or left
    cdef public object task        # what runs for it: cancelled where the exchange ends
    cdef public object change      # change(piece, last) -> bytes; None: nobody watches
    cdef public object waiter      # a future that waits for the body
    cdef bytes last                # what change() returned
    cdef uint64_t most             # bytes of body that are waited for
    cdef readonly bint deciding    # the host runs, and has not returned yet
    cdef bint listens              # the response is to be shown, too
    cdef int decision              # what the host has decided meanwhile, and with what:
    cdef int number                # PASSES: the choice; FAILS: the status
    cdef object given_head
    cdef object given              # PASSES, ANSWERS: the body; RESPONDS: change()
    cdef public object context     # with variables that the filter has set: what is decided is done there; None: none

    cpdef bytes head(self)
    cpdef object pass_on(self, bytes head, bytes body, int choice, bint listens)
    cdef int decided(self) except -1
    cdef tuple reply_lines(self, const ResponseHead *head)
    cdef void carry_out(self, int decision) noexcept
    cdef void decide(self, int decision, head, given, int number) noexcept
    cdef void undecided(self, error) noexcept
    cdef void let_pass(self, bytes head, bytes body, int choice) noexcept
    cdef int replace(self, Buf *buf, bytes by) noexcept
    cdef void answer_with(self, bytes head, bytes body) noexcept
    cdef void reply_goes_on(self, bytes head, change) noexcept
    cdef void fail_with(self, int status) noexcept
    cdef bint begun(self) noexcept
    cdef void ended(self) noexcept
    cdef void broken(self) noexcept
    cdef bint arrived(self) noexcept
    cdef void told(self, error) noexcept
    cdef void leave(self) noexcept
