"""`fit`: what it learns, repeats, reuses, keeps and refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LinearRegression

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.training import loop, streams
from jaxnodes.training.program import run_numbered_epoch
from tests.training.problems import blobs, classifier, line

METRICS = {"accuracy": jn.accuracy}


HELD_OUT = blobs(100, seed=0)


def fitted(net=None, data=None, *, seed=0, rate=0.01, **options):
    options = {"loss": jn.cross_entropy, "epochs": 3, "batch_size": 16} | options
    options = {"optimizer": jn.adam(rate)} | options
    data = blobs() if data is None else data
    return jn.fit(net or classifier(0.2), data, key=jax.random.key(seed), **options)


def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), a, b)


def test_learns_blobs_and_reports_each_epoch():
    result = fitted(data=blobs(200), epochs=20, metrics=METRICS, validation=HELD_OUT, rate=0.02)
    assert set(result.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(values.shape == (20,) for values in result.history.values())
    assert result.history["val_accuracy"][-1] > 0.95
    assert result.best_epoch == 19
    # What the history says is what the variables do.
    net, (variables, history, *_) = classifier(0.2), result
    measured = jn.evaluate(net, variables, HELD_OUT, loss=jn.cross_entropy, metrics=METRICS)
    np.testing.assert_allclose(measured["loss"], history["val_loss"][-1], rtol=1e-5)
    np.testing.assert_allclose(measured["accuracy"], history["val_accuracy"][-1], rtol=1e-6)


def test_linear_regression_as_a_one_layer_network_finds_the_least_squares():
    x, y = line()
    y = y + np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    result = fitted(
        jn.Dense(1), (x, y), loss=jn.mse, optimizer=jn.sgd(0.1), epochs=300, batch_size=40
    )
    exact = LinearRegression().fit(x, y)
    np.testing.assert_allclose(result.variables[0]["w"], exact.coef_.T, atol=1e-4)
    np.testing.assert_allclose(result.variables[0]["b"], exact.intercept_, atol=1e-4)


def test_one_seed_gives_one_result_bit_for_bit():
    first, second = (fitted(metrics=METRICS, validation=blobs(20)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    other = fitted(seed=1)
    assert not np.array_equal(other.history["loss"], first.history["loss"])


@pytest.fixture
def traced(monkeypatch):
    """The recipes that epochs were traced for.

    JAX's own count of a function's programs falls when the cache that all functions share is full,
    as it is near the end of a long run of tests.
    """
    recipes = []

    def counted(recipe, *args):
        recipes.append(recipe)
        return run_numbered_epoch(recipe, *args)

    program = jax.jit(counted, static_argnums=0)
    monkeypatch.setattr(loop, "epoch_program", lambda _: program)
    return recipes


def test_another_rate_key_and_data_compile_nothing(traced):
    fitted(metrics=METRICS, rate=0.01)
    assert len(traced) == 1
    fitted(metrics=METRICS, rate=0.02, seed=5, data=blobs(seed=3))
    fitted(metrics=METRICS, optimizer=jn.adam(jnp.float32(0.3)))
    assert len(traced) == 1
    fitted(metrics=METRICS, optimizer=jn.adam(0.01, b1=0.8))
    assert len(traced) == 2


def test_one_trace_for_an_epoch_with_a_ragged_tail():
    traces = []

    def counted(x):
        traces.append(x.shape)
        return jnp.tanh(x)

    net = jn.Sequential(jn.Dense(4), counted, jn.Dense(3))
    fitted(net, blobs(50), epochs=4)
    assert traces.count((16, 4)) >= 1
    assert set(traces) == {(16, 4)}
    after = len(traces)
    fitted(net, blobs(50), epochs=4, rate=0.5)
    # A second run makes parameters, and traces nothing else again.
    assert len(traces) - after == 1


def test_early_stopping_keeps_the_best_epoch():
    x, y = blobs(60)
    noisy = jnp.roll(y, 1)  # nothing to learn: validation gets worse while training gets better
    seen = []
    result = fitted(
        data=(x[:40], noisy[:40]),
        validation=(x[40:], noisy[40:]),
        epochs=60,
        rate=0.1,
        early_stopping=4,
        hook=lambda report: seen.append(report.variables) or False,
    )
    losses = result.history["val_loss"]
    assert len(losses) < 60
    assert result.best_epoch == int(np.argmin(losses))
    assert len(losses) == result.best_epoch + 1 + 4
    jax.tree.map(np.testing.assert_array_equal, result.variables, seen[result.best_epoch])


@pytest.mark.parametrize(
    ("stopping", "value", "best", "gains"),
    [
        (jn.EarlyStopping("val_loss"), 0.9, 1.0, True),
        (jn.EarlyStopping("val_loss", min_delta=0.2), 0.9, 1.0, False),
        (jn.EarlyStopping("val_accuracy"), 0.9, 1.0, False),
        (jn.EarlyStopping("val_accuracy"), 0.9, 0.8, True),
        (jn.EarlyStopping("val_cost", mode="min"), 0.9, 1.0, True),
        (jn.EarlyStopping("val_mae"), 0.9, 1.0, True),
        (jn.EarlyStopping("val_mae", mode="max"), 0.9, 1.0, False),
        (jn.EarlyStopping("val_cross_entropy"), 0.9, 1.0, True),
        (jn.EarlyStopping("val_loss"), math.nan, 1.0, False),
        (jn.EarlyStopping("val_loss"), 1.0, math.nan, True),
    ],
)
def test_what_counts_as_a_gain(stopping, value, best, gains):
    assert stopping.gains(value, best) is gains


def test_early_stopping_names_what_it_can_monitor():
    with pytest.raises(JaxNodesError, match=r"one of \['loss', 'accuracy'\], got 'val_loss'"):
        fitted(metrics=METRICS, early_stopping=jn.EarlyStopping("val_loss"))


@pytest.mark.parametrize(
    ("name", "metric", "best"),
    [
        ("mine", jn.accuracy, np.argmax),  # by the function's name
        ("mine", jn.cross_entropy, np.argmin),
        ("val_accuracy", None, np.argmax),
    ],
)
def test_what_is_better_is_told_by_names(name, metric, best):
    metrics = METRICS if metric is None else {name: metric}
    stopping = jn.EarlyStopping(name, patience=2)
    result = fitted(metrics=metrics, validation=blobs(20), early_stopping=stopping, epochs=6)
    assert result.best_epoch == best(result.history[name])


def test_early_stopping_asks_for_a_mode_that_no_name_tells():
    stopping = jn.EarlyStopping("spread")
    with pytest.raises(JaxNodesError, match="expected mode='min' or 'max' for 'spread'"):
        fitted(metrics={"spread": lambda p, y: jnp.std(p)}, early_stopping=stopping)


def test_early_stopping_knows_two_modes():
    stopping = jn.EarlyStopping("loss", mode="minimum")
    with pytest.raises(JaxNodesError, match=r"early_stopping: expected mode .* got 'minimum'"):
        fitted(early_stopping=stopping)


def test_a_batch_of_samples_that_weigh_nothing_teaches_nothing():
    x, y = blobs(48)
    options = {"optimizer": jn.sgd(0.1), "batch_size": 16, "shuffle": False, "epochs": 3}
    weights = jnp.ones(48).at[16:32].set(0)
    kept = np.r_[:16, 32:48]
    net = classifier(0.0)
    result = fitted(net, (x, y, weights), **options)
    fewer = fitted(net, (x[kept], y[kept]), **options)
    close(result.variables, fewer.variables)
    np.testing.assert_allclose(result.history["loss"], fewer.history["loss"], rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_class_weights_are_one_a_class(classes, traced):
    with pytest.raises(JaxNodesError, match=r"class_weights: .* 3 classes, got"):
        fitted(class_weights=[1.0] * classes)
    assert not traced


def test_class_weights_of_a_binary_loss():
    x, y = blobs(48)
    y = jnp.minimum(y, 1)[:, None]
    options = {"loss": jn.binary_cross_entropy, "optimizer": jn.sgd(0.1), "batch_size": 48}
    weighted = fitted(jn.Dense(1), (x, y), class_weights=[1.0, 3.0], **options)
    by_hand = fitted(jn.Dense(1), (x, y, jnp.where(y[:, 0] == 1, 3.0, 1.0)), **options)
    close(weighted.variables, by_hand.variables)
    for dtype in (jnp.float32, bool):
        again = fitted(jn.Dense(1), (x, y.astype(dtype)), class_weights=[1.0, 3.0], **options)
        close(again.variables, by_hand.variables)


def test_class_weights_are_as_many_as_classes():
    x, y = blobs(20)
    for loss, labels, classes in ((jn.cross_entropy, y, 3), (jn.binary_cross_entropy, y > 0, 2)):
        net, options = jn.Dense(3), {"loss": loss, "epochs": 1}
        labels = labels if classes == 3 else jnp.stack([labels] * 3, axis=-1)
        for wrong in (classes - 1, classes + 1):
            options["class_weights"] = [1.0] * wrong
            with pytest.raises(JaxNodesError, match=f"each of {classes} classes, got \\({wrong},"):
                jn.fit(net, (x, labels), key=jax.random.key(0), optimizer=jn.sgd(0.1), **options)
            train = jax.jit(jn.make_train(net, optimizer=jn.sgd, **options))
            with pytest.raises(JaxNodesError, match=f"each of {classes} classes, got \\({wrong},"):
                train(jax.random.key(0), (x, labels), 0.1)


@pytest.mark.parametrize("steps", [3, 4])
def test_class_weights_of_sequences(steps):
    """As many steps as classes, too: labels of fewer axes than outputs aren't one-hot."""
    x = np.random.default_rng(0).normal(size=(6, steps, 4)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, (6, steps)).astype(np.int32)
    weights = [1.0, 2.0, 30.0]
    options = {"optimizer": jn.sgd(0.0), "epochs": 1, "class_weights": weights}
    result = fitted(jn.Dense(3), (x, y), **options)
    right = jn.cross_entropy(jn.Dense(3).predict(result.variables, x), y, class_weights=weights)
    np.testing.assert_allclose(result.history["loss"][0], right, rtol=1e-5)
    train = jn.make_train(jn.Dense(3), loss=jn.cross_entropy, **(options | {"optimizer": jn.sgd}))
    result = train(jax.random.key(0), (x, y), 0.0)
    right = jn.cross_entropy(jn.Dense(3).predict(result.variables, x), y, class_weights=weights)
    np.testing.assert_allclose(result.history["loss"][0], right, rtol=1e-5)


