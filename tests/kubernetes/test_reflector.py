"""A list that is kept up to date, whatever happens to the API server and to what lies between."""
import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from api import PATH, Api, Record, agreed, cut, refusal
from hypothesis import given
from hypothesis import strategies as st
from servers import Exchange, run, serving, until

from gwfast import limits
from gwfast.kubernetes.access import Access
from gwfast.kubernetes.client import Client
from gwfast.kubernetes.reflector import Reflector
from gwfast.kubernetes.seen import Owner


@pytest.fixture(autouse=True, scope="module")
def hurry():
    before = limits.API_BACKOFF, limits.API_BACKOFF_MOST
    limits.API_BACKOFF, limits.API_BACKOFF_MOST = 0.0005, 0.005
    yield
    limits.API_BACKOFF, limits.API_BACKOFF_MOST = before


class Bugs:
    """A log that keeps what is told."""

    def __init__(self):
        self.bugs, self.lines = [], []

    def bug(self, msg, error, **fields):
        self.bugs.append(error)

    def debug(self, msg, **fields):
        pass

    def info(self, msg, **fields):
        self.lines.append(msg)

    warning = error = info


@asynccontextmanager
async def reflecting(api: Api | None = None, sink: Record | None = None, start: bool = True, **options):
    """A reflector of an Api; no rule of a Sink may have been broken at the end, and no connection left."""
    api, sink, log = api or Api(), sink or Record(), Bugs()
    async with serving(api) as server:
        client = Client(Access(server.url), log=log)
        reflector = Reflector(client, PATH, sink, **options)
        task = asyncio.create_task(reflector.run())
        try:
            yield api, reflector, sink
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()
            await until(lambda: server.open == 0)
        assert not log.bugs, log.bugs


def told(sink: Record) -> list[str]:
    """What was told since the last time, in short: +added, ~changed, -gone, synced."""
    words = [{"put": "+" if len(each) > 3 and each[3] is None else "~", "gone": "-"}.get(each[0], "synced") + (each[1][1] if len(each) > 1 else "")
             for each in sink.told]
    sink.told.clear()
    return words


def test_a_list_and_what_changes():
    async def test():
        api = Api()
        for name in ("a", "b"):
            api.create(name)
        async with reflecting(api) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            assert told(sink) == ["+a", "+b", "synced"]
            api.create("c", labels={"app": "x"})
            api.change("a")
            api.delete("b")
            await agreed(api, reflector, sink)
            assert told(sink) == ["+c", "~a", "-b"]
            assert reflector.version == str(api.revision) and (api.lists, api.watches) == (1, 1)
    run(test)


def test_what_is_handed_over():
    async def test():
        api = Api()
        owner = {"apiVersion": "v1", "kind": "Gateway", "name": "g", "uid": "gu", "controller": True, "blockOwnerDeletion": True}
        api.create("a", labels={"app": "x"}, annotations={"big": "y" * 1000}, ownerReferences=[owner])
        async with reflecting(api, keep_status=True) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            seen, raw = sink.there["n", "a"]
            assert json.loads(raw) == {key: value for key, value in api.objects["n", "a"].items() if key not in ("kind", "apiVersion")}
            assert (seen.uid, seen.generation, seen.deletion_timestamp, seen.status) == ("u1", 1, "", b"")
            assert seen.labels == {"app": "x"} and seen.owners == (Owner("v1", "Gateway", "g", "gu", True),)
            api.change("a", status={"ok": [1, 2]})
            await agreed(api, reflector, sink)
            after, raw = sink.there["n", "a"]
            assert after.status == b'{"ok":[1,2]}' and after.content == seen.content and json.loads(raw) == api.objects["n", "a"]
            content = seen.content
            for change in ({}, {"labels": {"app": "y"}}, {"annotations": {"a": "b"}}, {"ownerReferences": []}, {"finalizers": ["f"]},
                           {"deletionTimestamp": "2026-01-01T00:00:00Z"}):
                api.change("a", **change)
                await agreed(api, reflector, sink)
                now = sink.there["n", "a"][0]
                assert now.content != content and now.status == after.status, change
                content = now.content
            assert now.deletion_timestamp == "2026-01-01T00:00:00Z" and now.owners == ()
    run(test)


