"""`gwfast check` of what would serve something else than its author meant, or nothing: the line, and the exit status."""
import pytest

from gwfast.cli import main

GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: web, protocol: HTTP, port: 80}]
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Check the files of a folder: the exit status, and what is wrong without the conditions."""
    monkeypatch.chdir(tmp_path)

    def check(*options: str, **files: str) -> tuple[int, list[str]]:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        status = main(["check", ".", *options])
        return status, capsys.readouterr().out.partition("\n\n")[0].splitlines()
    return check


# ---- What cannot be read, and nothing to serve


@pytest.mark.parametrize("name, target, words", [
    ("sub", "sub", "Too many levels of symbolic links"), ("sub", "gone", "it is a link to gone, where nothing is"),
    ("a.yaml", "a.yaml", "Too many levels of symbolic links"), ("a.yaml", "gone", "it is a link to gone, where nothing is")])
def test_what_cannot_be_read_is_an_error(check, tmp_path, name, target, words):
    (tmp_path / name).symlink_to(target)
    assert check(gateway=GATEWAY) == (1, [f"./{name}:1: error: cannot be read: {words} (Unreadable)"])


IDLE = {
    "empty": ((), {}, "there is no Gateway"),
    "another name": (("--gateway", "other/gw"), {"gateway": GATEWAY},
                     "no Gateway is called other/gw, there is default/gw of class any"),
    "another class": (("--gateway-class", "nginx", "--gateway", "gw"), {"gateway": GATEWAY},
                      "no Gateway is called gw and is of class nginx, there is default/gw of class any"),
    "no address": ((), {"gateway": GATEWAY + "  addresses: [{type: Hostname, value: a.example}]\n"},
                   "no listener of Gateway default/gw can be served: its Gateway cannot be used: addresses of type Hostname are not "
                   "supported"),
}


@pytest.mark.parametrize("options, files, why", IDLE.values(), ids=IDLE)
def test_nothing_to_serve_is_a_warning(check, options, files, why):
    _, lines = check(*options, **files)
    assert [line for line in lines if "NothingToServe" in line] == [f".:1: warning: nothing is served: {why} (NothingToServe)"]
