"""What a bias does: relu(2x + b) for b from -2 to 2.

The weight says how steeply a node answers, the bias where it begins to: at x = -b / 2. Five
nodes that differ in nothing but their biases are one dense layer; recorded over many inputs
they also show how often a bias lets a node be on.

Claims: each node turns on at -b / 2, and over inputs from a standard normal distribution it is
on as often as the normal distribution says, with chance Phi(b / 2).
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _run import run

import jaxnodes as jn

BIASES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def main(out: Path) -> dict[str, np.ndarray]:
    net = jn.Dense(len(BIASES), "relu")
    variables = {"w": jnp.full((1, len(BIASES)), 2.0), "b": jnp.array(BIASES)}, {}

    x = np.linspace(-3, 3, 601, dtype=np.float32)[:, None]  # (601, 1)
    outputs = np.asarray(net.predict(variables, x))  # (601, 5)
    turns_on = x[(outputs > 0).argmax(axis=0) - 1, 0]  # the last input that leaves it off

    inputs = jax.random.normal(jax.random.key(0), (20_000, 1))
    (stats,) = jn.analysis.statistics(net.predict, variables, inputs, batch_size=20_000).values()
    chance = np.array([(1 + math.erf(b / 2 / math.sqrt(2))) / 2 for b in BIASES])

    print("relu(2x + b)")
    print("   b  turns on at  on for standard normal inputs (measured, Phi(b/2))")
    for b, at, active, p in zip(BIASES, turns_on, stats.active, chance, strict=True):
        print(f"{b:4.0f}  x = {at:7.2f}  {active:6.1%} {p:6.1%}")

    figure = jn.plots.bias_effect(BIASES, weight=2.0, activation="relu")
    jn.plots.save(figure, out / "bias_effect.png")
    return {"x": x[:, 0], "outputs": outputs, "turns_on": turns_on, "active": stats.active}


if __name__ == "__main__":
    run(main, __file__)
