# A task that runs the filters of one request after the other, as long as none of them waits.
#
#   made -> (its first turn on the loop) parked -> first(): the filter has ended, park() | it waits: go_on(), used up
#
# asyncio resumes a task on a later turn of its loop. A filter's first step is made where it is needed, within the call of the
# engine, while this task is the current one; it is resumed only where that step was not the last. What a filter sees is a task
# like any other: current_task(), timeouts, task groups, context variables. A task whose filter waits goes on as the task of that
# request alone, and ends with it.
from gwfast.extend.filter_steps cimport Steps

cdef class FilterTask:
    cdef object loop
    cdef object context        # contextvars.Context of the task
    cdef dict variables        # what it says where nobody has set anything
    cdef readonly object task
    cdef readonly object job   # (coroutine function, arguments) that is run next; None: the task is to end
    cdef readonly bint used    # its filter waits
    cdef object resume         # what resumes the task; None: it is not parked
    cdef object name           # of the task
    cdef Py_ssize_t references # to the task, while it is parked and nobody else knows it
    cdef Py_ssize_t weak
    cdef bint asked            # the task awaits this
    cdef public bint _asyncio_future_blocking

    cdef bint is_ready(self) except -1
    cdef bint begin(self, Steps steps) except -1
    cdef object enter(self)
    cdef int leave(self, current) except -1
    cdef int note(self) except -1
    cdef int untouched(self) except -1
    cdef object step(self)
