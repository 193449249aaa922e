"""Batch normalization: each feature normalized over the batch, its statistics kept as state."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check, check_key, check_number
from jaxnodes.layers.arrays import Params, State, cast_inputs, check_params, dtype_of, features_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.description import normalize
from jaxnodes.layers.normalization import (
    AxisNames,
    check_features,
    layer_norm_init,
    moments,
    normalized,
    statistics_dtype,
)


def batch_norm_init(
    features: int, dtype: Any = jnp.float32
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Parameters and running statistics of a batch norm: those of the identity.

    Args:
      features: size F of the last axis of the inputs.
      dtype: of the parameters. The running statistics have at least float32: in
        bfloat16 a running mean stops short, its steps rounded away.

    Returns:
      `({"scale": ones (F,), "bias": zeros (F,)}, {"mean": zeros (F,), "var": ones (F,)})`.
    """
    params = layer_norm_init(features, dtype)
    wide = statistics_dtype(params["scale"])
    return params, {"mean": jnp.zeros(features, wide), "var": jnp.ones(features, wide)}


def batch_norm(
    params: Params,
    state: State,
    x: Any,
    *,
    training: bool,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    unbiased: bool = False,
    axis_name: AxisNames = None,
) -> tuple[jax.Array, State]:
    """Each feature normalized over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    In training, mean and variance are the batch's, over all axes but the last, and

        running = (1 - momentum) * running + momentum * batch's

    At inference they are the running ones, and the state stays as it was.

    Args:
      params: `{"scale": (F,), "bias": (F,)}`; `bias` may be left out.
      state: `{"mean": (F,), "var": (F,)}`.
      x: (B, ..., F).
      training: which statistics to use.
      momentum: the weight of the new value, as in PyTorch; one minus flax's and keras's.
      epsilon: added to the variance.
      unbiased: whether the running variance is n / (n - 1) times the batch's, which is
        what PyTorch keeps; flax and keras keep the batch's. The batch itself is
        always normalized by its biased variance.
      axis_name: axes of a `jax.vmap` or `jax.shard_map` over which the batch is spread in
        equal parts; the statistics are then those of the whole batch.

    Returns:
      `(y, state)`, y of x's shape.

    Raises:
      JaxNodesError: in training, an empty batch, or with `unbiased` one value a feature;
        an input, parameters or a state of another size.

    Example:

    >>> import jax.numpy as jnp
    >>> params, state = batch_norm_init(1)
    >>> y, state = batch_norm(params, state, jnp.array([[1.0], [5.0]]), training=True)
    >>> y.tolist(), state["mean"].tolist(), state["var"].tolist()
    ([[-0.999998], [0.999998]], [0.3], [1.3])
    """
    check_params(params, {"scale": ("F",), "bias": ("F",)}, "batch_norm", may_lack="bias")
    params, x = cast_inputs(params, x, None, "batch_norm")
    shape = check_features(params, x, "batch_norm")
    check_params(state, {"mean": shape, "var": shape}, "batch_norm")
    if not training:
        mean, var = (state[name].astype(statistics_dtype(x)) for name in ("mean", "var"))
        return normalized(params, x, mean, var, epsilon), state

    check(
        x.ndim >= 2 and x.size,
        f"expected a batch (B, ..., F) with samples in it to take the statistics of, got {x.shape}",
        "batch_norm",
    )
    mean, var = moments(x, tuple(range(x.ndim - 1)), axis_name)
    y = normalized(params, x, mean, var, epsilon)
    if unbiased:
        n = x.size // x.shape[-1] * (1 if axis_name is None else jax.lax.psum(1, axis_name))
        check(
            n > 1,
            f"expected more than one value a feature for its unbiased variance, got {x.shape}; "
            "use a larger batch or unbiased=False",
            "batch_norm",
        )
        var *= n / (n - 1)
    new = {"mean": mean.reshape(shape), "var": var.reshape(shape)}
    return y, {
        name: (1 - momentum) * old + momentum * new[name].astype(old.dtype)
        for name, old in state.items()
    }


@dataclasses.dataclass(frozen=True, repr=False)
class BatchNorm(Layer):
    """Batch normalization over all axes but the last; see `batch_norm`. Names no nodes.

    Args:
      momentum: the weight of the new value in the running statistics, in [0, 1].
      epsilon: added to the variance.
      unbiased: whether the running variance is the unbiased one, as in PyTorch.
      axis_name: axes of a `jax.vmap` or `jax.shard_map` over which the batch is spread.
      dtype: the dtype of the output (say `jnp.bfloat16`); `None` is the parameters'.

    Shapes: x (B, ..., F) to the same. Parameters `{"scale": (F,), "bias": (F,)}`, state
    `{"mean": (F,), "var": (F,)}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer, x = jn.BatchNorm(), jnp.array([[1.0], [3.0]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, state = layer.apply(params, state, x, training=True)
    >>> state["mean"]
    Array([0.2], dtype=float32)
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    unbiased: bool = False
    _: dataclasses.KW_ONLY
    axis_name: AxisNames = None
    dtype: Any = None

    def __post_init__(self):
        check_number(self.momentum, "momentum", "BatchNorm", least=0, most=1)
        check_number(self.epsilon, "epsilon", "BatchNorm", least=0)
        normalize(self)

    def init(self, key, x):
        check_key(key, "batch_norm")
        return batch_norm_init(features_of(x, "batch_norm"), dtype_of(x))

    def apply(self, params, state, x, *, key=None, training=False):
        check_params(params, {"scale": ("F",), "bias": ("F",)}, "batch_norm")
        params, x = cast_inputs(params, x, self.dtype, "batch_norm")
        return batch_norm(
            params,
            state,
            x,
            training=training,
            momentum=self.momentum,
            epsilon=self.epsilon,
            unbiased=self.unbiased,
            axis_name=self.axis_name,
        )
