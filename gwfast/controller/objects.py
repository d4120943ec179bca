"""The objects that fleets and Gateways need, as the JSON that is applied. Nothing here looks at a cluster.

    for_fleet(fleet, site, owner, infrastructure, authority)   ConfigMap, ServiceAccount, Deployment, PodDisruptionBudget,
                                                               HorizontalPodAutoscaler, and the headless Service of a shared one
    for_gateway(need, site, owner, targets, alone)             Service

Rules:
- Every object has labels that say whose it is: the controller's (CONTROLLER), the fleet's (FLEET) or the Gateway's (GEP-1762).
  A Gateway's infrastructure labels and annotations stand over those of parameters; ours stand over both.
- Pods fulfil the restricted Pod Security Standard, unless they are on the network of their nodes.
- A Pod that ends goes on serving for DRAIN_DELAY, until load balancers and kube-proxy know that it ends; then it drains. A
  Deployment that rolls starts a Pod before it ends one.
- Patches of parameters are applied last (RFC 7396); names, owners and our labels stand even so.
"""
import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from gwfast import limits
from gwfast.config.model import (
    EXPERIMENTAL_GROUP,
    GATEWAY_GROUP,
    Autoscaling,
    Gateway,
    GatewayParametersSpec,
    Key,
    ServiceTemplate,
)
from gwfast.controller import scopes
from gwfast.controller.fleet import (
    CONTROLLER,
    FLEET,
    GATEWAY_CLASS_NAME,
    GATEWAY_NAME,
    PROGRAM,
    Fleet,
    Need,
    Site,
)
from gwfast.parameters import arguments, may_ask
from gwfast.controller.ports import Wanted
from gwfast.identity import identity, label_value
from gwfast.kinds import seconds

Object = dict[str, Any]
ADMIN_PORT = 9000
# On the network of a node each fleet needs one of its own. Below NodePorts (30000); of 2,000 two of a node's few fleets are
# rarely one, and parameters may say another (adminPort).
HOST_ADMIN_PORTS = range(28_000, 30_000)
USER = 65532  # the image's, and distroless's nonroot
AUDIENCE = "gwfast-controller"  # of data planes' tokens: they are worth nothing at the API server
TOKEN_SECONDS = 3600  # kubelet makes a new one at 80 % of that
IDENTITY_FOLDER, STATE_FOLDER = "/var/run/secrets/gwfast.dev", "/var/lib/gwfast"
CA_FILE = "ca.crt"
DRAIN_DELAY = 5  # seconds: endpoints are known everywhere within one or two (Envoy Gateway: 10, ingress-nginx: 10)
END_SLACK = 10  # more, until what does not end is killed
REPLICAS = 2
RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}}
CPU_PERCENT = 80  # of a HorizontalPodAutoscaler without metrics: the API server's default


class Owner(msgspec.Struct, frozen=True):
    """With whom what is made goes: a GatewayClass, a Gateway or an XBackend."""

    kind: str
    name: str
    uid: str

    def reference(self) -> Object:
        api = f"{EXPERIMENTAL_GROUP}/v1alpha1" if self.kind == "XBackend" else f"{GATEWAY_GROUP}/v1"
        return {"apiVersion": api, "kind": self.kind, "name": self.name, "uid": self.uid, "controller": True}


# ---- What all objects have


def _ours(site: Site, class_name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": PROGRAM, "app.kubernetes.io/managed-by": PROGRAM, CONTROLLER: site.label,
        GATEWAY_CLASS_NAME: label_value(class_name),
    }


def gateway_labels(site: Site, gateway: Gateway) -> dict[str, str]:
    """Return the labels of what is made for one Gateway."""
    return _ours(site, gateway.spec.gateway_class_name) | {GATEWAY_NAME: label_value(gateway.metadata.name)}


def selector(fleet: Fleet) -> dict[str, str]:
    """Return what selects the Pods of a fleet in its namespace. It never changes."""
    return {"app.kubernetes.io/name": PROGRAM, FLEET: fleet.name}


class _Face(msgspec.Struct):
    """Labels and annotations of the objects of one fleet or Gateway, and who owns them."""

    namespace: str
    labels: dict[str, str]  # ours
    given: tuple[dict[str, str], dict[str, str]]  # labels and annotations of spec.infrastructure
    owner: Owner

    def metadata(
        self, name: str, labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None
    ) -> Object:
        said = {**(annotations or {}), **self.given[1]}
        return {
            "name": name, "namespace": self.namespace, "labels": {**(labels or {}), **self.given[0], **self.labels},
            **({"annotations": said} if said else {}), "ownerReferences": [self.owner.reference()],
        }


