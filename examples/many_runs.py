"""Many runs as one program: seeds by rates, `jax.vmap` of a whole training run.

`jn.make_train` makes a training run a pure function, `train(key, data, rate)`. Mapped over keys
and over rates it trains a grid of networks in one compiled program, whose steps are larger
matrix products instead of more of them. That is how one sees what is the rate's doing and what
is chance.

Claims: JAX traces the loss twice for all 48 runs, once to train and once to validate; each run
equals the same one alone, to rounding.
"""

import time
from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

SEEDS, RATES = 8, np.array([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2], np.float32)


def main(out: Path) -> dict[str, object]:
    parts, _ = jn.data.standardize(jn.data.split(jn.data.wine(), test=0, validation=0.3))
    traces = []

    def counted_loss(logits, labels, *, weights=None):
        traces.append(logits.shape)  # runs when JAX traces, not when the program runs
        return jn.cross_entropy(logits, labels, weights=weights)

    train = jn.make_train(
        jn.fully_connected([13, 32, 3]),
        loss=counted_loss,
        optimizer=jn.adam,
        epochs=20,
        batch_size=31,
        validation=parts.validation[:2],
        metrics={"accuracy": jn.accuracy},
    )
    keys, data = jax.random.split(jax.random.key(0), SEEDS), parts.train[:2]
    over_rates = jax.vmap(train, in_axes=(None, None, 0))
    grid = jax.jit(jax.vmap(over_rates, in_axes=(0, None, None)))  # (seeds, rates)

    began = time.perf_counter()
    results = jax.block_until_ready(grid(keys, data, RATES))
    first = time.perf_counter() - began
    traced = len(traces)
    began = time.perf_counter()
    jax.block_until_ready(grid(keys, data, RATES))
    again = time.perf_counter() - began

    chosen = [(0, 0), (3, 2), (7, 5)]
    apart = 0.0
    for seed, rate in chosen:
        alone = train(keys[seed], data, RATES[rate])
        for mine, theirs in zip(
            jax.tree.leaves((alone.variables, alone.history)),
            jax.tree.leaves((results.variables, results.history)),
            strict=True,
        ):
            apart = max(apart, float(np.abs(mine - np.asarray(theirs)[seed, rate]).max()))
    print(f"{SEEDS} seeds x {len(RATES)} rates = {SEEDS * len(RATES)} runs in one program")
    print(f"{first:.1f} s with compiling, {again * 1e3:.0f} ms again")
    print(f"JAX traced the loss {traced} times for all of them")
    print(f"{len(chosen)} of them run alone differ by {apart:.0e} at most")

    losses = np.asarray(results.history["val_loss"])[:, :, -1]
    accuracies = np.asarray(results.history["val_accuracy"])[:, :, -1]
    print("validation: rate   mean loss   spread over seeds   accuracy")
    for i, rate in enumerate(RATES):
        of_rate = losses[:, i]
        shown = f"{of_rate.mean():12.3f} {of_rate.std():19.3f} {accuracies[:, i].mean():10.3f}"
        print(f"{rate:16.0e}{shown}")

    curves = np.asarray(results.history["val_loss"])
    figure, axes = jn.plots.panels(len(RATES), columns=3, size=(2.7, 2.2))
    epochs = np.arange(1, curves.shape[2] + 1)
    for i, ax in enumerate(axes):
        mean = curves[:, i].mean(axis=0)
        lines = ax.plot(epochs, curves[:, i].T, color=jn.plots.SKY, lw=1)
        lines[0].set_label("one seed")
        ax.plot(epochs, mean, color=jn.plots.BLUE, lw=2, label="mean of the seeds")
        ax.set_title(f"rate {RATES[i]:g}", fontsize=10)
        ax.set(xlabel="epoch", ylabel="validation loss", yscale="log", ylim=(0.002, 4))
        ax.set_xticks([1, 10, 20])
    axes[0].legend(frameon=False, fontsize=9)
    jn.plots.save(figure, out / "many_runs.png")
    return {"losses": losses, "accuracies": accuracies, "apart": apart, "traced": traced}


if __name__ == "__main__":
    run(main, __file__)
