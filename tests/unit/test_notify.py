"""What systemd is told."""
import socket

import pytest

from gwfast.serve import notify


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_fields_are_lines(tmp_path, monkeypatch, abstract):
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{path}" if abstract else path)
        systemd.settimeout(30)
        assert notify.wanted() and notify.notify(READY=1, STATUS="serves")
        assert systemd.recv(100) == b"READY=1\nSTATUS=serves\n"


@pytest.mark.parametrize("where", ["", "/nowhere/notify"], ids=["nobody", "a socket that is gone"])
def test_nobody_is_told(monkeypatch, where):
    monkeypatch.setenv("NOTIFY_SOCKET", where)
    assert notify.wanted() is bool(where) and not notify.notify(READY=1)
