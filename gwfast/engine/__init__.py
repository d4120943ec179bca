"""What a worker runs on: its event loop, its clocks, its clients' sockets, its counters and its log."""
