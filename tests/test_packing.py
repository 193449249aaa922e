"""Moments in packs: the same steps as with an array for each parameter, and as optax's."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes import packing
from jaxnodes.errors import JaxNodesError
from jaxnodes.optimizers import OPTIMIZERS, adam, adamw
from jaxnodes.packing import Packed
from tests.test_optimizers import PAIRS, follow

RULES = [name for name in PAIRS if "_" not in name]


@pytest.fixture(autouse=True)
def sooner(monkeypatch):
    """Fewer arrays compile in less time."""
    monkeypatch.setattr(packing, "_MANY", 64)
    monkeypatch.setattr(packing, "_PACK", 9_000)


def many(seed, steps=(), dtypes=(jnp.float32,)):
    """70 small arrays of several shapes and two large ones, in dicts and lists."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (), (5,), (1, 2, 3), (0,), (4096,), (2, 2)]

    def normal(shape, i):
        return jnp.asarray(rng.normal(size=(*steps, *shape)), dtypes[i % len(dtypes)])

    small = {f"layer{i}": [normal(shape, i) for shape in shapes] for i in range(10)}
    return {"first": normal((4097,), 0), **small, "last": {"w": normal((70, 60), 0)}}


def close(a, b):
    a, b = (np.asarray(leaf, np.float32) for leaf in (a, b))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_steps_are_those_of_optax(name):
    ours, theirs, rate = PAIRS[name]
    params, gradients = many(0), many(1, steps=(5,))
    state = ours(rate).init(params)
    assert all(isinstance(moment, Packed) for moment in state.moments)
    with jax.numpy_dtype_promotion("standard"):  # for optax's own
        expected = follow(theirs(rate), params, gradients)
    jax.tree.map(close, follow(ours(rate), params, gradients), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtypes", [(jnp.float32,), (jnp.bfloat16, jnp.float32, jnp.float16)])
def test_steps_are_those_of_moments_in_trees(name, dtypes, monkeypatch):
    params, gradients = many(2, dtypes=dtypes), many(3, (4,), dtypes)

    def steps():
        optimizer = OPTIMIZERS[name](0.01)
        state, found = optimizer.init(params), []
        step = jax.jit(lambda g, state: optimizer.update(g, state, params))
        for t in range(4):
            updates, state = step(jax.tree.map(lambda g, t=t: g[t], gradients), state)
            found.append(updates)
        return found, state

    packed, state = steps()
    monkeypatch.setattr(packing, "_MANY", 1_000)
    alone, in_trees = steps()
    jax.tree.map(close, packed, alone)
    assert jax.tree.map(jnp.result_type, packed) == jax.tree.map(jnp.result_type, alone)
    for moment, tree in zip(state.moments, in_trees.moments, strict=True):
        small = [m.ravel() for m in jax.tree.leaves(tree) if m.size <= 4096]
        close(jnp.concatenate(moment.small), jnp.concatenate(small))
        assert len(moment.small) == 4
        large = [m for m in jax.tree.leaves(tree) if m.size > 4096]
        jax.tree.map(close, jax.tree.leaves(moment.large), large)


def test_a_mask_shows_the_small_ones_too():
    def matrices(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    params, gradients = many(4), many(5)
    optimizer, plain = adamw(0.1, weight_decay=0.5, mask=matrices), adamw(0.1, weight_decay=0)
    found, _ = optimizer.update(gradients, optimizer.init(params), params)
    without, _ = plain.update(gradients, plain.init(params), params)
    decayed = jax.tree.map(lambda u, p: u - 0.05 * p if p.ndim > 1 else u, without, params)
    jax.tree.map(close, found, decayed)


def test_of_many_networks_and_without_parameters():
    params, optimizer = many(6), adam(0.1)

    def step(params):
        return optimizer.update(params, optimizer.init(params))

    both = jax.vmap(step)(jax.tree.map(lambda p: jnp.stack([p, -p]), params))
    jax.tree.map(lambda a, b: close(a[0], b), both, step(params))


def test_wider_and_few_arrays_keep_their_own(x64, monkeypatch):
    params = many(7, dtypes=(jnp.float64,))
    assert not isinstance(adam(0.1).init(params).moments[0], Packed)
    monkeypatch.undo()
    few = {f"{i}": jnp.ones(3, jnp.float32) for i in range(255)}
    assert jax.tree.structure(adam(0.1).init(few).moments[0]) == jax.tree.structure(few)
    enough = few | {"255": jnp.ones(3, jnp.float32), "wide": jnp.ones(2, jnp.float64)}
    moment = adam(0.1).init(enough).moments[0]
    assert [pack.shape for pack in moment.small] == [(768,)]
    assert [leaf.dtype for leaf in jax.tree.leaves(moment.large)] == [jnp.float64]


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g | {"first": jnp.ones(5)},
        lambda g: g | {"more": jnp.ones(5)},
        lambda g: {name: leaf for name, leaf in g.items() if name != "layer3"},
        lambda g: g | {"layer3": [jnp.ones((4, 4)), *g["layer3"][1:]]},
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_gradients_of_another_network(change, given):
    params, optimizer = many(8), adam(0.1)
    gradients = change(params)
    with pytest.raises(JaxNodesError, match="expected gradients .*from the same network"):
        optimizer.update(gradients, optimizer.init(params), params if given else None)


def test_parts_of_a_shape_are_one_program():
    """Else compiling a thousand of them takes 8 s."""
    params = {str(i): jnp.ones((3, 5)) for i in range(100)}
    optimizer = adam(0.1)
    text = jax.jit(optimizer.update).lower(params, optimizer.init(params)).compile().as_text()
    operations = re.findall(r"^%?\S+ \(.*?\n\}", text, flags=re.MULTILINE | re.DOTALL)
    parts = [operation for operation in operations if "dynamic-slice(" in operation]
    unnamed = [re.sub(r"metadata={[^}]*}|%[\w.-]+|\w+\.\d+", "", part) for part in parts]
    assert len(parts) == 100
    assert len(set(unnamed)) < 4


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("jitted", [False, True])
def test_arrays_that_devices_share_keep_their_own(kind, jitted):
    """In a process that has two devices."""
    code = f"""
import jax, jax.numpy as jnp, numpy as np, jaxnodes as jn, jaxnodes.packing
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
jn.packing._MANY = 64
jax.config.update("jax_num_cpu_devices", 2)
mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.{kind},))
with jax.set_mesh(mesh):
    specs = {{str(i): P("d") if i % 2 else P() for i in range(140)}}
    params = {{k: jax.device_put(jnp.full(4, int(k) + 1.0), NamedSharding(mesh, s))
              for k, s in specs.items()}}
    optimizer = jn.adam(0.1)
    state = (jax.jit if {jitted and kind == "Explicit"} else lambda f: f)(optimizer.init)(params)
    moves, state = (jax.jit if {jitted} else lambda f: f)(optimizer.update)(params, state, params)
    assert [pack.shape for pack in state.moments[0].small] == [(280,)]
    for name, move in moves.items():
        np.testing.assert_allclose(move, -0.1, rtol=1e-3)
        assert move.sharding.is_fully_replicated == (specs[name] == P()), name
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["uncommitted", "committed", "NumPy", "traced"])
def test_zeros_are_where_the_parameter_is(kind):
    made = {
        "uncommitted": jnp.asarray,
        "committed": lambda x: jax.device_put(x, jax.devices()[0]),
        "NumPy": np.asarray,
        "traced": jnp.asarray,
    }
    p = made[kind](np.ones((2, 3), jnp.bfloat16))
    z = jax.jit(packing.zeros)(p) if kind == "traced" else packing.zeros(p)
    assert isinstance(z, jax.Array)
    assert (z.shape, z.dtype, z.weak_type) == ((2, 3), jnp.float32, False)
    assert not z.any()
    assert z.committed == (kind == "committed")
