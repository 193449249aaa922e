"""Metrics against scikit-learn, and the mistakes they must name."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from jaxnodes import metrics
from jaxnodes.errors import JaxNodesError

RNG = np.random.default_rng(0)
CLASSES = 5
LOGITS = jnp.asarray(RNG.normal(size=(40, CLASSES)), jnp.float32)
# Class 4 never occurs, and some sample is taken for it; see also `test_absent_classes`.
LABELS = np.where(
    RNG.random(40) < 0.6, np.argmax(LOGITS, axis=1) % 4, RNG.integers(0, 4, size=40)
).astype(np.int32)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
WEIGHTS = RNG.integers(0, 4, size=40) / 2
MASK = WEIGHTS > 0.5
TAKEN = np.argmax(LOGITS, axis=1)
Z = jnp.asarray(RNG.normal(size=40), jnp.float32)
Y = (np.asarray(Z) + RNG.normal(size=40) > 0).astype(np.int32)
PREDICTIONS = jnp.asarray(RNG.normal(size=(40, 3)), jnp.float32)
TARGETS = np.asarray(PREDICTIONS + RNG.normal(size=(40, 3)).astype(np.float32))


def sk(name, **options):
    def metric(*args, sample_weight):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes that don't occur
            return getattr(sklearn.metrics, name)(*args, sample_weight=sample_weight, **options)

    return metric


ALL = {"labels": range(CLASSES), "zero_division": 0}
CASES = {
    "accuracy": (metrics.accuracy, LOGITS, LABELS, sk("accuracy_score")),
    "binary_accuracy": (metrics.binary_accuracy, Z, Y, sk("accuracy_score")),
    "confusion_matrix": (
        metrics.confusion_matrix,
        LOGITS,
        LABELS,
        sk("confusion_matrix", labels=range(CLASSES)),
    ),
    "precision": (metrics.precision, LOGITS, LABELS, sk("precision_score", average="macro")),
    "recall": (metrics.recall, LOGITS, LABELS, sk("recall_score", average="macro")),
    "f1": (metrics.f1, LOGITS, LABELS, sk("f1_score", average="macro")),
    "precision_per_class": (
        metrics.precision_per_class,
        LOGITS,
        LABELS,
        sk("precision_score", average=None, **ALL),
    ),
    "recall_per_class": (
        metrics.recall_per_class,
        LOGITS,
        LABELS,
        sk("recall_score", average=None, **ALL),
    ),
    "f1_per_class": (metrics.f1_per_class, LOGITS, LABELS, sk("f1_score", average=None, **ALL)),
    "mean_absolute_error": (
        metrics.mean_absolute_error,
        PREDICTIONS,
        TARGETS,
        sk("mean_absolute_error"),
    ),
    "r2_score": (metrics.r2_score, PREDICTIONS, TARGETS, sk("r2_score")),
    "r2_score_of_one": (metrics.r2_score, Z, TARGETS[:, 0], sk("r2_score")),
}


@pytest.mark.parametrize("weights", [None, WEIGHTS, MASK])
@pytest.mark.parametrize("name", CASES)
def test_equals_scikit_learn(name, weights):
    metric, x, y, reference = CASES[name]
    if y.dtype != np.int32:
        taken = np.asarray(x)
    else:
        taken = TAKEN if x is LOGITS else (np.asarray(Z) > 0).astype(int)
    expected = reference(y, taken, sample_weight=weights)
    got = metric(x, y, weights=weights)
    assert jnp.issubdtype(got.dtype, jnp.floating)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    if weights is MASK:
        jitted = jax.jit(lambda x, y, w: metric(x, y, weights=w))
        np.testing.assert_allclose(jitted(x, y, weights), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_top_k_accuracy_equals_scikit_learn(k, weights):
    got = metrics.top_k_accuracy(LOGITS, LABELS, k=k, weights=weights)
    reference = sk("top_k_accuracy_score", k=k, labels=range(CLASSES))
    expected = reference(LABELS, np.asarray(LOGITS), sample_weight=weights)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_of_equal_logits_the_first_counts():
    logits = jnp.zeros((4, 4))
    labels = jnp.arange(4)
    for k in (1, 2, 3, 4):
        assert metrics.top_k_accuracy(logits, labels, k=k) == k / 4
    assert metrics.accuracy(logits, labels) == 1 / 4


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_nan_is_above_all_numbers_as_for_argmax(k):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 4)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.4] = np.nan
    logits[rng.random(logits.shape) < 0.2] = np.inf
    labels = rng.integers(0, 4, 200)
    order = np.lexsort((-logits, ~np.isnan(logits)), axis=-1)  # stable
    right = (order[:, :k] == labels[:, None]).any(-1)
    if k == 1:
        np.testing.assert_array_equal(right, logits.argmax(-1) == labels)
    np.testing.assert_allclose(metrics.top_k_accuracy(logits, labels, k=k), right.mean())


@pytest.mark.parametrize("from_logits", [True, False])
def test_binary_accuracy_counts_a_nan_as_wrong(from_logits):
    scores, labels = jnp.array([jnp.nan, jnp.nan, 0.0, 0.9]), jnp.array([0, 1, 0, 1])
    assert metrics.binary_accuracy(scores, labels, from_logits=from_logits) == 0.5


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1] is LOGITS])
def test_one_hot_labels_are_integers_told_otherwise(name):
    metric = CASES[name][0]
    np.testing.assert_array_equal(metric(LOGITS, ONE_HOT), metric(LOGITS, LABELS))


@pytest.mark.parametrize("name", CASES)
def test_maps_over_networks(name):
    metric, x, y, _ = CASES[name]
    networks = jnp.stack([x, -x, x * 0.5 + 0.1])
    mapped = jax.vmap(metric, in_axes=(0, None))(networks, y)
    one_by_one = jnp.stack([metric(network, y) for network in networks])
    np.testing.assert_allclose(mapped, one_by_one, rtol=1e-5)


def test_accuracy_maps_over_samples():
    right = jax.vmap(metrics.accuracy)(LOGITS, LABELS)
    np.testing.assert_array_equal(right, TAKEN == LABELS)


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy", "f1", "r2_score"])
def test_float64_and_half(name, x64):
    metric, x, y, _ = CASES[name]
    expected = metric(x, y)
    wide = metric(np.asarray(x, np.float64), y)
    assert wide.dtype == jnp.float64
    np.testing.assert_allclose(wide, expected, rtol=1e-4)
    assert metric(jnp.asarray(x, jnp.bfloat16), y).dtype == expected.dtype


def test_binary_accuracy_by_hand():
    p, y = jnp.array([[0.2], [0.6], [0.9], [0.4]]), np.array([[0.0], [1.0], [0.0], [1.0]])
    assert metrics.binary_accuracy(p, y, from_logits=False) == 0.5
    assert metrics.binary_accuracy(p, y) == 0.5  # all are above 0
    assert metrics.binary_accuracy(p, y, threshold=0.3) == 0.75
    assert metrics.binary_accuracy(p, y == 1, from_logits=False, threshold=0.95) == 0.5


def test_metrics_of_classes_serve_a_binary_head():
    for z in (Z, Z[:, None]):
        two = metrics.two_classes(z)
        expected = sklearn.metrics.f1_score(Y, np.asarray(Z) > 0)
        np.testing.assert_allclose(metrics.f1_per_class(two, Y)[1], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(two)[:, 1], jax.nn.sigmoid(Z), rtol=1e-5)


def test_absent_classes():
    logits = jnp.eye(4)[jnp.array([0, 0, 1])]  # 2 has a sample but none is taken for it; 3 neither
    labels = np.array([0, 2, 1])
    np.testing.assert_array_equal(metrics.precision_per_class(logits, labels), [0.5, 1, 0, 0])
    np.testing.assert_array_equal(metrics.recall_per_class(logits, labels), [1, 1, 0, 0])
    assert metrics.precision(logits, labels) == pytest.approx(1.5 / 3)
    assert metrics.recall(logits, labels) == pytest.approx(2 / 3)


def test_r2_at_a_far_mean():
    t = jnp.array([1e4, 1e4 + 1, 1e4 + 2, 1e4 + 3])
    assert metrics.r2_score(t + jnp.array([0.5, -0.5, 0.5, -0.5]), t) == pytest.approx(0.8)


def test_roc_auc_equals_scikit_learn():
    roc, reference = metrics.roc_auc, sklearn.metrics.roc_auc_score
    for weights in (None, WEIGHTS):
        expected = reference(Y, Z, sample_weight=weights)
        assert roc(Z, Y, weights=weights) == pytest.approx(expected)
        assert roc(Z[:, None], Y[:, None], weights=weights) == pytest.approx(expected)
        assert roc(metrics.two_classes(Z), Y, weights=weights) == pytest.approx(expected)
    logits, labels = LOGITS[:, :4], LABELS
    p = np.asarray(jax.nn.softmax(logits))
    expected = reference(labels, p, multi_class="ovr")
    assert roc(logits, labels) == pytest.approx(expected)
    assert roc(logits, np.eye(4)[labels]) == pytest.approx(expected)
    assert isinstance(roc(logits, labels), float)


CLASS_METRICS = [case[0] for case in CASES.values() if case[1] is LOGITS]


@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_a_bad_label_is_an_error_or_makes_nan(metric):
    labels = np.where(np.arange(40) == 3, CLASSES, LABELS).astype(np.int32)
    with pytest.raises(JaxNodesError, match="from 0 to 4, got 5"):
        metric(LOGITS, labels)
    assert np.isnan(jax.jit(metric)(LOGITS, labels)).all()
    used = np.arange(40) != 3
    np.testing.assert_allclose(
        metric(LOGITS, labels, weights=used), metric(LOGITS[used], LABELS[used]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("metric", "x", "y", "problem"),
    [
        (metrics.accuracy, LOGITS, LABELS - 1, "labels from 0 to 4, got -1"),
        (metrics.accuracy, LOGITS, ONE_HOT * (LABELS != 1)[:, None], "expected one-hot labels"),
        (metrics.binary_accuracy, Z, Y + 1, "labels 0 or 1, got 2"),
        (metrics.binary_accuracy, Z, Y * 0.5, "labels 0 or 1, got 0.5"),
        (metrics.r2_score, Z, np.ones(40), "targets that differ, got 1.0"),
        (metrics.r2_score, Z[:1], np.ones(1), "targets that differ"),
    ],
)
def test_bad_values_are_errors_or_make_nan(metric, x, y, problem):
    with pytest.raises(JaxNodesError, match=problem):
        metric(x, y)
    assert np.isnan(jax.jit(metric)(x, y))


MISTAKES = [
    (lambda: metrics.accuracy(Z[:, None], Y), "accuracy: .* use binary_accuracy"),
    (lambda: metrics.accuracy(Z, Y), r"sum to 1 over the last axis \(of \(40,\), one sample\)"),
    (lambda: metrics.accuracy(LOGITS, LABELS[:, None]), r"\[..., 0\] takes the last axis off"),
    (lambda: metrics.accuracy(LOGITS, LABELS.astype(float)), "expected integer labels"),
    (lambda: metrics.accuracy(LOGITS[:0], LABELS[:0]), "at least one sample"),
    (lambda: metrics.accuracy(LOGITS, LABELS, weights=np.zeros(40)), "got zeros only"),
    (lambda: metrics.f1(Z[:, None], Y), "f1: .* by two_classes"),
    (lambda: metrics.top_k_accuracy(LOGITS, LABELS, k=6), "k from 1 to the 5 classes, got 6"),
    (lambda: metrics.top_k_accuracy(LOGITS, LABELS, k=0), "expected k .*got 0"),
    (lambda: metrics.top_k_accuracy(LOGITS, LABELS, k=2.5), "expected k .*got 2.5"),
    (lambda: metrics.binary_accuracy(Z[:, None], Y), r"\[..., None\] adds the last axis"),
    (lambda: metrics.mean_absolute_error(Z[:, None], Y), r"\[..., None\] adds"),
    (lambda: metrics.r2_score(Z, Y[:, None]), r"r2_score: .*\[..., 0\] takes"),
    (lambda: metrics.r2_score(Z[0], Y[0]), "got a scalar"),
    (lambda: jax.jit(metrics.roc_auc)(Z, Y), "outside of jit"),
    (lambda: metrics.roc_auc(Z, np.ones(40)), "none or every one has"),
    (lambda: metrics.roc_auc(LOGITS, LABELS), "none or every one has"),
    (lambda: metrics.roc_auc(LOGITS[None], LABELS[None]), r"expected logits \(N,\)"),
]


@pytest.mark.parametrize(("mistake", "problem"), MISTAKES)
def test_mistakes_are_named(mistake, problem):
    with pytest.raises(JaxNodesError, match=problem) as error:
        mistake()
    assert "\n" not in str(error.value)
