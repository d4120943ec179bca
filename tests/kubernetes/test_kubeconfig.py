"""kubeconfig files as kubectl reads them, and what a Pod is given; each error names the file, the context and the field."""
import base64
import json
import os

import pytest

from gwfast.errors import UsageError
from gwfast.kubernetes.kubeconfig import from_kubeconfig, in_cluster

PEM = b"-----BEGIN CERTIFICATE-----\n"
B64 = base64.b64encode(PEM).decode()


def config(cluster: dict | None = None, user: dict | None = None, context: dict | None = None, **others) -> dict:
    return {"apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": "https://api.test:6443"} | (cluster or {})}],
            "users": [{"name": "u", "user": user or {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"} | (context or {})}]} | others


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch, tmp_path):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "POD_NAMESPACE",
                 *(f"{kind}_{word}" for kind in ("HTTP", "HTTPS", "NO") for word in ("PROXY",))):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def written(path, value) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_everything_of_a_context(tmp_path):
    for name in ("ca.crt", "me.crt", "me.key"):
        written(tmp_path / "pki" / name, name)
    file = written(tmp_path / "config", config(
        {"certificate-authority": "pki/ca.crt", "tls-server-name": "kube", "proxy-url": "http://proxy:3128", "server": "https://api.test/k8s/c/"},
        {"client-certificate": "pki/me.crt", "client-key": str(tmp_path / "pki/me.key"), "as": "boss", "as-uid": "7", "as-groups": ["g", "h"],
         "as-user-extra": {"reason": ["a"], "Example.com/Ä": ["b"]}},
        {"namespace": "team"}))
    access = from_kubeconfig(file)
    assert (access.server, access.server_name, access.proxy, access.namespace) == ("https://api.test/k8s/c", "kube", "http://proxy:3128", "team")
    assert (access.authority.read(), access.certificate.read(), access.key.read()) == (b"ca.crt", b"me.crt", b"me.key")
    assert access.impersonate == (("Impersonate-User", "boss"), ("Impersonate-Uid", "7"), ("Impersonate-Group", "g"), ("Impersonate-Group", "h"),
                                  ("Impersonate-Extra-reason", "a"), ("Impersonate-Extra-example.com%2F%C3%A4", "b"))
    assert "config" in access.place and "'x'" in access.place
    assert not access.insecure and not access.token and access.exec is None


def test_data_counts_more_than_a_file_and_a_token_file_more_than_a_token(tmp_path):
    token = written(tmp_path / "token", "from-file\n")
    access = from_kubeconfig(written(tmp_path / "config", config(
        {"certificate-authority": "absent", "certificate-authority-data": B64},
        {"client-certificate-data": B64, "client-key-data": f"{B64[:10]}\n{B64[10:]}\n", "token": "t", "tokenFile": token})))
    assert access.authority.read() == access.certificate.read() == access.key.read() == PEM
    assert access.token.file == token


@pytest.mark.parametrize(("server", "cluster", "wanted"), [
    ("http://127.0.0.1:8001", {}, "http://127.0.0.1:8001"),
    ("https://[fd00::1]:6443", {}, "https://[fd00::1]:6443"),
    ("api.test:6443", {"insecure-skip-tls-verify": True}, "https://api.test:6443"),
    ("api.test:6443", {"certificate-authority-data": B64}, "https://api.test:6443"),
    ("localhost:8080", {}, "http://localhost:8080"),
    ("https://api.test/k8s/clusters/c-m-1/", {}, "https://api.test/k8s/clusters/c-m-1"),
])
def test_servers(server, cluster, wanted, tmp_path):
    assert from_kubeconfig(written(tmp_path / "config", config({"server": server} | cluster))).server == wanted


def test_yaml_as_kubectl_writes_it(tmp_path):
    file = written(tmp_path / "config", f"""\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {B64}
    server: https://127.0.0.1:6443
    extensions:
    - name: client.authentication.k8s.io/exec
      extension: {{audience: a}}
  name: kind-kind
contexts:
- context:
    cluster: kind-kind
    user: kind-kind
  name: kind-kind
current-context: kind-kind
kind: Config
preferences: {{}}
users:
- name: kind-kind
  user:
    client-certificate-data: {B64}
    client-key-data: {B64}
    token:
- name: eks
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: ./aws
      args: [eks, get-token]
      env: [{{name: AWS_PROFILE, value: p}}]
      installHint: |
        get it from somewhere
      provideClusterInfo: true
""")
    access = from_kubeconfig(file)
    assert access.namespace == "default" and access.key.read() == PEM and not access.token
    text = (tmp_path / "config").read_text().replace("user: kind-kind", "user: eks")
    plugin = from_kubeconfig(written(tmp_path / "d" / "config", text)).exec
    assert (plugin.command, plugin.args, plugin.env) == (f"{tmp_path}/d/./aws", ("eks", "get-token"), (("AWS_PROFILE", "p"),))
    assert plugin.cluster_info and plugin.config == {"audience": "a"} and plugin.install_hint == "get it from somewhere"
    assert plugin.api_version.endswith("v1beta1")


def test_several_files_are_merged(tmp_path, monkeypatch):
    """Of each entry the first file says all; paths are relative to the file that has the entry; files may be absent."""
    written(tmp_path / "a" / "ca.crt", "ca of a")
    written(tmp_path / "b" / "token", "token of b")
    first = written(tmp_path / "a" / "config", {"clusters": [{"name": "c", "cluster": {"server": "https://a", "certificate-authority": "ca.crt"}}]})
    second = written(tmp_path / "b" / "config", config({"server": "https://b", "tls-server-name": "b"}, {"tokenFile": "token"}))
    third = written(tmp_path / "c" / "config", config(user={"token": "c"}) | {
        "current-context": "y", "contexts": [{"name": "y", "context": {"cluster": "c"}}]})
    monkeypatch.setenv("KUBECONFIG", f":{tmp_path / 'absent'}:{first}:{second}::{third}")
    access = from_kubeconfig()
    assert (access.server, access.server_name, access.authority.read()) == ("https://a", "", b"ca of a")
    assert access.token.read() == b"token of b"
    other = from_kubeconfig(context="y")
    assert other.server == "https://a" and not other.token and "y" in other.place
    assert from_kubeconfig(third).server == "https://api.test:6443", "a file that is named is the only one"


def test_the_file_of_the_user(tmp_path):
    written(tmp_path / "home" / ".kube" / "config", config())
    assert from_kubeconfig().server == "https://api.test:6443"


def plugin(**fields) -> dict:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "p", "interactiveMode": "Never"} | fields}


