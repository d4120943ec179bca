"""Signs requests, so that a backend knows that they came through this gateway and were not changed behind it."""
import hashlib
import hmac
import time

from gwfast.filters import Filter, Request


class Signer(Filter):
    async def on_request(self, request: Request) -> None:
        date = str(int(time.time()))
        body = hashlib.sha256(await request.body()).hexdigest()
        signed = "\n".join((request.method, request.path, request.query, date, body))
        request.headers["x-signature-date"] = date
        request.headers["x-signature"] = hmac.new(self.config["key"].encode(), signed.encode(), hashlib.sha256).hexdigest()
