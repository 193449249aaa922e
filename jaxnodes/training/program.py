"""One step, one epoch and one evaluation, as pure functions of arrays.

`fit` compiles `run_numbered_epoch` and calls it once an epoch; `make_train` scans over it.
Nothing here knows of files, clocks or printing.
"""

import dataclasses
import fnmatch
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, describe
from jaxnodes.layers.arrays import Params, State
from jaxnodes.losses import ON_LOGITS, binary_cross_entropy
from jaxnodes.training.batches import Ragged, count_samples, epoch_order, take
from jaxnodes.training.objective import measure, unwrapped, weighted_loss


class TrainState(NamedTuple):
    """All that changes from step to step."""

    params: Params
    state: State
    opt_state: Any


class TrainResult(NamedTuple):
    """What a training run returns.

    Attributes:
      variables: `(params, state)`: the last, or with early stopping the best.
      history: an array with one entry an epoch for each measure: `"loss"`, the metrics,
        and with validation `"val_loss"` and each metric as `"val_..."`.
      opt_state: the optimizer's state, to go on from (`fit(..., start=result)`).
      best_epoch: the epoch, counted from 0, that `variables` are from; -1 where the first one
        was stopped for a loss that isn't finite.
    """

    variables: tuple[Params, State]
    history: dict[str, Any]
    opt_state: Any
    best_epoch: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """All of an evaluation that is not arrays; hashable, so that equal ones share a program."""

    net: Any
    loss: Callable
    batch_size: int
    metrics: tuple[tuple[str, Callable], ...] = ()
    from_logits: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Scoring):
    """All of a training run that is not arrays."""

    update: Callable
    tells: bool = False  # the update of the loss too: see `takes_extra`
    shuffle: bool = True
    ragged: Ragged = "fill"
    augment: Callable | None = None
    freeze: tuple[str, ...] = ()
    small_products: bool = False  # what it is compiled for: see `compiler_options`


def make_step(objective: Callable, optimizer: Any) -> Callable:
    """One step of gradient descent on any objective, compiled.

    Args:
      objective: `objective(params, state, batch, key) -> (loss, (state, aux))`, with a
        scalar loss; any model, any loss.
      optimizer: an `optax.GradientTransformation`, ours or optax's.

    Returns:
      `step(train_state, batch, key) -> (train_state, (loss, aux))`, where `train_state` is
      a `TrainState(params, state, opt_state)` with `opt_state = optimizer.init(params)`:
      as `jax.lax.scan` has it.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net, optimizer = jn.Dense(1), jn.sgd(0.1)
    >>> def objective(params, state, batch, key):
    ...     x, y = batch
    ...     predictions, state = net.apply(params, state, x, key=key, training=True)
    ...     return jn.mse(predictions, y), (state, predictions)
    >>> x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[1.0], [3.0], [5.0]])
    >>> params, state = net.init(jax.random.key(0), x)
    >>> train_state = jn.TrainState(params, state, optimizer.init(params))
    >>> step = jn.make_step(objective, optimizer)
    >>> for _ in range(300):
    ...     train_state, (loss, _) = step(train_state, (x, y), jax.random.key(1))
    >>> print(train_state.params["w"].round(2), train_state.params["b"].round(2))
    [[2.]] [1.]
    """
    return jax.jit(_step(objective, optimizer.update, takes_extra(optimizer)))


def takes_extra(optimizer: Any) -> bool:
    """Whether an optimizer's update may ask for the loss too, as optax's line searches do."""
    kind = getattr(sys.modules.get("optax"), "GradientTransformationExtraArgs", ())
    return isinstance(optimizer, kind)  # while nobody has imported optax, nothing is one


def _step(
    objective: Callable, update: Callable, tells: bool, freeze: tuple[str, ...] = ()
) -> Callable:
    def step(train_state, batch, key):
        params, state, opt_state = train_state
        trainable = _trainable(params, freeze)

        def scored(params):
            held = jax.tree.map(
                lambda p, train: p if train else jax.lax.stop_gradient(p), params, trainable
            )
            return objective(held, state, batch, key)

        (loss, (state, aux)), grads = jax.value_and_grad(scored, has_aux=True)(params)
        extra: dict[str, Any] = {}
        if tells:
            extra = {"value": loss, "grad": grads, "value_fn": lambda params: scored(params)[0]}
        updates, opt_state = update(grads, opt_state, params, **extra)
        params = jax.tree.map(
            lambda p, u, train: p + u.astype(p.dtype) if train else p, params, updates, trainable
        )
        return TrainState(params, state, opt_state), (loss, aux)

    return step


