"""Overfitting: a network that learns its few samples by heart, and two cures.

A network of 50,826 parameters trains on 180 handwritten digits, of which a fifth carry a wrong
label. It can learn them all, wrong ones included, and does: the training loss falls on and on
while the validation loss turns and rises. Early stopping keeps the variables of the epoch with
the least validation loss; dropout makes learning by heart hard in the first place. Five seeds
each; the test part, which nothing was chosen by, judges.

Claims: for every seed the validation loss rises by more than a fifth from its lowest; both cures
lower the test loss for every seed, and raise the test accuracy in the mean.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

SEEDS, EPOCHS, WRONG = 5, 80, 0.2


def wrong_labels(labels, share):
    """Labels of which this share is replaced by another class."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(labels))[: int(share * len(labels))]
    labels = labels.copy()
    labels[chosen] = (labels[chosen] + rng.integers(1, 10, len(chosen))) % 10
    return labels


def main(out: Path) -> dict[str, object]:
    parts = jn.data.split(jn.data.digits(), test=0.7, validation=0.2)
    noisy = parts.train.x, wrong_labels(parts.train.y, WRONG)
    optimizer = jn.adam(1e-3)  # one for all, so that equal runs share a program
    options = {"loss": jn.cross_entropy, "optimizer": optimizer, "batch_size": 30}
    judged = {"loss": jn.cross_entropy, "metrics": {"accuracy": jn.accuracy}}

    variants = {
        "plain": (0.0, None),
        "early stopping": (0.0, jn.EarlyStopping("val_loss", patience=15)),
        "dropout": (0.5, None),
    }
    results, scores = {}, {}
    for name, (rate, stopping) in variants.items():
        net = jn.fully_connected([64, 256, 128, 10], dropout=rate)
        results[name] = [
            jn.fit(
                net,
                noisy,
                key=jax.random.key(seed),
                epochs=EPOCHS,
                validation=parts.validation[:2],
                early_stopping=stopping,
                **options,
            )
            for seed in range(SEEDS)
        ]
        scores[name] = [
            jn.evaluate(net, result.variables, parts.test[:2], **judged) for result in results[name]
        ]

    curves = np.array([result.history["val_loss"] for result in results["plain"]])
    rise = curves[:, -1] / curves.min(axis=1)
    stopped = [result.best_epoch + 1 for result in results["early stopping"]]
    shown = ", ".join(f"{r:.2f}" for r in rise)
    print(f"{len(noisy[1])} training digits; {SEEDS} seeds, {EPOCHS} epochs")
    print(f"plain: the validation loss ends at {shown} times its lowest")
    print(f"early stopping keeps epoch {', '.join(map(str, stopped))}")
    losses = {name: np.array([s["loss"] for s in of_name]) for name, of_name in scores.items()}
    accuracies = {n: np.array([s["accuracy"] for s in of_name]) for n, of_name in scores.items()}
    for name in variants:
        loss, accuracy = losses[name], accuracies[name]
        print(
            f"{name:>14}: test loss {loss.mean():.3f} ± {loss.std():.3f}, "
            f"accuracy {accuracy.mean():.3f} ± {accuracy.std():.3f}"
        )

    draw(results, stopped, accuracies, out)
    return {"rise": rise, "stopped": stopped, "losses": losses, "accuracies": accuracies}


def draw(results, stopped, accuracies, out):
    figure, axes = jn.plots.panels(3, columns=3, size=(3.5, 3.1))
    epochs = np.arange(1, EPOCHS + 1)
    for name, ax in zip(("plain", "dropout"), axes, strict=False):
        for i, result in enumerate(results[name]):
            labels = ("training", "validation") if i == 0 else (None, None)
            ax.plot(epochs, result.history["loss"], color=jn.plots.BLUE, lw=1, label=labels[0])
            validation = result.history["val_loss"]
            ax.plot(epochs, validation, "--", color=jn.plots.ORANGE, lw=1.2, label=labels[1])
            if name == "plain":
                style = {"mfc": "white", "mec": "black", "ms": 6, "zorder": 4, "ls": "none"}
                label = "early stopping" if i == 0 else None
                ax.plot(stopped[i], validation[stopped[i] - 1], "o", label=label, **style)
        ax.set(title=name, xlabel="epoch", ylabel="loss (cross-entropy)", ylim=(0, 2.5))
    axes[0].legend(frameon=False, fontsize=9)
    for i, values in enumerate(accuracies.values()):
        axes[2].plot([i] * SEEDS, values, "o", mfc="none", color=jn.plots.GREEN)
        axes[2].plot([i - 0.2, i + 0.2], [values.mean()] * 2, color="black", lw=2)
    axes[2].set_xticks(range(3), ["plain", "early\nstopping", "dropout"])
    axes[2].set(title="five seeds, and their mean", xlim=(-0.5, 2.5), xlabel="training")
    axes[2].set_ylabel("test accuracy (share)")
    jn.plots.save(figure, out / "overfitting.png")


if __name__ == "__main__":
    run(main, __file__)
