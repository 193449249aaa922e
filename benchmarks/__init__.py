"""Measurements beside other ways of doing the same: `python -m benchmarks`."""

#: By name, the module that holds its `WORKLOAD`.
WORKLOADS = {"W5": "benchmarks.w5.workload"}
