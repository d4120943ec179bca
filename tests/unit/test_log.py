"""The program's log: one line an event, whatever is in it."""
import io
import json

import pytest

from gwfast.observe.log import Log


def logged(style, call, level="info"):
    stream = io.StringIO()
    call(Log(style, level, stream))
    return stream.getvalue()


NASTY = 'x\n2026-01-01T00:00:00Z error forged\r\x1b[31m " é'


def test_json_lines_are_json():
    line = logged("json", lambda log: log.info("hello", number=1, text=NASTY, thing=("a", 1)))
    assert line.count("\n") == 1 and line.isascii()
    event = json.loads(line)
    assert event.pop("ts").endswith("Z")
    assert event == {"level": "info", "msg": "hello", "number": 1, "text": NASTY, "thing": ["a", 1]}


def test_text_lines_are_one_line_each():
    line = logged("text", lambda log: log.warning("hello there", a=1, b="two words", c="", d=NASTY))
    assert line.count("\n") == 1 and "\x1b" not in line and "\r" not in line
    assert ' warning hello there a=1 b="two words" c="" d="x\\n2026' in line


@pytest.mark.parametrize("level, lines", [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_leaves_out_what_is_below(level, lines):
    def call(log):
        for each in (log.debug, log.info, log.warning, log.error):
            each("event")
    assert logged("text", call, level).count("\n") == lines


def test_a_bug_has_its_traceback_on_the_same_line():
    def call(log):
        try:
            raise KeyError("lost")
        except KeyError as error:
            log.bug("it broke", error)
    event = json.loads(logged("json", call))
    assert event["error"] == "KeyError: 'lost'" and "test_log.py" in event["traceback"]


def test_a_log_that_nobody_reads_is_no_failure():
    stream = io.StringIO()
    stream.close()
    Log("text", "info", stream).info("hello")
