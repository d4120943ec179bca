"""Figures into tables, goals and pages; and which cases a word means."""
import msgspec
import pytest

from bench import page, report
from bench.__main__ import chosen, options, parser, use
from bench.cases import CASES
from bench.contenders import CONTENDERS
from bench.goals import GOALS, beside_better, judged
from bench.kinds import Case
from bench.load import Load
from bench.run import Progress, fitting
from bench.stage import Figure, Note, Options

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
        "  nginx               22     5 %   1.92                -",
        "  caddy: caddy is not installed"]


def test_points_have_lines_and_ratios_of_their_own():
    run = report.Run(about=ABOUT, cases={"path-100": "x"}, figures=[
        each for point, values in (("first", (10.0, 20.0)), ("last", (11.0, 44.0)))
        for name, value in zip(("gwfast", "envoy"), values, strict=True)
        for each in figures(name, value, case="path-100", point=point)])
    lines = [line.split() for line in report.table(run, "path-100").splitlines()[2:]]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        ("gwfast", "first", "1.00"), ("envoy", "first", "2.00"), ("gwfast", "last", "1.00"), ("envoy", "last", "4.00")]


def test_a_ratio_is_that_of_each_round():
    run = report.Run(about=ABOUT, cases={"small": ""}, figures=[*figures("gwfast", 1.0, 10.0, 2.0), *figures("nginx", 2.0, 20.0)])
    assert run.ratios("small", "CPU", ("nginx", ""), ("gwfast", "")) == [2.0, 2.0]
    assert run.ratios("small", "CPU", ("gwfast", ""), ("envoy", "")) == []


def test_two_runs_apart(run):
    other = msgspec.structs.replace(run, figures=[*figures("gwfast", 10.0, 11.0, 12.0), *figures("nginx", 30.0, 22.0, 24.0)])
    assert report.apart(run, run) == "2 ratios, 2 within 10%; half of them within 0.0%"
    assert report.apart(run, other, 0.01).splitlines() == [
        "2 ratios, 0 within 1%; half of them within 4.3%", "CPU time of a small request, to nginx: 0.500 and 0.522, 4%",
        "small nginx: 2 and 1.92, 4%"]


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
    (found,) = judged(run)
    assert (found.goal.about, found.value, found.met) == ("CPU time of a small request, to nginx", 12 / 23, True)
    assert (found.lowest, found.highest) == (10 / 22, 11 / 21)
    assert "0.522 of  0.800     met     0.455 to 0.524" in report.text(run)
    run.figures += figures("gwfast", 3.0, 0.0, 0.0, case="churn-routes", measure="errors", unit="")
    assert "missed" in report.text(run)  # one round with errors is one too many


def test_beside_the_better_of_two(run):
    values = beside_better("small", "CPU", ("nginx", "haproxy"))
    assert values(run) == [10 / 22, 11 / 21, 12 / 23]
    run.figures += figures("haproxy", 20.0, 22.0, 20.0)
    assert values(run) == [10 / 20, 11 / 22, 12 / 20]
    assert beside_better("small", "CPU", ("envoy",))(run) == []


def test_goals_name_cases_that_there_are():
    asked = set()

    class Asked(report.Run):
        def values(self, case, *_):
            asked.add(case)
            return []

        ratios = values

    for goal in GOALS:
        assert goal.values(Asked(about=ABOUT, cases={})) == []
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
    assert "class=met>met" in text and "caddy is not installed" in text and "currentColor" in text
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


def test_every_kind_has_its_plot():
    pytest.importorskip("matplotlib")
    asked = {"small": ("CPU", "rate"), "latency": ("p50", "p99", "p99.9"), "change-5000": ("live after",), "killed": ("errors",),
             "churn-routes": ("p99 quiet", "p99 changing"), "grow": ("mean", "wrong"), "start-1000": ("start", "memory"), "handshake-full": ("CPU", "rate"), "volume-up-tls": ("CPU", "rate"), "tls-h2": ("CPU", "rate")}
    run = report.Run(about=ABOUT, cases={case: "x" for case in (*asked, "path-100", "path-1000")}, figures=[
        each for case, measures in asked.items() for measure in measures for who in ("gwfast", "floor", "nginx")
        for each in figures(who, 1.0, 3.0, case=case, measure=measure)] + [
        each for case in ("path-100", "path-1000") for point in ("one", "first", "last")
        for each in figures("gwfast", 1.0, case=case, point=point)])
    assert page.html(run).count("<svg") == len(asked) + 1  # all numbers of routes are one


@pytest.mark.parametrize("text, errors", [((0, 0, 0, 0, 0), ""), ((3, 2, 1, 0, 4), "2 5xx, 1 otherwise wrong, 1 broken, 4 never answered")])
def test_errors_are_named(text, errors):
    wrong, bad, broken, refused, lost = text
    load = Load(asked=9, answered=9, wrong=wrong, broken=broken, refused=refused, retried=0, lost=lost, seconds=1, p50=1, p99=1,
                p999=1, max=1, typical=1, statuses=[0, 0, 6, 0, 0, bad])
    assert load.said() == errors and load.errors == wrong + broken + lost


def test_the_time_that_remains(capsys):
    progress = Progress(["small", "latency"], Options(contenders=("gwfast", "floor"), rounds=1, seconds=1.0))
    progress.begins("small")
    progress.begins("latency")
    progress.ends()
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("[1/2] small: 0:00 min gone, about ") and said[1].startswith("[2/2] latency: ")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_takes_longer_with_more(case):
    assert 0 < case.told(Options()).takes(1) <= case.takes(8)
    assert case.told(Options(rounds=2, seconds=9.0)).rounds == 2 and case.told(Options(rounds=2, seconds=9.0)).seconds == 9


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_case_says_what_it_is(case):
    assert case.about and isinstance(case, Case) and type(case).run is not Case.run


def test_a_contender_may_be_a_program_of_ones_own(tmp_path, monkeypatch):
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho 'nginx version: nginx/1.99.1' >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(CONTENDERS["nginx"], "program", "nginx")
    use(parser().parse_args(["--program", f"nginx={program}"]).program)
    assert CONTENDERS["nginx"].version().startswith("1.99.1 (built 2") and not CONTENDERS["nginx"].missing()
    made = CONTENDERS["nginx"](tmp_path / "one", 7001)
    assert made.command()[0] == str(program)
    for wrong in ("nobody=/bin/true", "gwfast=/bin/true", "nginx=/there/is/none", "nginx", "nginx=", f"nginx={tmp_path}"):
        with pytest.raises(ValueError, match="--program"):
            use([wrong])


def test_cases_fit_into_minutes():
    told = Options(contenders=("gwfast", "floor"))
    def seconds(share):
        return sum(case.told(msgspec.structs.replace(told, share=share)).takes(2) for case in CASES.values())
    assert fitting([*CASES], told, 1e9).share == 1
    shares = [fitting([*CASES], told, seconds(1) * part).share for part in (1, 0.9, 0.75)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 1
    assert all(seconds(share) <= seconds(1) * part + 1e-6 for share, part in zip(shares, (1, 0.9, 0.75), strict=True))
    assert all(case.shorter(0.01).rounds >= min(3, case.rounds) for case in CASES.values())