def infrastructure(gateway: Gateway | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations that a Gateway asks for."""
    found = gateway.spec.infrastructure if gateway else None
    return (dict(found.labels), dict(found.annotations)) if found else ({}, {})


def patched(value: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for name, each in patch.items():
        if each is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), each)
    return result


def _finished(made: Object, parameters: GatewayParametersSpec, labels: Mapping[str, str]) -> Object:
    """Return an object with the patches for its kind; what it is found by stands."""
    result = made
    for patch in parameters.patches or ():
        if patch.kind == made["kind"]:
            result = patched(result, copy.deepcopy(patch.value))
    if result is made:
        return made
    if not isinstance(result.get("metadata"), dict):
        result["metadata"] = made["metadata"]
    for name in ("name", "namespace", "ownerReferences"):
        result["metadata"][name] = made["metadata"][name]
    given = result["metadata"].get("labels")
    result["metadata"]["labels"] = {**(given if isinstance(given, dict) else {}), **labels}
    return result


def _asked(of: Fleet | Need) -> GatewayParametersSpec:
    """Return the parameters, which are there: of what has none everything stays as it is."""
    assert of.parameters is not None
    return of.parameters


# ---- A fleet


def for_fleet(fleet: Fleet, site: Site, owner: Owner, gateway: Gateway | None, authority: str) -> list[Object]:
    """Return the objects of a fleet. gateway: whose alone it is. authority: PEM, that data planes believe the stream by."""
    parameters = _asked(fleet)
    labels = (gateway_labels(site, gateway) if gateway else _ours(site, fleet.class_name)) | {FLEET: fleet.name}
    face = _Face(fleet.namespace, labels, infrastructure(gateway), owner)
    account = parameters.service_account.annotations if parameters.service_account else None
    found: list[Object] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": face.metadata(f"{fleet.name}-ca"), "data": {CA_FILE: authority}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": face.metadata(fleet.name, None, account),
         "automountServiceAccountToken": False},
        _deployment(fleet, site, face),
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": face.metadata(fleet.name),
         "spec": {"selector": {"matchLabels": selector(fleet)}, **_budget(parameters)}},
    ]
    if parameters.autoscaling:
        found.append({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": face.metadata(fleet.name),
            "spec": _autoscaling(fleet, parameters.autoscaling)})
    finished = [_finished(each, parameters, labels) for each in found]
    return finished if gateway else [*finished, _headless(fleet, face)]


def head_of_record(record: Key, class_name: str, site: Site, owner: Owner) -> Object:
    """Return the metadata of the record of a class's target ports."""
    return _Face(record.namespace, _ours(site, class_name), ({}, {}), owner).metadata(record.name)


def _budget(parameters: GatewayParametersSpec) -> Object:
    return _given(parameters.pod_disruption_budget) if parameters.pod_disruption_budget else {"maxUnavailable": 1}


def _given(value: msgspec.Struct) -> Object:
    return {name: each for name, each in msgspec.to_builtins(value).items() if each is not None}


def _autoscaling(fleet: Fleet, given: Autoscaling) -> Object:
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT}}}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": fleet.name},
        "minReplicas": given.min_replicas or 1, "maxReplicas": given.max_replicas,
        "metrics": list(given.metrics) if given.metrics else [cpu],
        **({"behavior": given.behavior} if given.behavior else {}),
    }


def _headless(fleet: Fleet, face: _Face) -> Object:
    """Kubernetes makes EndpointSlices of it, with its labels: they say which Pods of a shared fleet are ready."""
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": face.metadata(fleet.name),
        "spec": {"type": "ClusterIP", "clusterIP": "None", "ipFamilyPolicy": "PreferDualStack", "selector": selector(fleet),
                 "ports": [{"name": "admin", "port": ADMIN_PORT, "protocol": "TCP", "targetPort": admin_port(fleet)}]},
    }


def _deployment(fleet: Fleet, site: Site, face: _Face) -> Object:
    given = _asked(fleet)
    pod = given.pod
    meta = {"labels": {**((pod and pod.labels) or {}), **face.given[0], **face.labels, **selector(fleet)}}
    if annotations := {**((pod and pod.annotations) or {}), **face.given[1]}:
        meta["annotations"] = annotations
    rolling = {"maxUnavailable": 1, "maxSurge": 0} if given.host_network else {"maxUnavailable": 0, "maxSurge": 1}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": face.metadata(fleet.name),
        "spec": {
            **({} if given.autoscaling else {"replicas": REPLICAS if given.replicas is None else given.replicas}),
            "selector": {"matchLabels": selector(fleet)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": meta, "spec": _pod(fleet, site)},
        },
    }


