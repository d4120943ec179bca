# Runs filters in Python for an engine: what is done for every request. serve.extensions.Host has the rest: it loads filters, and
# goes on with those that wait.
#
#   begin    -> first step -> decide: pass_on() | answer() | fail()         within the engine's call
#                          `-> the filter waits: Host._request(), a task
#   respond  -> first step -> decide_response: respond() | fail()
#                          `-> Host._response(), a task
from gwfast.engine.counters cimport Counters
from gwfast.extend.filter_request cimport FilterRequest
from gwfast.extend.filter_steps cimport Steps
from gwfast.extend.filter_task cimport FilterTask
from gwfast.extend.filter_version cimport FilterEntry, FilterVersion
from gwfast.extend.python_filter cimport PythonFilter

cdef class FilterHost:
    cdef readonly object loop
    cdef readonly Counters counters
    cdef readonly dict entries # id of a definition -> FilterEntry
    cdef FilterTask turn       # what the next filter runs in
    cdef object serve          # the coroutine function of such a task
    cdef type kind             # of requests

    cdef bint ready(self) except -1
    cdef int park(self, FilterTask turn, PythonFilter talk) except -1
    cpdef Steps enter(self, PythonFilter talk, FilterVersion version, FilterRequest request)
    cpdef object decide(self, FilterEntry entry, PythonFilter talk, FilterRequest request, Steps steps, answer)
    cdef int pass_on(self, PythonFilter talk, FilterRequest request) except -1
