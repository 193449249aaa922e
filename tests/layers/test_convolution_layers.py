"""Convolutions as layers: what they hold, how they print, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from tests.layers.agreement import draw

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("layer", "function", "shape"),
    [
        (jn.Conv(6, 3, "relu", stride=2, groups=2), jn.conv, (2, 5, 6, 4)),
        (jn.Conv(3, (4,), "relu", padding=((3, 0),), dilation=2), jn.conv, (2, 9, 2)),
        (jn.Conv(2, (1, 2, 3), "relu", padding="VALID"), jn.conv, (1, 3, 4, 5, 2)),
        (jn.ConvTranspose(3, (2, 4), "relu", stride=(1, 2)), jn.conv_transpose, (2, 3, 4, 2)),
        (jn.ConvTranspose(3, (3,), "relu", padding=1), jn.conv_transpose, (2, 5, 2)),
    ],
)
def test_a_layer_is_its_function_and_activation(layer, function, shape, key):
    x = draw(shape, jnp.float32)
    params, state = layer.init(key, x)
    y, after = layer.apply(params, state, x)
    names = ("stride", "padding", "dilation", *(["groups"] if function is jn.conv else []))
    options = {name: getattr(layer, name) for name in names}
    np.testing.assert_array_equal(y, jax.nn.relu(function(params, x, **options)))
    assert state == after == {}
    y, nodes = jn.record(lambda x: layer.predict((params, state), x))(x)
    assert [node.shape for node in nodes.values()] == [y.shape]


def test_one_filter_bank_a_channel():
    """`groups` of all channels: each is convolved by itself."""
    layer = jn.Conv(6, 3, groups=3)
    x = draw((2, 5, 5, 3), jnp.float32)
    params, _ = layer.init(KEY, x)
    assert params["w"].shape == (3, 3, 1, 6)
    alone = [
        jn.conv({"w": params["w"][..., 2 * c : 2 * c + 2]}, x[..., c : c + 1]) for c in range(3)
    ]
    y = layer.predict((params, {}), x)
    np.testing.assert_allclose(y, jnp.concatenate(alone, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "same", "shown"),
    [
        (jn.Conv(8, 3), jn.Conv(8, (3, 3)), "Conv(8, (3, 3))"),
        (jn.Conv(8, [3]), jn.Conv(8, (3,), stride=(1,)), "Conv(8, (3,))"),
        (jn.Conv(8, 3, "relu"), jn.Conv(8, [3, 3], jn.relu), "Conv(8, (3, 3), activation=relu)"),
        (jn.Conv(8, 3, stride=2), jn.Conv(8, 3, stride=[2, 2]), "Conv(8, (3, 3), stride=2)"),
        (jn.Conv(8, 3, stride=(2, 1)), jn.Conv(8, 3, stride=[2, np.int64(1)]),
         "Conv(8, (3, 3), stride=(2, 1))"),
        (jn.Conv(8, 3, padding=1), jn.Conv(8, 3, padding=((1, 1), [1, 1])),
         "Conv(8, (3, 3), padding=1)"),
        (jn.Conv(8, 3, padding=(1, 2)), jn.Conv(8, 3, padding=[(1, 1), 2]),
         "Conv(8, (3, 3), padding=(1, 2))"),
        (jn.Conv(8, 3, padding=((1, 2), (1, 2))), jn.Conv(8, 3, padding=[[1, 2], [1, 2]]),
         "Conv(8, (3, 3), padding=((1, 2), (1, 2)))"),
        (jn.Conv(8, [3], padding=[(2, 0)]), jn.Conv(8, (3,), padding=((2, 0),)),
         "Conv(8, (3,), padding=((2, 0),))"),
        (jn.Conv(8, 3, dilation=(2, 2), groups=4, use_bias=False),
         jn.Conv(8, 3, groups=4, dilation=2, use_bias=False),
         "Conv(8, (3, 3), dilation=2, use_bias=False, groups=4)"),
        (jn.Conv(8, 3, w_init="he_normal_fan_out"), jn.Conv(8, 3, w_init=jn.he_normal_fan_out),
         "Conv(8, (3, 3), w_init=he_normal_fan_out)"),
        (jn.Conv(8, 3, dtype="bfloat16"), jn.Conv(8, 3, dtype=jnp.bfloat16),
         "Conv(8, (3, 3), dtype=bfloat16)"),
        (jn.ConvTranspose(8, np.int64(2), stride=(2, 2)), jn.ConvTranspose(8, (2, 2), stride=2),
         "ConvTranspose(8, (2, 2), stride=2)"),
    ],
)  # fmt: skip
def test_layers_that_mean_the_same_are_equal(layer, same, shown):
    assert layer == same
    assert hash(layer) == hash(same)
    assert repr(layer) == repr(same) == shown


def test_layers_that_differ_are_not_equal():
    layers = [
        jn.Conv(8, 3),
        jn.Conv(8, (3,)),
        jn.Conv(8, 3, padding=(1, 2)),
        jn.Conv(8, 3, padding=((1, 2), (1, 2))),
        jn.Conv(8, 3, groups=2),
        jn.ConvTranspose(8, 3),
    ]
    assert len(set(layers)) == len(layers)


@pytest.mark.parametrize("kind", [jn.Conv, jn.ConvTranspose])
@pytest.mark.parametrize(
    ("problem", "arguments", "options"),
    [
        ("expected features to be a whole number of at least 1, got 0", (0, 3), {}),
        ("expected features to be a whole number of at least 1, got True", (True, 3), {}),
        ("expected kernel_size to be a whole number of at least 1, got 3.0", (8, 3.0), {}),
        ("expected kernel_size to be a whole number of at least 1, got None", (8, None), {}),
        (r"expected 1 to 3 kernel sizes, got \(\)", (8, ()), {}),
        ("expected stride to be a whole number of at least 1, got 0.5", (8, 3), {"stride": 0.5}),
        ("expected stride to be a whole number .* got False", (8, 3), {"stride": False}),
        (r"expected dilation for 2 spatial axes, got \(2,\)", (8, 3), {"dilation": (2,)}),
        ("expected padding 'SAME', 'VALID', an int, .* got 'FULL'", (8, 3), {"padding": "FULL"}),
        ("expected padding to be a whole number .* got True", (8, 3), {"padding": True}),
        ("expected padding to be .* of at least 0, got -1", (8, 3), {"padding": (0, -1)}),
    ],
)  # fmt: skip
def test_constructors_validate(kind, problem, arguments, options):
    with pytest.raises(jn.JaxNodesError, match=f"^{kind.__name__}: {problem}"):
        kind(*arguments, **options)


@pytest.mark.parametrize(
    ("problem", "groups"),
    [
        ("expected groups to be a whole number of at least 1, got 0", 0),
        ("expected groups to be a whole number of at least 1, got 2.0", 2.0),
        ("expected features to be a multiple of groups=3, got 8", 3),
    ],
)
def test_groups_are_validated(problem, groups):
    with pytest.raises(jn.JaxNodesError, match=f"^Conv: {problem}"):
        jn.Conv(8, 3, groups=groups)


NET = jn.Sequential(jn.Conv(4, 3), jn.Conv(6, 3, padding="VALID", groups=2))
IMAGES = np.ones((1, 5, 5, 3), np.float32)


@pytest.mark.parametrize(
    ("problem", "net", "x"),
    [
        (r"conv1: expected inputs of 4 axes \(batch, height, width, channels\), got float32 \(5,",
         NET, IMAGES[0, 0]),
        (r"conv2: expected an input that the kernel fits in, got spatial sizes \(2, 5\)",
         NET, IMAGES[:, :2]),
        (r"conv2: expected channels and features to be multiples of groups=3, got 4 channels and 6",
         jn.Sequential(jn.Conv(4, 3), jn.Conv(6, 3, groups=3)), IMAGES),
        (r"conv_transpose1: expected inputs of 3 axes \(batch, length, channels\)",
         jn.Sequential(jn.Flatten(), jn.ConvTranspose(4, (3,))), IMAGES),
    ],
)  # fmt: skip
def test_init_names_the_layer(problem, net, x):
    with pytest.raises(jn.JaxNodesError, match=f"^{problem}"):
        net.init(KEY, x)


@pytest.mark.parametrize(
    ("problem", "x"),
    [
        (r"conv1: expected 3 channels on the last axis, got 2 \(input \(1, 5, 5, 2\)\)",
         IMAGES[..., :2]),
        (r"conv1: expected inputs of 4 axes .*, got float32 \(1, 5, 3\)", IMAGES[0, :1]),
        (r"conv2: expected an input that the kernel fits in", IMAGES[:, :, :1]),
        (r"conv1: expected float32 inputs, got uint8 .*; scale it to floats", IMAGES.astype("u1")),
    ],
)  # fmt: skip
def test_apply_names_the_layer(problem, x):
    variables = jax.eval_shape(NET.init, KEY, IMAGES)
    with pytest.raises(jn.JaxNodesError, match=f"^{problem}"):
        jax.eval_shape(NET.predict, variables, x)


def test_parameters_are_checked_against_the_description():
    params, state = NET.init(KEY, IMAGES)
    wide = {**params, "conv2": {**params["conv2"], "w": jnp.ones((3, 3, 5, 6))}}
    with pytest.raises(jn.JaxNodesError, match="^conv2: expected 10 channels .*, got 4"):
        NET.apply(wide, state, IMAGES)
    flat = {**params, "conv1": {**params["conv1"], "w": jnp.ones((3, 3, 4))}}
    with pytest.raises(jn.JaxNodesError, match=r"^conv1: expected 'w' of shape \(3, 3, any, 4\)"):
        NET.apply(flat, state, IMAGES)


@pytest.mark.parametrize("kind", [jn.Conv, jn.ConvTranspose])
def test_without_bias(kind):
    layer, with_bias = kind(4, 3, use_bias=False), kind(4, 3)
    params, _ = layer.init(KEY, IMAGES)
    whole, _ = with_bias.init(KEY, IMAGES)
    assert set(params) == {"w"}
    np.testing.assert_array_equal(params["w"], whole["w"])
    np.testing.assert_array_equal(
        layer.predict((params, {}), IMAGES), with_bias.predict((whole, {}), IMAGES)
    )
    with pytest.raises(jn.JaxNodesError, match=r"the parameters \['w'\], got \['b', 'w'\]"):
        layer.predict((whole, {}), IMAGES)


@pytest.mark.parametrize("kind", [jn.Conv, jn.ConvTranspose])
def test_compute_dtype(kind):
    x = draw((2, 5, 5, 3), jnp.float32)
    layer, single = kind(4, 3, "tanh", dtype=jnp.bfloat16), kind(4, 3, "tanh")
    variables = layer.init(KEY, x)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    y = layer.predict(variables, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), single.predict(variables, x), atol=0.03)


@pytest.mark.parametrize("kind", [jn.Conv, jn.ConvTranspose])
def test_parameters_take_the_dtype_of_the_input(kind, x64):
    sample = jax.ShapeDtypeStruct((1, 5, 5, 3), jnp.float64)
    params, _ = kind(4, 3).init(KEY, sample)
    assert {p.dtype for p in params.values()} == {jnp.dtype("float64")}
    params, _ = kind(4, 3).init(KEY, IMAGES.astype("u1"))
    assert {p.dtype for p in params.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("w_init", "fan"), [(jn.he_normal, 9 * 64), ("he_normal_fan_out", 9 * 128)]
)
def test_initial_weights(w_init, fan):
    params, _ = jn.Conv(128, 3, w_init=w_init).init(KEY, jnp.ones((1, 4, 4, 64)))
    np.testing.assert_allclose(params["w"].std(), (2 / fan) ** 0.5, rtol=0.01)
    np.testing.assert_array_equal(params["b"], np.zeros(128))
