"""The image and deploy/compose, as far as they go without a container engine: what the Dockerfile and compose.yaml say is run by hand,
each service with the entrypoint, the command and the environment that its container would have, in one network where names resolve."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gwfast.cli import main

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests/proxy"))
from support.network import listening, own_network  # noqa: E402

COMPOSE = ROOT / "deploy/compose"
STAGE = re.split(r"(?m)^FROM ", (ROOT / "Dockerfile").read_text().replace("\\\n", " "))[-1]
PATIENCE = 60.0  # seconds, on a machine that has much else to do


def said(word: str) -> str:
    return re.search(rf"(?m)^{word} (.+)$", STAGE)[1]


def services() -> dict[str, dict]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def test_the_image_is_nobodys_and_says_what_it_is() -> None:
    assert said("USER") == "65532" and said("STOPSIGNAL") == "SIGTERM" and said("EXPOSE") == "8080 8443"
    assert "GWFAST_ADMIN" not in said("ENV")  # localhost, unless somebody asks
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', said("LABEL")))
    assert labels.keys() == {"title", "description", "licenses", "version", "revision"} and labels["licenses"] == "Apache-2.0"


def test_what_is_copied_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for names in re.findall(r"(?m)^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text()):
        for name in names.split():
            assert (ROOT / name).exists() and name not in ignored, name


def test_the_configuration_is_right(capsys) -> None:
    assert main(["check", "--strict", str(COMPOSE / "gateway")]) == 0, capsys.readouterr().out


def command(service: dict) -> list[str]:
    """What a container of this service runs, with the folders of this machine in the place of its volumes."""
    words = json.loads(said("ENTRYPOINT")) + [str(word) for word in service.get("command", json.loads(said("CMD")))]
    for volume in service.get("volumes", ()):
        here, there, _ = volume.split(":")
        words = [str((COMPOSE / here).resolve()) if word == there else word for word in words]
    return words


def test_its_services_run_as_it_is_written(tmp_path: Path) -> None:
    """By name: /etc/hosts stands for compose's DNS. Inside the gateway's container 127.0.0.1:9000 is ready, as HEALTHCHECK asks."""
    if shutil.which("unshare") is None or os.geteuid() or not shutil.which("curl"):
        pytest.skip("root, unshare and curl are needed")
    (tmp_path / "gwfast").write_text(f'#!/bin/sh\nexec {sys.executable} -m gwfast "$@"\n')
    (tmp_path / "gwfast").chmod(0o755)
    (tmp_path / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *services())))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    hosted = ["unshare", "--mount", "bash", "-c", f'mount --bind {tmp_path / "hosts"} /etc/hosts && exec "$@"', "_"]
    running: list[subprocess.Popen] = []
    with own_network() as own:
        if not own:
            pytest.skip("no network of one's own is allowed here")
        try:
            for name, service in services().items():
                with (tmp_path / f"{name}.log").open("wb") as log:
                    running.append(subprocess.Popen([*hosted, *command(service)], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            health = json.loads(re.search(r"HEALTHCHECK .*CMD (\[.+\])", STAGE)[1])
            asked = re.findall(r"(?m)^#     (curl \S+)\s+is answered by (\w+)|^#     (curl \S+)\s+by (\w+)", (COMPOSE / "compose.yaml").read_text())
            for line, name in [("healthcheck", "ready"), *((one or other, who or whom) for one, who, other, whom in asked)]:
                words = health if line == "healthcheck" else line.split()
                end = time.monotonic() + PATIENCE
                while True:  # names are looked up again and again until the services are there
                    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE)
                    if done.returncode == 0 and (name in done.stdout) or time.monotonic() > end:
                        break
                assert done.returncode == 0 and name in done.stdout, (line, done, [log.read_text() for log in tmp_path.glob("*.log")])
            assert len(asked) == 2
        finally:
            for process in running:
                process.terminate()
            ends = [process.wait(PATIENCE) for process in running]
        assert set(ends) == {0} and not listening()
