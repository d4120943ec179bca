"""What a rule says of time and of other attempts, done (see policy.pxd)."""
from libc.stdint cimport uint64_t

from gwfast.exchange.deadlines cimport Deadlines, first_deadline
from gwfast.exchange.exchange cimport FOREVER_MS, Alarm, Exchange, Extras, endpoints_to_try, need_extras
from gwfast.exchange.retry cimport backoff_ms, retries_status
from gwfast.http.fault cimport FAULT_RETRY_BUDGET
from gwfast.table.layout cimport NO_BACKEND, Policy, policy_at

cdef enum:
    REPLACED_MS = 1000     # so long a replacement is waited for: EndpointSlices are some hundred milliseconds behind Pods at most
    LOOK_MS = 50           # between two looks for it


cdef inline void set_alarm(Exchange exchange) noexcept:
    if exchange.extras.alarm is None:
        exchange.extras.alarm = Alarm.__new__(Alarm)
        exchange.extras.alarm.loop = exchange.gateway.loop
    exchange.extras.alarm.exchange = exchange


cdef void begin_policy(Exchange exchange) noexcept:
    exchange.extras.policy = policy_at(exchange.table.image, exchange.rule.policy)
    exchange.keeping = exchange.extras.policy.attempts > 0
    set_alarm(exchange)
    if exchange.extras.policy.timed:
        exchange.response_ms = FOREVER_MS      # the rule's own limits hold
    if exchange.extras.policy.request_ms:
        exchange.extras.deadlines.request = exchange.started_us // 1000 + exchange.extras.policy.request_ms
        schedule(exchange)


cdef void end_policy(Exchange exchange) noexcept:
    exchange.gateway.loop.arm(exchange.extras.alarm, 0)
    exchange.extras.alarm.exchange = None
    exchange.extras.policy = NULL
    exchange.extras.deadlines = Deadlines(0, 0, 0)
    exchange.extras.replaced_until = 0
    exchange.extras.retries = 0
    exchange.keeping = False


cdef void schedule(Exchange exchange) noexcept:
    cdef uint64_t at = first_deadline(&exchange.extras.deadlines)
    if at:
        exchange.gateway.timer.arm(exchange.extras.alarm, at)
    else:
        exchange.gateway.loop.arm(exchange.extras.alarm, 0)


cdef bint retry(Exchange exchange, int status, bint unanswered) noexcept:
    cdef Extras extras = exchange.extras
    cdef const Policy *policy = extras.policy
    cdef uint64_t wait
    if extras.retries >= policy.attempts or exchange.replied or exchange.informed or exchange.streamed:
        return False
    if not unanswered and not retries_status(policy, status):
        return False
    wait = backoff_ms(policy, extras.retries, exchange.gateway.loop.random())
    if extras.deadlines.request and exchange.gateway.loop.now_ms + wait >= extras.deadlines.request:
        return False           # it could not be answered in time: this is the answer
    if exchange.chosen == NO_BACKEND:
        return False           # no endpoint was tried: there is none to be spared
    if not exchange.gateway.upstreams.may_retry(exchange.image, exchange.backend, exchange.chosen):
        if exchange.backend.budget_ms:         # of a policy, whose clients are told so (backendtrafficpolicy_types.go)
            exchange.answer(503, FAULT_RETRY_BUDGET, NULL, 0)
            return True
        return False
    if exchange.state != NULL and exchange.backend.flags and (unanswered or status >= 500):
        exchange.gateway.upstreams.failed(exchange.state, exchange.image, exchange.backend)
    extras.retries += 1
    exchange.gateway.counters.totals.upstream_retries += 1
    exchange.drop_upstream()
    exchange.avoid, exchange.fresh = exchange.chosen, False
    exchange.connect_fault = 0
    exchange.attempts = exchange.seen = 0
    extras.deadlines.attempt = 0
    extras.deadlines.retry = exchange.gateway.loop.now_ms + wait
    schedule(exchange)
    return True


cdef bint awaits_another(Exchange exchange) noexcept:
    cdef uint64_t now = exchange.gateway.loop.now_ms
    cdef uint64_t until
    cdef Extras extras
    if not exchange.was_good or endpoints_to_try(exchange) < 2 or need_extras(exchange) < 0:
        return False
    extras = exchange.extras
    until = extras.replaced_until if extras.replaced_until else now + REPLACED_MS
    if now >= until or (extras.deadlines.request and now + LOOK_MS >= extras.deadlines.request):
        return False
    extras.replaced_until = until
    set_alarm(exchange)
    exchange.avoid = NO_BACKEND
    exchange.attempts = 0
    extras.deadlines.attempt = 0
    extras.deadlines.retry = now + LOOK_MS
    schedule(exchange)
    return True
