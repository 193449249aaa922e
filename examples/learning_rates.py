"""Learning rates: too small crawls, too large diverges, and about a factor of ten is right.

Thirteen runs of gradient descent on handwritten digits differ in nothing but the rate. The rate
is an argument of the training run, a pure function, so `jax.vmap` makes them one program.

Claims: after 20 epochs the smallest rate has hardly begun, one in the middle is right on 95 % of
unseen digits, and the largest ends above the loss of knowing nothing, log 10, or in no number.
"""

import math
from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

RATES = np.logspace(-4, 2, 13)


def main(out: Path) -> dict[str, object]:
    parts = jn.data.split(jn.data.digits(), test=0, validation=0.2)
    net = jn.fully_connected([64, 32, 10])
    train = jn.make_train(
        net,
        loss=jn.cross_entropy,
        optimizer=jn.sgd,
        epochs=20,
        batch_size=64,
        validation=parts.validation[:2],
        metrics={"accuracy": jn.accuracy},
    )
    results = jax.vmap(train, in_axes=(None, None, 0))(
        jax.random.key(0), parts.train[:2], RATES.astype(np.float32)
    )
    losses = np.asarray(results.history["loss"])  # (rates, epochs)
    accuracies = np.asarray(results.history["val_accuracy"])[:, -1]

    know_nothing = math.log(10)
    best = int(np.nan_to_num(losses[:, -1], nan=np.inf).argmin())
    print(f"knowing nothing the loss is log 10 = {know_nothing:.2f}")
    print("    rate  loss after 1, 20 epochs  validation accuracy")
    for rate, loss, accuracy in zip(RATES, losses, accuracies, strict=True):
        print(f"{rate:8.1e} {loss[0]:13.3g} {loss[-1]:9.3g} {accuracy:20.3f}")

    figure, axes = jn.plots.panels(2, columns=2, size=(4.2, 3.4))
    epochs = np.arange(1, losses.shape[1] + 1)
    shown = {"crawls": (0, jn.plots.ORANGE, "--"), "right": (best, jn.plots.BLUE, "-")}
    shown["diverges"] = (len(RATES) - 1, jn.plots.PURPLE, ":")
    for word, (i, color, style) in shown.items():
        label = f"rate {RATES[i]:.4g}: {word}"
        axes[0].plot(epochs, losses[i], style, color=color, lw=2, label=label)
        axes[1].plot(RATES[i], losses[i, -1], "o", color=color, ms=8)
    axes[0].set(xlabel="epoch", ylabel="training loss (cross-entropy)", yscale="log")
    axes[0].set_xticks([1, 5, 10, 15, 20])
    axes[1].plot(RATES, losses[:, -1], "k.-", lw=1, zorder=0)
    axes[1].set(xlabel="learning rate", ylabel="training loss after 20 epochs")
    axes[1].set(xscale="log", yscale="log")
    for ax in axes:
        ax.axhline(know_nothing, color=jn.plots.GRAY, lw=1, ls="-.", label="knowing nothing")
    axes[0].legend(frameon=False, fontsize=9)
    axes[1].legend(frameon=False, fontsize=9)
    jn.plots.save(figure, out / "learning_rates.png")
    return {
        "rates": RATES,
        "losses": losses,
        "accuracies": accuracies,
        "best": best,
        "know_nothing": know_nothing,
    }


if __name__ == "__main__":
    run(main, __file__)
