"""Where the time of a training step goes: `python -m benchmarks.parts`, `--only ablation` for some.

The step of W1 (784-256-128-10, batch 64) in a compiled scan, with parts of it left out or
done otherwise; a call of `fit` with next to nothing to do; cross-entropies, orders of samples,
weight gradients, a convolution, pooling and the gradients of W3's recurrent layers, each by JAX's
own rules and by ours; recurrent layers in one loop and in two side by side; Adam's step over
1,000 small leaves with its means kept in two ways; and ablations by either library for products.
Prints the tables of docs/performance-notes.md.
"""

import argparse
import functools
import time
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnodes as jn
from jaxnodes.analysis import samples as measures
from jaxnodes.compiling import compiler_options
from jaxnodes.conv_primitive import Geometry, convolve
from jaxnodes.layers.products import product
from jaxnodes.layers.random_bits import uniform
from jaxnodes.training.program import Recipe, run_epoch
from jaxnodes.training.shuffling import shuffled

SIZES, BATCH, STEPS, REPEATS = (784, 256, 128, 10), 64, 156, 9
LEAVES, LEAF = 1000, 1000
TIMES = 10
#: Networks at once, rows, inputs and nodes.
WEIGHTS = (
    (1, 64, 784, 256),
    (1, 64, 1024, 10),
    (1, 512, 512, 64),
    (1, 4096, 512, 512),
    (256, 32, 64, 64),
    (256, 32, 64, 32),
    (256, 32, 32, 10),
)
#: Samples of a batch, and the inputs and nodes of a network.
NETWORKS = (
    (32, (784, 256, 128, 10)),
    (64, (784, 256, 128, 10)),
    (256, (784, 256, 128, 10)),
    (64, (64, 256, 256, 256, 10)),
    (64, (128, 128, 128, 128, 128, 10)),
    (64, (784, 512, 512, 10)),
    (128, (784, 1024, 1024, 10)),
)
NETWORK_STEPS = 20
#: Samples and sizes of a network whose nodes are removed.
ABLATIONS = (
    (10_000, (784, 256, 128, 10)),
    (1_000, (64, 256, 256, 256, 10)),
    (300, (64, 256, 256, 256, 10)),
    (1_797, (64, 32, 32, 10)),
    (256, (784, 1024, 1024, 10)),
)
#: Samples and classes of a cross-entropy.
CLASSES = ((64, 10), (4_096, 100), (256, 30_000))
#: A recurrent layer's kind, rows, inputs and nodes.
RECURRENT = (
    ("lstm", 16, 64, 128),
    ("lstm", 32, 64, 128),
    ("lstm", 128, 64, 128),
    ("lstm", 32, 128, 256),
    ("gru", 32, 64, 128),
    ("gru", 32, 128, 256),
)
RECURRENT_STEPS = 64
B1, B2, EPS, RATE = 0.9, 0.999, 1e-8, 1e-3


def by_jax_random(key, shape):
    return jax.random.uniform(key, shape)


def apply(params, x, key, draw):
    *hidden, (w_out, b_out) = params
    for i, (w, b) in enumerate(hidden):
        x = jax.nn.relu(x @ w + b)
        if draw is not None:
            x = jnp.where(draw(jax.random.fold_in(key, i), x.shape) < 0.5, x * 2, 0)
    return x @ w_out + b_out


def sgd(state, grads, step):
    params, *moments = state
    return (jax.tree.map(lambda p, g: p - RATE * g, params, grads), *moments)


def adam(state, grads, step):
    params, m, v = state
    root = jnp.sqrt(1 - B2**step)
    scale, small = RATE * root / (1 - B1**step), EPS * root
    m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, grads)
    v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g**2, v, grads)
    moved = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + small), params, m, v)
    return moved, m, v


