"""`fit`: train a network, one compiled program an epoch."""

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnodes.compiling import compiler_options, has_small_products
from jaxnodes.errors import JaxNodesError, check, check_count, check_key
from jaxnodes.layers.arrays import Params, State, shapes_of
from jaxnodes.layers.description import function_name
from jaxnodes.training.batches import Ragged, count_samples, count_steps, to_device, with_weights
from jaxnodes.training.checks import (
    check_inputs,
    check_optimizer,
    check_targets,
    shape_of_outputs,
    traced,
)
from jaxnodes.training.inference import compiled_evaluation
from jaxnodes.training.objective import as_network, check_measures
from jaxnodes.training.program import (
    Recipe,
    TrainResult,
    TrainState,
    check_freeze,
    run_numbered_epoch,
    sample_weights,
    takes_extra,
)
from jaxnodes.training.progress import follow
from jaxnodes.training.streams import Stream, run_stream_epoch


@functools.cache
def epoch_program(small_products: bool) -> Any:
    """`run_numbered_epoch`, compiled."""
    options = compiler_options(small_products)
    return jax.jit(run_numbered_epoch, static_argnums=0, compiler_options=options)


# What the names of measures end in.
_LESS_IS_BETTER = ("loss", "error", "mse", "mae", "huber", "entropy", "perplexity", "nll")
_MORE_IS_BETTER = ("accuracy", "acc", "auc", "precision", "recall", "f1", "r2", "score")


class EarlyStopping(NamedTuple):
    """When to stop, and what to keep: the variables of the best epoch.

    Attributes:
      monitor: a name in the history.
      patience: how many epochs without a gain to wait.
      min_delta: the least change that is a gain.
      mode: `"min"` or `"max"`, which of two values is the better one; `None` where the name
        of the measure, or of its function, says that: `"val_mae"`, `"accuracy"`.
    """

    monitor: str = "val_loss"
    patience: int = 10
    min_delta: float = 0.0
    mode: str | None = None

    def gains(self, value: float, best: float) -> bool:
        """Whether `value` is better than `best`; NaN never is, anything beats no best."""
        if math.isnan(value) or math.isnan(best):
            return math.isnan(best) and not math.isnan(value)
        lower = (self.mode or _mode_of(self.monitor)) == "min"
        return value < best - self.min_delta if lower else value > best + self.min_delta


class EpochReport(NamedTuple):
    """What an epoch hook is told.

    Attributes:
      epoch: counted from 0.
      variables: `(params, state)` after the epoch.
      measures: this epoch's entries of the history, as floats.
      learning_rate: the rate of the last step, where the optimizer's state holds one.
      seconds: since training began.
    """

    epoch: int
    variables: tuple[Params, State]
    measures: dict[str, float]
    learning_rate: float | None
    seconds: float


