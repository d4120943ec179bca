"""No two test processes are given one port."""
import socket
import subprocess
import sys
from pathlib import Path

from support.ports import SIZE, free_port

SCRIPT = "from support.ports import SIZE, free_port; print(*(free_port() for _ in range(SIZE // 2)), flush=True); input()"


def test_no_port_is_given_to_two_processes() -> None:
    others = [subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
              for _ in range(3)]
    given = [{free_port() for _ in range(SIZE // 2)}] + [set(map(int, other.stdout.readline().split())) for other in others]
    for other in others:
        other.communicate("\n")
    assert len(set().union(*given)) == sum(map(len, given)) and min(map(len, given)) >= SIZE // 2 - 1


def test_what_listens_is_not_given_out() -> None:
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        busy.bind(("127.0.0.1", port := free_port()))
        busy.listen()
        assert port not in {free_port() for _ in range(SIZE)}
