"""Bugs on command: every step that something goes through, and each of them made to fail on it.

    for step in steps(lambda: pipeline.read(None), touches, "gwfast.graph", "gwfast.plan"):
        with failing(step, touches):
            ...                         # each call of that function with something that `touches` raises Bug
"""
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple


class Bug(Exception):
    """What nobody has foreseen."""


class Step(NamedTuple):
    """A function or method."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def steps(run: Callable[[], object], touches: Callable[[Any], bool], *packages: str) -> list[Step]:
    """Return the functions of these packages that get something that `touches` while something runs, in the order of their calls."""
    found: dict[Step, None] = {}

    def look(frame: FrameType, event: str, _: object) -> None:
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        if event != "call" or "<" in code.co_qualname or not module.startswith(packages):
            return
        given = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        if any(touches(frame.f_locals.get(name)) for name in given):
            found[Step(module, code.co_qualname)] = None

    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(None)
    return [step for step in found if _owner(step) is not None]


@contextmanager
def failing(step: Step, touches: Callable[[Any], bool]) -> Iterator[None]:
    """Let a step fail on what `touches`, wherever it was imported to."""
    owner, name = _owner(step)
    real = inspect.getattr_static(owner, name)

    @functools.wraps(real)
    def fails(*given, **named):
        if any(map(touches, (*given, *named.values()))):
            raise Bug(f"in {step}")
        return real(*given, **named)

    places = [owner]
    if inspect.ismodule(owner):
        places = [module for module in list(sys.modules.values()) if getattr(module, "__name__", "").startswith("gwfast")
                  and vars(module).get(name) is real]
    for place in places:
        setattr(place, name, fails)
    try:
        yield
    finally:
        for place in places:
            setattr(place, name, real)


def _owner(step: Step) -> tuple[Any, str] | None:
    """Return where a plain function is, and its name there; None where there is none that can be replaced."""
    *path, name = step.name.split(".")
    owner: Any = sys.modules[step.module]
    for each in path:
        owner = inspect.getattr_static(owner, each, None)
    if owner is None or not inspect.isfunction(inspect.getattr_static(owner, name, None)):
        return None
    return owner, name
