"""Whether a process is there."""
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process is there, and not only waits for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
