"""Activations side by side: their curves, where they saturate, and how relu nodes die.

A sigmoid or tanh node with a large weighted sum sits at a limit, where its slope is next to
nothing. A relu node whose weighted sum is below zero for every sample answers zero, has no slope
at all, and stays that way: it is dead. One step too large is enough, if it leaves the bias far
below zero. Here all biases of a layer start at -4, and digits are to be learned nonetheless.
`jn.analysis.statistics` counts the nodes that are saturated or dead.

Claims: weights ten times as large bring most values of sigmoid and tanh nodes near a limit.
Every relu node is dead before and after training, and the network guesses; under leaky relu,
whose slope below zero is 0.01, most nodes come back, and it reads 95 % of the digits.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

WIDTH, BIAS = 64, -4.0


def saturation(name, limits, x):
    """How near their limits values are, and the mean slope, for weights of size 1 and 10."""
    net, shares, slopes = jn.Dense(WIDTH, name, w_init="lecun_normal"), [], []
    params, _ = net.init(jax.random.key(1), x)
    slope = jax.jit(jax.vmap(jax.grad(jn.activation(name))))
    for size in (1, 10):
        larger = {"w": size * np.asarray(params["w"]), "b": np.asarray(params["b"])}
        stats = jn.analysis.statistics(net.predict, (larger, {}), x, limits=limits)["node"]
        shares.append(float(stats.near_limit.mean()))
        slopes.append(float(slope((x @ larger["w"]).ravel()).mean()))
    return shares, slopes


def train(name, parts):
    """Trains from low biases: nodes never on before and after, those dead, and test accuracy."""
    net = jn.Sequential(jn.Dense(WIDTH, name, b_init=jn.constant(BIAS)), jn.Dense(10))
    start = jax.jit(net.init)(jax.random.key(0), parts.train.x[:1])
    result = jn.fit(
        net,
        parts.train[:2],
        key=jax.random.key(0),
        start=start,
        loss=jn.cross_entropy,
        optimizer=jn.adam(0.01),
        epochs=15,
        batch_size=64,
    )
    off = []
    for variables in (start, result.variables):
        options = {"nodes": ["dense1"], "batch_size": 2000}
        stats = jn.analysis.statistics(net.predict, variables, parts.train.x, **options)["dense1"]
        off.append(int((stats.active == 0).sum()))
    read = np.asarray(jn.predict(net, result.variables, parts.test.x)).argmax(axis=1)
    return *off, int(stats.dead.sum()), float(np.mean(read == parts.test.y))


def main(out: Path) -> dict[str, object]:
    x = np.random.default_rng(0).normal(size=(256, 64)).astype(np.float32)
    near, slopes = {}, {}
    print("weighted sums of size   1                10")
    for name, limits in (("sigmoid", (0, 1)), ("tanh", (-1, 1))):
        near[name], slopes[name] = saturation(name, limits, x)
        both = zip(near[name], slopes[name], strict=True)
        shown = "  ".join(f"{share:4.0%}, slope {slope:.2f}" for share, slope in both)
        print(f"{name:>8} near a limit   {shown}")

    parts = jn.data.split(jn.data.digits(), test=0.2)
    before, after, dead, accuracy = {}, {}, {}, {}
    print(f"hidden biases start at {BIAS:g}; nodes never above zero, of {WIDTH}, and test accuracy")
    for name in ("relu", "leaky_relu"):
        before[name], after[name], dead[name], accuracy[name] = train(name, parts)
        counts = f"{before[name]} before training, {after[name]:2} after ({dead[name]} dead)"
        print(f"{name:>10}  {counts}  accuracy {accuracy[name]:.3f}")

    figure = jn.plots.activation_functions()
    figure.set_size_inches(10.4, 4.6)
    ax = figure.add_subplot(2, 4, 8)
    ax.spines[["top", "right"]].set_visible(False)
    colors = [jn.plots.ORANGE, jn.plots.BLUE]
    ax.bar(list(after), list(after.values()), color=colors, width=0.5)
    for i, name in enumerate(after):
        ax.text(i, after[name] + 2, f"{accuracy[name]:.0%} right", ha="center", fontsize=9)
    ax.set_title(f"biases began at {BIAS:g}", fontsize=11)
    ax.set(xlabel="trained with", ylabel=f"nodes never on (of {WIDTH})", ylim=(0, 72))
    ax.set_xlim(-0.6, 1.6)
    jn.plots.save(figure, out / "activations_tour.png")
    return {
        "near_limit": near,
        "slopes": slopes,
        "before": before,
        "after": after,
        "dead": dead,
        "accuracy": accuracy,
    }


if __name__ == "__main__":
    run(main, __file__)
