import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from tests.layers.agreement import draw

X = draw((5, 4), jnp.float32)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def names(net):
    return [name for name, _ in net.layers]


def test_sequential_is_composition(key):
    net = jn.Sequential(jn.Dense(3, "tanh"), "relu", jn.Dense(2))
    params, state = net.init(key, X)
    h = jax.nn.relu(jnp.tanh(jn.dense(params["dense1"], X)))
    np.testing.assert_array_equal(net.predict((params, state), X), jn.dense(params["dense2"], h))


def test_children_are_counted_by_kind_and_keywords_are_not():
    net = jn.Sequential(
        jn.Dense(3), jn.MaxPool(2), "relu", jn.Dense(3), jn.LSTM(3), jn.RMSNorm(), out=jn.Dense(1)
    )
    assert names(net) == ["dense1", "max_pool1", "relu1", "dense2", "lstm1", "rms_norm1", "out"]


def test_state_and_params_leave_out_empty_entries(key):
    net = jn.Sequential(jn.Flatten(), jn.BatchNorm(), "relu", jn.Sequential("relu"), jn.Dense(2))
    params, state = net.init(key, X)
    assert list(params) == ["batch_norm1", "dense1"]
    assert list(state) == ["batch_norm1"]
    assert jn.Sequential("relu", jn.Residual("tanh")).init(key, X) == ({}, {})


def test_an_empty_sequential_is_the_identity():
    assert jn.Sequential().predict(({}, {}), X) is X


def dropped_and_weights(net, key):
    """Each layer's weights, and the mask of each dropout, seen through identity layers around."""
    params, state = net.init(key, X)
    masks = {}

    @dataclasses.dataclass(frozen=True)
    class Watched(jn.Layer):
        name: str
        rate: float

        def apply(self, params, state, x, *, key=None, training=False):
            masks[self.name] = jn.dropout(key, jnp.ones((5, 8)), self.rate)
            return x, state

    watched = jn.Sequential(
        **{
            name: Watched(name, layer.rate) if isinstance(layer, jn.Dropout) else layer
            for name, layer in net.layers
        }
    )
    watched.apply(params, state, X, key=key, training=True)
    return params, masks


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (  # a layer of another kind
            jn.Sequential(jn.Dense(4), jn.Dropout(0.5), jn.Dense(4), jn.Dropout(0.5), jn.Dense(2)),
            jn.Sequential(
                jn.LayerNorm(),
                jn.Dense(4),
                jn.Dropout(0.5),
                "relu",
                jn.Dense(4),
                jn.Residual(jn.Dense(4)),
                jn.Dropout(0.5),
                jn.Dense(2),
            ),
        ),
        (  # any layer, where names are given
            jn.Sequential(a=jn.Dense(4), b=jn.Dropout(0.5), c=jn.Dense(4), d=jn.Dropout(0.5)),
            jn.Sequential(
                jn.Dense(4),
                jn.Dropout(0.1),
                a=jn.Dense(4),
                b=jn.Dropout(0.5),
                new=jn.Dense(4),
                other=jn.Dropout(0.2),
                c=jn.Dense(4),
                d=jn.Dropout(0.5),
            ),
        ),
    ],
)
def test_inserting_a_layer_leaves_the_others_weights_and_masks(before, after, key):
    params, masks = dropped_and_weights(before, key)
    new_params, new_masks = dropped_and_weights(after, key)
    assert len(new_params) > len(params)
    assert_same({name: new_params[name] for name in params}, params)
    assert_same({name: new_masks[name] for name in masks}, masks)


@pytest.mark.parametrize("kind", [jn.Sequential, jn.Parallel])
def test_names_that_collide_are_refused(kind):
    with pytest.raises(jn.JaxNodesError, match=r"^\w+: the name .'dense1'. is taken"):
        kind(jn.Dense(3), dense1=jn.Dense(3))
    with pytest.raises(jn.JaxNodesError, match=r"expected a name without any of '/#\(\)'"):
        kind(**{"a/b": jn.Dense(3)})


