"""Runs filters in Python for an engine (see filter_host.pxd).

Rules
- A filter's first step is made at once, in a task that others have used before it (filter_task); most filters end with it.
- What a filter raises is told, and fails its own request at most.
"""
from cpython.object cimport PyObject, PyTypeObject

from asyncio import CancelledError

from gwfast import sendable
from gwfast.engine import counters as shared
from gwfast.sendable import InvalidValueError

FAILURES = (Exception, SystemExit, CancelledError)     # one that cancels itself has failed

cdef tuple NOTHING = ()
cdef int REQUESTS = shared.FILTER_COUNTED.index("requests")


cdef class FilterHost:
    """serve: the coroutine function of a FilterTask; kind: of requests, a FilterRequest."""

    def __init__(self, loop, Counters counters not None, serve, type kind not None):
        self.loop, self.counters, self.serve, self.kind = loop, counters, serve, kind
        self.entries = {}

    # -- what the engine calls -----------------------------------------------------------------------------------------

    def begin(self, PythonFilter talk not None):
        """Show a request to its filter. None: what becomes of it is decided, and `talk` was told; else the task that goes on."""
        cdef FilterEntry entry = self.entries[talk.id]
        cdef FilterVersion version = entry.version
        cdef FilterRequest request = (<PyTypeObject *>self.kind).tp_new(self.kind, <PyObject *>NOTHING, NULL)
        cdef FilterTask turn
        cdef Steps steps
        request.comes(talk.head(), talk, entry)
        talk.request = request
        self.counters.filters[entry.row].counts[REQUESTS] += 1
        if version is None or not self.ready():
            return self.keep(self.loop.create_task(self._request(entry, talk, request, None)))
        turn, self.turn = self.turn, None
        steps = self.enter(talk, version, request)
        try:
            if not turn.begin(steps):
                self.turn = FilterTask(self.loop, self.serve)
                return self.keep(turn.go_on(self._request, entry, talk, request, steps))
        except FAILURES as error:
            self.failed(entry, talk, error)
        else:
            self.decide(entry, talk, request, steps, steps.value)
        self.park(turn, talk)
        return None

    def respond(self, PythonFilter talk not None, int status, bytes lines not None, bytes more not None):
        """Show the response to it, too: its fields, and the lines that say how long it is. As begin()."""
        cdef FilterVersion version = talk.version
        cdef FilterTask turn
        cdef Steps steps
        if version is None:
            return None
        came = (status, lines, more)
        response = self.response(status, lines)
        steps = Steps(self.counters, version.loaded.place, version.made.on_response, talk.request, response)
        if not self.ready():
            return self.keep(self.loop.create_task(self._response(version.loaded, talk, response, steps, came)))
        turn, self.turn = self.turn, None
        try:
            if not turn.begin(steps):
                self.turn = FilterTask(self.loop, self.serve)
                return self.keep(turn.go_on(self._response, version.loaded, talk, response, steps, came))
        except FAILURES as error:
            self.response_failed(version.loaded, talk, error, came)
        else:
            self.decide_response(version.loaded, talk, response, steps, came)
        self.park(turn, talk)
        return None

    # -- the task that is used again -----------------------------------------------------------------------------------

    cdef bint ready(self) except -1:
        """Whether a first step can be made at once; if not, that is seen to."""
        cdef FilterTask turn = self.turn
        if turn is not None and turn.is_ready():
            return True
        if turn is None or turn.resume is not None or turn.task.done():
            if turn is not None:
                turn.end()     # it would show the variables of another context
            self.turn = FilterTask(self.loop, self.serve)
        return False

    cdef int park(self, FilterTask turn, PythonFilter talk) except -1:
        """Let the task be used again, behind a first step that was the last."""
        context = turn.park()
        self.turn = turn if turn.resume is not None else FilterTask(self.loop, self.serve)
        talk.context = context
        return 0

    # -- what becomes of a request -------------------------------------------------------------------------------------

    cpdef Steps enter(self, PythonFilter talk, FilterVersion version, FilterRequest request):
        """Begin with a version of the filter."""
        version.inside += 1
        talk.version = version
        return Steps(self.counters, version.loaded.place, version.on_request, request)

    cpdef object decide(self, FilterEntry entry, PythonFilter talk, FilterRequest request, Steps steps, answer):
        """Do what the filter, which has ended, wants done with its request."""
        try:
            if steps.longest > entry.timeout:
                entry.blocked(steps.longest)
            if answer is not None:
                talk.answer(*self.answered(answer))
            else:
                self.pass_on(talk, request)
        except FAILURES as error:
            self.failed(entry, talk, error)

    cdef int pass_on(self, PythonFilter talk, FilterRequest request) except -1:
        cdef bytes body = request._body if request.replaced else None
        cdef int choice = -1
        if request._backend != "":
            choice = sendable.place_of(request._backend, request.backends)
        if body is not None and not (talk.exchange is not None and talk.exchange.requested):
            raise InvalidValueError("replace_body() needs the whole body to be there: await request.body() first")
        if talk.exchange is not None and talk.exchange.extras.prerouting:
            request.keep_host()        # which listener it came to is decided (gateway_types.go, ListenerFilters)
        talk.pass_on(request.written(body), body, choice, talk.version is not None and talk.version.listens)
        return 0
