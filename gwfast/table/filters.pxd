# The filters of rules and backendRefs.
from libc.stdint cimport uint8_t, uint32_t
from gwfast.table.backends cimport Backends
from gwfast.table.blocks cimport RuleBlock
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport Span

cdef class Filters:
    cdef object registry
    cdef Sections sections
    cdef Texts texts
    cdef Backends backends
    # Writes filters, in order; adds to the flags of their rule what they need. crossed: a CORS filter of the rule is there
    # already. sessions: whose tokens responses say there, or None.
    cdef int write(self, tuple filters, RuleBlock block, Span *span, uint32_t *flags, bint crossed, object sessions) except -1
    cdef uint32_t write_mirror(self, object item, RuleBlock block) except? 0
    cdef uint32_t write_authorizer(self, object item, RuleBlock block) except? 0
    cdef uint32_t write_extension(self, object item, RuleBlock block) except? 0
    cdef int write_headers(self, object item, object without) except -1
    cdef uint32_t write_cors(self, object item) except? 0
    cdef int write_origin(self, str origin) except -1
    cdef int write_rewrite(self, object item) except -1
    cdef uint32_t write_redirect(self, object item) except? 0
    cdef int put_op(self, uint8_t kind, uint32_t number, str name, str value) except -1
