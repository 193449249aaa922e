"""Optimizers, each its equation: pairs `(init, update)` that serve wherever optax's do.

    state = optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)

The learning rate is part of the state, and `update` is one function for all rates:
a new rate, or a traced one, compiles nothing again, and `jax.vmap` over rates
works. To change the rate between steps, replace `state.learning_rate`
(`optax.inject_hyperparams` would change what `update` doesn't read; don't use it
for the rate). Schedules and gradient clipping are optax's:
`adam(optax.cosine_decay_schedule(1e-3, 1000))`, `optax.chain(clip, adam(1e-3))`.

All is computed in float32 or wider and the update rounded to its parameter's
dtype: half-precision Adam in half precision divides zero by zero.

In the equations p is the parameter, g its gradient, r the learning rate and t the
step, counted from 1.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check
from jaxnodes.updates import OptimizerState as OptimizerState
from jaxnodes.updates import Rule, number, transformation

if TYPE_CHECKING:
    import optax


def sgd(learning_rate: Any) -> "optax.GradientTransformation":
    """Stochastic gradient descent: p -= r g.

    Args:
      learning_rate: a nonnegative number, a traced scalar, or a schedule: a function
        of the count of steps taken.

    Returns:
      An `optax.GradientTransformation`; where optax isn't imported, a pair just like it.

    Raises:
      JaxNodesError: a negative or non-finite rate; in `init` and `update`, parameters
        that aren't floating, or gradients that don't fit them.

    Example:

    >>> import jax, jax.numpy as jnp, optax
    >>> optimizer = sgd(0.1)
    >>> params = {"w": jnp.array([1.0, 2.0])}
    >>> state = optimizer.init(params)
    >>> gradients = jax.grad(lambda p: jnp.sum(p["w"] ** 2))(params)
    >>> updates, state = optimizer.update(gradients, state, params)
    >>> optax.apply_updates(params, updates)
    {'w': Array([0.8, 1.6], dtype=float32)}
    """
    return transformation(_SGD, learning_rate, {})


def momentum(
    learning_rate: Any, decay: float = 0.9, nesterov: bool = False
) -> "optax.GradientTransformation":
    """Momentum (Polyak 1964), as optax has it: v = decay v + g;  p -= r v.

    Nesterov's (Sutskever et al. 2013) looks one step ahead: p -= r (decay v + g).
    The other form in use, v = decay v - r g; p += v, takes the same steps where the
    rate is constant. Where it is scheduled they differ: there v remembers the rates.

    Args:
      learning_rate: as for `sgd`.
      decay: in [0, 1).
      nesterov: whether to look ahead.

    Example:

    >>> import jax.numpy as jnp
    >>> optimizer = momentum(0.1)
    >>> state = optimizer.init(jnp.array(0.0))
    >>> for _ in range(3):
    ...     update, state = optimizer.update(jnp.array(1.0), state)
    >>> update
    Array(-0.271, dtype=float32)
    """
    check(
        isinstance(nesterov, bool), f"expected nesterov to be a bool, got {nesterov!r}", "momentum"
    )
    decay = number(decay, "decay", "momentum", below=1)
    return transformation(_MOMENTUM, learning_rate, {"decay": decay, "nesterov": nesterov})


def nesterov(learning_rate: Any, decay: float = 0.9) -> "optax.GradientTransformation":
    """`momentum(learning_rate, decay, nesterov=True)`."""
    return momentum(learning_rate, decay, nesterov=True)


def rmsprop(
    learning_rate: Any, decay: float = 0.9, eps: float = 1e-8
) -> "optax.GradientTransformation":
    """RMSProp (Hinton 2012), as optax has it, with eps under the root:

        v = decay v + (1 - decay) g^2;  p -= r g / sqrt(v + eps)

    PyTorch adds eps to the root instead.

    Args:
      learning_rate: as for `sgd`.
      decay: in [0, 1).
      eps: positive.

    Example:

    >>> import jax.numpy as jnp
    >>> optimizer = rmsprop(0.1)
    >>> update, state = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(0.0)))
    >>> update  # -0.1 * 2 / sqrt(0.1 * 4)
    Array(-0.3162, dtype=float32)
    """
    decay = number(decay, "decay", "rmsprop", below=1)
    eps = number(eps, "eps", "rmsprop", above=0)
    return transformation(_RMSPROP, learning_rate, {"decay": decay, "eps": eps})


def adam(
    learning_rate: Any, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> "optax.GradientTransformation":
    """Adam (Kingma and Ba 2014, arXiv:1412.6980):

        m = b1 m + (1 - b1) g
        v = b2 v + (1 - b2) g^2
        p -= r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
      learning_rate: as for `sgd`.
      b1, b2: how slowly both means forget, in [0, 1).
      eps: positive.

    Example:

    >>> import jax.numpy as jnp
    >>> optimizer = adam(1e-3)
    >>> update, state = optimizer.update(jnp.array(5.0), optimizer.init(jnp.array(0.0)))
    >>> update
    Array(-0.001, dtype=float32)
    >>> adam(1e-2).update is optimizer.update
    True
    """
    return transformation(_ADAM, learning_rate, _adam_settings(b1, b2, eps, "adam"))


def adamw(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    mask: Callable[[Any], Any] | None = None,
) -> "optax.GradientTransformation":
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101).

    Adam's step, and then p -= r weight_decay p. `update` needs the parameters.

    Args:
      learning_rate, b1, b2, eps: as for `adam`.
      weight_decay: nonnegative.
      mask: a function of the parameters that returns a tree of booleans like them:
        which ones decay. `lambda params: jax.tree.map(lambda p: p.ndim > 1, params)`
        spares biases. By default all decay.

    Example:

    >>> import jax.numpy as jnp
    >>> optimizer = adamw(0.1, weight_decay=0.5)
    >>> w = jnp.array(2.0)
    >>> update, state = optimizer.update(jnp.array(5.0), optimizer.init(w), w)
    >>> update  # -0.1 * (1 + 0.5 * 2)
    Array(-0.2, dtype=float32)
    """
    check(
        mask is None or callable(mask),
        "expected mask to be a function of the parameters; lambda params: mask makes one",
        "adamw",
    )
    weight_decay = number(weight_decay, "weight_decay", "adamw")
    settings = {**_adam_settings(b1, b2, eps, "adamw"), "weight_decay": weight_decay}
    return transformation(_ADAMW, learning_rate, settings, mask)


