"""Losses against optax, torch and hand-worked numbers, and the mistakes they must name."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxnodes import losses
from jaxnodes.errors import JaxNodesError
from jaxnodes.losses import binary_cross_entropy, cross_entropy, huber, mae, mse

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(6, 4)) * 3, jnp.float32)
LABELS = jnp.array([0, 3, 1, 1, 2, 0])
ONE_HOT = jax.nn.one_hot(LABELS, 4)
SOFT = jax.nn.softmax(jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32))
Z = LOGITS[:, 0]
Y = jnp.array([0, 1, 1, 0, 1, 0])
TARGETS = jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32)
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 3.0, 1.0])
MASK = np.array([True, False, True, True, False, True])

# Each loss, how to call it on what, and the reference's value of each sample.
CASES = {
    "mse": (mse, LOGITS, TARGETS, optax.squared_error),
    "mae": (mae, LOGITS, TARGETS, lambda p, t: jnp.abs(p - t)),
    "huber": (huber, LOGITS, TARGETS, optax.huber_loss),
    "binary": (binary_cross_entropy, Z, Y, optax.sigmoid_binary_cross_entropy),
    "binary_soft": (
        binary_cross_entropy,
        LOGITS,
        jax.nn.sigmoid(TARGETS),
        optax.sigmoid_binary_cross_entropy,
    ),
    "integer": (
        cross_entropy,
        LOGITS,
        LABELS,
        optax.softmax_cross_entropy_with_integer_labels,
    ),
    "one_hot": (cross_entropy, LOGITS, ONE_HOT, optax.softmax_cross_entropy),
    "soft": (cross_entropy, LOGITS, SOFT, optax.softmax_cross_entropy),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weights", [None, WEIGHTS, MASK, [2, 1, 0, 1, 1, 3]])
def test_is_the_weighted_mean_of_optaxs(name, weights):
    loss, x, y, reference = CASES[name]
    values = np.asarray(reference(x, y), np.float64)
    w = np.ones(6) if weights is None else np.asarray(weights, np.float64)
    expected = (values.reshape(6, -1).mean(1) * w).sum() / w.sum()
    got = loss(x, y, weights=weights)
    assert got.shape == ()
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    if weights is MASK:
        jitted = jax.jit(lambda x, y, w: loss(x, y, weights=w))
        np.testing.assert_allclose(jitted(x, y, weights), expected, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_vmap_gives_one_loss_a_sample(name):
    loss, x, y, reference = CASES[name]
    values = np.asarray(reference(x, y)).reshape(6, -1).mean(1)
    np.testing.assert_allclose(jax.vmap(loss)(x, y), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name, x64):
    loss, x, y, _ = CASES[name]
    x = x.astype(jnp.float64)
    check_grads(jax.jit(lambda x: loss(x, y, weights=WEIGHTS)), (x,), order=1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    loss, x, y, _ = CASES[name]
    x = x.astype(dtype)
    got = loss(x, y)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, loss(x.astype(jnp.float32), y), rtol=1e-6)
    assert jax.grad(loss)(x, y).dtype == dtype


@pytest.mark.parametrize("name", CASES)
def test_float64(name, x64):
    loss, x, y, _ = CASES[name]
    wide = loss(np.asarray(x, np.float64), np.asarray(y))
    assert wide.dtype == jnp.float64
    np.testing.assert_allclose(wide, loss(np.asarray(x), np.asarray(y)), rtol=1e-5)


def test_mse_mae_and_huber_by_hand():
    p, t = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([[1.0], [4.0], [1.0]])
    assert mse(p, t) == pytest.approx((0 + 4 + 16) / 3)
    assert mae(p, t) == 2.0
    assert huber(p, t) == pytest.approx((0 + 1.5 + 3.5) / 3)
    assert huber(p, t, delta=3.0) == pytest.approx((0 + 2 + 3 * 2.5) / 3)
    assert mse(p, t, weights=[3, 1, 0]) == 1.0


def test_integer_targets_become_floats():
    assert mse(jnp.array([0.5, 0.5]), np.array([0, 1])) == 0.25
    assert mse(jnp.array([0.5, 0.5]), np.array([False, True])) == 0.25
    big = np.array([2**33 + 5, 0])  # as int32 this would be 5
    assert mae(jnp.array([0.0, 0.0]), big) == pytest.approx(2**32, rel=1e-6)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    labels = jnp.array([2, 1])
    expected = -(math.log(0.5) + math.log(0.3)) / 2
    assert cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-5)
    probabilities = jnp.exp(logits)
    assert cross_entropy(probabilities, labels, from_logits=False) == pytest.approx(expected, 1e-5)
    weighted = -(5 * math.log(0.5) + 2 * math.log(0.3)) / 7
    got = cross_entropy(logits, labels, class_weights=[1, 2, 5])
    assert got == pytest.approx(weighted, rel=1e-5)


def test_binary_cross_entropy_by_hand():
    p, y = jnp.array([0.9, 0.2]), jnp.array([1, 0])
    expected = -(math.log(0.9) + math.log(0.8)) / 2
    assert binary_cross_entropy(p, y, from_logits=False) == pytest.approx(expected, rel=1e-5)
    z = jnp.log(p / (1 - p))
    assert binary_cross_entropy(z, y) == pytest.approx(expected, rel=1e-5)
    assert binary_cross_entropy(z, y == 1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [LABELS, ONE_HOT, SOFT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("from_logits", [True, False])
def test_label_smoothing(labels, smoothing, from_logits):
    one_hot = ONE_HOT if labels.ndim == 1 else labels
    expected = optax.softmax_cross_entropy(LOGITS, optax.smooth_labels(one_hot, smoothing)).mean()
    x = LOGITS if from_logits else jax.nn.softmax(LOGITS)
    got = cross_entropy(x, labels, label_smoothing=smoothing, from_logits=from_logits)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_binary_label_smoothing():
    y = 0.8 * Y.astype(jnp.float32) + 0.1
    expected = optax.sigmoid_binary_cross_entropy(Z, y).mean()
    np.testing.assert_allclose(binary_cross_entropy(Z, Y, label_smoothing=0.2), expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_class_weights_are_those_of_torch(weights):
    torch = pytest.importorskip("torch")
    class_weights = np.array([1.0, 0.5, 3.0, 0.0], np.float32)
    values = torch.nn.functional.cross_entropy(
        torch.tensor(np.asarray(LOGITS)),
        torch.tensor(np.asarray(LABELS), dtype=torch.long),
        weight=torch.tensor(class_weights),
        reduction="none",
    ).numpy()
    w = np.ones(6) if weights is None else weights
    expected = (w * values).sum() / (w * class_weights[np.asarray(LABELS)]).sum()
    for labels in (LABELS, ONE_HOT):
        got = cross_entropy(LOGITS, labels, weights=weights, class_weights=class_weights)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for ours, theirs, x, y, dtype in (
        (cross_entropy, torch.nn.functional.cross_entropy, LOGITS, LABELS, torch.long),
        (cross_entropy, torch.nn.functional.cross_entropy, LOGITS, SOFT, torch.float32),
        (
            binary_cross_entropy,
            torch.nn.functional.binary_cross_entropy_with_logits,
            Z,
            Y,
            torch.float32,
        ),
        (huber, torch.nn.functional.huber_loss, LOGITS, TARGETS, torch.float32),
    ):
        leaf = torch.tensor(np.asarray(x), requires_grad=True)
        theirs(leaf, torch.tensor(np.asarray(y), dtype=dtype)).backward()
        np.testing.assert_allclose(jax.grad(ours)(x, y), leaf.grad, rtol=1e-4, atol=1e-6)


def test_sequences_take_a_weight_a_step_or_a_weight_a_sample():
    logits = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)
    labels = jnp.array([[0, 1, 2], [3, 3, 0]])
    values = np.asarray(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    assert cross_entropy(logits, labels) == pytest.approx(values.mean(), rel=1e-5)
    steps = np.array([[1, 1, 0], [1, 0, 0]])
    expected = (values * steps).sum() / 3
    assert cross_entropy(logits, labels, weights=steps == 1) == pytest.approx(expected, rel=1e-5)
    expected = values[1].mean()
    assert cross_entropy(logits, labels, weights=[0, 1]) == pytest.approx(expected, rel=1e-5)


def test_labels_at_weight_zero_may_be_anything():
    padded = jnp.array([0, 3, 1, 1, -1, 99])
    mask = np.array([1, 1, 1, 1, 0, 0])
    expected = cross_entropy(LOGITS[:4], padded[:4])
    run = lambda logits: cross_entropy(logits, padded, weights=mask)  # noqa: E731
    np.testing.assert_allclose(run(LOGITS), expected, rtol=1e-6)
    traced = jax.jit(lambda x, y, w: cross_entropy(x, y, weights=w))
    np.testing.assert_allclose(traced(LOGITS, padded, mask), expected, rtol=1e-6)
    gradient = jax.grad(run)(LOGITS)
    np.testing.assert_array_equal(gradient[4:], np.zeros((2, 4)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", [name for name in CASES if name != "integer"])
def test_targets_at_weight_zero_may_be_missing(name):
    loss, x, y, _ = CASES[name]
    missing = np.where(np.arange(6).reshape(6, *[1] * (y.ndim - 1)) == 2, np.nan, y)
    run = jax.value_and_grad(lambda x, y, w: loss(x, y, weights=w))
    w = np.arange(6) != 2
    for function in (run, jax.jit(run)):
        value, gradient = function(x, jnp.asarray(missing, jnp.float32), w)
        np.testing.assert_allclose(value, loss(x[w], y[w]), rtol=1e-5)
        np.testing.assert_array_equal(gradient[2], np.zeros_like(gradient[2]))
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("from_logits", [True, False])
def test_labels_select_by_comparing(from_logits):
    def loss(z):
        return cross_entropy(z, LABELS, from_logits=from_logits)

    z = jax.nn.softmax(LOGITS)
    derived = str(jax.make_jaxpr(jax.grad(loss))(z))
    assert " eq " in derived
    assert "scatter" not in derived  # one number after the other, on a CPU


def test_logits_may_be_huge():
    huge = jnp.array([[1e30, 0.0], [-1e4, -1e4 + 1]])
    value, gradient = jax.value_and_grad(cross_entropy)(huge, jnp.array([0, 0]))
    assert value == pytest.approx(math.log(1 + math.e) / 2, rel=1e-5)
    np.testing.assert_allclose(gradient[0], [0, 0])
    value, gradient = jax.value_and_grad(binary_cross_entropy)(
        jnp.array([1e30, -1e30, 1e4]), jnp.array([1, 0, 0])
    )
    assert value == pytest.approx(1e4 / 3)
    np.testing.assert_allclose(gradient, [0, 0, 1 / 3], rtol=1e-6)


def test_a_masked_class_of_no_probability_costs_nothing():
    logits = jnp.array([[0.0, 1.0, -jnp.inf]])
    expected = math.log(1 + math.e)
    for labels in (jnp.array([0]), jnp.array([[1.0, 0.0, 0.0]])):
        value, gradient = jax.value_and_grad(cross_entropy)(logits, labels)
        assert value == pytest.approx(expected, rel=1e-5)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("loss", "p", "y"),
    [
        (cross_entropy, [[1.0, 0.0], [0.5, 0.5]], [1, 0]),
        (cross_entropy, [[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [1.0, 0.0]]),
        (binary_cross_entropy, [0.0, 0.5], [1, 0]),
        (binary_cross_entropy, [1.0, 0.5], [0, 0]),
    ],
)
def test_an_underflown_probability_is_the_smallest_and_has_no_gradient(loss, p, y):
    p, y = jnp.array(p), jnp.array(y)
    value, gradient = jax.value_and_grad(lambda p: loss(p, y, from_logits=False))(p)
    smallest = float(jnp.finfo(jnp.float32).tiny)
    assert value == pytest.approx((math.log(2) - math.log(smallest)) / 2, rel=1e-5)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.asarray(gradient)[0], np.zeros_like(gradient[0]))


# Values that are wrong, by the argument that has them: errors if concrete, else NaN.
BAD_VALUES = {
    "label_too_large": (cross_entropy, LOGITS, LABELS.at[2].set(4), {}, "from 0 to 3, got 4"),
    "label_negative": (cross_entropy, LOGITS, LABELS.at[2].set(-1), {}, "from 0 to 3, got -1"),
    "one_hot_of_a_bad_label": (
        cross_entropy,
        LOGITS,
        jax.nn.one_hot(LABELS.at[2].set(4), 4),
        {},
        "sum to 1",
    ),
    "one_hot_negative": (cross_entropy, LOGITS, 2 * ONE_HOT - 0.25, {}, "one-hot labels"),
    "binary_label": (binary_cross_entropy, Z, Y.at[1].set(2), {}, "from 0 to 1, got 2"),
    "binary_probability": (
        binary_cross_entropy,
        Z,
        Y.astype(float) - 0.1,
        {},
        "from 0 to 1, got -0.1",
    ),
    "binary_nan": (binary_cross_entropy, Z, jnp.full(6, jnp.nan), {}, "got nan"),
    "weight_negative": (mse, LOGITS, TARGETS, {"weights": -WEIGHTS}, "nonnegative weights, got -1"),
    "weight_nan": (mse, LOGITS, TARGETS, {"weights": WEIGHTS * np.nan}, "got nan"),
    "weights_zero": (cross_entropy, LOGITS, LABELS, {"weights": np.zeros(6)}, "got zeros only"),
    "class_weight_negative": (
        cross_entropy,
        LOGITS,
        LABELS,
        {"class_weights": np.array([1.0, 1, 1, -1])},
        "nonnegative weights",
    ),
    "logits_as_probabilities": (cross_entropy, LOGITS, LABELS, {"from_logits": False}, "sum to 1"),
    "logits_as_probability": (binary_cross_entropy, Z, Y, {"from_logits": False}, "from 0 to 1"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_value_is_an_error_or_makes_loss_and_gradient_nan(name):
    loss, x, y, options, problem = BAD_VALUES[name]
    static = {key: options[key] for key in options if key == "from_logits"}
    arrays = {key: options[key] for key in options if key != "from_logits"}
    with pytest.raises(JaxNodesError, match=problem) as error:
        loss(x, y, **options)
    assert "\n" not in str(error.value)

    @jax.jit
    def traced(x, y, arrays):
        return jax.value_and_grad(lambda x: loss(x, y, **arrays, **static))(x)

    value, gradient = traced(x, y, arrays)
    assert np.isnan(value)
    assert np.isnan(gradient).all()


def test_concrete_labels_are_checked_inside_of_jit():
    with pytest.raises(JaxNodesError, match="got 4"):
        jax.jit(lambda x: cross_entropy(x, np.array([0, 1, 4, 0, 0, 0])))(LOGITS)
    with pytest.raises(JaxNodesError, match="got 4"):
        jax.grad(cross_entropy)(LOGITS, LABELS.at[0].set(4))


def test_a_label_too_wide_for_int32_is_not_cut_short():
    with pytest.raises(JaxNodesError, match="got 8589934593"):
        cross_entropy(LOGITS, np.array([2**33 + 1, 0, 0, 0, 0, 0]))


def test_narrow_labels_and_many_classes():
    logits = jnp.asarray(RNG.normal(size=(3, 400)), jnp.float32)
    for dtype in (np.uint8, np.int8, np.int16, np.uint32):
        labels = np.array([0, 100, 3], dtype)
        expected = cross_entropy(logits, np.array([0, 100, 3]))
        assert cross_entropy(logits, labels) == expected
        assert jax.jit(cross_entropy)(logits, labels) == pytest.approx(float(expected), rel=1e-6)


COLUMN, ROW = jnp.ones((6, 1)), jnp.ones(6)
MISTAKES = [
    (lambda: mse(COLUMN, ROW), r"mse: expected targets of the same shape .*\[..., None\] adds"),
    (lambda: mse(ROW, COLUMN), r"got \(6, 1\); \[..., 0\] takes the last axis off"),
    (lambda: mae(LOGITS, TARGETS[:5]), r"mae: expected targets .* \(6, 4\), got \(5, 4\)"),
    (lambda: huber(ROW, COLUMN), "huber: expected targets"),
    (lambda: huber(ROW, ROW, delta=-1.0), "positive delta, .*got -1.0"),
    (lambda: huber(ROW, ROW, delta=np.inf), "positive delta, .*got inf"),
    (lambda: mse(jnp.arange(3), jnp.arange(3)), "floating predictions, got int32"),
    (lambda: mse(ROW, np.ones(6) * 1j), "expected real targets"),
    (lambda: mse(jnp.zeros((0, 2)), jnp.zeros((0, 2))), "at least one sample"),
    (lambda: mse(ROW, ROW, weights=np.ones(5)), r"expected weights \(6,\) .* got float64 \(5,\)"),
    (lambda: mse(ROW, ROW, weights=2.0), r"expected weights \(6,\)"),
    (lambda: mse(ROW, ROW, weights=COLUMN), r"expected weights \(6,\)"),
    (lambda: binary_cross_entropy(COLUMN, Y), r"\[..., None\] adds the last axis"),
    (lambda: binary_cross_entropy(ROW, Y[:, None]), r"\[..., 0\] takes"),
    (lambda: binary_cross_entropy(jnp.zeros(0), jnp.zeros(0)), "at least one sample"),
    (lambda: binary_cross_entropy(Z, Y, label_smoothing=1.0), r"label_smoothing in \[0, 1\)"),
    (lambda: cross_entropy(COLUMN, LABELS), "use binary_cross_entropy"),
    (lambda: cross_entropy(ROW[0], LABELS[0]), "two or more classes"),
    (lambda: cross_entropy(LOGITS, LABELS[:, None]), r"got int32 \(6, 1\); \[..., 0\] takes"),
    (lambda: cross_entropy(LOGITS, LABELS.astype(float)), "expected integer labels, got float32"),
    (lambda: cross_entropy(LOGITS, LABELS == 1), "expected integer labels, got bool"),
    (
        lambda: cross_entropy(LOGITS, LABELS[:5]),
        r"integer labels \(6,\) or one-hot labels \(6, 4\)",
    ),
    (lambda: cross_entropy(LOGITS, ONE_HOT[:, :3]), r"got float32 \(6, 3\)"),
    (lambda: cross_entropy(jnp.zeros((0, 4)), jnp.zeros(0, int)), "at least one sample"),
    (lambda: cross_entropy(LOGITS, LABELS, label_smoothing=-0.1), "label_smoothing"),
    (
        lambda: cross_entropy(LOGITS, LABELS, class_weights=[1, 2]),
        r"class_weights \(4,\), got \(2,\)",
    ),
    (lambda: cross_entropy(LOGITS, LABELS, weights=np.ones((6, 4))), r"expected weights \(6,\)"),
]


@pytest.mark.parametrize(("mistake", "problem"), MISTAKES)
def test_mistakes_of_shape_and_dtype_are_named(mistake, problem):
    with pytest.raises(JaxNodesError, match=problem) as error:
        mistake()
    assert "\n" not in str(error.value)


def test_the_losses_on_logits_are_known():
    assert {cross_entropy, binary_cross_entropy} == losses.ON_LOGITS
