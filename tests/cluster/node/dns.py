"""cluster.local: A and SRV records of Services, CNAMEs of ExternalNames, over UDP and TCP; every other name does not exist.

`python dns.py --any ADDRESS` is a server apart that answers every question with one address, on port 53: what stands for CoreDNS
where a test only wants to see an answer come through.
"""
import ipaddress
import socket
import struct
import sys
import threading
from collections.abc import Callable

A, CNAME, SRV = 1, 5, 33
NO_ERROR, NO_NAME = 0, 3
TTL = 5
DOMAIN = ("cluster", "local")
UDP_BYTES = 1232  # what is longer is cut, and asked for again over TCP

Record = tuple[tuple[str, ...], int, bytes]  # of a name, a type and its data
Answer = tuple[int, list[Record]]


def labels(name: tuple[str, ...]) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name) + b"\0"


def question(packet: bytes) -> tuple[tuple[str, ...], int, bytes]:
    """(labels, type, the question as it was) of a query. Raises IndexError, struct.error, UnicodeDecodeError."""
    at, parts = 12, []
    while size := packet[at]:
        parts.append(packet[at + 1:at + 1 + size].decode().lower())
        at += 1 + size
    kind, _ = struct.unpack_from("!HH", packet, at + 1)
    return tuple(parts), kind, packet[12:at + 5]


def reply(packet: bytes, answer: Callable[[tuple[str, ...], int], Answer], most: int = 65535) -> bytes:
    """Answer one query; b'' where it is none."""
    try:
        name, kind, asked = question(packet)
    except (IndexError, struct.error, UnicodeDecodeError):
        return b""
    code, records = answer(name, kind)
    body = b"".join(labels(owner) + struct.pack("!HHIH", type_, 1, TTL, len(data)) + data for owner, type_, data in records)
    cut = 12 + len(asked) + len(body) > most
    flags = 0x8580 | code | (0x0200 if cut else 0)  # authoritative, recursion available: resolvers complain otherwise
    head = packet[:2] + struct.pack("!HHHHH", flags, 1, 0 if cut else len(records), 0, 0)
    return head + asked + (b"" if cut else body)


class Names:
    """The records of a cluster. `slices_of` groups EndpointSlices by Service; `hosts` are names outside, by address."""

    def __init__(self, services: dict, slices_of: Callable[[], dict], hosts: dict[str, str]):
        self._services, self._slices_of = services, slices_of
        self._hosts = {tuple(name.lower().split(".")): address for name, address in hosts.items()}

    def answer(self, name: tuple[str, ...], kind: int) -> Answer:
        if name in self._hosts:
            return NO_ERROR, [(name, A, packed(self._hosts[name]))] if kind == A else []
        if name[-2:] != DOMAIN or len(name) < 5 or name[-3] != "svc":
            return NO_NAME, []
        *before, service_name, namespace = name[:-3]
        service = self._services.get((namespace, service_name))
        if service is None:
            return NO_NAME, []
        if service["spec"].get("type") == "ExternalName":
            return self._external(name, kind, service)
        ends = self._ends(service, (namespace, service_name))
        if len(before) == 2 and before[0].startswith("_"):
            return self._ports(name, kind, service, before)
        if before:
            ends = [(host, address) for host, address in ends if before == [host]]
            if not ends:
                return NO_NAME, []
        return NO_ERROR, [(name, A, packed(address)) for _, address in ends] if kind == A else []

    def _external(self, name: tuple[str, ...], kind: int, service: dict) -> Answer:
        target = tuple(service["spec"]["externalName"].lower().rstrip(".").split("."))
        code, records = self.answer(target, kind) if target != name else (NO_NAME, [])
        return code, [(name, CNAME, labels(target)), *records]

    def _ends(self, service: dict, where: tuple[str, str]) -> list[tuple[str, str]]:
        """(host name, address): the cluster's address, or of a headless Service its ready endpoints'."""
        if service["spec"].get("clusterIP") != "None":
            return [("", address) for address in service["spec"].get("clusterIPs") or () if ":" not in address]
        return sorted({(end.get("hostname", ""), address) for one in self._slices_of().get(where, ()) if one.get("addressType") == "IPv4"
                       for end in one.get("endpoints") or () for address in end["addresses"]
                       if (end.get("conditions") or {}).get("ready", True) or service["spec"].get("publishNotReadyAddresses")})

    def _ports(self, name: tuple[str, ...], kind: int, service: dict, before: list[str]) -> Answer:
        found = [port for port in service["spec"].get("ports") or ()
                 if [f"_{port.get('name', '')}", f"_{port.get('protocol', 'TCP').lower()}"] == before]
        if not found:
            return NO_NAME, []
        return NO_ERROR, [(name, SRV, struct.pack("!HHH", 0, 100, port["port"]) + labels(name[2:])) for port in found if kind == SRV]


def packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def serve_udp(server: socket.socket, answer: Callable[[tuple[str, ...], int], Answer]) -> None:
    while True:
        packet, peer = server.recvfrom(4096)
        if told := reply(packet, answer, UDP_BYTES):
            server.sendto(told, peer)


def serve_tcp(server: socket.socket, answer: Callable[[tuple[str, ...], int], Answer]) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve_connection, args=(connection, answer), daemon=True).start()


def serve_connection(connection: socket.socket, answer: Callable[[tuple[str, ...], int], Answer]) -> None:
    connection.settimeout(10)
    try:
        with connection, connection.makefile("rb") as file:
            while len(size := file.read(2)) == 2:
                told = reply(file.read(int.from_bytes(size, "big")), answer)
                connection.sendall(len(told).to_bytes(2, "big") + told)
    except OSError:
        return


def serve(address: str, answer: Callable[[tuple[str, ...], int], Answer]) -> None:
    """Begin to serve port 53 of an address, on threads."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53), family=family, backlog=128)
    for one, run in ((udp, serve_udp), (tcp, serve_tcp)):
        threading.Thread(target=run, args=(one, answer), daemon=True).start()


if __name__ == "__main__":
    always = packed(sys.argv[sys.argv.index("--any") + 1])
    serve("::", lambda name, kind: (NO_ERROR, [(name, A, always)] if kind == A else []))
    threading.Event().wait()
