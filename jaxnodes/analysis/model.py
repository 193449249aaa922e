"""A function of samples that is run tile by tile, so that memory stays bounded.

It is split in two, as `jax.jit` wants it: a `Model`, which is hashable and says all
that isn't arrays, and the `Arrays`. A measure is a compiled function of the one and the
other, and sees a function of all samples at once (`Model.outputs`), whatever their number.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.compiling import has_small_products
from jaxnodes.interpreter.interventions import Patch, Patches
from jaxnodes.interpreter.program import Program
from jaxnodes.interpreter.sites import Site

ByName = dict[str, jax.Array]


class Nodes(NamedTuple):
    """The nodes of a site, and what each axis of its value stands for.

    Attributes:
      site: where they are.
      layers: for each scan around it, whether its steps hold different nodes.
      sample_axis: the axis of `site.shape` that is the samples; `None` where that
        isn't known.
    """

    site: Site
    layers: tuple[bool, ...]
    sample_axis: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one number for each node: (size,), or (n, size) in a stack of n layers."""
        return (*(n for n, layer in self._steps if layer), self.site.size)

    @property
    def _steps(self) -> list[tuple[int, bool]]:
        return list(zip(self.site.steps, self.layers, strict=True))

    def arranged(self, value: jax.Array) -> jax.Array:
        """A recorded value as (samples, positions, *shape): positions are space and time."""
        axis = self.site.axis
        if axis is None:
            value, axis = value[..., None], value.ndim
        kept = [*(i for i, layer in enumerate(self.layers) if layer), axis]
        others = [i for i in range(value.ndim) if i not in (*kept, self.sample_axis)]
        moved = value.transpose(self.sample_axis, *others, *kept)
        return moved.reshape(moved.shape[0], math.prod(value.shape[i] for i in others), *self.shape)

    def counted(self, value: jax.Array, fill: jax.Array) -> jax.Array:
        """A recorded value with zeros for the samples that only fill the tile."""
        shape = [1] * value.ndim
        shape[self._known_axis] = -1
        return jnp.where(fill.reshape(shape), value, jnp.zeros_like(value))

    @property
    def _known_axis(self) -> int:
        assert self.sample_axis is not None
        return self.sample_axis

    def gate(self, array: jax.Array, value: jax.Array | None = None) -> Patch:
        """The patch that gates the nodes by `array`, and puts in `value`, both of `shape`."""
        steps = self.site.steps
        spread = [n if layer else 1 for n, layer in self._steps]
        gate = array.astype(self.site.dtype)
        if any(self.layers):
            gate = jnp.broadcast_to(gate.reshape(*spread, -1), (*steps, self.site.size))
        if value is None:
            return Patch(gate=gate, steps=len(steps))
        own = [1] * (len(self.site.shape) - len(steps))
        if self.site.axis is not None:
            own[self.site.axis - len(steps)] = self.site.size
        value = value.astype(self.site.dtype).reshape(*spread, *own)
        value = jnp.broadcast_to(value, (*steps, *own))
        return Patch(gate=gate, value=value, steps=len(steps), value_steps=len(steps))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shift(Patch):
    """Adds `value` to a node: the derivative by it, at zero, is that by the node."""

    def __call__(self, h: jax.Array, axis: int | None, name: str) -> jax.Array:
        return h if self.value is None else h + self.value


