"""An API server of objects, as a client sees it, for tests of who writes to it."""
import asyncio
import json

from gwfast.kubernetes.client import ApiError


class Server:
    """Objects by path. `said`: the requests that it got. `meanwhile`: called before a PATCH is answered; `refuse`: raised."""

    def __init__(self):
        self.objects, self.said, self.meanwhile, self.refuse = {}, [], None, None

    async def request(self, method, target, body=None, *, content_type="application/json", **_):
        where, _, query = target.partition("?")
        self.said.append((method, where, query, body))
        await asyncio.sleep(0)
        if method == "GET":
            if where not in self.objects:
                raise ApiError(404, "NotFound", where)
            return json.dumps(self.objects[where]).encode()
        if self.refuse:
            raise self.refuse
        if method == "DELETE":
            self.objects.pop(where)
            return b"{}"
        if method == "POST":
            where = f"{where}/{body['metadata']['name']}"
            if where in self.objects:
                raise ApiError(409, "AlreadyExists", where)
        before = self.objects.get(where, {"metadata": {"uid": f"uid-{len(self.said)}"}})
        if body["metadata"].get("resourceVersion", version := before["metadata"].get("resourceVersion", "0")) != version:
            raise ApiError(409, "Conflict", where)
        now = {**before, **body, "metadata": {**before["metadata"], **body["metadata"], "managedFields": [{"manager": "x"}],
                                              "resourceVersion": str(len(self.said))}}
        for name in ("spec", "data"):
            if name in body:
                said = {**before.get(name, {}), **body[name]}
                now[name] = {each: value for each, value in said.items() if value is not None}
        self.objects[where] = now
        if self.meanwhile:
            self.meanwhile(json.loads(json.dumps(now)))
        return json.dumps(now).encode()

    def writes(self):
        return [(method, where) for method, where, _, _ in self.said if method != "GET"]
