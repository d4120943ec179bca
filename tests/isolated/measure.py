"""What a process holds: bytes that were allocated and not freed, pages, descriptors, mappings.

Allocated bytes are exact where Python's own allocator is out of the way, and the C library's cache of freed blocks, which
mallinfo counts as allocated (PYTHONMALLOC and GLIBC_TUNABLES, set by test_isolated.py): a leak of one struct per request
stands out of nothing, however the heap is fragmented. What the heap holds free is given back before pages are counted.
"""
import ctypes
import gc
import os
import re
from typing import NamedTuple


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


_library = ctypes.CDLL(None)
_mallinfo = _library.mallinfo2
_mallinfo.restype = _Mallinfo


class Held(NamedTuple):
    allocated: int   # bytes
    private: int     # bytes of memory that this process wrote to and has alone, resident
    files: int
    maps: int


def allocated() -> int:
    """Bytes that malloc gave out and did not get back."""
    found = _mallinfo()
    return found.uordblks + found.hblkhd


def private() -> int:
    """Pages of files that nobody wrote to are left out: they are private or not as other processes come and go."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(n) for n in re.findall(r"^Private_Dirty: +(\d+) kB", file.read(), re.M)) * 1024


def held() -> Held:
    gc.collect()
    _library.malloc_trim(0)
    with open("/proc/self/maps") as file:
        maps = sum(1 for _ in file)
    return Held(allocated(), private(), len(os.listdir("/proc/self/fd")), maps)


def steady(turn, turns: int, *, warm: int, allocated: int, private: int = 1 << 20, files: int = 0, maps: int = 2) -> None:
    """Do `turn(n)` some times to fill what is kept for reuse, then `turns` times more: nothing may have grown by more
    than this."""
    for n in range(warm):
        turn(n)
    before = held()
    for n in range(warm, warm + turns):
        turn(n)
    grown = Held(*(b - a for a, b in zip(before, held(), strict=True)))
    print(f"{turns} turns: {grown}")
    for name, most in (("allocated", allocated), ("private", private), ("files", files), ("maps", maps)):
        assert getattr(grown, name) <= most, f"{name} grew by {getattr(grown, name)} in {turns} turns, {most} at most"