#: Every optimizer by its name.
OPTIMIZERS: dict[str, Callable[..., "optax.GradientTransformation"]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}


# Each rule, at step t, maps (g, p, *moments) of one leaf to the direction, which the
# learning rate then scales, and the moments after it.


def _sgd(t):
    return lambda g, p: (g,)


def _momentum(t, decay, nesterov):
    def step(g, p, v):
        v = decay * v + g
        return (decay * v + g if nesterov else v), v

    return step


def _rmsprop(t, decay, eps):
    def step(g, p, v):
        v = decay * v + (1 - decay) * g**2
        return g * jax.lax.rsqrt(v + eps), v

    return step


def _adam(t, b1, b2, eps):
    # The order of the paper's section 2: one division a value in place of three.
    root = jnp.sqrt(1 - b2**t)
    scale, small = root / (1 - b1**t), eps * root

    def step(g, p, m, v):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return scale.astype(m.dtype) * m / (jnp.sqrt(v) + small.astype(v.dtype)), m, v

    return step


def _adamw(t, b1, b2, eps, weight_decay):
    adam_step = _adam(t, b1, b2, eps)

    def step(g, p, m, v):
        direction, m, v = adam_step(g, p, m, v)
        return direction + weight_decay * p, m, v

    return step


_SGD = Rule("sgd", _sgd, moments=0)
_MOMENTUM = Rule("momentum", _momentum, moments=1)
_RMSPROP = Rule("rmsprop", _rmsprop, moments=1)
_ADAM = Rule("adam", _adam, moments=2)
_ADAMW = Rule("adamw", _adamw, moments=2, needs_params=True)


def _adam_settings(b1: Any, b2: Any, eps: Any, where: str) -> dict[str, float]:
    return {
        "b1": number(b1, "b1", where, below=1),
        "b2": number(b2, "b2", where, below=1),
        "eps": number(eps, "eps", where, above=0),
    }
