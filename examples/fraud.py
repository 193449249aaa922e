"""Fraud: what class weights buy when one class is rare, and what they cost.

A generated table of 20,000 card payments, 2 % of them fraud, that overlap with honest ones. A
network that calls every payment honest is right 98 % of the time and of no use: accuracy says
nothing here. Precision is the share of alarms that are fraud, recall the share of fraud that
raises an alarm. `class_weights=(1, w)` makes a missed fraud cost w times a false alarm.

Claims, over five seeds: as the weight grows, recall rises from about a half to nine tenths of the
fraud, and precision falls from eight tenths of the alarms to two. A weight moves along the curve
of thresholds rather than lifting it: the average precision over all thresholds gains nothing, and
loses a little.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run
from sklearn.metrics import average_precision_score, precision_recall_curve

import jaxnodes as jn

WEIGHTS, SEEDS = (1.0, 5.0, 20.0, 50.0), 5
NAMES = ("log amount (EUR)", "hour of day", "distance from home (log km)", "payments in last hour")


def table(samples, seed):
    """Payments: fraud is larger, nearer to 3 at night, farther from home, and comes in bursts."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(samples) < 0.02
    amount = rng.normal(np.where(fraud, 4.4, 3.2), 1.0)
    hour = np.where(fraud, rng.normal(3, 4, samples), rng.normal(14, 4, samples)) % 24
    distance = rng.normal(np.where(fraud, 3.0, 1.5), 1.2)
    burst = rng.poisson(np.where(fraud, 1.5, 0.4))
    x = np.stack([amount, hour, distance, burst], axis=1).astype(np.float32)
    return jn.data.Dataset(x, fraud.astype(np.int32), NAMES, ("honest", "fraud"))


def main(out: Path) -> dict[str, object]:
    parts, _ = jn.data.standardize(jn.data.split(table(20_000, seed=0), test=0.5))
    net, optimizer = jn.fully_connected([4, 32, 16, 2]), jn.adam(0.003)
    x, fraud = parts.test.x, parts.test.y == 1
    print(f"{len(fraud):,} unseen payments, {fraud.sum()} of them fraud; means of {SEEDS} seeds")
    print("weight  alarms  precision  recall (lowest, highest)  accuracy  average precision")
    scores, found = {}, {}
    for weight in WEIGHTS:
        scores[weight], rows = [], []
        for seed in range(SEEDS):
            result = jn.fit(
                net,
                parts.train[:2],
                key=jax.random.key(seed),
                loss=jn.cross_entropy,
                optimizer=optimizer,
                epochs=15,
                batch_size=250,
                class_weights=(1.0, weight),
            )
            logits = np.asarray(jn.predict(net, result.variables, x, batch_size=len(x)))
            scores[weight].append(logits[:, 1] - logits[:, 0])
            rows.append(judged(logits, fraud))
        found[weight] = f = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        print(
            f"{weight:6.0f}{f['alarms'].mean():8.0f}{f['precision'].mean():11.3f}"
            f"{f['recall'].mean():8.3f} ({f['recall'].min():.3f}, {f['recall'].max():.3f})"
            f"{f['accuracy'].mean():17.3f}{f['average'].mean():19.3f}"
        )
    least, most = found[WEIGHTS[0]], found[WEIGHTS[-1]]
    caught = (most["recall"] - least["recall"]).mean() * fraud.sum()
    alarms = (most["alarms"] - least["alarms"]).mean()
    print(f"the largest weight catches {caught:.0f} more frauds, by {alarms:.0f} more alarms")

    draw(scores, found, fraud, out)
    return {"found": found, "scores": scores, "fraud": fraud}


def judged(logits, fraud):
    alarm = logits[:, 1] > logits[:, 0]
    labels = fraud.astype(np.int32)
    return {
        "alarms": int(alarm.sum()),
        "precision": float(jn.precision_per_class(logits, labels)[1]),
        "recall": float(jn.recall_per_class(logits, labels)[1]),
        "accuracy": float(np.mean(alarm == fraud)),
        "average": float(average_precision_score(fraud, logits[:, 1] - logits[:, 0])),
    }


def draw(scores, found, fraud, out):
    figure, (ax,) = jn.plots.panels(1, size=(5.2, 3.8))
    colors = (jn.plots.BLUE, jn.plots.GREEN, jn.plots.PURPLE, jn.plots.ORANGE)
    for (weight, of_weight), color, marker in zip(scores.items(), colors, "os^D", strict=True):
        precision, recall, _ = precision_recall_curve(fraud, of_weight[0])
        ax.plot(recall, precision, color=color, lw=1, alpha=0.8)
        style = {"ls": "none", "ms": 7, "mec": "black", "mew": 0.7, "zorder": 3}
        at = found[weight]["recall"], found[weight]["precision"]
        ax.plot(*at, marker, color=color, label=f"weight {weight:.0f}", **style)
    ax.set(xlabel="recall (share of fraud)", ylabel="precision (share of alarms)")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    title = "a mark for each seed;\nlines: all thresholds, seed 0"
    ax.legend(frameon=False, title=title, loc="lower left", fontsize=9, title_fontsize=9)
    jn.plots.save(figure, out / "fraud.png")


if __name__ == "__main__":
    run(main, __file__)
