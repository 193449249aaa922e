"""Diagnosis from a table: how well a network tells tumors apart, and whether its odds are honest.

Breast cancer, Wisconsin: 569 tumors, 30 measures each; malignant or benign. Every prediction
here is of a tumor that the network didn't see: five networks each leave out a fifth. Leaving out
is a weight of zero, so `jax.vmap` trains the five as one program.

Two questions, two curves. ROC: of the malignant tumors, what share is found at what share of
false alarms? The area under it (AUC) is the chance that a malignant tumor scores above a benign
one. Calibration: of the tumors given a chance of 30 %, are 30 % malignant? Nearly all chances
are close to 0 or 1, so the bins between hold few tumors, and the bars there are long.

Claim: the AUC is above 0.98, and so is that of scikit-learn's logistic regression. On this table
a hidden layer makes the answers surer but not clearly better, which is worth knowing before one
builds a larger one.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

import jaxnodes as jn

FOLDS = 5


def main(out: Path) -> dict[str, object]:
    data = jn.data.breast_cancer()
    malignant = (data.y == 0).astype(np.int32)
    folds = jn.data.stratified_folds(malignant, FOLDS)
    # Each fold scales by its own training rows, and gives the others a weight of zero.
    x = np.stack([jn.data.scale(jn.data.fit_scaler(data.x[rows]), data.x) for rows, _ in folds])
    weights = np.ones((FOLDS, len(malignant)), np.float32)
    for fold, (_, left_out) in enumerate(folds):
        weights[fold, left_out] = 0

    net = jn.fully_connected([30, 16, 1], dropout=0.2)
    train = jn.make_train(
        net,
        loss=jn.binary_cross_entropy,
        optimizer=lambda rate: jn.adamw(rate, weight_decay=0.1),
        epochs=40,
        batch_size=64,
    )
    keys = jax.random.split(jax.random.key(0), FOLDS)
    columns = malignant[:, None]
    trained = jax.vmap(train, in_axes=(0, (0, None, 0), None))(keys, (x, columns, weights), 0.005)
    logits = np.asarray(jax.jit(jax.vmap(net.predict))(trained.variables, x))[:, :, 0]

    chances = {"network": np.empty(len(columns)), "logistic regression": np.empty(len(columns))}
    for fold, (rows, left_out) in enumerate(folds):
        chances["network"][left_out] = 1 / (1 + np.exp(-logits[fold, left_out]))
        linear = LogisticRegression().fit(x[fold, rows], malignant[rows])
        of_linear = linear.predict_proba(x[fold, left_out])[:, 1]
        chances["logistic regression"][left_out] = of_linear

    found = {}
    print(f"{len(malignant)} tumors, {malignant.sum()} of them malignant; each left out once")
    for name, p in chances.items():
        alarms, sensitivity, _ = roc_curve(malignant, p)
        found[name] = {
            "auc": jn.roc_auc(p.astype(np.float32), malignant),
            "accuracy": float(np.mean((p > 0.5) == malignant)),
            "brier": float(np.mean((p - malignant) ** 2)),
            "sensitivity": float(sensitivity[alarms <= 0.05].max()),
            "unsure": int(((p > 0.2) & (p < 0.8)).sum()),
        }
        print(
            f"{name:>19}: AUC {found[name]['auc']:.4f}, accuracy {found[name]['accuracy']:.3f}, "
            f"Brier score {found[name]['brier']:.4f}"
        )
        print(f"{'':>19}  finds {found[name]['sensitivity']:.1%} at 5 % false alarms")
        print(f"{'':>19}  gives {found[name]['unsure']} tumors a chance from 0.2 to 0.8")

    figure, axes = jn.plots.panels(2, columns=2, size=(4.0, 3.6))
    styles = ((jn.plots.BLUE, "-", "o"), (jn.plots.ORANGE, "--", "s"))
    for (name, p), (color, style, marker) in zip(chances.items(), styles, strict=True):
        alarms, sensitivity, _ = roc_curve(malignant, p)
        label = f"{name} (AUC {found[name]['auc']:.3f})"
        axes[0].plot(alarms, sensitivity, style, color=color, label=label)
        share, chance = calibration_curve(malignant, p, n_bins=5)
        inside = np.histogram(p, np.linspace(0, 1, 6))[0]
        error = np.sqrt(share * (1 - share) / inside[inside > 0])  # of a share of so many
        bars = {"fmt": style + marker, "color": color, "capsize": 3, "label": name}
        axes[1].errorbar(chance, share, error, **bars)
    axes[0].set(xlabel="false alarms (share of benign)", ylabel="found (share of malignant)")
    axes[0].set(xlim=(-0.005, 0.3), ylim=(0.7, 1.005), title="ROC, its upper left corner")
    axes[1].axline((0, 0), slope=1, color=jn.plots.GRAY, lw=1)
    axes[1].set(xlabel="predicted chance (five bins)", ylabel="malignant (share of the bin)")
    axes[1].set(title="calibration")
    for ax, place in zip(axes, ("lower right", "upper left"), strict=True):
        ax.legend(frameon=False, fontsize=9, loc=place)
    jn.plots.save(figure, out / "diagnosis.png")
    return {"found": found, "chances": chances, "malignant": malignant}


if __name__ == "__main__":
    run(main, __file__)
