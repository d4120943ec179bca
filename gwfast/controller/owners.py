"""Whether what was made for a Gateway, a GatewayClass or an XBackend may be deleted, as the API server says at that moment.

    held(object) -> why it has to stay, '' where it may go

Rules:
- What is planned follows lists and watches, and those may be behind, or may not be had for a while. Of a deletion there is no way
  back (an address is lost, connections are cut), so the owner is asked for first.
- An object may go where its owner has gone, is another one by now or is being deleted; where the owner is as it was when that was
  planned; and where it asks another controller.
- What has no such owner goes as planned, and so do EndpointSlices: they are made again in no time.
"""
from collections.abc import Callable

import msgspec

from gwfast.config.model import EXPERIMENTAL_GROUP, GATEWAY_GROUP, Key
from gwfast.controller.fleet import GATEWAY_CLASS_NAME
from gwfast.controller.objects import Object
from gwfast.identity import label_value
from gwfast.kubernetes.client import ApiError, Client

# Kinds of owners, as ownerReferences have them: version and plural.
KINDS = {"Gateway": (f"{GATEWAY_GROUP}/v1", "gateways"), "GatewayClass": (f"{GATEWAY_GROUP}/v1", "gatewayclasses"),
         "XBackend": (f"{EXPERIMENTAL_GROUP}/v1alpha1", "xbackends")}


class Owners:
    """Asks. `planned(owner)`: the generation of what the plan was made from, None where it knew of no such owner."""

    def __init__(self, client: Client, controller_name: str, planned: Callable[[Key], int | None]):
        self._client = client
        self._controller_name = controller_name
        self._planned = planned

    async def held(self, found: Object) -> str:
        """Return why an object has to stay; '' where it may go."""
        metadata = found["metadata"]
        reference = next((each for each in metadata.get("ownerReferences") or ()
                          if each.get("kind") in KINDS
                          and each.get("apiVersion", "").partition("/")[0] == KINDS[each["kind"]][0].partition("/")[0]), None)
        if reference is None or found.get("kind") == "EndpointSlice":
            return ""
        kind, name = reference["kind"], reference["name"]
        owner = Key(kind, "" if kind == "GatewayClass" else metadata["namespace"], name)
        live = await self._get(owner)
        if live is None or live["metadata"]["uid"] != reference.get("uid") or live["metadata"].get("deletionTimestamp"):
            return ""
        if live["metadata"].get("generation", 0) == self._planned(owner) or not await self._asks_us(live, kind, metadata):
            return ""
        return f"{owner} is there, and not as it was when its deletion was planned"

    async def _asks_us(self, live: Object, kind: str, metadata: Object) -> bool:
        """Whether an owner still asks this controller for what was made, in the class that it was made for."""
        if kind == "XBackend":
            return True
        if kind == "GatewayClass":
            return live["spec"].get("controllerName") == self._controller_name
        class_name = live["spec"].get("gatewayClassName", "")
        if label_value(class_name) != (metadata.get("labels") or {}).get(GATEWAY_CLASS_NAME):
            return False
        of_class = await self._get(Key("GatewayClass", "", class_name))
        return of_class is not None and of_class["spec"].get("controllerName") == self._controller_name

    async def _get(self, key: Key) -> Object | None:
        version, plural = KINDS[key.kind]
        where = f"namespaces/{key.namespace}/{plural}" if key.namespace else plural
        try:
            return msgspec.json.decode(await self._client.request("GET", f"/apis/{version}/{where}/{key.name}"))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
