"""The cluster itself does what the tests beside it rest on: Pods, probes, volumes, tokens, Services, and trouble on command."""
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import Cluster, family
from forward import Forwards
from node.images import Image, needed
from support.processes import alive
from support.waiting import elapse

ECHO = "gcr.io/k8s-staging-gateway-api/echo-basic:v1.6.1"
# Answers 200 to /healthz as long as /tmp/ready is there, and its number of requests to everything else.
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path != "/healthz" or os.path.exists("/tmp/ready") else 503)
        self.end_headers()
        self.wfile.write(os.environ.get("HOSTNAME", "").encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def pod(name: str, **container: object) -> dict:
    """A Pod with one container; what is not a container's is taken for the Pod's spec. Most programs here do not hear TERM."""
    spec = {"terminationGracePeriodSeconds": 1} | {key: container.pop(key) for key in ("volumes", "restartPolicy", "securityContext_", "terminationGracePeriodSeconds",
                                                "serviceAccountName", "initContainers", "hostNetwork") if key in container}
    if "securityContext_" in spec:
        spec["securityContext"] = spec.pop("securityContext_")
    container = {"name": "main", "image": "python"} | container
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container]} | spec}


def python(text: str) -> list[str]:
    return ["python3", "-c", text]


def service(name: str, port: int, target: int, **spec: object) -> dict:
    protocol = spec.pop("protocol", "TCP")
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {"app": name}, "ports": [{"port": port, "targetPort": target, "protocol": protocol}]} | spec}


def start(cluster: Cluster, namespace: str, *things: dict) -> None:
    for thing in things:
        thing["metadata"]["namespace"] = namespace
    cluster.create(*things)


def until_ready(cluster: Cluster, namespace: str, name: str) -> dict:
    cluster.wait_for(lambda: cluster.condition("Pod", name, "Ready", namespace) == "True", f"Pod {name} to be ready")
    return cluster.get("Pod", name, namespace)


def state(cluster: Cluster, namespace: str, name: str) -> dict:
    return ((cluster.get("Pod", name, namespace) or {}).get("status", {}).get("containerStatuses") or [{}])[0]


def endpoints(cluster: Cluster, namespace: str, name: str) -> list[tuple[str, bool]]:
    """(address, ready) of a Service's endpoints."""
    slices = [one for one in cluster.objects("EndpointSlice", namespace)
              if one["metadata"]["labels"]["kubernetes.io/service-name"] == name]
    return [(end["addresses"][0], end["conditions"]["ready"]) for one in slices for end in one["endpoints"] or ()]


# ---- Pods


def test_a_pod_answers_through_its_service(cluster: Cluster, namespace: str) -> None:
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in
           (("POD_NAME", "metadata.name"), ("NAMESPACE", "metadata.namespace"))]
    probe = {"httpGet": {"port": "http", "path": "/"}}
    start(cluster, namespace, service("echo", 80, 3000),
          pod("echo", image=ECHO, env=env, ports=[{"name": "http", "containerPort": 3000}], readinessProbe=probe))
    until_ready(cluster, namespace, "echo")
    address = cluster.get("Service", "echo", namespace)["spec"]["clusterIP"]
    answer = json.loads(cluster.wait_for(lambda: cluster.http(address, 80, "/hello")).body)
    assert (answer["path"], answer["pod"], answer["namespace"]) == ("/hello", "echo", namespace)
    # From a Pod, by name; the Pod is the Service's own endpoint, and meets itself.
    fetch = f"import urllib.request as r; print(r.urlopen('http://echo.{namespace}/itself').read().decode())"
    assert json.loads(cluster.exec("echo", *python(fetch), namespace=namespace))["path"] == "/itself"


def test_a_service_without_endpoints_refuses(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, service("nobody", 80, 3000))
    address = cluster.get("Service", "nobody", namespace)["spec"]["clusterIP"]

    def refused() -> bool:
        with pytest.raises(OSError) as caught, cluster.connect(address, 80, 0.2):
            pass
        return isinstance(caught.value, ConnectionRefusedError)

    cluster.wait_for(refused, "a refusal")


