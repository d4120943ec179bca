"""What gwfast must show, each goal in a line: met or missed, with the figure. Ratios are from one run."""
from collections.abc import Callable, Iterator

import msgspec

from bench.report import Run, number


class Goal(msgspec.Struct, frozen=True):
    """`value` of a run (None: not measured) must be at most `limit`; `known` is the best that is known elsewhere."""

    about: str
    limit: float
    unit: str
    value: Callable[[Run], float | None]
    known: str = ""


def of(case: str, measure: str, contender: str = "gwfast", point: str | None = None) -> Callable[[Run], float | None]:
    """The median of one figure."""
    return lambda run: run.median(case, contender, measure, point)


def ratio(a: Callable, b: Callable) -> Callable[[Run], float | None]:
    def divided(run: Run) -> float | None:
        over, under = a(run), b(run)
        return over / under if over is not None and under else None
    return divided


def worst(case: str, measure: str) -> Callable[[Run], float | None]:
    """The highest of the rounds."""
    return lambda run: max(run.values(case, "gwfast", measure), default=None)


def beside(other: str) -> Callable[[Run], float | None]:
    return ratio(of("small", "CPU"), of("small", "CPU", other))


GOALS = (
    Goal("CPU time of a small request, to nginx", 1 / 1.25, "", beside("nginx")),
    Goal("CPU time of a small request, to HAProxy", 1 / 1.6, "", beside("haproxy")),
    Goal("CPU time of a small request, to Envoy", 1 / 5, "", beside("envoy")),
    Goal("CPU time of a small request, to Caddy", 1 / 10, "", beside("caddy")),
    Goal("CPU time of a small request, to the floor", 1.35, "", beside("floor"), "nginx 1.75"),
    Goal("p99 at 60 % of nginx's highest rate, to nginx", 1.0, "", ratio(of("latency", "p99"), of("latency", "p99", "nginx"))),
    *(Goal(f"last of 100,000 routes by {name} to the first of 1", 1.05, "",
           ratio(of(f"{name}-100000", "CPU", point="last"), of(f"{name}-1", "CPU", point="first")), "Envoy 6 at 16,384")
      for name in ("path", "host", "header")),
    Goal("routes added one by one, mean", 10, "ms", of("grow", "mean"), "agentgateway 10-30"),
    Goal("routes added one by one, slowest", 30, "ms", of("grow", "max")),
    Goal("routes added one by one, wrong answers", 0, "", of("grow", "wrong"), "Envoy Gateway 14,808"),
    *(Goal(f"{name} changed every 200 ms, {what}", limit, "", value)
      for name in ("routes", "endpoints")
      for what, limit, value in (("errors", 0, worst(f"churn-{name}", "errors")),
                                 ("p99 to p99 without", 1.2, of(f"churn-{name}", "p99 ratio")))),
    Goal("memory with 5,000 routes", 46, "MiB", of("start-5000", "memory"), "agentgateway 46, Istio 1,870"),
    Goal("memory with 40,000 routes on 2,500 ListenerSets", 140, "MiB", of("sets-40000", "memory"), "agentgateway 140"),
    Goal("one route of 100,000 changed", 50, "ms", of("change-100000", "live after"), "Envoy 30,000 at 16,000"),
    Goal("idle connection", 512, "B", of("idle", "memory"), "nginx 250"),
    Goal("1,000 routes, start to first answer", 0.5, "s", of("start-1000", "start")),
)


def judged(run: Run) -> Iterator[tuple[Goal, float]]:
    """The goals that were measured, and their figures."""
    for goal in GOALS:
        value = goal.value(run)
        if value is not None:
            yield goal, value


def lines(run: Run) -> list[str]:
    found = list(judged(run))
    width = max((len(goal.about) for goal, _ in found), default=0)
    return [f"  {goal.about.ljust(width)}  {number(value):>8} of {number(goal.limit):>6} {goal.unit:3} "
            f"{'met' if value <= goal.limit else 'missed'}".rstrip() for goal, value in found]
