import pytest
from guard import Guard


@pytest.fixture(scope="session")
def guard():
    return Guard()
