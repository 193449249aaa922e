"""A whole training run as a pure function: run it, jit it, vmap it over seeds and rates."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check, check_count, check_key
from jaxnodes.layers.arrays import shapes_of
from jaxnodes.training.batches import Ragged, count_samples, count_steps, to_device, with_weights
from jaxnodes.training.checks import check_optimizer, shape_of_outputs
from jaxnodes.training.objective import as_network, check_measures
from jaxnodes.training.program import (
    Recipe,
    TrainResult,
    TrainState,
    check_freeze,
    run_evaluation,
    run_numbered_epoch,
    sample_weights,
    takes_extra,
)


def make_train(
    net: Any,
    *,
    loss: Callable,
    optimizer: Callable[[Any], Any],
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
) -> Callable[..., TrainResult]:
    """A whole training run as one compiled, pure function.

    Args:
      optimizer: a factory `rate -> optax.GradientTransformation`: `jn.adam`, or
        `lambda rate: optax.chain(optax.clip_by_global_norm(1.0), jn.adamw(rate))`.
      net, loss, epochs, batch_size, validation, metrics, from_logits, shuffle, ragged,
        class_weights, augment, freeze: as for `fit`.

    Returns:
      `train(key, data, learning_rate) -> TrainResult`, with data `(x, y)` or
      `(x, y, weights)`. It returns what `fit` returns for the same arguments, up to
      rounding; `history` has shape (epochs,). Values (labels, a loss that turns NaN)
      can't be checked in there: a bad label shows as a NaN loss.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = jnp.array([0, 1, 1, 0])
    >>> net = jn.Sequential(jn.Dense(8, "tanh"), jn.Dense(2))
    >>> train = jn.make_train(net, loss=jn.cross_entropy, optimizer=jn.adam, epochs=40)
    >>> keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.001, 0.01, 0.1])
    >>> results = jax.vmap(train, in_axes=(0, None, 0))(keys, (x, y), rates)
    >>> results.history["loss"].shape
    (3, 40)
    """
    net = as_network(net, "make_train")
    check_count(epochs, "epochs", "make_train")
    check(
        callable(optimizer),
        f"expected a factory rate -> optimizer such as jn.adam, got {type(optimizer).__name__}; "
        "pass the rate to train(key, data, learning_rate)",
        "make_train",
    )
    check_measures(net, loss, metrics := metrics or {}, from_logits, "make_train")
    named = tuple(metrics.items())
    held_out = None if validation is None else to_device(with_weights(validation))
    freeze = (freeze,) if isinstance(freeze, str) else tuple(freeze)

    def train(key: jax.Array, data: tuple, learning_rate: Any) -> TrainResult:
        check_key(key, "train")
        x, y, weights = data
        n = count_samples((x, y, weights), "train")
        count_steps(n, batch_size, ragged, "train")
        transformation = optimizer(learning_rate)
        check_optimizer(transformation)
        recipe = Recipe(
            net=net,
            loss=loss,
            update=transformation.update,
            tells=takes_extra(transformation),
            batch_size=batch_size,
            metrics=named,
            from_logits=from_logits,
            shuffle=shuffle,
            ragged=ragged,
            augment=augment,
            freeze=freeze,
        )
        init_key, run_key = jax.random.split(key)
        size = min(batch_size, n)
        spec = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((size, *s.shape[1:]), s.dtype), shapes_of(x)
        )
        params, state = net.init(init_key, spec)
        check_freeze(params, freeze)
        start = TrainState(params, state, transformation.init(params))
        outputs = None if class_weights is None else shape_of_outputs(net, start, x, spec)
        arrays = (x, y, sample_weights(y, weights, class_weights, loss, outputs))

        def epoch(train_state, i):
            train_state, measures = run_numbered_epoch(recipe, train_state, arrays, run_key, i)
            if held_out is not None:
                variables = (train_state.params, train_state.state)
                measured = run_evaluation(recipe, variables, held_out)
                measures |= {f"val_{name}": value for name, value in measured.items()}
            return train_state, measures

        end, history = jax.lax.scan(epoch, start, jnp.arange(epochs))
        return TrainResult((end.params, end.state), history, end.opt_state, epochs - 1)

    compiled = jax.jit(train)

    def run(key: jax.Array, data: tuple, learning_rate: Any) -> TrainResult:
        """One training run; see `jaxnodes.make_train`."""
        return compiled(key, to_device(with_weights(data, "train"), "train"), learning_rate)

    return run
