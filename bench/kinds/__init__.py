"""How a case is measured: one class for each kind of figure; cases.py says which are asked for."""
from bench.kinds.base import Case
from bench.kinds.changing import Change, Churn, Grow, Killed
from bench.kinds.holding import Idle, Start, Workers
from bench.kinds.tls import Handshakes, Volume
from bench.kinds.traffic import Late, Latency, Logged, Routes, Throughput

__all__ = ["Case", "Change", "Churn", "Grow", "Handshakes", "Idle", "Killed", "Late", "Latency", "Logged", "Routes", "Start",
           "Throughput", "Volume", "Workers"]
