"""What an operation makes of a value that changed in a few places along one axis.

Each rule is `rule(eqn, operands, changes, outputs)`, with the operands and outputs as
they are and, for each operand, its change or `None`. It returns what becomes of the one
output, or `None` where it doesn't apply: then full values serve (`deltas.spread`).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.changes import Full, Thin, take
from jaxnodes.conv_primitive import Geometry, conv_p, convolve
from jaxnodes.interpreter import automatic
from jaxnodes.interpreter.control_flow import bind

_REDUCTIONS = "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin"
_WINDOWS = "reduce_window_max reduce_window_min reduce_window_sum"
# Without those that have a say on how the whole value is laid out.
ELEMENTWISE = automatic.ELEMENTWISE - {"optimization_barrier", "pvary", "sharding_constraint"}


def _one(mine) -> tuple[int, Thin] | None:
    """The one changed operand, if there is one alone and it is thin."""
    found = [(i, m) for i, m in enumerate(mine) if m is not None]
    return found[0] if len(found) == 1 and isinstance(found[0][1], Thin) else None


def _only(mine) -> Thin:
    """The operand of an operation that has one."""
    (t,) = mine
    return t


def _change(t: Thin, x, y):
    """By how much `x` changed, in the type of the sum `y`, which is the wider one."""
    return t.values.astype(y.dtype) - take(x, t.indices, t.axis).astype(y.dtype)


def _elementwise(eqn, operands, mine, outputs):
    first = next(m for m in mine if m is not None)
    for x, m in zip(operands, mine, strict=True):
        # Alike in where they changed, and not one node spread over many places.
        if m is not None and not (
            isinstance(m, Thin)
            and m.axis == first.axis
            and m.indices is first.indices
            and x.shape[m.axis] == outputs[0].shape[m.axis]
        ):
            return None
    rank = first.values.ndim - 1
    parts, axes = [], []
    for x, m in zip(operands, mine, strict=True):
        if m is not None:
            parts.append(m.values)
        elif jnp.ndim(x) == rank:
            parts.append(take(x, first.indices, first.axis))
        else:  # a scalar
            parts.append(x)
        axes.append(0 if m is not None or jnp.ndim(x) == rank else None)
    (values,) = jax.vmap(lambda *xs: bind(eqn, xs), in_axes=axes)(*parts)
    return Thin(first.axis, first.indices, values)


def _reduction(eqn, operands, mine, outputs):
    """Over other axes it stays thin; a sum over the nodes changes by their change."""
    t, axes = _only(mine), eqn.params["axes"]
    if t.axis in axes:
        if eqn.primitive.name != "reduce_sum":
            return None
        change = _change(t, operands[0], outputs[0])
        return Full(outputs[0] + jax.vmap(lambda d: bind(eqn, [d])[0])(change))
    return _mapped(eqn, t, t.axis - sum(axis < t.axis for axis in axes))


def _window(eqn, operands, mine, outputs):
    t, p = _only(mine), eqn.params
    alone = (
        p["window_dimensions"][t.axis] == 1
        and p["window_strides"][t.axis] == 1
        and tuple(p["padding"][t.axis]) == (0, 0)
        and p["base_dilation"][t.axis] == 1
    )
    return _mapped(eqn, t, t.axis) if alone else None


def _mapped(eqn, t: Thin, axis: int, **params) -> Thin:
    """The equation on the thin values, with `params` that fit them."""
    params = {**eqn.params, **params}
    values = jax.vmap(lambda x: eqn.primitive.bind(x, **params))(t.values)
    return Thin(axis, t.indices, values)


def _transpose(eqn, operands, mine, outputs):
    t = _only(mine)
    return _mapped(eqn, t, eqn.params["permutation"].index(t.axis))


def _broadcast(eqn, operands, mine, outputs):
    t = _only(mine)
    axis, shape = eqn.params["broadcast_dimensions"][t.axis], list(eqn.params["shape"])
    if shape[axis] != operands[0].shape[t.axis]:
        return None
    shape[axis] = t.indices.shape[1]
    return _mapped(eqn, t, axis, shape=tuple(shape))


def _squeeze(eqn, operands, mine, outputs):
    t, dims = _only(mine), eqn.params["dimensions"]
    if t.axis in dims:
        return None
    return _mapped(eqn, t, t.axis - sum(d < t.axis for d in dims))


def _reshape(eqn, operands, mine, outputs):
    """The axis of the nodes stays, or is merged with its neighbors, as by a flatten."""
    t, old, new = _only(mine), operands[0].shape, outputs[0].shape
    if eqn.params["dimensions"] is not None:
        return None
    before, size = math.prod(old[: t.axis]), old[t.axis]
    m = t.indices.shape[1]
    for axis in range(len(new)):
        # The old axes from `low` on, up to `high`, are the new axis.
        if new[axis] == size and math.prod(new[:axis]) == before:
            shape = (*new[:axis], m, *new[axis + 1 :])
            return Thin(axis, t.indices, t.values.reshape(len(t.values), *shape))
    for axis in range(len(new)):
        for low in range(t.axis + 1):
            for high in range(t.axis + 1, len(old) + 1):
                merged = math.prod(old[low:high]) == new[axis]
                if merged and old[:low] == new[:axis] and old[high:] == new[axis + 1 :]:
                    return _merged(t, old, low, high, axis, new)
    return None


def _merged(t: Thin, old, low, high, axis, new):
    """Where the nodes' places are once the axes from `low` to `high` are one."""
    strides = [math.prod(old[i + 1 : high]) for i in range(low, high)]
    places = np.zeros((1,), np.int32)
    for i in range(low, high):
        along = np.arange(old[i], dtype=np.int32) * strides[i - low]
        if i == t.axis:
            break
        places = (places[:, None] + along).ravel()
    behind = np.zeros((1,), np.int32)
    for i in range(t.axis + 1, high):
        along = np.arange(old[i], dtype=np.int32) * strides[i - low]
        behind = (behind[:, None] + along).ravel()
    mine = t.indices * strides[t.axis - low]
    indices = places[None, :, None, None] + mine[:, None, :, None] + behind[None, None, None, :]
    indices = indices.reshape(len(t.indices), -1)
    shape = (*new[:axis], indices.shape[1], *new[axis + 1 :])
    return Thin(axis, indices, t.values.reshape(len(t.values), *shape))