def test_an_optimizer_may_ask_for_the_loss():
    """A line search that evaluates the loss again, and a rate that falls by it."""
    x, y = line()
    options = {"loss": jn.mse, "batch_size": 40, "shuffle": False, "epochs": 10}
    falling = optax.chain(jn.sgd(0.0), optax.contrib.reduce_on_plateau(patience=2, factor=0.5))
    with jax.numpy_dtype_promotion("standard"):  # these two of optax's need it
        searched = fitted(jn.Dense(1), (x, y), optimizer=optax.lbfgs(), **options)
        result = fitted(jn.Dense(1), (x, y), optimizer=falling, **options)
    assert searched.history["loss"][-1] < 1e-6 * searched.history["loss"][0]  # a quadratic
    assert result.opt_state[1].scale < 1  # without steps the loss stays


def test_class_weights_weigh_the_loss():
    """Weights (1, 0, 0): only class 0 counts, so its samples alone make the same net."""
    x, y = blobs(48)
    options = {"optimizer": jn.sgd(0.1), "batch_size": 48, "shuffle": False}
    net = classifier(0.0)
    weighted = fitted(net, (x, y), class_weights=[1.0, 0.0, 0.0], **options)
    by_hand = fitted(net, (x, y, (y == 0).astype(jnp.float32)), **options)
    close(weighted.variables, by_hand.variables)
    few = fitted(net, (x[y == 0], y[y == 0]), **options)
    close(weighted.variables, few.variables)


