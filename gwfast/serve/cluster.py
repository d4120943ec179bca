"""A gateway that follows a cluster: `gwfast run --kubernetes`, and what the verbs that only look read of one.

    options ──> Access (kubeconfig, or what a Pod is given) ──> Client ──> KubernetesSource ──> Supervisor ──> Reporter
"""
import asyncio
from collections.abc import Callable

from gwfast.config.source import Loaded
from gwfast.errors import Source, UsageError
from gwfast.kubernetes.access import Access
from gwfast.kubernetes.client import ApiError, Client, Unreachable
from gwfast.kubernetes.reporter import Maker, Reporter, ReportOptions
from gwfast.kubernetes.source import KubernetesSource
from gwfast.observe.log import Log
from gwfast.serve.handover import Inheritance
from gwfast.serve.options import ServeOptions
from gwfast.serve.spawn import ForkServer, Process
from gwfast.serve.supervisor import supervise


async def supervise_cluster(where: Access, options: ServeOptions, log: Log, processes: list[Process],
                            fork_server: ForkServer, maker: Callable[..., Maker], given: Inheritance | None = None) -> int:
    """Run a gateway on this event loop until a signal ends it; return the exit status. maker: controller.selected.Maker."""
    client = Client(where, log=log)
    source = KubernetesSource(client, where.server, namespaces=options.watch_namespaces,
                              controller_name=options.controller_name, log=log)
    try:
        reporter = _reporter(where, client, source, options, log, maker)
        return await supervise(source, options, log, processes, fork_server, reporter, given)
    finally:
        await client.close()


def _reporter(where: Access, client: Client, source: KubernetesSource, options: ServeOptions, log: Log,
              maker: Callable[..., Maker]) -> Reporter | None:
    """Return who writes the status of what is served; None where nobody is to."""
    if not options.status:
        return None
    part = bool(options.gateway or options.gateway_class)  # of what this controller serves: others serve the rest
    narrowed = part or bool(options.watch_namespaces)

    def make(leads: Callable[[], bool], changed: Callable[[], None]) -> Maker:
        return maker(client, options.controller_name, source.uid_of, log, namespaces=options.watch_namespaces, may=leads,
                     certain=lambda: source.routed and not part, changed=changed)
    return Reporter(client, source, where.server, where.namespace, ReportOptions(
        controller_name=options.controller_name, lease=options.election_lease if options.election else None, narrowed=narrowed,
        publish_service=options.publish_service, publish_addresses=options.publish_addresses), log, make)


def look(where: Access, namespaces: tuple[str, ...], controller_name: str, log: Log) -> tuple[Loaded, Source]:
    """Read a cluster once; return what it holds, and what names it. UsageError where it does not answer."""
    return asyncio.run(_look(where, namespaces, controller_name, log))


async def _look(where: Access, namespaces: tuple[str, ...], controller_name: str, log: Log) -> tuple[Loaded, Source]:
    client = Client(where, log=log)
    source = KubernetesSource(client, where.server, namespaces=namespaces, controller_name=controller_name, log=log)
    try:
        await client.request("GET", "/apis")
        loop = asyncio.get_running_loop()
        source.watch(loop, lambda _: None, log.warning)
        return await loop.run_in_executor(None, source.load, None), source.place
    except (ApiError, Unreachable) as error:
        raise UsageError(f"{where.server}: {error}") from None
    finally:
        source.close()
        await client.close()
