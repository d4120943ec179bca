"""The benchmarks' translators: every contender is told the same routes, and refuses what it cannot do."""
import os
import re
from functools import partial
from pathlib import Path

import msgspec
import pytest

from bench.contenders import CONTENDERS, Contender, Unsupported, caddy, envoy, floor, h2o, haproxy, nghttpx, nginx, traefik
from bench.contenders.rows import rows, services
from bench.scenes import headers, hosts, listener_sets, paths, plain, unary
from bench.wire import CLEAR, GRPC, H2, H2C, TLS, certificate
from bench.world import World

PORTS = {"first": [7001], "rest": [7002], "last": [7003]}
HERE = Path("/bench")
SCENES = {"plain": plain, "paths": partial(paths, 3), "hosts": partial(hosts, 3), "headers": partial(headers, 3),
          "sets": partial(listener_sets, 2, 2)}


def plan(folder, scene, wire=CLEAR):
    made = scene()
    return World(folder, made.routes, PORTS, made.listener_sets, wire).plan()


@pytest.fixture(params=SCENES.values(), ids=SCENES)
def scene(request):
    return request.param


def text(name, made, wire=CLEAR, log=False) -> str:
    """The whole configuration of one contender, as text."""
    match name:
        case "nginx":
            return nginx.config(made, HERE, 80, 1, wire, log)
        case "haproxy":
            main, maps = haproxy.config(made, HERE, 80, 1, wire, log)
            return main + "".join(maps.values())
        case "envoy":
            return msgspec.json.encode([envoy.bootstrap(HERE, 80, wire, log), envoy.config(made, HERE)]).decode()
        case "caddy":
            return msgspec.json.encode(caddy.config(made, HERE, 80, 9, wire, log)).decode()
        case "traefik":
            return msgspec.json.encode([traefik.static(HERE, 80, wire, log), traefik.config(made, HERE, wire)]).decode()
        case "nghttpx":
            return nghttpx.config(made, HERE, 80, 1, wire)
        case "h2o":
            return msgspec.json.encode(h2o.config(made, HERE, 80, 1, wire)).decode()


TRANSLATORS = ("nginx", "haproxy", "envoy", "caddy", "traefik", "nghttpx", "h2o")
LOGGING = ("nginx", "haproxy", "envoy", "caddy", "traefik")
CANNOT = {("nghttpx", "headers"), ("h2o", "headers")}


@pytest.mark.parametrize("shape", SCENES)
@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_route_reaches_every_contender(tmp_path, name, shape):
    made = plan(tmp_path, SCENES[shape])
    if (name, shape) in CANNOT:
        with pytest.raises(Unsupported, match="headers"):
            text(name, made)
        return
    told = text(name, made)
    for row in rows(made):
        assert row.hostname in told
        assert row.path == "/" or row.path in told
        assert row.header is None or row.header[1] in told
    used = {row.service for row in rows(made)}
    for service, addresses in services(made).items():
        assert service not in used or all(re.search(rf"\b{port}\b", told) for _, port in addresses)


WORDS = {  # what each is told on each wire
    "nginx": {TLS: ["listen 127.0.0.1:80 ssl http2", "/bench/chain.pem"], H2C: ["listen 127.0.0.1:80 http2"],
              GRPC: ["listen 127.0.0.1:80 http2", "grpc_pass grpc://bench-first-80"], CLEAR: ["listen 127.0.0.1:80 default_server"]},
    "haproxy": {TLS: ["bind 127.0.0.1:80 ssl crt /bench/web.pem alpn h2,http/1.1", "X-Forwarded-Proto https"],
                H2C: ["bind 127.0.0.1:80 proto h2\n"], GRPC: ["bind 127.0.0.1:80 proto h2\n", "pool-max-conn 256 proto h2\n"],
                CLEAR: ["bind 127.0.0.1:80\n", "pool-max-conn 256\n", "X-Forwarded-Proto http\n"]},
    "envoy": {TLS: ["DownstreamTlsContext", '"codec_type":"AUTO"'], H2C: ['"codec_type":"HTTP2"'],
              GRPC: ['"codec_type":"HTTP2"', '"http2_protocol_options":{}'], CLEAR: ['"codec_type":"HTTP1"']},
    "caddy": {TLS: ['"protocols":["h1","h2"]', '"tls_connection_policies":[{}]'], H2C: ['"protocols":["h1","h2c"]', '"versions":["1.1"]'],
              GRPC: ['"protocols":["h1","h2c"]', '"versions":["h2c"]'], CLEAR: ['"protocols":["h1"]', '"versions":["1.1"]']},
    "traefik": {TLS: ['"http":{"tls":{}}', '"certFile":"/bench/chain.pem"'], H2C: ['"url":"http://127.0.0.1:7001"'],
                GRPC: ['"url":"h2c://127.0.0.1:7001"'], CLEAR: ['"url":"http://127.0.0.1:7001"']},
    "nghttpx": {TLS: ["frontend=127.0.0.1,80\n", "private-key-file=/bench/key.pem"], H2C: ["frontend=127.0.0.1,80;no-tls\n"],
                GRPC: ["frontend=127.0.0.1,80;no-tls\n", ";proto=h2\n"], CLEAR: ["frontend=127.0.0.1,80;no-tls\n"]},
    "h2o": {TLS: ['"certificate-file":"/bench/chain.pem"'], H2C: ['"port":80}'], CLEAR: ['"port":80}']},
}


