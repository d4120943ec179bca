"""The steps of a filter in Python (see filter_steps.pxd).

A coroutine is awaited through its Steps: the event loop resumes those, and they resume the coroutine. Between two steps others
run; within one nobody does, so a step that lasts holds the worker up. The first step may be made before anybody awaits it: most
filters end with it.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from gwfast.engine.counters cimport Counters
from gwfast.engine.sys cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "Python.h":
    enum: PYGEN_RETURN
    int PyIter_Send(object, object, PyObject **) except -1     # a PySendResult: -1 is PYGEN_ERROR
    bint PyCoro_CheckExact(object)
    void Py_XDECREF(PyObject *)


@cython.final
cdef class Steps:
    """Awaits what function(*arguments) returns. `longest`: seconds of the longest step so far.

    counters, place: where it is said that the filter runs (`counters.place`). TypeError where nothing awaitable is returned.
    """

    def __init__(self, Counters counters not None, uint64_t place, function, *arguments):
        self.counters, self.place = counters, place
        self.function, self.arguments = function, arguments

    def start(self) -> bool:
        """Make the first step; say whether it was the last, too: then `value` is what was returned."""
        return self.begin()

    cdef bint begin(self) except -1:
        cdef uint64_t began = self.now(), before = self.counters.totals.running
        cdef int ended
        cdef PyObject *given = NULL
        self.begun, self.counters.totals.running = True, self.place
        try:
            awaitable = self.function(*self.arguments)
            if not PyCoro_CheckExact(awaitable):
                awaitable = self.iterator(awaitable)
            ended = PyIter_Send(awaitable, None, &given)
        finally:
            self.over(before, began)
        self.value = <object>given
        Py_XDECREF(given)
        if ended == PYGEN_RETURN:
            self.ended = True
            return True
        self.inner = awaitable.__await__() if PyCoro_CheckExact(awaitable) else awaitable
        self.started = True
        return False

    def __await__(self):
        cdef uint64_t began, before
        if self.inner is not None:
            return self
        began, before = self.now(), self.counters.totals.running
        self.counters.totals.running = self.place
        try:
            awaitable = self.function(*self.arguments)
        finally:
            self.over(before, began)
        self.inner = self.iterator(awaitable)
        return self

    cdef object iterator(self, awaitable):
        if not hasattr(awaitable, "__await__"):
            raise TypeError(f"{self.function.__qualname__} is no coroutine function: `async def` is needed")
        return awaitable.__await__()

    def __iter__(self):
        return self

    def __next__(self):
        cdef uint64_t began, before
        if self.started:   # what the first step gave
            self.started = False
            value, self.value = self.value, None
            return value
        began, before = self.now(), self.counters.totals.running
        self.counters.totals.running = self.place
        try:
            return next(self.inner)
        finally:
            self.over(before, began)

    def send(self, value):
        """As a generator's: event loops send None alone."""
        return next(self)

    def throw(self, *error):
        """As a generator's: a cancellation, most of the time."""
        cdef uint64_t began = self.now(), before = self.counters.totals.running
        self.counters.totals.running = self.place
        try:
            return self.inner.throw(*error)
        finally:
            self.over(before, began)

    def close(self) -> None:
        """As a generator's."""
        if hasattr(self.inner, "close"):
            self.inner.close()

    cdef uint64_t now(self) noexcept:
        cdef timespec t
        clock_gettime(CLOCK_MONOTONIC, &t)
        return <uint64_t>t.tv_sec * 1000000000 + t.tv_nsec

    cdef void over(self, uint64_t before, uint64_t began) noexcept:
        cdef double took = (self.now() - began) / 1e9
        self.counters.totals.running = before
        if took > self.longest:
            self.longest = took
