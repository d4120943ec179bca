# One request from its head to its answer's last byte, between a client (any protocol) and an upstream.
#
#   phase of the request      client                        exchange                      upstream
#   begin                     head parsed, rule found       filters, pick, head written   -
#   collect                   body bytes of the same read   kept beside the head          -
#   launch                    -                             endpoint chosen               pooled, or connecting
#   send                      reads on while nothing waits  data() passes bytes on        takes head and body
#   reply                     takes head and body           response read and framed      is read while nothing waits
#   finish                    told whether to go on         counted, logged, reused       parked or closed
#
# Rules
# - The head for the upstream stays in `request` until the end, and the part of the body that came with it in `early`, with all
#   of it so far that a stream was sent, or that a policy may want again (`keeping`), up to RETRY_BODY: they can be sent again as
#   long as nothing else was (`streamed`).
# - Another attempt (retry.may_resend(), policy.retry()) is made only while the client has got nothing of a response, and only of
#   what is kept. may_resend(): unnoticed, at once, RESENT times at most, so that there are CONNECT_ATTEMPTS in all; within the
#   time that its answer may take. Of any method where nobody has looked at it: HTTP/2 said so (RFC 9113 8.7), or the backend's
#   end acknowledges nothing of it. Of an idempotent one (RFC 9110 9.2.2) where its connection ended before a byte of the
#   response; not where its rule has a `retry`, but for a connection from the pool, which says nothing of its endpoint.
#   retry(): what the rule's `retry` says, which then counts ends too, of any method: its attempts, its backoff, its budget.
#   Before each, look_again(): the endpoints are those of the newest table. awaits_another(): where none takes a connection, and
#   one had just answered, the next table is waited for, since EndpointSlices come behind the end of a Pod.
# - Whoever reads stops reading while the other side has bytes waiting, so one direction never holds more than one read.
# - A body with a length that fills whole reads, between two sockets in clear, goes by splice(2) but for its last part.
# - What a rule asks beyond that (filters, mirrors, limits of time, another attempt, a session, a turn in a queue) is in `extras`,
#   which a plain request does not have.
# - finish() is the last thing that happens to an exchange: callers return at once.
#
# A rule with request filters (RULE_REQUEST_FILTERS) has a chain before the launch:
#   begin                     the ops before the first of them are applied, and the head is written to `request`
#   launch                    the filter is asked; body bytes wait in `early` meanwhile, `keep` of them at most
#   filter_passed             `request`, as the filter left it, is read again; the ops that follow are applied; the next is
#                             asked, or a backend is chosen and the request sent
# Those of the backendRef follow in the same way, once it is chosen. Those of the listener (Listener.front) come before all of it,
# as the ops of a rule that has no backends (`prerouting`): the rule is chosen for what they made of the request.
#
# Where each part is written
#   exchange (here)           what everybody sees of an exchange, on one page; forwarding has the class that acts
#   forwarding                a request and its response, phase by phase: the hot path
#   request_head              the head for the backend; CORS, redirects
#   request_filters, response_filters, mirrors     who is asked, shown, sent a copy
#   deadlines, retry          what is due, whether to try again: pure
#   policy                    alarms and attempts of a rule
#   placement                 the endpoint of a session, a turn in a queue, the endpoints of a newer table
#   access_record             what the log says
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from gwfast._match cimport Found
from gwfast._pick cimport PickState
from gwfast.engine.access_log cimport AccessLog
from gwfast.engine.address cimport Networks
from gwfast.engine.counters cimport Counters
from gwfast.engine.loop cimport Buf, Loop, Peer
from gwfast.engine.timer cimport Timer
from gwfast.exchange.deadlines cimport Deadlines
from gwfast.exchange.mapped_table cimport MappedTable
from gwfast.exchange.session cimport Remembered
from gwfast.extend.subrequest cimport Subrequest, Subrequests
from gwfast.http.body cimport Body
from gwfast.http.forwarded cimport Source
from gwfast.http.head cimport HeadLimits, RequestHead, ResponseHead, Slice
from gwfast.http.header_writer cimport Ops
from gwfast.table.layout cimport Backend, Bind, Choice, Endpoint, Image, Listener, Op, Policy, Rule
from gwfast.tls.records cimport Session
from gwfast.upstream.pool cimport State, Upstream, Upstreams, Waiter