def recipe_step(recipe: Recipe) -> Callable:
    """`step(train_state, (x, y, weights), key) -> (train_state, (loss, predictions))`."""
    net = recipe.net

    def objective(params, state, batch, key):
        x, y, weights = batch
        augment_key, apply_key = jax.random.split(key)
        if recipe.augment is not None:
            x = recipe.augment(augment_key, x)
        predictions, state = net.apply(params, state, x, key=apply_key, training=True)
        if weights is None:
            loss = weighted_loss(recipe.loss, predictions, y, None, recipe.from_logits)
            return loss, (state, predictions)
        # Of samples that all weigh nothing there is no mean: they teach nothing.
        counts = jnp.any(weights.astype(bool))
        some = jnp.where(counts, weights, jnp.ones_like(weights))
        loss = weighted_loss(recipe.loss, predictions, y, some, recipe.from_logits)
        return jnp.where(counts, loss, jnp.zeros_like(loss)), (state, predictions)

    return _step(objective, recipe.update, recipe.tells, recipe.freeze)


def run_epoch(
    recipe: Recipe, train_state: TrainState, data: tuple, key: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """All batches of an epoch, as one scan.

    Args:
      recipe: what to run.
      train_state: before the epoch.
      data: `(x, y, weights)`, all samples; weights `None` or on y's leading axes.
      key: shuffles, drops and augments.

    Returns:
      `(train_state, measures)`. The loss is the mean over the samples as they were met.
      So are the metrics, each of all the epoch's predictions at once.
    """
    n = count_samples(data, "fit")
    shuffle_key, steps_key = jax.random.split(key)
    order, fill = epoch_order(
        shuffle_key, n, recipe.batch_size, shuffle=recipe.shuffle, ragged=recipe.ragged
    )
    kept = order.size if recipe.ragged == "drop" else n
    whole = kept == order.size
    step = recipe_step(recipe)

    def body(train_state, slices):
        i, indices, fill = slices
        x, y, weights = take(data, indices)
        if not whole:
            weights = fill if weights is None else weights * aligned(fill, weights)
        step_key = jax.random.fold_in(steps_key, i)
        train_state, (loss, predictions) = step(train_state, (x, y, weights), step_key)
        total = jnp.float32(recipe.batch_size) if weights is None else jnp.sum(weights)
        return train_state, (loss, total, predictions if recipe.metrics else None)

    steps = (jnp.arange(len(order)), order, fill)
    train_state, (losses, totals, predictions) = jax.lax.scan(body, train_state, steps)
    totals = totals.astype(losses.dtype)
    measures = {"loss": jnp.sum(losses * totals) / jnp.sum(totals)}
    if recipe.metrics:
        met = order.ravel()[:kept]
        predictions = jax.tree.map(lambda p: p.reshape(-1, *p.shape[2:])[:kept], predictions)
        targets = take(data[1], met)
        for name, metric in recipe.metrics:
            measures[name] = measure(metric, predictions, targets, recipe.from_logits)
    return train_state, measures


def run_numbered_epoch(
    recipe: Recipe, train_state: TrainState, data: tuple, run_key: jax.Array, number: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`run_epoch`, with the key that a run has for its epoch of this number."""
    return run_epoch(recipe, train_state, data, jax.random.fold_in(run_key, number))


def run_evaluation(
    recipe: Scoring, variables: tuple[Params, State], data: tuple
) -> dict[str, jax.Array]:
    """The loss and the metrics of all samples at once, at inference."""
    x, y, weights = data
    predictions = run_predict(recipe.net, variables, x, recipe.batch_size)
    loss = weighted_loss(recipe.loss, predictions, y, weights, recipe.from_logits)
    measures = {"loss": loss}
    for name, metric in recipe.metrics:
        measures[name] = measure(metric, predictions, y, recipe.from_logits)
    return measures


def run_predict(net: Any, variables: tuple[Params, State], x: Any, batch_size: int) -> Any:
    """The network's outputs at inference, batch by batch, in the order of `x`."""
    params, state = variables
    n = count_samples(x, "predict")
    size = min(batch_size, n)
    steps = math.ceil(n / size)
    if steps == 1:
        return net.apply(params, state, x)[0]
    # The last batch is filled with the last sample over and over, and cut again.
    indices = jnp.asarray(np.minimum(np.arange(steps * size), n - 1).reshape(steps, size))
    outputs = jax.lax.map(lambda i: net.apply(params, state, take(x, i))[0], indices)
    return jax.tree.map(lambda y: y.reshape(steps * size, *y.shape[2:])[:n], outputs)


def sample_weights(
    y: Any, weights: Any, class_weights: Any, loss: Callable, outputs: tuple[int, ...] | None
) -> Any:
    """One weight a target from what the data and the classes weigh; `None` if all are alike.

    Args:
      y: the targets.
      weights: the data's, or `None`.
      class_weights: one a class (C,), or `None`.
      loss: of a binary one targets are between the two classes.
      outputs: the shape of the network's for a batch: targets of as many axes are one-hot.
        `None` where that isn't known.
    """
    if class_weights is None:
        return weights
    table = jnp.asarray(class_weights, jnp.float32)
    check(table.ndim == 1, f"expected one weight a class, got shape {table.shape}", "class_weights")
    binary = unwrapped(loss) is binary_cross_entropy
    count = 2 if binary else table.size
    if outputs and not binary and unwrapped(loss) in ON_LOGITS:
        count = outputs[-1]
    check(
        table.size == count,
        f"expected a weight for each of {count} classes, got {table.shape}",
        "class_weights",
    )
    if binary:
        by_class = table[0] + (table[1] - table[0]) * y.astype(table.dtype)
    else:
        as_one_hot = y.shape[-1:] == table.shape and y.ndim > 1
        one_hot = as_one_hot and (outputs is None or y.ndim == len(outputs))
        check(
            one_hot or jnp.issubdtype(y.dtype, jnp.integer),
            f"expected integer targets, or one-hot ones (..., {table.size}), got {describe(y)}; "
            "astype(int) if they are whole",
            "class_weights",
        )
        classes = jnp.argmax(y, axis=-1) if one_hot else y
        by_class = jnp.take(table, classes, mode="fill", fill_value=jnp.nan)
    return by_class if weights is None else by_class * aligned(weights, by_class)


def aligned(weights: jax.Array, like: jax.Array) -> jax.Array:
    """Weights of the leading axes, with ones for the axes behind them."""
    return weights.reshape(weights.shape + (1,) * (like.ndim - weights.ndim)).astype(like.dtype)


def _trainable(params: Params, freeze: tuple[str, ...]) -> Any:
    """For each parameter, whether no pattern in `freeze` names it."""
    paths = jax.tree_util.tree_map_with_path(lambda path, _: path_name(path), params)
    return jax.tree.map(lambda path: not any(names(pattern, path) for pattern in freeze), paths)


def check_freeze(params: Params, freeze: tuple[str, ...]) -> None:
    """Raises where a pattern names no parameter, or where none is left to train."""
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in freeze:
        if not any(names(pattern, path) for path in paths):
            raise JaxNodesError(
                f"expected the path of a layer or parameter ({', '.join(paths)}), got {pattern!r}",
                "freeze",
            )
    check(
        not paths
        or not all(jax.tree.leaves(jax.tree.map(lambda t: not t, _trainable(params, freeze)))),
        "expected parameters left to train, got all of them frozen",
        "freeze",
    )


def names(pattern: str, path: str) -> bool:
    """Whether `pattern` is the path, a layer on it, or a wildcard for either."""
    parts = path.split("/")
    heads = ("/".join(parts[: i + 1]) for i in range(len(parts)))
    return any(fnmatch.fnmatchcase(head, pattern) for head in heads)


def path_name(path: tuple) -> str:
    """A parameter's path as names: `dense1/w`."""
    return "/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)
