"""The file that says which process to signal: `--pid-file`. Written whole, and removed by whom it names alone: after an upgrade
that is another process."""
import contextlib
import os


def write(path: str) -> None:
    """Write our process id; OSError where that cannot be. '': nowhere."""
    if path:
        new = f"{path}.{os.getpid()}"
        with open(new, "w") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(new, path)


def remove(path: str) -> None:
    """Remove the file if it is ours."""
    with contextlib.suppress(OSError):
        if path and read(path) == str(os.getpid()):
            os.unlink(path)


def read(path: str) -> str:
    with open(path) as file:
        return file.read(32).strip()
