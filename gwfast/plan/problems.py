"""Problems of a plan: filters that became answers, rules without backends, entries that never match.

Rule: a problem of a field is not told if an earlier stage has told one about the field or about one below it.
"""
from collections.abc import Iterable, Iterator
from typing import Literal

from gwfast.errors import Problem
from gwfast.plan import dump, shadow
from gwfast.plan.ir import AnswerFilter, Filter, Plan, RedirectFilter, Rule


def problems(plan: Plan, told: Iterable[Problem] = ()) -> list[Problem]:
    """Return what is wrong with rules, unless `told` says so already; a problem has the line of its route."""
    fields: dict[str, list[str]] = {}
    for each in told:
        fields.setdefault(each.resource, []).append(each.field)
    found = dict.fromkeys(each for rule in plan.troubled for each in of_rule(rule))  # a route may be planned twice
    return [each for each in found
            if not any(field.startswith(each.field) for field in fields.get(each.resource, ()))]


def shadowed(plan: Plan) -> list[Problem]:
    """Return a note for each entry that never matches because earlier ones take all of its requests."""
    found = []
    for each in shadow.shadows(plan):
        field = f"spec.rules[{each.entry.rule.index}].matches[{each.entry.match.index}]"
        message = (f"never matches on {each.host.hostname or 'any host'} of listener {each.listener.id}: "
                   f"{dump.rule_words(each.by)} comes first and takes all of its requests")
        found.append(_problem(each.entry.rule, field, "Shadowed", message, "note"))
    return found


def answers(each: Filter) -> bool:
    """Return whether a filter ends the request's way here."""
    return isinstance(each, RedirectFilter | AnswerFilter)


def is_plain(rule: Rule) -> bool:
    """Whether a rule has backends, all of them with a weight, and no filters: of_rule() has nothing to say of such a rule."""
    if rule.filters or not rule.backends:
        return False
    for each in rule.backends:  # not all(): nearly every rule is looked at, and is plain
        if each.filters or not each.weight:
            return False
    return True


def of_rule(rule: Rule) -> Iterator[Problem]:
    """Yield what is wrong with one rule."""
    path = f"spec.rules[{rule.index}]"
    chains = [(path, rule.filters), *((f"{path}.backendRefs[{i}]", each.filters)
                                      for i, each in enumerate(rule.backends) if each.filters)]
    for place, filters in chains:
        for i, each in enumerate(filters):
            if isinstance(each, AnswerFilter):
                yield _problem(rule, f"{place}.filters[{i}]", "UnsupportedValue",
                               f"{each.reason}: {dump.answer_words(rule.kind, each.status)}", "error")
    if not any(each.weight for each in rule.backends) and not any(map(answers, rule.filters)):
        words = "every weight is 0" if rule.backends else "there are no backendRefs"
        yield _problem(rule, f"{path}.backendRefs", "NoBackends",
                       f"{words}: {dump.answer_words(rule.kind, 500)}", "warning")


def _problem(rule: Rule, field: str, reason: str, message: str, severity: Literal["error", "warning", "note"]) -> Problem:
    return Problem(source=rule.source, resource=f"{rule.kind} {rule.namespace}/{rule.route}", field=field,
                   reason=reason, message=message, severity=severity)