@pytest.mark.parametrize("kind", [jn.Sequential, jn.Parallel])
def test_parameters_of_another_network_are_refused(kind, key):
    params, state = kind(jn.Dense(4), extra=jn.Dense(4)).init(key, X)
    with pytest.raises(jn.JaxNodesError, match=r"for \['dense1'\], got \['extra'\] as well"):
        kind(jn.Dense(4)).predict((params, state), X)
    with pytest.raises(jn.JaxNodesError, match=r"^dense2: expected the parameters .*got \[\]"):
        kind(jn.Dense(4), jn.Dense(4), extra=jn.Dense(4)).predict((params, state), X)


def test_errors_name_the_path(key):
    net = jn.Sequential(
        jn.Dense(4),
        jn.Residual(jn.Sequential(jn.Dense(3), jn.Dense(4))),
        block=jn.Parallel(jn.Repeat(jn.Residual(jn.Dense(4)), 2), inner=jn.Dense(2)),
    )
    params, state = net.init(key, X)
    for path, layer in [
        (("dense1",), "dense1"),
        (("residual1", "dense2"), "residual1/dense2"),
        (("block", "inner"), "block/inner"),
    ]:
        broken = jax.tree.map(lambda p: p, params)
        entry = broken
        for name in path:
            entry = entry[name]
        entry["b"] = jnp.zeros(7)
        with pytest.raises(jn.JaxNodesError, match=rf"^{layer}: expected 'b' of shape"):
            net.predict((broken, state), X)
    broken = jax.tree.map(lambda p: p, params)
    broken["block"]["repeat1"]["residual1"]["dense1"]["b"] = jnp.zeros((2, 7))
    with pytest.raises(jn.JaxNodesError, match=r"^block/repeat1/residual1/dense1: expected 'b'"):
        jax.jit(net.predict)((broken, state), X)


def test_residual_adds_its_input(key):
    net = jn.Residual(jn.Sequential(jn.Dense(6, "relu"), jn.Dense(4)))
    params, state = net.init(key, X)
    assert list(params) == ["dense1", "dense2"]
    inner = jn.dense(params["dense2"], jax.nn.relu(jn.dense(params["dense1"], X)))
    np.testing.assert_array_equal(net.predict((params, state), X), X + inner)


def test_residual_refuses_another_shape(key):
    with pytest.raises(jn.JaxNodesError, match=r"^residual1: .* made float32 \(5, 3\) of float32"):
        jn.Sequential(jn.Residual(jn.Dense(3))).init(key, X)
    with pytest.raises(jn.JaxNodesError, match=r"^residual1: .* made float32 \(1, 4\) of"):
        jn.Sequential(
            jn.Residual(jn.from_functions(lambda k, x: ({}, {}), lambda p, s, x, **_: (x[:1], s)))
        ).init(key, X)


def test_residual_may_compute_in_half_precision(key):
    net = jn.Residual(jn.Sequential(jn.LayerNorm(), jn.Dense(4, dtype=jnp.bfloat16)))
    variables = net.init(key, X)
    assert net.predict(variables, X).dtype == jnp.float32
    with pytest.raises(jn.JaxNodesError, match=r"made float32 \(5, 4\) of bfloat16"):
        jn.Residual(jn.Dense(4, dtype=jnp.float32)).init(key, X.astype(jnp.bfloat16))


def test_residual_hands_on_a_mask(key):
    x, mask = jax.random.normal(key, (2, 3, 4)), jn.lengths_to_mask(jnp.array([3, 2]), 3)
    net = jn.Sequential(jn.Residual(jn.Attention(2)), jn.Residual(jn.GRU(4)), jn.LastStep())
    variables = params, _ = net.init(key, (x, mask))
    h = x + jn.attention(params["residual1"]["attention1"], x, mask=mask)
    h += jn.gru(params["residual2"]["gru1"], h, mask=mask)[0]
    expected = jnp.stack([h[0, 2], h[1, 1]])
    np.testing.assert_allclose(net.predict(variables, (x, mask)), expected, atol=1e-6)
    y = jn.Residual(jn.CrossAttention(2)).init(key, (x, x))  # which makes no pair of it
    assert set(y[0]) == {"cross_attention1"}
    with pytest.raises(jn.JaxNodesError, match=r"^residual1: .* made float32 \(2, 3, 3\) of"):
        jn.Sequential(jn.Residual(jn.GRU(3))).init(key, (x, mask))


