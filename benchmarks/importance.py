"""Which cheap measure of importance to trust: `python -m benchmarks.importance`.

The README's network, trained on five seeds. On its test samples, the exact importance of
every hidden node (`ablate`: the loss without it) against each method of `attribute`; and
what is left of the accuracy when each measure, taken on the training samples, chooses
the half of the nodes to remove. Prints the tables of docs/importance.md.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxnodes as jn
from jaxnodes.analysis.agreement import Negative
from jaxnodes.cli import main as command
from jaxnodes.cli.sources import own_parts
from jaxnodes.cli.tasks import Task
from jaxnodes.training.saving import load_network

HIDDEN = ("dense1", "dense2")
MEASURES = ("exact", *jn.analysis.METHODS)


def trained(seed: int, folder: Path) -> tuple[Any, Any, Any, Any]:
    """The README's network, and its training and test samples."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = command(["train", "--seed", str(seed), "--out", str(folder / str(seed))])
    assert code == 0
    net, variables, config = load_network(folder / str(seed))
    task, parts = Task.from_config(config), own_parts(config)
    train, test = (tuple(map(jnp.asarray, task.pair(part))) for part in (parts.train, parts.test))
    return net, variables, train, test


def measured(name: str, net: Any, variables: Any, x: Any, y: Any) -> dict[str, Any]:
    """The hidden nodes' importance by one measure."""
    if name == "exact":
        metric = Negative(jn.cross_entropy)
        return jn.analysis.ablate(net.predict, variables, x, y, metric=metric, nodes=HIDDEN)
    options = {"method": name, "loss": jn.cross_entropy, "nodes": HIDDEN}
    return jn.analysis.attribute(net.predict, variables, x, y, **options)


def halved(name: str, rounds: int, net: Any, variables: Any, train: Any, test: Any) -> float:
    """The test accuracy with half of each hidden layer's nodes removed."""

    def importance(net, variables):
        return measured(name, net, variables, *train)

    smaller, fewer = jn.analysis.prune_to(
        net, variables, importance, 0.5, x=train[0], rounds=rounds
    )
    return float(jn.accuracy(smaller.predict(fewer, test[0]), test[1]))


def of_seed(seed: int, folder: Path, rounds: int) -> dict[str, Any]:
    """All that the tables show of one seed."""
    net, variables, train, test = trained(seed, folder)
    found = {name: measured(name, net, variables, *test) for name in MEASURES}
    lost = jn.analysis.ablate(net.predict, variables, *test, metric=jn.accuracy, nodes=HIDDEN)
    return {
        "accuracy": float(jn.accuracy(net.predict(variables, test[0]), test[1])),
        "lost": {name: np.asarray(array) for name, array in lost.items()},
        "loss": {name: np.asarray(array) for name, array in found["exact"].items()},
        "fidelity": jn.analysis.fidelity(found, found["exact"]),
        "once": {name: halved(name, 1, net, variables, train, test) for name in MEASURES},
        "rounds": {name: halved(name, rounds, net, variables, train, test) for name in MEASURES},
    }


def spread(values: list[float], digits: int = 2) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def tables(seeds: dict[int, dict[str, Any]], rounds: int) -> str:
    """Both tables, as Markdown."""
    lines = [
        "| seed | test accuracy | nodes | that cost accuracy | most one costs | "
        "loss without the most important | without the median one |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, of in seeds.items():
        lost = np.concatenate([of["lost"][name] for name in HIDDEN])
        loss = np.concatenate([of["loss"][name] for name in HIDDEN])
        lines.append(
            f"| {seed} | {of['accuracy']:.4f} | {len(lost)} | {(lost > 0).sum()} | "
            f"{lost.max():.4f} | +{loss.max():.4f} | {np.median(loss):+.5f} |"
        )
    lines += [
        "",
        "| measure | rank, dense1 | rank, dense2 | linear, dense1 | linear, dense2 | "
        f"accuracy at half, at once | in {rounds} rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in MEASURES:
        agreed = [of["fidelity"][name].sites for of in seeds.values()]
        cells = [
            spread([getattr(sites[site], kind) for sites in agreed])
            for kind in ("spearman", "pearson")
            for site in HIDDEN
        ]
        kept = [spread([of[how][name] for of in seeds.values()], 3) for how in ("once", "rounds")]
        lines.append(f"| {name} | {' | '.join([*cells, *kept])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    parser.add_argument("--rounds", type=int, default=8, help="of pruning (default 8)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = {seed: of_seed(seed, Path(folder), options.rounds) for seed in range(options.seeds)}
    print(tables(seeds, options.rounds))


if __name__ == "__main__":
    main()
