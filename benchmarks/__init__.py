"""Measurements beside other ways of doing the same: `python -m benchmarks`."""

#: By name, the place of a workload: a module that holds `WORKLOAD`, or `module:NAME`.
WORKLOADS = {
    "W1": "benchmarks.w1.workload",
    "W2": "benchmarks.w2.workload",
    "W3-lstm": "benchmarks.w3.workload:LSTM",
    "W3-lstm-gradient": "benchmarks.w3.workload:LSTM_GRADIENT",
    "W3-gru": "benchmarks.w3.workload:GRU",
    "W3-gru-gradient": "benchmarks.w3.workload:GRU_GRADIENT",
    "W4-whole": "benchmarks.w4.workload:WHOLE",
    "W4-whole-gradient": "benchmarks.w4.workload:WHOLE_GRADIENT",
    "W4-causal": "benchmarks.w4.workload:CAUSAL",
    "W4-causal-gradient": "benchmarks.w4.workload:CAUSAL_GRADIENT",
    "W5": "benchmarks.w5.workload",
    "W6": "benchmarks.w6.workload",
    "W7-large": "benchmarks.w7.workload:LARGE",
    "W7-many": "benchmarks.w7.workload:MANY",
    "W8-cold": "benchmarks.w8.workload:COLD",
    "W8-warm": "benchmarks.w8.workload:WARM",
    "W9-import": "benchmarks.w9.workload:IMPORT",
    "W9-help": "benchmarks.w9.workload:HELP",
}
