"""Activation functions, by function and by name, and which to use where.

The functions are those of `jax.nn`, handed on. All keep their input's shape but
`glu`, which halves the last axis; `softmax` and `log_softmax` act along the last
axis, the others elementwise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.nn import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    squareplus,
    swish,
    tanh,
)

from jaxnodes.errors import check
from jaxnodes.registry import choose, registered_name, resolve

Activation = Callable[[jax.Array], jax.Array]

linear = identity

#: Every activation by its name. Aliases: `swish` (silu), `hard_swish`, `linear` (identity).
ACTIVATIONS: dict[str, Activation] = {
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": silu,
    "swish": swish,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "gelu": gelu,
    "selu": selu,
    "celu": celu,
    "softplus": softplus,
    "squareplus": squareplus,
    "soft_sign": soft_sign,
    "log_sigmoid": log_sigmoid,
    "mish": mish,
    "glu": glu,
    "relu6": relu6,
    "hard_tanh": hard_tanh,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_swish,
    "identity": identity,
    "linear": identity,
}


def activation(name_or_function: Any) -> Activation:
    """The activation of that name, however it is spelled; a function is itself.

    Raises:
      JaxNodesError: no activation has that name; lists those there are.

    Example:

    >>> import jax.numpy as jnp
    >>> activation("Leaky ReLU")(jnp.array([-1.0, 2.0]))
    Array([-0.01,  2.  ], dtype=float32)
    """
    return resolve(name_or_function, ACTIVATIONS, "an activation", "activation")


def activation_name(function: Any) -> str | None:
    """The name an activation is registered by; `None` if it isn't.

    Example:

    >>> import jax
    >>> activation_name(jax.nn.relu), activation_name(lambda x: x)
    ('relu', None)
    """
    return registered_name(function, ACTIVATIONS)


class Recommendation(NamedTuple):
    """An activation, its registered name, and why it is the one to use."""

    activation: Activation
    name: str
    reason: str


_LAYERS: dict[str, tuple[Activation, str]] = {
    "hidden": (
        relu,
        "ReLU is cheap, and its gradient is 1 wherever a node is on, so it doesn't vanish.",
    ),
    "deep": (
        relu,
        "ReLU passes gradients through many layers unshrunk, where sigmoid and tanh saturate; "
        "ELU, whose mean output is nearer zero, is the other good choice.",
    ),
    "recurrent": (
        tanh,
        "tanh keeps a state that is fed back at every step within (-1, 1) and centered on zero; "
        "an LSTM or GRU guards it with sigmoid gates.",
    ),
    "gate": (
        sigmoid,
        "The sigmoid's range of (0, 1) reads as how much to let through, as in LSTM gates.",
    ),
    "dying_relu": (
        leaky_relu,
        "Leaky ReLU's slope of 0.01 below zero lets a node that is off for every sample learn "
        "its way back; ELU does too.",
    ),
}

_OUTPUTS: dict[str, tuple[Activation, str]] = {
    "binary": (
        sigmoid,
        "The sigmoid makes one logit the probability of class 1; train on the logit itself "
        "with binary_cross_entropy.",
    ),
    "multiclass": (
        softmax,
        "The softmax makes logits probabilities that sum to 1; train on the logits themselves "
        "with cross_entropy.",
    ),
    "regression": (
        identity,
        "A target that may be any number wants an output that may be any number: the weighted "
        "sum itself.",
    ),
}

_BOUNDED: dict[tuple[float, ...], tuple[Activation, str]] = {
    (0.0, 1.0): (sigmoid, "The sigmoid's range is (0, 1), that of the targets."),
    (-1.0, 1.0): (tanh, "The range of tanh is (-1, 1), that of the targets."),
}


def recommend_activation(
    layer: str, task: str | None = None, *, bounds: tuple[float, float] | None = None
) -> Recommendation:
    """Which activation to use in which layer for which task, and why.

    Args:
      layer: `"hidden"`, `"deep"` (a hidden layer among many), `"recurrent"`,
        `"gate"`, `"dying_relu"` (a hidden layer whose nodes went dead) or `"output"`.
      task: `"binary"`, `"multiclass"`, `"regression"` or `"bounded"`; an output
        layer needs one, for others it makes no difference.
      bounds: the range of a bounded task's targets, (0, 1) by default, or (-1, 1).

    Returns:
      `Recommendation(activation, name, reason)`. For regression the activation is
      `identity`, which can be called, and given to a layer, like any other.

    Raises:
      JaxNodesError: a layer, task or bounds it doesn't know, or an output without a task.

    Example:

    >>> import jax.numpy as jnp
    >>> function, name, reason = recommend_activation("output", "binary")
    >>> name, float(function(jnp.array(0.0)))
    ('sigmoid', 0.5)
    >>> recommend_activation("hidden").reason
    "ReLU is cheap, and its gradient is 1 wherever a node is on, so it doesn't vanish."
    """
    where = "recommend_activation"
    layers = {name: name for name in (*_LAYERS, "output")}
    tasks = {name: name for name in (*_OUTPUTS, "bounded")}
    layer = choose(layer, layers, "a layer", where)
    asked = layer == "output" or task is not None
    kind = choose(task, tasks, "an output layer's task", where) if asked else ""
    check(
        bounds is None or (layer == "output" and kind == "bounded"),
        f"expected bounds for the output of a bounded task only, got {bounds!r}; leave them out",
        where,
    )
    if layer != "output":
        function, reason = _LAYERS[layer]
    elif kind != "bounded":
        function, reason = _OUTPUTS[kind]
    else:
        limits = (0.0, 1.0) if bounds is None else tuple(bounds)
        check(
            limits in _BOUNDED,
            f"expected bounds of (0, 1) or (-1, 1), got {bounds!r}; scale the targets to one",
            where,
        )
        function, reason = _BOUNDED[limits]
    return Recommendation(function, activation_name(function) or "", reason)
