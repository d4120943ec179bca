"""The chart and deploy/install.yaml: one is made of the other, values are checked, and what comes out is what is meant.

helm is build/helm/helm (ci/helm) or the one of PATH; without it what needs it is skipped.
"""
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gwfast import __version__, options
from gwfast.config.model import KINDS
from gwfast.kubernetes import api
from gwfast.kubernetes.statuses import KINDS as WITH_STATUS

ROOT = Path(__file__).parents[2]
CHART, INSTALL = ROOT / "deploy/helm/gwfast", ROOT / "deploy/install.yaml"
BUILT = ROOT / "build/helm/helm"
HELM = str(BUILT) if BUILT.exists() else shutil.which("helm")
needs_helm = pytest.mark.skipif(not HELM, reason="there is no helm: run ci/helm")


def helm(*arguments, check=True):
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, env=environment)
    assert not check or done.returncode == 0, done.stderr
    return done


def render(*values, name="gwfast", namespace="gwfast-system"):
    """{(kind, name): object} of the chart with values, each `a.b=JSON`."""
    sets = [part for value in values for part in ("--set-json", value)]
    text = helm("template", name, str(CHART), "--namespace", namespace, "--kube-version", "1.30", *sets).stdout
    return by_name(text)


def by_name(text):
    found = [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]
    objects = {(each["kind"], each["metadata"]["name"], each["metadata"].get("namespace", "")): each for each in found}
    assert len(objects) == len(found), "two objects of one name"
    return {key[:2]: each for key, each in objects.items()}


def workload(objects):
    (found,) = [each for (kind, _), each in objects.items() if kind in ("Deployment", "DaemonSet")]
    return found


def arguments_of(objects):
    return workload(objects)["spec"]["template"]["spec"]["containers"][0]["args"]


def allowed(objects, kind="ClusterRole"):
    """{(group, resource): verbs} of all roles of a kind."""
    found = {}
    for (each, _), role in objects.items():
        for rule in role["rules"] if each == kind else ():
            for group, resource in itertools.product(rule["apiGroups"], rule["resources"]):
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


# ---- what is made of what


def test_the_chart_has_the_crds():
    files = {path.name: path.read_text() for path in (ROOT / "deploy/crds").iterdir()}
    assert {path.name: path.read_text() for path in (CHART / "crds").iterdir()} == files, "run ci/manifests"


@needs_helm
def test_install_yaml_is_the_chart():
    text = helm("template", "gwfast", str(CHART), "--namespace", "gwfast-system", "--include-crds", "--kube-version", "1.30").stdout
    installed = by_name(INSTALL.read_text())
    assert installed.pop(("Namespace", "gwfast-system"))
    assert installed == by_name(text), "run ci/manifests"


@needs_helm
def test_lint():
    for values in ([], ['mode="one-process"'], ["serviceMonitor.create=true", "networkPolicy.create=true", 'watchNamespaces=["a"]']):
        sets = [part for value in values for part in ("--set-json", value)]
        assert "0 chart(s) failed" in helm("lint", "--strict", "--kube-version", "1.30", str(CHART), *sets).stdout


