"""Convolution functions against flax and torch, and by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnodes as jn
from tests.layers.agreement import (
    assert_agrees_with_jax,
    assert_agrees_with_torch,
    channels_first,
    channels_last,
    draw,
)

# Spatial sizes, kernel, channels, filters, and options of `conv`.
CASES = {
    "same": ((6, 5), (3, 3), 2, 4, {}),
    "same, even kernel": ((6, 5), (2, 4), 2, 3, {}),
    "same, stride 2": ((5, 6), (3, 3), 2, 3, {"stride": 2}),
    "same, even kernel, stride 2": ((7, 8), (4, 2), 1, 2, {"stride": 2}),
    "same, stride over kernel": ((7, 8), (2, 1), 1, 2, {"stride": (3, 2)}),
    "same, dilated, strided": ((7, 8), (3, 2), 2, 2, {"stride": (2, 1), "dilation": (2, 3)}),
    "valid": ((5, 7), (3, 2), 3, 2, {"padding": "VALID"}),
    "an int": ((5, 4), (3, 3), 2, 3, {"padding": 2, "stride": (2, 1)}),
    "an int each": ((5, 4), (3, 3), 2, 3, {"padding": (0, 2)}),
    "pairs": ((5, 4), (3, 3), 2, 3, {"padding": ((2, 0), (0, 1)), "dilation": (1, 2)}),
    "groups": ((4, 5), (3, 3), 4, 6, {"groups": 2, "stride": 2}),
    "depthwise": ((4, 5), (3, 3), 3, 3, {"groups": 3, "padding": 1}),
    "depthwise, two each": ((4, 5), (2, 3), 3, 6, {"groups": 3, "padding": "VALID"}),
    "1d": ((9,), (4,), 3, 2, {"stride": 3}),
    "1d, causal": ((6,), (3,), 2, 3, {"padding": ((4, 0),), "dilation": 2}),
    "3d": ((3, 4, 5), (2, 3, 1), 2, 3, {"stride": (1, 2, 1)}),
    "3d, valid, groups": ((3, 4, 3), (2, 2, 2), 4, 2, {"padding": "VALID", "groups": 2}),
}
NOT_SAME = [name for name, case in CASES.items() if "padding" in case[-1]]
TRANSPOSED = {
    "plain": ((4, 5), (3, 2), {}),
    "stride 2": ((4, 5), (3, 3), {"stride": 2}),
    "strides": ((4, 3), (4, 3), {"stride": (2, 3)}),
    "dilated": ((4, 5), (2, 3), {"dilation": (2, 1), "stride": (1, 2)}),
    "1d": ((5,), (4,), {"stride": 2}),
    "3d": ((2, 3, 2), (2, 3, 2), {"stride": (2, 1, 1)}),
}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


def arrays(sizes, kernel, channels, features, dtype, groups=1):
    """Kernel, bias and input."""
    shapes = ((*kernel, channels // groups, features), (features,), (2, *sizes, channels))
    return [draw(shape, dtype, seed) for seed, shape in enumerate(shapes)]


def by_flax(kind, features, kernel, *, stride=1, padding="SAME", dilation=1, groups=1, **options):
    if groups > 1:
        options["feature_group_count"] = groups
    pairs = padding if isinstance(padding, (str, int)) else list(padding)
    module = kind(features, kernel, stride, pairs, kernel_dilation=dilation, **options)

    def apply(w, b, x):
        return module.apply({"params": {"kernel": w, "bias": b}}, x)

    return apply


@pytest.mark.parametrize("case", CASES)
def test_conv_is_flax_linens(case, dtype):
    sizes, kernel, channels, features, options = CASES[case]
    args = arrays(sizes, kernel, channels, features, dtype, options.get("groups", 1))
    assert_agrees_with_jax(
        lambda w, b, x: jn.conv({"w": w, "b": b}, x, **options),
        by_flax(nn.Conv, features, kernel, param_dtype=dtype, dtype=dtype, **options),
        *args,
    )


def test_conv_is_flax_nnxs():
    module = nnx.Conv(4, 6, (3, 2), strides=2, feature_group_count=2, rngs=nnx.Rngs(0))
    x = draw((2, 5, 6, 4), jnp.float32)
    params = {"w": module.kernel[...], "b": module.bias[...] + 1}
    expected = module(x) + 1
    np.testing.assert_allclose(jn.conv(params, x, stride=2, groups=2), expected, rtol=1e-5)


@pytest.mark.parametrize("case", NOT_SAME)
def test_conv_is_torchs(case, dtype):
    torch = pytest.importorskip("torch")
    sizes, kernel, channels, features, options = CASES[case]
    rank, groups = len(sizes), options.get("groups", 1)

    def theirs(w, b, x):
        padding = options["padding"]
        x = channels_first(x)
        if isinstance(padding, tuple):  # torch pads from the last axis to the first
            pairs = [(p, p) if isinstance(p, int) else p for p in padding]
            x, padding = torch.nn.functional.pad(x, sum(reversed(pairs), ())), 0
        function = getattr(torch.nn.functional, f"conv{rank}d")
        y = function(
            x,
            w.permute(-1, -2, *range(rank)),  # HWIO to OIHW
            b,
            stride=options.get("stride", 1),
            padding=padding.lower() if isinstance(padding, str) else padding,
            dilation=options.get("dilation", 1),
            groups=groups,
        )
        return channels_last(y)

    args = arrays(sizes, kernel, channels, features, dtype, groups)
    ours = lambda w, b, x: jn.conv({"w": w, "b": b}, x, **options)  # noqa: E731
    assert_agrees_with_torch(torch, ours, theirs, *args)


@pytest.mark.parametrize("padding", ["VALID", 1])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose_is_torchs(case, padding, dtype):
    torch = pytest.importorskip("torch")
    sizes, kernel, options = TRANSPOSED[case]

    def theirs(w, b, x):
        function = getattr(torch.nn.functional, f"conv_transpose{len(sizes)}d")
        w = w.permute(-2, -1, *range(len(sizes)))
        pads = 0 if padding == "VALID" else padding
        return channels_last(function(channels_first(x), w, b, padding=pads, **options))

    args = arrays(sizes, kernel, 3, 2, dtype)
    ours = lambda w, b, x: jn.conv_transpose(  # noqa: E731
        {"w": w, "b": b}, x, padding=padding, **options
    )
    assert_agrees_with_torch(torch, ours, theirs, *args)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose_is_flaxs_with_the_kernel_flipped(case, padding, x64):
    sizes, kernel, options = TRANSPOSED[case]
    options = {**options, "padding": padding}
    dtypes = {"param_dtype": jnp.float64, "dtype": jnp.float64}
    flax = by_flax(nn.ConvTranspose, 2, kernel, **dtypes, **options)
    assert_agrees_with_jax(
        lambda w, b, x: jn.conv_transpose({"w": w, "b": b}, x, **options),
        lambda w, b, x: flax(jnp.flip(w, range(len(kernel))), b, x),
        *arrays(sizes, kernel, 3, 2, jnp.float64),
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_same_padding_multiplies_and_divides_sizes(kernel, stride):
    def up_and_down(x):
        there, back = (jnp.ones((kernel, kernel, *channels)) for channels in ((2, 3), (3, 2)))
        up = jn.conv_transpose({"w": there}, x, stride=stride)
        return up, jn.conv({"w": back}, up, stride=stride)

    up, down = jax.eval_shape(up_and_down, jnp.zeros((1, 7, 4, 2)))
    assert up.shape == (1, 7 * stride, 4 * stride, 3)
    assert down.shape == (1, 7, 4, 2)


def test_a_convolution_by_hand():
    """Kernel 3, 32 filters, valid: a corner less the opposite corner, times the filter's number."""
    x = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    corners = jnp.array([[1.0, 0, 0], [0, 0, 0], [0, 0, -1.0]])
    number = jnp.arange(32.0)
    y = jn.conv({"w": corners[..., None, None] * number, "b": number / 2}, x, padding="VALID")
    # 1 - 11 = 2 - 12 = 5 - 15 = 6 - 16; a kernel flipped, as in mathematics, would give +10.
    np.testing.assert_array_equal(y, np.broadcast_to(-10 * number + number / 2, (1, 2, 2, 32)))


