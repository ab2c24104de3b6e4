"""Measures redsched on this machine: `python -m benchmarks`."""