@pytest.mark.parametrize("wire", [CLEAR, TLS, H2, H2C, GRPC], ids=["clear", "tls", "h2", "h2c", "grpc"])
@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_wire_reaches_every_contender(tmp_path, name, wire):
    made = plan(tmp_path, unary if wire.grpc else plain, wire)
    if (name, wire) == ("h2o", GRPC):
        with pytest.raises(Unsupported, match="backends that speak HTTP/2"):
            text(name, made, wire)
        return
    told = text(name, made, wire)
    assert [word for word in WORDS[name][TLS if wire.tls else wire] if word not in told] == []
    assert wire.tls == ("/bench/chain.pem" in told or "/bench/web.pem" in told)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_the_certificate_goes_along(tmp_path, name):
    scene, chain, key = plain(), *certificate()
    made = CONTENDERS[name](tmp_path / name, 7009, wire=H2)
    made.write(World(tmp_path / "world", scene.routes, PORTS, wire=H2))
    assert (made.directory / "web.pem").read_bytes() == chain + key
    assert (made.directory / "chain.pem").read_bytes() + (made.directory / "key.pem").read_bytes() == chain + key


def test_the_floor_has_no_tls(tmp_path):
    made = floor.Floor(tmp_path / "floor", 7009, wire=TLS)
    with pytest.raises(Unsupported, match="TLS"):
        made.write(World(tmp_path / "world", plain().routes, {"first": [7001]}, wire=TLS))


def test_rows_are_the_resources(tmp_path):
    found = [(row.hostname, row.path, row.header, row.service) for row in rows(plan(tmp_path, SCENES["headers"]))]
    assert sorted(found) == [("", "/", ("x-tenant", f"tenant-00000{n}"), f"bench-{to}-80")
                             for n, to in enumerate(("first", "rest", "last"))]


def test_listener_sets_are_hosts(tmp_path):
    found = {(row.hostname, row.path) for row in rows(plan(tmp_path, SCENES["sets"]))}
    assert found == {(f"set-0000{n // 2}.bench.example", f"/api/service-00000{n}") for n in range(4)}


def test_a_prefix_ends_where_an_element_ends(tmp_path):
    made = plan(tmp_path, SCENES["paths"])
    assert "location = /api/service-000000 {" in text("nginx", made)
    assert "location /api/service-000000/ {" in text("nginx", made)
    assert "/api/service-000000/ bench-first-80\n" in text("haproxy", made)
    assert '"path_separated_prefix":"/api/service-000000"' in text("envoy", made)
    assert '["/api/service-000000","/api/service-000000/*"]' in text("caddy", made)
    assert ";/api/service-000000/\n" in text("nghttpx", made)
    assert "(Path(`/api/service-000000`) || PathPrefix(`/api/service-000000/`))" in text("traefik", made)


def test_several_endpoints(tmp_path):
    world = World(tmp_path, plain().routes, {"first": [7001, 7002]})
    made = world.plan()
    assert re.search(r"server 127.0.0.1:7001 [^;]*; server 127.0.0.1:7002 [^;]*;", text("nginx", made))
    for name in ("haproxy", "envoy", "caddy", "traefik", "nghttpx"):
        assert "7001" in text(name, made) and "7002" in text(name, made)
    with pytest.raises(Unsupported, match="several endpoints"):
        text("h2o", made)


def test_the_floor_has_one_backend_and_no_routes(tmp_path):
    assert floor.config(World(tmp_path / "a", plain().routes, {"first": [7001]}).plan()) == 7001
    with pytest.raises(Unsupported, match="routes"):
        floor.config(plan(tmp_path / "b", SCENES["paths"]))