def test_a_transposed_convolution_by_hand():
    """1 and 2, two apart, each spread by (1, 10, 100): they overlap in one place."""
    w = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    x = jnp.array([1.0, 2.0]).reshape(1, 2, 1)
    y = jn.conv_transpose({"w": w, "b": jnp.ones(1)}, x, stride=2, padding="VALID")
    np.testing.assert_array_equal(y.ravel(), [2, 11, 103, 21, 201])
    y = jn.conv_transpose({"w": w}, x, stride=2, padding=((1, 0),))
    np.testing.assert_array_equal(y.ravel(), [10, 102, 20, 200])


def test_the_bias_may_be_left_out():
    w, b, x = arrays((4,), (3,), 2, 3, jnp.float32)
    for function in (jn.conv, jn.conv_transpose):
        y = function({"w": w, "b": b}, x)
        np.testing.assert_allclose(function({"w": w}, x) + b, y, rtol=1e-6)


def test_inputs_are_widened_and_never_narrowed():
    w, b, x = arrays((4,), (3,), 2, 3, jnp.float32)
    assert jn.conv({"w": w, "b": b}, x.astype(jnp.bfloat16)).dtype == jnp.float32
    half = {"w": w.astype(jnp.bfloat16), "b": b.astype(jnp.bfloat16)}
    with pytest.raises(jn.JaxNodesError, match=r"^conv: expected bfloat16 inputs, got float32"):
        jn.conv(half, x)
    with pytest.raises(jn.JaxNodesError, match=r"float32 inputs, got uint8 \(2, 4, 2\); scale it"):
        jn.conv({"w": w, "b": b}, x.astype(jnp.uint8))


