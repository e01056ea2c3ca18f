"""Benchmarks of this client and its peers: `make bench` writes docs/benchmarks.md."""
