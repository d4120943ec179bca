"""What was freed goes back, whichever thread freed it."""
import subprocess
import sys

import pytest

SHARED = """
import re, sys, threading
from gwfast import heap
if sys.argv[1] == "share":
    heap.share()

def arenas():
    work = [threading.Thread(target=fill) for _ in range(4)]
    [each.start() for each in work]
    [each.join() for each in work]

def fill():
    kept.append([bytes(600) for _ in range(3000)])
    all_there.wait()

def resident():
    return int(re.search(r"^Private_Dirty: +(\\d+)", open("/proc/self/smaps_rollup").read(), re.M)[1])

all_there = threading.Barrier(4)
kept = []
arenas()
for part in kept:
    del part[:-1]
lines = [line.split()[0].split("-") for line in open("/proc/self/maps")]
heaps = len({begin for part in kept for begin, end in lines if int(begin, 16) <= id(part[0]) < int(end, 16)})
full = resident()
heap.trim()
print(heaps, full - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_threads_share_an_arena_and_what_is_free_goes_back():
    shared, own = (subprocess.run([sys.executable, "-c", SHARED, how], check=True, capture_output=True, text=True).stdout.split()
                   for how in ("share", "not"))
    assert int(shared[0]) == 1 < int(own[0])
    assert int(shared[1]) > 3000