def test_augmentation_runs_inside_with_a_fresh_key_a_batch():
    x, y = jnp.zeros((64, 4)), jnp.zeros((64, 1))

    def noise(key, x):
        return x + jax.random.normal(key, x.shape)

    net = jn.Dense(1, use_bias=False)
    options = {"loss": jn.mse, "optimizer": jn.sgd(0.0), "epochs": 40}
    result = fitted(net, (x, y), augment=noise, **options)
    # The loss is the mean of (x w)^2, so its expectation is |w|^2.
    expected = float(jnp.sum(result.variables[0]["w"] ** 2))
    np.testing.assert_allclose(result.history["loss"].mean(), expected, rtol=0.1)
    assert len(set(result.history["loss"])) == 40


def test_start_goes_on_from_variables_and_optimizer_state():
    data = blobs(64)
    options = {"net": classifier(), "data": data, "shuffle": False, "batch_size": 64}
    whole = fitted(epochs=6, **options)
    half = fitted(epochs=3, **options)
    rest = fitted(epochs=3, start=half, **options)
    np.testing.assert_allclose(rest.history["loss"], whole.history["loss"][3:], rtol=1e-6)
    again = fitted(epochs=3, start=half.variables, **options)  # a fresh optimizer state
    assert not np.allclose(again.history["loss"][1:], whole.history["loss"][4:], rtol=1e-6)


