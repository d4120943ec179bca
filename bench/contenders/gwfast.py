"""gwfast: it reads the resources themselves and sees by itself when a file changes."""
import shutil
import subprocess
import sys
from pathlib import Path

import gwfast
from bench.contenders.base import Contender, Moves
from bench.machine import free_port
from bench.world import World


class Gwfast(Contender):
    name, program, package = "gwfast", sys.executable, "make build"
    reload_signal = None
    log_name = "output"
    _seen = 0  # of the world's log

    @classmethod
    def version(cls) -> str:
        """With the commit and its day, where there is one."""
        here = Path(gwfast.__file__).parent
        said = subprocess.run(["git", "-C", str(here), "log", "-1", "--format=%h (%cs)"], capture_output=True, text=True)
        return f"{gwfast.__version__} {said.stdout}".strip()

    @property
    def folder(self):
        return self.directory / "resources"

    def staged(self, world: World) -> Moves:
        """The files themselves, those that are new: a copy of each, moved over its place as any new file would be."""
        self.folder.mkdir(exist_ok=True)
        moves = []
        for file in dict.fromkeys(world.log[self._seen:]):
            new = self.directory / f"{next(self._numbers)}.new"
            shutil.copyfile(file, new)
            moves.append((new, self.folder / file.name))
        self._seen = len(world.log)
        return moves

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gwfast", "run", str(self.folder), "--workers", str(self.workers), "--bind", "127.0.0.1",
                "--port-map", f"{self.wire.port}:{self.port}", "--admin", f"127.0.0.1:{free_port()}",
                "--access-log", "json" if self.log else "off"]