@pytest.mark.parametrize("init", [jn.he_normal, jn.he_normal_fan_out, jn.xavier_uniform])
def test_initial_weights(init):
    params = jn.conv_init(jax.random.key(0), 64, 128, (3, 5), groups=2, w_init=init)
    fan_in, fan_out = 3 * 5 * 32, 3 * 5 * 128
    variance = {
        jn.he_normal: 2 / fan_in,
        jn.he_normal_fan_out: 2 / fan_out,
        jn.xavier_uniform: 2 / (fan_in + fan_out),
    }[init]
    assert params["w"].shape == (3, 5, 32, 128)
    np.testing.assert_allclose(params["w"].var(), variance, rtol=0.03)
    assert abs(params["w"].mean()) < 0.02 * variance**0.5
    np.testing.assert_array_equal(params["b"], np.zeros(128))


W, X = np.ones((3, 3, 2, 4), np.float32), np.ones((1, 5, 5, 2), np.float32)


@pytest.mark.parametrize(
    ("problem", "w", "x", "options"),
    [
        (r"expected inputs of 4 axes \(batch, height, width, channels\), got float32 \(5, 5, 2\)",
         W, X[0], {}),
        (r"expected inputs of 3 axes \(batch, length, channels\), got float32 \(1, 5, 5, 2\)",
         W[0], X, {}),
        (r"expected a kernel of 3 to 5 axes, got \(2, 4\)", W[0, 0], X, {}),
        (r"expected 2 channels on the last axis, got 3 \(input \(1, 5, 5, 3\)\)",
         W, np.ones((1, 5, 5, 3), np.float32), {}),
        (r"expected 4 channels on the last axis, got 2", W, X, {"groups": 2}),
        (r"expected channels and features to be multiples of groups=3, got 6 channels and 4",
         W, np.ones((1, 5, 5, 6), np.float32), {"groups": 3}),
        (r"expected groups to be a whole number of at least 1, got 0", W, X, {"groups": 0}),
        (r"expected groups to be a whole number of at least 1, got 1.0", W, X, {"groups": 1.0}),
        (r"expected stride to be a whole number of at least 1, got 2.0", W, X, {"stride": 2.0}),
        (r"expected stride to be a whole number of at least 1, got True", W, X, {"stride": True}),
        (r"expected stride for 2 spatial axes, got \(1, 1, 1\)", W, X, {"stride": (1, 1, 1)}),
        (r"expected dilation to be .* at least 1, got 0", W, X, {"dilation": (1, 0)}),
        (r"expected padding 'SAME', 'VALID', an int, or .*, got 'same'", W, X, {"padding": "same"}),
        (r"expected padding to be a whole number of at least 0, got -1", W, X, {"padding": -1}),
        (r"expected padding to be .* at least 0, got 0.5", W, X, {"padding": 0.5}),
        (r"expected padding to be .* at least 0, got None", W, X, {"padding": None}),
        (r"expected padding for 2 spatial axes, got \(1,\)", W, X, {"padding": (1,)}),
        (r"expected pairs \(low, high\) of padding, got \(1, 2, 3\)",
         W, X, {"padding": ((1, 2, 3), 0)}),
        (r"expected an input that the kernel fits in, got spatial sizes \(2, 5\) for kernel "
         r"\(3, 3\).* padding='SAME' always fits", W, X[:, :2], {"padding": "VALID"}),
        (r"expected an input that the kernel fits in", W, X, {"padding": "VALID", "dilation": 3}),
    ],
)  # fmt: skip
def test_what_conv_refuses(problem, w, x, options):
    with pytest.raises(jn.JaxNodesError, match=rf"^conv: {problem}"):
        jn.conv({"w": w}, x, **options)


