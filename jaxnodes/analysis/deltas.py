"""What follows from changing one node: a program run on the difference alone.

Removing node j from a layer changes one column of its value. Elementwise operations,
pooling and the like leave it one column; the next weighted sum spreads it, and even
that is a rank-one change of a sum known already: `z + (v - h_j) w_j`. Only what comes
after needs a pass of its own.

So a program is run for K variants at once on three kinds of values: unchanged ones,
which the base run has; `Thin` ones, which differ from the base in a few places along
one axis; and `Full` ones. An operation without a rule of its own gets full values, by
`jax.vmap` over the variants: the same numbers, by more work.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.control_flow import CALLS, CUSTOM_GRADIENTS, bind, bodies
from jaxnodes.conv_primitive import Geometry, conv_p, convolve

_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1
floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg
nextafter node not one_minus_square or pow real reduce_precision rem round rsqrt select_n
sign sin sinh sqrt square stop_gradient sub tan tanh xor
"""
_REDUCTIONS = "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin"
_WINDOWS = "reduce_window_max reduce_window_min reduce_window_sum reduce_window"
ELEMENTWISE = frozenset(_ELEMENTWISE.split())


@dataclasses.dataclass(frozen=True)
class Thin:
    """K variants of a value that differ from it only at `indices` along `axis`.

    `values` is (K, *shape) with the axis cut down to the m places in `indices`, (K, m).
    """

    axis: int
    indices: jax.Array
    values: jax.Array


@dataclasses.dataclass(frozen=True)
class Full:
    """K variants of a value: (K, *shape)."""

    values: jax.Array


Changed = Thin | Full
# What makes the first change: (equation, operands, outputs) -> what became of the outputs.
Source = Callable[[JaxprEqn, Sequence[Any], Sequence[Any]], Sequence[Changed | None]]
Path = tuple[int, ...]


def take(x: jax.Array, indices: jax.Array, axis: int) -> jax.Array:
    """`x` at each variant's places along `axis`: (K, *shape) with that axis cut down to m."""
    return jax.vmap(lambda i: jnp.take(x, i, axis=axis, mode="clip"))(indices)


def put(base: jax.Array, thin: Thin) -> jax.Array:
    """All of a thin value: (K, *shape)."""

    def one(indices, values):
        where = (slice(None),) * thin.axis + (indices,)
        return base.at[where].set(values)

    return jax.vmap(one)(thin.indices, thin.values)


@dataclasses.dataclass(frozen=True)
class Base:
    """A program run as it stands: all of its values, and those of the calls inside it."""

    values: dict[Any, Any]
    inner: dict[int, "Base"]

    def read(self, atom: Any) -> Any:
        """The value of a variable, or the literal itself."""
        return atom.val if isinstance(atom, Literal) else self.values[atom]


def run_base(jaxpr: Jaxpr, values: Sequence[Any]) -> Base:
    """Every value of a program, given those of its constants and inputs."""
    base = Base(dict(zip([*jaxpr.constvars, *jaxpr.invars], values, strict=True)), {})
    for i, eqn in enumerate(jaxpr.eqns):
        operands = [base.read(atom) for atom in eqn.invars]
        if can_enter(eqn):
            (body,) = bodies(eqn)
            inner = run_base(body.jaxpr, [*body.consts, *(operands[k] for k in body.operands)])
            base.inner[i] = inner
            outputs = [inner.read(atom) for atom in body.jaxpr.outvars]
        else:
            outputs = bind(eqn, operands)
        base.values.update(zip(eqn.outvars, outputs, strict=True))
    return base


def propagate(
    jaxpr: Jaxpr,
    base: Base,
    changed: Mapping[Any, Changed],
    sources: Mapping[Path, Source],
    path: Path = (),
) -> list[Changed | None]:
    """Runs a program on what changed.

    Args:
      jaxpr: the program.
      base: all of its values as they are.
      changed: those of its inputs that changed, by variable.
      sources: what makes the first change, by the path of its equation.
      path: where this program is in the whole one.

    Returns:
      For each output what became of it; `None` where it stayed as it was.
    """
    changed = dict(changed)

    def now(atom):
        return None if isinstance(atom, Literal) else changed.get(atom)

    for i, eqn in enumerate(jaxpr.eqns):
        here, mine = (*path, i), [now(atom) for atom in eqn.invars]
        inside = any(place[: len(here)] == here for place in sources)
        if not inside and all(m is None for m in mine):
            continue
        operands = [base.read(atom) for atom in eqn.invars]
        outputs = [base.values[var] for var in eqn.outvars]
        if here in sources:
            made = sources[here](eqn, operands, outputs)
        elif can_enter(eqn):
            (body,) = bodies(eqn)
            inputs = zip(body.jaxpr.invars, (mine[k] for k in body.operands), strict=True)
            entered = {var: m for var, m in inputs if m is not None}
            made = propagate(body.jaxpr, base.inner[i], entered, sources, (*here, 0))
        else:
            made = _equation(eqn, operands, mine, outputs)
        changed |= {v: m for v, m in zip(eqn.outvars, made, strict=True) if m is not None}
    return [now(atom) for atom in jaxpr.outvars]


def can_enter(eqn: JaxprEqn) -> bool:
    """Whether an equation is a call whose program may stand in place of it."""
    name = eqn.primitive.name
    return name in CUSTOM_GRADIENTS or (name in CALLS and name != "shard_map")