def test_a_container_that_ends_is_started_again(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("crash", command=python("import sys, time; print('here', flush=True); time.sleep(0.3); sys.exit(3)")))
    cluster.wait_for(lambda: state(cluster, namespace, "crash").get("restartCount", 0) >= 2, "restarts")
    cluster.comes_to(lambda: state(cluster, namespace, "crash")["lastState"]["terminated"]["exitCode"], 3)
    cluster.comes_to(lambda: cluster.kubectl("logs", "crash", "-n", namespace, "--previous").strip(), "here")


@pytest.mark.parametrize(("policy", "code", "phase"), [("Never", 0, "Succeeded"), ("OnFailure", 0, "Succeeded"), ("Never", 1, "Failed")])
def test_what_is_to_end_stays_ended(cluster: Cluster, namespace: str, policy: str, code: int, phase: str) -> None:
    start(cluster, namespace, pod("once", command=["sh", "-c", f"exit {code}"], restartPolicy=policy))
    cluster.wait_for(lambda: cluster.get("Pod", "once", namespace)["status"]["phase"] == phase, phase)
    assert state(cluster, namespace, "once")["restartCount"] == 0


def test_init_containers_come_first(cluster: Cluster, namespace: str) -> None:
    mount = [{"name": "shared", "mountPath": "/shared"}]
    init = [{"name": f"init-{n}", "image": "python", "command": ["sh", "-c", f"echo {n} >> /shared/order"], "volumeMounts": mount} for n in (1, 2)]
    start(cluster, namespace, pod("late", initContainers=init, command=["sh", "-c", "cat /shared/order; exec sleep 1000"],
                                  volumeMounts=mount, volumes=[{"name": "shared", "emptyDir": {}}]))
    until_ready(cluster, namespace, "late")
    cluster.wait_for(lambda: cluster.kubectl("logs", "late", "-n", namespace).split() == ["1", "2"], "both init containers' words")


def test_an_image_that_is_not_there_cannot_be_pulled(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("unknown", image="registry.example/nothing:1"))
    cluster.wait_for(lambda: state(cluster, namespace, "unknown").get("state", {}).get("waiting", {}).get("reason") == "ErrImagePull")


def test_command_and_args_replace_what_the_image_has(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("version", image="gwfast:1", args=["--version"], restartPolicy="Never"),
          pod("shell", image="gwfast:1", command=["sh", "-c"], args=["echo '$(WORD) $$(WORD) $(OTHER)'"],
              env=[{"name": "WORD", "value": "said"}], restartPolicy="Never"))
    for name, words in (("version", "gwfast "), ("shell", "said $(WORD) $(OTHER)\n")):
        cluster.wait_for(lambda name=name: cluster.get("Pod", name, namespace)["status"]["phase"] == "Succeeded", name)
        cluster.wait_for(lambda name=name, words=words: cluster.kubectl("logs", name, "-n", namespace).startswith(words), words)


