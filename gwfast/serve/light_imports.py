"""The libraries of a gateway without a second OpenSSL: 5 MiB of which it would use nothing.

Its TLS is that of pyOpenSSL, which brings an OpenSSL. The interpreter's own modules for one, ssl and _hashlib, load another.

Rules:
- asyncio and uvloop import ssl for transports that connections here do not use: a module with the names that they ask for
  stands in its place while they are imported.
- cryptography imports hashlib, which has algorithms of its own where there is no _hashlib.
- Who asks later, as a filter in Python may, gets the real ones.
"""
import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType


class _Absent(ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.isupper() else type(name, (Exception,), {})


def load_event_loop() -> None:
    """Import asyncio and uvloop; where ssl is imported already, this is all that it does."""
    with _instead_of("ssl", _Absent("ssl")):
        import asyncio  # noqa: F401

        import uvloop  # noqa: F401


def load_openssl() -> None:
    """Import pyOpenSSL, and of cryptography what every certificate needs."""
    with _instead_of("_hashlib", None, "hashlib", "hmac"):
        import cryptography.hazmat.primitives.serialization  # noqa: F401

        import OpenSSL.SSL  # noqa: F401


@contextlib.contextmanager
def _instead_of(name: str, module: ModuleType | None, *users: str) -> Iterator[None]:
    """Let another module (None: none) have a name that nobody has imported yet; forget it, and its users, at the end."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]  # None: an import of it fails
    try:
        yield
    finally:
        for each in (name, *users):
            sys.modules.pop(each, None)
