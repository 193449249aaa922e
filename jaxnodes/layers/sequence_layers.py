"""Layers around recurrent ones: both directions, and the last step of each sequence."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxnodes.errors import check
from jaxnodes.layers.base import Layer, call
from jaxnodes.layers.sequences import check_mask, split_mask


@dataclasses.dataclass(frozen=True, repr=False)
class Bidirectional(Layer):
    """A recurrent layer run both ways, each way with weights of its own.

    Args:
      layer: `SimpleRNN`, `LSTM`, `GRU`, or any layer with a field `reverse`. It is called
        `forward`, and its copy with `reverse=True` is called `backward`.
      merge: `"concat"` joins the outputs on the last axis, forward first; `"sum"` adds them.

    At a sequence's last step the backward half has seen that step alone (`LastStep` takes
    it so); what has seen all of it is the output at the first step.

    Shapes: x (B, T, D) to (B, T, 2 H), or (B, T, H) if summed; with a mask as in `SimpleRNN`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> layer = jn.Bidirectional(jn.LSTM(16))
    >>> variables = layer.init(jax.random.key(0), jnp.ones((8, 20, 3)))
    >>> layer.predict(variables, jnp.ones((8, 20, 3))).shape
    (8, 20, 32)
    """

    layer: Any
    merge: str = "concat"

    def __post_init__(self):
        check(
            isinstance(self.layer, Layer) and getattr(self.layer, "reverse", None) is False,
            f"expected a recurrent layer with reverse=False, got {self.layer!r}",
            "Bidirectional",
        )
        check(
            not getattr(self.layer, "stateful", False),
            "expected a layer that is not stateful; the backward half can't go on from "
            "chunks that are yet to come",
            "Bidirectional",
        )
        check(
            self.merge in ("concat", "sum"),
            f"expected merge to be 'concat' or 'sum', got {self.merge!r}",
            "Bidirectional",
        )

    def apply(self, params, state, x, *, key=None, training=False):
        backward_layer = dataclasses.replace(self.layer, reverse=True)
        options = {"key": key, "training": training}
        forward, state = call(self.layer, "forward", params, state, x, **options)
        backward, state = call(backward_layer, "backward", params, state, x, **options)
        if isinstance(x, tuple):
            return (self._merged(forward[0], backward[0]), x[1]), state
        return self._merged(forward, backward), state

    def _merged(self, forward, backward):
        if self.merge == "sum":
            return forward + backward
        return jnp.concatenate([forward, backward], axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class LastStep(Layer):
    """The last step of each sequence; with a mask, the last that counts.

    Shapes: x (B, T, D), or a pair of it and a mask (B, T), to (B, D). Where the mask
    leaves no step at all the output is zero.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> x = jnp.arange(6.0).reshape(2, 3, 1)
    >>> jn.LastStep().predict(({}, {}), (x, jn.lengths_to_mask(jnp.array([2, 3]), 3)))
    Array([[1.],
           [5.]], dtype=float32)
    """

    def apply(self, params, state, x, *, key=None, training=False):
        x, mask = split_mask(x, "last_step")
        check(
            x.ndim >= 2 and x.shape[-2] > 0,
            f"expected sequences (batch, steps, features) of at least one step, got {x.shape}",
            "last_step",
        )
        if mask is None:
            return x[..., -1, :], state
        mask = check_mask(mask, x.shape[:-1], "last_step")
        last = mask.shape[-1] - 1 - jnp.argmax(mask[..., ::-1], axis=-1)
        y = jnp.take_along_axis(x, last[..., None, None], axis=-2)[..., 0, :]
        return jnp.where(mask.any(axis=-1)[..., None], y, 0), state