def _concatenate(eqn, operands, mine, outputs):
    one, along = _one(mine), eqn.params["dimension"]
    if one is None or one[1].axis != along:
        return None
    i, t = one
    offset = sum(x.shape[along] for x in operands[:i])
    return Thin(along, t.indices + offset, t.values)


def _slice(eqn, operands, mine, outputs):
    t, p = _only(mine), eqn.params
    size = operands[0].shape[t.axis]
    whole = (
        p["start_indices"][t.axis] == 0
        and p["limit_indices"][t.axis] == size
        and (p["strides"] is None or p["strides"][t.axis] == 1)
    )
    if not whole:
        return None
    limits = list(p["limit_indices"])
    limits[t.axis] = t.indices.shape[1]
    return _mapped(eqn, t, t.axis, limit_indices=tuple(limits))


def _pad(eqn, operands, mine, outputs):
    one = _one(mine)
    if one is None or tuple(eqn.params["padding_config"][one[1].axis]) != (0, 0, 0):
        return None
    t = one[1]
    values = jax.vmap(lambda x: bind(eqn, [x, operands[1]])[0])(t.values)
    return Thin(t.axis, t.indices, values)


def _dot(eqn, operands, mine, outputs):
    """A contraction over the nodes changes by a product of low rank."""
    one = _one(mine)
    if one is None:
        return None
    side, t = one
    other = operands[1 - side]
    contracting, batch = eqn.params["dimension_numbers"]
    if t.axis in contracting[side]:
        if outputs[0].dtype == bool:  # has no differences
            return None
        change = _change(t, operands[side], outputs[0])
        place = contracting[side].index(t.axis)
        axis = contracting[1 - side][place]
        rows = take(other, t.indices, axis).astype(change.dtype)
        alone = t.indices.shape[1] == 1 and len(contracting[side]) == 1 and not batch[0]
        if alone:
            return Full(outputs[0] + _outer(change, rows, t.axis, axis, side))
        pair = (change, rows) if side == 0 else (rows, change)
        return Full(outputs[0] + jax.vmap(lambda a, b: bind(eqn, [a, b])[0])(*pair))
    if t.axis in batch[side]:
        place = batch[side].index(t.axis)
        part = take(other, t.indices, batch[1 - side][place])
        pair = (t.values, part) if side == 0 else (part, t.values)
        return Thin(place, t.indices, jax.vmap(lambda a, b: bind(eqn, [a, b])[0])(*pair))
    pair, axes = ((t.values, other), (0, None)) if side == 0 else ((other, t.values), (None, 0))
    values = jax.vmap(lambda a, b: bind(eqn, [a, b])[0], in_axes=axes)(*pair)
    return Thin(_free_axis(eqn, operands, side, t.axis), t.indices, values)


