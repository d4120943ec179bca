"""What runs between a container's fork and its program: `python -IS launch.py`, already in namespaces of its own.

Reads one JSON object (Pod._make and Container._begin) from standard input, puts an overlay of the machine's file system in place, mounts
the volumes on it, becomes the user, tells the descriptor `begun`, and runs the program in its own place. Standard
library, no site: it has to start fast.
"""
import ctypes
import json
import os
import socket
import sys

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 24, 38, 8, 47, 2
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
                "NET_BROADCAST NET_ADMIN NET_RAW").split()  # linux/capability.h, from 0
LAST_CAPABILITY = 40
MOST_STEPS = 256  # of one path, links followed; Linux follows 40 links
RUNTIME_DEFAULT = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE".split()  # containerd's, of these
PSEUDO = {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "bpf", "tracefs", "debugfs", "securityfs", "nsfs",
          "binfmt_misc", "fusectl", "configfs", "pstore", "hugetlbfs", "autofs", "rpc_pipefs", "efivarfs"}

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    check(libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None), f"mount {target}")


def within(root: str, path: str) -> str:
    """Where a path of the container lies for us: its links lead to places below `root`, never to the machine's own."""
    at, parts = "", [part for part in path.split("/") if part]
    for _ in range(MOST_STEPS):
        if not parts:
            return root + at
        part = parts.pop(0)
        here = os.path.dirname(at) if part == ".." else at if part == "." else f"{at}/{part}"
        if os.path.islink(root + here):
            target = os.readlink(root + here)
            parts = [one for one in target.split("/") if one] + parts
            at = "" if target.startswith("/") else at
        else:
            at = "" if here == "/" else here
    raise OSError(f"{path}: too many levels of symbolic links")


def bind(source: str, target: str, read_only: bool = False) -> None:
    """Mount a folder or file at another place, which is made."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "w").close()
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        mount(source, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def other_mounts(but: str) -> list[str]:
    """Mount points of real file systems below /, which an overlay of / does not show."""
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            words, _, rest = line.partition(" - ")
            point = words.split()[4].encode().decode("unicode_escape")
            if rest.split()[0] not in PSEUDO and point != "/" and not (point + "/").startswith(but + "/") and \
                    not point.startswith(("/run/netns", "/dev/", "/sys/", "/proc/")) and not any(point.startswith(f + "/") for f in found):
                found.append(point)
    return found


def make_root(folder: str) -> str:
    """Lay an overlay over / whose changes are kept in memory; return where it is."""
    others = other_mounts(folder)
    layer, root = f"{folder}/layer", f"{folder}/root"
    for made in (layer, root):
        os.makedirs(made, exist_ok=True)
    mount("layer", layer, "tmpfs")
    for made in ("upper", "work"):
        os.mkdir(f"{layer}/{made}", 0o755)
    mount("overlay", root, "overlay", data=f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work")
    for point in others:
        bind(point, root + point)
    mount("proc", f"{root}/proc", "proc")
    mount("sysfs", f"{root}/sys", "sysfs", MS_RDONLY)
    mount("/dev", f"{root}/dev", flags=MS_BIND | MS_REC)
    return root


def furnish(root: str, said: dict) -> None:
    """Put what belongs to the image, the Pod and its volumes in place."""
    for folder in said["passable"]:
        at = within(root, folder)
        if os.path.isdir(at):
            os.chmod(at, os.stat(at).st_mode | 0o055)
    for name, target in said["links"].items():
        at = within(root, os.path.dirname(name)) + "/" + os.path.basename(name)
        if not os.path.lexists(at):
            os.makedirs(os.path.dirname(at), exist_ok=True)
            os.symlink(target, at)
    for name, text in said["files"].items():
        if os.path.islink(root + name):
            os.unlink(root + name)
        with open(root + name, "w") as file:
            file.write(text)
    mount_volumes(root, said["mounts"], said["needed"])


def mount_volumes(root: str, volumes: list[dict], needed: list[str]) -> None:
    """Mount the volumes; what the program itself is made of shows through one that would hide it (/tmp, a home)."""
    hidden = {path: os.open(within(root, path), os.O_PATH) for path in needed if any(path.startswith(one["at"] + "/") for one in volumes)}
    for one in sorted(volumes, key=lambda one: one["at"]):
        for path in hidden:
            if path.startswith(one["at"] + "/"):
                os.makedirs(one["from"] + path[len(one["at"]):], exist_ok=True)
        bind(one["from"], within(root, one["at"]), one["read_only"])
    for path, handle in hidden.items():
        mount(f"/proc/self/fd/{handle}", within(root, path), flags=MS_BIND | MS_REC)
        os.close(handle)


def keep_capabilities(numbers: set[int]) -> None:
    """Leave only these capabilities to whatever this becomes."""
    for number in range(LAST_CAPABILITY + 1):
        if number not in numbers:
            check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "drop a capability")


def set_capabilities(numbers: set[int], inheritable: bool) -> None:
    mask = sum(1 << number for number in numbers)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, low if inheritable else 0, high, high, high if inheritable else 0)
    check(libc.capset(header, data), "capset")


def become(said: dict) -> None:
    """Become the user, with the capabilities that the container may have (those of another user than root are none but what it adds)."""
    numbers = {CAPABILITIES.index(name) for name in said["capabilities"] if name in CAPABILITIES}
    if not said["privileged"]:
        keep_capabilities(numbers)
        check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setgroups(said["groups"])
    os.setresgid(said["gid"], said["gid"], said["gid"])
    os.setresuid(said["uid"], said["uid"], said["uid"])
    if not said["privileged"]:
        ambient = {CAPABILITIES.index(name) for name in said["ambient"] if name in CAPABILITIES} if said["uid"] else numbers
        set_capabilities(ambient, said["uid"] != 0)
        for number in ambient if said["uid"] else ():
            check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "raise a capability")
    if said["no_new_privileges"]:
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def main() -> None:
    said = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if said["network"]:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as file:
            file.write("0")  # as containerd has it: port 80 is for everybody, in a network of one's own
    root = make_root(said["root"])
    furnish(root, said)
    os.chroot(root)
    os.chdir("/")
    socket.sethostname(said["hostname"])
    if said["read_only"]:
        mount("", "/", flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    become(said)
    os.chdir(said["workdir"] or "/")
    os.write(said["begun"], b".")
    os.close(said["begun"])
    try:
        os.execvpe(said["argv"][0], said["argv"], said["env"])
    except OSError as problem:
        sys.exit(f'exec: "{said["argv"][0]}": {problem.strerror}')


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        print(f"container: {problem!r}", file=sys.stderr, flush=True)
        sys.exit(128)  # what runtimes use for a container that could not be made