cdef enum:
    FACTS = 6
    ATTEMPTS = 3           # limits.CONNECT_ATTEMPTS
    NONE = 0xFFFFFFFF
    FOREVER_MS = 1000000000    # 11 days
    SEND_MIRRORS = 0xFFFFFFFE  # in `filter_at`: no filter is left, but mirrors get the request at the launch

cdef class Gateway:        # what every connection of a worker shares
    cdef Loop loop
    cdef Timer timer
    cdef Counters counters
    cdef Upstreams upstreams
    cdef AccessLog log
    cdef MappedTable table
    cdef PickState picks
    cdef RequestHead head      # room for a request's, while it is begun
    cdef ResponseHead reply    # room for a response's, while it is read
    cdef HeadLimits limits
    cdef PyObject *spare       # exchanges to use again, and Extras, linked by `next_spare`: the list has a reference to each
    cdef PyObject *spare_extras
    cdef RequestFilters authorizers    # of OP_AUTHORIZE
    cdef RequestFilters extensions     # of OP_EXTENSION
    cdef Subrequests calls     # of OP_MIRROR
    cdef bytes session_key     # of the tokens of sessions, TOKEN_KEY bytes
    cdef Networks trusted      # whose X-Forwarded-* are believed
    cdef Buf stated            # the lines that were stated of the client of a request, while it is begun
    cdef bytes via
    cdef bint request_id
    cdef bint draining
    cdef uint64_t response_ms
    cdef uint64_t stream_ms        # without a byte either way, once the response has begun
    cdef uint64_t tunnel_ms
    cdef Exchange exchange(self)
    cdef void forget_spares(self) noexcept     # those that refer to it, and to each other

cdef class Alarm(Peer):        # what an exchange has on the wheel
    cdef Exchange exchange     # None while it has no deadline: its Extras keep it

cdef class RequestFilter:      # keeps one request from its backend: asks an authorizer, runs a filter in Python
    cdef Exchange exchange     # None once it is over

    # May at once let the request pass (request_filters.filter_passed) or end the exchange.
    cdef void start(self) noexcept
    cdef void more(self) noexcept        # more of the body came into exchange.early, or all of it
    cdef void drop(self) noexcept        # the exchange is over: nobody may be called any more
    # Of those that are shown the response too (response_filters.add_response_filter): its head, to be followed by
    # response_filters.response_filtered(); then each part of its body, which may be exchanged for another that lives until the
    # next one. -1: the response is cut.
    cdef void on_response(self, const ResponseHead *head) noexcept
    cdef int body_part(self, const char **at, size_t *n, bint end) noexcept

cdef class RequestFilters:     # makes those of one kind
    cdef RequestFilter filter(self, Exchange exchange, const Op *op)     # None: cannot be asked, which is 500

cdef class Downstream(Peer):   # the client's side of an exchange
    cdef Gateway gateway
    cdef Exchange exchange
    cdef char address[46]
    cdef uint8_t address_n
    cdef uint8_t trusted
    cdef uint8_t https
    cdef uint64_t listener_id  # of the listener that its SNI chose; 0 in clear
    cdef bytes certificate     # what backends are told of the one that it showed; None: nothing

    # The response's head and the first part of its body (n bytes; `end`: all of it). -1: the client is gone.
    cdef int respond(self, const ResponseHead *head, const Ops *ops, const char *at, size_t n, bint end) noexcept
    cdef int inform(self, const ResponseHead *head) noexcept             # a 1xx that goes on
    cdef int data(self, const char *at, size_t n, bint end) noexcept
    cdef int trailers(self, const char *at, size_t n) noexcept           # raw lines; ends the body
    cdef int answer(self, int status, const Ops *ops, const char *location, size_t n) noexcept
    cdef int descriptor(self) noexcept   # of its connection
    cdef Session session(self)           # of its connection; None in clear
    cdef void resume(self) noexcept      # the upstream takes more of the request
    cdef void done(self, bint keep) noexcept
    cdef void abort(self) noexcept       # the response cannot be completed

