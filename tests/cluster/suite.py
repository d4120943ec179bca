"""What the conformance suite of the Gateway API has, says and reports: read from its program, its output and its report.

    registered(program)                 the tests that are in the suite: Test(name, features, provisional, profiles)
    results(output)                     {name: PASS, FAIL or SKIP} of those that ran to an end, whatever the report says
    judge(tests, claimed, results)      Verdict: what passed, failed, did not run and why
    Report(text)                        of the YAML that the suite writes: result and numbers of each profile

Rules:
- The report alone proves nothing: tests that run in parallel are counted as passed before they end, those of two profiles at once are
  in none, and one that was left out leaves no trace. What a run is worth is held against the suite's own list of tests.
- A test may be left out only where its features are not claimed; which they are is the GatewayClass' status (`claimed`).
"""
import json
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

PROFILES = ("GATEWAY-HTTP", "GATEWAY-GRPC", "GATEWAY-TLS", "GATEWAY-TCP", "GATEWAY-UDP")
MESH = "Mesh"  # a feature that every test of a mesh needs
LIST_SECONDS = 60.0
_ENDED = re.compile(r"^    --- (PASS|FAIL|SKIP): TestConformance/([^/ ]+) ", re.MULTILINE)
_STARTED = re.compile(r"^=== RUN   TestConformance/([^/\s]+)$", re.MULTILINE)


class Test(NamedTuple):
    """One test; `profiles` has core or extended for each profile that counts it, and none where it needs features of two."""
    name: str
    features: tuple[str, ...]
    provisional: bool
    profiles: Mapping[str, str]

    __test__ = False  # for pytest

    @property
    def core(self) -> bool:
        return "core" in self.profiles.values()


class Verdict(NamedTuple):
    """Names of tests, sorted; `left_out` says for each which of its features are not claimed."""
    passed: list[str]
    failed: list[str]
    missing: list[str]  # whose features are claimed, and which did not run to an end
    left_out: dict[str, list[str]]

    @property
    def complete(self) -> bool:
        return bool(self.passed) and not self.failed and not self.missing


def registered(program: str) -> list[Test]:
    """The tests for Gateways that a suite has. Raises RuntimeError where the program cannot tell."""
    done = subprocess.run([program, "-test.run=^TestRegistered$"], capture_output=True, text=True, timeout=LIST_SECONDS)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{program} does not say which tests it has; build it from tests/cluster/programs (make cluster-tools)")
    told = [Test(line["name"], tuple(line["features"]), line["provisional"], line["profiles"]) for line in lines]
    return [test for test in told if MESH not in test.features]


def results(output: str) -> dict[str, str]:
    """How each test ended. Not a test's own word: of `go test`, which is told of each and prints all at the end."""
    return {name: word for word, name in _ENDED.findall(output)}


def started(output: str) -> list[str]:
    return _STARTED.findall(output)


def judge(tests: Sequence[Test], claimed: Collection[str], ended: Mapping[str, str]) -> Verdict:
    """Hold what ran against what the suite has. `claimed`: the features of the GatewayClass' status."""
    lacking = {test.name: sorted(set(test.features) - set(claimed)) for test in tests}
    ran = {name for name, word in ended.items() if word != "SKIP"}
    names = sorted(lacking)
    return Verdict(passed=[name for name in names if ended.get(name) == "PASS"],
                   failed=[name for name in names if ended.get(name) == "FAIL"],
                   missing=[name for name in names if name not in ran and not lacking[name]],
                   left_out={name: lacking[name] for name in names if name not in ran and lacking[name]})


class Level(NamedTuple):
    """Core or extended of a profile."""
    result: str
    passed: int
    failed: int
    skipped: int


class Profile(NamedTuple):
    name: str
    summary: str
    core: Level
    extended: Level
    features: tuple[str, ...]
    unsupported: tuple[str, ...]


class Report:
    """A ConformanceReport as the suite writes it."""

    def __init__(self, text: str):
        self.raw: dict[str, Any] = yaml.safe_load(text)
        found = {one["name"]: profile(one) for one in self.raw["profiles"]}
        self.profiles = {name: found[name] for name in PROFILES if name in found}

    @property
    def succeeded(self) -> bool:
        """Whether every profile that there is has core and extended without a failure and without anything left out."""
        return tuple(self.profiles) == PROFILES and all(
            level.result == "success" and not level.failed and not level.skipped
            for one in self.profiles.values() for level in (one.core, one.extended))

    @property
    def features(self) -> set[str]:
        """The extended features that some profile says were supported."""
        return {name for one in self.profiles.values() for name in one.features}


def profile(told: Mapping[str, Any]) -> Profile:
    extended = told.get("extended") or {}
    return Profile(told["name"], told["summary"], level(told["core"]), level(extended),
                   tuple(extended.get("supportedFeatures") or ()), tuple(extended.get("unsupportedFeatures") or ()))


def level(told: Mapping[str, Any]) -> Level:
    counted = told.get("statistics") or {}
    return Level(told.get("result", ""), counted.get("Passed", 0), counted.get("Failed", 0), counted.get("Skipped", 0))
