"""gwfast: it reads the resources themselves and sees by itself when a file changes."""
import sys

import gwfast
from bench.contenders.base import Contender
from bench.machine import free_port
from bench.world import World


class Gwfast(Contender):
    name, program, package = "gwfast", sys.executable, "make build"

    @classmethod
    def version(cls) -> str:
        return gwfast.__version__

    def write(self, world: World) -> None:
        self.folder = world.folder

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gwfast", "run", str(self.folder), "--workers", str(self.workers), "--bind", "127.0.0.1",
                "--port-map", f"80:{self.port}", "--admin", f"127.0.0.1:{free_port()}", "--access-log", "off"]

    def reload(self) -> None:
        """The files have changed: that is all."""
