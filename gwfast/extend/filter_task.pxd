# A task that runs the filters of one request after the other, as long as none of them waits.
#
#   made -> (its first turn on the loop) parked -> run(): the filter has ended, parked again | the filter waits: used up
#
# asyncio resumes a task on a later turn of its loop; this one is resumed where it is needed, within the call of the engine. What
# a filter sees is a task like any other: current_task(), timeouts, task groups, context variables. A task whose filter waits
# goes on as the task of that request alone, and ends with it.
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

    cdef int note(self) except -1
    cdef int untouched(self) except -1
    cdef object step(self)