def _pod(fleet: Fleet, site: Site) -> Object:
    given = _asked(fleet)
    pull = given.image.pull_secrets if given.image and given.image.pull_secrets is not None else site.pull_secrets
    drain = seconds((given.options or {}).get("drain-timeout", f"{limits.DRAIN_TIMEOUT}"))
    spec = {
        "serviceAccountName": fleet.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_DELAY + int(-(-drain // 1)) + END_SLACK,
        "securityContext": _pod_security(given),
        "containers": [_container(fleet, site)],
        "topologySpreadConstraints": _spread(fleet),
        "volumes": [
            {"name": "identity", "projected": {"sources": [
                {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": f"{fleet.name}-ca", "items": [{"key": CA_FILE, "path": CA_FILE}]}}]}},
            {"name": "state", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    optional: Object = {
        "affinity": given.affinity, "tolerations": list(given.tolerations or ()), "nodeSelector": given.node_selector,
        "priorityClassName": given.priority_class_name, "imagePullSecrets": [{"name": name} for name in pull],
    }
    if given.host_network:
        optional |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return spec | {name: value for name, value in optional.items() if value}


def _pod_security(given: GatewayParametersSpec) -> Object:
    """On the network of a node only root may listen below 1024: a Pod there has that right and no other."""
    nobody = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    who = {"runAsUser": 0} if given.host_network else nobody
    return who | {"seccompProfile": {"type": "RuntimeDefault"}}


def _spread(fleet: Fleet) -> list[Object]:
    pods = {"labelSelector": {"matchLabels": selector(fleet)}, "matchLabelKeys": ["pod-template-hash"]}
    given = _asked(fleet).topology_spread_constraints
    if given is None:
        given = ({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"},)
    return [each if "labelSelector" in each else each | pods for each in given]


def image(given: GatewayParametersSpec, site: Site) -> str:
    """Return the image: the controller's own, with another repository or tag where parameters say so."""
    asked = given.image
    if not asked or not (asked.repository or asked.tag):
        return site.image
    name, _, digest = site.image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    tag = asked.tag or ("" if digest else tag)
    return f"{asked.repository or repository}:{tag}" if tag else (asked.repository or repository)


def admin_port(fleet: Fleet) -> int:
    """Return where the data planes of a fleet have their admin."""
    given = _asked(fleet)
    if given.admin_port is not None:
        return given.admin_port
    if not given.host_network:
        return ADMIN_PORT
    return HOST_ADMIN_PORTS[identity("/".join(fleet.place)) % len(HOST_ADMIN_PORTS)]


def _container(fleet: Fleet, site: Site) -> Object:
    given = _asked(fleet)
    pull = (given.image and given.image.pull_policy) or site.pull_policy
    capabilities = {"drop": ["ALL"], **({"add": ["NET_BIND_SERVICE"]} if given.host_network else {})}
    own = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{field}"}}}
           for name, field in (("POD_NAME", "name"), ("POD_NAMESPACE", "namespace"))]
    return {
        "name": PROGRAM, "image": image(given, site), **({"imagePullPolicy": pull} if pull else {}),
        "args": [
            "run", "--controller", site.url, "--token-file", f"{IDENTITY_FOLDER}/token",
            "--ca-file", f"{IDENTITY_FOLDER}/{CA_FILE}", "--state-dir", STATE_FOLDER,
            "--admin", f"0.0.0.0:{admin_port(fleet)}", *arguments(given.options)],
        "env": own + [_given(each) for each in given.env or ()],
        "ports": [{"name": "admin", "containerPort": admin_port(fleet), "protocol": "TCP"}],
        "resources": given.resources if given.resources is not None else RESOURCES,
        "readinessProbe": _probe("/readyz", period=2, failures=2, timeout=2),
        "livenessProbe": _probe("/healthz", period=10, failures=6, timeout=5),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_DELAY}}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": capabilities},
        "volumeMounts": [
            {"name": "identity", "mountPath": IDENTITY_FOLDER, "readOnly": True}, {"name": "state", "mountPath": STATE_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"}],
    }


def _probe(path: str, *, period: int, failures: int, timeout: int) -> Object:
    return {"httpGet": {"path": path, "port": "admin", "scheme": "HTTP"}, "periodSeconds": period, "failureThreshold": failures,
            "timeoutSeconds": timeout}


# ---- A Gateway


def for_gateway(need: Need, site: Site, owner: Owner, targets: Mapping[Wanted, int], fleet: Fleet) -> Object:
    """Return the Service of a Gateway. One on shared data planes selects nothing: its EndpointSlices are mirrored."""
    gateway, given = need.node.resource, _asked(need)
    labels = gateway_labels(site, gateway)
    face = _Face(gateway.metadata.namespace, labels, infrastructure(gateway), owner)
    template = given.service or ServiceTemplate()
    spec = {
        **_service_spec(gateway, template, given),
        "ports": [{"name": name, "port": port, "protocol": transport, "targetPort": targets[port, transport]}
                  for (port, transport), name in sorted(need.ports.items()) if (port, transport) in targets],
        **_addresses(gateway, template, given), **scopes.chosen(gateway, given),
    }
    if fleet.gateway is not None:
        spec["selector"] = selector(fleet)
    made = {"apiVersion": "v1", "kind": "Service", "metadata": face.metadata(need.service, template.labels, template.annotations),
            "spec": spec}
    return _finished(made, given, labels)


def service_type(gateway: Gateway, template: ServiceTemplate, given: GatewayParametersSpec) -> str:
    """Return the type of a Gateway's Service: no parameters let somebody in from outside where a Gateway wants nobody."""
    if scopes.inside(gateway):
        return "ClusterIP"
    return template.type or ("ClusterIP" if given.host_network else "LoadBalancer")


_ONLY_BALANCED = ("load_balancer_class", "load_balancer_source_ranges", "allocate_load_balancer_node_ports")


def _service_spec(gateway: Gateway, template: ServiceTemplate, given: GatewayParametersSpec) -> Object:
    """Return what parameters say of a Service, as far as its type has it."""
    kind = service_type(gateway, template, given)
    unfit = ("labels", "annotations", "type", *(_ONLY_BALANCED if kind != "LoadBalancer" else ()),
             *(("external_traffic_policy",) if kind == "ClusterIP" else ()))
    written = dict(zip(template.__struct_fields__, type(template).__struct_encode_fields__, strict=True))
    said = {written[name]: getattr(template, name) for name in template.__struct_fields__ if name not in unfit}
    return {"type": kind} | {name: list(value) if isinstance(value, tuple) else value
                             for name, value in said.items() if value is not None}


def requested(gateway: Gateway) -> tuple[str, ...]:
    """Return the addresses that a Gateway asks for by value, without those of a scope (scopes)."""
    return tuple(dict.fromkeys(each.value for each in gateway.spec.addresses
                               if each.type == "IPAddress" and each.value and not each.routability))


def forbidden(gateway: Gateway, given: GatewayParametersSpec) -> tuple[str, ...]:
    """Return the addresses that a Gateway asks for, and that its class does not let it have."""
    balanced = service_type(gateway, given.service or ServiceTemplate(), given) == "LoadBalancer"
    return tuple(each for each in requested(gateway) if not may_ask(given, each, balanced))


def _addresses(gateway: Gateway, template: ServiceTemplate, given: GatewayParametersSpec) -> Object:
    """A load balancer is asked for one address, which is all that a Service can say; other types route what comes for any."""
    refused = forbidden(gateway, given)
    wanted = [each for each in requested(gateway) if each not in refused]
    if not wanted:
        return {}
    if service_type(gateway, template, given) == "LoadBalancer":
        return {"loadBalancerIP": wanted[0]}
    return {"externalIPs": wanted}


# ---- EndpointSlices of a Gateway on shared data planes


def mirrored_name(source: Object, need: Need) -> str:
    """Return the name of the EndpointSlice that says what `source` does."""
    return f"{need.service}-{source['metadata']['name'].rpartition('-')[2]}"


def mirrored(source: Object, need: Need, site: Site, owner: Owner, targets: Mapping[Wanted, int]) -> Object:
    """Return the EndpointSlice of a Gateway's Service that says what one of its fleet's headless Service does.

    The Gateway owns it, as it owns the Service: neither has to be there before the other one is made."""
    gateway = need.node.resource
    kept = ("addresses", "conditions", "nodeName", "zone", "hints")
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": mirrored_name(source, need), "namespace": gateway.metadata.namespace,
            "labels": gateway_labels(site, gateway) | {
                "kubernetes.io/service-name": need.service, "endpointslice.kubernetes.io/managed-by": "gwfast.dev"},
            "ownerReferences": [owner.reference()],
        },
        "addressType": source["addressType"],
        "endpoints": [{name: each[name] for name in kept if each.get(name) is not None}
                      for each in source.get("endpoints") or ()],
        "ports": [{"name": name, "port": targets[wanted], "protocol": wanted[1]}
                  for wanted, name in sorted(need.ports.items()) if wanted in targets],
    }


def key_of(made: Object) -> Key:
    return Key(made["kind"], made["metadata"].get("namespace", ""), made["metadata"]["name"])
