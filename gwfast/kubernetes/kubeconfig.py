"""Where the API server is and who we are: in a cluster, or by kubeconfig files, which are read as kubectl reads them.

    $KUBECONFIG=a:b   of each cluster, user and context the first file that has one of this name says all of it;
                      current-context is the first that is set; files that are absent are left out
    relative paths    are relative to the folder of the file that names them

What the files say is checked here, once; what a service needs again and again (tokens, certificates, programs that give
them) is in `credentials`. A UsageError names the file, the context and the field.
"""
import binascii
import ipaddress
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from gwfast.config.composer import build, compose
from gwfast.config.text import TextError
from gwfast.errors import UsageError
from gwfast.kubernetes.access import EXEC_VERSIONS, Access, Exec, Material, masked, url_problem
from gwfast.kubernetes.proxy import proxy_for

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
EXEC_EXTENSION = "client.authentication.k8s.io/exec"  # of a cluster: what a plugin is told besides
CONFIG_BYTES = 16 * 1024 * 1024  # of one kubeconfig file: what is larger is none


def access(path: str = "", context: str = "") -> Access:
    """Find the API server in the order of client-go's controllers: the file that is named, $KUBECONFIG, what a Pod is given,
    ~/.kube/config. UsageError where there is none."""
    named = path or context or os.environ.get("KUBECONFIG")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST") and os.path.exists(f"{SERVICE_ACCOUNT}/token"):
        return in_cluster()
    return from_kubeconfig(path, context)