def test_objects_without_a_generation_have_changed_each_time():
    async def test():
        api = Api()
        api.create("a", generation=0)
        async with reflecting(api) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            before = sink.there["n", "a"][0]
            api.change("a", status={"x": 1})
            await agreed(api, reflector, sink)
            assert sink.there["n", "a"][0].content != before.content and sink.there["n", "a"][0].status == b""
    run(test)


def test_pages_and_selectors():
    async def test():
        api = Api()
        for number in range(25):
            api.create(f"a{number:02}")
        async with reflecting(api, page=10, label_selector="app in (a,b)", field_selector="type=kubernetes.io/tls") as (_, reflector, sink):
            await agreed(api, reflector, sink)
            assert len(sink.there) == 25 and (api.lists, api.pages, sink.lists) == (1, 3, 1)
            for asked in api.asked:
                assert asked["labelSelector"] == "app in (a,b)" and asked["fieldSelector"] == "type=kubernetes.io/tls"
            first, second, third, watch = api.asked
            assert first["limit"] == second["limit"] == "10" and "resourceVersion" not in first and second["continue"] != third["continue"]
            assert watch["allowWatchBookmarks"] == "true" and watch["resourceVersion"] == str(api.revision)
            assert limits.API_WATCH_SECONDS <= int(watch["timeoutSeconds"]) <= 2 * limits.API_WATCH_SECONDS
    run(test)


@pytest.mark.parametrize("supported", [True, False])
def test_metadata_only(supported):
    async def test():
        api = Api()
        api.knows_metadata = supported
        api.create("a")
        async with reflecting(api, metadata_only=True) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            assert json.loads(sink.there["n", "a"][1]).keys() == ({"metadata"} if supported else {"metadata", "spec"})
            lists, watches = (each["accept"] for each in api.asked)
            assert lists == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
            assert watches == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
    run(test)


@pytest.mark.parametrize("how", ["end", "cut", "half a line", "500", "429", "504"])
def test_a_watch_that_ends_goes_on_from_the_version_last_seen(how):
    async def test():
        async with reflecting() as (api, reflector, sink):
            await until(lambda: api.watching)
            api.create("a")
            api.bookmark()
            await until(lambda: reflector.version == str(api.revision))
            version = reflector.version
            api.drop(how)
            await until(lambda: api.watches == 2)
            assert api.asked[-1]["resourceVersion"] == version
            api.create("b")
            await agreed(api, reflector, sink)
            assert told(sink) == ["synced", "+a", "+b"] and sink.lists == 1
    run(test)


@pytest.mark.parametrize("by_event", [410, 500, 0])
def test_a_version_that_has_expired_lists_anew(by_event):
    async def test():
        async with reflecting() as (api, reflector, sink):
            api.expired_by_event = by_event
            for name in ("same", "changed", "vanished", "replaced"):
                api.create(name)
            await agreed(api, reflector, sink)
            told(sink)
            api.refusals = [refusal(503)] * 3  # nobody watches meanwhile
            api.drop("cut")
            api.change("changed")
            for name in ("vanished", "replaced"):
                api.delete(name)
            api.create("replaced")
            api.create("new")
            api.compact()
            await agreed(api, reflector, sink)
            words = told(sink)
            assert sorted(words) == ["+new", "+replaced", "-replaced", "-vanished", "synced", "~changed"]
            assert words[-1] == "synced" and words.index("-replaced") < words.index("+replaced")
    run(test)


@pytest.mark.parametrize("refusals", [[refusal(503)] * 30, [refusal(429, retry_after="0")] * 30, [cut] * 30, [refusal(500)] * 30,
                                      [refusal(403)] * 3, [refusal(401)] * 3])
def test_an_api_server_that_comes_back_does_not_list_anew(refusals):
    async def test():
        async with reflecting() as (api, reflector, sink):
            api.create("a")
            await agreed(api, reflector, sink)
            lists = sink.lists
            api.refusals = list(refusals)
            api.drop("cut")
            await until(lambda: not api.refusals)
            api.create("b")
            await agreed(api, reflector, sink)
            assert sink.lists == lists and reflector.known.keys() == {("n", "a"), ("n", "b")}
    run(test)


