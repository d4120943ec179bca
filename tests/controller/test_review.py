"""Whose a token is: what the API server says is believed for a while, nothing else is, and it is not asked more than it should be."""
import asyncio
import base64
import json

import msgspec
import pytest

from gwfast.controller import review
from gwfast.controller.review import Caller, Reviewer, Unavailable
from gwfast.controller.token import TOKEN_BYTES, Account, claimed
from gwfast.controller.turns import Turns
from gwfast.kubernetes.client import ApiError, Unreachable

AUDIENCE = "gwfast-controller"
US = Caller(Account("ns", "fleet"))
FINE = {"authenticated": True, "audiences": [AUDIENCE], "user": {"username": "system:serviceaccount:ns:fleet"}}
NOW = 1_800_000_000
CLAIMS = {"sub": "system:serviceaccount:ns:fleet", "aud": [AUDIENCE], "exp": NOW + 3600}


class Api:
    """Answers reviews."""

    def __init__(self, status):
        self.status, self.asked, self.gate = status, [], None

    async def request(self, method, path, body, *, timeout):
        self.asked.append(body["spec"]["token"])
        assert (method, path) == ("POST", review.PATH) and body["spec"]["audiences"] == [AUDIENCE]
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
            found.append(await reviewer.caller(token))
            now[0] += seconds
        return found, len(api.asked)
    return asyncio.run(run())


@pytest.mark.parametrize("change", [
    {}, {"authenticated": False}, {"audiences": []}, {"audiences": ["https://kubernetes.default.svc"]}, {"error": "expired"},
    {"user": {"username": "admin"}}, {"user": {"username": "system:serviceaccount:ns"}}, {"user": {}},
    {"user": {"username": "system:serviceaccount:ns:"}}, {"user": {"username": "system:serviceaccount:ns:fleet:more"}},
    {"user": {"username": "ns:fleet"}}], ids=str)
def test_only_a_service_account_with_our_audience_is_believed(change):
    assert ask(FINE | change, "t")[0] == [None if change else US]


def test_the_pod_is_the_one_that_the_api_server_says():
    extra = {"authentication.kubernetes.io/pod-name": ["web-1"], "authentication.kubernetes.io/pod-uid": ["u-1"], "other": []}
    user = FINE["user"] | {"extra": extra}
    assert ask(FINE | {"user": user}, "t")[0] == [Caller(Account("ns", "fleet"), "web-1", "u-1")]
    assert ask(FINE | {"user": FINE["user"] | {"extra": None}}, "t")[0] == [US]
    assert ask(FINE | {"user": FINE["user"] | {"extra": dict.fromkeys(extra, [])}}, "t")[0] == [US]


def test_what_is_no_token_is_not_asked_about():
    assert ask(FINE, "", "x" * 20_000) == ([None, None], 0)


def test_an_answer_is_remembered_for_a_while_and_by_token():
    assert ask(FINE, "t", "t", "t")[1] == 1
    assert ask(FINE, "t", "u")[1] == 2
    assert ask(FINE, "t", "t", seconds=review.REMEMBERED + 1)[1] == 2
    assert ask(FINE | {"authenticated": False}, "t", "t", seconds=review.REFUSED / 2) == ([None, None], 1)
    assert ask(FINE | {"authenticated": False}, "t", "t", seconds=review.REFUSED + 1)[1] == 2


@pytest.mark.parametrize("error", [ApiError(403, "Forbidden", "no"), Unreachable("away"), b"nonsense", b'{"status":7}'], ids=repr)
def test_what_could_not_be_asked_is_not_remembered(error):
    async def run():
        api = Api(error)
        reviewer = Reviewer(api)
        with pytest.raises(Unavailable):
            await reviewer.caller("t")
        api.status = FINE
        assert await reviewer.caller("t") == US
    asyncio.run(run())


