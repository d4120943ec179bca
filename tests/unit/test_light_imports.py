"""What the processes of a gateway have in memory: modules and libraries that it would use nothing of are not there."""
import shutil
import subprocess
import sys

import pytest

from gwfast import cli

BEGIN = """
import sys
from gwfast import cli
cli.parser("run")
from gwfast.serve import light_imports
light_imports.load_event_loop()
from gwfast.serve import spawn
import asyncio, uvloop
"""
TLS = "from gwfast.serve import certs; certs.roots()\n"
PLANE = "from gwfast.controller.plane import supervise_plane\n"
FILES = "from gwfast.serve.files import Files; from gwfast.serve.supervisor import supervise\n"
TELL = """
print(*(each for each in sys.modules if each in {0!r}))
print(*{{line.split("/")[-1].split(".")[0] for line in open("/proc/self/maps") if "libssl" in line or "libcrypto" in line}})
"""
SECOND_OPENSSL = ("ssl", "_ssl", "_hashlib")
NEVER = (*SECOND_OPENSSL, "shutil", "bz2", "lzma", "http.client", "tempfile", "difflib", "ctypes")


def told(code: str) -> list[list[str]]:
    """Run code; return what it prints, line by line in words."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_who_reads_no_yaml_has_no_parser_of_it():
    assert told(BEGIN + TLS + PLANE + TELL.format(("yaml", "gwfast.config.composer"))) == [[], []]


@pytest.mark.parametrize("start", [BEGIN, BEGIN + TLS, BEGIN + FILES, BEGIN + TLS + FILES, BEGIN + TLS + PLANE],
                         ids=["a worker", "with TLS", "files", "files with TLS", "a data plane"])
def test_what_nobody_needs_is_not_there(start):
    assert told(start + TELL.format(NEVER)) == [[], []]


def test_who_asks_later_gets_the_real_ones():
    code = BEGIN + TLS + """
import hashlib, hmac, ssl
print(hashlib.sha256(b"x").hexdigest() == hashlib.new("sha256", b"x").hexdigest(), hasattr(hashlib, "scrypt"))
print(len(hmac.new(b"k", b"x", "sha256").digest()), hasattr(ssl, "SSLContext"))
"""
    assert told(code) == [["True", "True"], ["32", "True"]]


@pytest.mark.parametrize("columns", ["60", "0", "x", ""])
def test_help_is_as_wide_as_argparse_has_it(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert cli._columns() == shutil.get_terminal_size().columns
