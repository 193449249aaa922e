"""Pruning in rounds: half the nodes gone, and hardly any accuracy.

A node is worth what the loss rises by when it is removed. But of two nodes that do the same each
seems worthless as long as the other is there, and a single cut takes both. `jn.analysis.prune_to`
can remove a share at a time and measure again what is left, in as many rounds as wanted. What it
returns is a smaller network, not one with zeros in it. Nothing is trained after the cut.

Claims: with half of the 384 hidden nodes, cut in eight rounds, at least nine in ten test digits
are still right; cut at once a fifth of them or more is lost. The network is then a third of what
it was, since weights go with the nodes at both of their ends.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

HIDDEN = ["dense1", "dense2"]


def minus_loss(logits, y):
    return -jn.cross_entropy(logits, y)


def main(out: Path) -> dict[str, object]:
    digits = jn.data.split(jn.data.digits(), test=0.2)
    (x, y), (x_test, y_test) = digits.train[:2], digits.test[:2]
    net = jn.fully_connected([64, 256, 128, 10], dropout=0.1)
    variables = jn.fit(
        net,
        (x, y),
        key=jax.random.key(0),
        loss=jn.cross_entropy,
        optimizer=jn.adam(2e-3),
        epochs=20,
        batch_size=64,
    ).variables

    def look(net, variables):
        """How many hidden nodes there are, and the test accuracy."""
        nodes = sum(variables[0][name]["b"].size for name in HIDDEN)
        return nodes, float(jn.accuracy(jn.predict(net, variables, x_test), y_test))

    def cut(keep, rounds):
        """The smaller network, and `look` of what each round met and of what is left."""
        way = []

        def importance(net, variables):
            """The rise of the training loss without each node; no test digit has a say."""
            way.append(look(net, variables))
            return jn.analysis.ablate(net.predict, variables, x, y, metric=minus_loss, nodes=HIDDEN)

        pruned = jn.analysis.prune_to(net, variables, importance, keep, x=x, rounds=rounds)
        return pruned, np.array([*way, look(*pruned)])

    ways, sizes = {}, {"all": size(variables)}
    for rounds in (4, 8):
        (_, fewer), ways[rounds] = cut(0.5, rounds)
    sizes["half"] = size(fewer)
    # At once: a network for each share that the eight rounds came by.
    shares = 0.5 ** (np.arange(1, 9) / 8)
    ways[1] = np.array([ways[8][0], *(cut(float(share), 1)[1][-1] for share in shares)])

    print("hidden nodes  test accuracy, cut at once, in 4 and in 8 rounds")
    by_nodes = {rounds: dict(way.tolist()) for rounds, way in ways.items()}
    for nodes in by_nodes[8]:
        listed = (by_nodes[rounds].get(nodes) for rounds in (1, 4, 8))
        shown = "".join(f"{'' if found is None else f'{found:.3f}':>8}" for found in listed)
        print(f"{nodes:12.0f}  {shown}")
    print(f"parameters: {sizes['all']:,} before, {sizes['half']:,} with half of the nodes")

    jn.plots.save(draw(ways), out / "pruning.png")
    return {
        "whole": ways[1][0, 1],
        "half": {rounds: way[-1, 1] for rounds, way in ways.items()},
        "nodes": {rounds: way[[0, -1], 0] for rounds, way in ways.items()},
        "sizes": sizes,
        "smaller": fewer[0],
        "test": (x_test, y_test),
    }


def size(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables[0]))


def draw(ways):
    figure, (ax,) = jn.plots.panels(1, size=(5.6, 3.8))
    colors = {1: jn.plots.ORANGE, 4: jn.plots.SKY, 8: jn.plots.BLUE}
    said = {1: "cut at once", 4: "in 4 rounds", 8: "in 8 rounds"}
    for rounds, marker in zip((8, 4, 1), "ods", strict=True):
        nodes, accuracy = ways[rounds].T
        style = {"color": colors[rounds], "marker": marker, "label": said[rounds]}
        ax.plot(nodes / nodes[0], accuracy, **style)
    ax.axhline(0.1, color=jn.plots.GRAY, lw=1, ls=":", label="guessing")
    ax.set(xlim=(1.02, 0.48), ylim=(0, 1.03), xlabel="share of the 384 hidden nodes kept")
    ax.set_ylabel("test accuracy (share of digits)")
    ax.legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    run(main, __file__)