def test_parallel_merges(key):
    branches = {"a": jn.Dense(3), "b": jn.Dense(3, "relu")}
    params, state = variables = jn.Parallel(**branches).init(key, X)
    a, b = jn.dense(params["a"], X), jax.nn.relu(jn.dense(params["b"], X))
    for merge, expected in [
        ("concat", np.concatenate([a, b], axis=-1)),
        ("sum", a + b),
        (lambda ys: ys[0] * ys[1], a * b),
        (tuple, (a, b)),
    ]:
        net = jn.Parallel(**branches, merge=merge)
        assert_same(net.predict(variables, X), expected)
    assert state == {}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: jn.Parallel(jn.Dense(3), jn.Dense(4), merge="sum"), r"alike in shape .*\(5, 4\)"),
        (lambda: jn.Parallel("relu", jn.Dense(3, dtype=jnp.bfloat16)), "dtype, got .* bfloat16"),
        (lambda: jn.Parallel("relu", jn.Repeat("relu", 2), merge="mean"), "expected merge to be"),
        (lambda: jn.Parallel(), "expected at least one layer"),
        (lambda: jn.Repeat("relu", 0), "n to be a whole number of at least 1"),
        (lambda: jn.Repeat(jn.Dense(3), 2), r"repeat1: .* made .*\(5, 3\).* of .*\(5, 4\)"),
    ],
)
def test_wrong_combinations_are_refused(make, problem, key):
    with pytest.raises(jn.JaxNodesError, match=problem):
        jn.Sequential(make()).init(key, X)


def body():
    return jn.Sequential(jn.Dense(4, "tanh"), jn.BatchNorm(), jn.Dropout(0.3))


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_repeat_equals_a_python_loop(remat, training, key):
    net = jn.Repeat(body(), 3, remat=remat)
    params, state = net.init(key, X)
    y, after = jax.jit(net.apply, static_argnames="training")(
        params, state, X, key=key, training=training
    )
    expected, states = X, []
    for i in range(3):
        own, own_state = jax.tree.map(lambda leaf, i=i: leaf[i], (params, state))
        made, _ = net.layer.init(jax.random.fold_in(key, i), X)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), own, made)
        expected, new = net.layer.apply(
            own, own_state, expected, key=jax.random.fold_in(key, i), training=training
        )
        states.append(new)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after, stacked
    )


def test_remat_changes_no_gradient(key, x64):
    x = X.astype(jnp.float64)
    params, state = jn.Repeat(body(), 3).init(key, x)

    def gradient(remat):
        net = jn.Repeat(body(), 3, remat=remat)

        @jax.jit
        @jax.grad
        def run(params):
            y, _ = net.apply(params, state, x, key=key, training=True)
            return (y**3).sum()

        return run(params), str(jax.make_jaxpr(run)(params)).count(" tanh ")

    plain, once = gradient(remat=False)
    again, twice = gradient(remat=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), again, plain)
    assert (once, twice) == (1, 2)


def test_the_program_of_repeat_does_not_grow(key):
    def equations(n):
        net = jn.Repeat(body(), n)
        variables = jax.eval_shape(net.init, key, X)
        return str(jax.make_jaxpr(net.predict)(variables, X)).count(" = ")

    assert equations(2) == equations(20)


def test_repeat_checks_its_depth(key):
    variables = jn.Repeat(jn.Dense(4), 3).init(key, X)
    with pytest.raises(jn.JaxNodesError, match="expected parameters of 2 layers .* got 3"):
        jn.Repeat(jn.Dense(4), 2).predict(variables, X)


def test_repeat_nests(key):
    net = jn.Repeat(jn.Repeat(jn.Residual(jn.Dense(4)), 2), 3)
    params, state = net.init(key, X)
    w = params["repeat1"]["residual1"]["dense1"]["w"]
    assert w.shape == (3, 2, 4, 4)
    assert len({row.tobytes() for row in np.asarray(w).reshape(6, 16)}) == 6
    expected = X
    for weights in w.reshape(6, 4, 4):
        expected = expected + expected @ weights
    np.testing.assert_allclose(net.predict((params, state), X), expected, rtol=1e-4, atol=1e-4)
