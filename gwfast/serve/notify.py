"""sd_notify(3): what systemd is told of this service, where it started it and wants to know (NOTIFY_SOCKET)."""
import os
import socket


def wanted() -> bool:
    """Return whether anybody wants to be told."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(**fields: object) -> bool:
    """Tell these fields, such as MAINPID=7; return whether they were told. Never blocks: who does not read is not told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = f"\0{path[1:]}" if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto("".join(f"{name}={value}\n" for name, value in fields.items()).encode(), socket.MSG_DONTWAIT, address)
    except OSError:
        return False
    return True