def test_a_collection_that_is_absent_or_forbidden():
    async def test():
        api = Api()
        api.create("a")
        states = []
        api.refusals = [refusal(404), refusal(404), refusal(403), refusal(401), refusal(404)]
        for number, refuse in enumerate(api.refusals):
            async def noted(x: Exchange, refuse=refuse) -> bool:
                states.append(reflector.state)
                return await refuse(x)
            api.refusals[number] = noted
        async with reflecting(api) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            assert states == ["listing", "absent", "absent", "forbidden", "forbidden"]
    run(test)


def test_a_collection_that_goes_keeps_what_is_known_until_it_is_forgotten():
    async def test():
        async with reflecting() as (api, reflector, sink):
            api.create("a")
            await agreed(api, reflector, sink)
            told(sink)
            api.refusals = [refusal(404)] * 10000
            api.drop("end")
            await until(lambda: reflector.state == "absent")
            assert not told(sink) and reflector.known
            reflector.forget()
            assert told(sink) == ["-a"] and not reflector.synced
            api.refusals.clear()
            await agreed(api, reflector, sink)
            assert told(sink) == ["+a", "synced"]
    run(test)


def test_an_etcd_that_was_restored_is_listed_anew():
    async def test():
        async with reflecting() as (api, reflector, sink):
            api.create("a")
            api.create("b")
            snapshot = api.snapshot()
            api.change("a")
            api.delete("b")
            api.create("c")
            await agreed(api, reflector, sink)
            told(sink)
            api.restore(snapshot)
            api.change("a", labels={"another": "past"})  # has the version that was seen of another past
            await agreed(api, reflector, sink)
            await until(lambda: sink.there["n", "a"][0].labels == {"another": "past"})
            assert sorted(told(sink)) == ["+a", "+b", "-c", "synced"]
    run(test)


def test_a_watch_that_ends_in_time_asks_nothing_else(monkeypatch):
    monkeypatch.setattr(limits, "API_WATCH_SECONDS", 0)

    async def test():
        async with reflecting() as (api, reflector, sink):
            await until(lambda: api.watching)
            for count in range(2, 5):
                api.create(f"a{count}")
                api.drop("end")
                await until(lambda: api.watches == count and api.watching)  # noqa: B023
            await agreed(api, reflector, sink)
            assert (api.lists, api.pages) == (1, 1)
    run(test)


def test_an_event_that_makes_no_sense_lists_anew():
    async def test():
        async with reflecting() as (api, reflector, sink):
            api.create("a")
            await agreed(api, reflector, sink)
            api.drop("garbage")
            await until(lambda: sink.lists == 2)
            api.create("b")
            await agreed(api, reflector, sink)
            assert told(sink) == ["+a", "synced", "synced", "+b"] or told(sink) == []
    run(test)


def test_an_event_that_is_too_long_is_listed(monkeypatch):
    monkeypatch.setattr(limits, "API_LINE_BYTES", 10_000)

    async def test():
        async with reflecting() as (api, reflector, sink):
            await until(lambda: api.watching)
            api.create("big", annotations={"x": "y" * 2_000_000})
            await agreed(api, reflector, sink)
            assert sink.lists == 2
    run(test)


def test_pages_that_are_too_long_become_smaller(monkeypatch):
    monkeypatch.setattr(limits, "API_ANSWER_BYTES", 10_000)

    async def test():
        api = Api()
        for number in range(20):
            api.create(f"a{number:02}", annotations={"x": "y" * (3000 if number > 10 else 10)})
        async with reflecting(api, page=16) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            assert len(sink.there) == 20 and sink.lists == 1
            assert {asked.get("limit") for asked in api.asked} == {"16", "4", "1", None}
    run(test)


def test_a_list_that_takes_too_long_is_made_in_one_piece():
    async def test():
        api = Api()
        for number in range(30):
            api.create(f"a{number:02}")

        async def expired(x: Exchange) -> bool:
            if x.query.get("continue"):
                api.compact()
                api.delete(f"a{len(api.objects) - 1:02}")
            return True
        api.refusals = [expired] * 2
        async with reflecting(api, page=10) as (_, reflector, sink):
            await agreed(api, reflector, sink)
            assert len(sink.there) == 29 and [asked.get("limit") for asked in api.asked if not asked.get("watch")] == ["10", "10", None]
    run(test)