def test_who_a_container_is(cluster: Cluster, namespace: str) -> None:
    """As a chart that is restricted asks for it: no root, no capabilities, nothing to write but its volumes, and port 80 all the same."""
    look = ("import os, socket; socket.socket().bind(('', 80)); s = open('/proc/self/status').read();"
            "print(os.getuid(), os.getpid(), s.split('CapBnd:')[1].split()[0], s.split('NoNewPrivs:')[1].split()[0]);"
            "open('/cache/x', 'w'); open('/x', 'w')")
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    start(cluster, namespace, pod("who", image="gwfast:1", command=python(look), securityContext=restricted, restartPolicy="Never",
                                  volumes=[{"name": "cache", "emptyDir": {}}], volumeMounts=[{"name": "cache", "mountPath": "/cache"}]),
          pod("root", command=["true"], securityContext=restricted))
    cluster.wait_for(lambda: cluster.get("Pod", "who", namespace)["status"]["phase"] == "Failed")
    log = cluster.wait_for(lambda: (lines := cluster.kubectl("logs", "who", "-n", namespace).splitlines())[1] and lines, "its log")
    assert log[0] == "65532 1 0000000000000000 1" and "Read-only file system: '/x'" in log[-1]
    cluster.wait_for(lambda: state(cluster, namespace, "root").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError")


# ---- probes and the end


def test_a_readiness_probe_gates_the_endpoint(cluster: Cluster, namespace: str) -> None:
    probe = {"httpGet": {"port": 8080, "path": "/healthz"}, "periodSeconds": 1, "failureThreshold": 1}
    start(cluster, namespace, service("web", 80, 8080), pod("web", command=python(SERVER), readinessProbe=probe))
    cluster.wait_for(lambda: [ready for _, ready in endpoints(cluster, namespace, "web")] == [False], "an endpoint that is not ready")
    address = cluster.get("Service", "web", namespace)["spec"]["clusterIP"]
    cluster.wait_for(lambda: state(cluster, namespace, "web").get("started"))
    for command, ready in ((["touch", "/tmp/ready"], True), (["rm", "/tmp/ready"], False), (["touch", "/tmp/ready"], True)):
        cluster.exec("web", *command, namespace=namespace)
        cluster.wait_for(lambda ready=ready: [one for _, one in endpoints(cluster, namespace, "web")] == [ready], f"ready={ready}")
    assert cluster.wait_for(lambda: cluster.http(address, 80)).body == b"web"


@pytest.mark.parametrize("kind", ["livenessProbe", "startupProbe"])
def test_a_probe_that_fails_restarts(cluster: Cluster, namespace: str, kind: str) -> None:
    # It fails, but not before the program hears TERM.
    command = ["sh", "-c", "while [ ! -e /tmp/hears ]; do sleep 0.05; done; exit 1"]
    probe = {"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 60}
    program = "import signal, time; signal.signal(15, lambda *_: exit(7)); open('/tmp/hears', 'w'); time.sleep(1000)"
    start(cluster, namespace, pod("sick", command=python(program), terminationGracePeriodSeconds=30, **{kind: probe}))
    cluster.wait_for(lambda: state(cluster, namespace, "sick").get("restartCount", 0) >= 1, "a restart")
    cluster.comes_to(lambda: state(cluster, namespace, "sick")["lastState"]["terminated"]["exitCode"], 7)


def test_the_end_is_prestop_then_term_and_the_endpoint_is_told(cluster: Cluster, namespace: str) -> None:
    """What still serves while it ends is terminating, and gone only when the process is."""
    program = "import signal, sys\nsignal.signal(15, lambda *_: (print('term', flush=True), sys.exit(0)))\n" + SERVER
    hook = {"exec": {"command": ["sh", "-c", "echo stopping > /proc/1/fd/1; while [ ! -e /tmp/go ]; do sleep 0.05; done"]}}
    start(cluster, namespace, service("slow", 80, 8080), pod("slow", command=python(program), terminationGracePeriodSeconds=30, lifecycle={"preStop": hook}))
    until_ready(cluster, namespace, "slow")
    cluster.kubectl("delete", "pod", "slow", "-n", namespace, "--wait=false")
    cluster.wait_for(lambda: [ready for _, ready in endpoints(cluster, namespace, "slow")] == [False], "an endpoint that ends")
    address = cluster.get("Service", "slow", namespace)["spec"]["clusterIP"]
    assert cluster.wait_for(lambda: cluster.http(address, 80)).body == b"slow"
    cluster.wait_for(lambda: "stopping" in cluster.kubectl("logs", "slow", "-n", namespace))
    cluster.exec("slow", "touch", "/tmp/go", namespace=namespace)
    cluster.wait_for(lambda: cluster.get("Pod", "slow", namespace) is None, "its end")


def test_who_does_not_hear_term_is_killed(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("deaf", command=["sleep", "1000"]))  # process 1 has no handler
    until_ready(cluster, namespace, "deaf")
    began = time.monotonic()
    cluster.kubectl("delete", "pod", "deaf", "-n", namespace)
    assert time.monotonic() - began > 1


# ---- what is mounted


def test_volumes_follow_their_secrets(cluster: Cluster, namespace: str) -> None:
    """A Pod waits for a Secret that is not there yet, and sees each new version whole; environments stay as they were."""
    volumes = [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "c", "items": [{"key": "b", "path": "deep/b"}]}}]}}]
    start(cluster, namespace, pod("reader", command=["sleep", "1000"], volumes=volumes,
                                  volumeMounts=[{"name": "v", "mountPath": "/etc/gwfast/v", "readOnly": True}],
                                  env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}}]))
    cluster.wait_for(lambda: state(cluster, namespace, "reader").get("state", {}).get("waiting", {}).get("message", "").endswith('secret "s" not found'))
    cluster.kubectl("create", "secret", "generic", "s", "-n", namespace, "--from-literal=a=1")
    cluster.kubectl("create", "configmap", "c", "-n", namespace, "--from-literal=b=2")
    until_ready(cluster, namespace, "reader")

    def read(*files: str) -> str:
        return cluster.exec("reader", "cat", *(f"/etc/gwfast/v/{file}" for file in files), namespace=namespace)

    assert read("a", "deep/b") == "12"
    cluster.kubectl("patch", "secret", "s", "-n", namespace, "-p", '{"stringData":{"a":"3","c":"4"}}')
    cluster.wait_for(lambda: read("..data/a") == "3", "the new version")
    assert read("a", "c", "deep/b") == "342"
    environment = cluster.exec("reader", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ", namespace=namespace)
    assert "A=1" in environment.split()


def test_a_volume_hides_what_is_there_but_not_the_program(cluster: Cluster, namespace: str) -> None:
    """A volume at a folder above this Python, and one at its own: the program still runs, and both volumes are there."""
    above = "/" + Path(sys.prefix).parts[1]
    look = f"import os, json; print(json.dumps([os.listdir('{above}'), open('{above}/written', 'w').close(), len(json.__file__)]))"
    start(cluster, namespace, pod("hider", command=python(look), restartPolicy="Never", volumes=[{"name": "v", "emptyDir": {}}],
                                  securityContext={"readOnlyRootFilesystem": True}, volumeMounts=[{"name": "v", "mountPath": above}]))
    cluster.wait_for(lambda: cluster.get("Pod", "hider", namespace)["status"]["phase"] == "Succeeded")
    shows_through = {Path(path).parts[2] for path in needed(Image()) if path.startswith(f"{above}/")}
    assert set(json.loads(cluster.kubectl("logs", "hider", "-n", namespace))[0]) == shows_through


def test_names_answered_by_what_stands_for_coredns(cluster: Cluster, namespace: str) -> None:
    """As the conformance suite has it: a Pod of that image with a volume at root's home, asked over UDP."""
    home = os.path.expanduser("~root")
    start(cluster, namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"Corefile": ""}},
          pod("dns", image="registry.k8s.io/coredns/coredns:v1", args=["-conf", f"{home}/Corefile"],
              volumes=[{"name": "conf", "configMap": {"name": "conf"}}], volumeMounts=[{"name": "conf", "mountPath": home}]))
    address = until_ready(cluster, namespace, "dns")["status"]["podIP"]

    def answer() -> bytes:
        with cluster.sandbox.new_socket(kind=2) as asking:
            asking.settimeout(0.2)
            asking.connect((address, 53))
            asking.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\7example\0\0\1\0\1")
            return asking.recv(512)

    assert cluster.wait_for(answer, "an answer").endswith(bytes([192, 0, 2, 1]))


