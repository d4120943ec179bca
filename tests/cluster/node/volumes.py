"""What is mounted into containers: secret, configMap, downwardAPI, projected (with tokens), emptyDir, hostPath.

A volume of files is a folder in which `..data` is a link to the folder of the present content; a change makes a new folder and
swaps the link, so that a reader sees the old files or the new ones, never some of both (kubelet's AtomicWriter). What is mounted by
subPath does not change. Tokens come from the TokenRequest API, bound to the Pod, and are renewed after four fifths of
their lives.
"""
import base64
import itertools
import os
import shutil
import time
from pathlib import Path
from typing import Any

from kubeapi import Api, ApiError

RENEWED_AFTER = 0.8  # of a token's life, as kubelet has it
TOKEN_SECONDS = 3600
FILES = ("secret", "configMap", "downwardAPI", "projected")

Payload = dict[str, tuple[bytes, int]]  # path -> (content, mode)


class Missing(Exception):
    """What is not there yet: kubelet's message. The Pod waits for it."""


class Sources:
    """What volumes and environments are made of: the node's copies of Secrets and ConfigMaps, and the API server for tokens."""

    def __init__(self, api: Api, secrets: dict, config_maps: dict):
        self.api, self._kept = api, {"secret": secrets, "configmap": config_maps}

    def data(self, kind: str, namespace: str, name: str, optional: bool = False) -> dict[str, bytes] | None:
        """Return the data of a Secret or ConfigMap; None where an optional one is not there."""
        thing = self._kept[kind].get((namespace, name))
        if thing is None:
            if optional:
                return None
            raise Missing(f'{kind} "{name}" not found')
        binary = thing.get("data" if kind == "secret" else "binaryData") or {}
        text = {} if kind == "secret" else thing.get("data") or {}
        return {k: base64.b64decode(v) for k, v in binary.items()} | {k: v.encode() for k, v in text.items()}

    def token(self, namespace: str, account: str, body: dict) -> tuple[bytes, float]:
        """Return a new token and how many seconds it lives."""
        try:
            answer = self.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
        except (ApiError, OSError) as problem:
            raise Missing(f"failed to fetch token: {problem}") from None
        return answer["status"]["token"].encode(), body["spec"]["expirationSeconds"]


def field_of(thing: dict, path: str, ip: str, node_ip: str) -> str:
    """The value of a fieldRef."""
    about, spec = thing["metadata"], thing["spec"]
    for what in ("labels", "annotations"):
        if path == f"metadata.{what}":
            return "\n".join(f'{k}="{v}"' for k, v in sorted((about.get(what) or {}).items()))
        if path.startswith(f"metadata.{what}['"):
            return (about.get(what) or {}).get(path[len(f"metadata.{what}['"):-2], "")
    return {"metadata.name": about["name"], "metadata.namespace": about["namespace"], "metadata.uid": about["uid"],
            "spec.nodeName": spec["nodeName"], "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
            "status.podIP": ip, "status.podIPs": ip, "status.hostIP": node_ip, "status.hostIPs": node_ip}[path]


