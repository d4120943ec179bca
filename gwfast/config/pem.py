"""The PEM files that CertificateFiles name: read into them, and again when they have changed.

    CertificateFile as it is written ──> the same with `content`: {'certificate': bytes, 'key': bytes, 'ca': bytes}, and `unread`

Rules:
- A name is relative to the folder of the file that the resource is written in. Links are followed: Kubernetes, certbot and
  others replace a file by changing a link on the way to it.
- A resource whose files have the same content as before stays the same object: only a change of content is a change.
- A file that cannot be read is in `unread`, and is a problem at the line that names it. The graph decides whether the content is
  a certificate, as it does for a Secret.
"""
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import msgspec

from gwfast import limits
from gwfast.config.files import obstacle, opened, words
from gwfast.config.model import CertificateFile, Key, Resource
from gwfast.errors import Problem

FIELDS = ("certificate", "key", "ca")


class PemFiles:
    """The PEM files that the CertificateFiles of one source name."""

    def __init__(self) -> None:
        self._filled: dict[Key, tuple[CertificateFile, CertificateFile]] = {}  # as written, and with content
        self.paths: frozenset[str] = frozenset()  # absolute, of all files that are named

    def fill(self, resources: dict[Key, Resource], touched: Iterable[Key], looked: Set[str] | None) -> set[Key]:
        """Put CertificateFiles with content in the place of those as written; return those that hold something else now.

        touched: resources that came, changed or went. looked: paths that may have changed; None: any.
        """
        again = {key for key in touched if key.kind == CertificateFile.kind}
        again |= {key for key, (written, _) in self._filled.items() if _reached(written, looked)}
        changed = {key for key in again if self._fill(key, resources.get(key))}
        for key, (written, filled) in self._filled.items():
            filled.source = written.source  # the text around it may have moved
            resources[key] = filled
        if changed:
            self.paths = frozenset(path for written, _ in self._filled.values() for path in named(written).values())
        return changed

    def _fill(self, key: Key, written: Any) -> bool:
        """Read the files of a resource; whether it is another one now."""
        before = self._filled.get(key)
        if written is None:
            return self._filled.pop(key, None) is not None
        found = {name: _read(path) for name, path in named(written).items()}
        content = {name: data for name, data in found.items() if isinstance(data, bytes)}
        unread = {name: why for name, why in found.items() if isinstance(why, str)}
        if before is not None and before[0] is written and (before[1].content, before[1].unread) == (content, unread):
            return False
        self._filled[key] = written, msgspec.structs.replace(written, content=content, unread=unread)
        return True

    def unreadable(self) -> Iterator[tuple[str, str]]:
        """Return the files that cannot be read, and why, as config.files.obstacle tells it."""
        for path, _, _, _ in self._missing():
            if why := obstacle(path):
                yield path, why

    def problems(self) -> Iterator[Problem]:
        """Say of each file that cannot be read what names it, and where."""
        for _, written, name, why in self._missing():
            yield Problem(source=written.source, resource=str(written.key), field=f"spec.{name}", reason="Unreadable",
                          message=why)

    def _missing(self) -> Iterator[tuple[str, CertificateFile, str, str]]:
        for written, filled in self._filled.values():
            paths = named(written)
            for name, why in filled.unread.items():
                yield paths[name], written, name, why


def named(resource: CertificateFile) -> Mapping[str, str]:
    """Return the absolute paths that a resource names, by field."""
    folder = os.path.dirname(resource.source.file)
    given = ((name, getattr(resource.spec, name)) for name in FIELDS)
    return {name: os.path.abspath(os.path.join(folder, path)) for name, path in given if path is not None}


def _reached(resource: CertificateFile, looked: Set[str] | None) -> bool:
    """Whether a change of one of these paths, or of what is below them, may be one of a file of a resource."""
    return looked is None or any(path == each or path.startswith(each + os.sep)
                                 for path in named(resource).values() for each in looked)


def _read(path: str) -> bytes | str:
    """Return what a file holds; words where it cannot be read."""
    try:
        with opened(path) as file:
            data = file.read(limits.PEM_FILE_BYTES + 1)
    except OSError as error:
        who = f" (gwfast runs as user {os.geteuid()})" if error.errno in (errno.EACCES, errno.EPERM) else ""
        return f"{path} cannot be read: {words(path, error)}{who}"
    if len(data) > limits.PEM_FILE_BYTES:
        return f"{path} has more than {limits.PEM_FILE_BYTES >> 20} MiB, which no certificate has"
    return data or f"{path} is empty"