def test_a_token_is_its_pods(cluster: Cluster, namespace: str) -> None:
    """Bound to audience and Pod, checked by the API server itself; and the Pod's own token speaks to the API server by RBAC."""
    source = {"serviceAccountToken": {"path": "token", "audience": "gwfast-controller", "expirationSeconds": 600}}
    start(cluster, namespace, pod("holder", command=["sleep", "1000"], terminationGracePeriodSeconds=0,
                                  volumes=[{"name": "t", "projected": {"sources": [source]}}], volumeMounts=[{"name": "t", "mountPath": "/var/run/t"}]))
    uid = until_ready(cluster, namespace, "holder")["metadata"]["uid"]
    token = cluster.exec("holder", "cat", "/var/run/t/token", namespace=namespace)

    def review(audience: str) -> dict:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": [audience]}}
        return cluster.api.create("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]

    good = review("gwfast-controller")
    assert good["authenticated"] and good["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert good["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [uid]
    assert not review("another").get("authenticated")
    ask = ("import os, ssl, urllib.request as r; f = '/var/run/secrets/kubernetes.io/serviceaccount/'; e = os.environ\n"
           "q = r.Request(f'https://{e[\"KUBERNETES_SERVICE_HOST\"]}:{e[\"KUBERNETES_SERVICE_PORT\"]}/api/v1/namespaces/' + open(f + 'namespace').read() + '/pods',"
           " headers={'Authorization': 'Bearer ' + open(f + 'token').read()})\n"
           "try: print(r.urlopen(q, context=ssl.create_default_context(cafile=f + 'ca.crt')).status)\n"
           "except r.HTTPError as e: print(e.code)")
    assert cluster.exec("holder", "env", f"KUBERNETES_SERVICE_HOST={'10.96.0.1'}", "KUBERNETES_SERVICE_PORT=443", *python(ask), namespace=namespace).strip() == "403"
    cluster.kubectl("create", "rolebinding", "view", "-n", namespace, "--clusterrole=view", f"--serviceaccount={namespace}:default")
    cluster.wait_for(lambda: cluster.exec("holder", "env", "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443",
                                          *python(ask), namespace=namespace).strip() == "200", "the right to list Pods")


# ---- load balancers


def test_load_balancers_have_addresses_that_lead_to_pods(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("web", command=python(SERVER)), service("web", 80, 8080, type="LoadBalancer"))
    until_ready(cluster, namespace, "web")
    given = cluster.wait_for(lambda: cluster.get("Service", "web", namespace)["status"]["loadBalancer"].get("ingress"))[0]["ip"]
    assert cluster.wait_for(lambda: cluster.http(given, 80)).body == b"web"
    wanted = {"static": "10.244.250.9", "foreign": "192.0.2.1", "taken": given}
    for name, address in wanted.items():
        start(cluster, namespace, service(name, 80, 8080, type="LoadBalancer", loadBalancerIP=address, selector={"app": "web"}))
    ingress = cluster.wait_for(lambda: cluster.get("Service", "static", namespace)["status"]["loadBalancer"].get("ingress"))
    assert ingress[0]["ip"] == "10.244.250.9" and cluster.wait_for(lambda: cluster.http("10.244.250.9", 80)).body == b"web"
    assert [cluster.get("Service", name, namespace)["status"]["loadBalancer"] for name in ("foreign", "taken")] == [{}, {}]
    cluster.kubectl("patch", "service", "web", "-n", namespace, "-p", '{"spec":{"type":"ClusterIP"}}')
    cluster.wait_for(lambda: cluster.get("Service", "taken", namespace)["status"]["loadBalancer"].get("ingress"), "the address that is free again")


def test_external_addresses_node_ports_and_datagrams(cluster: Cluster, namespace: str) -> None:
    udp = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5000))\nwhile 1:\n d, p = s.recvfrom(999); s.sendto(d.upper(), p)"
    start(cluster, namespace, pod("web", command=python(SERVER)), service("web", 80, 8080, type="NodePort", externalIPs=["203.0.113.7"]),
          pod("udp", command=python(udp)), service("udp", 53, 5000, protocol="UDP"))
    for name in ("web", "udp"):
        until_ready(cluster, namespace, name)
    port = cluster.get("Service", "web", namespace)["spec"]["ports"][0]["nodePort"]
    for host, number in (("203.0.113.7", 80), ("10.244.0.1", port)):
        assert cluster.wait_for(lambda host=host, number=number: cluster.http(host, number)).body == b"web"
    address = cluster.get("Service", "udp", namespace)["spec"]["clusterIP"]

    def answer() -> bytes:
        with cluster.sandbox.new_socket(kind=2) as asking:
            asking.settimeout(0.2)
            asking.connect((address, 53))
            asking.send(b"said")
            return asking.recv(99)

    assert cluster.wait_for(answer, "a datagram") == b"SAID"


