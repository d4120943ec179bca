"""Which program stands for an image.

An image is a regular expression on its name and what a Dockerfile says: entrypoint, command, environment, user. gwfast's is
what the project's own Dockerfile says, with this virtual environment in the place of /opt/gwfast. The first that is found in a
name is taken; cluster.py puts a test's own in front. A name that none is found in cannot be pulled.
"""
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[3]
PATH = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
DNS = [sys.executable, str(Path(__file__).with_name("dns.py")), "--any", "192.0.2.1"]


@dataclass
class Image:
    """What runs: `entrypoint` and `command` as a Dockerfile has them; `links` are symbolic links that the image has."""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    links: dict[str, str] = field(default_factory=dict)


def of_dockerfile(file: Path) -> Image:
    """Read what the last stage of a Dockerfile says about how to run it."""
    stage = re.split(r"(?m)^FROM ", file.read_text().replace("\\\n", " "))[-1]
    said = dict(re.findall(r"(?m)^(ENTRYPOINT|CMD|USER) (.+)$", stage))
    env = {"PATH": PATH}
    for pairs in re.findall(r"(?m)^ENV (.+)$", stage):
        for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', pairs):
            env[name] = value.strip('"').replace("$PATH", env.get("PATH", ""))
    return Image(json.loads(said.get("ENTRYPOINT", "[]")), json.loads(said.get("CMD", "[]")), env, said.get("USER", ""))


class Images:
    """The table of images. `more` is [(regular expression, fields of Image)]."""

    def __init__(self, programs: Path, more: list[tuple[str, dict]]):
        gwfast = of_dockerfile(PROJECT / "Dockerfile")
        gwfast.links = {"/opt/gwfast": sys.prefix}
        self._table = [(re.compile(pattern), Image(**said)) for pattern, said in more] + [
            (re.compile(r"(^|/)gwfast(:|@|$)"), gwfast),
            (re.compile(r"(^|/)echo-(basic|advanced)(:|@|$)"), Image([str(programs / "echo-basic")])),
            (re.compile(r"(^|/)coredns(:|@|$)"), Image(DNS)),
            (re.compile(r"(^|/)(python|busybox|alpine|debian)(:|@|$)"), Image(command=["sleep", "infinity"])),
        ]

    def find(self, name: str) -> Image | None:
        return next((image for pattern, image in self._table if pattern.search(name)), None)


def needed(image: Image) -> list[str]:
    """The folders of this machine that the programs of an image are made of."""
    programs = [str(Path(word).parent) for word in image.entrypoint[:1] if word.startswith("/")]
    return sorted({sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent), str(PROJECT), *programs})


def passable(image: Image) -> list[str]:
    """Folders that a user other than root must be able to pass to get there."""
    return sorted({str(parent) for path in needed(image) for parent in [Path(path), *Path(path).parents]})
