# ExternalAuth over HTTP (spec 5.5): an authorizer is asked before a request goes on.
#
#   Authorizers     makes and keeps Authorizations; gateway.authorizers
#   Authorization   the Hold of one request: collects the body if it is to be shown, asks, lets pass or denies
#   Question        the Call it asks with; gives what the authorizer says to its Authorization
#
#   start -> (more: until the body is there) -> ask -> got_head: 200 makes the new head, else what is denied with is kept
#         -> finished: the request goes on with the new head, or the client gets the authorizer's answer
#
# Whatever goes wrong is 403 (fails closed). An Authorization and its Question let go of each other before either is used again.
from libc.stdint cimport uint32_t
from gwfast._call cimport Call, Calls
from gwfast._exchange cimport Exchange, Gateway, Hold, Holds
from gwfast._loop cimport Buf
from gwfast._table cimport Authorizer, Image, Op

cdef class Authorizers(Holds):
    cdef Calls calls
    cdef Authorization spare
    cdef Question question(self)
    cdef void forget(self) noexcept      # all that refer to it

cdef class Authorization(Hold):
    cdef Authorization next_spare
    cdef Authorizers home
    cdef Question question     # that is under way; None: not yet, or answered
    cdef const Authorizer *rule
    cdef Buf made              # 200: the head as it goes on; else the head of the denial
    cdef Buf body              # of the denial
    cdef bint passes
    cdef bint long             # the denial's body is more than is kept

    cdef void ask(self) noexcept
    cdef int write(self, Buf *to, uint32_t n) noexcept
    cdef void answered(self) noexcept
    cdef int let_pass(self) noexcept
    cdef int keep_denial(self) noexcept
    cdef void finished(self, int end) noexcept
    cdef void deny(self) noexcept
    cdef void store(self) noexcept

cdef class Question(Call):
    cdef Authorization owner   # None: nobody waits for the answer
