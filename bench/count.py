"""What a lookup costs: instructions, counted by callgrind (the same on every run), and nanoseconds beside them.

Only what runs inside find() is counted. Run as a script, this module is what callgrind watches: it asks the images that
`run` wrote, and callgrind writes one profile for each call of Table.spin.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from bench import plans
from gwfast._match import Table

TIMES = 200
SPINS = 20_000
ANYWHERE = 50_000


class Count(msgspec.Struct, frozen=True):
    """Of one table: the lookups of plans.WHICH. Instructions are empty where they would say nothing."""

    table: str
    routes: int
    instructions: tuple[float, ...]
    nanoseconds: tuple[float, ...]


def run(routes: int) -> list[Count]:
    lookups = [(name, plan, requests) for name, plan, requests in plans.lookups(routes)]
    images = [plans.image(plan) for _, plan, _ in lookups]
    instructions = counted(images, [requests for _, _, requests in lookups])
    found = []
    for (name, plan, requests), image, counts in zip(lookups, images, instructions, strict=True):
        size = sum(len(host.entries) for host in plan.binds[0].listeners[0].hosts)
        times = tuple(timed(image, [path], headers, SPINS) for path, headers in requests)
        found.append(Count(name, size, counts, times))
    anywhere = timed(images[0], plans.anywhere(routes, ANYWHERE), lookups[0][2][0][1], ANYWHERE)
    return [*found, Count("anywhere", routes, (), (anywhere,))]


def timed(image, paths: list[str], headers: list[tuple[str, str]], times: int) -> float:
    """Nanoseconds of one lookup: the best of five rounds."""
    table = Table(image)
    return min(table.spin(1, "GET", paths, headers, times)[1] for _ in range(5)) / times


def counted(images: list, requests: list[list[plans.Request]]) -> list[tuple[float, ...]]:
    """Instructions of one lookup, for each image and each of its requests."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for n, image in enumerate(images):
            (folder / f"image.{n}").write_bytes(image)
        (folder / "requests").write_bytes(msgspec.json.encode(requests))
        subprocess.run(
            ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*_match_find",
             "--dump-after=*pw*Table*spin*", f"--callgrind-out-file={folder}/profile", sys.executable, "-m", __name__,
             temporary], check=True, capture_output=True)
        profiles = iter(range(1, sum(map(len, requests)) + 1))
        return [tuple(_total(folder / f"profile.{next(profiles)}") / TIMES for _ in each) for each in requests]


def _total(profile: Path) -> int:
    return next(int(line.split()[1]) for line in profile.read_text().splitlines() if line.startswith("totals:"))


def table(found: list[Count]) -> str:
    lines = []
    for what in ("instructions", "nanoseconds"):
        lines.append(f"{what:14}{'routes':>8}" + "".join(f"{which:>9}" for which in plans.WHICH))
        lines += [f"  {count.table:12}{count.routes:8}" + "".join(f"{n:9.0f}" for n in getattr(count, what))
                  for count in found if getattr(count, what)]
    return "\n".join(lines)


def watched(folder: Path) -> None:
    """Ask every lookup TIMES times."""
    for n, requests in enumerate(msgspec.json.decode((folder / "requests").read_bytes())):
        asked = Table((folder / f"image.{n}").read_bytes())
        for path, headers in requests:
            asked.spin(1, "GET", [path], headers, TIMES)


if __name__ == "__main__":
    watched(Path(sys.argv[1]))
