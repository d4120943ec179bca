"""What gwfast must show, each goal in a line: met or missed, with the figure. Ratios are from one run, round by round."""
import statistics
from collections.abc import Callable, Iterator

import msgspec

from bench.report import Run, number


class Goal(msgspec.Struct, frozen=True):
    """What `judge` makes of the `values` of a run (none: not measured) must be at most `limit`; `known` is the best that is
    known elsewhere."""

    about: str
    limit: float
    unit: str
    values: Callable[[Run], list[float]]
    known: str = ""
    judge: Callable[[list[float]], float] = statistics.median


class Judged(msgspec.Struct, frozen=True):
    goal: Goal
    value: float
    lowest: float
    highest: float

    @property
    def met(self) -> bool:
        return self.value <= self.goal.limit


def of(case: str, measure: str) -> Callable[[Run], list[float]]:
    """gwfast's rounds."""
    return lambda run: run.values(case, "gwfast", measure)


def beside(case: str, measure: str, other: str) -> Callable[[Run], list[float]]:
    """gwfast's to another's."""
    return lambda run: run.ratios(case, measure, ("gwfast", ""), (other, ""))


def last(case: str) -> Callable[[Run], list[float]]:
    """The last of many routes to one alone."""
    return lambda run: run.ratios(case, "CPU", ("gwfast", "last"), ("gwfast", "one"))


def to_without(point: str) -> Callable[[Run], list[float]]:
    """A rule with something to the one without."""
    return lambda run: run.ratios("features", "CPU", ("gwfast", point), ("gwfast", "without"))


def beyond_without(point: str) -> Callable[[Run], list[float]]:
    """What a filter in Python takes beyond a rule without one, in microseconds."""
    def values(run: Run) -> list[float]:
        found = [run.values("python", "gwfast", "CPU", each) for each in (point, "without")]
        return [more - less for more, less in zip(*found, strict=False)]

    return values


def beside_better(case: str, measure: str, others: tuple[str, ...]) -> Callable[[Run], list[float]]:
    """gwfast's to the better of others': of him whose median is lowest."""
    def values(run: Run) -> list[float]:
        found = {run.median(case, name, measure): name for name in others if run.values(case, name, measure)}
        return run.ratios(case, measure, ("gwfast", ""), (found[min(found)], "")) if found else []

    return values


BOTH = ("nginx", "haproxy")
GOALS = (
    Goal("CPU time of a small request, to nginx", 1 / 1.25, "", beside("small", "CPU", "nginx")),
    Goal("CPU time of a small request, to HAProxy", 1 / 1.6, "", beside("small", "CPU", "haproxy")),
    Goal("CPU time of a small request, to Envoy", 1 / 5, "", beside("small", "CPU", "envoy")),
    Goal("CPU time of a small request, to Caddy", 1 / 10, "", beside("small", "CPU", "caddy")),
    Goal("CPU time of a small request, to the floor", 1.35, "", beside("small", "CPU", "floor"), "nginx 1.75"),
    Goal("CPU time with header changes, rewrite and CORS, to none", 1.1, "", to_without("filters")),
    *(Goal(f"CPU time with {name} that do not fire, to none", 1.03, "", to_without(point))
      for point, name in (("timeouts", "timeouts"), ("retry", "retries"), ("both", "timeouts and retries"),
                          ("health", "a policy of health"))),
    Goal("CPU time of a filter in Python that does nothing", 5, "us", beyond_without("empty")),
    Goal("CPU time of a filter in Python that reads a field and sets one", 8, "us", beyond_without("tenant")),
    Goal("CPU time with an access log in JSON, to none", 1.1, "",
         lambda run: run.ratios("json-log", "CPU", ("gwfast", "on"), ("gwfast", "off"))),
    Goal("504 behind its time at idle, latest", 10, "ms", of("late", "late"), judge=max),
    Goal("504 at idle, other answers", 0, "", of("late", "errors"), judge=max),
    Goal("p99 at 60 % of nginx's highest rate, to nginx", 1.0, "", beside("latency", "p99", "nginx")),
    *(Goal(f"last of 100,000 routes by {name} to the first of 1", 1.05, "", last(f"{name}-100000"), "Envoy 6 at 16,384")
      for name in ("path", "host", "header")),
    Goal("routes added one by one, mean", 10, "ms", of("grow", "mean"), "agentgateway 10-30, Envoy Gateway 600"),
    Goal("routes added one by one, slowest", 30, "ms", of("grow", "max")),
    Goal("routes added one by one, wrong answers", 0, "", of("grow", "wrong"), "Envoy Gateway 14,808", max),
    *(Goal(f"{name} changed every 200 ms, {what}", limit, "", of(f"churn-{name}", measure), judge=judge)
      for name in ("routes", "endpoints")
      for what, limit, measure, judge in (("errors", 0, "errors", max),
                                          ("p99 to p99 without", 1.2, "p99 ratio", statistics.median))),
    Goal("memory with 5,000 routes", 46, "MiB", of("start-5000", "memory"), "agentgateway 46, Istio 1,870"),
    Goal("memory with 40,000 routes on 2,500 ListenerSets", 140, "MiB", of("sets-40000", "memory"), "agentgateway 140"),
    Goal("one route of 100,000 changed", 50, "ms", of("change-100000", "live after"), "Envoy 30,000 at 16,000"),
    Goal("HTTP/1.1 over TLS, CPU time to the better of nginx and HAProxy", 1 / 1.25, "", beside_better("tls-h1", "CPU", BOTH)),
    Goal("HTTP/2 over TLS, CPU time to the better of nginx and HAProxy", 1 / 1.25, "", beside_better("tls-h2", "CPU", BOTH)),
    Goal("HTTP/2 in clear, CPU time to nghttpx", 1.0, "", beside("h2c", "CPU", "nghttpx")),
    Goal("gRPC call, CPU time to Envoy", 1 / 5, "", beside("grpc", "CPU", "envoy")),
    *(Goal(f"{what} TLS handshake, CPU time to nginx", 1.0, "", beside(f"handshake-{name}", "CPU", "nginx"))
      for name, what in (("full", "full"), ("resumed", "resumed"))),
    *(Goal(f"1 GiB {what} {how}, CPU time to nginx", 1.0, "", beside(f"volume-{way}-{name}", "CPU", "nginx"))
      for name, how in (("clear", "in clear"), ("tls", "over TLS"))
      for way, what in (("down", "to clients"), ("up", "from clients"))),
    *(Goal(f"idle connection, {how}, to nginx", 1.0, "", beside(f"idle-{name}", "memory", "nginx"))
      for name, how in (("tls", "HTTP/1.1 over TLS"), ("h2", "HTTP/2 over TLS"), ("h2c", "HTTP/2 in clear"))),
    Goal("idle connection", 512, "B", of("idle", "memory"), "nginx 250"),
    Goal("1,000 routes, start to first answer", 0.5, "s", of("start-1000", "start")),
)


def judged(run: Run) -> Iterator[Judged]:
    """The goals that were measured."""
    for goal in GOALS:
        if values := goal.values(run):
            yield Judged(goal, goal.judge(values), min(values), max(values))


def lines(run: Run) -> list[str]:
    found = list(judged(run))
    width = max((len(each.goal.about) for each in found), default=0)
    return [f"  {each.goal.about.ljust(width)}  {number(each.value):>8} of {number(each.goal.limit):>6} {each.goal.unit:3} "
            f"{'met' if each.met else 'missed':6}  {number(each.lowest)} to {number(each.highest)}" for each in found]