WRONG = {
    "no server": (config({"server": ""}), "cluster 'c': server: is required"),
    "another scheme": (config({"server": "ftp://api.test"}), "server: 'ftp://api.test' must begin with https:// or http://"),
    "no host": (config({"server": "https://"}), "server: 'https://' is no URL of a server"),
    "no port": (config({"server": "https://a:99999"}), "server: 'https://a:99999' is no URL"),
    "a query": (config({"server": "https://a?b=c"}), "is no URL of a server"),
    "credentials": (config({"server": "https://u:p@a"}), "server: 'https://***@a' must not hold credentials"),
    "a proxy's password": (config({"proxy-url": "https://u:p@a"}), "proxy-url: 'https://***@a' must begin with http://"),
    "socks": (config({"proxy-url": "socks5://p:1080"}), "proxy-url: 'socks5://p:1080' must begin with http://; socks5 is not supported"),
    "no base64": (config({"certificate-authority-data": "%%%"}), "cluster 'c': certificate-authority-data: is no base64"),
    "no file": (config({"certificate-authority": "no/ca.crt"}), "cluster 'c': certificate-authority: DIR/no/ca.crt: No such file"),
    "both": (config({"certificate-authority-data": B64, "insecure-skip-tls-verify": True}), "insecure-skip-tls-verify: and certificate-authority"),
    "no key": (config(user={"client-certificate-data": B64}), "user 'u': client-key: is required by the other"),
    "no certificate": (config(user={"client-key-data": B64}), "user 'u': client-certificate: is required by the other"),
    "no token file": (config(user={"tokenFile": "t"}), "user 'u': tokenFile: DIR/t: No such file"),
    "two ways": (config(user={"token": "t", "username": "u", "password": "p"}), "token: and username: only one way"),
    "auth-provider": (config(user={"auth-provider": {"name": "gcp"}}), "auth-provider: 'gcp' is not supported"),
    "a line break": (config(user={"as": "a", "as-groups": ["g\r\nX: y"]}), "user 'u': as: 'g\\r\\nX: y' cannot be sent"),
    "groups alone": (config(user={"as-groups": ["g"]}), "user 'u': as: is required"),
    "no command": (config(user=plugin(command="")), "user 'u': exec.command: is required"),
    "an old plugin": (config(user=plugin(apiVersion="client.authentication.k8s.io/v1alpha1")), "exec.apiVersion: 'client.authentication.k8s.io/v1alpha1' is not"),
    "no mode": (config(user=plugin(interactiveMode=None)), "exec.interactiveMode: is required"),
    "another mode": (config(user=plugin(interactiveMode="Sometimes")), "exec.interactiveMode: 'Sometimes' must be"),
    "a terminal": (config(user=plugin(interactiveMode="Always")), "exec.interactiveMode: is Always, and a service has nobody to ask"),
    "no cluster": (config(context={"cluster": "d"}), "context 'x': cluster: there is no cluster 'd'"),
    "an empty cluster": (config(context={"cluster": ""}), "context 'x': cluster: is required"),
    "no user": (config(context={"user": "d"}), "context 'x': user: there is no user 'd'"),
    "no context": (config() | {"current-context": "z"}, "there is no context 'z'; there are: x"),
    "no current-context": (config() | {"current-context": ""}, "current-context is not set: give --context NAME, one of: x"),
    "twice": (config() | {"users": [{"name": "u"}, {"name": "u"}]}, "users: 'u' is there twice"),
    "a number": (config(user={"token": 5}), "users[0].user.token: Expected str, got int"),
    "no name": (config() | {"users": [{"user": {}}]}, "users[0]: Object missing required field name"),
    "another kind": (config() | {"kind": "Pod"}, "is no kubeconfig (kind: Config)"),
    "a list": ("[]", "is no kubeconfig"),
    "a word": ("hello", "is no kubeconfig"),
    "no YAML": ("a: b: c", "config:1: "),
    "bytes": ("\x00\x01", "config"),
    "nothing": ("", "current-context is not set"),
}