def test_datagrams_from_one_port_go_on_to_another_pod(cluster: Cluster, namespace: str) -> None:
    """Whoever goes on sending is not kept with a Pod that is gone."""
    answering = "import os, socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5000))\nwhile 1: s.sendto(os.environ['HOSTNAME'].encode(), s.recvfrom(99)[1])"
    start(cluster, namespace, pod("one", command=python(answering)), service("udp", 53, 5000, protocol="UDP", selector={"kind": "udp"}))
    cluster.kubectl("label", "pod", "one", "-n", namespace, "kind=udp")
    until_ready(cluster, namespace, "one")
    address = cluster.get("Service", "udp", namespace)["spec"]["clusterIP"]
    with cluster.sandbox.new_socket(kind=2) as asking:
        asking.settimeout(0.2)
        asking.connect((address, 53))

        def answer() -> bytes:
            asking.send(b"who")
            return asking.recv(99)

        assert cluster.wait_for(answer) == b"one"
        start(cluster, namespace, pod("two", command=python(answering)))
        cluster.kubectl("label", "pod", "two", "-n", namespace, "kind=udp")
        until_ready(cluster, namespace, "two")
        cluster.kubectl("delete", "pod", "one", "-n", namespace)
        assert cluster.wait_for(lambda: answer() == b"two")