def _outer(change, rows, axis, other_axis, side):
    """One column times one row, written so that it fuses with what comes next."""
    change = jnp.squeeze(change, axis + 1)
    rows = jnp.squeeze(rows, other_axis + 1)
    left, right = (change, rows) if side == 0 else (rows, change)
    left = left.reshape(*left.shape, *(1,) * (right.ndim - 1))
    right = right.reshape(len(right), *(1,) * (left.ndim - right.ndim), *right.shape[1:])
    return left * right


def _free_axis(eqn, operands, side, axis) -> int:
    """Where a free axis of an operand is in the output: batch, free left, free right."""
    contracting, batch = eqn.params["dimension_numbers"]

    def free(k):
        used = {*contracting[k], *batch[k]}
        return [i for i in range(operands[k].ndim) if i not in used]

    before = len(batch[0]) + (len(free(0)) if side == 1 else 0)
    return before + free(side).index(axis)


def _conv(eqn, operands, mine, outputs):
    """Changes by a convolution of the few channels; a depthwise one keeps to its channels."""
    one, layout, y = _one(mine), _layout(eqn, operands), outputs[0]
    if one is None or one[0] != 0 or layout is None or not jnp.issubdtype(y.dtype, jnp.inexact):
        return None
    t, (x, w) = one[1], operands
    geometry, x_axes, w_axes, y_axes = layout
    if t.axis != x_axes[-1]:
        return None

    def conv(x, w, groups):
        x, w = jnp.transpose(x, x_axes), jnp.transpose(w, w_axes).astype(x.dtype)
        y = convolve(x, w, geometry._replace(groups=groups))
        return jnp.transpose(y, [y_axes.index(i) for i in range(len(y_axes))])

    if geometry.groups == 1:
        part = take(w, t.indices, w_axes[-2])
        return Full(y + jax.vmap(lambda x, w: conv(x, w, 1))(_change(t, x, y), part))
    if geometry.groups == w.shape[w_axes[-1]] == x.shape[x_axes[-1]]:
        part, m = take(w, t.indices, w_axes[-1]), t.indices.shape[1]
        values = jax.vmap(lambda x, w: conv(x, w, m))(t.values.astype(y.dtype), part)
        return Thin(y_axes[-1], t.indices, values)
    return None


def _layout(eqn, operands):
    """A convolution as `conv_primitive` has it, and the axes of x, w and y in its order."""
    p = eqn.params
    rank = operands[1].ndim - 2
    last = tuple(range(rank + 2))
    if eqn.primitive is conv_p:
        return (p["geometry"], last, last, last) if p["side"] == "y" else None
    numbers = p["dimension_numbers"]
    if p["batch_group_count"] != 1 or set(p["lhs_dilation"]) != {1} or rank > 3:
        return None
    x_axes = (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    w_axes = (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
    y_axes = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    x, w = operands
    geometry = Geometry(
        tuple(x.shape[i] for i in x_axes[1:-1]),
        tuple(w.shape[i] for i in w_axes[:-2]),
        tuple(p["window_strides"]),
        tuple(map(tuple, p["padding"])),
        tuple(p["rhs_dilation"]),
        p["feature_group_count"],
    )
    fits = all(low >= 0 and high >= 0 for low, high in geometry.padding)
    return (geometry, x_axes, w_axes, y_axes) if fits else None


RULES: dict[str, Callable] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    **dict.fromkeys(_WINDOWS.split(), _window),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    conv_p.name: _conv,
    "dot_general": _dot,
    "pad": _pad,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
