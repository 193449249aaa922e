"""Initializers: what becomes of a signal on its way through fifty layers.

Each layer multiplies the size of its input by some factor, and fifty factors are multiplied
with each other. With n inputs of mean square q, and weights of variance v,

    relu:   q' = n v q / 2              He, v = 2 / n:      q' = q
    tanh:   q' = E[tanh(sqrt(n v q) z)^2],  z normal        Xavier, v = 1 / n:  slowly to zero
    0.01 x normal, as many begin:  v = 0.0001         n = 256:  q' = 0.0128 q

Claims: the measured sizes follow these equations. He keeps a relu network's signal, to a factor of
a few at this width; under Xavier a tanh network's shrinks to a hundredth, slower and slower, and
a relu network's by half in each layer; of 0.01 x normal nothing is left that float32 can hold.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

LAYERS, WIDTH, SAMPLES = 50, 256, 256
CASES = {
    "He, relu": ("relu", jn.he_normal),
    "Xavier, tanh": ("tanh", jn.xavier_normal),
    "Xavier, relu": ("relu", jn.xavier_normal),
    "0.01 x normal, relu": ("relu", jn.normal(0.01)),
}


def measured(activation, w_init, key, x):
    """The mean square of the signal behind each layer, (LAYERS,)."""
    net = jn.Repeat(jn.Dense(WIDTH, activation, w_init=w_init), LAYERS)  # a stack, scanned
    _, nodes = jn.record(net.predict)(net.init(key, x), x)
    (values,) = nodes.values()  # (layers, samples, width)
    return np.mean(np.square(np.asarray(values, float)), axis=(1, 2))


def expected(activation, variance):
    """The same by the equations above: infinitely wide, but exactly."""
    z, weights = np.polynomial.hermite_e.hermegauss(101)  # the mean over a normal z
    weights = weights / weights.sum()
    function = np.tanh if activation == "tanh" else lambda u: np.maximum(u, 0)
    sizes, q = [], 1.0
    for _ in range(LAYERS):
        q = weights @ function(np.sqrt(WIDTH * variance * q) * z) ** 2
        sizes.append(q)
    return np.array(sizes)


def main(out: Path) -> dict[str, object]:
    key, x_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (SAMPLES, WIDTH))
    variances = {jn.he_normal: 2 / WIDTH, jn.xavier_normal: 1 / WIDTH}
    sizes, theory = {}, {}
    print(f"mean square of the signal, 1 at the input, {LAYERS} layers of {WIDTH} nodes")
    print("                       layer 1  layer 10  layer 25  layer 50  expected at 50")
    for name, (activation, w_init) in CASES.items():
        sizes[name] = measured(activation, w_init, key, x)
        theory[name] = expected(activation, variances.get(w_init, 1e-4))
        shown = "".join(f"{sizes[name][layer - 1]:10.1e}" for layer in (1, 10, 25, 50))
        print(f"{name:<20}{shown}{theory[name][-1]:16.1e}")
    gone = int(np.argmax(sizes["0.01 x normal, relu"] == 0)) + 1
    print(f"of 0.01 x normal's signal float32 holds only zeros from layer {gone} on")

    figure, (ax,) = jn.plots.panels(1, size=(5.6, 3.8))
    layers = np.arange(1, LAYERS + 1)
    colors = (jn.plots.BLUE, jn.plots.GREEN, jn.plots.PURPLE, jn.plots.ORANGE)
    for (name, size), color in zip(sizes.items(), colors, strict=True):
        alive = size > 0
        ax.plot(layers[alive], size[alive], "o", ms=3.5, color=color, label=name)
        ax.plot(layers, theory[name], "-", lw=1, color=color)
    ax.set(xlabel="layer", ylabel="mean square of the signal (input: 1)", yscale="log")
    ax.set(ylim=(1e-100, 1e10), xlim=(0, LAYERS + 1), yticks=10.0 ** np.arange(-100, 1, 20))
    ax.legend(frameon=False, title="dots measured, lines expected", loc="lower left")
    jn.plots.save(figure, out / "initialisers.png")
    return {"sizes": sizes, "theory": theory, "gone_at_layer": gone}


if __name__ == "__main__":
    run(main, __file__)
