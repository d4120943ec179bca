"""What serves requests makes no Python objects: read from the C that Cython made of it."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
C = ROOT / "build" / "cython-release" / "gwfast"
FUNCTION = re.compile(r"^(?:static )?[^\n;]*?\b__pyx_f_\w+\([^\n]*\{\n(.*?)^\}$", re.M | re.S)
# Only a function that must not raise and yet could has this: so it is noexcept, and works with objects.
NOEXCEPT = re.compile(r'__Pyx_WriteUnraisable\("gwfast\.([\w.]+)"')
OBJECT = re.compile(r"\b(?:__Pyx_)?(?:Py(?:Long|Float|Bytes|Unicode)_From\w+|Py(?:Tuple|List|Dict)_New|PyNumber_\w+|PyObject_Fast\w+"
                    r"|GetItemInt\w*)")
# Who does so for a request, and why.
OBJECTS = {
    "extend.python_filter.PythonFilter": "it tells filters in Python",
    "exchange.response_filters.add_response_filter": "a rule with such a filter",
    "upstream.http2_stream.accept_key": "an answer to a WebSocket's first request",
    "engine.loop.Loop.settle": "it empties the graveyard",
}
# Once a connection, or less.
SELDOM = {"engine.accept.Acceptor.welcome", "engine.clients.Clients.admit", "engine.handshake.Handshake.count", "engine.handshake.Handshake.secure",
          "engine.handshake.Handshake.note_certificate", "upstream.pool.Upstream.secure", "upstream.pool.Upstream.is_right"}


def makers() -> dict[str, set[str]]:
    """What each function makes: {'package.module.Class.function': {'PyLong_From_uint32_t'}}."""
    made: dict[str, set[str]] = {}
    for file in C.rglob("*.c"):
        if not (ROOT / "gwfast" / file.relative_to(C)).with_suffix(".pyx").exists():
            continue  # of a module that has gone
        for function in FUNCTION.finditer(file.read_text(errors="replace")):
            if (name := NOEXCEPT.search(function[1])) and (objects := set(OBJECT.findall(function[1]))):
                made[name[1]] = objects
    return made


@pytest.mark.skipif(not C.is_dir(), reason="the extensions were not built here")
def test_no_objects_where_requests_are_served() -> None:
    made = makers()
    assert SELDOM <= made.keys(), "the C has other names now: what does this test see?"
    left = {name: objects for name, objects in made.items()
            if name not in SELDOM and name not in OBJECTS and name.rpartition(".")[0] not in OBJECTS}
    assert not left, left
