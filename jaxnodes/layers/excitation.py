"""Squeeze-and-excitation: channels weighed by what all of the image says."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.nn import relu, sigmoid

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.errors import check_count
from jaxnodes.initializers import he_normal, initializer
from jaxnodes.layers.arrays import cast_inputs
from jaxnodes.layers.base import Layer, call
from jaxnodes.layers.description import normalize
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.pooling import global_avg_pool


@dataclasses.dataclass(frozen=True, repr=False)
class SqueezeExcite(Layer):
    """Each channel of a sample times a weight in (0, 1) of its own (Hu et al. 2017).

    With s the means of the channels over all of space (arXiv:1709.01507, equations 2 to 4),

        y = x * gate(activation(s w1 + b1) w2 + b2)

    Args:
      features: nodes of the layer between, R; the paper has a sixteenth of the channels,
        EfficientNet a quarter of its block's inputs.
      activation: of these nodes, a function or a name.
      gate: of the weights, a function or a name.
      w_init: an initializer, by function or by name.
      dtype: the dtype to compute in; `None` is the parameters'.

    Shapes: x (B, *space, C) to the same. Both layers' outputs are nodes, (B, R) and (B, C).
    Parameters `{"squeeze": {"w": (C, R), "b": (R,)}, "excite": {"w": (R, C), "b": (C,)}}`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer, x = jn.SqueezeExcite(4), jnp.ones((8, 7, 7, 16))
    >>> variables = layer.init(jax.random.key(0), x)
    >>> y, nodes = jn.record(layer.predict)(variables, x)
    >>> y.shape, {name: value.shape for name, value in nodes.items()}
    ((8, 7, 7, 16), {'squeeze': (8, 4), 'excite': (8, 16)})
    """

    features: int
    activation: Callable | str = relu
    gate: Callable | str = sigmoid
    _: dataclasses.KW_ONLY
    w_init: Callable | str = he_normal
    dtype: Any = None

    def __post_init__(self):
        check_count(self.features, "features", "SqueezeExcite")
        normalize(self, activation=resolve_activation, gate=resolve_activation, w_init=initializer)

    def apply(self, params, state, x, *, key=None, training=False):
        _, x = cast_inputs({}, x, self.dtype, "squeeze_excite")
        options = {"w_init": self.w_init, "dtype": self.dtype}
        squeeze = Dense(self.features, self.activation, **options)
        excite = Dense(x.shape[-1], self.gate, **options)
        h, state = call(squeeze, "squeeze", params, state, global_avg_pool(x))
        weights, state = call(excite, "excite", params, state, h)
        weights = weights.reshape(len(weights), *(1,) * (x.ndim - 2), -1)
        dtype = np.promote_types(x.dtype, weights.dtype)
        return x.astype(dtype) * weights.astype(dtype), state
