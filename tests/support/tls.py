"""Certificates, resources and clients for what is served over TLS and HTTP/2."""
import os
import re
import shutil
import ssl
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))
from make_certificates import Authority, config_map, make, secret  # noqa: E402
from support.wire import SANITIZED  # noqa: E402

HOST = "shop.example"
__all__ = ["HOST", "ROOT", "SANITIZED", "Authority", "authority", "backend_tls", "config_map", "frees_memory", "https", "make", "needs", "plain_environment",
           "secret", "shell", "trusting"]


@cache
def authority() -> Authority:
    """The one that the tests of this run believe."""
    return Authority("gwfast tests")


def https(port: int, name: str = "", certificate: str = HOST, **more) -> dict:
    """A listener that terminates TLS with the certificate of this Secret."""
    return {"name": name or f"https-{port}", "protocol": "HTTPS", "port": port,
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": certificate}], **more.pop("tls", {})}, **more}


def backend_tls(service: str, hostname: str) -> dict:
    """A BackendTLSPolicy: this Service is spoken to over TLS, and is who the authority in ConfigMap 'authority' says."""
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": {"name": service},
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": service}],
                     "validation": {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "authority"}], "hostname": hostname}}}


def trusting(ca: bytes, *alpn: str) -> ssl.SSLContext:
    """A client's context that believes this authority alone."""
    context = ssl.create_default_context(cadata=ca.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def needs(tool: str):
    """Mark tests that a program is needed for: they are skipped, and say so, where it is not."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not here")


# For tests that look at how much memory a gateway has.
frees_memory = pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what was freed")


def plain_environment(**more: str) -> dict[str, str]:
    """For programs that are not ours: without the runtimes of the sanitizers, which some of them hang in (ci/sanitize)."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"} | more


def shell(*command: str, seconds: float = 30, stdin: str | bytes = b"", status: int | None = 0) -> str:
    """Run a program; what it wrote, both streams. AssertionError where it ends with another status or not in time."""
    done = subprocess.run(command, input=stdin.encode() if isinstance(stdin, str) else stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, env=plain_environment())
    text = done.stdout.decode("utf-8", "replace")
    assert status is None or done.returncode == status, f"{' '.join(command)}: {done.returncode}\n{text}"
    return re.sub(r"\r\n", "\n", text)
