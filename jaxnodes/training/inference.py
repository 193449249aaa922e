"""A trained network on many samples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxnodes.errors import check_count
from jaxnodes.training.batches import count_samples, to_device, with_weights
from jaxnodes.training.objective import as_network, check_ending
from jaxnodes.training.program import Scoring, run_evaluation, run_predict

compiled_predict = jax.jit(run_predict, static_argnums=(0, 3))
compiled_evaluation = jax.jit(run_evaluation, static_argnums=0)


def predict(net: Any, variables: tuple, x: Any, *, batch_size: int = 256) -> Any:
    """The outputs of a network at inference for any number of samples.

    Args:
      net: a layer.
      variables: `(params, state)`.
      x: (N, ...), or a pytree of such arrays.
      batch_size: how many samples go through at once; bounds the memory.

    Returns:
      (N, ...), what `net.predict(variables, x)` returns.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net, x = jn.Dense(3), jnp.ones((1000, 8))
    >>> jn.predict(net, net.init(jax.random.key(0), x), x, batch_size=64).shape
    (1000, 3)
    """
    net = as_network(net, "predict")
    check_count(batch_size, "batch_size", "predict")
    return compiled_predict(net, tuple(variables), to_device(x, "predict"), batch_size)


def evaluate(
    net: Any,
    variables: tuple,
    data: Any,
    *,
    loss: Callable,
    metrics: Mapping[str, Callable] | None = None,
    batch_size: int = 256,
    from_logits: bool = True,
) -> dict[str, float]:
    """The loss and the metrics of a network at inference, each of all samples at once.

    Args:
      net: a layer.
      variables: `(params, state)`.
      data: `(x, y)`, or `(x, y, weights)`, where the weights count for the loss.
      loss: as for `fit`.
      metrics: names and functions `(predictions, targets) -> scalar`, or one value a sample.
      batch_size: how many samples go through the network at once.
      from_logits: as for `fit`.

    Returns:
      `{"loss": ..., **metrics}`, Python floats.
    """
    net = as_network(net, "evaluate")
    check_count(batch_size, "batch_size", "evaluate")
    check_ending(net, loss, from_logits, "evaluate")
    named = tuple((metrics or {}).items())
    scoring = Scoring(
        net=net, loss=loss, batch_size=batch_size, metrics=named, from_logits=from_logits
    )
    x, y, weights = to_device(with_weights(data, "evaluate"), "evaluate")
    count_samples((x, y, weights), "evaluate")
    measures = compiled_evaluation(scoring, tuple(variables), (x, y, weights))
    return {name: float(value) for name, value in measures.items()}
