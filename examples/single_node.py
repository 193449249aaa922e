"""A single node: forward, loss, gradient and update, by hand and by `jax.grad`.

A node is a weighted sum and its activation, a = sigmoid(w . x + b). With the squared error
L = (a - t)^2 the chain rule gives

    dL/dw = 2 (a - t) a (1 - a) x,    dL/db = 2 (a - t) a (1 - a).

The numbers: w = (0.5, -1), b = 0.25, x = (2, 1), target t = 1, learning rate 0.5.

Claim: both ways are equal to rounding, in the first step and after 100, and the loss falls.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _run import run

import jaxnodes as jn

RATE, STEPS = 0.5, 100


def by_hand(w, b, x, target):
    """Forward, loss and gradient in NumPy: `(z, a, loss, dw, db)`."""
    z = w @ x + b
    a = 1 / (1 + np.exp(-z))
    delta = 2 * (a - target) * a * (1 - a)  # dL/dz
    return z, a, (a - target) ** 2, delta * x, delta


def numbers(values):
    return np.round(np.asarray(values, float), 6)


def main(out: Path) -> dict[str, object]:
    x, target = np.array([2.0, 1.0]), 1.0
    w, b = np.array([0.5, -1.0]), 0.25

    def loss(params):
        return (jn.neuron(params, x.astype(np.float32), jn.sigmoid) - target) ** 2

    # One step, both ways.
    params = {"w": jnp.array(w, jnp.float32), "b": jnp.array(b, jnp.float32)}
    value, gradient = jax.value_and_grad(loss)(params)
    z, a, hand_value, dw, db = by_hand(w, b, x, target)
    print(f"z = {z:.4f}, a = sigmoid(z) = {a:.6f}, loss = (a - 1)^2 = {hand_value:.6f}")
    print(f"dL/dw  by hand {numbers(dw)}  by jax.grad {numbers(gradient['w'])}")
    print(f"dL/db  by hand {db:.6f}              by jax.grad {gradient['b']:.6f}")
    print(f"after one update: w = {numbers(w - RATE * dw)}, b = {b - RATE * db:.6f}")

    # A hundred steps: by hand in a loop, by jax.grad in one compiled program.
    def step(params, _):
        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradient), value

    end, losses = jax.jit(lambda p: jax.lax.scan(step, p, length=STEPS))(params)
    hand_losses, at = [], (w, b)
    for _ in range(STEPS):
        _, _, hand_loss, hand_dw, hand_db = by_hand(*at, x, target)
        hand_losses.append(hand_loss)
        at = at[0] - RATE * hand_dw, at[1] - RATE * hand_db
    apart = np.abs(np.array(losses) - hand_losses).max()
    print(f"after {STEPS} updates: w = {numbers(end['w'])}, b = {end['b']:.4f}")
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.5f}; the two ways differ by {apart:.0e} at most")

    figure, (ax,) = jn.plots.panels(1, size=(5.2, 3.4))
    steps = np.arange(STEPS)
    ax.plot(steps, hand_losses, color=jn.plots.BLUE, lw=2, label="by hand (NumPy, float64)")
    dots = {"ls": "none", "marker": "o", "ms": 4.5, "mfc": "none", "color": jn.plots.ORANGE}
    ax.plot(steps[::4], losses[::4], label="by jax.grad (float32)", **dots)
    ax.set(xlabel="updates of the node", ylabel="loss (squared error)", yscale="log")
    ax.legend(frameon=False)
    jn.plots.save(figure, out / "single_node.png")
    return {
        "z": float(z),
        "a": float(a),
        "loss": float(value),
        "gradient": {"w": np.asarray(gradient["w"]), "b": float(gradient["b"])},
        "by_hand": {"w": dw, "b": float(db)},
        "updated": {"w": w - RATE * dw, "b": float(b - RATE * db)},
        "losses": np.asarray(losses),
        "hand_losses": np.array(hand_losses),
    }


if __name__ == "__main__":
    run(main, __file__)
