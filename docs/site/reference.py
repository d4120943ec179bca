"""The pages of the reference, made of what the program itself is made of: nobody writes them by hand.

    command_line()   of the parser (gwfast.cli), whose options are in gwfast.options
    own_kinds()      of deploy/crds: fields of gwfast.dev with their descriptions
    read_fields()    of the typed resources (gwfast.config.model): every kind and field of the standard that is read
    metrics()        of gwfast.observe.families
    access_log()     of gwfast/engine/access_log.pyx and gwfast/http/fault.pyx, where each word has its sentence behind it
    limits()         of gwfast/limits.py

Rules: a page is Markdown. What has no description raises Undescribed, with its name, so that no page is made without it.
"""
import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from msgspec import UNSET, inspect

from gwfast import limits as limits_of_gwfast
from gwfast.cli import parser
from gwfast.config import model
from gwfast.http import fault
from gwfast.observe import families

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "<!-- This page is made by docs/site/reference.py. -->\n"


class Undescribed(Exception):
    """Something that a reader may meet says nowhere what it is."""


def described(text: str | None, name: str) -> str:
    """Return the text as a cell of a table; raise Undescribed where there is none."""
    if not text or not text.strip():
        raise Undescribed(name)
    return " ".join(text.split()).replace("|", "&#124;")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"


def page(title: str, *parts: str) -> str:
    return f"# {title}\n\n{GENERATED}\n" + "\n".join(parts).rstrip() + "\n"


# ---- the command line


def command_line() -> str:
    top = parser()
    [verbs] = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    texts = {choice.dest: choice.help for choice in verbs._choices_actions}
    rows = [(f"[`gwfast {name}`](#gwfast-{name})", _sentence(described(texts.get(name), name))) for name in verbs.choices]
    parts = ["Every option of `gwfast run` and `gwfast controller` is an environment variable as well. The command line stands "
             "over the environment. A time is a number with a unit, as in `500ms`, `10s`, `5m` or `1h`. A size is a number of "
             "bytes, or one with a unit, as in `32k`.\n",
             table(("command", "what it does"), rows)]
    for name, verb in verbs.choices.items():
        parts.append(f"## gwfast {name}\n\n{described(verb.epilog, f'gwfast {name}: exit status')}\n")
        parts += [_options(name, group) for group in verb._action_groups if group._group_actions]
    return page("Command line", *parts)


def _options(verb: str, group: argparse._ArgumentGroup) -> str:
    rows = []
    for action in group._group_actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        text = described(action.help, f"gwfast {verb} {name}").replace("%%", "%")
        found = re.fullmatch(r"(.*?) ?\[(GWFAST_\w+)\]", text)
        text, variable = (found[1], f"`{found[2]}`") if found else (text, "")
        metavar = str(action.metavar or "") if action.option_strings else ""
        if not metavar and action.choices:
            metavar = "|".join(map(str, action.choices))
        rows.append((f"`{name}{' ' + metavar if metavar else ''}`", _escaped(text), variable))
    title = {"positional arguments": "Arguments", "options": "Options"}.get(group.title or "", (group.title or "").capitalize())
    return (f"### {title} of gwfast {verb}\n\n" + table(("option", "meaning (default)", "environment"), rows)) if rows else ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_{}])", r"\\\1", text)


# ---- kinds of gwfast.dev


