"""The network of Pods: a namespace and an address each, every packet routed by the node, none bridged.

The node's end of each pair has one well-known address of the link layer and neighbours are told, not asked for, so that nobody waits
for ARP (Calico's design). That every packet passes the node's routing is what lets conntrack translate Services' addresses.
"""
import os
import subprocess

NODE_IP = "10.244.0.1"
POD_ADDRESSES = 239 * 254  # 10.244.1.1 to 10.244.239.254; above are load balancers
GATEWAY, GATEWAY_LINK = "169.254.1.1", "ee:ee:ee:ee:ee:ee"
# Of the cluster's own namespace (cluster.py gives it to the sandbox). A bridge without ports is a device that takes packets to nowhere.
NODE_NETWORK = f"""link set lo up
link add node0 type bridge
addr add {NODE_IP}/32 dev node0
link set node0 up
route add default dev node0 src {NODE_IP}
"""


def address(number: int) -> str:
    """The address of a Pod by its number, from 0."""
    number %= POD_ADDRESSES
    return f"10.244.{1 + number // 254}.{1 + number % 254}"


def batch(text: str, namespace: str = "") -> None:
    """Run a batch of ip(8)."""
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(["ip", *where, "-batch", "-"], input=text, text=True, capture_output=True)
    if done.returncode:
        raise OSError(f"ip: {done.stderr.strip()}")


def add(name: str, number: int) -> str:
    """Make the network namespace `name` with an address, and return that."""
    ip, device, link = address(number), f"v{number}", "02:00:%02x:%02x:%02x:%02x" % tuple(number.to_bytes(4, "big"))
    batch(f"netns add {name}\n"
          f"link add {device} address {GATEWAY_LINK} type veth peer name eth0 address {link} netns {name}\n"
          f"link set {device} up\n"
          f"route add {ip} dev {device}\n"
          f"neigh add {ip} lladdr {link} dev {device} nud permanent\n")
    batch(f"link set lo up\naddr add {ip}/32 dev eth0\nlink set eth0 up\nroute add {GATEWAY} dev eth0\n"
          f"route add default via {GATEWAY}\nneigh add {GATEWAY} lladdr {GATEWAY_LINK} dev eth0 nud permanent\n", name)
    return ip


def remove(name: str, number: int) -> None:
    """Remove a namespace; at once, where processes that still end hold it."""
    subprocess.run(["ip", "-batch", "-force", "-"], input=f"link del v{number}\nnetns del {name}\n", text=True, capture_output=True)


def forget_all() -> None:
    """Remove the namespaces of a node's program that was killed; its Pods have ended with it."""
    for name in os.listdir("/run/netns"):
        subprocess.run(["ip", "netns", "del", name], check=True)


def path(name: str) -> str:
    """The file that stands for a namespace; the node's own for ''."""
    return f"/run/netns/{name}" if name else "/proc/self/ns/net"