cdef class Extras:         # what plain requests never need; with its exchange from enter() to finish(), then with its gateway
    cdef PyObject *next_spare
    # what the response is told beyond its own fields
    cdef Buf added             # what a CORS filter and the session say to it: lines of `ops`
    cdef Remembered session    # that the request belongs to
    # request filters
    cdef RequestFilter request_filter      # who is asked now
    cdef Found found           # what was found for the request, and
    cdef const Bind *bound     # on which bind
    cdef uint32_t filter_at    # the op that is asked, among `ops`; NONE: none
    cdef uint32_t prefer       # the choice of a filter or of the session, among the rule's; NONE: pick
    cdef uint32_t keep         # bytes of body that may wait before the launch
    cdef bint prerouting       # the listener's own filters are asked: no rule is chosen yet
    # mirrors
    cdef Subrequest mirrors    # that get a copy of it, linked by `next`
    # limits of time, and another attempt
    cdef const Policy *policy  # what the rule says of them; NULL: nothing
    cdef Alarm alarm           # None: there was no need of one yet
    cdef Deadlines deadlines
    cdef uint64_t replaced_until   # until when it waits for who replaces its endpoints; 0: it does not
    cdef uint16_t retries
    # the place of the session, and the queue
    cdef bint waits_for_session    # 's endpoint alone
    cdef const Endpoint *granted   # by a queue; NULL: none
    # response filters
    cdef list response_filters     # those that are shown the response; the last one is asked first. None: there are none
    cdef uint32_t response_filters_asked
    cdef Buf filtered_head     # the response's head as they left it
    cdef Buf kept              # of a stream: what has come of its body while they are asked
    cdef bint kept_end
    cdef bint paused           # they are asked: nothing is read of the response
    cdef bint at_once          # and whoever answers at once need not go on with it

cdef class Exchange(Waiter):
    cdef PyObject *next_spare
    cdef Gateway gateway
    cdef Downstream client
    cdef MappedTable table
    cdef MappedTable newer           # which has its backend's endpoints; None: `table` does
    cdef const Image *image    # of its backend and endpoints
    cdef Upstream upstream
    cdef State *state
    cdef Extras extras         # None: a plain request
    cdef Ops ops
    cdef Source source         # where the peer is trusted: of whom it speaks
    cdef Buf request           # the head for the upstream, as HTTP/1.1 has it
    cdef Buf early             # what came of the body before the launch, and behind it a trailer section
    cdef Buf facts             # what the log needs of the head; empty where there is no log
    cdef uint32_t facts_n[FACTS]   # method, target, host, agent, referer, request id, one behind the other
    cdef Body body             # of the response
    cdef uint64_t started_us
    cdef uint64_t response_ms  # that its head may take
    cdef uint32_t serial       # changes when the exchange ends: what to compare after a call that may end it
    cdef uint8_t method_id
    cdef uint8_t minor
    cdef bint chunked          # the request's body is passed on in chunks
    cdef bint upgrade
    # All of these are 0 before it begins (reset).
    cdef const Listener *listener
    cdef const Rule *rule
    cdef const Choice *choice
    cdef const Backend *backend
    cdef uint64_t replied_us
    cdef uint64_t bytes_in
    cdef uint64_t bytes_out
    cdef uint64_t id[2]        # the request id that the gateway made; 0: none
    cdef uint32_t seen         # bytes of a partial head that were looked at
    cdef uint32_t attempts     # to find an endpoint that takes it
    cdef uint32_t tried        # endpoints, one after the other, in all
    cdef uint32_t informed     # 1xx that went on
    cdef uint32_t early_body   # bytes of `early` that are body
    cdef uint16_t status
    cdef uint8_t fault
    cdef uint8_t connect_fault     # why the last endpoint could not be connected to
    cdef uint8_t resent        # how often, unnoticed by the client
    cdef bint requested        # the whole request went to the upstream (or into `early`)
    cdef bint fresh            # it goes on a connection that nobody has used yet
    cdef bint streamed         # more than `request` and `early` went to the upstream
    cdef bint launched
    cdef bint replied          # the final head went to the client
    cdef bint keeping          # all of the body so far is in `early`, also what was sent: it may be wanted again
    cdef bint was_good         # one of those that refused it had just answered
    cdef bint keep_upstream
    cdef bint tunnel
    cdef bint client_ended     # tunnels
    cdef bint upstream_ended
    cdef uint32_t chosen       # endpoint, as an index into the backend's; NO_BACKEND: none yet
    cdef uint32_t avoid        # the endpoint that failed it just now; NO_BACKEND: none

    # Whom it is from, and whether that one speaks TLS: what a trusted peer says of its client, else the peer itself.
    cdef Slice client_address(self) noexcept
    cdef bint secure(self) noexcept

    # What acts is in forwarding.
    # Find the rule for `head` and write the backend's. 0: collect and launch; 1: it is over already.
    cdef int begin(self, Downstream client, const Bind *bind, RequestHead *head) noexcept
    # As begin(): go the way of the rule that was found (`result` is find()'s); choose a backend, behind the first `since` ops.
    cdef int enter(self, RequestHead *head, const Found *found, const Bind *bind, int result) noexcept
    cdef int choose_backend(self, RequestHead *head, const Found *found, const Bind *bind, uint32_t since,
                            uint32_t prefer) noexcept
    # the request
    cdef bint wants(self) noexcept       # more of the request's body may be read
    cdef void request_data(self, const char *at, size_t n, bint end) noexcept
    cdef bint carries(self, Peer source) noexcept
    cdef ssize_t request_carried(self, Peer source) noexcept
    cdef void request_trailers(self, const char *at, size_t n) noexcept
    cdef void launch(self) noexcept
    cdef void attempt(self) noexcept
    cdef void late(self) noexcept        # one of its deadlines has come
    cdef void drop_upstream(self) noexcept
    # the response
    # Give the client its head, where that is not NULL, and a part of its body. -1: that ended the exchange.
    cdef int pass_reply(self, const ResponseHead *head, const char *at, size_t n, bint end) noexcept
    cdef size_t take_body(self, const ResponseHead *head, char *at, size_t n) noexcept
    cdef void reply_goes_on(self, bint end) noexcept
    cdef bint opens_nothing(self, const ResponseHead *head) noexcept
    # the client
    cdef void client_drained(self) noexcept
    cdef void client_gone(self) noexcept
    cdef void client_wrong(self, int fault) noexcept       # it broke off, since what it sent is malformed
    cdef void tunnel_data(self, const char *at, size_t n) noexcept
    cdef void tunnel_end(self) noexcept
    # the end
    cdef void fail(self, int fault) noexcept
    cdef void answer(self, int status, int fault, const char *location, size_t n) noexcept     # instead of an upstream
    cdef void finish(self, bint keep) noexcept