def test_the_hook_sees_each_epoch_and_can_stop():
    reports = []

    def hook(report):
        reports.append(report)
        return report.epoch == 1

    schedule = optax.linear_schedule(0.1, 0.0, 100)
    result = fitted(epochs=9, hook=hook, optimizer=jn.adam(schedule))
    assert [report.epoch for report in reports] == [0, 1]
    assert result.history["loss"].shape == (2,)
    assert reports[1].measures["loss"] == pytest.approx(float(result.history["loss"][1]))
    assert 0.09 < reports[1].learning_rate < 0.1
    assert reports[1].seconds > reports[0].seconds > 0


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(0.01),
        optax.chain(optax.clip_by_global_norm(1.0), jn.adam(0.01)),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        jn.sgd(optax.cosine_decay_schedule(0.1, 12)),
    ],
    ids=["optax", "chain", "injected", "schedule"],
)
def test_any_optax_optimizer_serves(optimizer):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counts
        result = fitted(optimizer=optimizer, epochs=8)
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_keras_like_probabilities_with_from_logits_false():
    """Item 25: 64 relu, 32 relu, 1 sigmoid; Adam, binary cross-entropy, accuracy."""
    x, y = blobs(40, classes=2)
    y = y[:, None]
    net = jn.Sequential(jn.Dense(64, "relu"), jn.Dense(32, "relu"), jn.Dense(1, "sigmoid"))
    options = {"loss": jn.binary_cross_entropy, "metrics": {"accuracy": jn.binary_accuracy}}
    with pytest.raises(JaxNodesError, match=r"dense3 ends in sigmoid; .*from_logits=False"):
        fitted(net, (x, y), **options)
    result = fitted(net, (x, y), epochs=30, batch_size=4, from_logits=False, **options)
    assert result.history["accuracy"][-1] >= 0.95
    p = jn.predict(net, result.variables, x)
    assert np.all((p >= 0) & (p <= 1))


def test_bad_labels_are_found_before_anything_is_compiled(traced):
    x, y = blobs(20)
    for bad in (y.at[7].set(3), y.at[7].set(-1)):
        with pytest.raises(JaxNodesError, match="expected labels from 0 to 2, got"):
            fitted(data=(x, bad))
        with pytest.raises(JaxNodesError, match="expected labels from 0 to 2, got"):
            fitted(data=(x, y), validation=(x, bad))
    with pytest.raises(JaxNodesError, match="expected integer labels"):
        fitted(data=(x, y.astype(jnp.float32)))
    with pytest.raises(JaxNodesError, match=r"takes the last axis off"):
        fitted(data=(x, y[:, None]))
    assert not traced


def test_inputs_that_make_the_loss_nan_are_named():
    x, y = blobs(20)
    with pytest.raises(JaxNodesError, match="fit: expected finite inputs, got 1 "):
        fitted(data=(x.at[3, 1].set(jnp.nan), y))
    net = jn.Sequential(jn.Embedding(5, 3), jn.Flatten(), jn.Dense(3))
    with pytest.raises(JaxNodesError, match="embedding1: expected ids from 0 to 4, got 7"):
        fitted(net, (jnp.array([[0], [1], [7]]), jnp.array([0, 1, 2])))


def test_wrong_features_name_the_layer():
    result = fitted()
    with pytest.raises(JaxNodesError, match="dense1: expected 4 features on the last axis, got 3"):
        fitted(data=(blobs()[0][:, :3], blobs()[1]), start=result)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"validation": 0.2}, r"expected \(x, y\) or \(x, y, weights\), got float"),
        ({"start": {"dense1": {}}}, r"a TrainResult or \(params, state\) to go on from, got dict"),
    ],
)
def test_options_of_another_kind_are_refused(options, problem):
    with pytest.raises(JaxNodesError, match=problem):
        fitted(**options)


