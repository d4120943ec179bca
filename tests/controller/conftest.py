"""What the tests of streams share."""
import asyncio

import pytest
from stream_world import credentials


@pytest.fixture(scope="session")
def pki():
    """An authority, and the certificate of a controller."""
    return credentials()


@pytest.fixture(autouse=True)
def names_lead_here(monkeypatch):
    """Every name is this machine's: what is dialled is 127.0.0.1, whatever a certificate has to say."""
    real = asyncio.open_connection

    async def connect(host, port, **more):
        return await real("127.0.0.1", port, **more)
    monkeypatch.setattr(asyncio, "open_connection", connect)
