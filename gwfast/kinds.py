"""What options are given as: each reads a text, or says in a ValueError what would be right."""
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from gwfast import limits
from gwfast.config.scalars import CONTROLLER, LABEL, SUBDOMAIN
from gwfast.grammar import is_token
from gwfast.identity import digest

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def whole(text: str, least: int = 0) -> int:
    if not text.isascii() or not text.isdigit() or len(text) <= 20 and int(text) < least:
        raise ValueError(f"a whole number from {least} is needed")
    if len(text) > 20 or int(text) > limits.NUMBER_MOST:
        raise ValueError(f"a number is at most {limits.NUMBER_MOST}")
    return int(text)


def seconds(text: str) -> float:
    """'30', '30s', '500ms', '1m'."""
    parsed = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
    if not parsed:
        raise ValueError("a time such as 30s, 500ms or 1m is needed")
    time = float(parsed[1]) * SECONDS[parsed[2]]
    if time > limits.TIME_MOST:
        raise ValueError(f"a time is at most {limits.TIME_MOST / 3600:.0f}h")
    return time


def port_number(text: str) -> int:
    if whole(text) > 65535:
        raise ValueError("a port is at most 65535")
    return int(text)


def address(text: str) -> tuple[str, int]:
    """'HOST:PORT', '[::1]:PORT', ':PORT'."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise ValueError("HOST:PORT is needed")
    return host.strip("[]"), port_number(port)


def ip(text: str) -> str:
    return str(ipaddress.ip_address(text))


def networks(text: str) -> tuple[str, ...]:
    """'10.0.0.0/8,::1'."""
    return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in text.split(",") if part.strip())


def port_map(text: str) -> dict[int, int]:
    """'80:8080,443:8443'."""
    ports = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        spec, colon, real = pair.partition(":")
        if not colon:
            raise ValueError("pairs such as 80:8080 are needed")
        number = port_number(spec)
        if number == 0:
            raise ValueError("a listener's port is from 1")
        if number in ports:
            raise ValueError(f"port {number} is there twice")
        ports[number] = port_number(real)
    return ports


def stream_url(text: str) -> str:
    """'https://HOST:PORT', as it is."""
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and parts.hostname and not parts.path.strip("/") and not parts.query and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("a URL such as https://gwfast-controller.gwfast-system.svc:8443 is needed")
    return text


def listed(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def names(text: str) -> tuple[str, ...]:
    """Name templates with {name} and {namespace}, with commas."""
    templates = tuple(filter(None, text.split(",")))
    for template in templates:
        if set(re.findall(r"\{([^}]*)\}", template)) - {"name", "namespace"}:
            raise ValueError("only {name} and {namespace} are known")
    return templates


def namespaces(text: str) -> tuple[str, ...]:
    """'shop,blog'."""
    found = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    for name in found:
        if len(name) > 63 or not re.match(LABEL, name):
            raise ValueError(f"{name!r} is no name of a namespace")
    return found


def object_name(text: str) -> tuple[str, str]:
    """'namespace/name' of an object in a cluster."""
    namespace, slash, name = text.partition("/")
    fits = len(namespace) <= 63 and re.match(LABEL, namespace) and len(name) <= 253 and re.match(SUBDOMAIN, name)
    if not slash or not fits:
        raise ValueError("NAMESPACE/NAME is needed")
    return namespace, name


def hosts(text: str) -> tuple[str, ...]:
    """'192.0.2.1,lb.example': addresses, and names of hosts."""
    found = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    for host in found:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if len(host) > 253 or not re.match(SUBDOMAIN, host) or host.replace(".", "").isdigit():
                raise ValueError(f"{host!r} is neither an IP address nor the name of a host") from None
    return found


def controller(text: str) -> str:
    """'example.net/gateway-controller'."""
    if len(text) > 253 or not re.match(CONTROLLER, text):
        raise ValueError("a domain-prefixed path such as example.net/gateway-controller is needed")
    return text


def pseudonym(text: str) -> str:
    if text and not is_token(text):
        raise ValueError("a token (RFC 9110 5.6.2) is needed")
    return text


def key_file(path: str) -> bytes:
    """Return a key of 32 bytes that is made of all that the file has."""
    try:
        with open(path, "rb") as file:
            content = file.read(limits.KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) < limits.SESSION_KEY_BYTES:
        raise ValueError(f"{limits.SESSION_KEY_BYTES} bytes or more are needed, these are {len(content)}")
    if len(content) > limits.KEY_FILE_BYTES:
        raise ValueError(f"{limits.KEY_FILE_BYTES} bytes at most are a key")
    return digest(content, 32)


def one_of(*words: str) -> Callable[[str], str]:
    def chosen(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} is needed")
        return text
    return chosen


def switch(text: str) -> bool:
    return one_of("1", "true", "yes", "on", "0", "false", "no", "off")(text.lower()) in ("1", "true", "yes", "on")


def size(text: str) -> int:
    """'16384', '16k', '16KiB'."""
    parts = re.fullmatch(r"(\d{1,9}) ?(k|kb|kib|)", text.lower(), re.ASCII)
    if not parts:
        raise ValueError("a size such as 16384, 16k or 16KiB is needed")
    return int(parts[1]) * (1024 if parts[2] else 1)


def bounded(kind: Callable[[str], int], least: int, most: int) -> Callable[[str], int]:
    """Return what reads this kind of number, within these bounds."""
    def parsed(text: str) -> int:
        value = kind(text)
        if not least <= value <= most:
            raise ValueError(f"{least} to {most} can be asked for")
        return value
    return parsed
