"""Whose a token is: what the API server says is believed for a while, and nothing else is."""
import asyncio

import msgspec
import pytest

from gwfast.controller import review
from gwfast.controller.review import Reviewer, Unavailable
from gwfast.kubernetes.client import ApiError, Unreachable

FINE = {"authenticated": True, "audiences": ["gwfast-controller"], "user": {"username": "system:serviceaccount:ns:fleet"}}


class Api:
    """Answers reviews."""

    def __init__(self, status):
        self.status, self.asked, self.gate = status, [], None

    async def request(self, method, path, body, *, timeout):
        self.asked.append(body["spec"])
        assert (method, path) == ("POST", review.PATH) and body["spec"]["audiences"] == ["gwfast-controller"]
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.status, Exception):
            raise self.status
        return self.status if isinstance(self.status, bytes) else msgspec.json.encode({"status": self.status})


def ask(status, *tokens, seconds=0.0):
    """Return the answers to tokens, one after the other, and how often the API server was asked."""
    async def run():
        api, now = Api(status), [0.0]
        reviewer = Reviewer(api, clock=lambda: now[0])
        found = []
        for token in tokens:
            found.append(await reviewer.account(token))
            now[0] += seconds
        return found, len(api.asked)
    return asyncio.run(run())


@pytest.mark.parametrize("change", [
    {}, {"authenticated": False}, {"audiences": []}, {"audiences": ["https://kubernetes.default.svc"]}, {"error": "expired"},
    {"user": {"username": "admin"}}, {"user": {"username": "system:serviceaccount:ns"}}, {"user": {}},
    {"user": {"username": "ns:fleet"}}], ids=str)
def test_only_a_service_account_with_our_audience_is_believed(change):
    assert ask(FINE | change, "t")[0] == [None if change else ("ns", "fleet")]


def test_what_is_no_token_is_not_asked_about():
    assert ask(FINE, "", "x" * 20_000) == ([None, None], 0)


def test_an_answer_is_remembered_for_a_while_and_by_token():
    assert ask(FINE, "t", "t", "t")[1] == 1
    assert ask(FINE, "t", "u")[1] == 2
    assert ask(FINE, "t", "t", seconds=review.REMEMBERED + 1)[1] == 2
    assert ask(FINE | {"authenticated": False}, "t", "t", seconds=review.REFUSED / 2)[1] == 1
    assert ask(FINE | {"authenticated": False}, "t", "t", seconds=review.REFUSED + 1)[1] == 2


@pytest.mark.parametrize("error", [ApiError(403, "Forbidden", "no"), Unreachable("away"), b"nonsense", b'{"status":7}'], ids=repr)
def test_what_could_not_be_asked_is_not_remembered(error):
    async def run():
        api = Api(error)
        reviewer = Reviewer(api)
        with pytest.raises(Unavailable):
            await reviewer.account("t")
        api.status = FINE
        assert await reviewer.account("t") == ("ns", "fleet")
    asyncio.run(run())


def test_many_who_show_one_token_are_one_question():
    async def run():
        api = Api(FINE)
        api.gate = asyncio.Event()
        reviewer = Reviewer(api)
        asking = [asyncio.ensure_future(reviewer.account("t")) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()  # who gives up takes nobody along
        await asyncio.sleep(0)
        api.gate.set()
        assert await asyncio.gather(*asking[1:]) == [("ns", "fleet")] * 19 and len(api.asked) == 1
    asyncio.run(run())


def test_tokens_are_forgotten_and_never_kept(monkeypatch):
    monkeypatch.setattr(review, "TOKENS", 3)

    async def run():
        reviewer = Reviewer(Api(FINE))
        for at in range(10):
            await reviewer.account(f"secret{at}")
        assert len(reviewer._known) == 3 and "secret" not in repr(vars(reviewer))
    asyncio.run(run())
