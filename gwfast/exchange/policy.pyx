"""What a rule says of time and of other attempts, done (see policy.pxd)."""
from libc.stdint cimport uint64_t

from gwfast.exchange.deadlines cimport first_deadline
from gwfast.exchange.exchange cimport FOREVER_MS, Alarm, Exchange, Extras, endpoints_to_try, need_extras
from gwfast.exchange.retry cimport backoff_ms, retries_status
from gwfast.http.fault cimport FAULT_RETRY_BUDGET
from gwfast.table.layout cimport NO_BACKEND, Policy, policy_at

cdef enum:
    REPLACED_MS = 1000     # so long a replacement is waited for: EndpointSlices are some hundred milliseconds behind Pods at most
    LOOK_MS = 50           # between two looks for it


cdef void begin_policy(Exchange exchange) noexcept:
    cdef Extras extras = exchange.extras
    extras.policy = policy_at(exchange.table.image, exchange.rule.policy)
    exchange.keeping = extras.policy.attempts > 0
    set_alarm(exchange)
    if extras.policy.timed:
        exchange.response_ms = FOREVER_MS      # the rule's own limits hold
    if extras.policy.request_ms:
        extras.deadlines.request = exchange.started_us // 1000 + extras.policy.request_ms
        schedule(exchange)


cdef void set_alarm(Exchange exchange) noexcept:
    cdef Extras extras = exchange.extras
    if extras.alarm is None:
        extras.alarm = Alarm.__new__(Alarm)
        extras.alarm.loop = exchange.gateway.loop
    extras.alarm.exchange = exchange


cdef void end_policy(Exchange exchange) noexcept:
    cdef Extras extras = exchange.extras
    exchange.gateway.loop.arm(extras.alarm, 0)
    extras.alarm.exchange = None
    extras.policy = NULL
    extras.deadlines.request = extras.deadlines.attempt = extras.deadlines.retry = extras.replaced_until = 0
    extras.retries = 0
    exchange.keeping = False


cdef void schedule(Exchange exchange) noexcept:
    cdef Extras extras = exchange.extras
    cdef uint64_t at = first_deadline(&extras.deadlines)
    if at:
        exchange.gateway.timer.arm(extras.alarm, at)
    else:
        exchange.gateway.loop.arm(extras.alarm, 0)


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
