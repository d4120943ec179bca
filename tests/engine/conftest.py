"""Fixtures: a scripted backend, and engines that end with the test."""
import pytest
from scripted import Backend, Running, one_rule


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

    def begin(addresses, make_plan=one_rule, **options) -> Running:
        running.append(Running(make_plan, addresses, **options))
        return running[-1]

    yield begin
    for each in running:
        each.close()
