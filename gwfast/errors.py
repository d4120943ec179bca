"""What people meet when something is wrong.

Configuration errors are collected, never raised in the middle: each is a Problem that names the file, the line,
the resource, the field, what is wrong and what would be right. Traffic errors are integers (see `http.fault`).
"""
from typing import Literal

import msgspec


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where a resource was written: a file ('-' is standard input) and the 1-based line it starts on (0: it has no lines). What
    has been read from an API server has no file either: there its kind, namespace and name are where it is."""

    file: str
    line: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


STANDS = ("keep serving", "keeps serving", "last good version serves")  # ends of messages


class Problem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that is wrong with the configuration.

    `resource` is 'Kind namespace/name' or '' where a file could not be read; `field` is a path such as
    'spec.rules[0].matches[1].path.value'; `reason` is a word of the spec (a condition reason) or of ours.
    """

    source: Source
    resource: str = ""
    field: str = ""
    reason: str = "Invalid"
    message: str = ""
    severity: Literal["error", "warning", "note"] = "error"

    @property
    def stands(self) -> bool:
        """Whether a last good version stands in for what is wrong, as the message says where that is so."""
        return self.message.endswith(STANDS)

    def __str__(self) -> str:
        place, parts = (str(self.source), (self.resource, self.field)) if self.source.file else (self.resource, (self.field,))
        where = " ".join(part for part in parts if part)
        return f"{place}: {self.severity}: {where + ': ' if where else ''}{self.message} ({self.reason})"


class UsageError(Exception):
    """The command line or the environment is wrong: printed as one line to standard error, exit status 2."""
