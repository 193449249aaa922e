"""A prototype: a new layer written as two functions, and all of the library takes it.

The layer is a radial basis (Broomhead and Lowe 1988): node k answers by how near the input is
to its center, exp(-|x - c_k|^2 / (2 s_k^2)). `init` makes centers and widths, `rbf` is the
equation. That is all there is to write: training, whole runs over seeds, recording,
interventions, ablation, jit, grad and vmap are transformations of functions.

The task is one ring of points within another, which no weighted sum can part.

Claims: recorded nodes equal the equation in NumPy; every seed parts the rings; one node's worth
by `ablate` is what removing it by hand costs; vmap over inputs equals the batch.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _run import run
from sklearn.datasets import make_circles

import jaxnodes as jn

NODES, SEEDS = 12, 8


def init(key, x):
    return {"center": jax.random.normal(key, (NODES, x.shape[-1])), "width": jnp.ones(NODES)}, {}


def rbf(params, state, x, *, key=None, training=False):
    squares = jnp.sum((x[..., None, :] - params["center"]) ** 2, axis=-1)  # (..., NODES)
    return jn.node(jnp.exp(-squares / (2 * params["width"] ** 2)), "near"), state


def main(out: Path) -> dict[str, object]:
    points, inner = make_circles(400, noise=0.1, factor=0.5, random_state=0)
    x, y = np.asarray(points, np.float32), np.asarray(inner, np.float32)[:, None]
    net = jn.Sequential(jn.from_functions(init, rbf), jn.Dense(1))
    options = {"loss": jn.binary_cross_entropy, "epochs": 60, "batch_size": 50}
    options["metrics"] = {"accuracy": jn.binary_accuracy}

    # One network by fit, eight at once by vmap of a whole run.
    result = jn.fit(net, (x, y), key=jax.random.key(0), optimizer=jn.adam(0.05), **options)
    train = jn.make_train(net, optimizer=jn.adam, **options)
    keys = jax.random.split(jax.random.key(1), SEEDS)
    many = jax.vmap(train, in_axes=(0, None, None))(keys, (x, y), 0.05)
    accuracy = float(result.history["accuracy"][-1])
    accuracies = np.asarray(many.history["accuracy"])[:, -1]
    print(f"fit: accuracy {accuracy:.3f}; {SEEDS} seeds by vmap: {accuracies.min():.3f} or more")

    # Its nodes, by name, and each one's worth.
    variables = result.variables
    logits, nodes = jn.record(net.predict)(variables, x)
    print("nodes", {name: value.shape for name, value in nodes.items()})
    accurate = jn.binary_accuracy
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=accurate, nodes=["rbf1/near"])
    worth = np.asarray(drops["rbf1/near"])
    best = int(worth.argmax())
    gate = np.ones(NODES, np.float32)
    gate[best] = 0
    without = jn.intervene(net.predict)({"rbf1/near": gate}, variables, x)
    by_hand = accurate(logits, y) - accurate(without, y)
    print(f"without node {best} accuracy falls by {worth[best]:.3f}; by hand {by_hand:.3f}")

    # Plain JAX: one sample at a time, and how the answer changes with its input.
    one = jax.jit(jax.vmap(lambda row: net.predict(variables, row)[0]))
    slope = jax.jit(jax.vmap(jax.grad(lambda row: net.predict(variables, row)[0])))
    apart = float(np.abs(one(x) - logits[:, 0]).max())
    steepest = float(np.linalg.norm(slope(x), axis=1).max())
    print(f"vmap over samples differs from the batch by {apart:.0e}; steepest slope {steepest:.1f}")

    draw(net, variables, x, y[:, 0], worth, out)
    return {
        "accuracy": accuracy,
        "accuracies": accuracies,
        "params": jax.tree.map(np.asarray, variables[0]["rbf1"]),
        "x": x,
        "recorded": np.asarray(nodes["rbf1/near"]),
        "worth": worth,
        "by_hand": float(by_hand),
        "apart": apart,
    }


def draw(net, variables, x, y, worth, out):
    side = np.linspace(-1.6, 1.6, 81, dtype=np.float32)
    square = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    answers = np.asarray(jn.sigmoid(jn.predict(net, variables, square))).reshape(81, 81)
    figure, axes = jn.plots.panels(2, columns=2, size=(4.0, 3.4))
    image = axes[0].contourf(side, side, answers, np.linspace(0, 1, 11), cmap="RdBu", alpha=0.8)
    for of_class, marker, color in ((0, "o", "white"), (1, "s", "black")):
        shown = x[y == of_class]
        style = {"ms": 3, "mfc": color, "mec": "black", "mew": 0.4, "label": f"class {of_class}"}
        axes[0].plot(*shown.T, marker, **style)
    axes[0].legend(fontsize=8, loc="upper right")
    axes[0].set(xlabel="input 1", ylabel="input 2")
    figure.colorbar(image, ax=axes[0], label="probability of class 1", ticks=[0, 0.5, 1])
    axes[1].bar(np.arange(NODES), worth, color=jn.plots.BLUE)
    axes[1].set(xlabel="node", ylabel="accuracy lost without the node (share)")
    axes[1].set_xticks(np.arange(NODES))
    jn.plots.save(figure, out / "functional_prototype.png")


if __name__ == "__main__":
    run(main, __file__)
