"""Fixtures: a scripted backend, and engines that end with the test."""
import functools

import pytest
from support.authorizers import begin  # noqa: F401 - a fixture
from support.http2_backend import Http2Backend
from support.scripted import Backend, Running, one_rule


@pytest.fixture
def backend():
    made = Backend()
    yield made
    made.close()


@pytest.fixture
def other():
    made = Backend()
    yield made
    made.close()


@pytest.fixture
def start():
    running = []

    def go(addresses, make_plan=one_rule, **options) -> Running:
        running.append(Running(make_plan, addresses, **options))
        return running[-1]

    yield go
    for each in running:
        each.close()


@pytest.fixture
def start_http2(start):
    """A backend of HTTP/2 with this handler, and an engine in front of it."""
    made = []

    def go(handler, settings=None, make_plan=None, **options):
        made.append(Http2Backend(handler, settings))
        plan = make_plan or functools.partial(one_rule, protocol="h2c")
        return start([("127.0.0.1", made[-1].port)], plan, **options), made[-1]

    yield go
    for each in made:
        each.close()
        assert not each.failures
