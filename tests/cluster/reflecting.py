"""A program for test_reflectors: it follows collections of the API server, stands for election, and writes what it sees.

    python reflecting.py PATH...                         {"put": [path, namespace, name, uid, version], "at": seconds}, "gone", "synced"
    python reflecting.py --elect NAMESPACE/NAME IDENTITY DURATION RENEW RETRY
                                                         {"leads": true, "at": ...}, and {"writes": ...} all the time while it leads
TERM ends it, and gives its lease back.
"""
import asyncio
import json
import signal
import sys
import time

import uvloop

from gwfast.kubernetes.client import Client
from gwfast.kubernetes.kubeconfig import from_kubeconfig
from gwfast.kubernetes.lease import Election
from gwfast.kubernetes.reflector import Reflector
from gwfast.observe.log import Log


def say(word: str, what: object, at: float | None = None) -> None:
    print(json.dumps({word: what, "at": at or time.monotonic()}), flush=True)


class Sink:
    def __init__(self, path: str):
        self.path = path

    def put(self, name, seen, raw, before):
        say("put", [self.path, *name, seen.uid, seen.resource_version])

    def gone(self, name):
        say("gone", [self.path, *name])

    def synced(self):
        say("synced", self.path)


async def write(election: Election) -> None:
    """Do what a leader does: look whether it leads, and write."""
    while True:
        at = time.monotonic()
        if election.leads:
            say("writes", election.identity, at)
        await asyncio.sleep(0.02)


async def main(arguments: list[str]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    client = Client(from_kubeconfig(), log=Log("json"))
    election = None
    if arguments[0] == "--elect":
        (namespace, name), times = arguments[1].split("/"), map(float, arguments[3:])
        election = Election(client, namespace, name, arguments[2], lambda leads: say("leads", leads),
                            **dict(zip(("duration", "renew", "retry"), times, strict=True)))
        tasks = [asyncio.create_task(run) for run in (election.run(), write(election))]
    else:
        tasks = [asyncio.create_task(Reflector(client, path, Sink(path)).run()) for path in arguments]
    await ended.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if election is not None:
        await election.release()
    await client.close()


uvloop.run(main(sys.argv[1:]))