def epoch(optimize: Callable, draw: Callable | None) -> Callable:
    """`run()`: an epoch of such steps."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((STEPS * BATCH, SIZES[0])), jnp.float32)
    y = jnp.asarray(rng.integers(0, SIZES[-1], STEPS * BATCH), jnp.int32)
    order = jnp.asarray(rng.permutation(STEPS * BATCH).reshape(STEPS, BATCH))
    keys = jax.random.split(jax.random.key(0), len(SIZES))
    shapes = zip(keys[1:], SIZES[:-1], SIZES[1:], strict=True)
    params = [(jn.he_normal(key, shape), jnp.zeros(shape[1])) for key, *shape in shapes]
    zeros = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def run(state, order):
        def step(state, slices):
            i, indices = slices
            key = jax.random.fold_in(keys[0], i)

            def loss(params):
                return jn.cross_entropy(apply(params, x[indices], key, draw), y[indices])

            value, grads = jax.value_and_grad(loss)(state[0])
            return optimize(state, grads, (i + 1).astype(jnp.float32)), value

        return jax.lax.scan(step, state, (jnp.arange(STEPS), order))

    return lambda: run((params, zeros, zeros), order)


def fit_of_one_step() -> Callable:
    """`run()`: a whole call of `jn.fit` whose epoch is a single step of W1's network."""
    net = jn.fully_connected(list(SIZES), dropout=0.5)
    x, y = jnp.zeros((BATCH, SIZES[0])), jnp.zeros(BATCH, jnp.int32)
    start = net.init(jax.random.key(0), x)

    def run():
        return jn.fit(
            net,
            (x, y),
            key=jax.random.key(1),
            loss=jn.cross_entropy,
            optimizer=jn.adam(RATE),
            epochs=1,
            batch_size=BATCH,
            start=start,
        ).variables

    return run


def network_steps(batch: int, sizes: tuple[int, ...], small_products: bool) -> Callable:
    """`run()`: an epoch of Adam, compiled as `jn.fit` does for small products, or for others."""
    net, optimizer = jn.fully_connected(list(sizes)), jn.adam(RATE)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((NETWORK_STEPS * batch, sizes[0])), jnp.float32)
    y = jnp.asarray(rng.integers(0, sizes[-1], NETWORK_STEPS * batch), jnp.int32)
    params, state = net.init(jax.random.key(0), x[:1])
    start = jn.TrainState(params, state, optimizer.init(params))
    recipe = Recipe(net=net, loss=jn.cross_entropy, update=optimizer.update, batch_size=batch)
    program = jax.jit(
        run_epoch, static_argnums=0, compiler_options=compiler_options(small_products)
    )
    return lambda: program(recipe, start, (x, y, None), jax.random.key(1))


def ablation(samples: int, sizes: tuple[int, ...], small_products: bool) -> Callable:
    """`run()`: `ablate`, compiled as for small products, or for others."""
    net = jn.fully_connected(list(sizes))
    x = jax.random.normal(jax.random.key(0), (samples, sizes[0]))
    y = jnp.arange(samples, dtype=jnp.int32) % sizes[-1]
    variables = net.init(jax.random.key(1), x[:1])
    chosen = compiler_options(small_products)

    def metric(outputs, y):  # its own for each call, so that programs are too
        return jn.accuracy(outputs, y)

    def run():
        with mock.patch.object(measures, "compiler_options", return_value=chosen):
            drops = jn.analysis.ablate(net.predict, variables, x, y, metric=metric, value="bias")
        return list(drops.values())

    return run


