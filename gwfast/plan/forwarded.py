"""The fields that tell rules and backends about the client, as the engine writes them (http.header_writer.state, http.forwarded).

Rules:
- X-Forwarded-*, Forwarded, X-Real-IP and X-Request-Id of a peer that is not trusted are dropped
- redirects lead back to the first member of a trusted peer's X-Forwarded-Proto, -Host and -Port
- an explained request comes from no client: CLIENT stands for its address
"""
import re

from msgspec.structs import replace

from gwfast.plan.ir import Bind

CLIENT = "127.0.0.1"
REQUEST_ID = "00000000-0000-4000-8000-000000000000"
PORTS = {"http": 80, "https": 443}
_ALONE = ("forwarded", "x-real-ip", "x-request-id")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


def is_ours(name: str) -> bool:
    """Say whether a field (in lower case) is the gateway's to say unless the peer is trusted."""
    return name.startswith("x-forwarded-") or name in _ALONE


def stated(request):
    """Return an explain.Request with the fields that rules and backends see."""
    given = {name: value for name, value in request.headers if is_ours(name)} if request.trusted else {}
    kept = [(name, value) for name, value in request.headers
            if "_" not in name and (request.trusted or not is_ours(name)) and name != "x-forwarded-for"]
    way = [value for name, value in request.headers if name == "x-forwarded-for" and value] if request.trusted else []
    own = {"x-forwarded-for": ", ".join([*way, CLIENT]), "x-forwarded-proto": request.scheme, "x-request-id": REQUEST_ID}
    port = "" if request.port == PORTS.get(request.scheme) else f":{request.port}"
    if host := dict(request.headers).get("host", request.host and request.host + port):
        own["x-forwarded-host"] = host
    kept += [(name, value) for name, value in own.items() if name == "x-forwarded-for" or name not in given]
    return replace(request, headers=tuple(kept))


def front(request, bind: Bind) -> tuple[str, str, int]:
    """Return the scheme, host and port that the client sees."""
    scheme, host, port = request.scheme, request.host, bind.port
    if not request.trusted:
        return scheme, host, port
    said = {name: value.split(",")[0].strip() for name, value in reversed(request.headers)}
    if (proto := said.get("x-forwarded-proto", "").lower()) in PORTS:
        scheme, port = proto, PORTS[proto]
    if found := _HOST.fullmatch(said.get("x-forwarded-host", "")):
        host, port = found[1], int(found[2] or port)
    number = said.get("x-forwarded-port", "")
    return scheme, host, int(number) if re.fullmatch(r"\d{1,5}", number) and 0 < int(number) < 65536 else port
