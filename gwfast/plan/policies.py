"""Turns timeouts, retries, retry budgets and session persistence, as rules and XBackendTrafficPolicies have them, into the plan's
(spec 5.5).

Rules:
- a Duration becomes seconds; '0s' is 0, which is not the same as nothing: it says that there is no limit
- a field that is not given stays None: the engine has the defaults (limits)
- rules that say the same share one object
"""
from functools import lru_cache

from gwfast.config.model import HTTPRouteRetry, HTTPRouteTimeouts, RetryConstraint
from gwfast.config.model import SessionPersistence as Written
from gwfast.config.scalars import seconds
from gwfast.plan.ir import Retry, RetryBudget, SessionPersistence, Timeouts
from gwfast.sharing import SHARED


@lru_cache(SHARED)
def plan_timeouts(written: HTTPRouteTimeouts | None) -> Timeouts | None:
    """Return the plan's form of `timeouts`; None where nothing is said."""
    if written is None or (written.request, written.backend_request) == (None, None):
        return None
    return Timeouts(request=_seconds(written.request), backend_request=_seconds(written.backend_request))


@lru_cache(SHARED)
def plan_retry(written: HTTPRouteRetry | None) -> Retry | None:
    """Return the plan's form of `retry`: a stanza that is empty asks for retries as well, `attempts: 0` for none at all."""
    if written is None:
        return None
    return Retry(codes=tuple(sorted(written.codes)), attempts=written.attempts, backoff=_seconds(written.backoff))


@lru_cache(SHARED)
def plan_budget(written: RetryConstraint | None) -> RetryBudget | None:
    """Return the plan's form of `retryConstraint`: what is not given is as the CRD has it, 20 % in 10s and 10 in 1s."""
    if written is None:
        return None
    rate = written.min_retry_rate
    return RetryBudget(percent=written.budget.percent, interval=_rounded(written.budget.interval),
                       minimum=rate.count or 10, minimum_interval=_rounded(rate.interval or "1s"))


@lru_cache(SHARED)
def plan_session(written: Written | None) -> SessionPersistence | None:
    """Return the plan's form of `sessionPersistence`."""
    if written is None:
        return None
    return SessionPersistence(type=written.type, name=written.name, path=written.cookie.path if written.cookie else "/",
                              absolute_timeout=_seconds(written.absolute_timeout), permanent=written.permanent)


def _seconds(written: str | None) -> float | None:
    return None if written is None else _rounded(written)


def _rounded(written: str) -> float:
    return round(seconds(written), 3)
