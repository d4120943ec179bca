"""The program's own log (not the access log): one line an event, to standard error, as JSON or as text.

    {"ts":"2026-01-02T03:04:05.678Z","level":"info","msg":"table applied","generation":7}
    2026-01-02T03:04:05.678Z info  table applied generation=7

Text from outside is a field's value, quoted or escaped: it cannot begin a line of its own. Nobody waits for who reads the log
(see `sink`); how many lines were lost is said once there is room again.
"""
import json
import sys
import traceback
from datetime import UTC, datetime

from gwfast.observe.sink import Sink

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """Writes events at or above a level."""

    def __init__(self, style: str = "text", level: str = "info", stream=None):
        self._write_line = {"json": _json_line, "text": _text_line}[style]
        self._least = LEVELS.index(level)
        self._stream = stream or sys.stderr
        sink = getattr(self._stream, "buffer", None)
        self._sink = sink if isinstance(sink, Sink) else None
        self._lost = 0  # lines that were dropped and told of

    def debug(self, msg: str, **fields) -> None:
        self._write("debug", msg, fields)

    def info(self, msg: str, **fields) -> None:
        self._write("info", msg, fields)

    def warning(self, msg: str, **fields) -> None:
        self._write("warning", msg, fields)

    def error(self, msg: str, **fields) -> None:
        self._write("error", msg, fields)

    def stranger(self, msg: str, **fields) -> None:
        """Write at info what anybody can cause: never in the room that other events need."""
        if self._sink is not None and self._sink.crowded:
            self._sink.pump()
            if self._sink.crowded:
                self._sink.dropped += LEVELS.index("info") >= self._least
                return
        self._write("info", msg, fields)

    def bug(self, msg: str, error: BaseException, **fields) -> None:
        """Write an error that should not happen, with its traceback."""
        self._write("error", msg, fields | {
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
        })

    def _write(self, level: str, msg: str, fields: dict) -> None:
        if LEVELS.index(level) < self._least:
            return
        self._tell_of_lost()
        self._line(level, msg, fields)

    def _tell_of_lost(self) -> None:
        sink = self._sink
        if sink is not None and sink.dropped > self._lost and sink.pump() and not sink.broken:
            lost, self._lost = sink.dropped - self._lost, sink.dropped
            self._line("warning", "lines of this log were dropped: nobody read them", {"number": lost})

    def _line(self, level: str, msg: str, fields: dict) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            self._stream.write(self._write_line(now, level, msg, fields) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads the log any more: that must not end the service


def _json_line(now: str, level: str, msg: str, fields: dict) -> str:
    return json.dumps({"ts": now, "level": level, "msg": msg} | fields, default=str, separators=(",", ":"))


def _text_line(now: str, level: str, msg: str, fields: dict) -> str:
    return " ".join([now, f"{level:<7}", msg, *(f"{name}={_word(value)}" for name, value in fields.items())])


def _word(value) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(character in ' "=' for character in text)
    return text if plain else json.dumps(text)
