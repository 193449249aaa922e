"""The metric of a function without some of its nodes, for many choices of nodes.

What `ablate_pairs`, `removal_curve` and `shapley` share. Nodes are numbered through
all sites that are measured, in program order, and a choice is a row of booleans: which
nodes stay.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.model import Arrays, ByName, Model
from jaxnodes.analysis.samples import compiled, prepare, tracked, whole_outputs
from jaxnodes.analysis.size_measures import average
from jaxnodes.errors import JaxNodesError, check

#: A node: the name of its site, and its index there; in a stack of layers (layer, index).
Node = tuple[str, int | tuple[int, ...]]


class Removal:
    """A function, its data and a metric, ready to be measured without some nodes.

    Args:
      f, variables, x, y, metric: as for `ablate`.
      nodes, exact, auto, batch_size: as for `prepare`.
      value: what takes the place of a removed node's value: `"zero"`, `"mean"`, or a
        dict by name of arrays that broadcast to the nodes' shape.
      memory: bytes that measuring may take at a time, about.
      where: the caller, for errors.
    """

    def __init__(
        self,
        f: Callable,
        variables: Any,
        x: Any,
        y: Any,
        *,
        metric: Callable,
        nodes: Collection[str] | None,
        value: Any,
        batch_size: int,
        memory: int,
        auto: bool,
        where: str,
        exact: bool = False,
    ):
        check(callable(metric), f"expected metric(outputs, y), got {type(metric).__name__}", where)
        fine = isinstance(memory, int) and memory >= 2**20
        check(fine, f"expected memory of at least 2**20 bytes, got {memory!r}", where)
        self.model, self.arrays = prepare(
            f,
            variables,
            x,
            nodes=nodes,
            auto=auto,
            batch_size=batch_size,
            where=where,
            exact=exact,
            each=isinstance(value, str) and value == "mean",
            gated=True,
        )
        self.y, self.metric, self.where = y, metric, where
        self.values = _values(self.model, self.arrays, value, where)
        #: The metric with all nodes, where bad labels are errors.
        self.whole = np.asarray(metric(whole_outputs(self.model, self.arrays), y))
        self._chunk = self.model.chunk(64, memory)

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return sum(math.prod(nodes.shape) for nodes in self.model.nodes)

    def all_nodes(self) -> Iterator[Node]:
        """Every node, in the order of their numbers."""
        for nodes in self.model.nodes:
            for index in np.ndindex(*nodes.shape):
                yield nodes.site.name, index if nodes.shape[1:] else index[-1]

    def by_name(self, numbers: np.ndarray) -> ByName:
        """One number for each node, (size, ...), as arrays by name."""
        found, start = {}, 0
        for nodes in self.model.nodes:
            end = start + math.prod(nodes.shape)
            part = numbers[start:end].reshape(*nodes.shape, *numbers.shape[1:])
            found[nodes.site.name], start = jnp.asarray(part), end
        return found

    def measure(
        self, count: int, kept: Callable[[np.ndarray], np.ndarray], progress: bool = False
    ) -> np.ndarray:
        """The metric of `count` choices, (count, *metric's shape).

        Args:
          count: how many choices.
          kept: `kept(choices)` gives the nodes that stay in each of these, (len, size).
          progress: whether to show how far it has come.
        """
        chunk = min(self._chunk, count)
        measure = compiled(_measure, self.model, self.metric)
        parts: list[Any] = []
        for start in tracked(range(0, count, chunk), progress, self.where):
            # The last ones are filled up, so that every part has one shape.
            choices = np.minimum(np.arange(start, start + chunk), count - 1)
            found = measure(self.arrays, self.y, kept(choices), self.values)
            parts.append(np.asarray(found)[: count - start])
        return np.concatenate(parts)


def _measure(model: Model, metric: Callable, arrays: Arrays, y: Any, kept: jax.Array, values):
    def of_choice(kept):
        gates, start = {}, 0
        for nodes in model.nodes:
            end = start + math.prod(nodes.shape)
            gates[nodes.site.name] = kept[start:end].reshape(nodes.shape)
            start = end
        return metric(model.outputs(arrays, model.gates(gates, values)), y)

    return jax.vmap(of_choice)(kept)


def _values(model: Model, arrays: Arrays, value: Any, where: str) -> dict[str, jax.Array]:
    """What takes the place of each site's nodes; nothing means zeros."""
    if isinstance(value, str) and value == "zero":
        return {}
    if isinstance(value, str) and value == "mean":
        return compiled(average, model, _itself)(arrays)
    if not isinstance(value, Mapping):
        raise JaxNodesError(
            f"expected value 'zero', 'mean' or a dict of arrays by name, got {value!r}", where
        )
    given = {}
    for nodes in model.nodes:
        name = nodes.site.name
        check(name in value, f"expected a value for each site, got none for {name!r}", where)
        array = jnp.asarray(value[name])
        try:
            fits = jnp.broadcast_shapes(array.shape, nodes.shape) == nodes.shape
        except ValueError:
            fits = False
        check(
            fits and not jnp.iscomplexobj(array),
            f"expected a real value that broadcasts to {nodes.shape} for {name!r}, got "
            f"{array.dtype} {array.shape}",
            where,
        )
        given[name] = jnp.broadcast_to(array, nodes.shape)
    return given


def _itself(h: jax.Array) -> jax.Array:
    return h
