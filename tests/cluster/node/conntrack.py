"""Forgets the flows of datagrams whose endpoint is gone, as kube-proxy does; else a client that goes on from the same port would
be sent to it for as long as it goes on.

Speaks ctnetlink (linux/netfilter/nfnetlink_conntrack.h): a dump of IPv4's entries, and a deletion by the original tuple.
"""
import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = 0x0101, 0x0102  # NFNL_SUBSYS_CTNETLINK << 8, IPCTNL_MSG_CT_GET and _DELETE
REQUEST, ACK, DUMP = 1, 4, 0x300
ERROR, DONE = 2, 3
TUPLE_ORIGINAL, TUPLE_REPLY = 1, 2
TYPE = 0x3FFF  # an attribute's type without its flags
GONE = 2  # ENOENT: it has ended by itself
NETFILTER_IPV4 = struct.pack("!BBH", socket.AF_INET, 0, 0)
UDP = socket.IPPROTO_UDP


def attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        found[kind & TYPE] = data[at + 4:at + size]
        at += (size + 3) & ~3
    return found


def nested(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind | 0x8000) + data + bytes(-len(data) % 4)


def addresses(flow: bytes) -> tuple[str, str, int, int]:
    """(source, destination, protocol, destination's port) of a tuple."""
    parts = attributes(flow)
    ip, protocol = attributes(parts[1]), attributes(parts[2])
    port = struct.unpack("!H", protocol[3])[0] if 3 in protocol else 0
    return socket.inet_ntoa(ip[1]), socket.inet_ntoa(ip[2]), protocol[1][0], port


def messages(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(type, body) of what answers one request, to its end."""
    while True:
        data, at = kernel.recv(1 << 18), 0
        while at + 16 <= len(data):
            size, kind = struct.unpack_from("=IH", data, at)
            if kind == DONE:
                return
            yield kind, data[at + 16:at + size]
            if kind == ERROR:
                return
            at += (size + 3) & ~3


def ask(kernel: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    message = NETFILTER_IPV4 + body
    kernel.send(struct.pack("=IHHII", 16 + len(message), kind, REQUEST | flags, 0, 0) + message)
    return messages(kernel)


def forget(gone: set[tuple[str, int, str]]) -> int:
    """Delete the flows of UDP from (address, port) of a Service to an endpoint's address; return how many there were."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        found = []
        for _, body in ask(kernel, CT_GET, DUMP, b""):
            flow = attributes(body[4:])
            if TUPLE_ORIGINAL not in flow or TUPLE_REPLY not in flow:
                continue
            _, destination, protocol, port = addresses(flow[TUPLE_ORIGINAL])
            if protocol == UDP and (destination, port, addresses(flow[TUPLE_REPLY])[0]) in gone:
                found.append(flow[TUPLE_ORIGINAL])
        for original in found:
            for kind, body in ask(kernel, CT_DELETE, ACK, nested(TUPLE_ORIGINAL, original)):
                code = -struct.unpack_from("=i", body)[0] if kind == ERROR else 0
                if code not in (0, GONE):
                    raise OSError(code, "a flow cannot be deleted")
    return len(found)