def test_a_changed_route_is_in_the_next_plan(tmp_path):
    scene = paths(3)
    world = World(tmp_path, scene.routes, PORTS)
    assert {row.path: row.service for row in rows(world.plan())}["/api/service-000001"] == "bench-rest-80"
    world.put(1, scene.route(1, "last"))
    world.put(3, scene.route(3, "rest"))
    found = {row.path: row.service for row in rows(world.plan())}
    assert found["/api/service-000001"] == "bench-last-80" and found["/api/service-000003"] == "bench-rest-80"
    world.services({**PORTS, "last": [7004]})
    assert services(world.plan())["bench-last-80"] == (("127.0.0.1", 7004),)


@pytest.mark.parametrize("name", [*TRANSLATORS, "gwfast"])
def test_what_is_staged_is_what_changed(tmp_path, name):
    """Files lie beside their places until they are moved; what says nothing new is not written again."""
    scene = paths(3)
    world = World(tmp_path / "world", scene.routes, PORTS)
    made = CONTENDERS[name](tmp_path / name, 7009)
    made.write(world)
    before = {file: file.read_bytes() for file in made.directory.rglob("*.*") if file.is_file()}
    assert made.staged(world) == []
    world.put(1, scene.route(1, "last"))
    moves = made.staged(world)
    assert moves and all(new.parent == made.directory and place in before for new, place in moves)
    assert {file: file.read_bytes() for file in before} == before
    assert all(new.read_bytes() != before[place] for new, place in moves)


def test_haproxy_asks_no_map_where_there_is_one_route(tmp_path):
    assert "default_backend bench-first-80" in text("haproxy", plan(tmp_path, plain)) and "map_" not in text("haproxy", plan(
        tmp_path, plain))


def test_what_no_case_needs_is_refused(tmp_path):
    route = plain().routes[0]
    route["spec"]["rules"][0]["filters"] = [{"type": "RequestRedirect", "requestRedirect": {"hostname": "a.example"}}]
    del route["spec"]["rules"][0]["backendRefs"]
    with pytest.raises(Unsupported, match="filters"):
        list(rows(World(tmp_path, [route], PORTS).plan()))


def test_contenders_are_called_as_their_modules():
    assert list(CONTENDERS) == ["floor", "gwfast", "nginx", "haproxy", "envoy", "caddy", "traefik", "nghttpx", "h2o"]


@pytest.mark.parametrize("name", CONTENDERS)
def test_who_can_writes_a_log_in_json(tmp_path, name):
    made = CONTENDERS[name](tmp_path / name, 7009, log=True)
    world = World(tmp_path / "world", plain().routes, {"first": [7001]})
    if name not in (*LOGGING, "gwfast"):
        with pytest.raises(Unsupported, match="a log"):
            made.write(world)
        return
    made.write(world)
    assert made.lines() == []
    (made.directory / made.log_name).write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert made.lines() == [b'{"a": 1}', b'{"a": 2}']
    if name == "gwfast":
        command = made.command()
        assert command[command.index("--access-log") + 1] == "json"


@pytest.mark.parametrize("name", LOGGING)
def test_a_log_is_there_only_where_it_is_asked_for(tmp_path, name):
    made = plan(tmp_path, plain)
    with_log, without = text(name, made, log=True), text(name, made)
    words = ("/bench/access.log", "log stdout format raw")
    assert any(word in with_log for word in words) and not any(word in without for word in words)
    assert "user_agent" in with_log or name in ("caddy", "traefik")      # which have fields of their own


class Versioned(Contender):
    name, package, released = "versioned", "apt-get nothing", {"1.5.0": "2020-01-02"}


@pytest.mark.parametrize(("says", "version"), {
    "its day": ("versioned version 1.2.3-dev4 2026/08/21 - and more", "1.2.3-dev4 (2026-08-21)"),
    "when it was built": ("Version: 1.2.3\nBuilt: 2026-10-15T14:33:48Z", "1.2.3 (2026-10-15)"),
    "a version that is known": ("versioned/1.5.0", "1.5.0 (2020-01-02)"),
    "a version that is not": ("versioned/1.6.0", "1.6.0 (built 2021-03-04)"),
    "nothing": ("", ""),
}.values(), ids=lambda each: each[:20])
def test_a_version_has_its_day(tmp_path, monkeypatch, says, version):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncat << 'EOF'\n{says}\nEOF\n")
    program.chmod(0o755)
    os.utime(program, (1614816000 + 60, 1614816000 + 60))
    monkeypatch.setattr(Versioned, "program", str(program), raising=False)
    assert Versioned.version() == version
