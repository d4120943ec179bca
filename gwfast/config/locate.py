"""Finds the line of the field that a problem is about.

The stages know where a resource starts, but not where its fields are, since a resource keeps no text. Before problems are printed
their files are read once more, and the documents that the problems are in are parsed again.
"""
from bisect import bisect_right
from collections.abc import Iterable

import msgspec
import yaml

from gwfast.config import composer, text
from gwfast.errors import Problem, Source


class _Document(msgspec.Struct):
    line: int
    text: bytes
    node: yaml.Node | None = None

    def root(self) -> yaml.Node | None:
        if self.node is None:
            self.node = composer.compose(self.text)
        return self.node


def locate(problems: Iterable[Problem]) -> list[Problem]:
    """Give each problem the line of its field, or of the nearest ancestor; what has none stays as it is."""
    files: dict[str, list[_Document]] = {}
    return [_located(problem, files) if problem.field and problem.source.line else problem for problem in problems]


def _located(problem: Problem, files: dict[str, list[_Document]]) -> Problem:
    file, line = problem.source.file, problem.source.line
    try:
        documents = files[file] if file in files else files.setdefault(file, _read(file))
        index = bisect_right(documents, line, key=lambda document: document.line) - 1
        if index < 0:
            return problem
        document = documents[index]
        node = _resource(document.root(), line - document.line)
    except (OSError, text.TextError):
        return problem
    if node is None:
        return problem
    return msgspec.structs.replace(
        problem, source=Source(file, document.line + composer.find_line(node, problem.field))
    )


def _read(file: str) -> list[_Document]:
    if file == "-":
        return []
    with open(file, "rb") as opened:
        data = opened.read().removeprefix(b"\xef\xbb\xbf")
    return [_Document(line, part) for line, part in text.documents(data) if not text.is_empty(part)]


def _resource(node: yaml.Node | None, line: int) -> yaml.Node | None:
    """Find the resource at a line: the document, or the item of a List that starts there or before."""
    if not isinstance(node, yaml.MappingNode):
        return node
    fields = {name.value: child for name, child in node.value if isinstance(name, yaml.ScalarNode)}
    kind, items = fields.get("kind"), fields.get("items")
    if kind is None or not str(kind.value).endswith("List") or not isinstance(items, yaml.SequenceNode):
        return node
    return next((item for item in reversed(items.value) if item.start_mark.line <= line), None)
