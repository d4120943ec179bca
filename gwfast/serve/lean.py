"""asyncio and uvloop without the ssl module: 4.3 MiB of a gateway, which uses nothing of it.

TLS is not uvloop's business here: connections do not use its transports, and OpenSSL comes with pyOpenSSL. A module with
the names that uvloop asks for stands in ssl's place while both are imported; who asks later gets the real one.
"""
import sys
from types import ModuleType


class _Absent(ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.isupper() else type(name, (Exception,), {})


def load() -> None:
    """Import asyncio and uvloop; where ssl is imported already, this is all that it does."""
    if "ssl" in sys.modules:
        return
    sys.modules["ssl"] = _Absent("ssl")
    try:
        import asyncio  # noqa: F401

        import uvloop  # noqa: F401
    finally:
        del sys.modules["ssl"]
