"""What a process asks of Linux for itself."""
import json
import os
import subprocess
import sys

import pytest

from gwfast import linux

SHARED = """
import re, sys, threading
from gwfast import linux
if sys.argv[1] == "share":
    linux.share_heap()

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
linux.trim_heap()
print(heaps, full - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_threads_share_an_arena_and_what_is_free_goes_back():
    shared, own = (subprocess.run([sys.executable, "-c", SHARED, how], check=True, capture_output=True, text=True).stdout.split()
                   for how in ("share", "not"))
    assert int(shared[0]) == 1 < int(own[0])
    assert int(shared[1]) > 3000


FORGOTTEN = r"""
import json, re
import decimal, OpenSSL.SSL
import gwfast.engine.engine
from gwfast import linux

def mapped():
    return int(re.search(r"^RssFile:\s+(\d+)", open("/proc/self/status").read(), re.M)[1])

before = mapped()
linux.forget_files()
after = mapped()
OpenSSL.SSL.Connection(OpenSSL.SSL.Context(OpenSSL.SSL.TLS_METHOD), None).set_connect_state()
print(json.dumps({"half": after * 2 < before, "sum": str(decimal.Decimal("0.1") * 3)}))
"""


def test_what_was_needed_to_begin_goes_and_what_is_used_comes_back():
    done = subprocess.run([sys.executable, "-c", FORGOTTEN], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"half": True, "sum": "0.3"}


def test_a_process_has_a_name_and_its_parents_signal():
    code = """
import signal, sys
from gwfast import linux
linux.name_process(b"gwfast-of-a-test")
linux.end_with_parent(signal.SIGTERM)
print(open("/proc/self/comm").read().strip(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["gwfast-of-a-tes"]


def test_orphans_become_those_of_who_adopts_them():
    code = """
import os, time
from gwfast import linux
linux.adopt_orphans()
between = os.fork()
if not between:
    parent = os.getpid()
    if not os.fork():
        while os.getppid() == parent:
            time.sleep(0.001)
        os._exit(7)
    os._exit(0)
os.waitpid(between, 0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["7"]


def test_what_the_kernel_refuses_is_said(tmp_path):
    queue = linux.inotify_init(os.O_CLOEXEC)
    try:
        assert linux.inotify_add_watch(queue, os.fsencode(tmp_path), 0x100) == 1
        with pytest.raises(FileNotFoundError):
            linux.inotify_add_watch(queue, b"/does/not/exist", 0x100)
    finally:
        os.close(queue)
    with pytest.raises(OSError, match="Invalid argument"):
        linux.inotify_init(1)
