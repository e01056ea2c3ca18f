"""Measures this client beside its peers: `make bench`. docs/benchmarks.md is what comes out."""
