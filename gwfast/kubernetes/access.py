"""How to reach an API server, and as whom: what was said, in kubeconfig files or to a Pod. `credentials` makes use of it."""
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class Material(msgspec.Struct, frozen=True):
    """Bytes that are here, or in a file that is read again. `field` is where it was said, for messages."""

    field: str = ""
    data: bytes = b""
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.data or self.file)

    def read(self) -> bytes:
        """Return the bytes; OSError where the file cannot be read."""
        return Path(self.file).read_bytes() if self.file else self.data

    def __repr__(self) -> str:
        return f"Material({self.field})"  # it may be a secret


class Exec(msgspec.Struct, frozen=True):
    """A program that gives credentials (client-go's exec plugins)."""

    field: str
    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = EXEC_VERSIONS[0]
    install_hint: str = ""
    cluster_info: bool = False
    config: object = None  # the cluster's extension for this plugin

    def __repr__(self) -> str:
        return f"Exec({self.command})"


class Access(msgspec.Struct, frozen=True):
    """How to reach an API server, and as whom. `server` has no slash at its end; `place` names what says so, for messages."""

    server: str
    place: str = ""
    namespace: str = "default"  # the context's, or the Pod's
    authority: Material = Material()  # without one: those of the system
    insecure: bool = False
    server_name: str = ""
    proxy: str = ""  # http://[user:password@]host:port
    certificate: Material = Material()
    key: Material = Material()
    token: Material = Material()
    username: str = ""
    password: str = ""
    exec: Exec | None = None
    impersonate: tuple[tuple[str, str], ...] = ()  # header fields

    def __repr__(self) -> str:
        return f"Access({self.server}, {self.place})"  # it holds secrets


def url_problem(text: str, schemes: tuple[str, ...], credentials: bool = False) -> str:
    """Say what is wrong with a URL, '' where nothing is."""
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is no URL"
    if url.scheme not in schemes:
        return f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}; {url.scheme or 'nothing'} is not supported"
    if not host or url.query or url.fragment or not text.isascii() or not text.isprintable() or " " in text:
        return "is no URL of a server"
    if "@" in url.netloc and not credentials:
        return "must not hold credentials"
    return ""


def masked(url: str) -> str:
    """Return a URL for a message: without credentials."""
    return re.sub(r"//[^/]*@", "//***@", url)
