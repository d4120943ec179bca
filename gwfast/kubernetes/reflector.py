"""One list of the API server, kept up to date by a watch."""
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.seen import Name, Seen, Sink


class Reflector:
    """Tells `sink` of each object below `path` (a collection: /api/v1/services, /apis/GROUP/VERSION/namespaces/N/PLURAL).

    `state` is listing, watching, absent (404 of the list), forbidden (401, 403) or waiting (no answer; tried again).
    """

    def __init__(self, client: Client, path: str, sink: Sink, *, label_selector: str = "", field_selector: str = "",
                 metadata_only: bool = False, keep_status: bool = False, page: int = 500, log=None):
        self.known: dict[Name, Seen] = {}
        self.synced = False  # a list was complete once
        self.state = "listing"

    async def run(self) -> None:
        """List, watch, and begin again, until cancelled; never ends by itself and never raises."""

    def forget(self) -> None:
        """Tell that every object has gone, and begin with a list when it runs again."""
