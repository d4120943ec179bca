# Filters in Python (gwfast.filters): the Hold of a request that one looks at, and what it may do with it.
#
#   PythonFilters    makes Conversations; gateway.extensions. `host` (serve.extensions.Host) runs what is Python
#   PythonFilter  one request and one filter: the Hold while on_request runs, and where on_response is wanted, kept by its
#                 exchange (`interest`) until the end
#
#   start -> host.begin() -> ... pass_on() | answer() | fail()
#   reply -> host.respond() -> ... respond() | fail()    the response's head waits meanwhile, and its body in the kernel
#   piece -> change(piece, last)                         each piece of its body, where somebody watches
#
# What is Python runs between two rounds of the engine, never in the middle of one, but for begin(), host.respond() and change().
from libc.stdint cimport uint64_t
from gwfast.exchange.exchange cimport Exchange, Gateway, Hold, Holds

cdef class PythonFilters(Holds):
    cdef Gateway gateway
    cdef public object host        # None: no filter can be asked

cdef class PythonFilter(Hold):
    cdef PythonFilters home
    cdef readonly uint64_t id      # of the filter
    cdef public object request     # what on_request was shown, for on_response
    cdef public object version     # serve.extensions.Version that it has entered; None: none, or left
    cdef public object task        # what runs for it: cancelled where the exchange ends
    cdef public object change      # change(piece, last) -> bytes; None: nobody watches
    cdef public object waiter      # a future that waits for the body
    cdef bytes last                # what change() returned
    cdef uint64_t most             # bytes of body that are waited for

    cdef bint begun(self) noexcept
    cdef void ended(self) noexcept
    cdef void broken(self) noexcept
    cdef bint arrived(self) noexcept
    cdef void told(self, error) noexcept
    cdef void leave(self) noexcept
