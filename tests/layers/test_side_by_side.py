"""Two loops over half of the rows, against one scan over all of them."""

import functools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes.layers.side_by_side import halves, side_by_side


def step(constants, carry, slices, keep):
    w, b = constants
    h, count = carry
    (x, valid), a = slices
    z = keep(h @ w) + keep(x * b)
    new = jnp.where(valid, jnp.tanh(z), h)
    y = {"h": new, "n": count}
    return (new, count + valid.astype(count.dtype)), (y, {"z": keep(z * a), "x": x})


def problem(rows, steps, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(rows), 6)
    constants = (jax.random.normal(keys[0], (4, 4), dtype), jax.random.normal(keys[1], (4,), dtype))
    carry = (jax.random.normal(keys[2], (rows, 4), dtype), jnp.arange(rows)[:, None])
    xs = (
        jax.random.normal(keys[3], (steps, rows, 4), dtype),
        jax.random.bernoulli(keys[4], 0.7, (steps, rows, 1)),
    )
    return constants, carry, xs, jax.random.normal(keys[5], (steps, rows, 4), dtype)


def ours(constants, carry, xs, a, reverse=False):
    last, ys, bs = side_by_side(step, constants, carry, xs, halves(a, 1), reverse=reverse)
    return last, (ys, jax.tree.map(lambda *b: jnp.concatenate(b, axis=1), *bs))


def scanned(constants, carry, xs, a, reverse=False):
    def body(carry, slices):
        return step(constants, carry, slices, lambda value: value)

    return jax.lax.scan(body, carry, (xs, a), reverse=reverse)


def assert_close(a, b, rtol=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("rows", "steps"), [(2, 1), (5, 3), (8, 6)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_is_a_scan(rows, steps, reverse, dtype):
    arguments = problem(rows, steps, jnp.dtype(dtype))
    run = jax.jit(functools.partial(ours, reverse=reverse))
    theirs = jax.jit(functools.partial(scanned, reverse=reverse))
    rtol = 1e-5 if dtype == "float32" else 0.05
    assert_close(run(*arguments), theirs(*arguments), rtol)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_finite_stays_in_its_row(bad):
    constants, carry, (x, valid), a = problem(6, 4)
    arguments = constants, carry, (x.at[1, 2].set(bad), jnp.ones_like(valid)), a
    assert_close(ours(*arguments), scanned(*arguments))
    assert np.isfinite(ours(*arguments)[0][0][jnp.array([0, 1, 3, 4, 5])]).all()


def test_many_at_once():
    many = jax.tree.map(lambda *a: jnp.stack(a), *[problem(4, 3) for _ in range(3)])
    assert_close(jax.jit(jax.vmap(ours))(*many), jax.vmap(scanned)(*many))


def test_in_a_loop():
    constants, carry, *xs = problem(6, 4)

    def twice(form):
        return jax.lax.scan(lambda c, _: form(constants, c, *xs), carry, length=2)

    assert_close(jax.jit(twice, static_argnums=0)(ours), twice(scanned))


def test_halves():
    x = jnp.arange(10).reshape(2, 5)
    a, b = halves({"x": x}, 1)
    np.testing.assert_array_equal(a["x"], x[:, :2])
    np.testing.assert_array_equal(b["x"], x[:, 2:])


# Compiles recurrent layers; XLA logs what its executor will run. Forward and backward are apart,
# for the log cuts a long program off.
COMPILED = """
import sys, jax, jax.numpy as jnp, jaxnodes as jn
from jaxnodes.layers import over_time
over_time.workers = lambda: 2 * jax.local_device_count()

def compiled(f, *arguments):
    print("next", kind, masked, f.__name__, file=sys.stderr, flush=True)
    f = jax.jit(f)
    f.lower(*arguments).compile()
    return jax.eval_shape(f, *arguments)

for kind in ("simple_rnn", "lstm", "gru"):
    params = getattr(jn, kind + "_init")(jax.random.key(0), 16, 128)
    for masked in (False, True):
        x, mask = jnp.ones((32, 64, 16)), jnp.ones((32, 64), bool) if masked else None
        def forward(params, x):
            return getattr(jn, kind)(params, x, mask=mask)[0]
        def derived(params, x):
            return jax.vjp(forward, params, x)
        def backward(pull, cotangent):
            return pull(cotangent)
        compiled(forward, params, x)
        outputs, pull = compiled(derived, params, x)
        compiled(backward, pull, outputs)
"""


def run_at_once(thunks, rng):
    """The sets of loops that run at one time, as `ThunkExecutor` would have it.

    The first thread takes from its queue, and hands over the back half of what is left while
    that is more than eight; two workers do so with what they are handed. Which thread is next
    is drawn; one that has come to a loop goes on when no other one can.
    """
    waits = {name: len(needed) for name, (_, needed) in thunks.items()}
    queues, handed, held, sets = [[n for n in thunks if not waits[n]], [], []], [], {}, []
    while True:
        for worker in (1, 2):
            if handed and not queues[worker] and worker not in held:
                queues[worker] = handed.pop(rng.integers(len(handed)))
        free = [k for k, queue in enumerate(queues) if queue and k not in held]
        if free:
            k = free[rng.integers(len(free))]
            name = queues[k].pop(0)
            while len(queues[k]) > 8:
                middle = len(queues[k]) // 2
                handed.append(queues[k][middle:])
                del queues[k][middle:]
            if thunks[name][0] == "while":
                held[k] = name
                continue
            done = {k: name}
        elif held:
            sets.append(set(held.values()))
            done, held = held, {}
        else:
            assert not any(waits.values())
            return sets
        for k, name in done.items():
            for other, (_, needed) in thunks.items():
                if name in needed:
                    waits[other] -= 1
                    if not waits[other]:
                        queues[k].append(other)


def test_both_run_at_once():
    settings = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "0"}
    settings |= {"TF_CPP_VMODULE": "thunk_executor=6", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMPILED]
    said = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    if "ThunkExecutor: #thunks=" not in said.stderr:
        pytest.skip("this XLA logs no graphs")
    _, *programs = said.stderr.split("\nnext ")
    assert len(programs) == 18
    line = re.compile(r"thunk #\d+: op_name=(.*?), kind=(\S+), dependencies=\[(.*?)\]")
    for program in programs:
        title = program.splitlines()[0]
        graph = max(program.split("ThunkExecutor: #thunks="), key=len)
        thunks = {name: (kind, re.findall(r"[^, ]+", by)) for name, kind, by in line.findall(graph)}
        assert len(thunks) == int(graph.split()[0]), f"{title}: not all of the graph was read"
        for seed in range(20):
            sets = run_at_once(thunks, np.random.default_rng(seed))
            assert [len(loops) for loops in sets if len(loops) > 1] == [2], title
