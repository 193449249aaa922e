"""Logic gates: AND, OR and XOR by the smallest of networks, 2-3-1 sigmoid nodes.

The first network of most introductions, with the settings of one: mean squared error, learning
rate 0.1, 10,000 steps of gradient descent on all four rows at once, the loss every 1,000. Here
three gates and a hundred seeds are one compiled program. Then XOR with settings that suit it
better, and the same task as one would write it in Keras.

Claims: AND and OR are learned from every seed; XOR, which no single node can do, from nine in
ten. With eight tanh nodes, cross-entropy and momentum it is learned from at least nine in ten
too, in a tenth of the steps.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}
SEEDS, STEPS, EVERY = 100, 10_000, 1_000


def main(out: Path) -> dict[str, object]:
    # As introductions have it. `train(key, (x, y), rate)` is a pure function: the inner vmap runs
    # it on each gate, the outer one from each seed.
    net = jn.Sequential(jn.Dense(3, "sigmoid"), jn.Dense(1, "sigmoid"))
    targets = np.array(list(GATES.values()), np.float32)[:, :, None]  # (3, 4, 1)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    settings = {"batch_size": 4, "shuffle": False}
    train = jn.make_train(net, loss=jn.mse, optimizer=jn.sgd, epochs=STEPS, **settings)
    of_gates = jax.vmap(train, in_axes=(None, (None, 0), None))
    guided = jax.vmap(of_gates, in_axes=(0, None, None))(keys, (X, targets), 0.1)
    losses = np.asarray(guided.history["loss"])  # (seeds, gates, steps)
    answers = jax.jit(jax.vmap(jax.vmap(lambda v: net.predict(v, X))))(guided.variables)
    solved = np.all((np.asarray(answers) > 0.5) == (targets > 0.5), axis=(2, 3)).sum(axis=0)

    print(f"2-3-1 sigmoid nodes, mean squared error, rate 0.1: the loss, seed 0 of {SEEDS}")
    print("step  " + "".join(f"{gate:>9}" for gate in GATES))
    for step in range(EVERY, STEPS + 1, EVERY):
        print(f"{step:6,}" + "".join(f"{loss:9.5f}" for loss in losses[0, :, step - 1]))
    for gate, count in zip(GATES, solved, strict=True):
        print(f"{gate}: all four rows right from {count} of {SEEDS} seeds")

    # XOR with a slope that doesn't flatten out, a loss that punishes being sure and wrong, and
    # a memory of past gradients. The network ends in the logit; the sigmoid is in the loss.
    better = jn.Sequential(jn.Dense(8, "tanh", w_init="xavier_normal"), jn.Dense(1))
    train = jn.make_train(
        better,
        loss=jn.binary_cross_entropy,
        optimizer=jn.momentum,
        epochs=STEPS // 10,
        metrics={"accuracy": jn.binary_accuracy},
        **settings,
    )
    results = jax.vmap(train, in_axes=(0, None, None))(keys, (X, targets[2]), 0.1)
    better_solved = int((np.asarray(results.history["accuracy"])[:, -1] == 1).sum())
    print(
        f"XOR by 2-8-1 tanh nodes, cross-entropy, momentum, {STEPS // 10:,} steps: "
        f"{better_solved} of {SEEDS} seeds"
    )

    # As in Keras: describe, fit, predict.
    model = jn.Sequential(jn.Dense(64, "relu"), jn.Dense(32, "relu"), jn.Dense(1))
    fitted = jn.fit(
        model,
        (X, targets[2]),
        key=jax.random.key(0),
        loss=jn.binary_cross_entropy,
        optimizer=jn.adam(0.01),
        epochs=100,
        batch_size=4,
        metrics={"accuracy": jn.binary_accuracy},
    )
    probabilities = np.asarray(jn.sigmoid(jn.predict(model, fitted.variables, X))[:, 0], float)
    accuracy = float(fitted.history["accuracy"][-1])
    print(f"Keras-like 64-32-1, XOR: accuracy {accuracy:.2f}, p(1) = {probabilities.round(2)}")

    variables = jax.tree.map(lambda leaf: np.asarray(leaf)[0], guided.variables)  # seed 0
    jn.plots.save(draw(losses[0], net, variables), out / "and_gate.png")
    return {
        "losses": losses[0, :, EVERY - 1 :: EVERY],
        "solved": dict(zip(GATES, map(int, solved), strict=True)),
        "better_solved": better_solved,
        "keras_accuracy": accuracy,
        "keras_probabilities": probabilities,
    }


def draw(losses, net, variables):
    """The loss of each gate by step, and what its network answers over the whole square."""
    side = np.linspace(-0.25, 1.25, 61, dtype=np.float32)
    square = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    answer = jax.jit(jax.vmap(lambda v: net.predict(v, square)))
    surfaces = np.asarray(answer(variables)).reshape(-1, 61, 61)
    figure, axes = jn.plots.panels(4, columns=4, size=(2.8, 2.6))
    colors = (jn.plots.BLUE, jn.plots.ORANGE, jn.plots.GREEN)
    for gate, loss, color in zip(GATES, losses, colors, strict=True):
        axes[0].plot(np.arange(1, STEPS + 1), loss, color=color, label=gate)
    axes[0].set(xlabel="step", ylabel="mean squared error", yscale="log", xticks=[0, 4000, 8000])
    axes[0].legend(frameon=False)
    for (gate, targets), surface, ax in zip(GATES.items(), surfaces, axes[1:], strict=True):
        image = ax.contourf(side, side, surface, np.linspace(0, 1, 11), cmap="RdBu")
        ax.contour(side, side, surface, [0.5], colors="black", linewidths=1)
        faces = ["black" if target else "white" for target in targets]
        ax.scatter(X[:, 0], X[:, 1], c=faces, s=50, edgecolors="black", zorder=3)
        ax.set(title=gate, xlabel="input 1", ylabel="input 2", xticks=[0, 1], yticks=[0, 1])
    figure.colorbar(image, ax=axes[1:], label="answer (filled dots: 1)", ticks=[0, 0.5, 1])
    return figure


if __name__ == "__main__":
    run(main, __file__)