@pytest.mark.parametrize(
    ("problem", "w", "x", "options"),
    [
        (r"expected inputs of 4 axes", W, X[0], {}),
        (r"expected 2 channels on the last axis, got 1", W, X[..., :1], {}),
        (r"expected stride to be a whole number", W, X, {"stride": 0}),
        (r"expected dilation to be a whole number", W, X, {"dilation": 1.5}),
        (r"expected padding 'SAME', 'VALID'", W, X, {"padding": "FULL"}),
        (r"expected less padding than output, got padding \(\(4, 4\), \(4, 4\)\) and "
         r"outputs \(-1, -1\)", W, X, {"padding": 4}),
    ],
)  # fmt: skip
def test_what_conv_transpose_refuses(problem, w, x, options):
    with pytest.raises(jn.JaxNodesError, match=rf"^conv_transpose: {problem}"):
        jn.conv_transpose({"w": w}, x, **options)


def test_a_bias_is_not_broadcast():
    for name in ("conv", "conv_transpose"):
        with pytest.raises(jn.JaxNodesError, match=rf"^{name}: expected a bias of shape \(4,\)"):
            getattr(jn, name)({"w": W, "b": np.ones(1, np.float32)}, X)


@pytest.mark.parametrize(
    ("problem", "arguments", "options"),
    [
        ("expected in_features to be a whole number", (0, 4, 3), {}),
        ("expected features to be a whole number", (2, 4.0, 3), {}),
        ("expected kernel_size to be a whole number of at least 1, got 0", (2, 4, (3, 0)), {}),
        ("expected 1 to 3 kernel sizes", (2, 4, (1, 2, 3, 4)), {}),
        ("multiples of groups=2, got 3 channels and 4 features", (3, 4, 3), {"groups": 2}),
        ("multiples of groups=2, got 2 channels and 3 features", (2, 3, 3), {"groups": 2}),
    ],
)
def test_what_conv_init_refuses(problem, arguments, options):
    with pytest.raises(jn.JaxNodesError, match=f"^conv: .*{problem}"):
        jn.conv_init(jax.random.key(0), *arguments, **options)


def test_conv_init_refuses_raw_keys():
    with pytest.raises(jn.JaxNodesError, match="expected a typed PRNG key"):
        jn.conv_init(np.zeros(2, np.uint32), 1, 1, 3)