@pytest.mark.parametrize(("value", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_names_file_context_and_field(value, words, tmp_path):
    with pytest.raises(UsageError) as caught:
        from_kubeconfig(written(tmp_path / "config", value))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/config"), text
    assert words.replace("DIR", str(tmp_path)) in text
    assert "\n" not in text


def test_files_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"absent: No such file or directory"):
        from_kubeconfig(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"\.kube/config: no such file: give --kubeconfig FILE"):
        from_kubeconfig()
    monkeypatch.setenv("KUBECONFIG", "/none/a:/none/b")
    with pytest.raises(UsageError, match="/none/a:/none/b: no such file"):
        from_kubeconfig()
    with pytest.raises(UsageError, match="Is a directory"):
        from_kubeconfig(str(tmp_path))


def test_secrets_are_not_shown(tmp_path):
    access = from_kubeconfig(written(tmp_path / "config", config(user={"token": "hunter2"})))
    assert "hunter2" not in repr(access) + repr(access.token)


# ---- in a Pod


def service_account(tmp_path, **files) -> str:
    for name, text in ({"token": "t", "ca.crt": "ca", "namespace": "gw\n"} | files).items():
        if text is not None:
            written(tmp_path / "sa" / name.replace("_", "."), text)
    return str(tmp_path / "sa")


@pytest.mark.parametrize(("host", "server"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443"),
                                              ("kubernetes.default", "https://kubernetes.default:443")])
def test_a_pod(host, server, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    access = in_cluster(service_account(tmp_path))
    assert (access.server, access.namespace, access.token.read(), access.authority.read()) == (server, "gw", b"t", b"ca")
    monkeypatch.setenv("POD_NAMESPACE", "mine")
    assert in_cluster(service_account(tmp_path)).namespace == "mine"


def test_no_pod(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="this is no Pod .* give --kubeconfig FILE"):
        in_cluster(service_account(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    os.unlink(tmp_path / "sa" / "token")
    with pytest.raises(UsageError, match="sa/token: No such file or directory: the Pod needs its ServiceAccount's token"):
        in_cluster(str(tmp_path / "sa"))
    assert in_cluster(service_account(tmp_path)).namespace == "gw"
    os.unlink(tmp_path / "sa" / "namespace")
    assert in_cluster(str(tmp_path / "sa")).namespace == "default"


# ---- proxies


@pytest.mark.parametrize(("server", "environment", "wanted"), [
    ("https://api.test", {}, ""),
    ("https://api.test", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
    ("https://api.test", {"https_proxy": "p:1"}, "http://p:1"),
    ("https://api.test", {"HTTPS_PROXY": "http://u:s@p:1", "https_proxy": "http://other:1", "HTTP_PROXY": "http://q:1"}, "http://u:s@p:1"),
    ("http://api.test", {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://q:1"}, "http://q:1"),
    ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
    ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
    ("https://[::1]:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
    ("https://api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, ""),
    ("https://api.test", {"HTTPS_PROXY": "http://p:1", "no_proxy": "other, API.test"}, ""),
    ("https://a.api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test"}, ""),
    ("https://a.api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".api.test"}, ""),
    ("https://a.api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*.api.test"}, ""),
    ("https://api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".api.test"}, "http://p:1"),
    ("https://xapi.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test"}, "http://p:1"),
    ("https://api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test:6443"}, "http://p:1"),
    ("https://api.test", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test:443"}, ""),
    ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.96.0.0/12"}, ""),
    ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.96.0.1"}, ""),
    ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.96.0.2,0.1,10.97.0.0/16,,:443,[::1]:443"}, "http://p:1"),
    ("https://[fd00::1]:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, ""),
    ("https://[fd00::1]:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[fd00::1]:443"}, ""),
])
def test_the_environments_proxy(server, environment, wanted, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = written(tmp_path / "config", config({"server": server}))
    assert from_kubeconfig(file).proxy == wanted
    file = written(tmp_path / "config", config({"server": server, "proxy-url": "http://mine:3128"}))
    assert from_kubeconfig(file).proxy == "http://mine:3128", "the kubeconfig's goes before"


def test_an_environments_proxy_that_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:secret@p:1080")
    with pytest.raises(UsageError) as caught:
        from_kubeconfig(written(tmp_path / "config", config()))
    assert str(caught.value).startswith("HTTPS_PROXY 'socks5://***@p:1080' must begin with http://; socks5 is not supported")
    monkeypatch.setenv("NO_PROXY", "api.test")
    assert from_kubeconfig(str(tmp_path / "config")).proxy == ""


def test_a_pod_with_a_proxy(tmp_path, monkeypatch):
    for name, value in (("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443"), ("HTTPS_PROXY", "http://p:1")):
        monkeypatch.setenv(name, value)
    assert in_cluster(service_account(tmp_path)).proxy == "http://p:1"
    monkeypatch.setenv("NO_PROXY", "10.96.0.0/16,.svc")
    assert in_cluster(service_account(tmp_path)).proxy == ""
