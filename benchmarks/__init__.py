"""Measurements beside other ways of doing the same: `python -m benchmarks`."""