def in_cluster(folder: str = SERVICE_ACCOUNT) -> Access:
    """Read what a Pod is given; UsageError where this is none."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        raise UsageError("this is no Pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): "
                         "give --kubeconfig FILE")
    token, authority = (Material(f"{folder}/{name}", file=f"{folder}/{name}") for name in ("token", "ca.crt"))
    for material in (token, authority):
        try:
            material.read()
        except OSError as error:
            raise UsageError(f"{material.file}: {error.strerror}: the Pod needs its ServiceAccount's token "
                             "(automountServiceAccountToken), or --kubeconfig FILE") from None
    try:
        namespace = Path(folder, "namespace").read_text().strip()
    except OSError:
        namespace = ""
    server = f"https://{_bracketed(host)}:{port}"
    return Access(server, folder, os.environ.get("POD_NAMESPACE") or namespace or "default", authority, proxy=proxy_for(server),
                  token=token)


def from_kubeconfig(path: str = "", context: str = "") -> Access:
    """Read kubeconfig files: `path`, else those of $KUBECONFIG, else ~/.kube/config; UsageError names file, context, field.

    `context` instead of current-context.
    """
    files = _files(path)
    read = [(file, _read(file)) for file in files if path or os.path.exists(file)]
    if not read:
        raise UsageError(f"{':'.join(files)}: no such file: give --kubeconfig FILE")
    context = context or next((each.current_context for _, each in read if each.current_context), "")
    names = ", ".join(dict.fromkeys(each.name for _, config in read for each in config.contexts)) or "none"
    where = ":".join(file for file, _ in read)
    if not context:
        raise UsageError(f"{where}: current-context is not set: give --context NAME, one of: {names}")
    chosen = _find(read, "contexts", context)
    if chosen is None:
        raise UsageError(f"{where}: there is no context {context!r}; there are: {names}")
    return _Context(read, context, *chosen).access()


# ---- what is in a file


class _Kebab(msgspec.Struct, rename="kebab"):
    pass


class _Extension(msgspec.Struct):
    name: str = ""
    extension: object = None


class _Cluster(_Kebab):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[_Extension] = []


class _Variable(msgspec.Struct):
    name: str
    value: str = ""


class _Plugin(msgspec.Struct, rename="camel"):
    api_version: str = ""
    command: str = ""
    args: list[str] = []
    env: list[_Variable] = []
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class _User(_Kebab):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    exec: _Plugin | None = None
    auth_provider: dict | None = None
    as_: str = msgspec.field(name="as", default="")
    as_uid: str = ""
    as_groups: list[str] = []
    as_user_extra: dict[str, list[str]] = {}


class _Words(msgspec.Struct):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _Named(msgspec.Struct):
    name: str
    cluster: _Cluster | None = None
    user: _User | None = None
    context: _Words | None = None


class _Config(_Kebab):
    current_context: str = ""
    clusters: list[_Named] = []
    users: list[_Named] = []
    contexts: list[_Named] = []


_Read = list[tuple[str, _Config]]


def _files(path: str) -> list[str]:
    if path:
        return [path]
    listed = [file for file in os.environ.get("KUBECONFIG", "").split(":") if file]
    return listed or [str(Path.home() / ".kube" / "config")]


def _read(file: str) -> _Config:
    try:
        with open(file, "rb") as opened:
            data = opened.read(CONFIG_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    if len(data) > CONFIG_BYTES:
        raise UsageError(f"{file}: is larger than {CONFIG_BYTES >> 20} MiB: that is no kubeconfig")
    try:
        node = compose(data)
        value = _pruned(build(node, len(data))) if node is not None else {}
    except TextError as error:
        raise UsageError(f"{file}:{error.line + 1}: {error}") from None
    if not isinstance(value, dict) or value.get("kind", "Config") != "Config":
        raise UsageError(f"{file}: is no kubeconfig (kind: Config)")
    try:
        config = msgspec.convert(value, _Config)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$.")
        raise UsageError(f"{file}: {at.rstrip('`') + ': ' if at else ''}{message.replace('`', '')}") from None
    for kind in ("clusters", "users", "contexts"):
        names = [each.name for each in getattr(config, kind)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{file}: {kind}: {twice!r} is there twice")
    return config


def _pruned(value: object) -> object:
    """Leave out nulls: for kubectl they are what is not there."""
    if isinstance(value, dict):
        return {name: _pruned(child) for name, child in value.items() if child is not None}
    return [_pruned(child) for child in value] if isinstance(value, list) else value


def _find(read: _Read, kind: str, name: str) -> tuple[str, _Named] | None:
    return next(((file, each) for file, config in read for each in getattr(config, kind) if each.name == name), None)


class _Context:
    """One context, and what it refers to. `clusters` and `users` each lie in a file that their relative paths start from."""

    def __init__(self, read: _Read, name: str, file: str, named: _Named):
        self.place = f"{file}: context {name!r}"
        words = named.context or _Words()
        self.namespace = words.namespace or "default"
        self.cluster_file, self.cluster = self._follow(read, "clusters", "cluster", words.cluster)
        self.user: _User
        self.user_file, self.user = self._follow(read, "users", "user", words.user) if words.user else (file, _User())
        self.at_cluster, self.at_user = f"cluster {words.cluster!r}", f"user {words.user!r}"

    def _follow(self, read: _Read, kind: str, word: str, name: str) -> tuple[str, Any]:
        found = _find(read, kind, name)
        if found is None:
            raise UsageError(f"{self.place}: {word}: {f'there is no {word} {name!r}' if name else 'is required'}")
        file, named = found
        return file, getattr(named, word) or (_Cluster() if word == "cluster" else _User())

    def access(self) -> Access:
        cluster, user = self.cluster, self.user
        authority = self._material("cluster", "certificate-authority")
        if authority and cluster.insecure_skip_tls_verify:
            raise self.wrong(self.at_cluster, "insecure-skip-tls-verify", "and certificate-authority exclude each other")
        certificate, key = self._material("user", "client-certificate"), self._material("user", "client-key")
        if bool(certificate) != bool(key):
            raise self.wrong(self.at_user, "client-key" if certificate else "client-certificate", "is required by the other")
        server = self._server(authority, certificate)
        return Access(server, self.place, self.namespace, authority, cluster.insecure_skip_tls_verify, cluster.tls_server_name,
                      self._proxy(server), certificate, key, self._token(), user.username, user.password, self._exec(),
                      self._impersonate())

    def wrong(self, at: str, field: str, message: str) -> UsageError:
        return UsageError(f"{self.place}: {at}: {field}: {message}")

    def _server(self, authority: Material, certificate: Material) -> str:
        """A server without a scheme has https where anything asks for it, as client-go has it."""
        text = self.cluster.server
        if not text:
            raise self.wrong(self.at_cluster, "server", "is required")
        if "://" not in text:
            text = f"http{'s' if authority or certificate or self.cluster.insecure_skip_tls_verify else ''}://{text}"
        if problem := url_problem(text, ("https", "http")):
            raise self.wrong(self.at_cluster, "server", f"{masked(text)!r} {problem}")
        return text.rstrip("/")

    def _proxy(self, server: str) -> str:
        text = self.cluster.proxy_url
        if text and (problem := url_problem(text, ("http",), credentials=True)):
            raise self.wrong(self.at_cluster, "proxy-url", f"{masked(text)!r} {problem}")
        return text or proxy_for(server)

    def _material(self, word: str, name: str) -> Material:
        """Read a field and its -data, which counts more, as kubectl has it."""
        entry, file, at = (self.cluster, self.cluster_file, self.at_cluster) if word == "cluster" else (
            self.user, self.user_file, self.at_user)
        attribute = name.replace("-", "_")
        if data := getattr(entry, f"{attribute}_data"):
            try:
                return Material(f"{self.place}: {at}: {name}-data", binascii.a2b_base64("".join(data.split()), strict_mode=True))
            except (ValueError, binascii.Error):
                raise self.wrong(at, f"{name}-data", "is no base64") from None
        return self._file(file, at, name, getattr(entry, attribute))

    def _file(self, file: str, at: str, name: str, path: str) -> Material:
        if not path:
            return Material()
        material = Material(f"{self.place}: {at}: {name}", file=os.path.join(os.path.dirname(os.path.abspath(file)), path))
        try:
            material.read()
        except OSError as error:
            raise self.wrong(at, name, f"{material.file}: {error.strerror}") from None
        return material

    def _token(self) -> Material:
        """A token file counts more than a token, as client-go has it."""
        user = self.user
        if user.auth_provider is not None:
            raise self.wrong(self.at_user, "auth-provider", f"{user.auth_provider.get('name', '')!r} is not supported, nor by "
                             "kubectl since 1.26: use an exec plugin, such as gke-gcloud-auth-plugin or kubelogin")
        given = [name for name, value in (("token", user.token or user.token_file), ("username", user.username),
                                          ("exec", user.exec)) if value]
        if len(given) > 1:
            raise self.wrong(self.at_user, given[0], f"and {given[1]}: only one way to say who we are is allowed")
        if user.token_file:
            return self._file(self.user_file, self.at_user, "tokenFile", user.token_file)
        return Material(f"{self.place}: {self.at_user}: token", user.token.encode()) if user.token else Material()

    def _exec(self) -> Exec | None:
        plugin = self.user.exec
        if plugin is None:
            return None
        if problem := _plugin_problem(plugin):
            raise self.wrong(self.at_user, *problem)
        command = plugin.command
        if "/" in command:
            command = os.path.join(os.path.dirname(os.path.abspath(self.user_file)), command)
        config = next((each.extension for each in self.cluster.extensions if each.name == EXEC_EXTENSION), None)
        return Exec(f"{self.place}: {self.at_user}: exec", command, tuple(plugin.args),
                    tuple((each.name, each.value) for each in plugin.env), plugin.api_version, plugin.install_hint.strip(),
                    plugin.provide_cluster_info, config)

    def _impersonate(self) -> tuple[tuple[str, str], ...]:
        user = self.user
        others = [("Impersonate-Uid", user.as_uid)] if user.as_uid else []
        others += [("Impersonate-Group", group) for group in user.as_groups]
        others += [(f"Impersonate-Extra-{quote(name.lower(), safe='')}", value)
                   for name, values in user.as_user_extra.items() for value in values]
        if unfit := next((value for _, value in [("", user.as_), *others] if not value.isprintable()), None):
            raise self.wrong(self.at_user, "as", f"{unfit!r} cannot be sent")
        if others and not user.as_:
            raise self.wrong(self.at_user, "as", "is required where a group, a uid or more is given")
        return (("Impersonate-User", user.as_), *others) if user.as_ else ()


def _plugin_problem(plugin: _Plugin) -> tuple[str, str] | None:
    if not plugin.command:
        return "exec.command", "is required"
    if plugin.api_version not in EXEC_VERSIONS:
        return "exec.apiVersion", f"{plugin.api_version!r} is not supported; {' and '.join(EXEC_VERSIONS)} are"
    if not plugin.interactive_mode and plugin.api_version == EXEC_VERSIONS[0]:
        return "exec.interactiveMode", "is required: Never, IfAvailable or Always"
    if plugin.interactive_mode not in ("", "Never", "IfAvailable", "Always"):
        return "exec.interactiveMode", f"{plugin.interactive_mode!r} must be Never, IfAvailable or Always"
    if plugin.interactive_mode == "Always":
        return "exec.interactiveMode", "is Always, and a service has nobody to ask"
    return None


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
