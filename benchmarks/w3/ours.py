"""`jn.LSTM` and `jn.GRU`."""

import numpy as np

import jaxnodes as jn
from benchmarks.w3.problem import NODES, jitted, problem


def make(kind, gradient):
    it = problem(kind)
    layer = {"lstm": jn.LSTM, "gru": jn.GRU}[kind](NODES)
    b = it.b if kind == "lstm" else np.concatenate([it.b, np.zeros(NODES, np.float32)])
    params = {"w_i": it.w_i, "w_h": it.w_h, "b": b}

    def forward(params, x):
        return layer.apply(params, {}, x)[0]

    def names(by):
        return by["w_i"], by["w_h"], by["b"][: len(it.b)]

    return jitted(forward, params, it, gradient, names)