def fit(
    net: Any,
    data: Any,
    *,
    key: jax.Array,
    loss: Callable,
    optimizer: Any,
    epochs: int = 10,
    batch_size: int = 32,
    validation: Any = None,
    metrics: Mapping[str, Callable] | None = None,
    from_logits: bool = True,
    shuffle: bool = True,
    ragged: Ragged = "fill",
    class_weights: Any = None,
    augment: Callable | None = None,
    freeze: Iterable[str] = (),
    early_stopping: EarlyStopping | int | None = None,
    hook: Callable[[EpochReport], bool | None] | None = None,
    start: Any = None,
    on_nonfinite: str = "raise",
    progress: bool = False,
) -> TrainResult:
    """Trains a network.

    The data goes to the device once, and each epoch is one compiled program: a scan
    over shuffled batches. Another call with the same settings compiles nothing, whatever
    its data, key and learning rate. One key gives one result, bit for bit on CPU.

    Args:
      net: a layer, or anything with its `init` and `apply`.
      data: `(x, y)` or `(x, y, weights)`: arrays or pytrees of them with one length on
        the first axis; weights lie on y's leading axes. Or, for data larger than
        memory, an iterable of such batches, iterated anew each epoch, or a function
        `epoch -> iterable`; the first batch's size is `batch_size` then.
      key: a typed PRNG key, for weights, shuffling, dropout and augmentation.
      loss: `loss(predictions, targets)`. It takes `weights=` or returns one value a
        sample; one that returns only a mean needs `ragged="drop"` or batches that fit.
      optimizer: an `optax.GradientTransformation`, ours or optax's, or a chain.
      epochs: how often all samples are met.
      batch_size: samples a step.
      validation: `(x, y)` measured after each epoch at inference.
      metrics: names and functions `(predictions, targets) -> scalar`, or one value a
        sample. They see all samples at once. On the training data they measure what
        the network made as it learned, dropout and all.
      from_logits: `False` for a network that ends in softmax or sigmoid; passed on to
        the loss and the metrics that know it.
      shuffle: whether each epoch meets the samples in another order.
      ragged: `"fill"` fills the last batch with further samples at weight 0; `"drop"`
        leaves the samples out that don't make a batch.
      class_weights: one weight a class (C,), for integer or one-hot targets; of binary ones two.
      augment: `augment(key, x) -> x`, a pure function of a batch, inside the program.
      freeze: paths of layers or parameters that stay as they are; `*` is a wildcard.
      early_stopping: an `EarlyStopping`, or its patience. The result holds the best epoch.
      hook: called after each epoch; returning `True` stops the training.
      start: a `TrainResult`, or `(params, state)`, to go on from.
      on_nonfinite: what to do when a loss is NaN or infinite. `"raise"`; `"stop"` ends
        with the variables before that epoch; `"continue"` goes on.
      progress: whether to show loss, rate and time left.

    Returns:
      `TrainResult(variables, history, opt_state, best_epoch)`.

    Raises:
      JaxNodesError: a network, data or options that don't fit together; a loss that
        turns NaN or infinite.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = jnp.array([0, 0, 0, 1])
    >>> net = jn.Sequential(jn.Dense(8, "tanh"), jn.Dense(2))
    >>> result = jn.fit(net, (x, y), key=jax.random.key(0), loss=jn.cross_entropy,
    ...                 optimizer=jn.adam(0.1), epochs=50, metrics={"accuracy": jn.accuracy})
    >>> print(result.history["accuracy"][-1])
    1.0
    """
    net = as_network(net, "fit")
    check_key(key, "fit")
    check_count(epochs, "epochs", "fit")
    check_count(batch_size, "batch_size", "fit")
    check_optimizer(optimizer)
    check_measures(net, loss, metrics := metrics or {}, from_logits, "fit")
    named = tuple(metrics.items())
    freeze = (freeze,) if isinstance(freeze, str) else tuple(freeze)
    stopping = _stopping(early_stopping, named, validation is not None)
    check(
        on_nonfinite in ("raise", "stop", "continue"),
        f"expected on_nonfinite 'raise', 'stop' or 'continue', got {on_nonfinite!r}",
        "fit",
    )

    init_key, run_key = jax.random.split(key)
    stream = None if _is_arrays(data) else Stream(data)
    if stream is None:
        data = to_device(with_weights(data))
        n = count_samples(data, "fit")
        count_steps(n, batch_size, ragged, "fit")
        size = min(batch_size, n)
    else:
        data = stream.first
        batch_size = size = count_samples(data, "fit")
    spec = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct((size, *s.shape[1:]), s.dtype), shapes_of(data[0])
    )
    train_state = _started(net, start, init_key, spec, optimizer)
    check_freeze(train_state.params, freeze)
    recipe = Recipe(
        net=net,
        loss=loss,
        update=optimizer.update,
        tells=takes_extra(optimizer),
        batch_size=batch_size,
        metrics=named,
        from_logits=from_logits,
        shuffle=shuffle,
        ragged=ragged,
        augment=augment,
        freeze=freeze,
        small_products=_has_small_products(net, train_state, data[0], spec),
    )
    held_out = None
    if validation is not None:
        held_out = to_device(with_weights(validation))
        check_targets(recipe, train_state, held_out, spec)
    check_targets(recipe, train_state, data, spec)
    outputs = None
    if class_weights is not None:
        outputs = shape_of_outputs(net, train_state, data[0], spec)
    if stream is None:
        x, y, weights = data
        data = (x, y, sample_weights(y, weights, class_weights, loss, outputs))

    def advance(train_state, epoch):
        if stream is None:
            run_epoch = epoch_program(recipe.small_products)
            return run_epoch(recipe, train_state, data, run_key, np.uint32(epoch))
        batches, epoch_key = checked(stream.batches(epoch)), jax.random.fold_in(run_key, epoch)
        return run_stream_epoch(recipe, train_state, batches, class_weights, outputs, epoch_key)

    def checked(batches):
        for batch in batches:
            if batch[2] is None or np.any(batch[2]):  # one that weighs nothing is passed over
                check_targets(recipe, train_state, batch, spec)
            yield batch

    history: dict[str, list] = {}
    keeper = _Keeper(stopping, train_state)
    began = time.perf_counter()
    with follow(epochs, progress) as show:
        for epoch in range(epochs):
            train_state, measures = advance(train_state, epoch)
            variables = (train_state.params, train_state.state)
            if held_out is not None:
                measured = compiled_evaluation(recipe, variables, held_out)
                measures |= {f"val_{name}": value for name, value in measured.items()}
            measures = jax.device_get(measures)
            for name, value in measures.items():
                history.setdefault(name, []).append(value)
            report = EpochReport(
                epoch,
                variables,
                {name: float(value) for name, value in measures.items()},
                _learning_rate(train_state.opt_state),
                time.perf_counter() - began,
            )
            show(report)
            if not math.isfinite(report.measures["loss"]) and on_nonfinite != "continue":
                if on_nonfinite == "stop":
                    break
                check_inputs(net, variables, data[0], "fit")
                raise _not_finite(report.measures["loss"], epoch, epochs)
            keeper.see(train_state, report)
            asked = hook is not None and hook(report)
            if asked or keeper.out_of_patience(epoch):
                break
    kept = keeper.train_state
    arrays = {name: np.stack(values) for name, values in history.items()}
    return TrainResult((kept.params, kept.state), arrays, kept.opt_state, keeper.epoch)


