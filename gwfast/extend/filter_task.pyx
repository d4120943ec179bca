"""A task for filters that do not wait (see filter_task.pxd).

Rules
- The FilterTask is itself what its task awaits between two requests: it has what asyncio asks of a future, and keeps the function
  with which a future would resume the task.
- It is parked only while its task is as good as new: nobody has kept a reference to the task, a callback on it, a name, a
  cancellation or a context variable. A task that was touched ends, so that who waits for its end hears of it.
- It is used only where a new task would begin with the same context variables.
"""
cimport cython
from cpython.ref cimport PyObject

from asyncio import current_task
from asyncio.tasks import _enter_task, _leave_task
from contextvars import copy_context
from weakref import getweakrefcount

from gwfast.extend.filter_steps cimport Steps

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1


cdef int has(context, dict variables) except -1:
    """Whether these are its variables, and their values the same objects."""
    if len(context) != len(variables):
        return False
    for variable, value in variables.items():
        if context.get(variable, variables) is not value:
            return False
    return True


@cython.final
cdef class FilterTask:
    """serve(self): the coroutine of the task; it awaits this, and runs `job`; None: it ends."""

    def __init__(self, loop, serve):
        self.loop, self.context = loop, copy_context()
        self.variables = dict(self.context.items())
        self.task = loop.create_task(serve(self), context=self.context)
        self.task._log_destroy_pending = False  # it is parked for as long as the worker lives
        self.name = self.task.get_name()

    # -- what a task asks of what it awaits ----------------------------------------------------------------------------

    def __await__(self):
        self.asked = False
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.asked:
            raise StopIteration
        self.asked = self._asyncio_future_blocking = True
        return self

    def get_loop(self):
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        self.resume = callback

    def cancel(self, msg=None):
        """The task keeps the cancellation until it is resumed."""
        return False

    def result(self):
        return None

    # -- what the host does with it ------------------------------------------------------------------------------------

    @property
    def parked(self) -> bool:
        """Whether it waits for something to run."""
        return self.resume is not None

    @property
    def ready(self) -> bool:
        """Whether it is parked, and what a new task would be here."""
        return self.is_ready()

    cdef bint is_ready(self) except -1:
        if self.resume is None or not has(PyContext_CopyCurrent(), self.variables):
            return False
        if self.references == 0:
            self.note()
        return True

    def first(self, Steps steps not None) -> bool:
        """Make the first step of what is to run; say whether it was the last. Raises what that raised."""
        return self.begin(steps)

    cdef bint begin(self, Steps steps) except -1:
        current = self.enter()
        _enter_task(self.loop, self.task)
        try:
            return steps.begin()
        finally:
            _leave_task(self.loop, self.task)
            self.leave(current)

    def park(self):
        """Be parked again behind a first step that was the last, or end where it was touched.

        Returns the context where the step has set a variable in it, else None.
        """
        if self.untouched():
            return None
        changed = None if has(self.context, self.variables) else self.context
        self.end()
        return changed

    def go_on(self, function, *arguments):
        """Let the task run a coroutine function, behind a first step that was not the last; return it."""
        self.job, self.used = (function, arguments), True
        self.step()
        self.job = None
        return self.task

    def end(self) -> None:
        """Let the task end, which is parked or will be."""
        self.job = None
        if self.resume is None:
            self.task.cancel()
        else:
            self.step()
            self.resume = None

    cdef object step(self):
        """Resume the task until it is parked again, waits or has ended."""
        resume, self.resume = self.resume, None
        current = self.enter()
        try:
            resume(self)
        finally:
            self.leave(current)
        return None

    cdef object enter(self):
        """Let no task be the current one, in the context of this; return the one that was."""
        current = current_task(self.loop)
        if current is not None:
            _leave_task(self.loop, current)
        PyContext_Enter(self.context)
        return current

    cdef int leave(self, current) except -1:
        PyContext_Exit(self.context)
        if current is not None:
            _enter_task(self.loop, current)
        return 0

    cdef int note(self) except -1:
        self.references, self.weak = Py_REFCNT(<PyObject *>self.task), getweakrefcount(self.task)
        return 0

    cdef int untouched(self) except -1:
        return (Py_REFCNT(<PyObject *>self.task) == self.references and not self.task._callbacks and not self.task.cancelling()
                and getweakrefcount(self.task) == self.weak and self.task.get_name() is self.name
                and has(self.context, self.variables))
