# A request as filters in Python see it: taken apart where one looks at it, written again where one changed it.
#
#   raw   POST /a?b HTTP/1.1 CRLF  Host: a CRLF  name: value CRLF ...  CRLF       as the engine would send it
#         ^ take_line()            ^ take_fields()                                each when the first of it is asked for
from gwfast.extend.filter_headers cimport Headers

cdef class FilterRequest:
    cdef bytes raw             # the head that came; None: one that nobody sent
    cdef bint line_waits       # to be taken apart
    cdef bint fields_wait
    cdef bint line_changed
    cdef bint fields_changed   # others took their place, or another host that of the one that came
    cdef bint bare             # there was a '?' with nothing behind it
    cdef bint replaced         # the body is one of the filter's
    cdef object _method
    cdef object _path
    cdef object _query
    cdef object _host
    cdef str came_host
    cdef Headers _headers
    cdef object shown          # whom to ask for what is known of it beside its head; None: that was done
    cdef object _peer
    cdef object _tls
    cdef object _route
    cdef object _backends
    cdef object _backend
    cdef object reads          # reads its body: an entry that is given `talk`, or a coroutine function of nothing
    cdef object talk
    cdef public object _body
    cdef public object state

    cdef int comes(self, bytes raw, talk, reads) except -1
    cdef const char *first_line(self) except NULL
    cdef int take_line(self) except -1
    cdef int take_fields(self) except -1
    cdef int take_facts(self) except -1
    cdef int keep(self) except -1
    cdef int keep_host(self) except -1
    cdef bint is_same(self) noexcept
    cdef bytes written(self, bytes body)
    cdef int write_line(self, Headers to) except -1
