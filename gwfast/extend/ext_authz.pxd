# ExternalAuth (spec 5.5): an authorizer is asked before a request goes on, over HTTP or over gRPC (check_request,
# check_response).
#
#   Authorizers     makes and keeps Authorizations; gateway.authorizers
#   Authorization   the filter of one request: collects the body if it is to be shown, asks, lets pass or denies
#   Question        the Call it asks with; gives what the authorizer says to its Authorization
#
#   start -> (more: until the body is there) -> ask -> got_head: 200 makes the new head, else what is denied with is kept
#         -> finished: the request goes on with the new head, or the client gets the authorizer's answer
#
# Over gRPC what is answered is a message, read in finished (judge). Where that has something for the response, the Authorization
# keeps it and is shown the response (response_filters.add_response_filter): its on_response() makes the response's new head.
#
# Whatever goes wrong is 403 (fails closed). An Authorization and its Question let go of each other before either is used again.
from libc.stdint cimport uint32_t
from gwfast.extend.subrequest cimport Subrequest, Subrequests
from gwfast.exchange.exchange cimport Exchange, Extras, Gateway, RequestFilter, RequestFilters
from gwfast.extend.check_request cimport CheckRequest
from gwfast.engine.loop cimport Buf
from gwfast.table.layout cimport Authorizer, Image, Op
from gwfast.extend.check_response cimport CheckResponse

cdef class Authorizers(RequestFilters):
    cdef Subrequests calls
    cdef Authorization spare
    cdef CheckResponse verdict       # what was read last
    cdef Question question(self)
    cdef void forget(self) noexcept      # all that refer to it

cdef class Authorization(RequestFilter):
    cdef Authorization next_spare
    cdef Authorizers home
    cdef Question question     # that is under way; None: not yet, or answered
    cdef const Authorizer *rule
    cdef Buf made              # 200: the head as it goes on; else the head of the denial
    cdef Buf body              # of the denial; over gRPC the answer
    cdef int status            # of gRPC; -1: not told
    cdef bint passes
    cdef bint long             # the denial's body is more than is kept

    cdef void ask(self) noexcept
    cdef int write(self, Buf *to, uint32_t n) noexcept
    cdef int write_call(self, Buf *to, Buf *message, uint32_t n) noexcept
    cdef void describe(self, CheckRequest *asked, uint32_t n) noexcept
    cdef int judge(self) noexcept
    cdef int change_request(self) noexcept
    cdef int word_denial(self) noexcept
    cdef void answered(self) noexcept
    cdef int let_pass(self) noexcept
    cdef int keep_denial(self) noexcept
    cdef void finished(self, int end) noexcept
    cdef void deny(self) noexcept
    cdef void store(self) noexcept

cdef class Question(Subrequest):
    cdef Authorization owner   # None: nobody waits for the answer
    cdef int status            # of gRPC; -1: not told
    cdef void told(self, const char *name, uint32_t name_n, const char *value, uint32_t n) noexcept
