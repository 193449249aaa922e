import dataclasses
import functools
import zlib

import equinox
import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from tests.layers.agreement import draw

X = draw((5, 4), jnp.float32)


@dataclasses.dataclass(frozen=True)
class Autoencoder(jn.Layer):
    """Tied weights: the decoder is the encoder's transpose."""

    features: int

    def apply(self, params, state, x, *, key=None, training=False):
        h, state = jn.call(
            jn.Dense(self.features, "tanh"), "encoder", params, state, x, key=key, training=training
        )
        return h @ params["encoder"]["w"].T, state


@dataclasses.dataclass(frozen=True)
class Twice(jn.Layer):
    layer: jn.Layer

    def apply(self, params, state, x, *, key=None, training=False):
        options = {"key": key, "training": training}
        y, state = jn.call(self.layer, "tied", params, state, x, **options)
        return jn.call(self.layer, "tied", params, state, y, **options)


@dataclasses.dataclass(frozen=True)
class Loop(jn.Layer):
    """A child called within a scan, and its weights used after it."""

    layer: jn.Layer

    def apply(self, params, state, x, *, key=None, training=False):
        def step(x, _):
            return jn.call(self.layer, "step", params, state, x)[0], None

        y, _ = jax.lax.scan(step, x, None, length=3)
        return y + params["step"]["b"], state


def folded(key, name):
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_childs_weights_depend_on_the_key_and_the_names_on_its_path_alone(key):
    net = jn.Sequential(body=jn.Sequential(jn.Dense(3)))
    params, _ = net.init(key, X)
    expected, _ = jn.Dense(3).init(folded(folded(key, "body"), "dense1"), X)
    assert_same(params, {"body": {"dense1": expected}})


def test_a_composite_with_tied_weights(key):
    net = Autoencoder(3)
    params, state = net.init(key, X)
    assert_same(params, {"encoder": jn.Dense(3).init(folded(key, "encoder"), X)[0]})
    w, b = params["encoder"]["w"], params["encoder"]["b"]
    expected = np.tanh(X @ w + b) @ w.T
    np.testing.assert_allclose(net.predict((params, state), X), expected, rtol=1e-5, atol=1e-6)
    inside = jn.Sequential(jn.Dense(4), Autoencoder(3))
    assert list(inside.init(key, X)[0]) == ["dense1", "autoencoder1"]


def test_two_calls_by_one_name_share_weights_randomness_and_state(key):
    net = Twice(jn.Sequential(jn.Dense(4), jn.BatchNorm()))
    params, state = net.init(key, X)
    assert list(params) == ["tied"]
    once = functools.partial(net.layer.apply, params["tied"], training=True)
    y, middle = once(state["tied"], X)
    y, after = once(middle, y)
    assert_same(net.apply(params, state, X, training=True), (y, {"tied": after}))
    dropped, _ = Twice(jn.Dropout(0.5)).apply({}, {}, X, key=key, training=True)
    mask = jn.dropout(folded(key, "tied"), jnp.ones_like(X), 0.5) != 0
    np.testing.assert_array_equal(dropped, jnp.where(mask, 4 * X, 0))


def test_a_composite_may_call_within_a_scan(key):
    params, state = Loop(jn.Dense(4)).init(key, X)
    assert jax.tree.map(jnp.shape, params) == {"step": {"w": (4, 4), "b": (4,)}}
    assert state == {}
    with jax.checking_leaks():
        jn.Sequential(Loop(jn.Dense(4)), Autoencoder(2)).init(key, X)


def test_a_composites_key_is_folded_with_the_childs_name(key):
    @dataclasses.dataclass(frozen=True)
    class Noisy(jn.Layer):
        def apply(self, params, state, x, *, key=None, training=False):
            return jn.call(jn.Dropout(0.5), "drop", params, state, x, key=key, training=training)

    y, _ = Noisy().apply({}, {}, X, key=key, training=True)
    np.testing.assert_array_equal(y, jn.dropout(folded(key, "drop"), X, 0.5))


def test_names_scope_the_nodes(key):
    net = jn.Sequential(jn.Dense(3), deep=jn.Residual(jn.Sequential(jn.Dense(3), "relu")))
    variables = net.init(key, X)
    jaxpr = jax.make_jaxpr(net.predict)(variables, X)
    nodes = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "node"]
    names = [str(eqn.source_info.name_stack) for eqn in nodes]
    assert names == ["dense1", "deep/dense1", "deep/relu1"]


