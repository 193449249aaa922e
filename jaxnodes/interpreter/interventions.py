"""What is done to a node: a gate, a gate and a value to put in its place, or a function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check, describe
from jaxnodes.interpreter.sites import Site, reach

Patches = dict[str, "Patch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Patch:
    """An intervention on the nodes of one site, for `len(steps)` scans around it.

    Attributes:
      gate: (*steps, size), or (size,) for every step.
      value: broadcast against one step's value; it may have step axes in front.
      function: of one step's value.
      steps: how many scans are still to be entered.
      value_steps: how many of them `value` has an axis for.
    """

    gate: jax.Array | None = None
    value: jax.Array | None = None
    function: Callable | None = None
    steps: int = dataclasses.field(default=0, metadata={"static": True})
    value_steps: int = dataclasses.field(default=0, metadata={"static": True})

    def __call__(self, h: jax.Array, axis: int | None, name: str) -> jax.Array:
        """The value that takes the place of `h`, one step's value at the site `name`."""
        if self.function is not None:
            made = self.function(h)
            check(
                hasattr(made, "dtype") or isinstance(made, int | float),
                f"expected a function that returns an array, but it made {type(made).__name__}",
                f"intervene {name!r}",
            )
            new = jnp.asarray(made)
            check(
                new.shape == h.shape and new.dtype == h.dtype,
                f"expected a function that keeps shape and dtype, {describe(h)}, "
                f"but it made {describe(new)}",
                f"intervene {name!r}",
            )
            return new
        assert self.gate is not None
        shape = [1] * h.ndim
        if axis is not None:
            shape[axis] = h.shape[axis]
        gate = self.gate.reshape(shape)
        y = gate * _finite_where(gate == 0, h.astype(gate.dtype))
        if self.value is not None:
            y += (1 - gate) * _finite_where(gate == 1, self.value.astype(gate.dtype))
        return y.astype(h.dtype)


def _finite_where(closed: jax.Array, x: jax.Array) -> jax.Array:
    """`x`, with zeros where it doesn't count and isn't finite: 0 * inf would be NaN.

    Where it is finite it stays, so that the derivative by the gate is right.
    """
    return jnp.where(closed & ~jnp.isfinite(x), jnp.zeros_like(x), x)


def parse(interventions: Any, sites: Mapping[str, Site]) -> Patches:
    """The patch for every site that `interventions` reach.

    Args:
      interventions: a dict of gates, `(gate, value)` pairs and functions, by name.
      sites: those of the function.

    Raises:
      JaxNodesError: a name, a shape or a dtype that doesn't fit.
    """
    check(
        isinstance(interventions, Mapping),
        "expected a dict {name: gate, (gate, value) or function}, "
        f"got {type(interventions).__name__}",
        "intervene",
    )
    return {
        site: _patch(interventions[name], sites[site])
        for site, name in reach(interventions, sites).items()
    }


def _patch(given: Any, site: Site) -> Patch:
    where = f"intervene {site.name!r}"
    steps = len(site.steps)
    if callable(given):
        return Patch(function=given, steps=steps)
    pair = isinstance(given, tuple)
    check(
        len(given) == 2 if pair else hasattr(given, "shape") or isinstance(given, int | float),
        f"expected a gate, a (gate, value) pair or a function, got {type(given).__name__}"
        f"{f' of {len(given)}' if pair else ''}; make gates by jnp.ones",
        where,
    )
    gate, value = given if pair else (given, None)
    check(
        jnp.issubdtype(site.dtype, jnp.inexact),
        f"expected a function, since a gate can't weigh nodes of dtype {site.dtype}",
        where,
    )
    gate = _gate(gate, site, where)
    if value is None:
        return Patch(gate=gate, steps=steps)
    value, value_steps = _value(value, site, where)
    return Patch(gate=gate, value=value, steps=steps, value_steps=value_steps)


def _gate(gate: Any, site: Site, where: str) -> jax.Array:
    """The gate, in the dtype to compute in: that of the nodes, or a wider one of its own."""
    gate, size = jnp.asarray(gate), site.size
    shapes = {(size,), (*site.steps, size)} | ({()} if site.axis is None else set())
    check(
        gate.shape in shapes,
        f"expected a gate of shape {' or '.join(map(str, sorted(shapes, key=len)))}, "
        f"got {gate.shape}",
        where,
    )
    check(
        not jnp.iscomplexobj(gate) or jnp.issubdtype(site.dtype, jnp.complexfloating),
        f"expected a real gate for nodes of dtype {site.dtype}, got {gate.dtype}",
        where,
    )
    dtype = site.dtype
    if jnp.issubdtype(gate.dtype, jnp.inexact) and not _holds(dtype, gate):
        wide = gate.dtype.itemsize > jnp.dtype(dtype).itemsize
        dtype = gate.dtype if wide else jnp.float32  # float16 and bfloat16 don't hold each other
    return gate.astype(dtype).reshape(gate.shape or (1,))


def _value(value: Any, site: Site, where: str) -> tuple[jax.Array, int]:
    """The value, its step axes spread out, and how many those are."""
    value = jnp.asarray(value)
    check(
        _holds(site.dtype, value),
        f"expected a value of dtype {site.dtype}, got {value.dtype}; "
        f"cast it: value.astype({str(site.dtype)!r})",
        where,
    )
    value = value.astype(site.dtype)
    try:
        fits = jnp.broadcast_shapes(value.shape, site.shape) == site.shape
    except ValueError:
        fits = False
    check(
        fits,
        f"expected a value that broadcasts to {site.shape}, which is what record returns, "
        f"got shape {value.shape}",
        where,
    )
    own = len(site.shape) - len(site.steps)
    steps = max(0, value.ndim - own)
    if steps:
        value = jnp.broadcast_to(value, (*site.steps[-steps:], *value.shape[steps:]))
    return value, steps


def _holds(dtype: Any, x: jax.Array) -> bool:
    """Whether the inexact `dtype` has every number of the dtype of `x`; Python's count as such."""
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        return False
    if jax.typeof(x).weak_type or not jnp.issubdtype(x.dtype, jnp.inexact):
        return jax.typeof(x).weak_type
    large, small = jnp.finfo(dtype), jnp.finfo(x.dtype)
    return large.nmant >= small.nmant and large.maxexp >= small.maxexp


def steps_of(patches: Patches) -> dict[str, dict[str, jax.Array]]:
    """The arrays with an axis for the scan that is entered next, for it to slice."""
    return {
        name: {
            field: array
            for field, array, steps in (
                ("gate", patch.gate, 0 if patch.gate is None else patch.gate.ndim - 1),
                ("value", patch.value, patch.value_steps),
            )
            if array is not None and steps == patch.steps
        }
        for name, patch in patches.items()
    }


def at_step(patches: Patches, slices: Mapping[str, Mapping[str, jax.Array]]) -> Patches:
    """The patches for one step of a scan, whose slices of `steps_of(patches)` these are."""
    return {
        name: dataclasses.replace(
            patch,
            **slices[name],
            steps=patch.steps - 1,
            value_steps=patch.value_steps - ("value" in slices[name]),
        )
        for name, patch in patches.items()
    }
