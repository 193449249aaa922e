"""Linear models as networks of one layer: simple and multiple regression, logistic regression.

A dense layer of one node without an activation is a linear model. What it is a model *of* is
the loss: squared error makes it linear regression, cross-entropy logistic regression. Gradient
descent then finds what scikit-learn finds in closed form, or by Newton-like steps:

    diabetes, 442 patients         progression from the body mass index, and from ten measures
    breast cancer, 569 tumors      malignant or benign from thirty measures

Claim: weights, biases and predictions equal scikit-learn's.
"""

from pathlib import Path

import jax
import numpy as np
import optax
from _run import run
from sklearn.linear_model import LinearRegression, LogisticRegression

import jaxnodes as jn

KEY = jax.random.key(0)  # models.linear starts at zero, so nothing here is random


def descend(net, x, y, loss, optimizer, rate, epochs):
    """Full-batch gradient descent in one compiled program; `(w, b)`, float64."""
    settings = {"batch_size": len(x), "shuffle": False}
    train = jn.make_train(net, loss=loss, optimizer=optimizer, epochs=epochs, **settings)
    params, _ = train(KEY, (x, y), rate).variables
    return np.asarray(params["dense1"]["w"], float)[:, 0], float(params["dense1"]["b"][0])


def standardized(x):
    return jn.data.scale(jn.data.fit_scaler(x), x)


def ridge(rate, samples):
    """Momentum on the loss plus |w|^2 / (2 samples): scikit-learn's penalty at its C = 1."""

    def weights_only(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    decay = optax.add_decayed_weights(1 / samples, mask=weights_only)
    return optax.chain(decay, jn.momentum(rate))


def main(out: Path) -> dict[str, object]:
    diabetes, cancer = jn.data.diabetes(), jn.data.breast_cancer()
    x, y = standardized(diabetes.x), diabetes.y
    bmi = diabetes.feature_names.index("bmi")
    found, exact, r2 = {}, {}, {}
    for name, columns in (("simple", [bmi]), ("multiple", list(range(x.shape[1])))):
        net, part = jn.models.linear((len(columns),), 1), x[:, columns]
        found[name] = descend(net, part, y, jn.mse, jn.momentum, 0.1, 3000)
        closed = LinearRegression().fit(part.astype(float), y[:, 0].astype(float))
        exact[name] = closed.coef_, float(closed.intercept_)
        r2[name] = closed.score(part, y[:, 0])

    tumors = standardized(cancer.x)
    n, features = tumors.shape
    net = jn.models.linear((features,), 1)
    found["logistic"] = descend(
        net,
        tumors,
        cancer.y[:, None],
        jn.binary_cross_entropy,
        lambda rate: ridge(rate, n),
        0.3,
        3000,
    )
    newton = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(tumors.astype(float), cancer.y)
    exact["logistic"] = newton.coef_[0], float(newton.intercept_[0])

    apart = {name: largest_gap(found[name], exact[name]) for name in found}
    w, b = found["simple"]
    slope = w[0] / diabetes.x[:, bmi].std()
    print(f"simple: progression rises by {slope:.2f} points for each kg/m2 of body mass index")
    print(f"variance explained: {r2['simple']:.3f} by one measure, {r2['multiple']:.3f} by ten")
    w, b = found["logistic"]
    right = float(np.mean((tumors @ w + b > 0) == (cancer.y == 1)))
    print(f"logistic: {right:.1%} of the {n} tumors on the right side (those it was fitted to)")
    for name, gap in apart.items():
        print(f"{name:>8}: {len(found[name][0]):2} weights, {gap:.0e} at most from scikit-learn's")

    draw(diabetes.x[:, bmi], y[:, 0], x[:, bmi], found, exact, out)
    return {"found": found, "exact": exact, "apart": apart, "r2": r2, "accuracy": right}


def largest_gap(found, exact):
    """The largest difference of a weight or a bias, in units of the largest weight."""
    gaps = np.append(np.abs(found[0] - exact[0]), abs(found[1] - exact[1]))
    return float(gaps.max() / np.abs(exact[0]).max())


def draw(bmi, progression, scaled, found, exact, out):
    figure, axes = jn.plots.panels(3, columns=3, size=(3.6, 3.2))
    w, b = found["simple"]
    axes[0].plot(bmi, progression, "o", color=jn.plots.SKY, ms=2.5, alpha=0.7)
    ends = [bmi.argmin(), bmi.argmax()]
    axes[0].plot(bmi[ends], w[0] * scaled[ends] + b, color=jn.plots.BLUE, lw=2, label="network")
    axes[0].set(title="simple regression", xlabel="body mass index (kg/m²)")
    axes[0].set(ylabel="progression after a year (points)")
    for name, unit, ax in (
        ("multiple", "points per standard deviation", axes[1]),
        ("logistic", "log-odds per standard deviation", axes[2]),
    ):
        theirs, ours = exact[name][0], found[name][0]
        ax.axline((0, 0), slope=1, color=jn.plots.GRAY, lw=1)
        ax.plot(theirs, ours, "o", color=jn.plots.ORANGE, ms=4.5)
        kind = f"{name} regression: {len(ours)} weights"
        ax.set(title=kind, xlabel=f"scikit-learn's weight\n({unit})", ylabel="network's weight")
    jn.plots.save(figure, out / "linear_models.png")


if __name__ == "__main__":
    run(main, __file__)