@pytest.mark.parametrize("name", ["", "a/b", "a#2", "vmap(a)", 3, None])
def test_a_name_is_one_part_of_a_path(name):
    with pytest.raises(jn.JaxNodesError, match=r"expected a name without any of '/#\(\)', got"):
        jn.call(jn.Dense(3), name, {}, {}, X)


def test_params_and_state_come_in_dicts(key):
    net = jn.Sequential(jn.Dense(3))
    params, state = variables = net.init(key, X)
    for wrong in (lambda: net.apply(variables, state, X), lambda: net.apply(params, None, X)):
        with pytest.raises(jn.JaxNodesError, match="expected params and state, a dict each, got"):
            wrong()
    with pytest.raises(jn.JaxNodesError, match="predict: expected variables, the pair"):
        net.predict(params, X)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (np.ones((2, 4), np.float32), "float32"),
        (np.ones((2, 4)), "float32"),
        (jnp.ones((2, 4), jnp.bfloat16), "bfloat16"),
        (jax.ShapeDtypeStruct((2, 4), jnp.float16), "float16"),
        (jax.ShapeDtypeStruct((2, 4), jnp.float64), "float32"),
        ({"ids": jnp.ones((2, 4), jnp.int32)}, "float32"),
        ((jnp.ones(2, jnp.int32), jnp.ones((2, 4), jnp.bfloat16)), "bfloat16"),
    ],
)
def test_parameters_take_the_floating_dtype_of_the_input(x, dtype, key):
    def init(key, x):
        return {"w": jnp.ones(3, x.dtype)}, {}

    def apply(params, state, x, *, key=None, training=False):
        return x, state

    @dataclasses.dataclass(frozen=True)
    class OnFloats(jn.Layer):
        """Hands its child floats of its own choice, in float32 always."""

        def apply(self, params, state, x, *, key=None, training=False):
            y = jnp.ones((2, 4), jnp.float32)
            return jn.call(jn.from_functions(init, apply), "child", params, state, y)

    params, _ = OnFloats().init(key, x)
    assert params["child"]["w"].dtype == dtype


def test_parameters_are_float64_under_x64(key, x64):
    params, _ = jn.Sequential(jn.Dense(3), jn.Dense(2)).init(key, np.ones((2, 4)))
    assert {p.dtype.name for p in jax.tree.leaves(params)} == {"float64"}


def test_from_functions(key):
    def init(key, x):
        assert isinstance(x, jax.ShapeDtypeStruct)
        return {"w": jax.random.normal(key, x.shape[1:])}, {"calls": jnp.zeros(())}

    def shift(params, state, x, *, key=None, training=False):
        noise = jax.random.normal(key, x.shape) if training else 0.0
        return x + params["w"] + noise, {"calls": state["calls"] + 1}

    layer = jn.from_functions(init, shift)
    net = jn.Sequential(layer, jn.Dense(2), layer)
    assert [name for name, _ in net.layers] == ["shift1", "dense1", "shift2"]
    assert "from_functions(init, shift)" in repr(net)
    params, state = net.init(key, X)
    np.testing.assert_array_equal(
        params["shift1"]["w"], jax.random.normal(folded(key, "shift1"), (4,))
    )
    _, state = net.apply(params, state, X, key=key, training=True)
    _, state = net.apply(params, state, X)
    assert state == {"shift1": {"calls": 2}, "shift2": {"calls": 2}}
    with pytest.raises(jn.JaxNodesError, match="expected a typed PRNG key, got int"):
        layer.init(0, X)


def test_anything_with_init_and_apply_is_a_layer(key):
    class Duck:
        def init(self, key, x):
            return {"b": jnp.ones(x.shape[-1])}, {}

        def apply(self, params, state, x, *, key=None, training=False):
            return x + params["b"], state

    net = jn.Sequential(Duck(), jn.Residual(Duck()))
    variables = net.init(key, X)
    assert jax.tree.map(jnp.shape, variables[0]) == {
        "duck1": {"b": (4,)},
        "residual1": {"duck1": {"b": (4,)}},
    }
    np.testing.assert_allclose(net.predict(variables, X), 2 * (X + 1) + 1, rtol=1e-6)


def scaled(x, factor):
    return factor * x