def test_a_long_page_leaves_the_loop_to_others():
    async def test():
        api = Api()
        for number in range(1000):
            api.create(f"a{number:04}")
        turns: dict[int, int] = {}  # of the loop, by how many objects were known

        async with reflecting(api, page=1000) as (_, reflector, sink):
            while not reflector.synced:
                turns[len(sink.there)] = turns.get(len(sink.there), 0) + 1
                await asyncio.sleep(0)
            assert api.pages == 1 and len(turns) >= 10
    run(test)


def test_a_watch_that_is_silent_begins_again(monkeypatch):
    monkeypatch.setattr(limits, "API_SILENT", 0.1)

    async def test():
        async with reflecting() as (api, reflector, sink):
            await until(lambda: api.watches >= 3)
            api.create("a")
            await agreed(api, reflector, sink)
            assert sink.lists == 1
    run(test)


def test_a_sink_that_fails_is_told_of_and_the_rest_goes_on():
    class Failing(Record):
        def put(self, name, seen, raw, before):
            super().put(name, seen, raw, before)
            if name[1] == "bad":
                raise ValueError("bad")

    async def test():
        api, log = Api(), Bugs()
        for name in ("a", "bad", "c"):
            api.create(name)
        async with serving(api) as server:
            client = Client(Access(server.url), log=log)
            sink = Failing()
            reflector = Reflector(client, PATH, sink)
            task = asyncio.create_task(reflector.run())
            await agreed(api, reflector, sink)
            assert [str(bug) for bug in log.bugs] == ["bad"] and sink.lists == 1
            task.cancel()
            await client.close()
    run(test)


# ---- anything


NAMES = st.sampled_from("abcde")
STEPS = st.lists(st.one_of(
    st.tuples(st.sampled_from(["create", "change", "status", "label", "delete", "replace"]), NAMES),
    st.tuples(st.just("drop"), st.sampled_from(["end", "cut", "half a line", "garbage", "500", "410", "504"])),
    st.tuples(st.just("refuse"), st.sampled_from([404, 403, 401, 410, 429, 500, 503, 0])),
    st.tuples(st.sampled_from(["bookmark", "compact", "compact by status", "settle", "turn", "remember", "restore"]), st.just("")),
), max_size=40)


@given(STEPS, st.sampled_from([1, 2, 500]))
def test_any_sequence_of_events_ends_in_the_right_state(steps, page):
    async def test():
        async with reflecting(page=page) as (api, reflector, sink):
            snapshots = []
            for step, what in steps:
                await _step(api, reflector, sink, snapshots, step, what)
            await agreed(api, reflector, sink)
            before = list(sink.told)
            api.drop("cut")
            api.create("last", "another")
            await agreed(api, reflector, sink)
            assert sink.there.keys() == api.objects.keys() == reflector.known.keys()
            more = [each for each in sink.told[len(before):] if each[0] != "synced"]
            assert [each[:2] for each in more] == [("put", ("another", "last"))], "nothing is told again"
            for name, (_, raw) in sink.there.items():
                thing = json.loads(raw)
                assert thing["metadata"] == api.objects[name]["metadata"] and thing.get("status") == api.objects[name].get("status")
    run(test)


async def _step(api: Api, reflector: Reflector, sink: Record, snapshots: list, step: str, what) -> None:
    there = ("n", what) in api.objects
    match step:
        case "create" if not there:
            api.create(what)
        case "change" if there:
            api.change(what)
        case "status" if there:
            api.change(what, status={"at": api.revision})
        case "label" if there:
            api.change(what, labels={"at": str(api.revision)})
        case "delete" if there:
            api.delete(what)
        case "replace" if there:
            api.delete(what)
            api.create(what)
        case "drop":
            api.drop(what)
        case "refuse":
            api.refusals.append(refusal(what, retry_after="0") if what else cut)
        case "bookmark":
            api.bookmark()
        case "compact" | "compact by status":
            api.expired_by_event = 410 if step == "compact" else 0
            api.compact()
        case "settle":
            await agreed(api, reflector, sink)
        case "turn":
            for _ in range(3):
                await asyncio.sleep(0)
        case "remember":
            snapshots.append(api.snapshot())
        case "restore" if snapshots:
            # What nobody saw before it was undone cannot be told apart, nor a past that has as many revisions as the other.
            await agreed(api, reflector, sink)
            lists, snapshot = sink.lists, snapshots.pop()
            lost = int(reflector.version) > snapshot[0]
            api.restore(snapshot)
            await until(lambda: sink.lists > lists or not lost)
