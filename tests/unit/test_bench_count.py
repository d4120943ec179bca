"""The gate on instructions: what it lets pass, and what it says of what it does not."""
import subprocess

import msgspec
import pytest

from bench import count, operations, tools
from bench.count import Baseline, Count

CASES = {
    "the same": (1000, 1000, 0, ""),
    "a little more": (1000, 1005, 0, ""),
    "nearly too much": (1000, 1009, 0, ""),
    "too much": (1000, 1040, 1, "find: 1,000 -> 1,040 instructions, +4.0% (1% are tolerated); if that is what it should "
                                "cost: python -m bench count --accept"),
    "a little less": (1000, 995, 0, ""),
    "much less": (1000, 900, 0, "find: -10.0%: lower the baseline, so that it stays: python -m bench count --accept"),
    "unknown": (None, 1000, 1, "find: not in the baseline; if that is what it should cost: python -m bench count --accept"),
}


@pytest.fixture
def baseline(tmp_path, monkeypatch):
    """A baseline of its own."""
    monkeypatch.setattr(count, "BASELINE", tmp_path / "baseline.json")
    return count.BASELINE


@pytest.mark.parametrize("before, now, status, says", CASES.values(), ids=CASES)
def test_growth(before, now, status, says):
    fine = Count("pick", 64, 64)
    assert count.judge([fine, Count("find", now, before)], []) == (status, [says] if says else [])


def test_whoever_grew_is_named():
    status, lines = count.judge([Count("find", 104, 100), Count("pick", 64, 64), Count("parse", 208, 200)], [])
    assert status == 1 and [line.partition(":")[0] for line in lines] == ["find", "parse"]


def test_accepted_figures_are_the_next_baseline(baseline):
    count.accept([Count("find", 1040, 1000)])
    assert count.read() == Baseline(count.measured_with(), {"find": 1040})
    assert count.differences(count.read()) == []


def test_another_compiler_is_not_compared_with_the_figures_of_this_one(baseline):
    with_other = {**count.measured_with(), "compiler": "GNU C17 99.1.0"}
    baseline.write_bytes(msgspec.json.encode(Baseline(with_other, {"find": 1000})))
    (line,) = count.differences(count.read())
    assert line.startswith("compiler was GNU C17 99.1.0, here it is ")
    status, lines = count.judge([Count("find", 2000, None)], [line])
    assert status == 0 and lines[0].startswith("SKIPPED") and lines[1] == line
    status, (said, other, grown) = count.judge([Count("find", 2000, 1500)], [line])
    assert status == 1 and said.startswith("compared with") and other == line and grown.startswith("find: 1,500 -> 2,000")


def test_the_commit_of_the_baseline_is_built_and_counted(tmp_path, monkeypatch):
    """In a repository of its own, whose engine is a script."""
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    monkeypatch.setattr(count, "ROOT", tmp_path)
    monkeypatch.setattr(count, "BASELINE", tmp_path / "bench" / "baseline.json")
    assert count.rebuilt() == {}  # there is no history
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "baseline.json").write_text("{}")
    (tmp_path / "setup.py").write_text("open('built', 'w').write('1500')")
    (tmp_path / "bench" / "__main__.py").write_text(
        "import sys\nopen(sys.argv[3], 'w').write('{\"bench\": \"count\", \"operation\": \"find\", \"instructions\": %s}\\n'\n"
        " % open('built').read())")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "bench: figures")
    (tmp_path / "setup.py").write_text("raise SystemExit('of a later commit')")
    git("commit", "-qam", "setup: later")
    assert count.rebuilt() == {"find": 1500}


@pytest.mark.parametrize("now, status", {"grown": (1040, 1), "as it was": (1001, 0)}.values(), ids=["grown", "as it was"])
def test_the_exit_status(baseline, monkeypatch, capsys, now, status):
    count.accept([Count("find", 1000)])
    monkeypatch.setattr(count, "run", lambda words, check: [Count("find", now, 1000)])
    assert tools.tool(["count", "--check"]) == status
    assert ("bench count: find: 1,000 -> 1,040" in capsys.readouterr().out) == bool(status)


def test_the_cheapest_round_counts_without_what_it_took_to_begin():
    assert count.cost([5000, 90_000, 70_000, 65_000, 65_100], 100) == 600
    with pytest.raises(ChildProcessError, match="nothing was counted"):
        count.cost([0, 0, 0, 0, 0], 100)


def test_the_baseline_knows_every_operation():
    assert count.read().instructions.keys() == operations.OPERATIONS.keys() | operations.BEYOND.keys()


@pytest.mark.parametrize("page", ["docs/decisions.md", "docs/python-filters.md", "bench/README.md"])
def test_pages_say_what_the_baseline_says_of_filters_in_python(page):
    text = (count.ROOT / page).read_text()
    for name in operations.BEYOND:
        assert f"{round(count.read().instructions[name], -2):,.0f}" in text, name