def by_optax(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def cross_entropy_gradient(samples: int, classes: int, loss: Callable) -> Callable:
    """`run()`: a cross-entropy and its gradient for the logits."""
    logits = jax.random.normal(jax.random.key(0), (samples, classes))
    labels = jnp.arange(samples, dtype=jnp.int32) % classes
    return functools.partial(jax.jit(jax.value_and_grad(loss)), logits, labels)


def step_product(rows: int) -> Callable:
    """`run()`: [x, h] w of one step of an LSTM (rows, 192) by (192, 512), `STEPS` times."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (rows, 192)), jax.random.normal(keys[1], (192, 512))

    return repeated(STEPS, jnp.matmul, x, w)


def repeated(times: int, f: Callable, x, w) -> Callable:
    """`run()`: `f(x, w)` so many times over in one program."""

    @jax.jit
    def run(x, w):
        def again(_, carry):
            x, w = jax.lax.optimization_barrier(carry[:2])  # else it would be done once
            return x, w, f(x, w)

        y = jax.eval_shape(f, x, w)
        return jax.lax.fori_loop(0, times, again, (x, w, jnp.zeros(y.shape)))

    return functools.partial(run, x, w)


def many_leaves(packed: bool) -> Callable:
    """`run()`: a jitted, donated step of Adam on 1,000 leaves of 1,000; packed, `jn.adam`'s."""

    def leaves():
        return [jnp.ones(LEAF) for _ in range(LEAVES)]

    optimizer = jn.adam(RATE)

    def step(state, grads):
        if not packed:
            return adam(state, grads, jnp.float32(1))
        params, opt_state = state
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return jax.tree.map(jnp.add, params, updates), opt_state

    params, grads = leaves(), leaves()
    state = (params, optimizer.init(params)) if packed else (params, leaves(), leaves())
    compiled = jax.jit(step, donate_argnums=0)

    def run():
        nonlocal state
        state = compiled(state, grads)
        return state

    return run


def recurrent(kind: str, rows: int, inputs: int, nodes: int, ours: bool, steps: int) -> tuple:
    """`layer(params, x)`, by a scan of cells or ours, with its arguments."""
    cell, layer = {"lstm": (jn.lstm_cell, jn.lstm), "gru": (jn.gru_cell, jn.gru)}[kind]
    init = {"lstm": jn.lstm_init, "gru": jn.gru_init}[kind]
    keys = jax.random.split(jax.random.key(0), 2)
    params, x = init(keys[0], inputs, nodes), jax.random.normal(keys[1], (rows, steps, inputs))

    def scanned(params, x):
        def step(carry, x):
            carry = cell(params, carry, x)
            return carry, carry[0] if kind == "lstm" else carry

        zeros = jnp.zeros((rows, nodes))
        start = (zeros, zeros) if kind == "lstm" else zeros
        return jnp.moveaxis(jax.lax.scan(step, start, jnp.moveaxis(x, 1, 0))[1], 0, 1)

    return (lambda *a: layer(*a)[0]) if ours else scanned, params, x


def recurrent_forward(kind: str, rows: int, inputs: int, nodes: int, ours: bool) -> Callable:
    """`run()`: the outputs of `RECURRENT_STEPS` steps."""
    layer, *arguments = recurrent(kind, rows, inputs, nodes, ours, RECURRENT_STEPS)
    return functools.partial(jax.jit(layer), *arguments)


def recurrent_gradient(kind: str, after: bool) -> Callable:
    """`run()`: outputs and all gradients of 32 sequences of 128 steps of 64 values, 128 nodes."""
    layer, *arguments = recurrent(kind, 32, 64, 128, after, 128)
    weights = jax.random.normal(jax.random.key(2), (32, 128, 128))

    def both(params, x):
        y, back = jax.vjp(layer, params, x)
        return y, back(weights)

    return functools.partial(jax.jit(both), *arguments)


def orders(n: int, networks: int, draw: Callable) -> Callable:
    """`run()`: `draw(key, n)`, an order of n samples for each of many networks."""
    keys = jax.random.split(jax.random.key(0), networks)
    return functools.partial(jax.jit(jax.vmap(lambda key: draw(key, n))), keys)


def weight_gradient(networks: int, rows: int, inputs: int, nodes: int, multiply) -> Callable:
    """`run()`: of `x w`, the gradient for w, of one network or of many, `TIMES` over."""
    shapes = [(networks, rows, inputs), (networks, inputs, nodes), (networks, rows, nodes)]
    keys = jax.random.split(jax.random.key(0), 3)
    arrays = [jax.random.normal(*pair) for pair in zip(keys, shapes, strict=True)]

    def gradient(x, w, ct):
        return jax.vjp(lambda w: multiply(x, w), w)[1](ct)[0]

    of_all = jax.vmap(gradient)
    if networks == 1:
        arrays, of_all = [a[0] for a in arrays], gradient
    x, w, ct = arrays
    return repeated(TIMES, lambda x, w: of_all(x, w, ct), x, w)


def convolution(as_products: bool) -> Callable:
    """`run()`: the second one of W2, its outputs and the gradient for its kernel."""
    geometry = Geometry((14, 14), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(64, 14, 14, 32), (3, 3, 32, 64), (64, 14, 14, 64)]
    x, w, ct = (jax.random.normal(*pair) for pair in zip(keys, shapes, strict=True))

    def both(x, w, ct):
        y, back = jax.vjp(lambda w: convolve(x, w, geometry), w)
        return (y if as_products else convolve(x, w, geometry)), back(ct)

    return functools.partial(jax.jit(both), x, w, ct)


def by_slices(x):
    return functools.reduce(jnp.maximum, [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def by_windows(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def by_max_pool(x):
    return jn.max_pool(x, 2)


def pooling_gradient(pool: Callable) -> Callable:
    """`run()`: of what the first convolution of W2 makes, behind its activation."""
    keys = jax.random.split(jax.random.key(0), 2)
    shapes = [(64, size, size, 32) for size in (28, 14)]
    x, ct = (jax.random.normal(*pair) for pair in zip(keys, shapes, strict=True))

    def gradient(x, ct):
        return jax.vjp(lambda x: pool(jax.nn.relu(x)), x)[1](ct)[0]

    return functools.partial(jax.jit(gradient), x, ct)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times parts of what jaxnodes does.")
    parser.add_argument("--only", default="", help="parts whose names hold this")
    only = parser.parse_args().only
    steps = {
        "products, gradients and SGD": epoch(sgd, None),
        "Adam in place of SGD": epoch(adam, None),
        "Adam, dropout by jax.random": epoch(adam, by_jax_random),
        "Adam, dropout by hashed places": epoch(adam, uniform),
    }
    losses = {
        f"cross-entropy's gradient {samples}, {classes}, {name}": cross_entropy_gradient(
            samples, classes, loss
        )
        for samples, classes in CLASSES
        for name, loss in {"optax": by_optax, "ours": jn.cross_entropy}.items()
    }
    networks = {
        f"a step of {'-'.join(map(str, sizes))}, batch {batch}, {name}": network_steps(
            batch, sizes, small_products
        )
        for batch, sizes in NETWORKS
        for name, small_products in {"YNNPACK": False, "Eigen": True}.items()
    }
    ablations = {
        f"ablation of {'-'.join(map(str, sizes))}, {samples} samples, {name}": ablation(
            samples, sizes, small_products
        )
        for samples, sizes in ABLATIONS
        for name, small_products in {"YNNPACK": False, "Eigen": True}.items()
    }
    draws = {"jax.random.permutation": jax.random.permutation, "without sorting": shuffled}
    shuffles = {
        f"{networks} x {n} samples in order, {name}": orders(n, networks, draw)
        for n, networks in ((10_000, 1), (1_797, 256))
        for name, draw in draws.items()
    }
    gradients = {
        f"{networks} x weight gradient {rows}, {inputs}, {nodes}, {name}": weight_gradient(
            networks, rows, inputs, nodes, multiply
        )
        for networks, rows, inputs, nodes in WEIGHTS
        for name, multiply in {"x @ w": jnp.matmul, "product": product}.items()
    }
    convolutions = {
        "convolution and gradient, as products": convolution(True),
        "convolution by XLA, gradient as products": convolution(False),
    }
    pooling = {
        "pooling's gradient, of slices": pooling_gradient(by_slices),
        "pooling's gradient, of reduce_window": pooling_gradient(by_windows),
        "pooling's gradient, of max_pool": pooling_gradient(by_max_pool),
    }
    recurrent_gradients = {
        f"{kind.upper()} gradient, {'after' if after else 'in'} the loop": recurrent_gradient(
            kind, after
        )
        for kind in ("lstm", "gru")
        for after in (False, True)
    }
    products = {f"an LSTM's product of {rows} rows": step_product(rows) for rows in (32, 64, 128)}
    forward = {
        f"{kind.upper()} step {rows}, {inputs}, {nodes}, {name}": recurrent_forward(
            kind, rows, inputs, nodes, ours
        )
        for kind, rows, inputs, nodes in RECURRENT
        for name, ours in {"one loop": False, "two loops": True}.items()
    }
    small = {
        "Adam, 1,000 leaves, means in as many": many_leaves(packed=False),
        "Adam, 1,000 leaves, means in packs": many_leaves(packed=True),
    }
    every = {
        **steps,
        "fit of one step": fit_of_one_step(),
        **losses,
        **networks,
        **shuffles,
        **gradients,
        **convolutions,
        **pooling,
        **recurrent_gradients,
        **products,
        **forward,
        **small,
        **ablations,
    }
    runs = {name: run for name, run in every.items() if only in name}
    times = {
        **dict.fromkeys(steps, STEPS),
        **dict.fromkeys(networks, NETWORK_STEPS),
        **dict.fromkeys(gradients, TIMES),
        **dict.fromkeys(products, STEPS),
        **dict.fromkeys(forward, RECURRENT_STEPS),
    }
    for run in runs.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):  # in turn, so that all see the same machine
        for name, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - began)
    for name, values in seconds.items():
        each = np.array(values) / times.get(name, 1) * 1e6
        print(f"{name:54} {np.median(each):8.0f} us  ({each.min():.0f} to {each.max():.0f})")


if __name__ == "__main__":
    main()