class _Keeper:
    """Holds what `fit` will return: the last epoch's variables, or the best one's."""

    def __init__(self, stopping: EarlyStopping | None, train_state: TrainState):
        self.stopping, self.train_state = stopping, train_state
        self.epoch, self.value = -1, math.nan

    def see(self, train_state: TrainState, report: EpochReport) -> None:
        value = math.nan if self.stopping is None else report.measures[self.stopping.monitor]
        if self.stopping is None or self.epoch < 0 or self.stopping.gains(value, self.value):
            self.train_state, self.epoch, self.value = train_state, report.epoch, value

    def out_of_patience(self, epoch: int) -> bool:
        return self.stopping is not None and epoch - self.epoch >= self.stopping.patience


def _not_finite(loss: float, epoch: int, epochs: int) -> JaxNodesError:
    return JaxNodesError(
        f"expected a finite loss, got {loss} in epoch {epoch + 1} of {epochs}; lower the learning "
        "rate, clip gradients (optax.clip_by_global_norm), or keep the last finite variables with "
        "on_nonfinite='stop'",
        "fit",
    )


def _is_arrays(data: Any) -> bool:
    """Whether `data` is the samples themselves: a pair, a triple or a data set."""
    named = hasattr(data, "x") and hasattr(data, "y")
    return named or (isinstance(data, tuple) and len(data) in (2, 3))


def _mode_of(name: str) -> str | None:
    """Whether of a measure of this name less is better or more, if that can be told."""
    found = {"min": _LESS_IS_BETTER, "max": _MORE_IS_BETTER}
    return next((mode for mode, ends in found.items() if name.lower().endswith(ends)), None)


def _stopping(early_stopping: Any, metrics: tuple, validated: bool) -> EarlyStopping | None:
    if early_stopping is None:
        return None
    if not isinstance(early_stopping, EarlyStopping):
        monitor = "val_loss" if validated else "loss"
        early_stopping = EarlyStopping(monitor, patience=early_stopping)
    check_count(early_stopping.patience, "patience", "early_stopping")
    mode = early_stopping.mode
    check(
        mode in (None, "min", "max"),
        f"expected mode 'min', 'max' or None, got {mode!r}",
        "early_stopping",
    )
    measured = ["loss", *(name for name, _ in metrics)]
    measured += [f"val_{name}" for name in measured] if validated else []
    check(
        early_stopping.monitor in measured,
        f"expected to monitor one of {measured}, got {early_stopping.monitor!r}",
        "early_stopping",
    )
    if mode is None:
        names = {name: function_name(metric) for name, metric in metrics}
        own = names.get(early_stopping.monitor.removeprefix("val_"), "")
        mode = _mode_of(early_stopping.monitor) or _mode_of(own)
    check(
        mode,
        f"expected mode='min' or 'max' for {early_stopping.monitor!r}, whose name doesn't say "
        "which is better",
        "early_stopping",
    )
    return early_stopping._replace(mode=mode)


def _started(net: Any, start: Any, key: jax.Array, spec: Any, optimizer: Any) -> TrainState:
    if start is None:
        params, state = net.init(key, spec)
    else:
        fine = isinstance(start, tuple) and (hasattr(start, "variables") or len(start) == 2)
        mend = "expected a TrainResult or (params, state) to go on from"
        check(fine, f"{mend}, got {type(start).__name__}", "fit")
        params, state = start.variables if isinstance(start, TrainResult) else start
    resumed = isinstance(start, TrainResult)
    return TrainState(params, state, start.opt_state if resumed else optimizer.init(params))


def _has_small_products(net: Any, train_state: TrainState, x: Any, spec: Any) -> bool:
    inputs, made = traced(net, train_state, x, spec)
    return has_small_products(made.jaxpr.jaxpr, len(jax.tree.leaves(inputs)))


def _learning_rate(opt_state: Any) -> float | None:
    """The first learning rate that an optimizer's state holds."""

    def named(leaf):
        return hasattr(leaf, "learning_rate") or hasattr(leaf, "hyperparams")

    for part in jax.tree.leaves(opt_state, is_leaf=named):
        rate = getattr(part, "learning_rate", None)
        rate = getattr(part, "hyperparams", {}).get("learning_rate") if rate is None else rate
        if rate is not None:
            return float(rate)
    return None
