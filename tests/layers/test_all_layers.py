"""What holds for every layer: one walk over the table for each promise."""

import copy
import dataclasses
import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnodes as jn
from jaxnodes.layers.serialization import LAYERS, from_config, to_config
from tests.layers.table import TABLE

every_layer = pytest.mark.parametrize("name", TABLE)
KEY = jax.random.key(3)


@functools.cache
def made(name, seed=0):
    """The layer, its variables from `seed`, and a batch."""
    entry = TABLE[name]
    x = entry.x(jax.random.key(1), jnp.float32)
    return entry.layer, entry.layer.init(jax.random.key(seed), x), x


def run(layer, variables, x):
    """All that `layer` computes, at inference and in training."""
    return layer.predict(variables, x), layer.apply(*variables, x, key=KEY, training=True)


def assert_close(actual, expected, tolerance=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = (np.asarray(value, np.float64) for value in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def floating(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def test_the_table_holds_every_public_layer():
    used = set()

    def note(value):
        if isinstance(value, jn.Layer):
            used.add(type(value).__name__)
            note(tuple(getattr(value, field.name) for field in dataclasses.fields(value)))
        elif isinstance(value, tuple):
            for item in value:
                note(item)

    for entry in TABLE.values():
        note(entry.layer)
    assert used == set(LAYERS)


@every_layer
def test_jit_equals_eager_and_traces_once(name):
    layer, variables, x = made(name)
    traces = []

    @jax.jit
    def jitted(variables, x):
        traces.append(None)
        return run(layer, variables, x)

    out = jitted(variables, x)
    assert_close(out, run(layer, variables, x))
    assert all(np.isfinite(leaf.astype(np.float32)).all() for leaf in floating(out))
    jitted(*copy.deepcopy((variables, x)))
    assert len(traces) == 1


@every_layer
def test_vmap_and_scan_over_networks_equal_one_by_one(name):
    layer, first, x = made(name)
    second = made(name, seed=1)[1]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)

    @jax.jit
    def all_ways(stacked):
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(2)]
        one_by_one = jax.tree.map(lambda *ys: jnp.stack(ys), *(run(layer, v, x) for v in each))
        batched = jax.vmap(lambda v: run(layer, v, x), axis_size=2)(stacked)
        _, scanned = jax.lax.scan(lambda _, v: (None, run(layer, v, x)), None, stacked, length=2)
        return one_by_one, batched, scanned

    one_by_one, batched, scanned = all_ways(stacked)
    assert_close(batched, one_by_one)
    assert_close(scanned, one_by_one)


@every_layer
def test_gradients_equal_finite_differences_in_float64(name, x64):
    entry = TABLE[name]
    x = entry.x(jax.random.key(1), jnp.float64)
    params, state = entry.layer.init(jax.random.key(0), x)
    leaves, structure = jax.tree.flatten((params, x))
    inexact = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    @jax.jit
    def f(*moving):
        moving = iter(moving)
        filled = [
            next(moving) if moves else leaf for leaf, moves in zip(leaves, inexact, strict=True)
        ]
        params, x = jax.tree.unflatten(structure, filled)
        return floating(entry.layer.apply(params, state, x, key=KEY, training=True))

    moving = tuple(leaf for leaf, moves in zip(leaves, inexact, strict=True) if moves)
    assert all(leaf.dtype == jnp.float64 for leaf in [*moving, *jax.eval_shape(f, *moving)])
    check_grads(f, moving, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


@every_layer
def test_bfloat16_stays_bfloat16(name):
    entry = TABLE[name]
    layer, variables, x = made(name)
    half = entry.x(jax.random.key(1), jnp.bfloat16)
    params, state = entry.layer.init(jax.random.key(0), half)
    if floating(half):
        assert all(leaf.dtype == jnp.bfloat16 for leaf in floating(params))
        y = jax.jit(layer.predict)((params, state), half)
        trained = jax.eval_shape(lambda: layer.apply(params, state, half, key=KEY, training=True))
        assert all(leaf.dtype == jnp.bfloat16 for leaf in floating((y, trained[0])))
        assert_close(y, layer.predict(variables, x), tolerance=0.1)
    if hasattr(layer, "dtype"):
        computing = dataclasses.replace(layer, dtype=jnp.bfloat16)
        params, state = computing.init(jax.random.key(0), x)
        assert all(leaf.dtype == jnp.float32 for leaf in floating(params))
        y, _ = jax.eval_shape(lambda: computing.apply(params, state, x))
        assert all(leaf.dtype == jnp.bfloat16 for leaf in floating(y))


@every_layer
def test_no_tracer_leaks(name):
    entry = TABLE[name]
    x = entry.x(jax.random.key(1), jnp.float32)

    def whole(key):
        return run(entry.layer, entry.layer.init(key, x), x)

    with jax.checking_leaks():
        jax.eval_shape(whole, jax.random.key(0))


@every_layer
def test_init(name):
    layer, variables, x = made(name)
    specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), x)
    again = layer.init(jax.random.key(0), specs)
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), specs)
    assert jax.tree.map(lambda leaf: leaf.shape, variables) == jax.tree.map(
        lambda leaf: leaf.shape, shapes
    )

    def check_tree(tree, top=True):
        if isinstance(tree, dict):
            assert top or tree, "an empty entry"
            for inner in tree.values():
                check_tree(inner, top=False)
        else:
            assert isinstance(tree, jax.Array)
            assert not tree.weak_type

    for tree in variables:
        assert isinstance(tree, dict)
        check_tree(tree)


@every_layer
def test_predict_is_apply_at_inference_and_leaves_out_the_state(name):
    layer, variables, x = made(name)
    y, _ = layer.apply(*variables, x, training=False)
    jax.tree.map(np.testing.assert_array_equal, layer.predict(variables, x), y)


class _Names(dict):
    def __missing__(self, name):
        return jnp.bfloat16 if name == "bfloat16" else getattr(jn, name)


@every_layer
def test_descriptions_print_compare_copy_and_become_configs(name):
    layer = TABLE[name].layer
    variants = [layer]
    if hasattr(layer, "dtype"):
        variants.append(dataclasses.replace(layer, dtype=jnp.bfloat16))
    for variant in variants:
        written = json.dumps(to_config(variant))
        for same in (
            eval(repr(variant), {}, _Names()),
            copy.deepcopy(variant),
            pickle.loads(pickle.dumps(variant)),
            from_config(json.loads(written)),
        ):
            assert same == variant
            assert hash(same) == hash(variant)
    assert len(set(variants)) == len(variants)


@every_layer
def test_a_raw_key_is_refused(name):
    entry = TABLE[name]
    x = entry.x(jax.random.key(1), jnp.float32)
    with pytest.raises(jn.JaxNodesError, match=r"expected a typed PRNG key, got a uint32.*jax\."):
        entry.layer.init(jax.random.PRNGKey(0), x)


@pytest.mark.parametrize("name", [name for name, entry in TABLE.items() if entry.wrong])
def test_a_wrong_feature_count_is_named_with_the_path(name):
    entry = TABLE[name]
    net = jn.Sequential(outer=jn.Sequential(inner=entry.layer))
    x, wrong = (make(jax.random.key(1), jnp.float32) for make in (entry.x, entry.wrong))
    variables = net.init(jax.random.key(0), x)
    with pytest.raises(jn.JaxNodesError, match=r"^outer/inner.*: expected .* got "):
        net.predict(variables, wrong)