class Arrays(NamedTuple):
    """The arrays of a function and its data.

    Attributes:
      consts: what the function closes over.
      fixed: the leaves of its variables.
      leaves: those of the data, each (N, ...).
    """

    consts: Sequence[Any]
    fixed: Sequence[Any]
    leaves: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """A function traced for a tile of samples: all of it that isn't arrays.

    Attributes:
      program: its equations.
      evaluate: `program.evaluate`, compiled.
      out_tree: how its outputs are put together.
      inputs: how many of its last arguments are data.
      n: how many samples there are.
      tile: how many of them go through at once.
      nodes: those that are measured.
    """

    program: Program
    evaluate: Callable
    out_tree: Any
    inputs: int
    n: int
    tile: int
    nodes: tuple[Nodes, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(nodes.site.name for nodes in self.nodes)

    @property
    def small_products(self) -> bool:
        """What its programs are compiled for: see `compiler_options`."""
        return has_small_products(self.program.jaxpr, self.inputs)

    @property
    def rows(self) -> np.ndarray:
        """(tiles, tile): the samples of each tile; the last sample fills the last tile."""
        return np.minimum(self._places, self.n - 1)

    @property
    def fill(self) -> np.ndarray:
        """(tiles, tile): which of them count."""
        return self._places < self.n

    @property
    def _places(self) -> np.ndarray:
        tiles = -(-self.n // self.tile)
        return np.arange(tiles * self.tile, dtype=np.int32).reshape(tiles, self.tile)

    def ordered(self, found: ByName) -> ByName:
        """What a compiled measure returned, in program order; JAX sorts dicts."""
        return {name: found[name] for name in self.names}

    def ones(self) -> ByName:
        """An open gate for each node."""
        return {
            nodes.site.name: jnp.ones(nodes.shape, real(nodes.site.dtype)) for nodes in self.nodes
        }

    def gates(self, gates: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> Patches:
        """The patches that gate nodes, by name, and put in values where they are closed."""
        values = values or {}
        return {
            nodes.site.name: nodes.gate(gates[nodes.site.name], values.get(nodes.site.name))
            for nodes in self.nodes
            if nodes.site.name in gates
        }

    def run(
        self, arrays: Arrays, tile: Sequence[Any], patches: Patches | None = None, record=()
    ) -> tuple[list[Any], ByName]:
        """Outputs, flat, and recorded values for one tile of samples."""
        return self.evaluate(arrays.consts, [*arrays.fixed, *tile], patches, record=tuple(record))

    def outputs(self, arrays: Arrays, patches: Patches | None = None) -> Any:
        """What the function returns for all samples, under patches.

        Differentiated backward, a tile is computed again rather than kept.
        """

        def of_tile(rows):
            return self.run(arrays, take(arrays.leaves, rows), patches)[0]

        outs = jax.lax.map(jax.checkpoint(of_tile), self.rows)
        return self.out_tree.unflatten([o.reshape(-1, *o.shape[2:])[: self.n] for o in outs])

    def tile_gradients(self, arrays: Arrays, tile: Sequence[Any], pull: Sequence[Any]):
        """Recorded values for a tile, and the derivatives by them, pulled back from outputs.

        Args:
          arrays: the variables' are used.
          tile: samples.
          pull: for each output, the derivative by it.
        """
        shifts = {
            nodes.site.name: jnp.zeros(nodes.site.shape, nodes.site.dtype) for nodes in self.nodes
        }

        def run(shifts):
            patches: Patches = {
                nodes.site.name: Shift(
                    value=shifts[nodes.site.name],
                    steps=len(nodes.site.steps),
                    value_steps=len(nodes.site.steps),
                )
                for nodes in self.nodes
            }
            outs, records = self.run(arrays, tile, patches, self.names)
            return _inexact(outs), records

        _, backward, records = jax.vjp(run, shifts, has_aux=True)
        return records, backward(list(pull))[0]

    def pull(self, loss: Callable, arrays: Arrays, y: Any) -> list[jax.Array]:
        """The derivative of the loss by every output, (tiles, tile, ...), zero where a sample
        only fills its tile."""
        leaves = jax.tree.leaves(self.outputs(arrays))

        def of(inexact):
            it = iter(inexact)
            whole = [next(it) if _is_inexact(leaf) else leaf for leaf in leaves]
            return loss(self.out_tree.unflatten(whole), y)

        tiles = len(self.rows)
        more = tiles * self.tile - self.n
        return [
            jnp.pad(g, [(0, more), *[(0, 0)] * (g.ndim - 1)]).reshape(tiles, -1, *g.shape[1:])
            for g in jax.grad(of)(_inexact(leaves))
        ]

    def chunk(self, count: int, memory: int, times: int = 2) -> int:
        """How many of `count` variants of the whole run fit in so many bytes at once, about."""
        outs = sum(map(_bytes, self.program.jaxpr.outvars)) / self.tile
        wide = max(
            (_bytes(var) for eqn in self.program.jaxpr.eqns for var in eqn.outvars), default=1
        )
        return max(1, min(count, int(memory / (times * (self.n * outs + 2 * wide)))))


def take(leaves: Sequence[Any], rows: Any) -> list[jax.Array]:
    """The samples `rows` of each array."""
    return [jnp.take(leaf, rows, axis=0, mode="clip") for leaf in leaves]


def real(dtype: Any) -> Any:
    """The dtype to compute a measure in: float32, or float64 where the nodes are."""
    return np.promote_types(dtype, np.float32) if jnp.issubdtype(dtype, jnp.floating) else "float32"


def _is_inexact(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _inexact(leaves: Iterable[Any]) -> list[Any]:
    return [leaf for leaf in leaves if _is_inexact(leaf)]


def _bytes(var: Any) -> int:
    aval = getattr(var, "aval", None)
    if aval is None or not hasattr(aval, "shape"):
        return 0
    return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 4)
