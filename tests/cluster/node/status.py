"""What is told of a Pod: phase, conditions and the states of its containers, as kubelet computes them."""
from node.container import Container, now
from node.network import NODE_IP


def state_of(container: Container) -> dict:
    if container.running:
        return {"running": {"startedAt": container.began}}
    if container.terminated and not container.waiting[0]:
        return {"terminated": container.terminated}
    reason, message = container.waiting
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def container_status(container: Container) -> dict:
    image = container.spec["image"]
    said = {"name": container.name, "image": image, "imageID": image, "restartCount": max(container.restarts, 0),
            "ready": container.ready, "started": container.started, "state": state_of(container),
            "lastState": {"terminated": container.last} if container.last else {}}
    if container.restarts >= 0:
        said["containerID"] = container.identity
    if container.init and not container.sidecar:
        said["ready"] = bool(container.terminated and container.terminated["exitCode"] == 0)
    return said


def phase_of(containers: list[Container], initialized: bool, policy: str, ending: bool) -> str:
    """Pending, Running, Succeeded or Failed."""
    regular = [container for container in containers if not container.init]
    if not initialized or any(container.restarts < 0 for container in regular):
        failed = [c for c in containers if c.init and c.terminated and c.terminated["exitCode"]]
        return "Failed" if failed and policy == "Never" else "Pending"
    ended = [container.terminated for container in regular if not container.running and container.terminated]
    if len(ended) < len(regular) or policy == "Always" and not ending:
        return "Running"
    if any(one["exitCode"] for one in ended):
        return "Running" if policy == "OnFailure" and not ending else "Failed"
    return "Succeeded"


class Status:
    """The status of one Pod, with the times at which its conditions changed."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, str]] = {}
        self.began = now()

    def compute(self, thing: dict, containers: list[Container], ip: str, initialized: bool, ending: bool) -> dict:
        spec = thing["spec"]
        phase = phase_of(containers, initialized, spec.get("restartPolicy", "Always"), ending)
        serving = [container for container in containers if not container.init or container.sidecar]
        ready = bool(ip) and initialized and all(container.ready for container in serving)
        gates = {one["conditionType"] for one in spec.get("readinessGates") or ()}
        open_gates = {one["type"] for one in thing.get("status", {}).get("conditions") or () if one["status"] == "True"}
        truths = {"PodScheduled": True, "PodReadyToStartContainers": bool(ip), "Initialized": initialized,
                  "ContainersReady": ready, "Ready": ready and gates <= open_gates}
        said = {"phase": phase, "hostIP": NODE_IP, "startTime": self.began,
                "conditions": [self._condition(name, truth, phase) for name, truth in truths.items()],
                "containerStatuses": [container_status(container) for container in containers if not container.init]}
        if any(container.init for container in containers):
            said["initContainerStatuses"] = [container_status(container) for container in containers if container.init]
        if ip:
            said |= {"podIP": ip, "podIPs": [{"$patch": "replace"}, {"ip": ip}]}  # of a strategic merge patch
        return said

    def _condition(self, name: str, truth: bool, phase: str) -> dict:
        status = "True" if truth else "False"
        if self._since.get(name, ("",))[0] != status:
            self._since[name] = (status, now())
        said = {"type": name, "status": status, "lastTransitionTime": self._since[name][1]}
        if not truth and name in ("Ready", "ContainersReady"):
            said["reason"] = "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"
        return said