def own_kinds() -> str:
    parts = ["The CustomResourceDefinitions are in `deploy/crds/`. In a cluster, `kubectl explain` says the same.\n"]
    for file in sorted((ROOT / "deploy/crds").glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        kind = crd["spec"]["names"]["kind"]
        for version in crd["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            rows = list(_crd_fields(kind, schema["properties"]["spec"], "spec", True))
            parts.append(f"## {kind}\n\n`apiVersion: {crd['spec']['group']}/{version['name']}`. "
                         f"{described(schema.get('description'), kind)}\n\n"
                         + table(("field", "type", "meaning"), rows) + _rules(schema["properties"]["spec"], "spec"))
            for name, inner in schema["properties"].items():
                if name != "metadata":  # which an API server lets nobody describe
                    list(_crd_fields(kind, inner, name, False))  # all of them have to be described
    return page("Kinds of gwfast.dev", *parts)


def _crd_fields(kind: str, schema: dict, path: str, required: bool) -> Iterator[tuple[str, str, str]]:
    text = described(schema.get("description"), f"{kind} {path}")
    yield f"`{path}`", _crd_type(schema) + (", required" if required else ""), text
    inner = schema.get("items", schema)
    prefix = f"{path}[]" if "items" in schema else path
    for name, each in inner.get("properties", {}).items():
        yield from _crd_fields(kind, each, f"{prefix}.{name}", name in inner.get("required", ()))


def _crd_type(schema: dict) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    words = schema["type"]
    if "enum" in schema:
        words = "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "additionalProperties" in schema:
        words = f"map of {schema['additionalProperties']['type']}s"
    if words == "array":
        each = _crd_type(schema["items"])
        words = f"list of {each}s" if each.isalpha() else f"list, each {each}"
        words += f", {schema['maxItems']} at most" if "maxItems" in schema else ""
    if "minimum" in schema or "maximum" in schema:
        words += f", {schema.get('minimum', '')} to {schema.get('maximum', '')}"
    if "default" in schema and schema["default"] != "":
        words += f", default `{schema['default']}`"
    return words


def _rules(schema: dict, path: str) -> str:
    found = [f"- `{path}`: {rule['message']}" for rule in schema.get("x-kubernetes-validations", ())]
    for name, each in schema.get("properties", {}).items():
        found += filter(None, _rules(each, f"{path}.{name}").splitlines())
    return "\n".join(found) + "\n" if found else ""


# ---- fields that are read

COMMON = ("apiVersion", "metadata", "status")  # to all kinds


def read_fields() -> str:
    parts = ["Each kind of the Gateway API and of Kubernetes that gwfast reads, with each field that it reads. The "
             "[Gateway API's reference](https://gateway-api.sigs.k8s.io/reference/spec/) says what the fields mean. "
             "A field that is not here is an error in files. Kinds of Kubernetes have other fields too, which gwfast does not "
             "look at.\n"]
    groups: dict[str, list[type]] = {}
    for (group, _), kind in model.KINDS.items():
        if group != model.OWN_GROUP:
            groups.setdefault(group or "v1 (core)", []).append(kind)
    for group, kinds in groups.items():
        parts.append(f"## {group}\n")
        for kind in kinds:
            told: Any = inspect.type_info(kind)
            fields = [field for field in told.fields if field.encode_name not in COMMON and field.encode_name[0] != "-"]
            rows = [row for field in fields for row in _model_fields(field, "", ())]
            [version] = [field.default for field in told.fields if field.encode_name == "apiVersion"]
            parts.append(f"### {kind.__name__}\n\n`apiVersion: {version}`\n")
            parts.append(table(("field", "type", "default"), rows) if rows else "It has no field that is read.\n")
    return page("Fields that are read", *parts)


def _model_fields(field: Any, prefix: str, above: tuple[type, ...]) -> Iterator[tuple[str, str, str]]:
    path = prefix + field.encode_name
    kind, default = _given(field.type), field.default
    shown = "" if default in (inspect.NODEFAULT, UNSET, None, "") or isinstance(default, tuple) else f"`{_value(default)}`"
    words, inner = _type(kind)
    if "`" not in shown or shown.startswith("`{"):
        shown = ""
    yield f"`{path}`", words + (", required" if field.required else ""), shown
    if inner is not None and inner.cls not in above:
        for each in inner.fields:
            yield from _model_fields(each, path + ("[]." if isinstance(kind, inspect.VarTupleType) else "."), (*above, inner.cls))


def _value(default: Any) -> Any:
    return {True: "true", False: "false"}.get(default, default) if isinstance(default, bool | int | str) else "{}"


def _given(kind: Any) -> Any:
    kinds = [each for each in getattr(kind, "types", (kind,)) if not isinstance(each, inspect.NoneType)]
    return kinds[0] if len(kinds) == 1 else kind


def _type(kind: Any) -> tuple[str, Any]:
    """(what it is called, the struct whose fields follow or None)"""
    match kind:
        case inspect.StructType():
            return "object", kind
        case inspect.VarTupleType():
            words, inner = _type(_given(kind.item_type))
            return f"list of {words}s" if words.isalpha() else f"list, each {words}", inner
        case inspect.LiteralType():
            return "one of " + ", ".join(f"`{value}`" for value in kind.values), None
        case inspect.IntType():
            bounds = f", {kind.ge} to {kind.le}" if kind.ge is not None and kind.le is not None else ""
            return f"integer{bounds}", None
        case inspect.UnionType():
            return " or ".join(_type(each)[0] for each in kind.types if not isinstance(each, inspect.NoneType)), None
        case inspect.DictType():
            return "map", None
    names = {inspect.StrType: "string", inspect.BoolType: "boolean", inspect.BytesType: "bytes", inspect.FloatType: "number",
             inspect.DateTimeType: "time", inspect.AnyType: "anything", inspect.RawType: "anything"}
    return names.get(type(kind), getattr(getattr(kind, "cls", None), "__name__", "value").lower()), None


# ---- metrics, the access log, limits


def metrics() -> str:
    parts = ["`GET /metrics` of the admin port answers in Prometheus' text format. "
             "[Logs and metrics](../logs-and-metrics.md) says how to use them.\n"]
    for title, prefix, rows in (("A gateway", "gwfast_", families.GATEWAY), ("Its processes", "", families.PROCESS),
                                ("A controller", "gwfast_", families.CONTROLLER)):
        parts.append(f"## {title}\n\n" + table(("name", "type, labels", "meaning"), [
            (f"`{prefix}{name}`", ", ".join([kind, *(f"`{label}`" for label in labels.split())]), described(_escaped(text), name))
            for name, (kind, labels, text) in rows.items()]))
    return page("Metrics", *parts)


def log_fields(source: str) -> list[tuple[str, str]]:
    """(name, meaning) of each member of a line, in its order, from the function that writes it."""
    body = source.partition("cdef void json(")[2].partition("cdef void common(")[0]
    own = {"time": "when the request ended, in UTC", "protocol": "the version of HTTP",
           "flags": "what went wrong: one of the words below"}
    found = []
    for line in body.splitlines():
        for name in re.findall(r"b'[{,]\"(\w+)\":", line):
            if name not in dict(found):
                found.append((name, own.get(name, "")))
        if member := re.match(r'\s+(?:member|number|word|millis)\(out, "(\w+)", [^#]*(?:# (.*))?$', line):
            found.append((member[1], member[2] or ""))
    return found


def faults(source: str) -> list[tuple[str, int, str]]:
    """(word, status, meaning) of each row of the failure table, in its order."""
    meanings = dict(re.findall(r'\{\d+, \w+, \w+, "([^"]+)"\}, +/\* (.*?) \*/', source))
    return [(word, status, meanings.get(word, "")) for word, status, *_ in fault.table()]


def access_log() -> str:
    fields = log_fields((ROOT / "gwfast/engine/access_log.pyx").read_text())
    rows = [(f"`{word}`", str(status) if status else "none", described(text, f"fault {word}"))
            for word, status, text in faults((ROOT / "gwfast/http/fault.pyx").read_text())]
    return page(
        "Access log",
        "One line for each request, on standard output. `--access-log json` is the default. A member that has nothing to say is "
        "left out.\n",
        table(("member", "meaning"), [(f"`{name}`", _sentence(described(text, f"log member {name}"))) for name, text in fields]),
        "`--access-log common` writes the combined log format, which has no place for more. `--access-log off` writes nothing.\n",
        "## Flags\n\nThe word is the same in `gwfast_faults_total`. The status is what the client gets from the gateway; none: "
        "the connection or stream ends without one.\n",
        table(("flag", "status", "meaning"), rows),
        "## Reasons\n\nA `bad_request` says in `reason` what is not valid: "
        + ", ".join(f"`{word}`" for word in fault.reasons()) + ".\n")


def limits() -> str:
    parts = ["The numbers that bound what a client, a backend or a configuration may cost. Times are in seconds, sizes in bytes. "
             "The words are those of `gwfast/limits.py`. Where an option is named, it can say another number.\n"]
    for comment, rows in _limit_groups((ROOT / "gwfast/limits.py").read_text()):
        parts.append((f"{_escaped(comment)}\n\n" if comment else "") + table(("limit", "number", "why"), rows))
    return page("Limits", *parts)


def _limit_groups(source: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the comment above some limits, and their rows."""
    comment, rows, open_comment = "", [], False
    for line in source.splitlines():
        if line.startswith("#"):
            if rows:
                yield comment, rows
                comment, rows = "", []
            comment, open_comment = (f"{comment} {line[1:].strip()}" if open_comment else line[1:].strip()), True
            continue
        open_comment = False
        if found := re.match(r"([A-Z][A-Z0-9_]+)(?:: [^=]+)? = [^#]+(?:# (.*))?$", line):
            number = getattr(limits_of_gwfast, found[1])
            shown = f"{number:,}" if isinstance(number, int | float) else str(number)
            rows.append((f"`{found[1]}`", shown, _escaped(found[2] or "")))
    yield comment, rows


PAGES = {"command-line": command_line, "kinds": own_kinds, "fields": read_fields, "metrics": metrics, "access-log": access_log,
         "limits": limits}
