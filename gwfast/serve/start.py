"""What must hold before a gateway starts, and what is unusual: each is one line that says what to do."""
import errno
import os
import resource

from gwfast import limits
from gwfast.observe.log import Log
from gwfast.serve.options import ServeOptions

SHARED_CPU = 2  # workers for each CPU, beyond which it is said that they only take memory


def raise_file_limit(workers: int) -> int:
    """Raise the limit on open files as far as it goes and return it; OSError where that is too little to start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    least = limits.FILES_LEAST + limits.FILES_PER_WORKER * workers
    if hard < least:
        raise OSError(errno.EMFILE, f"the limit on open files is {hard}, {least} are needed (workers: {workers}): see "
                      "`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile of docker")
    return hard


def cannot_start(error: OSError) -> str:
    """Say why a worker's process cannot be started."""
    hints = {errno.EAGAIN: " (the limit on processes: `ulimit -u`, pids.max of the cgroup)",
             errno.EMFILE: " (the limit on open files: `ulimit -n`)"}
    return f"{os.strerror(error.errno or 0)}{hints.get(error.errno or 0, '')}"


def tell_what_is_odd(options: ServeOptions, files: int, cpus: int, log: Log) -> None:
    """Log what works, but hardly as it was meant."""
    if files < limits.FILES_FEW:
        log.warning("the limit on open files is low: half of it are a worker's clients", files=files)
    if options.workers > SHARED_CPU * cpus:
        log.warning("more workers than CPUs: each takes memory, and they share the CPUs", workers=options.workers, cpus=cpus)
    for real, ports in sorted(_ports_by_target(options.port_map).items()):
        if real and len(ports) > 1:
            log.warning("--port-map lets several ports become one: of those on one address only one can listen",
                        ports=",".join(map(str, ports)), port=real)


def _ports_by_target(port_map: dict[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for spec, real in port_map.items():
        found.setdefault(real, []).append(spec)
    return found
