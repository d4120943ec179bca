"""The README's own documents and lines, as they are written there."""
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network import listening, own_network
from support.terminals import Terminals, programs
from support.tls import ROOT, authority, needs

README = (ROOT / "README.md").read_text()
KUBECTL = shutil.which("kubectl", path=f"{ROOT / 'build/cluster/bin'}:/usr/local/bin:/usr/bin")


def indented(begin: str) -> str:
    """The indented lines from the one that begins so, to the next that is not."""
    found = re.search(rf"^    {re.escape(begin)}.*\n(?:    .*\n)*", README, re.M)
    assert found, begin
    return re.sub(r"^    ", "", found[0], flags=re.M)


def fenced(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", README, re.S)[1]


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    programs(tmp_path)
    with own_network() as own:
        if not own:
            pytest.skip("no network of one's own is allowed here: the ports of the README may be taken")
        found = Terminals(tmp_path, None)
        yield found
        found.stop()
        assert not listening()


def shop(terminals: Terminals) -> None:
    """The Gateway of the quick start with its listener for HTTPS, and the Secret as kubectl makes it."""
    folder = terminals.folder
    (folder / "my-gateway").mkdir()
    text = indented("apiVersion: gateway")
    (folder / "my-gateway/gateway.yaml").write_text(text.replace("port: 80}\n---", "port: 80}\n" + indented("  - name: secure") + "---", 1))
    (folder / "ca.crt").write_bytes(authority().pem)
    for name, content in zip(("shop.crt", "shop.key"), authority().certificate("shop.example"), strict=True):
        (folder / name).write_bytes(content)
    (folder / "bin/kubectl").symlink_to(KUBECTL)
    status, said = terminals.type(indented("kubectl create secret tls").strip())
    assert status == 0, said


@needs("curl")
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not here")
def test_the_quick_start_serves(terminals: Terminals) -> None:
    shop(terminals)
    status, said = terminals.type("gwfast check my-gateway")
    assert status == 0 and "error" not in said, said
    terminals.start(indented("gwfast run my-gateway/").strip())
    for url, code in (("http://127.0.0.1:8080/api", "503"), ("http://127.0.0.1:8080/", "404"), ("https://shop.example:8443/api", "503")):
        asked = f"curl -s -o /dev/null -w '%{{http_code}}' --cacert ca.crt --resolve shop.example:8443:127.0.0.1 {url}"
        assert terminals.type(asked) == (0, code), url     # there is no api-service here


def test_the_filter_in_python_loads(terminals: Terminals) -> None:
    folder = terminals.folder / "conf"
    folder.mkdir()
    (folder / "flags.py").write_text(fenced("python"))
    (folder / "flags.yaml").write_text(fenced("yaml"))
    status, said = terminals.type("gwfast check conf")
    assert status == 0 and "flags" not in said.replace("conf", ""), said
