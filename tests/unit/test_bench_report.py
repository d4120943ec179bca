"""Figures into tables, goals and pages; and which cases a word means."""
import msgspec
import pytest

from bench import page, report
from bench.__main__ import chosen, options, parser
from bench.cases import CASES
from bench.goals import GOALS, judged
from bench.kinds import Case
from bench.stage import Figure, Note

ABOUT = {"at": "2026-01-01T00:00:00Z", "versions": {"gwfast": "1", "nginx": "2"},
         "machine": {"cpu": "a <b>", "cores": 2, "kernel": "6", "python": "3", "load": 0.1}}


def figures(contender, *values, case="small", measure="CPU", unit="us/request", point=""):
    return [Figure(case=case, contender=contender, measure=measure, unit=unit, value=value, round=turn, point=point)
            for turn, value in enumerate(values)]


@pytest.fixture
def run():
    return report.Run(about=ABOUT, cases={"small": "small ones"}, figures=[
        *figures("gwfast", 10.0, 11.0, 12.0), *figures("nginx", 22.0, 21.0, 23.0),
        *figures("gwfast", 90000.0, measure="rate", unit="requests/s")],
        notes=[Note(case="small", contender="caddy", note="caddy is not installed")])


def test_table(run):
    assert report.table(run, "small").splitlines() == [
        "small: small ones",
        "          CPU us/request  spread  ratio  rate requests/s",
        "  gwfast              11     9 %   1.00           90,000",
        "  nginx               22     5 %   2.00                -",
        "  caddy: caddy is not installed"]


def test_points_have_lines_and_ratios_of_their_own():
    run = report.Run(about=ABOUT, cases={"path-100": "x"}, figures=[
        each for point, values in (("first", (10.0, 20.0)), ("last", (11.0, 44.0)))
        for name, value in zip(("gwfast", "envoy"), values, strict=True)
        for each in figures(name, value, case="path-100", point=point)])
    lines = [line.split() for line in report.table(run, "path-100").splitlines()[2:]]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        ("gwfast", "first", "1.00"), ("envoy", "first", "2.00"), ("gwfast", "last", "1.00"), ("envoy", "last", "4.00")]


def test_without_gwfast_there_is_no_ratio():
    run = report.Run(about=ABOUT, cases={"small": ""}, figures=figures("nginx", 20.0))
    assert report.table(run, "small").splitlines()[-1].split() == ["nginx", "20", "-", "-"]


def test_a_case_of_which_nothing_was_measured(run):
    run.figures.clear()
    assert report.table(run, "small").splitlines() == ["small: small ones", "  caddy: caddy is not installed"]
    assert "<svg" not in page.html(run)


@pytest.mark.parametrize("value, text", [(0, "0"), (12, "12"), (1234.5, "1,234"), (123.45, "123.5"), (9.876, "9.88"), (0.0123, "0.012")])
def test_number(value, text):
    assert report.number(value) == text


def test_goals_are_judged(run):
    found = {goal.about: (value, value <= goal.limit) for goal, value in judged(run)}
    assert found == {"CPU time of a small request, to nginx": (0.5, True)}
    assert "0.500 of  0.800     met" in report.text(run)
    run.figures += figures("gwfast", 3.0, 0.0, 0.0, case="churn-routes", measure="errors", unit="")
    assert "missed" in report.text(run)  # one round with errors is one too many


def test_goals_name_cases_that_there_are():
    asked = set()

    class Asked(report.Run):
        def values(self, case, *_):
            asked.add(case)
            return []

    for goal in GOALS:
        assert goal.value(Asked(about=ABOUT, cases={})) is None
    assert asked <= CASES.keys() and len(asked) > 8


def test_read_is_what_was_written(run, tmp_path):
    file = tmp_path / "run.jsonl"
    lines = [{"about": run.about, "cases": run.cases}, *run.figures, *run.notes]
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    assert report.text(report.read(file)) == report.text(run)


def test_a_case_that_was_run_again_counts_once(run, tmp_path):
    file = tmp_path / "run.jsonl"
    lines = [{"about": run.about, "cases": run.cases}, *run.figures, {"about": run.about, "cases": {"small": "again"}},
             *figures("gwfast", 5.0)]
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    found = report.read(file)
    assert found.cases == {"small": "again"} and found.values("small", "gwfast", "CPU") == [5.0]


@pytest.mark.parametrize("text", [b"", b'{"case":"small","contender":"a","note":"b"}\n'])
def test_a_file_that_is_none(tmp_path, text):
    (tmp_path / "run.jsonl").write_bytes(text)
    with pytest.raises(ValueError):
        report.read(tmp_path / "run.jsonl")


def test_page_is_whole_and_escaped(run):
    pytest.importorskip("matplotlib")
    text = page.html(run)
    assert text.count("<svg") == 1 and text.count("</svg>") == 1
    assert "a &lt;b&gt;" in text and "a <b>" not in text
    assert "class=met>met" in text and "caddy is not installed" in text
    assert "src=" not in text and "<link" not in text


def test_chosen():
    assert chosen([]) == list(CASES)
    assert chosen(["small"]) == ["small"]
    assert chosen(["churn", "small", "churn-routes"]) == ["churn-routes", "churn-endpoints", "small"]
    with pytest.raises(ValueError, match="no case is called nothing"):
        chosen(["nothing"])


def test_options():
    assert options(parser().parse_args(["--against", "nginx,floor"])).contenders == ("floor", "gwfast", "nginx")
    assert options(parser().parse_args(["--against", ""])).contenders == ("gwfast",)
    with pytest.raises(ValueError, match="nobody is called apache"):
        options(parser().parse_args(["--against", "apache"]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_case_says_what_it_is(case):
    assert case.about and isinstance(case, Case) and type(case).run is not Case.run