def test_a_loss_that_turns_nan_stops_with_an_error_or_keeps_what_was_finite():
    x, y = line()
    options = {"loss": jn.mse, "optimizer": jn.sgd(1e6), "epochs": 30, "batch_size": 40}
    with pytest.raises(JaxNodesError, match=r"finite loss, got (inf|nan) in epoch \d+ of 30"):
        fitted(jn.Dense(1), (x, y), **options)
    kept = fitted(jn.Dense(1), (x, y), on_nonfinite="stop", **options)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept.variables[0]))
    assert not np.isfinite(kept.history["loss"][-1])
    assert kept.best_epoch == len(kept.history["loss"]) - 2
    on = fitted(jn.Dense(1), (x, y), on_nonfinite="continue", **options)
    assert on.history["loss"].shape == (30,)


def test_a_scalar_loss_needs_batches_that_fit():
    def mean(p, t):
        return jnp.mean((p - t) ** 2)

    x, y = line(20)
    with pytest.raises(JaxNodesError, match="ragged='drop'"):
        fitted(jn.Dense(1), (x, y), loss=mean)
    dropped = fitted(jn.Dense(1), (x, y), loss=mean, ragged="drop")
    assert dropped.history["loss"].shape == (3,)
    fitted(jn.Dense(1), (x[:16], y[:16]), loss=mean)


def test_inputs_and_targets_may_be_trees():
    x, y = line()

    def apply(params, state, x, *, key=None, training=False):
        return {"sum": jn.dense(params, x["a"]) + jn.dense(params, x["b"])}, state

    net = jn.from_functions(lambda key, x: (jn.dense_init(key, 2, 1), {}), apply)
    result = fitted(
        net,
        ({"a": x, "b": 0 * x}, {"sum": y}),
        loss=lambda p, t: (p["sum"] - t["sum"])[:, 0] ** 2,
        optimizer=jn.sgd(0.1),
        epochs=200,
    )
    np.testing.assert_allclose(result.variables[0]["w"], [[2], [-3]], atol=1e-3)


def test_foreign_modules_and_wrong_options_are_refused():
    import flax.linen

    with pytest.raises(JaxNodesError, match=r"wrap it: jn.from_functions"):
        fitted(flax.linen.Dense(3))
    with pytest.raises(JaxNodesError, match=r"typed PRNG key.*jax.random.key"):
        jn.fit(classifier(), blobs(), key=jax.random.PRNGKey(0), loss=jn.mse, optimizer=jn.sgd(0.1))
    with pytest.raises(JaxNodesError, match="call it with a learning rate first"):
        fitted(optimizer=jn.adam)
    with pytest.raises(JaxNodesError, match="'raise', 'stop' or 'continue'"):
        fitted(on_nonfinite="ignore")
    with pytest.raises(JaxNodesError, match="epochs to be a whole number"):
        fitted(epochs=0)


def test_progress_shows_loss_and_rate(capsys):
    fitted(progress=True, epochs=2)
    shown = capsys.readouterr().out
    assert "loss" in shown
    assert "2/2" in shown


@pytest.mark.parametrize(("batch", "expected"), [(64, True), (32, False)])
@pytest.mark.parametrize("streamed", [False, True])
def test_small_products_are_those_of_a_batch(batch, expected, streamed, monkeypatch):
    """By them the compiler's options are chosen."""
    asked = []

    def options_of(small):
        asked.append(small)

    module, program = (streams, "_step_program") if streamed else (loop, "epoch_program")
    monkeypatch.setattr(module, "compiler_options", options_of)
    monkeypatch.setattr(module, program, getattr(module, program).__wrapped__)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(batch, 4)).astype(np.float32), rng.integers(0, 3, batch)
    jn.fit(
        jn.Dense(3),
        [(x, y)] if streamed else (x, y),
        key=jax.random.key(0),
        loss=jn.cross_entropy,
        optimizer=jn.sgd(0.1),
        epochs=1,
        **({} if streamed else {"batch_size": batch}),
    )
    assert asked == [expected]
