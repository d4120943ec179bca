"""The README's figures are those of the reference report, whose page is made of the same run."""
from pathlib import Path

import pytest

from bench import readme, report
from bench.stage import Figure

ROOT = Path(__file__).parents[2]
ABOUT = {"at": "2026-01-01T00:00:00Z", "versions": {"gwfast": "1", "nginx": "2 (2026-01-02)", "floor": ""},
         "machine": {"cpu": "a cpu", "cores": 2, "kernel": "6.1.2", "python": "3.11.7", "load": 0.1, "virtual": True}}


def figure(contender: str, value: float, case: str = "small", measure: str = "CPU", point: str = "") -> Figure:
    return Figure(case=case, contender=contender, measure=measure, unit="us/request", value=value, point=point)


def run(*more: Figure) -> report.Run:
    return report.Run(about=ABOUT, cases={"small": ""}, figures=[figure("gwfast", 10.0), figure("nginx", 20.0), *more])


def test_the_readme_has_the_figures_of_the_report():
    found = report.read(ROOT / "bench" / "results" / "report.jsonl")
    text = (ROOT / "README.md").read_text()
    assert f"{readme.BEGIN}\n{readme.block(found)}\n{readme.END}" in text, \
        "python -m bench --from bench/results/report.jsonl --readme README.md --html bench/results/report.html"


def test_the_page_is_of_the_same_run():
    found = report.read(ROOT / "bench" / "results" / "report.jsonl")
    assert found.about["at"] in (ROOT / "bench" / "results" / "report.html").read_text()


def test_a_line_for_each_who_was_measured():
    lines = readme.block(run()).splitlines()
    assert [line for line in lines if line.startswith("| ") and "us" in line] == [
        "| **gwfast** | 10 us | 0.50 |  |  |  |  |  |  |", "| nginx 2 (2026-01-02) | 20 us | 1.00 |  |  |  |  |  |  |"]
    assert "1 cases beside 1 other proxies" in readme.block(run()) and "JSON in the access log" not in readme.block(run())


def test_what_was_not_measured_is_not_said():
    said = readme.block(run(figure("gwfast", 11.0, "json-log", point="on"), figure("gwfast", 10.0, "json-log", point="off")))
    assert "A line of JSON in the access log is +10 % of CPU time." in said and "A 504" not in said


def test_it_is_put_between_the_marks(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nbehind\n")
    readme.put(run(), file)
    readme.put(run(), file)
    assert file.read_text() == f"before\n{readme.BEGIN}\n{readme.block(run())}\n{readme.END}\nbehind\n"
    file.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        readme.put(run(), file)