def test_many_who_show_one_token_are_one_question():
    async def run():
        api = Api(FINE)
        api.gate = asyncio.Event()
        reviewer = Reviewer(api)
        asking = [asyncio.ensure_future(reviewer.caller("t")) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()  # who gives up takes nobody along
        await asyncio.sleep(0)
        api.gate.set()
        assert await asyncio.gather(*asking[1:]) == [US] * 19 and len(api.asked) == 1
    asyncio.run(run())


def test_who_made_up_many_tokens_drives_no_good_one_out(monkeypatch):
    monkeypatch.setattr(review, "TOKENS_REFUSED", 3)
    monkeypatch.setattr(review, "BURST", 1000)

    async def run():
        api = Api(FINE)
        reviewer = Reviewer(api)
        assert await reviewer.caller("good") == US
        api.status = FINE | {"authenticated": False}
        for at in range(50):
            assert await reviewer.caller(f"made up {at}") is None
        assert await reviewer.caller("good") == US and len(api.asked) == 51
        assert len(reviewer._refused) == 3 and len(reviewer._passed) == 1
    asyncio.run(run())


def test_tokens_are_forgotten_and_never_kept(monkeypatch):
    monkeypatch.setattr(review, "TOKENS", 3)

    async def run():
        reviewer = Reviewer(Api(FINE))
        for at in range(10):
            await reviewer.caller(f"secret{at}")
        assert len(reviewer._passed) == 3 and "secret" not in repr([vars(one) for one in (reviewer, reviewer._passed)])
    asyncio.run(run())


# ---- How often it is asked, and for whom first


def test_questions_have_a_rate_and_fifty_that_come_at_once_pass():
    """By the clock of the test, which sleeps move: how long it takes is not measured but added up."""
    async def run(tokens):
        api, now = Api(FINE), [0.0]
        reviewer = Reviewer(api, clock=lambda: now[0])

        async def sleep(seconds):
            now[0] += seconds + 1e-6
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(review.asyncio, "sleep", sleep)
            await asyncio.gather(*(reviewer.caller(f"t{at}", f"10.0.0.{at}") for at in range(tokens)))
        assert len(api.asked) == tokens
        return now[0]
    assert asyncio.run(run(50)) == 0.0
    assert 1.9 < asyncio.run(run(review.BURST + 2 * int(review.PER_SECOND))) < 2.1


def test_who_asks_most_does_not_keep_others_waiting():
    async def run():
        api = Api(FINE)
        api.gate = asyncio.Event()
        reviewer = Reviewer(api)
        flood = [asyncio.ensure_future(reviewer.caller(f"flood{at}", "evil")) for at in range(500)]
        await asyncio.sleep(0)
        honest = [asyncio.ensure_future(reviewer.caller(f"honest{at}", f"10.0.0.{at}")) for at in range(50)]
        await asyncio.sleep(0)
        assert len(api.asked) == review.AT_ONCE
        for one in flood[100:]:  # those that are refused their places wait no more, and are not asked about
            one.cancel()
        api.gate.set()
        assert await asyncio.gather(*honest) == [US] * 50
        last = max(at for at, token in enumerate(api.asked) if token.startswith("honest"))
        assert sum(token.startswith("flood") for token in api.asked[:last]) <= review.AT_ONCE + 2, "one for each round of all"
        for one in flood:
            one.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    asyncio.run(run())


def test_who_waits_too_long_is_told(monkeypatch):
    monkeypatch.setattr(review, "TIMEOUT", 0.05)

    async def run():
        api = Api(FINE)
        api.gate = asyncio.Event()
        reviewer = Reviewer(api)
        asked = [asyncio.ensure_future(reviewer.caller(f"t{at}")) for at in range(review.AT_ONCE)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many tokens wait"):
            await reviewer.caller("another")
        api.gate.set()
        assert await asyncio.gather(*asked) == [US] * review.AT_ONCE
        assert await reviewer.caller("another") == US
    asyncio.run(run())


def test_turns_that_nobody_takes_go_to_the_next():
    async def run():
        turns, had = Turns(1), []
        await turns.take("a")

        async def one(who):
            await turns.take(who[0])
            had.append(who)
            await asyncio.sleep(0)
            turns.give()
        waiting = {who: asyncio.ensure_future(one(who)) for who in ("a1", "a2", "a3", "b1", "c1", "c2")}
        await asyncio.sleep(0)
        waiting["a1"].cancel()
        turns.give()
        waiting["c1"].cancel()  # at the moment that its turn may come
        await asyncio.gather(*waiting.values(), return_exceptions=True)
        assert had in (["a2", "b1", "c2", "a3"], ["b1", "c2", "a2", "a3"], ["a2", "b1", "a3", "c2"])
        assert turns._free == 1 and not turns._waiting
        first, second = asyncio.ensure_future(one("x1")), asyncio.ensure_future(one("y1"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert turns._free == 1 and not turns._waiting
    asyncio.run(run())


def test_a_turn_that_comes_to_who_gives_up_is_not_lost():
    async def run():
        turns = Turns(1)
        await turns.take("a")
        waiting = asyncio.ensure_future(turns.take("b"))
        await asyncio.sleep(0)
        turns.give()  # it is theirs
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() and turns._free == 1
    asyncio.run(run())


# ---- What a token says of itself


def encoded(part):
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def token(header=None, signature=b"x" * 256, **claims):
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not ...}
    return ".".join(map(encoded, (header or {"alg": "RS256", "kid": "k"}, said, signature)))


@pytest.mark.parametrize("good", [
    token(), token(aud=AUDIENCE), token(aud=["other", AUDIENCE]), token(exp=NOW - 30), token(exp=NOW + 0.5), token(more={"a": [1]}),
    token({"alg": "ES256"})])
def test_a_token_that_may_be_right_says_whose_it_is(good):
    assert claimed(good, AUDIENCE, NOW) == ("ns", "fleet")


@pytest.mark.parametrize("bad", [
    "", "good", "a.b", "a.b.c", "..", f"{token()}.x", token().rpartition(".")[0], token().rpartition(".")[0] + ".", " " + token(), token() + "!",
    token()[:-2] + "\xe9.", token().replace(".", ",", 1), token(aud="https://kubernetes.default.svc"), token(aud=[]), token(aud=...),
    token(aud=7), token(aud=[AUDIENCE, 7]), token(exp=NOW - 61), token(exp=...), token(exp="tomorrow"), token(exp=None), token(sub=...),
    token(sub="admin"), token(sub="system:serviceaccount:ns"), token(sub="system:serviceaccount::fleet"),
    token(sub="system:serviceaccount:ns:fleet:x"), token(sub="system:node:a"), token({"alg": "none"}), token({"alg": ""}), token({"kid": "k"}),
    token(b"[]"), token(b"{"), token(b"\xff"), ".".join([encoded({"alg": "RS256"}), encoded(b"[" * 4000), "eA"]),
    ".".join([encoded({"alg": "RS256"}), encoded(b'{"x":' * 1500 + b"1" + b"}" * 1500), "eA"]), token(more="x" * TOKEN_BYTES)])
def test_a_token_that_cannot_be_right_says_nothing(bad):
    assert claimed(bad, AUDIENCE, NOW) is None


def test_a_token_is_looked_at_by_the_clock_of_the_wall():
    assert Reviewer(None, wall=lambda: NOW).claimed(token()) == ("ns", "fleet")
    assert Reviewer(None, wall=lambda: NOW + 7200).claimed(token()) is None
    assert Reviewer(None, "other", wall=lambda: NOW).claimed(token()) is None
