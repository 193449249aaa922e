"""A small residual network on digits, and what each of its channels is worth.

Two stages of one block each, of 12 and 24 channels, on the bundled digits of 8 x 8 pixels. A block
adds what its body makes of the input to the input itself. Then every channel behind an
activation is removed, one at a time, and the whole test part measured again: exact, and one
compiled program for each activation.

Claims: at least 19 in 20 test digits are right after six epochs, and a channel in front is worth
five times one at the end or more: the first ones are few, and everything is made of them. That the
shortcut makes the channels of a body matter less is so in the first block, and not in the second.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn

SITES = {
    "stem/relu1": "stem",
    "stage1/block1/body/relu1": "body of stage 1",
    "stage1/relu1": "stage 1",
    "stage2/block1/body/relu1": "body of stage 2",
    "stage2/relu1": "stage 2",
}


def minus_loss(logits, y):
    return -jn.cross_entropy(logits, y)


def main(out: Path) -> dict[str, object]:
    digits = jn.data.split(jn.data.digits(), test=0.2)
    net = jn.models.resnet((64,), 10, blocks=(1, 1), width=12, stem="cifar")
    result = jn.fit(
        net,
        digits.train[:2],
        key=jax.random.key(0),
        loss=jn.cross_entropy,
        optimizer=jn.adam(5e-3),
        epochs=6,
        batch_size=64,
    )
    x, y = digits.test[:2]
    test = {"loss": jn.cross_entropy, "metrics": {"accuracy": jn.accuracy}}
    found = jn.evaluate(net, result.variables, (x, y), **test)
    count = sum(leaf.size for leaf in jax.tree.leaves(result.variables[0]))
    print(f"{count:,} parameters; test loss {found['loss']:.3f}, accuracy {found['accuracy']:.3f}")

    # By how much the test loss rises without each channel.
    drops = jn.analysis.ablate(
        net.predict, result.variables, x, y, metric=minus_loss, nodes=list(SITES)
    )
    rises = {SITES[name]: np.asarray(rise) for name, rise in drops.items()}
    for name, rise in rises.items():
        print(f"{name:15} {len(rise):2} channels: the loss rises by {rise.mean():.4f}, ", end="")
        print(f"at most {rise.max():.4f} (channel {rise.argmax()})")

    jn.plots.save(draw(rises), out / "resnet_digits.png")
    return {
        "parameters": count,
        "found": found,
        "net": net,
        "variables": result.variables,
        "test": (x, y),
        "rises": rises,
    }


def draw(rises):
    """A dot for each channel, a column for each activation, from the image to the answer."""
    figure, (ax,) = jn.plots.panels(1, size=(6.4, 3.8))
    for column, (name, rise) in enumerate(rises.items()):
        body = name.startswith("body")
        style = {"color": jn.plots.ORANGE, "marker": "s"} if body else {"color": jn.plots.BLUE}
        label = ("inside a block", "all goes through")[column == 0] if column < 2 else None
        places = column + np.linspace(-0.25, 0.25, len(rise))
        ax.scatter(places, -np.sort(-rise), s=14, label=label, **style)
        ax.hlines(rise.mean(), column - 0.35, column + 0.35, color="black", lw=1.2)
    names = [f"{name}\n{len(rise)} channels" for name, rise in rises.items()]
    ax.set_xticks(range(len(rises)), names, fontsize=8)
    ax.set(xlabel="activation: a dot for each channel, by rank; the line is their mean")
    ax.set(ylabel="rise of the test loss without it (nats)", yscale="log")
    ax.legend(frameon=False)
    return figure


if __name__ == "__main__":
    run(main, __file__)