class Volumes:
    """The volumes of one Pod. `thing` is the Pod as it is now; `look` finds a field of it."""

    def __init__(self, folder: Path, sources: Sources, thing: dict, look: Any):
        self._folder, self._sources, self._look = folder, sources, look
        self._thing = thing
        self._written: dict[str, Payload] = {}
        self._tokens: dict[tuple, tuple[bytes, float]] = {}  # what was asked for -> (token, when to renew)
        self._numbers = itertools.count(1)
        self.user, self.group = owner(thing["spec"])

    def refer_to(self, kind: str, name: str) -> bool:
        """Whether a Secret or ConfigMap is one that is mounted."""
        return any((kind, name) in references(volume) for volume in self._thing["spec"].get("volumes") or ())

    @property
    def due(self) -> float:
        """When (time.monotonic) a token has to be renewed."""
        return min((when for _, when in self._tokens.values()), default=float("inf"))

    def update(self, thing: dict) -> None:
        """Write what is new. Raises Missing; what was written before stays."""
        self._thing = thing
        for volume in thing["spec"].get("volumes") or ():
            if any(kind in volume for kind in FILES):
                self._write(volume["name"], self._payload(volume))
            elif "emptyDir" in volume:
                self._make(self._folder / volume["name"])
            elif "hostPath" not in volume:
                raise Missing(f'volume "{volume["name"]}" is of a kind that this node does not have')

    def mounts(self, container: dict) -> list[dict]:
        """What launch.py binds for a container."""
        volumes = {volume["name"]: volume for volume in self._thing["spec"].get("volumes") or ()}
        found = []
        for one in container.get("volumeMounts") or ():
            volume = volumes[one["name"]]
            at = Path(volume["hostPath"]["path"]) if "hostPath" in volume else self._folder / one["name"]
            if one.get("subPath"):
                at = Path(os.path.realpath(at / one["subPath"]))
            if not at.exists():
                self._make(at)
            found.append({"from": str(at), "at": one["mountPath"].rstrip("/"), "read_only": bool(one.get("readOnly"))})
        return found

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777)
            if self.group is not None:
                os.chown(folder, -1, self.group)

    # ---- content

    def _payload(self, volume: dict) -> Payload:
        if "projected" not in volume:
            return self._source(volume, 0o644)
        mode = volume["projected"].get("defaultMode", 0o644)
        payload: Payload = {}
        for source in volume["projected"].get("sources") or ():
            payload |= self._source(source, mode)
        return payload

    def _source(self, source: dict, mode: int) -> Payload:
        for kind, word in (("secret", "secret"), ("configMap", "configmap")):
            if kind in source:
                return self._selected(word, source[kind], mode)
        if "downwardAPI" in source:
            said = source["downwardAPI"]
            return {item["path"]: (self._field(item), item.get("mode", said.get("defaultMode", mode))) for item in said.get("items") or ()}
        if "serviceAccountToken" in source:
            said = source["serviceAccountToken"]
            return {said["path"]: (self._token(said), mode if self.user is None and self.group is None else 0o600)}
        raise Missing(f"a projected volume's source is of a kind that this node does not have: {', '.join(source)}")

    def _selected(self, kind: str, said: dict, mode: int) -> Payload:
        name = said.get("secretName") or said.get("name", "")
        optional, mode = said.get("optional", False), said.get("defaultMode", mode)
        data = self._sources.data(kind, self._thing["metadata"]["namespace"], name, optional) or {}
        if not said.get("items"):
            return {key: (value, mode) for key, value in data.items()}
        absent = [item["key"] for item in said["items"] if item["key"] not in data]
        if absent and not optional:
            raise Missing(f"references non-existent {kind} key: {absent[0]}")
        return {item["path"]: (data[item["key"]], item.get("mode", mode)) for item in said["items"] if item["key"] in data}

    def _field(self, item: dict) -> bytes:
        if "fieldRef" not in item:
            raise Missing("resourceFieldRef: this node does not enforce limits")
        return self._look(self._thing, item["fieldRef"]["fieldPath"]).encode()

    def _token(self, said: dict) -> bytes:
        about, asked = self._thing["metadata"], (said.get("audience", ""), said.get("expirationSeconds", TOKEN_SECONDS))
        token, renew = self._tokens.get(asked, (b"", 0.0))
        if time.monotonic() >= renew:
            bound = {"apiVersion": "v1", "kind": "Pod", "name": about["name"], "uid": about["uid"]}
            spec = {"audiences": [asked[0]] if asked[0] else [], "expirationSeconds": asked[1], "boundObjectRef": bound}
            account = self._thing["spec"].get("serviceAccountName", "default")
            token, life = self._sources.token(about["namespace"], account, {"spec": spec})
            self._tokens[asked] = token, time.monotonic() + RENEWED_AFTER * life
        return token

    # ---- files

    def _write(self, name: str, payload: Payload) -> None:
        if self._written.get(name) == payload:
            return
        folder, fresh = self._folder / name, f"..{next(self._numbers)}"
        folder.mkdir(parents=True, exist_ok=True)
        for path, (content, mode) in payload.items():
            self._write_file(folder / fresh / path, content, mode)
        (folder / fresh).mkdir(exist_ok=True)
        old = os.path.realpath(folder / "..data")
        (folder / "..data_tmp").symlink_to(fresh)
        (folder / "..data_tmp").replace(folder / "..data")
        tops = {Path(path).parts[0] for path in payload}
        for top in tops:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(f"..data/{top}")
        for entry in folder.iterdir():
            if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in tops:
                entry.unlink()
        if name in self._written:
            shutil.rmtree(old)
        self._written[name] = payload

    def _write_file(self, file: Path, content: bytes, mode: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if self.group is not None:
            os.chown(file, -1, self.group)
            mode |= 0o440 if mode & 0o400 else 0o040
        elif self.user is not None and mode == 0o600:
            os.chown(file, self.user, -1)
        file.chmod(mode)


def references(volume: dict) -> set[tuple[str, str]]:
    """(kind, name) of the Secrets and ConfigMaps that a volume is made of."""
    found = set()
    for source in (volume, *(volume.get("projected", {}).get("sources") or ())):
        if "secret" in source:
            found.add(("secret", source["secret"].get("secretName") or source["secret"].get("name", "")))
        if "configMap" in source:
            found.add(("configmap", source["configMap"].get("name", "")))
    return found


def owner(spec: dict) -> tuple[int | None, int | None]:
    """(the user that all containers run as, fsGroup), None where there is none."""
    pod = spec.get("securityContext") or {}
    users = {(container.get("securityContext") or {}).get("runAsUser", pod.get("runAsUser")) for container in spec["containers"]}
    return users.pop() if len(users) == 1 else None, pod.get("fsGroup")