# ---- trouble


def test_pods_live_on_without_the_api_server(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("web", command=python(SERVER)))
    address = until_ready(cluster, namespace, "web")["status"]["podIP"]
    assert cluster.wait_for(lambda: cluster.http(address, 8080)).body == b"web"
    cluster.apiserver.kill()
    assert cluster.http(address, 8080).body == b"web"
    with pytest.raises(OSError):
        cluster.connect("10.96.0.1", 443)
    cluster.apiserver.start()
    cluster.apiserver.freeze()
    assert cluster.http(address, 8080).body == b"web"
    with pytest.raises(TimeoutError):
        cluster.http("10.96.0.1", 443, timeout=0.3)
    cluster.apiserver.thaw()
    cluster.kubectl("delete", "pod", "web", "-n", namespace)


def test_watches_are_cut_and_packets_lost_on_command(cluster: Cluster, namespace: str) -> None:
    watch = cluster.run(["kubectl", "get", "configmaps", "-n", namespace, "--watch", "-o", "name"])
    cluster.wait_for(lambda: "kube-root-ca.crt" in watch.output(), "the list")
    start(cluster, namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "news"}})
    cluster.wait_for(lambda: "news" in watch.output(), "the watch that follows it")
    with cluster.connect("10.96.0.1", 443) as connection:
        cluster.cut_watches()
        with pytest.raises(ConnectionResetError):
            connection.send(b"x")
            connection.recv(1)
    assert watch.wait(60) is not None
    with cluster.partitioned(), pytest.raises(TimeoutError):
        cluster.connect("10.96.0.1", 443, 0.3)
    cluster.connect("10.96.0.1", 443).close()
    start(cluster, namespace, pod("web", command=python(SERVER)))
    until_ready(cluster, namespace, "web")


def test_pods_come_back_with_their_node(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("web", command=python(SERVER)), service("web", 80, 8080))
    until_ready(cluster, namespace, "web")
    first = family(cluster.pids(namespace, "web")[0])
    cluster.node.restart()
    cluster.wait_for(lambda: not any(map(alive, first)) and cluster.pids(namespace, "web"), "another process")
    address = cluster.get("Service", "web", namespace)["spec"]["clusterIP"]
    assert cluster.wait_for(lambda: cluster.http(address, 80)).body == b"web"


def test_ports_of_this_machine_lead_into_the_cluster(cluster: Cluster, namespace: str) -> None:
    """Either side's end is passed on by itself: what is still under way the other way arrives."""
    program = ("import socket\ns = socket.create_server(('', 8080))\nwhile 1:\n c, _ = s.accept(); n = 0\n"
               " while d := c.recv(65536): n += len(d)\n c.sendall(b'%d' % n); c.close()")
    start(cluster, namespace, pod("sink", command=python(program)))
    address = until_ready(cluster, namespace, "sink")["status"]["podIP"]
    cluster.wait_for(lambda: cluster.connect(address, 8080).close() or True)

    async def count() -> bytes:
        forwards = Forwards(cluster.sandbox)
        port = await forwards.open(0, lambda: (address, 8080))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 3_000_000)
        writer.write_eof()
        told = await reader.read()
        writer.close()
        await forwards.close()
        return told

    assert asyncio.run(count()) == b"3000000"


OWNER = """
import sys, time
sys.path.insert(0, {folder!r})
from sandbox import Sandbox
sandbox = Sandbox()
sandbox.start()
frozen = sandbox.run(["sleep", "1000"])
frozen.freeze()
print(sandbox.pid, sandbox.run(["sleep", "1000"]).pid, frozen.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_its_owner(number: int) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER.format(folder=str(Path(__file__).parent))], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
    with owner.stdout:
        pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 3 and all(map(alive, pids))
    owner.send_signal(number)
    owner.wait()
    end = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < end:
        elapse(0.01)
    assert not any(map(alive, pids))
