"""Every sentence of the specification about BackendTLSPolicy (5.4, 5.5) as a case: the policies of a Service, and what is answered.

The backend's certificate is for backend.example; the name that it was asked for comes back as X-Sni.
"""
import json
import ssl
from collections.abc import Iterator

import pytest
from support.gateway import Gateway, free_port, gateway, resource, route, rule, write
from support.tls import authority, backend_tls, config_map
from support.secure_backend import Secure

RIGHT, WRONG = "backend.example", "other.example"


def policy(hostname: str, name: str = "a", year: int = 2020, section: str = "", ca: str = "authority", sans: tuple[str, ...] = ()) -> dict:
    made = backend_tls("SERVICE", hostname)
    made["metadata"] = {"name": name, "creationTimestamp": f"{year}-01-01T00:00:00Z"}
    made["spec"]["targetRefs"][0] |= {"sectionName": section} if section else {}
    validation = made["spec"]["validation"]
    validation["caCertificateRefs"][0]["name"] = ca
    if sans:
        validation["subjectAltNames"] = [{"type": "Hostname", "hostname": each} for each in sans]
    return made


# Policies, the status, the name that was asked for
CASES = {
    "hostname is asked for and verified": ([policy(RIGHT)], 200, RIGHT),
    "and is who must answer": ([policy(WRONG)], 502, None),
    "subjectAltNames are verified instead": ([policy(WRONG, sans=(RIGHT,))], 200, WRONG),
    "one of them": ([policy(WRONG, sans=("c.example", RIGHT))], 200, WRONG),
    "then hostname is not": ([policy(RIGHT, sans=(WRONG,))], 502, None),
    "the oldest wins": ([policy(WRONG, "a", 2021), policy(RIGHT, "b", 2020)], 200, RIGHT),
    "also where it is wrong": ([policy(RIGHT, "a", 2021), policy(WRONG, "b", 2020)], 502, None),
    "then the first name": ([policy(WRONG, "b"), policy(RIGHT, "a")], 200, RIGHT),
    "sectionName comes before the whole Service": ([policy(WRONG, "a", 2020), policy(RIGHT, "b", 2021, "web")], 200, RIGHT),
    "that of another port does not": ([policy(RIGHT, "a", 2021), policy(WRONG, "b", 2020, "other")], 200, RIGHT),
    "an invalid CA": ([policy(RIGHT, ca="garbage")], 500, None),
    "a CA that is not there": ([policy(RIGHT, ca="missing")], 500, None),
    "another CA": ([policy(RIGHT, ca="stranger")], 502, None),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Gateway]:
    from make_certificates import Authority
    folder = tmp_path_factory.mktemp("backend-tls")
    (folder / "conf").mkdir()
    chain, key = authority().certificate(RIGHT)
    (folder / "both.pem").write_bytes(key + chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "both.pem")
    backend, made = Secure("secure", context), []
    for n, (policies, _, _) in enumerate(CASES.values()):
        name = f"case-{n}"
        made += [resource("Service", name, {"ports": [{"name": "web", "port": 80}, {"name": "other", "port": 81}]}, "v1"),
                 {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
                  "addressType": "IPv4", "ports": [{"name": "web", "port": backend.port}], "endpoints": [{"addresses": [backend.address]}]},
                 route(name, rule(name), hostnames=[f"{name}.example"])]
        for one in policies:
            one = json.loads(json.dumps(one).replace("SERVICE", name))
            one["metadata"]["name"] += f"-{n}"
            made.append(one)
    write(folder / "conf", "all.yaml", gateway(free_port()), config_map("authority", authority().pem), config_map("garbage", b"no PEM"),
          config_map("stranger", Authority("stranger").pem), *made)
    running = Gateway(folder / "conf", "--access-log", "off")
    yield running
    running.stop()
    backend.close()


@pytest.mark.parametrize("case", CASES)
def test_case(world: Gateway, case: str) -> None:
    _, status, asked = CASES[case]
    answer = world.get("/", f"case-{[*CASES].index(case)}.example")
    assert answer.status == status, answer.raw
    if status == 200:
        assert ["X-Sni", asked] in json.loads(answer.body)["fields"]
