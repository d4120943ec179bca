"""When an exchange is to be looked at again (see deadlines.pxd). The functions here are for tests alone."""


def first(request: int, attempt: int, retry: int) -> int:
    """Return the first of these deadlines, in milliseconds; 0: there is none."""
    cdef Deadlines at = Deadlines(request, attempt, retry)
    return first_deadline(&at)


def due(request: int, attempt: int, retry: int, now: int) -> str:
    """Say which of these deadlines has come: 'nothing', 'request', 'retry' or 'attempt'."""
    cdef Deadlines at = Deadlines(request, attempt, retry)
    return {DUE_NOTHING: "nothing", DUE_REQUEST: "request", DUE_RETRY: "retry", DUE_ATTEMPT: "attempt"}[what_is_due(&at, now)]
