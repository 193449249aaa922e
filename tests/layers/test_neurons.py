import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import jaxnodes as jn
from tests.layers.agreement import assert_agrees_with_jax, assert_agrees_with_torch, draw

both_dtypes = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
shapes = pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])


@both_dtypes
@shapes
def test_dense_equals_flax(shape, dtype, x64):
    assert_agrees_with_jax(
        lambda w, b, x: jn.dense({"w": w, "b": b}, x),
        lambda w, b, x: nn.Dense(3).apply({"params": {"kernel": w, "bias": b}}, x),
        draw((4, 3), dtype, 1),
        draw(3, dtype, 2),
        draw(shape, dtype),
    )


@both_dtypes
@shapes
def test_dense_without_bias_equals_torch_with_the_weights_transposed(shape, dtype, x64):
    torch = pytest.importorskip("torch")
    assert_agrees_with_torch(
        torch,
        lambda w, x: jn.dense({"w": w}, x),
        lambda w, x: torch.nn.functional.linear(x, w.T),
        draw((4, 3), dtype, 1),
        draw(shape, dtype),
    )


def test_one_layers_step_of_the_digit_reader_in_matrix_form():
    """a' = sigma(W a + b), by hand: sums 0, ln 3 and -ln 3 make 1/2, 3/4 and 1/4."""
    ln3 = np.log(3.0).astype(np.float32)
    params = {"w": jnp.array([[1.0, ln3, 0.0], [2.0, 0.0, ln3]]), "b": jnp.array([-3.0, 0, 0])}
    params["w"] = params["w"].at[1, 2].multiply(-1)
    layer = jn.Dense(3, "sigmoid")
    np.testing.assert_allclose(
        layer.predict((params, {}), jnp.ones((1, 2))), [[0.5, 0.75, 0.25]], rtol=1e-6
    )


def test_dense_init_is_he_normal_with_zero_biases(key):
    params = jn.dense_init(key, 784, 256)
    assert jax.tree.map(jnp.shape, params) == {"w": (784, 256), "b": (256,)}
    np.testing.assert_allclose(params["w"].std(), np.sqrt(2 / 784), rtol=0.01)
    np.testing.assert_allclose(params["w"].mean(), 0, atol=5e-4)
    assert (params["b"] == 0).all()


def test_dense_takes_initializers_by_function_and_by_name(key):
    layer = jn.Dense(3, w_init="Xavier Uniform", b_init=jn.constant(0.5))
    params, _ = layer.init(key, jnp.ones((1, 4)))
    w_key, _ = jax.random.split(key)
    np.testing.assert_array_equal(params["w"], jn.xavier_uniform(w_key, (4, 3)))
    np.testing.assert_array_equal(params["b"], [0.5] * 3)


def test_activation_by_name_and_by_function_is_the_same_layer():
    assert jn.Dense(3, "relu") == jn.Dense(3, jn.relu) == jn.Dense(3, jax.nn.relu)
    assert hash(jn.Dense(3, "relu")) == hash(jn.Dense(3, jn.relu))
    assert jn.Dense(3) != jn.Dense(3, "relu") != jn.Dense(4, "relu")


def test_dense_layer_is_activation_of_dense_and_names_a_node(key):
    x = draw((5, 4), jnp.float32)
    layer = jn.Dense(3, jnp.sin)
    variables = layer.init(key, x)
    np.testing.assert_array_equal(layer.predict(variables, x), jnp.sin(jn.dense(variables[0], x)))
    jaxpr = str(jax.make_jaxpr(layer.predict)(variables, x))
    assert jaxpr.count("node[axis=1") == 1


