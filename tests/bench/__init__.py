"""Benchmarks: the server beside others, on loopback. Run by bin/bench."""
