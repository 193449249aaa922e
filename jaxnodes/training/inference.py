"""A trained network on many samples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check_count, is_concrete
from jaxnodes.training.batches import count_samples, to_device, with_weights
from jaxnodes.training.checks import check_inputs
from jaxnodes.training.objective import as_network, check_measures
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

    Raises:
      JaxNodesError: inputs that a layer can't take; whole numbers, such as token ids, that are
        out of range.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net, x = jn.Dense(3), jnp.ones((1000, 8))
    >>> jn.predict(net, net.init(jax.random.key(0), x), x, batch_size=64).shape
    (1000, 3)
    """
    net = as_network(net, "predict")
    check_count(batch_size, "batch_size", "predict")
    variables, x = tuple(variables), to_device(x, "predict")
    outputs = compiled_predict(net, variables, x, batch_size)
    whole = [jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(x)]
    if any(whole) and is_concrete((variables, x)) and _has_nan(outputs):
        check_inputs(net, variables, x, "predict")
    return outputs


@jax.jit
def _has_nan(outputs: Any) -> jax.Array:
    leaves = [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.inexact)]
    return jnp.array([jnp.isnan(y).any() for y in leaves]).any()


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
    check_measures(net, loss, metrics := metrics or {}, from_logits, "evaluate")
    named = tuple(metrics.items())
    scoring = Scoring(
        net=net, loss=loss, batch_size=batch_size, metrics=named, from_logits=from_logits
    )
    x, y, weights = to_device(with_weights(data, "evaluate"), "evaluate")
    count_samples((x, y, weights), "evaluate")
    measures = compiled_evaluation(scoring, tuple(variables), (x, y, weights))
    return {name: float(value) for name, value in measures.items()}
