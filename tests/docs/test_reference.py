"""The reference is made of what the program is made of, and what has no description makes no page."""
import json
import re
from pathlib import Path

import pytest
import reference
import yaml

from gwfast import cli
from gwfast.config import model
from gwfast.http import fault
from gwfast.observe import families

ROOT = Path(__file__).parents[2]
ACCESS_LOG = (ROOT / "gwfast/engine/access_log.pyx").read_text()
FAULTS = (ROOT / "gwfast/http/fault.pyx").read_text()


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_is_made_and_has_no_empty_cell_where_a_meaning_has_to_be(name: str) -> None:
    text = reference.PAGES[name]()
    assert text.startswith("# ") and len(text.splitlines()) > 20
    widths = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert min(widths) >= 1 and max(widths) <= 2


def test_every_option_of_every_verb_is_there() -> None:
    text = reference.command_line()
    verbs = cli.parser()._subparsers._group_actions[0].choices
    assert [verb for verb in verbs if f"## gwfast {verb}\n" not in text] == []
    flags = {flag for verb in verbs.values() for action in verb._actions for flag in action.option_strings} - {"-h", "--help"}
    assert [flag for flag in flags if not re.search(rf"[`, ]{flag}[`, ]", text)] == []


def test_every_field_of_ours_is_there() -> None:
    text = reference.own_kinds()
    for file in (ROOT / "deploy/crds").iterdir():
        schema = yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert all(f"| `spec.{name}` |" in text for name in schema["properties"]["spec"]["properties"]), file


def test_every_kind_of_others_is_there_with_its_fields() -> None:
    text = reference.read_fields()
    assert sorted(re.findall(r"(?m)^### (\w+)$", text)) == sorted(kind for group, kind in model.KINDS if group != model.OWN_GROUP)
    for field in ("spec.listeners[].tls.certificateRefs[].name", "spec.rules[].backendRefs[].weight", "endpoints[].addresses", "trustBundle",
                  "spec.rules[].matches[].path.type"):
        assert field in text
    assert "| `spec.rules[].matches[].path.type` | one of `Exact`, `PathPrefix`, `RegularExpression` | `PathPrefix` |" in text


def test_every_metric_is_there() -> None:
    text = reference.metrics()
    assert [name for name in [*families.GATEWAY, *families.CONTROLLER] if f"`gwfast_{name}`" not in text] == []


def test_every_flag_and_every_reason_is_there() -> None:
    text = reference.access_log()
    assert [word for word, *_ in fault.table() if f"| `{word}` |" not in text] == []
    assert [word for word in fault.reasons() if f"`{word}`" not in text] == []


def test_the_members_of_the_log_are_those_that_are_written() -> None:
    """What compiled code writes: a line has them in this order."""
    named = [name for name, _ in reference.log_fields(ACCESS_LOG)]
    body = ACCESS_LOG.partition("cdef void json(")[2].partition("cdef void common(")[0]
    assert named == list(dict.fromkeys(re.findall(r"""(?:[{,]"|out, ")(\w+)"[:,]""", body)))
    line = json.loads('{"time":"","client":"","method":"","status":1,"flags":"-","duration_ms":1}')
    assert [name for name in named if name in line] == list(line)


@pytest.mark.parametrize("broken", [
    lambda: reference.described("", "a flag"), lambda: reference.described(None, "a flag"),
    lambda: [reference.described(text, word) for word, _, text in reference.faults(FAULTS.replace("/* The backend has no endpoint. */", ""))],
    lambda: [reference.described(text, name) for name, text in reference.log_fields(ACCESS_LOG.replace("# why it is a bad_request", ""))],
    lambda: list(reference._crd_fields("K", {"type": "object", "description": "A.", "properties": {"b": {"type": "string"}}}, "spec", True)),
], ids=["empty", "none", "flag", "log-member", "field"])
def test_what_is_not_described_makes_no_page(broken) -> None:
    with pytest.raises(reference.Undescribed):
        broken()


def test_an_option_without_help_makes_no_page(monkeypatch) -> None:
    made = cli.parser

    def lacking():
        top = made()
        top._subparsers._group_actions[0].choices["run"].add_argument("--new")
        return top
    monkeypatch.setattr(reference, "parser", lacking)
    with pytest.raises(reference.Undescribed, match="gwfast run --new"):
        reference.command_line()


def test_a_metric_without_help_makes_no_page(monkeypatch) -> None:
    monkeypatch.setitem(families.GATEWAY, "new", ("gauge", "", ""))
    with pytest.raises(reference.Undescribed, match="new"):
        reference.metrics()
