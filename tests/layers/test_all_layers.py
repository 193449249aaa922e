"""What holds for every layer: one walk over the table for each promise."""

import copy
import dataclasses
import functools
import gc
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.layers.serialization import LAYERS, from_config, to_config
from tests.layers.table import TABLE

every_layer = pytest.mark.parametrize("name", TABLE)
KEY = jax.random.key(3)

# Compiling is all the time these tests take, so XLA need not try hard.
quick_jit = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


@functools.cache
def made(name):
    """The layer, its variables, and a batch."""
    entry = TABLE[name]
    # In float32, whichever test asks first: those of float64 keep it too.
    with jax.enable_x64(False):
        x = entry.x(jax.random.key(1))
        return entry.layer, entry.layer.init(jax.random.key(0), x), x


@functools.cache
def compiled(name):
    """`run` of the layer, and the list that its traces are noted in."""
    layer, _, _ = made(name)
    traces = []

    def noted(variables, x):
        traces.append(None)
        return run(layer, variables, x)

    return quick_jit(noted), traces


def run(layer, variables, x):
    """All that `layer` computes, at inference and in training."""
    return layer.predict(variables, x), train(layer, variables, x)


def train(layer, variables, x):
    return layer.apply(*variables, x, key=KEY, training=True)


def assert_close(actual, expected, tolerance=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = (np.asarray(value, np.float64) for value in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def is_floating(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def floating(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if is_floating(leaf)]


def in_dtype(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_floating(leaf) else leaf, tree)


def specs_of(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


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
def test_jit_equals_eager_and_traces_once_and_predict_is_apply_at_inference(name):
    layer, variables, x = made(name)
    jitted, traces = compiled(name)
    out = jitted(variables, x)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in floating(out))
    y, _ = layer.apply(*variables, x, training=False)
    assert_close(out[0], y)
    jax.tree.map(np.testing.assert_array_equal, layer.predict(variables, x), y)
    jitted(*copy.deepcopy((variables, x)))
    assert len(traces) == 1


@every_layer
def test_vmap_and_scan_over_networks_equal_one_by_one(name):
    layer, variables, x = made(name)
    other = jax.tree.map(lambda leaf: leaf * 0.7 if is_floating(leaf) else leaf, variables)
    networks = [variables, other]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    one_by_one = [compiled(name)[0](network, x)[1] for network in networks]
    one_by_one = jax.tree.map(lambda *leaves: np.stack(leaves), *one_by_one)

    @quick_jit
    def both(stacked):
        batched = jax.vmap(lambda v: train(layer, v, x), axis_size=2)(stacked)
        _, scanned = jax.lax.scan(lambda _, v: (None, train(layer, v, x)), None, stacked, length=2)
        return batched, scanned

    for together in both(stacked):
        assert_close(together, one_by_one)


@every_layer
def test_gradients_equal_finite_differences_in_float64(name, x64):
    layer, variables, x = made(name)
    (params, state), x = in_dtype((variables, x), jnp.float64)
    if floating(x):
        made64 = jax.eval_shape(layer.init, jax.random.key(0), x)
        assert all(leaf.dtype == jnp.float64 for leaf in floating(made64))

    leaves, structure = jax.tree.flatten((params, x))
    where = [i for i, leaf in enumerate(leaves) if is_floating(leaf)]
    moving = [leaves[i] for i in where]
    random = np.random.default_rng(0)
    directions = [random.normal(size=leaf.shape) for leaf in moving]

    def f(moving):
        filled = list(leaves)
        for i, leaf in zip(where, moving, strict=True):
            filled[i] = leaf
        params, x = jax.tree.unflatten(structure, filled)
        return floating(train(layer, (params, state), x))

    outputs = jax.eval_shape(f, moving)
    assert all(leaf.dtype == jnp.float64 for leaf in outputs)
    weights = [random.normal(size=leaf.shape) for leaf in outputs]

    def dot(a, b):
        return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))

    @quick_jit
    def slopes(moving):
        def along(step):
            moved = [leaf + step * d for leaf, d in zip(moving, directions, strict=True)]
            return dot(weights, f(moved))

        step = 1e-6
        high, low = jax.lax.map(along, jnp.array([step, -step]))
        _, forward = jax.jvp(f, (moving,), (directions,))
        (backward,) = jax.vjp(f, moving)[1](list(map(jnp.asarray, weights)))
        return (high - low) / (2 * step), dot(weights, forward), dot(backward, directions)

    difference, forward, backward = slopes(moving)
    np.testing.assert_allclose(forward, difference, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(backward, forward, rtol=1e-11, atol=1e-11)


@every_layer
def test_bfloat16_stays_bfloat16(name):
    layer, variables, x = made(name)
    half = in_dtype(x, jnp.bfloat16)
    if floating(x):
        specs = jax.eval_shape(layer.init, jax.random.key(0), half)
        assert all(leaf.dtype == jnp.bfloat16 for leaf in floating(specs[0]))
        narrow = jax.tree.map(lambda leaf, spec: leaf.astype(spec.dtype), variables, specs)
        y, (trained, state) = jax.eval_shape(functools.partial(run, layer), narrow, half)
        assert all(leaf.dtype == jnp.bfloat16 for leaf in floating((y, trained)))
        assert specs_of(state) == specs_of(narrow[1])
        y = quick_jit(layer.predict)(narrow, half)
        assert_close(y, compiled(name)[0](variables, x)[0], tolerance=0.1)
    if hasattr(layer, "dtype"):
        computing = dataclasses.replace(layer, dtype=jnp.bfloat16)
        params, state = jax.eval_shape(computing.init, jax.random.key(0), x)
        assert all(leaf.dtype == jnp.float32 for leaf in floating(params))
        y, after = jax.eval_shape(computing.apply, params, state, x)
        assert all(leaf.dtype == jnp.bfloat16 for leaf in floating(y))
        assert specs_of(after) == specs_of(state)


@every_layer
def test_no_tracer_leaks(name):
    layer, _, x = made(name)

    def whole(key):
        return run(layer, layer.init(key, x), x)

    gc.freeze()  # or each search goes through all that older tests have left
    try:
        with jax.checking_leaks():
            jax.eval_shape(whole, jax.random.key(0))
    finally:
        gc.unfreeze()


@every_layer
def test_init(name):
    layer, variables, x = made(name)
    again = layer.init(jax.random.key(0), specs_of(x))
    assert specs_of(again) == specs_of(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert jax.eval_shape(layer.init, jax.random.key(0), specs_of(x)) == specs_of(variables)

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
    layer, _, x = made(name)
    with pytest.raises(jn.JaxNodesError, match=r"expected a typed PRNG key, got a uint32.*jax\."):
        layer.init(jax.random.PRNGKey(0), x)


@pytest.mark.parametrize("name", [name for name, entry in TABLE.items() if entry.wrong])
def test_a_wrong_feature_count_is_named_with_the_path(name):
    layer, _, x = made(name)
    net = jn.Sequential(outer=jn.Sequential(inner=layer))
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    with pytest.raises(jn.JaxNodesError, match=r"^outer/inner.*: expected .* got "):
        jax.eval_shape(net.predict, variables, TABLE[name].wrong(jax.random.key(1)))
