"""The certificates, keys and authorities of a plan as one block of memory beside the table, and which listeners and backends use
them.

    magic | counts | blobs | places of blobs | listeners | names | backends

- Blobs are msgpack, each there once: (chain, key) of a certificate, the settings of a listener or of a backend.
- listeners, names and backends are sorted runs of 64-bit numbers, each with a run of blob numbers beside it, so that a
  reader finds one among ten thousand by bisection in the mapping, and reads no other.
- A listener's names are those of its certificates: identity('<listener id> <name>') leads to a list of their blobs, an ECDSA
  and an RSA certificate of one name side by side.
- The block lives in a sealed memfd that only workers are given: keys are never on a disk.
"""
import fcntl
import os
from array import array
from collections.abc import Iterable

import msgspec

from gwfast.identity import digest, identity
from gwfast.plan.ir import BackendTLS, Certificate, Plan, ServerTLS

MAGIC = 0x73647263_66776701  # and its version
HEADER = 16  # numbers of 64 bits
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ServerSettings(msgspec.Struct, frozen=True, array_like=True):
    """A listener's ServerTLS. certificates: blobs of those for names that no certificate has (the first one, and what has the
    same names); `digest` stands for everything else."""

    certificates: tuple[int, ...]
    min_version: str
    ciphers: str
    client_ca: tuple[bytes, ...]
    client_mode: str
    alpn: bool
    digest: bytes


class BackendSettings(msgspec.Struct, frozen=True, array_like=True):
    """A backend's BackendTLS, its certificate as the number of a blob (-1: none)."""

    ca: tuple[bytes, ...]
    system: bool
    hostname: str
    sans: tuple[tuple[str, str], ...]
    certificate: int
    alpn: tuple[str, ...]


class Pair(msgspec.Struct, frozen=True, array_like=True):
    """A certificate chain and its key, PEM."""

    chain: bytes
    key: bytes
    digest: str


def name_identity(listener_id: int, name: str) -> int:
    """Return what the certificates of a listener for this name ('a.example', '*.example') are found by."""
    return identity(f"{listener_id} {name}")


def credentials(plan: Plan) -> bytes:
    """Return the block for a plan; b'' where nothing of it speaks TLS."""
    listeners = {listener.id: listener.tls for bind in plan.binds for listener in bind.listeners if listener.tls}
    backends = {each.tls.id: each.tls for each in plan.backends if each.tls}
    return _Block().made(listeners, backends.values()) if listeners or backends else b""


class Credentials:
    """Publishes the block of one plan after the other; what says the same as before is the same memfd."""

    def __init__(self) -> None:
        self._of: tuple = ()  # the settings of listeners and backends in the last block, by identity
        self._plan: Plan | None = None  # whose they are, so that an id() stays what it is
        self._mark = b""  # of the last block
        self._fd = -1
        self.size = 0

    def publish(self, plan: Plan) -> int:
        """Return a descriptor of the plan's credentials, the caller's to close; -1 where there are none."""
        of = (tuple((listener.id, id(listener.tls)) for bind in plan.binds for listener in bind.listeners if listener.tls),
              tuple(sorted({each.tls.id for each in plan.backends if each.tls})))
        if of != self._of:
            self._keep(credentials(plan))
            self._of, self._plan = of, plan
        return os.dup(self._fd) if self._fd >= 0 else -1

    def close(self) -> None:
        """Close the memfd; what publish() returned is its caller's still."""
        self._keep(b"")
        self._of, self._plan = (), None

    def _keep(self, block: bytes) -> None:
        mark = digest(block, 16)
        if mark == self._mark:
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.size, self._mark = seal(block) if block else -1, len(block), mark


def seal(block: bytes) -> int:
    """Return a new descriptor of a sealed memfd that holds the block."""
    fd = os.memfd_create("gwfast-credentials", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(block)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


class _Block:
    """One block in the making."""

    def __init__(self) -> None:
        self._blobs: list[bytes] = []
        self._numbers: dict[bytes, int] = {}

    def made(self, listeners: dict[str, ServerTLS], backends: Iterable[BackendTLS]) -> bytes:
        listener_ids: dict[int, int] = {}
        names: dict[int, list[int]] = {}
        for name, tls in listeners.items():
            listener_id = identity(name)
            listener_ids[listener_id] = self._listener(listener_id, tls, names)
        targets = {each.id: self._backend(each) for each in backends}
        named = {key: self._number(msgspec.msgpack.encode(numbers)) for key, numbers in names.items()}
        return self._laid_out([listener_ids, named, targets])

    def _laid_out(self, runs: list[dict[int, int]]) -> bytes:
        places, at = array("Q", [0]), 0
        for blob in self._blobs:
            at += len(blob)
            places.append(at)
        blobs = b"".join(self._blobs)
        blobs += bytes(-len(blobs) % 8)
        head = array("Q", [MAGIC, len(self._blobs), len(blobs), *map(len, runs)])
        head.extend([0] * (HEADER - len(head)))
        tail = array("Q", places)
        for run in runs:
            tail.extend(sorted(run))
            tail.extend(run[key] for key in sorted(run))
        return head.tobytes() + blobs + tail.tobytes()

    def _number(self, blob: bytes) -> int:
        mark = digest(blob, 16)
        number = self._numbers.get(mark)
        if number is None:
            number = self._numbers[mark] = len(self._blobs)
            self._blobs.append(blob)
        return number

    def _pair(self, certificate: Certificate) -> int:
        return self._number(msgspec.msgpack.encode(Pair(certificate.chain, certificate.key, certificate.digest)))

    def _listener(self, listener_id: int, tls: ServerTLS, names: dict[int, list[int]]) -> int:
        numbers = tuple(map(self._pair, tls.certificates))
        for number, certificate in zip(numbers, tls.certificates, strict=True):
            for name in certificate.names:
                names.setdefault(name_identity(listener_id, name.lower()), []).append(number)
        # Tickets are bound to this (limits of what a session resumes): the listener, and how it looks at its clients.
        of = (listener_id, tls.min_version, tls.ciphers, tls.client_ca, tls.client_mode, tls.alpn)
        mark = digest(msgspec.msgpack.encode(of), 16)
        others = tuple(number for number, each in zip(numbers, tls.certificates, strict=True)
                       if set(each.names) == set(tls.certificates[0].names))
        return self._number(msgspec.msgpack.encode(ServerSettings(
            others, tls.min_version, tls.ciphers, tls.client_ca, tls.client_mode, tls.alpn, mark)))

    def _backend(self, tls: BackendTLS) -> int:
        certificate = self._pair(tls.certificate) if tls.certificate else -1
        return self._number(msgspec.msgpack.encode(BackendSettings(
            tls.ca, tls.system, tls.hostname, tls.sans, certificate, tls.alpn)))
