"""How `fit` calls a network, its loss and its metrics, and what it refuses."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.activations import identity, sigmoid, softmax
from jaxnodes.errors import JaxNodesError, check
from jaxnodes.layers.base import Elementwise, as_layer, check_foreign
from jaxnodes.layers.combinators import Parallel, Repeat, Sequential
from jaxnodes.layers.description import function_name
from jaxnodes.layers.heads import Rescale
from jaxnodes.layers.regularization import Dropout
from jaxnodes.layers.reshaping import Flatten, Reshape
from jaxnodes.losses import ON_LOGITS
from jaxnodes.metrics import binary_accuracy


def as_network(net: Any, where: str) -> Any:
    """`net` itself, if it has `init` and `apply` as jaxnodes means them."""
    check_foreign(net)
    has_both = callable(getattr(net, "init", None)) and callable(getattr(net, "apply", None))
    check(
        has_both and not isinstance(net, type),
        f"expected a layer, or an object with init(key, x) and apply(params, state, x, *, key, "
        f"training), got {net!r}",
        where,
    )
    try:
        hash(net)
    except TypeError:
        raise JaxNodesError(
            f"expected a hashable network, got {type(net).__name__}; let its fields be numbers, "
            "strings, functions, layers or tuples of them, not lists or arrays",
            where,
        ) from None
    return as_layer(net)


def check_measures(net: Any, loss: Any, metrics: Any, from_logits: bool, where: str) -> None:
    """Raises where the loss or a metric is none, or doesn't fit how the network ends."""
    check(callable(loss), f"expected loss(predictions, targets), got {loss!r}", where)
    fine = isinstance(metrics, Mapping) and all(map(callable, metrics.values()))
    check(fine, f"expected metrics {{name: metric(predictions, targets)}}, got {metrics!r}", where)
    taken = [name for name in metrics if name == "loss" or str(name).startswith("val_")]
    check(not taken, f"expected other names for metrics than {taken}, which fit uses", where)
    measures = (loss, *metrics.values())
    check(
        from_logits or any(_takes(measure, "from_logits") for measure in measures),
        "expected a loss or a metric that takes from_logits= where from_logits=False is passed, "
        f"got {', '.join(map(function_name, measures))}; leave from_logits out",
        where,
    )
    for measure in measures:
        check_ending(net, measure, from_logits, where)


def check_ending(net: Any, loss: Callable, from_logits: bool, where: str) -> None:
    """Raises where a loss (or a metric) on logits meets probabilities, or the other way about.

    A softmax at the end of the network and again in the loss would train, slowly and
    badly, without a word.
    """
    keywords = getattr(loss, "keywords", {})
    if unwrapped(loss) not in {*ON_LOGITS, binary_accuracy} or "threshold" in keywords:
        return
    on_logits = from_logits and keywords.get("from_logits", True)
    name, ending = last_activation(net)
    probabilities = _is_probability(ending)
    check(
        not (on_logits and probabilities),
        f"expected logits for {function_name(loss)}, but {name} ends in "
        f"{ending and function_name(ending)}; end without it, or pass from_logits=False",
        where,
    )
    known = ending is not None or isinstance(net, Sequential)
    check(
        on_logits or probabilities or not known,
        f"expected probabilities for from_logits=False, but {name} ends without a softmax or "
        "sigmoid; add one, or leave from_logits out",
        where,
    )


def last_activation(net: Any, name: str = "the network") -> tuple[str, Callable | None]:
    """The name of the last layer that computes, and the activation it ends in, if known."""
    if isinstance(net, Sequential):
        computing = [pair for pair in net.layers if not _keeps_values(pair[1])]
        return last_activation(computing[-1][1], computing[-1][0]) if computing else (name, None)
    if isinstance(net, Repeat):
        return last_activation(net.layer, name)
    if isinstance(net, Parallel):
        endings = [last_activation(layer, own) for own, layer in net.layers]
        return next((end for end in endings if _is_probability(end[1])), endings[-1])
    function = net.function if isinstance(net, Elementwise) else getattr(net, "activation", None)
    return name, None if function is None else unwrapped(function)


def _keeps_values(layer: Any) -> bool:
    """Whether a layer hands on the numbers that it is given, at inference."""
    same = isinstance(layer, Rescale) and (layer.scale, layer.shift) == (1, 0)
    same |= isinstance(layer, Elementwise) and layer.function is identity
    return same or isinstance(layer, Flatten | Reshape | Dropout)


def _is_probability(activation: Callable | None) -> bool:
    return activation in (softmax, sigmoid, jax.nn.softmax, jax.nn.sigmoid)


def unwrapped(function: Callable) -> Callable:
    """The function inside of any `functools.partial`s."""
    while hasattr(function, "func"):
        function = function.func  # pyright: ignore[reportFunctionMemberAccess]
    return function


def weighted_loss(
    loss: Callable, predictions: Any, targets: Any, weights: Any, from_logits: bool
) -> jax.Array:
    """The mean loss of a batch, each sample at its weight; `None` where all are alike.

    A loss takes `weights=`, or returns one value a sample. One that only returns a mean
    can't tell samples apart.
    """
    options = _options(loss, from_logits)
    if weights is None:
        value = loss(predictions, targets, **options)
        return value if jnp.ndim(value) == 0 else jnp.mean(value)
    if _takes(loss, "weights"):
        return loss(predictions, targets, weights=weights, **options)
    value = loss(predictions, targets, **options)
    if jnp.shape(value) == () or jnp.shape(value)[0] != jnp.shape(weights)[0]:
        raise JaxNodesError(
            f"expected {function_name(loss)} to take weights= or to return one value a sample, got "
            f"shape {jnp.shape(value)}; with ragged='drop' and no sample weights a mean will do",
            "fit",
        )
    each = value.reshape(len(value), -1).mean(axis=1)
    scale = weights.reshape(len(value), -1).mean(axis=1).astype(each.dtype)
    return jnp.sum(scale * each) / jnp.sum(scale)


def measure(metric: Callable, predictions: Any, targets: Any, from_logits: bool) -> jax.Array:
    """A metric of all samples at once."""
    options = _options(metric, from_logits)
    value = metric(predictions, targets, **options)
    check(
        jnp.ndim(value) <= 1,
        f"expected a metric to return a scalar or one value a sample, got shape "
        f"{jnp.shape(value)} from {function_name(metric)}",
        "fit",
    )
    return jnp.mean(value)


def _options(function: Callable, from_logits: bool) -> dict[str, Any]:
    """What a loss or a metric is told, if it knows of it."""
    return {"from_logits": False} if not from_logits and _takes(function, "from_logits") else {}


def _takes(function: Callable, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
