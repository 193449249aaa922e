"""`vmap_in_groups` equals `jax.vmap`, whatever the groups, axes and settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError, cores
from jaxnodes.compiling import compiler_options
from tests.training.problems import blobs, classifier


def close(a, b, atol=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-4), a, b)


@pytest.mark.parametrize("group_size", [None, 1, 2, 3, 5, 100])
def test_runs_equal_those_of_vmap(group_size):
    data = blobs(50)
    train = jn.make_train(
        classifier(0.3), loss=jn.cross_entropy, optimizer=jn.adam, epochs=2, batch_size=16
    )
    keys, rates = jax.random.split(jax.random.key(0), 5), jnp.logspace(-3, -1, 5)
    in_axes = (0, None, 0)
    ours = jn.vmap_in_groups(train, in_axes, group_size=group_size)(keys, data, rates)
    theirs = jax.jit(jax.vmap(train, in_axes))(keys, data, rates)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    close(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("in_axes", [0, (0, 0), (0, None), (None, -1), (0, (1, None)), [0, (1, 0)]])
@pytest.mark.parametrize("seed", range(3))
def test_any_axes_of_any_arrays(in_axes, seed):
    rng = np.random.default_rng(seed)
    n, group_size = rng.integers(1, 8, 2).tolist()
    x = rng.normal(size=(n, 3))
    pair = (jnp.asarray(rng.normal(size=(n, n))), None, rng.normal(size=(n, n, n)))
    if isinstance(in_axes, (tuple, list)) and isinstance(in_axes[1], tuple):
        first, last = in_axes[1]
        in_axes = type(in_axes)([in_axes[0], (first, None, last)])

    def f(x, pair):
        return {"sum": jnp.sum(x), "twice": (2 * pair[0], jnp.sin(pair[2]))}

    close(
        jn.vmap_in_groups(f, in_axes, group_size=group_size)(x, pair),
        jax.vmap(f, in_axes)(x, pair),
    )


def test_typed_keys_and_settings_of_the_caller(monkeypatch):
    """Threads have none of the caller's settings; x64 is one."""
    monkeypatch.setattr(cores, "cores", lambda: 2)
    keys = jax.random.split(jax.random.key(1), 6)

    def f(key, x):
        return jax.random.split(key)[0], x * jnp.pi, jax.random.normal(key)

    with jax.enable_x64(True):
        x = np.linspace(0, 1, 6)
        found, scaled, drawn = jn.vmap_in_groups(f)(keys, x)
        expected, _, numbers = jax.vmap(f)(keys, x)
    assert scaled.dtype == drawn.dtype == np.float64
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))
    np.testing.assert_allclose(scaled, x * np.pi, rtol=1e-15)
    np.testing.assert_allclose(drawn, numbers, rtol=1e-12)


def test_one_trace_serves_all_groups_and_calls(monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 4)
    traces = []

    def f(x):
        traces.append(x.shape)
        return x + 1

    mapped = jn.vmap_in_groups(f)
    for _ in range(2):
        np.testing.assert_array_equal(mapped(jnp.arange(10)), jnp.arange(1, 11))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("n", "of_cores", "group_size", "expected"),
    [
        (256, 2, None, [32] * 8),
        (256, 16, None, [16] * 16),
        (33, 2, None, [17, 17]),  # the last repeats one of the first
        (3, 2, None, [2, 2]),
        (10, 2, 4, [4, 4, 4]),
        (10, 1, None, [10]),
        (40, 1, None, [20, 20]),
    ],
)
def test_the_sizes_of_groups(n, of_cores, group_size, expected, monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: of_cores)
    seen = []

    def f(x):
        jax.debug.callback(lambda x: seen.append(int(x)), x)
        return x

    result = jn.vmap_in_groups(f, group_size=group_size)(jnp.arange(n))
    jax.effects_barrier()
    np.testing.assert_array_equal(result, np.arange(n))
    assert len(seen) == sum(expected)
    assert set(seen) == set(range(n))


@pytest.mark.parametrize(("group_size", "calls"), [(None, 7), (3, 9)])
def test_elsewhere_all_at_once_unless_asked(group_size, calls, monkeypatch):
    compiler_options(False)  # keeps the CPU's answer, for later tests too
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    seen = []

    def f(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return jnp.sin(x)

    x = np.arange(7, dtype=np.float32)
    ours = jn.vmap_in_groups(f, group_size=group_size)(x)
    jax.effects_barrier()
    np.testing.assert_allclose(ours, np.sin(x), rtol=1e-6)
    assert len(seen) == calls


def test_within_other_transformations_it_is_vmap():
    x = jnp.linspace(-1, 1, 12).reshape(6, 2)

    def square(x):
        return jnp.sum(x**2)

    mapped = jn.vmap_in_groups(square, group_size=2)
    np.testing.assert_allclose(jax.jit(mapped)(x), jnp.sum(x**2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: mapped(x).sum())(x), 2 * x, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(mapped)(x[None])[0], jnp.sum(x**2, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "in_axes", "message"),
    [
        ((jnp.ones(3), jnp.ones(4)), 0, r"one length of all mapped axes, got \[3, 4\]"),
        ((jnp.ones(3), jnp.ones(3)), (1, None), r"an axis 1, got shape \(3,\)"),
        ((jnp.ones((0, 2)), jnp.ones(3)), (0, None), r"one length of all mapped axes, got \[0\]"),
        ((jnp.ones(3), jnp.ones(3)), (0,), r"in_axes for 2 arguments, got \(0,\)"),
        ((jnp.ones(3), jnp.ones(3)), (None, None), "got no mapped axis"),
    ],
)
def test_axes_that_do_not_fit(arguments, in_axes, message):
    with pytest.raises(JaxNodesError, match=f"vmap_in_groups: expected .*{message}"):
        jn.vmap_in_groups(jnp.add, in_axes)(*arguments)


def test_a_group_of_nothing():
    with pytest.raises(JaxNodesError, match="group_size"):
        jn.vmap_in_groups(jnp.sin, group_size=0)


def test_what_fails_in_a_group_is_raised():
    def f(x):
        return jax.pure_callback(_positive, x, x, vmap_method="sequential")

    with pytest.raises(Exception, match="expected no negative"):
        jn.vmap_in_groups(f, group_size=2)(jnp.array([1.0, 2.0, 3.0, -4.0]))


def _positive(x):
    if np.any(np.asarray(x) < 0):
        raise ValueError("expected no negative number")
    return np.asarray(x)