# See to it that it has Extras. -1: no memory.
cdef inline int need_extras(Exchange exchange) noexcept:
    if exchange.extras is None:
        if exchange.gateway.spare_extras == NULL:
            return make_extras(exchange)
        exchange.extras = <Extras>exchange.gateway.spare_extras
        exchange.gateway.spare_extras = exchange.extras.next_spare
        Py_DECREF(exchange.extras)     # the list's
    return 0

cdef int make_extras(Exchange exchange) noexcept

# What its rule says of time and of other attempts; NULL: nothing.
cdef inline const Policy *policy_of(Exchange exchange) noexcept:
    return exchange.extras.policy if exchange.extras is not None else NULL

# How many endpoints may be tried: what an `attempts: 0` says is that of all that is tried again, unnoticed or not.
cdef inline uint32_t endpoints_to_try(Exchange exchange) noexcept:
    cdef const Policy *policy = policy_of(exchange)
    return 1 if policy != NULL and policy.once else ATTEMPTS

# The response has begun and bytes went either way: from here on only silence both ways is timed, where the rule does not say
# itself how long a response may take.
cdef inline void await_more(Exchange exchange) noexcept:
    cdef const Policy *policy = policy_of(exchange)
    cdef uint64_t most = exchange.gateway.tunnel_ms if exchange.tunnel else exchange.gateway.stream_ms
    if policy != NULL and policy.timed:
        most = FOREVER_MS
    exchange.gateway.loop.arm(exchange.upstream, exchange.gateway.loop.now_ms + most)

cdef inline bint has_response_filters(Exchange exchange) noexcept:
    return exchange.extras is not None and exchange.extras.response_filters is not None

# Whether nothing is read of the response, since response filters are asked.
cdef inline bint is_paused(Exchange exchange) noexcept:
    return exchange.extras is not None and exchange.extras.paused
