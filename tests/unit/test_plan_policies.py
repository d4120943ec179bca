"""timeouts, retry and sessions of a rule, and the retry budget of a backend, as the plan has them, and in words."""
import pytest

from gwfast.config.model import BudgetDetails, HTTPRouteRetry, HTTPRouteTimeouts, RequestRate, RetryConstraint
from gwfast.config.model import CookieConfig, HeaderConfig, OldCookieConfig, SessionPersistence as Written
from gwfast.plan.dump import duration, policy_words, rule_data, traffic_words
from gwfast.plan.ir import Backend, Retry, RetryBudget, Rule, SessionPersistence, Timeouts
from gwfast.plan.policies import plan_budget, plan_retry, plan_session, plan_timeouts

TIMEOUTS = {
    "nothing": (None, None),
    "empty": ({}, None),
    "request": ({"request": "10s"}, (10, None)),
    "both": ({"request": "1m", "backend_request": "1s500ms"}, (60, 1.5)),
    "disabled": ({"request": "0s", "backend_request": "0h0m"}, (0, 0)),
    "disabled, the attempts are not": ({"request": "0s", "backend_request": "1h"}, (0, 3600)),
    "a millisecond": ({"backend_request": "1ms"}, (None, 0.001)),
}


@pytest.mark.parametrize(("given", "expected"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_timeouts(given, expected):
    found = plan_timeouts(None if given is None else HTTPRouteTimeouts(**given))
    assert (found and (found.request, found.backend_request)) == expected


RETRIES = {
    "nothing": (None, None),
    "an empty stanza asks for retries": ({}, ((), None, None)),
    "none": ({"attempts": 0}, ((), 0, None)),
    "all": ({"codes": (503, 500), "attempts": 3, "backoff": "100ms"}, ((500, 503), 3, 0.1)),
    "at once": ({"backoff": "0s"}, ((), None, 0)),
}


@pytest.mark.parametrize(("given", "expected"), RETRIES.values(), ids=RETRIES)
def test_retry(given, expected):
    found = plan_retry(None if given is None else HTTPRouteRetry(**given))
    assert (found and (found.codes, found.attempts, found.backoff)) == expected


BUDGETS = {
    "nothing": (None, None),
    "what the CRD has": (RetryConstraint(), (20, 10, 10, 1)),
    "none but the least": (RetryConstraint(budget=BudgetDetails(percent=0)), (0, 10, 10, 1)),
    "a count": (RetryConstraint(min_retry_rate=RequestRate(count=1)), (20, 10, 1, 1)),
    "an interval": (RetryConstraint(min_retry_rate=RequestRate(interval="1m")), (20, 10, 10, 60)),
    "neither": (RetryConstraint(min_retry_rate=RequestRate()), (20, 10, 10, 1)),
    "all": (RetryConstraint(budget=BudgetDetails(percent=100, interval="1h"),
                            min_retry_rate=RequestRate(count=1_000_000, interval="1ms")), (100, 3600, 1_000_000, 0.001)),
}


@pytest.mark.parametrize(("given", "expected"), BUDGETS.values(), ids=BUDGETS)
def test_budget(given, expected):
    found = plan_budget(given)
    assert (found and (found.percent, found.interval, found.minimum, found.minimum_interval)) == expected


SESSIONS = {
    "nothing": (None, None),
    "what the CRD of v1.6 has": ({}, ("Cookie", "", "/", None, False)),
    "a session's cookie in v1.6": ({"session_name": "me", "absolute_timeout": "1h", "cookie_config": OldCookieConfig()},
                                   ("Cookie", "me", "/", 3600, False)),
    "permanent in v1.6": ({"absolute_timeout": "90m", "cookie_config": OldCookieConfig(lifetime_type="Permanent")},
                          ("Cookie", "", "/", 5400, True)),
    "header in v1.6": ({"type": "Header", "session_name": "x-me"}, ("Header", "x-me", "/", None, False)),
    "what the CRD has": ({"cookie": CookieConfig()}, ("Cookie", "", "/", None, False)),
    "a session's cookie": ({"cookie": CookieConfig(name="me", path="/shop")}, ("Cookie", "me", "/shop", None, False)),
    "permanent": ({"absolute_timeout": "90m", "cookie": CookieConfig(lifetime_type="Permanent")},
                  ("Cookie", "", "/", 5400, True)),
    "header": ({"type": "Header", "header": HeaderConfig(name="x-me")}, ("Header", "x-me", "/", None, False)),
}


@pytest.mark.parametrize(("given", "expected"), SESSIONS.values(), ids=SESSIONS)
def test_session(given, expected):
    found = plan_session(None if given is None else Written(**given))
    assert (found and (found.type, found.name, found.path, found.absolute_timeout, found.permanent)) == expected


@pytest.mark.parametrize(("given", "expected"), [
    ({}, []),
    ({"retry_budget": RetryBudget(percent=20, interval=10, minimum=3, minimum_interval=0.5)},
     ["retries are 20 % of the requests in 10s at most, 3 in 500ms at least"]),
    ({"session": SessionPersistence()}, ["sessions known by a cookie of each rule's own"]),
    ({"session": SessionPersistence(name="me", absolute_timeout=60, permanent=True)},
     ["sessions known by the permanent cookie me, for 60s at most"]),
    ({"session": SessionPersistence(type="Header", name="x-me")}, ["sessions known by the header x-me"]),
], ids=("nothing", "budget", "cookie", "permanent", "header"))
def test_words_of_a_backend(given, expected):
    assert traffic_words(Backend(namespace="n", name="s", port=80, **given)) == expected


def test_the_session_of_a_rule_is_before_that_of_a_backend():
    backend = Backend(namespace="n", name="s", port=80, session=SessionPersistence(name="theirs"))
    plain, own = rule(None, None), rule(None, None, SessionPersistence(type="Header", name="mine"))
    assert policy_words(plain) + traffic_words(backend, plain) == ["sessions known by the cookie theirs"]
    assert policy_words(own) + traffic_words(backend, own) == ["sessions known by the header mine"]
    assert rule_data(own) == {"session": {"type": "Header", "sessionName": "mine"}}


@pytest.mark.parametrize(("name", "index", "expected"), [
    ("", 2, "HTTPRoute/default/r/2"), ("shop", 2, "HTTPRoute/default/r#shop"),
], ids=("by its place", "by its name"))
def test_sessions_are_of_a_rule(name, index, expected):
    assert Rule(kind="HTTPRoute", namespace="default", route="r", index=index, name=name).known_as == expected


def test_equal_ones_are_one_object():
    assert plan_timeouts(HTTPRouteTimeouts(request="7s")) is plan_timeouts(HTTPRouteTimeouts(request="7s"))
    assert plan_retry(HTTPRouteRetry(attempts=7)) is plan_retry(HTTPRouteRetry(attempts=7))


WORDS = {
    "nothing": (None, None, []),
    "limits": (Timeouts(request=10, backend_request=0.25), None,
               ["10s for the whole request, then 504", "250ms for the attempt, then 504"]),
    "no limits": (Timeouts(request=0, backend_request=0), None,
                  ["no limit for the whole request", "no limit for the attempt"]),
    "defaults": (None, Retry(), ["tried again where the connection fails"]),
    "once": (None, Retry(attempts=1, backoff=0), ["tried again at most 1 time where the connection fails"]),
    "all": (None, Retry(codes=(500, 503), attempts=2, backoff=0.1),
            ["tried again at most 2 times where the connection fails, and after 500, 503, 100ms or more later"]),
}


@pytest.mark.parametrize(("timeouts", "retry", "expected"), WORDS.values(), ids=WORDS)
def test_words(timeouts, retry, expected):
    assert policy_words(rule(timeouts, retry)) == expected


def rule(timeouts, retry, session=None):
    return Rule(kind="HTTPRoute", namespace="default", route="r", index=0, timeouts=timeouts, retry=retry, session=session)


@pytest.mark.parametrize(("timeouts", "retry", "expected"), [
    (None, None, {}),
    (Timeouts(request=0), Retry(), {"timeouts": {"request": "0s"}, "retry": {"attempts": "default"}}),
    (Timeouts(request=90, backend_request=1.5), Retry(codes=(503,), attempts=2, backoff=0),
     {"timeouts": {"request": "90s", "backendRequest": "1500ms"},
      "retry": {"codes": [503], "attempts": 2, "backoff": "0s"}}),
], ids=("nothing", "defaults", "all"))
def test_data(timeouts, retry, expected):
    assert rule_data(rule(timeouts, retry)) == expected


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0, "0s"), (0.001, "1ms"), (1.5, "1500ms"), (3600, "3600s")])
def test_duration(seconds, text):
    assert duration(seconds) == text
