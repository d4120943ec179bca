"""Connections to backends: pools, the state of endpoints, queues, and HTTP/2 towards backends."""