@pytest.mark.parametrize(
    ("function", "name", "by_hand"),
    [
        ("relu", "relu1", lambda x: np.maximum(x, 0)),
        ("Leaky-ReLU", "leaky_relu1", lambda x: np.where(x > 0, x, 0.01 * x)),
        (jnp.sin, "sin1", np.sin),
        (functools.partial(scaled, factor=3.0), "scaled1", lambda x: 3 * x),
        (lambda x: x**2, "lambda1", np.square),
    ],
)
def test_any_elementwise_callable_lifts(function, name, by_hand, key):
    net = jn.Sequential(function)
    assert net.layers[0][0] == name
    variables = net.init(key, X)
    assert variables == ({}, {})
    np.testing.assert_allclose(net.predict(variables, X), by_hand(np.asarray(X)), rtol=1e-6)
    assert str(jax.make_jaxpr(net.predict)(variables, X)).count("node[axis=1") == 1


def test_a_scalar_is_one_node():
    net = jn.Sequential("tanh")
    assert "node[axis=None" in str(jax.make_jaxpr(net.predict)(({}, {}), 1.0))


def test_a_function_that_changes_the_shape_is_refused(key):
    with pytest.raises(jn.JaxNodesError, match=r"^glu1: .* keeps .* made \(5, 2\) of \(5, 4\)"):
        jn.Sequential("glu").init(key, X)


@pytest.mark.parametrize(
    ("library", "make"),
    [
        ("flax", lambda: flax.linen.Dense(3)),
        ("flax", lambda: flax.nnx.Linear(4, 3, rngs=flax.nnx.Rngs(0))),
        ("equinox", lambda: equinox.nn.Linear(4, 3, key=jax.random.key(0))),
        ("equinox", lambda: equinox.nn.MLP(4, 3, 2, 1, key=jax.random.key(0))),
    ],
)
def test_modules_of_other_libraries_are_refused_with_advice(library, make):
    module = make()
    kind = type(module).__name__
    problem = rf"expected a jaxnodes layer, got the {library} module {kind}; wrap it: jn\.from_func"
    for wrong in (
        lambda: jn.Sequential(jn.Dense(3), module),
        lambda: jn.Residual(module),
        lambda: jn.call(module, "child", {}, {}, X),
    ):
        with pytest.raises(jn.JaxNodesError, match=problem):
            wrong()


def test_modules_of_torch_are_refused_with_advice():
    torch = pytest.importorskip("torch")
    with pytest.raises(jn.JaxNodesError, match=r"got the torch module Linear; wrap it"):
        jn.Sequential(torch.nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (jn.Dense, "got the class Dense; call it first"),
        (3, "expected a layer, an activation's name or an elementwise function, got 3"),
        (None, "got None"),
        ([jn.Dense(3)], r"got \[Dense\(3\)\]"),
        ("rely", "did you mean 'relu'"),
    ],
)
def test_what_is_no_layer_is_refused(wrong, problem):
    with pytest.raises(jn.JaxNodesError, match=problem):
        jn.Sequential(wrong)


def test_a_layer_without_apply_says_so():
    @dataclasses.dataclass(frozen=True)
    class Unfinished(jn.Layer):
        pass

    with pytest.raises(TypeError, match="Unfinished has no apply method"):
        Unfinished().predict(({}, {}), X)


@pytest.mark.parametrize(
    "key", [jax.random.PRNGKey(0), 0, None, np.uint32(3), jax.random.split(jax.random.key(0))]
)
def test_only_one_typed_key_will_do(key):
    for net in (jn.Sequential(jn.Dense(3)), jn.Flatten(), jn.Repeat(jn.Dense(4), 2)):
        with pytest.raises(jn.JaxNodesError, match=r"expected (a typed PRNG key|one key), got"):
            net.init(key, X)


def test_layers_are_values():
    net = jn.Sequential(jn.Dense(3, "relu"), jn.Dropout(0.5))
    assert net == jn.Sequential(jn.Dense(3, jn.relu), jn.Dropout(0.5))
    assert len({net, jn.Sequential(jn.Dense(3, "relu"), jn.Dropout(0.5)), jn.Dense(3)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.layers[0][1].features = 4


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(jn.Dense(3)) == "Dense(3)"
    assert (
        repr(jn.Dense(3, "tanh", w_init=jn.constant(0.5), dtype=jnp.bfloat16))
        == "Dense(3, activation=tanh, w_init=constant(0.5), dtype=bfloat16)"
    )
    assert repr(jn.Parallel("relu", a=jn.Flatten(), merge=max)) == (
        "Parallel(\n  relu1=relu,\n  a=Flatten(),\n  merge=max,\n)"
    )
    assert repr(jn.Sequential()) == "Sequential()"
