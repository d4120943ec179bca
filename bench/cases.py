"""The cases: a line or two each. `python -m bench NAME` runs one, `python -m bench` all of them.

Goals rest on `small`, `latency`, the cases of 100,000 routes and of changes: these have more and longer rounds.
"""
from functools import partial

from bench.kinds import (
    Case,
    Change,
    Churn,
    Grow,
    Handshakes,
    Idle,
    Killed,
    Late,
    Latency,
    Logged,
    Routes,
    Start,
    Throughput,
    Volume,
    Workers,
)
from bench.scenes import FILTERS, PYTHON, RETRY, TIMEOUTS, features, headers, hosts, listener_sets, paths, plain, unary
from bench.wire import CLEAR, GRPC, H2, H2C, TLS

KIB, MIB = 1 << 10, 1 << 20

CASES: dict[str, Case] = {each.name: each for each in (
    Throughput(name="small", about="small requests, connections stay open", rounds=7, seconds=1.0),
    Latency(name="latency", about="small requests at 60 % of nginx's highest rate, open loop"),
    Latency(name="latency-3000", about="small requests at 3,000 a second, open loop", rate=3000, rounds=3),
    Throughput(name="features", about="filters; timeouts, retry and health that do not fire; beside a rule without", alone=True,
               scene=partial(features, without={}, filters={"filters": FILTERS}, timeouts={"timeouts": TIMEOUTS},
                             retry={"retry": RETRY}, both={"timeouts": TIMEOUTS, "retry": RETRY}, health={}),
               rounds=31, seconds=0.4),
    Throughput(name="python", about="filters in Python: one that does nothing, one that reads a field and sets one; beside a "
               "rule without", alone=True, scene=partial(features, without={}, empty={"filters": PYTHON["empty"]},
                                                         tenant={"filters": PYTHON["tenant"]}), rounds=7),
    Logged(name="json-log", about="small requests, each a line of JSON in a file; and without", rounds=7),
    Late(name="late", about="a 504 at the limit of its rule, nothing else to do"),
    Throughput(name="connect", about="a connection for every request", close=True),
    *(Throughput(name=f"down-{name}", about=f"bodies of {name} to clients", size=size)
      for name, size in (("1k", KIB), ("64k", 64 * KIB), ("1m", MIB))),
    *(Throughput(name=f"up-{name}", about=f"bodies of {name} from clients", scene=partial(plain, size))
      for name, size in (("1k", KIB), ("64k", 64 * KIB), ("1m", MIB))),
    Throughput(name="workers-2", about="two workers, no core of their own", workers=2),
    Throughput(name="tls-h1", about="HTTP/1.1 over TLS, connections stay open", wire=TLS, rounds=7, seconds=1.0),
    *(Throughput(name=name, about=f"{about}, 16 connections of 16 streams", wire=wire, scene=scene, size=size, connections=16,
                 streams=16, rounds=7, seconds=1.0)
      for name, about, wire, scene, size in (
          ("tls-h2", "HTTP/2 over TLS", H2, plain, 35), ("h2c", "HTTP/2 in clear", H2C, plain, 35),
          ("grpc", "unary gRPC calls in clear, HTTP/2 on both sides", GRPC, unary, 64))),
    *(Handshakes(name=f"handshake-{name}", about=f"TLS {version} handshakes, {what}", version=version, resume=resume, rounds=5,
                 seconds=1.0)
      for name, version, what, resume in (("full", "1.3", "none resumed", False), ("resumed", "1.3", "resumed", True),
                                          ("full-12", "1.2", "none resumed", False), ("resumed-12", "1.2", "resumed", True))),
    *(Volume(name=f"volume-{way}-{name}", about=f"1 GiB {what}, {how}", wire=wire, **more)
      for name, how, wire in (("clear", "HTTP/1.1 in clear", CLEAR), ("tls", "HTTP/1.1 over TLS", TLS),
                              ("h2", "HTTP/2 over TLS", H2))
      for way, what, more in (("down", "to clients", {"size": 64 * MIB}),
                              ("up", "from clients", {"scene": partial(plain, 64 * MIB)}))),
    *(Idle(name=f"idle-{name}", about=f"1,000 connections that are silent, {how}", wire=wire, connections=1_000, silent=3.0,
           rounds=1, seconds=1.0)
      for name, how, wire in (("tls", "HTTP/1.1 over TLS", TLS), ("h2", "HTTP/2 over TLS", H2), ("h2c", "HTTP/2 in clear", H2C))),
    Idle(name="idle", about="10,000 connections that are open and silent", rounds=1, seconds=1.0),
    *(Routes(name=f"{name}-{count}", about=f"{count:,} routes by {name}: one alone, the first, the last", count=count,
             shape=shape, rounds=rounds, seconds=seconds, setup=setup)
      for count, rounds, seconds, setup in ((100, 2, 0.2, 3), (1_000, 2, 0.2, 3), (10_000, 2, 0.2, 6), (100_000, 5, 0.4, 50))
      for name, shape in (("path", paths), ("host", hosts), ("header", headers))),
    Start(name="start-1000", about="1,000 routes: start to first answer, memory", scene=partial(paths, 1_000), rounds=5),
    Start(name="start-5000", about="5,000 routes: start to first answer, memory", scene=partial(paths, 5_000)),
    Start(name="sets-40000", about="40,000 routes on 2,500 ListenerSets", scene=partial(listener_sets, 2_500, 16), setup=15,
          rounds=2),
    Workers(name="workers-memory", about="what a worker holds beside 0, 1 and 3 others, 5,000 routes",
            scene=partial(paths, 5_000), setup=10),
    Change(name="change-5000", about="one route of 5,000 changed", scene=partial(paths, 5_000), budget=4),
    Change(name="change-100000", about="one route of 100,000 changed", scene=partial(paths, 100_000), setup=40, budget=10),
    Grow(name="grow", about="routes added one by one to 3,000", scene=partial(paths, 1)),
    Churn(name="churn-routes", about="routes changed every 200 ms under load", scene=partial(paths, 100)),
    Churn(name="churn-endpoints", about="endpoints changed every 200 ms under load", what="endpoints"),
    Killed(name="killed", about="one of two backends killed and back"),
)}
