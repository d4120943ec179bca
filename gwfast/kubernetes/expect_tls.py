"""Whether a cluster makes use of TLS, asked before anything else: what workers share has to be there before they are forked.

Rules:
- Nothing is decoded, and nothing imported that a worker has no use for.
- Where there is no answer soon, TLS is expected: that costs memory, and the other way round resumed sessions.
"""
import asyncio
import re
from collections.abc import Iterable, Iterator

from gwfast.kubernetes.access import Access
from gwfast.kubernetes import paths
from gwfast.kubernetes.client import ApiError, Client, Unreachable

WAIT = 3.0  # seconds for all answers
PAGE = 500  # objects of a kind that are looked at: who has more Gateways than that has TLS
_GROUP = "gateway.networking.k8s.io"
_LISTENERS = (f"{_GROUP}/v1/gateways", f"{_GROUP}/v1beta1/gateways", f"{_GROUP}/v1/listenersets",
              "gateway.networking.x-k8s.io/v1alpha1/xlistenersets")
_POLICIES = (f"{_GROUP}/v1/backendtlspolicies", f"{_GROUP}/v1alpha3/backendtlspolicies")
_TLS = re.compile(rb'"protocol": ?"(?:HTTPS|TLS)"|"continue": ?"[^"]')
_ANY = re.compile(rb'"items": ?\[ ?\{')


def expects_tls(access: Access, namespaces: Iterable[str] = ()) -> bool:
    """Say whether a listener or a policy of the cluster mentions TLS."""
    return asyncio.run(_expects(access, tuple(namespaces)))


async def _expects(access: Access, namespaces: tuple[str, ...]) -> bool:
    client = Client(access)
    try:
        async with asyncio.timeout(WAIT):
            return any(await asyncio.gather(
                *(_mentions(client, path, _TLS) for each in _LISTENERS for path in _paths(each, namespaces)),
                *(_mentions(client, path, _ANY) for each in _POLICIES for path in _paths(each, namespaces))))
    except (ApiError, Unreachable, TimeoutError):
        return True
    finally:
        await client.close()


def _paths(collection: str, namespaces: tuple[str, ...]) -> Iterator[str]:
    group, version, plural = collection.split("/")
    for namespace in namespaces:
        yield paths.collection(group, version, plural, namespace)
    if not namespaces:
        yield f"/apis/{collection}"


async def _mentions(client: Client, path: str, words: re.Pattern[bytes]) -> bool:
    try:
        body = await client.request("GET", f"{path}?limit={PAGE}", timeout=WAIT)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return words.search(body) is not None
