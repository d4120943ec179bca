"""What counts as silence: what a loop had time for and did not do."""
import os

import pytest

from gwfast import limits

from gwfast.engine import counters
from gwfast.serve.watchdog import EVERY, Vital

# What a worker ran and waited for a CPU between two looks, 0.25 s apart; what of that is silence.
LOOKS = {
    "sleeps in a call": (0.0, 0.0, EVERY),
    "stopped": (0.0, 0.0, EVERY),
    "loops": (EVERY, 0.0, EVERY),
    "loops on a machine that is busy": (0.1, 0.15, EVERY),
    "never got a CPU": (0.0, EVERY, 0.0),
    "got one for a moment": (0.01, 0.24, 0.01),
    "waited since before the last look": (0.0, 0.4, 0.0),
}


@pytest.fixture
def vital():
    made = Vital()
    yield made
    os.close(made.stack)


@pytest.mark.parametrize("run, delayed, silent", LOOKS.values(), ids=LOOKS)
def test_silence(vital, run, delayed, silent):
    vital.add(EVERY, (7.0, 3.0))
    assert vital.silent == 0.0, "from the first look on that saw no turn"
    for n in range(1, 5):
        vital.add(EVERY, (7.0 + n * run, 3.0 + n * delayed))
        assert vital.silent == pytest.approx(n * silent, abs=1e-6)
    vital.born()
    assert vital.silent == 0.0 and vital.ran is None


def test_limits_are_in_order():
    assert EVERY < limits.WORKER_SILENT < limits.WORKER_SILENT_DRAIN < limits.WORKER_TIMEOUT < limits.WORKER_LOADING


def test_a_stack_is_taken_once(vital):
    assert vital.take_stack() == {}
    os.write(vital.stack, b'Stack (most recent call first):\n  File "f.py", line 3 in g\n')
    assert vital.take_stack() == {"stack": 'Stack (most recent call first):\n  File "f.py", line 3 in g'}
    os.write(vital.stack, b"another")
    assert vital.take_stack() == {"stack": "another"} and vital.take_stack() == {}


def test_what_runs_in_a_worker():
    memory = counters.create(2, 4)
    worker, pulse = counters.Counters(memory, 1), counters.Pulse(memory)
    row, other = worker.filter_row("n/a"), worker.filter_row("n/b")
    assert (pulse.running(0), pulse.running(1), pulse.beats()) == (None, None, [0, 0])
    assert worker.runs(counters.place(row)) == 0
    assert pulse.running(1) == ("n/a", False) and pulse.running(0) is None
    before = worker.runs(counters.place(other, loading=True))
    assert before == counters.place(row) and pulse.running(1) == ("n/b", True)
    pulse.blocked(1)
    pulse.blocked(0)  # where nothing runs, nobody is blamed
    worker.runs(before)
    pulse.blocked(1)
    filters = counters.read(memory)["filters"]
    assert {name: row["blocked"] for name, row in filters.items()} == {"n/a": 1, "n/b": 1}
    assert sum(sum(row.values()) for row in filters.values()) == 2
    counters.Counters(memory, 1)  # who comes after it is in no filter
    assert pulse.running(1) is None
    os.close(memory)