def _equation(eqn: JaxprEqn, operands, mine, outputs) -> list[Changed]:
    rule = _RULES.get(eqn.primitive.name)
    if rule is not None and any(isinstance(m, Thin) for m in mine):
        made = rule(eqn, operands, mine, outputs)
        if made is not None:
            return [made]
    return spread(eqn, operands, mine)


def spread(eqn: JaxprEqn, operands, mine) -> list[Changed]:
    """Any equation, on full values, for all variants at once."""
    whole = [
        put(x, m) if isinstance(m, Thin) else m.values if m is not None else x
        for x, m in zip(operands, mine, strict=True)
    ]
    axes = [None if m is None else 0 for m in mine]
    made = jax.vmap(lambda *xs: bind(eqn, xs), in_axes=axes)(*whole)
    return [Full(values) for values in made]


# Rules for thin values. Each returns None where it doesn't apply.


def _one(mine) -> tuple[int, Thin] | None:
    """The one changed operand, if there is one alone and it is thin."""
    found = [(i, m) for i, m in enumerate(mine) if m is not None]
    return found[0] if len(found) == 1 and isinstance(found[0][1], Thin) else None


def _only(mine) -> Thin:
    """The operand of an operation that has one."""
    (t,) = mine
    return t


def _elementwise(eqn, operands, mine, outputs):
    thin = [m for m in mine if m is not None]
    first = thin[0]
    if not all(isinstance(m, Thin) for m in thin):
        return None
    if any(m.axis != first.axis or m.indices is not first.indices for m in thin):
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
        change = t.values - take(operands[0], t.indices, t.axis)
        total = jax.vmap(lambda d: jnp.sum(d, axis=tuple(axes)))(change)
        return Full(outputs[0] + total)
    return _mapped(eqn, t, t.axis - sum(axis < t.axis for axis in axes))


def _window(eqn, operands, mine, outputs):
    one = _one(mine)
    p = eqn.params
    if one is None or one[0] != 0:
        return None
    t = one[1]
    alone = (
        p["window_dimensions"][t.axis] == 1
        and p["window_strides"][t.axis] == 1
        and tuple(p["padding"][t.axis]) == (0, 0)
        and p["base_dilation"][t.axis] == 1
    )
    if not alone:
        return None
    rest = operands[1:]
    values = jax.vmap(lambda x: bind(eqn, [x, *rest])[0])(t.values)
    return Thin(t.axis, t.indices, values)


def _mapped(eqn, t: Thin, axis: int, **params) -> Thin:
    """The equation on the thin values, with `params` that fit them."""
    params = {**eqn.params, **params}
    values = jax.vmap(lambda x: eqn.primitive.bind(x, **params))(t.values)
    return Thin(axis, t.indices, values[0] if isinstance(values, list) else values)


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
    one = _one(mine)
    if one is None or eqn.params["dimensions"] is not None:
        return None
    t, old, new = one[1], operands[0].shape, outputs[0].shape
    before, size = math.prod(old[: t.axis]), old[t.axis]
    m = t.indices.shape[1]
    for axis in range(len(new)):
        # The old axes from `low` on, up to `high`, are the new axis.
        if new[axis] == size and math.prod(new[:axis]) == before:
            shape = (*new[:axis], m, *new[axis + 1 :])
            return Thin(axis, t.indices, t.values.reshape(-1, *shape))
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
    return Thin(axis, indices, t.values.reshape(-1, *shape))


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
    if one is None or one[0] != 0:
        return None
    t = one[1]
    if tuple(eqn.params["padding_config"][t.axis]) != (0, 0, 0):
        return None
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
        change = t.values - take(operands[side], t.indices, t.axis)
        place = contracting[side].index(t.axis)
        axis = contracting[1 - side][place]
        rows = take(other, t.indices, axis)
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
    """A convolution over the channels changes by one of few channels."""
    one, geometry = _one(mine), _geometry(eqn, operands)
    if one is None or one[0] != 0 or geometry is None:
        return None
    t, (x, w) = one[1], operands
    geometry, x_axes, w_axes, y_axes = geometry
    if t.axis != x_axes[-1]:
        return None
    change = t.values - take(x, t.indices, t.axis)
    part = take(w, t.indices, w_axes[-2])

    def conv(change, part):
        y = convolve(jnp.transpose(change, x_axes), jnp.transpose(part, w_axes), geometry)
        return jnp.transpose(y, [y_axes.index(i) for i in range(len(y_axes))])

    return Full(outputs[0] + jax.vmap(conv)(change, part))


def _geometry(eqn, operands):
    """An ungrouped convolution as `conv_primitive` has it; axes of x, w and y in its order."""
    p = eqn.params
    rank = operands[1].ndim - 2
    last = tuple(range(rank + 2))
    if eqn.primitive is conv_p:
        plain = p["side"] == "y" and p["geometry"].groups == 1
        return (p["geometry"], last, last, last) if plain else None
    numbers = p["dimension_numbers"]
    plain = (
        p["feature_group_count"] == p["batch_group_count"] == 1
        and set(p["lhs_dilation"]) <= {1}
        and 1 <= rank <= 3
    )
    if not plain:
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
        1,
    )
    fits = all(low >= 0 and high >= 0 for low, high in geometry.padding)
    return (geometry, x_axes, w_axes, y_axes) if fits else None


_RULES: dict[str, Callable] = {
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
