"""A Pod: a thread from its first container to its last word.

The thread sleeps until something changes (a container has ended, a probe has decided, the Pod's object, a Secret, or time has
come), then does what is next and has the status told. Init containers run one after another, those with
restartPolicy Always stay; the others start together. At the end preStop, TERM, and KILL after the grace period; then the network
is removed and the node deletes the object.
"""
import contextlib
import http.client
import shutil
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from node import images, network, probes
from node.container import LOOK_SECONDS, Container, arguments, expanded, security
from node.status import Status, phase_of
from node.volumes import Missing, Volumes, field_of

if TYPE_CHECKING:
    from node.__main__ import Node

FORGOTTEN_SECONDS = 2.0  # of grace for a Pod whose object is gone already (kubectl delete --force)
RETRY_SECONDS = 0.5  # until what is missing is looked for again


class Pod:
    """A Pod by its object, which `update` replaces."""

    def __init__(self, node: "Node", thing: dict, number: int):
        self.namespace, self.pod_name = thing["metadata"]["namespace"], thing["metadata"]["name"]
        self.uid, self.thing, self.ip = thing["metadata"]["uid"], thing, ""
        self.containers = [Container(spec, init, self.wake) for init, key in ((True, "initContainers"), (False, "containers"))
                           for spec in thing["spec"].get(key) or ()]
        self.finished = False
        self._node, self._number = node, number
        self._network = "" if thing["spec"].get("hostNetwork") else f"p{number}"
        self._folder = node.state / "pods" / self.uid
        self._volumes = Volumes(self._folder / "volumes", node.sources, thing, self._field)
        self._mounted = self._initialized = False
        self._status, self._told = Status(), None
        self._woken = threading.Event()
        self._end: float | None = None  # when (time.monotonic) grace is over

    # ---- what others say

    def wake(self) -> None:
        self._woken.set()

    def update(self, thing: dict) -> None:
        """Take a changed object."""
        self.thing = thing
        if thing["metadata"].get("deletionTimestamp"):
            self._end_within(float(thing["metadata"].get("deletionGracePeriodSeconds", 30)))
        self.wake()

    def forget(self) -> None:
        """The object is gone: end soon."""
        self._end_within(FORGOTTEN_SECONDS)
        self.wake()

    def refers_to(self, kind: str, name: str) -> bool:
        return self._volumes.refer_to(kind, name)

    def report(self) -> dict | None:
        """Return the status where it differs from what was last returned."""
        ending = self._end is not None
        said = self._status.compute(self.thing, self.containers, self.ip, self._initialized, ending)
        if said == self._told:
            return None
        self._told = said
        return said

    def untold(self) -> None:
        """What `report` returned has not arrived."""
        self._told = None

    # ---- its life

    def start(self) -> None:
        threading.Thread(target=self._live, name=f"pod {self.namespace}/{self.pod_name}", daemon=True).start()

    def _live(self) -> None:
        try:
            self.ip = network.NODE_IP if not self._network else network.add(self._network, self._number)
            while self._end is None and not self._completed():
                self._woken.clear()
                self._sync()
                self._node.tell(self)
                self._woken.wait(self._next())
            while self._end is None:
                self._woken.clear()
                self._node.tell(self)
                self._woken.wait()
            self._terminate()
        finally:
            if self._network:
                network.remove(self._network, self._number)
            shutil.rmtree(self._folder, ignore_errors=True)
            self.finished = True
            self._node.tell(self)

    def _completed(self) -> bool:
        policy = self.thing["spec"].get("restartPolicy", "Always")
        return phase_of(self.containers, self._initialized, policy, False) in ("Succeeded", "Failed")

    def _next(self) -> float:
        """Seconds until there is something to do without being woken."""
        dues = [container.due for container in self.containers if not container.running]
        if not self._mounted:
            dues.append(time.monotonic() + RETRY_SECONDS)
        return max(0.01, min([*dues, self._volumes.due, time.monotonic() + 3600]) - time.monotonic())

    def _sync(self) -> None:
        try:
            self._volumes.update(self.thing)
            self._mounted = True
        except Missing as problem:
            if not self._mounted:
                for container in self.containers:
                    container.waiting = ("ContainerCreating", f"MountVolume.SetUp failed: {problem}")
                return
        through = self._run_inits()
        self._initialized = self._initialized or through  # a sidecar that starts anew does not undo it
        if self._initialized:
            for container in self.containers:
                if not container.init:
                    self._keep_running(container)

    def _run_inits(self) -> bool:
        """Start the init container whose turn it is. Returns whether all are through."""
        for container in self.containers:
            if container.init and not self._advance_init(container):
                return False
        return True

    def _advance_init(self, container: Container) -> bool:
        if container.terminated and container.terminated["exitCode"] == 0 and not container.sidecar:
            return True
        self._keep_running(container)
        return container.sidecar and container.started

    def _keep_running(self, container: Container) -> None:
        """Start a container that does not run and should."""
        if container.running:
            return
        if container.terminated and not self._restarts(container):
            container.waiting = ("", "")
            return
        if time.monotonic() < container.due:
            if container.terminated:
                container.waiting = ("CrashLoopBackOff", "back-off restarting failed container")
            return
        container.start(self._make, self._probe)

    def _restarts(self, container: Container) -> bool:
        policy = "Always" if container.sidecar else self.thing["spec"].get("restartPolicy", "Always")
        if container.init and not container.sidecar and policy == "Always":
            policy = "OnFailure"
        return policy == "Always" or policy == "OnFailure" and container.terminated["exitCode"] != 0

    # ---- probes

    def _probe(self, container: Container) -> None:
        """Begin the probes of a run; what has none is started, and ready, at once."""
        told = {"startup": self._on_startup, "readiness": self._on_readiness, "liveness": self._on_liveness}
        container.started = "startupProbe" not in container.spec
        container.ready = container.started and "readinessProbe" not in container.spec
        for kind, react in told.items():
            if f"{kind}Probe" in container.spec:
                probes.Prober(kind, container, self.ip, partial(react, container)).start()

    def _on_startup(self, container: Container, good: bool) -> None:
        if not good:
            return self._on_liveness(container, good)
        container.started = True
        container.ready = "readinessProbe" not in container.spec
        self.wake()

    def _on_readiness(self, container: Container, good: bool) -> None:
        container.ready = good
        self.wake()
        if self._end is not None:
            self._node.tell(self)

    def _on_liveness(self, container: Container, good: bool) -> None:
        if not good and self._end is None:
            end = time.monotonic() + self.thing["spec"].get("terminationGracePeriodSeconds", 30)
            container.stop(container.over, lambda: end - time.monotonic())

    # ---- the end

    def _end_within(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._end = end if self._end is None else min(self._end, end)

    def _terminate(self) -> None:
        for these in ([c for c in self.containers if not c.sidecar], [c for c in self.containers if c.sidecar]):
            threads = [threading.Thread(target=self._stop, args=(c, c.over), daemon=True) for c in these if c.running]
            for thread in threads:
                thread.start()
            self._node.tell(self)
            for thread in threads:
                thread.join()
        for container in self.containers:
            container.waiting = ("", "") if container.terminated else container.waiting

    def _stop(self, container: Container, over: threading.Event) -> None:
        if hook := container.spec.get("lifecycle", {}).get("preStop"):
            self._run_hook(container, hook)
        container.stop(over, lambda: self._end - time.monotonic())

    def _run_hook(self, container: Container, hook: dict) -> None:
        """A preStop hook has the grace period; whatever becomes of it, TERM follows."""
        left = max(0.0, self._end - time.monotonic())
        if "sleep" in hook:
            end = time.monotonic() + hook["sleep"]["seconds"]
            while not container.over.wait(LOOK_SECONDS) and time.monotonic() < min(end, self._end):
                pass  # the grace period may become less meanwhile
        with contextlib.suppress(OSError, subprocess.TimeoutExpired, http.client.HTTPException, StopIteration):
            if "exec" in hook:
                container.run(hook["exec"]["command"], left)
            if "httpGet" in hook:
                probes.http_get(hook["httpGet"], container.spec, self.ip, left)

    # ---- from its spec to what launch.py is told

    def _field(self, thing: dict, path: str) -> str:
        return field_of(thing, path, self.ip, network.NODE_IP)

    def _make(self, container: Container) -> dict:
        """Say how a container is to be launched. Raises Missing, LookupError (no such image)."""
        spec, pod = container.spec, self.thing["spec"]
        image = self._node.images.find(spec["image"])
        if image is None:
            raise LookupError(f'failed to pull image "{spec["image"]}": no program stands for it')
        env = self._environment(spec, image)
        name = pod.get("hostname") or self.pod_name
        return security(spec, pod, image) | {
            "root": str(self._made(container.name)), "network": self._network, "hostname": name[:63], "env": env,
            "argv": arguments(spec, image, env), "workdir": spec.get("workingDir", ""), "links": image.links,
            "passable": images.passable(image), "needed": images.needed(image), "mounts": self._volumes.mounts(spec),
            "files": {"/etc/hostname": f"{name}\n", "/etc/resolv.conf": self._node.resolver(self.namespace, pod),
                      "/etc/hosts": self._hosts(name, pod)}}

    def _hosts(self, name: str, pod: dict) -> str:
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"{self.ip} {name}"]
        lines += [f"{one['ip']} {' '.join(one['hostnames'])}" for one in pod.get("hostAliases") or ()]
        return "\n".join(lines) + "\n"

    def _made(self, name: str) -> Path:
        folder = self._folder / "containers" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _environment(self, spec: dict, image: images.Image) -> dict[str, str]:
        env = {"PATH": images.PATH, "HOSTNAME": self.pod_name, "HOME": "/", **image.env}
        env |= self._node.service_links(self.namespace, self.thing["spec"].get("enableServiceLinks", True))
        for source in spec.get("envFrom") or ():
            for kind, key in (("secret", "secretRef"), ("configmap", "configMapRef")):
                if key in source:
                    data = self._node.sources.data(kind, self.namespace, source[key]["name"], source[key].get("optional", False)) or {}
                    env |= {source.get("prefix", "") + name: value.decode() for name, value in data.items()}
        for one in spec.get("env") or ():
            value = self._value(one, env)
            if value is not None:
                env[one["name"]] = value
        return env

    def _value(self, one: dict, env: dict[str, str]) -> str | None:
        source = one.get("valueFrom")
        if not source:
            return expanded(one.get("value", ""), env)
        if "fieldRef" in source:
            return self._field(self.thing, source["fieldRef"]["fieldPath"])
        for kind, key in (("secret", "secretKeyRef"), ("configmap", "configMapKeyRef")):
            if key in source:
                said = source[key]
                data = self._node.sources.data(kind, self.namespace, said["name"], said.get("optional", False)) or {}
                if said["key"] not in data and not said.get("optional"):
                    raise Missing(f"couldn't find key {said['key']} in {kind} {self.namespace}/{said['name']}")
                return data[said["key"]].decode() if said["key"] in data else None
        raise Missing(f"env {one['name']}: of a source that this node does not have")
