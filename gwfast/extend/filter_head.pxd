# A request's head as filters in Python see it: taken apart where one looks at it, written again where one changed it.
cdef class FilterHead:
    cdef readonly str method
    cdef readonly str path
    cdef readonly str query
    cdef readonly str host
    cdef readonly list fields  # (name, value) of all but Host and what frames the message
    cdef list hop              # of those that the gateway keeps for itself
    cdef bint mark             # there was a '?'

    cdef int take_line(self, const char *at, Py_ssize_t n) except -1
    cdef int take_field(self, const char *at, Py_ssize_t n) except -1
    cdef int same(self, request, list fields) except -1