@pytest.mark.parametrize("x_dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_sets_what_is_computed_in(x_dtype, key):
    layer = jn.Dense(3, dtype=jnp.bfloat16)
    params, _ = layer.init(key, jnp.ones((1, 4)))
    assert params["w"].dtype == jnp.float32
    assert layer.predict((params, {}), jnp.ones((2, 4), x_dtype)).dtype == jnp.bfloat16
    assert jn.Dense(3, dtype="bfloat16") == layer


def test_narrower_floats_are_widened_and_wider_ones_refused(x64):
    params = jn.dense_init(jax.random.key(0), 4, 3)
    for dtype in (jnp.bfloat16, jnp.float16):
        assert jn.dense(params, jnp.ones(4, dtype)).dtype == jnp.float32
    with pytest.raises(jn.JaxNodesError, match=r"expected float32 .*, got float64 \(4,\); cast"):
        jn.dense(params, jnp.ones(4, jnp.float64))


def test_numpy_arrays_and_float64_without_x64_do(key):
    params = jn.dense_init(key, 4, 3)
    assert jn.dense(params, np.ones((2, 4))).dtype == jnp.float32


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (np.ones((32, 63), np.float32), r"expected 64 features .* got 63 \(input \(32, 63\)\)"),
        (np.float32(1), "got a scalar"),
        (np.ones((2, 64), np.int32), r"expected float32 inputs, got int32 \(2, 64\); scale it to"),
        (np.ones((2, 64), np.uint8), r"got uint8 \(2, 64\); scale it to floats first \(x / 255"),
        (np.ones((2, 64), bool), r"got bool \(2, 64\)"),
    ],
)
def test_wrong_inputs_are_refused(x, problem, key):
    with pytest.raises(jn.JaxNodesError, match=problem):
        jn.dense(jn.dense_init(key, 64, 2), x)


def test_layers_check_parameters_against_their_description(key):
    layer, x = jn.Dense(3), jnp.ones((2, 4))
    params, _ = layer.init(key, x)
    for wrong, problem in [
        ({}, r"expected the parameters \['b', 'w'\], got \[\]"),
        ({"w": params["w"]}, r"expected the parameters \['b', 'w'\], got \['w'\]"),
        ({**params, "c": x}, r"got \['b', 'c', 'w'\]"),
        ({**params, "b": jnp.ones(4)}, r"expected 'b' of shape \(3,\), got \(4,\)"),
        ({**params, "w": jnp.ones((4, 5))}, r"expected 'w' of shape \(any, 3\), got \(4, 5\)"),
        (None, r"expected the parameters \['b', 'w'\], got NoneType"),
    ]:
        with pytest.raises(jn.JaxNodesError, match=problem):
            layer.apply(wrong, {}, x)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: jn.Dense(0), "features to be a whole number of at least 1, got 0"),
        (lambda: jn.Dense(2.0), "features to be a whole number of at least 1, got 2.0"),
        (lambda: jn.Dense(True), "features to be a whole number"),
        (lambda: jn.Dense(3, "rely"), "did you mean 'relu'"),
        (lambda: jn.Dense(3, w_init="he"), "the name of an initializer"),
        (lambda: jn.Dense(3, dtype=jnp.int32), "expected a floating dtype"),
        (lambda: jn.Dense(3, in_features=0), "in_features to be a whole number"),
        (lambda: jn.dense_init(jax.random.key(0), 0, 3), "in_features to be a whole number"),
        (lambda: jn.dense_init(0, 2, 3), "expected a typed PRNG key, got int"),
        (lambda: jn.Dense(3).init(jax.random.key(0), 1.0), "at least one axis, got float"),
    ],
)
def test_the_constructor_validates(make, problem):
    with pytest.raises(jn.JaxNodesError, match=problem):
        make()


@both_dtypes
@shapes
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_neuron_equals_numpy(shape, activation, dtype, x64):
    x, w = draw(shape, dtype), draw(4, dtype, 1)
    z = np.asarray(x) @ np.asarray(w) + 0.5
    expected = z if activation is None else scipy.special.expit(z)
    params = {"w": w, "b": jnp.asarray(0.5, dtype)}
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-14
    np.testing.assert_allclose(jn.neuron(params, x, activation), expected, tolerance, tolerance)
    np.testing.assert_array_equal(jn.neuron(params, x, jnp.sin), jnp.sin(jn.neuron(params, x)))


def test_neuron_init(key):
    params = jn.neuron_init(key, 3, w_init=jn.xavier_normal)
    assert jax.tree.map(jnp.shape, params) == {"w": (3,), "b": ()}
    np.testing.assert_array_equal(
        params["w"], jn.dense_init(key, 3, 1, w_init=jn.xavier_normal)["w"][:, 0]
    )
    assert params["b"] == 0


def test_a_neuron_refuses_what_does_not_fit(key):
    params = jn.neuron_init(key, 3)
    with pytest.raises(jn.JaxNodesError, match="expected 3 features .* got 4"):
        jn.neuron(params, jnp.ones(4))
    with pytest.raises(jn.JaxNodesError, match=r"neuron: expected 'w' of shape \(any,\), got"):
        jn.neuron(jn.dense_init(key, 3, 1), jnp.ones(3))
