# What the writer keeps of a backend and of a rule of the last plan. They refer to nothing that refers to them, and there may be
# very many: the collector does not look at them.
import cython


@cython.final
@cython.no_gc
cdef class BackendBlock:
    def __cinit__(self):
        self.addresses = ()
        self.held = []


@cython.final
@cython.no_gc
cdef class RuleBlock:
    def __cinit__(self):
        self.backends = ()
