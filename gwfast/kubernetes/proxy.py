"""The proxy on the way to the API server, as Go's clients find it: proxy-url of the kubeconfig, else the environment.

    HTTPS_PROXY, https_proxy    for https:// servers (HTTP_PROXY for http://); without a scheme it is http://
    NO_PROXY, no_proxy          names that are asked without one, commas between: example.com (and what is below it), .example.com
                                (only that), 10.0.0.0/8, 10.1.2.3, each with :port where only that is meant, and * for all
    localhost, 127.0.0.0/8, ::1 never have one
"""
import ipaddress
import os
from urllib.parse import urlsplit

from gwfast.errors import UsageError
from gwfast.kubernetes.access import masked, url_problem


def proxy_for(server: str) -> str:
    """Return the environment's proxy for a server, '' without one; UsageError where it cannot be used."""
    url = urlsplit(server)
    port = url.port or (443 if url.scheme == "https" else 80)
    variable = f"{url.scheme.upper()}_PROXY"
    proxy = _variable(variable)
    if not proxy or _excepted(url.hostname or "", port):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if problem := url_problem(proxy, ("http",), credentials=True):
        raise UsageError(f"{variable} {masked(proxy)!r} {problem}; proxy-url in the kubeconfig, or NO_PROXY, goes before it")
    return proxy


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower()) or ""


def _excepted(host: str, port: int) -> bool:
    address = _address(host)
    if host == "localhost" or address is not None and address.is_loopback:
        return True
    return any(_is(entry.strip().lower(), host, address, port) for entry in _variable("NO_PROXY").split(","))


def _is(entry: str, host: str, address, port: int) -> bool:
    """Whether an entry of NO_PROXY means a host (its address, where it is one) and a port."""
    if entry in ("", "*"):
        return entry == "*"
    try:
        network = ipaddress.ip_network(entry, strict=False)
        return address is not None and address in network
    except ValueError:
        pass  # a name
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal():
        if int(number) != port:
            return False
        entry = name.strip("[]")
    if address is not None:
        return _address(entry) == address
    return host.endswith("." + entry.lstrip("*.")) or host == entry


def _address(text: str):
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
