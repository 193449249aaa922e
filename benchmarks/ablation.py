"""W5: the importance of every node of 784-256-128-10, on 10,000 samples.

The guides' procedure is a Python loop: zero a node's incoming weights, keep its bias,
measure the accuracy of the whole network on all samples, put the weights back. Every
contestant answers that same question, and the answers are compared first.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnodes as jn
from benchmarks.harness import compare, matmul_peak

SIZES = (784, 256, 128, 10)
SAMPLES = 10_000
GOALS = {"loop in torch": 100, "plain vmap per layer": 5}


def problem() -> tuple[Any, Any, jax.Array, jax.Array]:
    """A network with random weights and biases, images and labels that it is partly right on."""
    keys = jax.random.split(jax.random.key(0), 4)
    net = jn.fully_connected(list(SIZES))
    x = jax.random.uniform(keys[0], (SAMPLES, SIZES[0]))
    params, state = net.init(keys[1], x[:1])
    for name, layer in params.items():
        layer["b"] = 0.1 * jax.random.normal(
            jax.random.fold_in(keys[2], len(name)), layer["b"].shape
        )
    right = jnp.argmax(net.predict((params, state), x), axis=1)
    wrong = jax.random.randint(keys[3], (SAMPLES,), 0, SIZES[-1])
    y = jnp.where(jnp.arange(SAMPLES) % 3 == 0, wrong, right)
    return net, (params, state), x, y


def torch_loop(variables, x, y):
    """The guides' loop, in torch, as they have it."""
    import torch

    layers = []
    for name in ("dense1", "dense2", "dense3"):
        w, b = (np.array(variables[0][name][part]) for part in ("w", "b"))
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b)
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, labels = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)).long()

    @torch.no_grad()
    def run():
        def accuracy():
            return (model(inputs).argmax(1) == labels).float().mean().item()

        whole, drops = accuracy(), []
        for linear in model[::2]:
            of_layer = []
            for i in range(linear.out_features):
                kept = linear.weight.data[i].clone()
                linear.weight.data[i] = 0
                of_layer.append(whole - accuracy())
                linear.weight.data[i] = kept
            drops.append(np.array(of_layer))
        return drops

    return run


def jitted_loop(net, variables, x, y):
    """The same loop around one compiled evaluation."""

    @jax.jit
    def accuracy(params):
        return jn.accuracy(net.predict((params, {}), x), y)

    def run():
        params, drops = variables[0], []
        whole = accuracy(params)
        for name, layer in params.items():
            changed = [
                {**params, name: {**layer, "w": layer["w"].at[:, i].set(0)}}
                for i in range(layer["w"].shape[1])
            ]
            drops.append(jnp.stack([whole - accuracy(p) for p in changed]))
        return drops

    return run


def plain_vmap(net, variables, x, y, at_once: int = 32):
    """What `jax.vmap` gives: each layer's nodes gated together, everything behind batched."""

    def drops_of(name, size, gates):
        def without(gate):
            bias = {"dense1": jn.relu, "dense2": jn.relu, "dense3": lambda b: b}
            value = bias[name](variables[0][name]["b"])
            patch = {name: (gate, value)}
            return jn.accuracy(jn.intervene(net.predict)(patch, variables, x), y)

        return jax.lax.map(without, gates, batch_size=at_once)

    compiled = jax.jit(drops_of, static_argnums=(0, 1))
    whole = jax.jit(lambda: jn.accuracy(net.predict(variables, x), y))

    def run():
        base = whole()
        return [
            base - compiled(f"dense{i}", size, 1 - jnp.eye(size))
            for i, size in enumerate(SIZES[1:], 1)
        ]

    return run


def multiply_adds() -> dict[str, float]:
    """Of each way, counted from the sizes: for N samples and a layer from `a` to `b` nodes."""
    pairs = list(itertools.pairwise(SIZES))
    forward = sum(a * b for a, b in pairs)
    nodes = sum(SIZES[1:])
    behind = 0  # every layer after the node's, whole
    thin = 0  # the next layer by one column, the others whole
    for i, (_, size) in enumerate(pairs):
        rest = [a * b for a, b in pairs[i + 1 :]]
        behind += size * sum(rest)
        if rest:
            thin += size * (pairs[i + 1][1] + sum(rest[1:]))
    return {
        "loop in torch": SAMPLES * forward * (nodes + 1),
        "loop of a jitted evaluation": SAMPLES * forward * (nodes + 1),
        "plain vmap per layer": SAMPLES * (forward + behind),
        "jaxnodes ablate": SAMPLES * (forward + thin),
    }


def measure(repeats: int) -> dict[str, Any]:
    """Runs the workload and prints its table."""
    net, variables, x, y = problem()

    def ours():
        drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.accuracy, value="bias")
        return list(drops.values())

    contestants = {
        "loop of a jitted evaluation": jitted_loop(net, variables, x, y),
        "plain vmap per layer": plain_vmap(net, variables, x, y),
        "jaxnodes ablate": ours,
    }
    try:
        contestants = {"loop in torch": torch_loop(variables, x, y), **contestants}
    except ImportError:
        print("torch is not installed: its loop is left out")
    answers = {name: [np.asarray(d) for d in run()] for name, run in contestants.items()}
    expected = answers["loop of a jitted evaluation"]
    apart = {
        name: max(float(np.max(np.abs(a - b))) for a, b in zip(found, expected, strict=True))
        for name, found in answers.items()
    }
    slow = tuple(name for name in contestants if name.startswith("loop"))
    timings = compare(contestants, repeats, once=slow)
    peak, adds = matmul_peak(), multiply_adds()
    fastest = timings["jaxnodes ablate"].median
    print(f"\nW5  394 nodes, {SAMPLES:,} samples; peak matmul {peak / 1e9:.0f} GFLOP/s")
    print(
        f"{'':30}{'seconds':>9}{'spread':>15}{'first':>8}{'multiply-adds':>15}{'times ours':>12}"
        f"{'goal':>7}{'largest difference':>20}"
    )
    for name, t in timings.items():
        goal = GOALS.get(name, "")
        spread = f"{t.least:.3f}-{t.most:.3f}"
        print(
            f"{name:30}{t.median:9.3f}{spread:>15}{t.first:8.2f}{adds[name]:15.3g}"
            f"{t.median / fastest:12.1f}{goal:>7}{apart[name]:20.1e}"
        )
    return {
        "peak_matmul_flops": peak,
        "rows": {
            name: {**t._asdict(), "multiply_adds": adds[name], "largest_difference": apart[name]}
            for name, t in timings.items()
        },
    }
