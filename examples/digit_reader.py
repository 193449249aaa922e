"""A digit reader of 784-16-16-10 nodes, every one of them in view.

An image of 28 x 28 pixels from 0 (black) to 1 (white) goes through two hidden layers of 16
sigmoid nodes to one node for each digit. How bright a node is drawn is its activation. A layer
holds its weights as (inputs, nodes); with W their transpose, a row for each node, one step is

    a' = sigma(W a + b)

Claims: the network has 13,002 weights and biases; that equation, written in NumPy layer by
layer, gives the activations that `jn.record` reads off the network; and nine in ten test digits
or more are read as what they are.
"""

from pathlib import Path

import jax
import numpy as np
from _run import run

import jaxnodes as jn


def sigma(z):
    return 1 / (1 + np.exp(-z))


def main(out: Path) -> dict[str, object]:
    digits = jn.data.digits28()  # images made of the bundled digits, which are 8 x 8
    net = jn.fully_connected([784, 16, 16, 10], "sigmoid", w_init="xavier_normal")
    train, test = ((part.x.reshape(-1, 784), part.y) for part in (digits.train, digits.test))
    result = jn.fit(
        net,
        train,
        key=jax.random.key(0),
        loss=jn.cross_entropy,
        optimizer=jn.adam(0.01),
        epochs=25,
        batch_size=32,
    )
    params, _ = result.variables
    x, y = test
    logits, nodes = jax.jit(jn.record(net.predict))(result.variables, x)
    accuracy = float(jn.accuracy(logits, y))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{count:,} weights and biases; {accuracy:.1%} of {len(y)} test digits read rightly")

    # The same in matrix form, one column a digit. The last layer is left as weighted sums.
    a, gaps = x.T, {}
    for name, of_layer in params.items():
        W, b = np.asarray(of_layer["w"]).T, np.asarray(of_layer["b"])[:, None]
        z = W @ a + b
        a = z if name == "dense3" else sigma(z)
        gaps[name] = float(np.abs(a - np.asarray(nodes[name]).T).max())
        print(f"{name}: a' from W {W.shape} and a {z.shape[1]} x ({W.shape[1]},): ", end="")
        print(f"at most {gaps[name]:.0e} from the network's")

    # The test digits that the network is most and least sure of.
    chances = np.asarray(jn.softmax(logits))
    sure = chances.max(axis=-1)
    for word, i in (("surest", sure.argmax()), ("least sure", sure.argmin())):
        likely = np.argsort(-chances[i])[:3]
        said = ", ".join(f"{digit} {chances[i, digit]:.1%}" for digit in likely)
        print(f"{word}: a {y[i]}, read as {said}")

    # The least sure one on its way.
    figure = jn.plots.digit_reader(
        {name: value[i] for name, value in nodes.items()}, digits.test.x[i], label=int(y[i])
    )
    jn.plots.save(figure, out / "digit_reader.png")
    return {
        "parameters": count,
        "nodes": {name: np.asarray(value) for name, value in nodes.items()},
        "gaps": gaps,
        "accuracy": accuracy,
        "pixels": (float(x.min()), float(x.max())),
    }


if __name__ == "__main__":
    run(main, __file__)
