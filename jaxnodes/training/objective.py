"""How `fit` calls a network, its loss and its metrics, and what it refuses."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.activations import sigmoid, softmax
from jaxnodes.errors import JaxNodesError, check
from jaxnodes.layers.base import Elementwise, as_layer, check_foreign
from jaxnodes.layers.combinators import Sequential
from jaxnodes.layers.description import function_name
from jaxnodes.losses import ON_LOGITS


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


def check_ending(net: Any, loss: Callable, from_logits: bool, where: str) -> None:
    """Raises where a loss on logits meets probabilities, or the other way about.

    A softmax at the end of the network and again in the loss would train, slowly and
    badly, without a word.
    """
    if unwrapped(loss) not in ON_LOGITS:
        return
    partial_from_logits = getattr(loss, "keywords", {}).get("from_logits", True)
    on_logits = from_logits and partial_from_logits
    name, ending = last_activation(net)
    probabilities = ending in (softmax, sigmoid, jax.nn.softmax, jax.nn.sigmoid)
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
    if isinstance(net, Sequential) and net.layers:
        name, last = net.layers[-1]
        return last_activation(last, name)
    if isinstance(net, Elementwise):
        return name, net.function
    return name, getattr(net, "activation", None)


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
    options = {} if from_logits else _option(loss, "from_logits", False)
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
    options = {} if from_logits else _option(metric, "from_logits", False, needed=False)
    value = metric(predictions, targets, **options)
    check(
        jnp.ndim(value) <= 1,
        f"expected a metric to return a scalar or one value a sample, got shape "
        f"{jnp.shape(value)} from {function_name(metric)}",
        "fit",
    )
    return jnp.mean(value)


def _option(function: Callable, name: str, value: Any, needed: bool = True) -> dict[str, Any]:
    takes = _takes(function, name)
    check(
        takes or not needed,
        f"expected a loss that takes {name}= where {name}={value} is passed, "
        f"got {function_name(function)}; leave {name} out",
        "fit",
    )
    return {name: value} if takes else {}


def _takes(function: Callable, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
