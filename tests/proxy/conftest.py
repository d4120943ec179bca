"""What the proxy tests run on: one gateway and one backend for all that need no other, and a maker of more.

Whatever a test did: when it ends, no gateway has printed a traceback, each ends by itself on SIGTERM, and nothing
dirty has reached a backend.
"""
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, route, rule, service, write

# Subprocesses run the same tree as the tests, also where that is a copy built in another mode, but for a program that is installed.
if "GWFAST_PROGRAM" not in os.environ:
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])


@pytest.fixture(scope="session")
def plain_backend() -> Iterator[Backend]:
    backend = Backend("plain")
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def plain_gateway(plain_backend: Backend, tmp_path_factory) -> Iterator[Gateway]:
    """Everything goes to the plain backend."""
    folder = tmp_path_factory.mktemp("plain") / "conf"
    folder.mkdir()
    write(folder, "all.yaml", gateway(free_port()), service("plain", plain_backend), route("all", rule("plain")))
    running = Gateway(folder, "--access-log", "off")
    yield running
    running.stop()


@pytest.fixture
def proxy(plain_gateway: Gateway, plain_backend: Backend) -> Iterator[tuple[Gateway, Backend]]:
    """The shared gateway and its backend, as new."""
    assert plain_gateway.process.poll() is None, plain_gateway.errors()
    workers = plain_gateway.workers()
    plain_backend.requests.clear()
    plain_backend.handlers.clear()
    plain_backend.before_body.clear()
    plain_backend.dirty.clear()
    yield plain_gateway, plain_backend
    assert plain_gateway.workers() == workers, f"a worker ended:\n{plain_gateway.errors()}"
    assert not plain_backend.dirty


@pytest.fixture
def backend() -> Iterator[Callable[..., Backend]]:
    """Make backends; they are closed when the test ends."""
    made: list[Backend] = []

    def make(name: str = "backend", **more) -> Backend:
        made.append(Backend(name, **more))
        return made[-1]
    yield make
    for one in made:
        one.close()
    assert not [line for one in made for line in one.dirty]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways on documents: run(document, ..., options=[...]). Each is held to `stop` when the test ends."""
    started: list[Gateway] = []

    def start(*documents, options: tuple[str, ...] = (), **more) -> Gateway:
        folder = tmp_path / f"conf-{len(started)}"
        folder.mkdir()
        write(folder, "all.yaml", *documents)
        started.append(Gateway(folder, *options, **more))
        return started[-1]
    yield start
    for one in started:
        if not one.ended:
            one.stop()