def test_the_version_is_the_programs():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_every_value_has_a_schema_and_every_schema_a_value():
    def differences(schema, value, path=""):
        if isinstance(value, dict) and "properties" in schema and path != ".gatewayClass.parameters":  # which are the CRD's
            assert schema.get("additionalProperties") is False, path
            yield from (f"{path}.{name}" for name in schema["properties"].keys() ^ value.keys())
            for name in value.keys() & schema["properties"].keys():
                yield from differences(schema["properties"][name], value[name], f"{path}.{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert list(differences(schema, values)) == [".global"]  # helm's own


# ---- values


def as_json_schema(schema):
    """A schema of a CRD in the words of JSON Schema, which knows no pruning: a field that is not there is an error."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    words = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "required")
    found = {word: schema[word] for word in words if word in schema}
    if schema.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    if "items" in schema:
        found["items"] = as_json_schema(schema["items"])
    if "properties" in schema:
        found |= {"additionalProperties": False, "properties": {name: as_json_schema(each) for name, each in schema["properties"].items()}}
    elif "additionalProperties" in schema:
        found["additionalProperties"] = as_json_schema(schema["additionalProperties"])
    return found


def test_parameters_of_the_class_are_checked_as_the_crd_checks_them():
    """The API server would drop a field that is misspelt, and say nothing."""
    crd = yaml.safe_load((ROOT / "deploy/crds/gatewayparameters.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["gatewayClass"]["properties"]["parameters"] == as_json_schema(spec)


def places(value, path=""):
    """The paths of all values that have names in them which the chart knows."""
    if isinstance(value, dict) and value:
        yield path
        for name, each in value.items():
            yield from places(each, f"{path}.{name}".lstrip("."))


def known(path):
    """Whether the names of a value are the chart's to know, and not Kubernetes'."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    for name in filter(None, path.split(".")):
        schema = schema.get("properties", {}).get(name, {})
    return schema.get("additionalProperties") is False


PLACES = [*filter(known, places(yaml.safe_load((CHART / "values.yaml").read_text()))), "gatewayClass.parameters", "gatewayClass.parameters.service"]


@needs_helm
@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_is_misspelt_is_refused_everywhere(place):
    value = f"{place}.mispelt".lstrip(".")
    done = helm("template", "x", str(CHART), "--kube-version", "1.30", "--set-json", f'{value}="x"', check=False)
    assert done.returncode != 0 and "additional properties 'mispelt' not allowed" in done.stderr, done.stderr


# Another value than the chart's own for each, and the mode in which it makes a difference.
BOTH, ONE, MANY = ("controller",), ("one-process",), ("controller", "one-process")
ANOTHER = {
    "mode": (ONE, '"one-process"'), "controllerName": (MANY, '"example.com/x"'), "image.repository": (MANY, '"r/x"'), "image.tag": (MANY, '"2"'),
    "image.pullPolicy": (MANY, '"Always"'), "imagePullSecrets": (MANY, '[{"name":"s"}]'), "watchNamespaces": (MANY, '["a"]'),
    "gatewayClass.create": (MANY, "false"), "gatewayClass.name": (MANY, '"x"'), "gatewayClass.parameters": (BOTH, '{"replicas":3}'),
    "rbac.create": (MANY, "false"), "rbac.dedicated": (BOTH, "false"), "rbac.dedicatedNamespaces": (BOTH, '["shop"]'),
    "rbac.admissionPolicy": (MANY, "false"), "rbac.endpointSelectors": (ONE, "false"), "serviceAccount.create": (MANY, "false"),
    "serviceAccount.name": (MANY, '"x"'), "serviceAccount.annotations": (MANY, '{"a":"b"}'), "controller.replicas": (BOTH, "3"),
    "controller.port": (BOTH, "9443"), "oneProcess.kind": (ONE, '"DaemonSet"'), "oneProcess.replicas": (ONE, "3"),
    "oneProcess.hostNetwork": (ONE, "true"), "oneProcess.ports": (ONE, '[{"name":"x","port":81}]'), "oneProcess.drainSeconds": (ONE, "31"),
    "oneProcess.service.create": (ONE, "false"), "oneProcess.service.type": (ONE, '"NodePort"'),
    "oneProcess.service.annotations": (ONE, '{"a":"b"}'), "oneProcess.service.externalTrafficPolicy": (ONE, '"Local"'),
    "podDisruptionBudget.create": (MANY, "false"), "podDisruptionBudget.maxUnavailable": (MANY, '"50%"'),
    "serviceMonitor.create": (MANY, "true"), "serviceMonitor.labels": (MANY, '{"a":"b"}'), "serviceMonitor.interval": (MANY, '"9s"'),
    "networkPolicy.create": (BOTH, "true"), "networkPolicy.apiServerPorts": (BOTH, "[1]"), "podSecurityContext.fsGroup": (MANY, "1"),
    "securityContext.readOnlyRootFilesystem": (MANY, "false"),
} | {f"{own}.{name}": (modes, value) for own, modes in (("controller", BOTH), ("oneProcess", ONE)) for name, value in (
    ("options", '{"log-level":"debug"}'), ("env", '[{"name":"A","value":"b"}]'), ("resources.requests.cpu", '"1"'), ("podLabels", '{"a":"b"}'),
    ("podAnnotations", '{"a":"b"}'), ("nodeSelector", '{"a":"b"}'), ("tolerations", '[{"key":"a"}]'), ("affinity", '{"nodeAffinity":{}}'),
    ("topologySpreadConstraints", '[{"maxSkew":2}]'), ("priorityClassName", '"p"'))}


def leaves(value, path=""):
    for name, each in value.items():
        at = f"{path}.{name}".lstrip(".")
        yield from leaves(each, at) if isinstance(each, dict) and each and known(at) else [at]


def test_each_value_is_tried():
    written = {*leaves(yaml.safe_load((CHART / "values.yaml").read_text()))}
    tried = {next((each for each in written if path == each or path.startswith(f"{each}.")), path) for path in ANOTHER}
    assert tried == written


@needs_helm
@pytest.mark.parametrize("mode, path, value", [(mode, path, value) for path, (modes, value) in ANOTHER.items() for mode in modes])
def test_each_value_makes_a_difference(mode, path, value):
    """And what comes out is YAML; what `helm lint` says of it too."""
    on = ["serviceMonitor.create=true"] if path.startswith("serviceMonitor.") and path != "serviceMonitor.create" else []
    on += ["networkPolicy.create=true"] if path == "networkPolicy.apiServerPorts" else []
    before = on if path == "mode" else [f'mode="{mode}"', *on]
    assert render(*before) != render(*before, f"{path}={value}")


WRONG = [
    ('mode="both"', "/mode"), ("controller.replica=3", "replica"), ("controller.replicas=-1", "/controller/replicas"),
    ('controller.replicas="2"', "/controller/replicas"), ("nothing=1", "nothing"), ('controllerName="gwfast"', "/controllerName"),
    ('watchNamespaces=["a","a"]', "/watchNamespaces"), ('watchNamespaces=["A"]', "/watchNamespaces"), ("watchNamespaces={}", "/watchNamespaces"),
    ('oneProcess.kind="StatefulSet"', "/oneProcess/kind"), ('oneProcess.ports=[{"name":"http","port":0}]', "/oneProcess/ports"),
    ('oneProcess.ports=[{"name":"80","port":80}]', "/oneProcess/ports"), ('oneProcess.ports=[{"port":80}]', "/oneProcess/ports"),
    ("oneProcess.ports=[]", "/oneProcess/ports"), ('oneProcess.service.type="ExternalName"', "/oneProcess/service/type"),
    ('image.pullPolicy="Sometimes"', "/image/pullPolicy"), ('image.repository=""', "/image/repository"),
    ('controller.options={"--log-level":"info"}', "'--log-level'"), ('controller.options={"log-level":["a"]}', "/controller/options"),
    ('controller.podLabels={"a":1}', "/controller/podLabels"), ('serviceMonitor.interval="often"', "/serviceMonitor/interval"),
    ('imagePullSecrets=["a"]', "/imagePullSecrets"), ('gatewayClass.name="A"', "/gatewayClass/name"), ("controller.port=70000", "/controller/port"),
]


@needs_helm
@pytest.mark.parametrize("value, place", WRONG)
def test_values_that_are_wrong(value, place):
    done = helm("template", "x", str(CHART), "--kube-version", "1.30", "--set-json", value, check=False)
    assert done.returncode != 0 and place in done.stderr and "schema" in done.stderr


@needs_helm
@pytest.mark.parametrize("mode", ["controller", "one-process"])
@pytest.mark.parametrize("value", [
    'watchNamespaces=["a","b"]', "serviceMonitor.create=true", "networkPolicy.create=true", "rbac.create=false",
    "rbac.dedicated=false", "serviceAccount.create=false", "podDisruptionBudget.create=false", "gatewayClass.create=false",
    'oneProcess.kind="DaemonSet"', "oneProcess.hostNetwork=true", "oneProcess.service.create=false",
    'imagePullSecrets=[{"name":"a"},{"name":"b"}]', 'serviceAccount.name="mine"',
])
def test_values_render(mode, value):
    made = workload(render(f'mode="{mode}"', value))
    assert made["spec"]["template"]["metadata"]["labels"].items() >= made["spec"]["selector"]["matchLabels"].items()


PLACED = {
    "nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}], "affinity": {"nodeAffinity": {}}, "priorityClassName": "p",
    "topologySpreadConstraints": [{"maxSkew": 1}],
}
OF_POD = {"podLabels": {"a": "b"}, "podAnnotations": {"c": "d"}, "env": [{"name": "A", "value": "b"}], "resources": {"limits": {"cpu": "1"}}}


@needs_helm
@pytest.mark.parametrize("mode, own", [("controller", "controller"), ("one-process", "oneProcess")])
def test_what_pods_are_given(mode, own):
    template = workload(render(f'mode="{mode}"', f"{own}={json.dumps(PLACED | OF_POD)}"))["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert {name: template["spec"][name] for name in PLACED} == PLACED
    assert template["metadata"]["labels"]["a"] == "b" and template["metadata"]["annotations"] == {"c": "d"}
    assert OF_POD["env"][0] in container["env"] and container["resources"]["limits"] == {"cpu": "1"}


# ---- what comes out


def test_what_is_installed_fulfils_the_restricted_standard():
    pod = workload(by_name(INSTALL.read_text()))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert "hostNetwork" not in pod and all("hostPath" not in each for each in pod["volumes"])


def test_rights_are_the_least():
    """No verb on everything, no write of what others write, Secrets written in its own namespace alone."""
    objects = by_name(INSTALL.read_text())
    everywhere, own = allowed(objects), allowed(objects, "Role")
    assert all("*" not in (*key, *verbs) for key, verbs in (everywhere | own).items())
    assert everywhere["", "secrets"] == {"get", "list", "watch"} and own["", "secrets"] == {"create", "get", "update"}
    written = {resource for (_, resource), verbs in everywhere.items() if verbs - {"get", "list", "watch"}}
    assert {each for each in written if not each.endswith("/status")} == {
        "tokenreviews", "services", "endpointslices", "endpointslices/restricted", "serviceaccounts", "configmaps", "deployments",
        "poddisruptionbudgets", "horizontalpodautoscalers"}
    assert "deletecollection" not in {verb for verbs in everywhere.values() for verb in verbs}


def test_every_kind_that_is_read_may_be_read_and_every_status_written():
    everywhere = allowed(by_name(INSTALL.read_text()))
    reading = {"get", "list", "watch"}
    for group, name in api.NAMES:
        assert everywhere.get((group, api.plural(name)), set()) >= reading, (group, name)
    for group, name in KINDS:
        if name in WITH_STATUS:
            assert everywhere.get((group, f"{api.plural(name)}/status"), set()) >= {"patch", "update"}, name
    assert everywhere["apiextensions.k8s.io", "customresourcedefinitions"] >= reading


@needs_helm
@pytest.mark.parametrize("selectors", [True, False])
def test_one_process_writes_nothing_but_status_its_lease_and_services_of_xbackends(selectors):
    objects = render('mode="one-process"', f"rbac.endpointSelectors={json.dumps(selectors)}")
    written = {key: verbs - {"get", "list", "watch"} for key, verbs in allowed(objects).items()}
    others = {key: verbs for key, verbs in written.items() if verbs and not key[1].endswith("/status")}
    assert others == ({("", "services"): {"create", "patch", "delete"}} if selectors else {})
    policies = [name for kind, name in objects if kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")]
    assert policies == ["gwfast.gwfast-system"] * 2 * selectors
    assert allowed(objects, "Role") == {("coordination.k8s.io", "leases"): {"get", "list", "watch", "create", "update", "patch"}}


@needs_helm
def test_namespaces_that_are_watched_have_roles_of_their_own():
    objects = render('watchNamespaces=["a","b"]')
    text = helm("template", "gwfast", str(CHART), "-n", "gwfast-system", "--kube-version", "1.30", "--set-json", 'watchNamespaces=["a","b"]').stdout
    bindings = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "RoleBinding"]
    namespaced = "gwfast-controller:gwfast-system:namespaced"
    assert {each["metadata"]["namespace"] for each in bindings if each["roleRef"]["name"] == namespaced} == {"a", "b", "gwfast-system"}
    assert [each["roleRef"]["name"] for (kind, _), each in objects.items() if kind == "ClusterRoleBinding"] == ["gwfast-controller:gwfast-system"]
    args = arguments_of(objects)
    assert args[args.index("--watch-namespaces") + 1] == "a,b,gwfast-system"  # where the parameters of its class are


@needs_helm
def test_without_dedicated_workloads_are_written_in_its_own_namespace_alone():
    objects = render("rbac.dedicated=false")
    assert allowed(objects)["apps", "deployments"] == {"get", "list", "watch"}
    assert allowed(objects, "Role")["apps", "deployments"] == {"create", "patch", "delete"}


@needs_helm
def test_dedicated_data_planes_in_some_namespaces():
    objects = render('rbac.dedicatedNamespaces=["shop","gwfast-system"]')
    assert allowed(objects)["apps", "deployments"] == {"get", "list", "watch"} and ("", "configmaps") in allowed(objects)
    assert allowed(objects)["", "configmaps"] == {"get", "list", "watch"}
    role = objects["Role", "gwfast-controller:gwfast-system:dedicated"]
    assert role["metadata"]["namespace"] == "shop" and {verb for rule in role["rules"] for verb in rule["verbs"]} == {"create", "patch", "delete"}
    assert objects["RoleBinding", "gwfast-controller:gwfast-system:dedicated"]["metadata"]["namespace"] == "shop"
    assert allowed(objects, "Role")["apps", "deployments"] == {"create", "patch", "delete"}  # in its own, for those of classes
    assert ("Role", "gwfast-controller:gwfast-system:dedicated") not in render('rbac.dedicatedNamespaces=["shop"]', "rbac.dedicated=false")


@needs_helm
def test_arguments_of_one_process_are_options_of_run():
    known = {each.flag for each in (*options.READING, *options.CLUSTER, *options.REPORTING, *options.SERVING, *options.TRAFFIC)}
    objects = render('mode="one-process"', 'oneProcess.options={"access-log":"off","max-fields":50,"forward-client-cert":true,"no-status":false}',
                     'watchNamespaces=["a"]')
    args = arguments_of(objects)
    assert args[0] == "run" and {each for each in args if each.startswith("--")} <= known
    assert args[args.index("--publish-service") + 1] == "gwfast-system/gwfast" and ("Service", "gwfast") in objects
    assert args[args.index("--max-fields") + 1] == "50" and args[-1] == "50" and "--forward-client-cert" in args and "--no-status" not in args


@needs_helm
def test_on_the_network_of_nodes():
    objects = render('mode="one-process"', 'oneProcess.kind="DaemonSet"', "oneProcess.hostNetwork=true")
    pod = workload(objects)["spec"]["template"]["spec"]
    assert pod["hostNetwork"] and pod["securityContext"]["runAsUser"] == 0 and "sysctls" not in pod["securityContext"]
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert ("Service", "gwfast") not in objects and "--publish-service" not in arguments_of(objects)
    pod = workload(render('mode="one-process"'))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["sysctls"] == [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


@needs_helm
def test_parameters_of_the_class():
    objects = render('gatewayClass.parameters={"replicas":3,"options":{"via":"x"}}', 'gatewayClass.name="edge"')
    assert objects["GatewayParameters", "edge"]["spec"] == {"replicas": 3, "options": {"via": "x"}}
    assert objects["GatewayClass", "edge"]["spec"]["parametersRef"] == {
        "group": "gwfast.dev", "kind": "GatewayParameters", "namespace": "gwfast-system", "name": "edge"}
    assert "parametersRef" not in render()["GatewayClass", "gwfast"]["spec"]


@needs_helm
def test_long_names_of_releases():
    objects = render(name="r" * 53, namespace="n" * 63)
    assert all(len(name) <= 63 for (kind, name) in objects if kind in ("Service", "Deployment", "ServiceAccount"))
