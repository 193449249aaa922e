"""`summary`: what a function is made of, layer by layer, from shapes alone."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnodes.analysis.flops import count_flops
from jaxnodes.analysis.layer_rows import NO_ROW, Rows
from jaxnodes.analysis.sites_of import node_shape
from jaxnodes.interpreter.sites import join
from jaxnodes.interpreter.tracing import Traced, trace
from jaxnodes.layers.arrays import shapes_of
from jaxnodes.layers.base import Elementwise, Functions, Layer
from jaxnodes.layers.sequence_layers import Bidirectional


class LayerSummary(NamedTuple):
    """A line of a summary.

    Attributes:
      name: of the layer, its scope; `input` first of all, and `""` for what has no scope.
      kind: of layer in a network of jaxnodes, else of operation; `""` if it has none.
      output_shape: of its output, after the steps of the scans around it.
      nodes: how many; of a convolution its channels, of attention its heads, of a layer in
        a scan over time each once, of a stack of layers all of them.
      parameters: how many numbers.
      flops: of its matrix products and convolutions, a multiply-add being two, for all of `x`.
      memory: of its output, in bytes.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    nodes: int
    parameters: int
    flops: int
    memory: int


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """What `summary` returns: it prints as a table.

    Attributes:
      rows: a `LayerSummary` for the input and for every layer, in program order.
    """

    rows: tuple[LayerSummary, ...]

    @property
    def total_nodes(self) -> int:
        """All nodes, the inputs too."""
        return sum(row.nodes for row in self.rows)

    @property
    def total_parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Of a pass with all of `x`."""
        return sum(row.flops for row in self.rows)

    @property
    def memory(self) -> int:
        """Bytes of all rows' values together, as a pass that keeps them holds."""
        return sum(row.memory for row in self.rows)

    @property
    def nodes(self) -> dict[str, int]:
        """Nodes by layer, of those that have some, the inputs first."""
        return {row.name: row.nodes for row in self.rows if row.nodes}

    @property
    def parameters(self) -> dict[str, int]:
        """Parameters by layer, of those that have some."""
        return {row.name: row.parameters for row in self.rows if row.parameters}

    def __str__(self) -> str:
        return _table(self)

    __repr__ = __str__


def summary(f: Callable | Layer, variables: Any, x: Any, *, auto: bool = False) -> Summary:
    """Name, kind, output shape, nodes, parameters, FLOPs and memory of every layer.

    Layers are the scopes of `f` (`jax.named_scope`, as the layers of jaxnodes, flax and haiku
    open them), and the nodes: of a scope, or where there is none, the node has what flows
    into it first. A scope around others is a line only if it has something of its own.

    Args:
      f: any function `f(variables, x)`; or a network, for its `predict`.
      variables: its first argument, or shapes. Parameters are, of a network's, the first of
        the pair; of a dict with an entry `params`, that entry; else all floats.
      x: its data, or `jax.ShapeDtypeStruct`s. FLOPs and memory are for as many samples as
        it has; nothing is computed.
      auto: whether to find nodes in a function that names none; see `record`.

    Returns:
      A `Summary`.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.fully_connected([784, 256, 128, 10])
    >>> x = jax.ShapeDtypeStruct((1, 784), jnp.float32)
    >>> variables = jax.eval_shape(net.init, jax.random.key(0), x)
    >>> summary(net.predict, variables, x)
    name    kind   output    nodes  parameters    FLOPs   memory
    input          (1, 784)    784                       3.1 KiB
    dense1  Dense  (1, 256)    256     200,960  401,408  1.0 KiB
    dense2  Dense  (1, 128)    128      32,896   65,536    512 B
    dense3  Dense  (1, 10)      10       1,290    2,560     40 B
    total                    1,178     235,146  469,504  4.6 KiB
    """
    net = f if isinstance(f, Layer) else getattr(f, "__self__", None)
    net = net if isinstance(net, Layer) else None
    function = f.predict if isinstance(f, Layer) else f
    traced = trace(function, (variables, x), {}, auto=auto, where="summary")
    program, marks = traced.program, _parameters(traced, net, variables, x)
    fixed = len(traced.consts) + len(traced.args) - len(jax.tree.leaves(x))
    found = Rows(program, fixed)
    flops = count_flops(program.jaxpr, found.row_of)
    nodes = {name: math.prod(node_shape(program, name, fixed)) for name in program.sites}
    parameters: dict[str, int] = {}
    inputs = found.inputs[len(traced.consts) :]
    for leaf, is_parameter, name in zip(traced.args, marks, inputs, strict=True):
        if is_parameter:
            parameters[name] = parameters.get(name, 0) + math.prod(jnp.shape(leaf))
    kinds = {} if net is None else dict(_kinds(net, ""))
    rows = [
        LayerSummary(
            name,
            kinds.get(name, "") if kinds else row.kind,
            row.shape,
            nodes.get(name, 0),
            parameters.get(name, 0),
            flops.get(name, 0),
            row.memory,
        )
        for name in dict.fromkeys([*found.rows, *nodes, *parameters])
        for row in [found.rows.get(name, NO_ROW)]
    ]
    around = {
        "",
        *(row.name[: slash.start()] for row in rows for slash in re.finditer("/", row.name)),
    }
    shown = (r for r in rows if r.name not in around or r.nodes or r.parameters or r.flops)
    return Summary((_input(x), *shown))


def _parameters(traced: Traced, net: Layer | None, variables: Any, x: Any) -> list[bool]:
    """Of each array among the arguments, whether it is a parameter."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    arrays = [(path, leaf) for path, leaf in leaves if _is_number(leaf)]
    own = len(traced.args) - len(arrays) - len(jax.tree.leaves(x))
    if net is not None:
        marks = [path[0].idx == 0 for path, _ in arrays]
    elif isinstance(variables, Mapping) and "params" in variables:
        marks = [path[0].key == "params" for path, _ in arrays]
    else:
        marks = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for _, leaf in arrays]
    return [True] * own + marks + [False] * len(jax.tree.leaves(x))


def _is_number(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") or type(leaf) in (int, float, complex)


def _kinds(layer: Any, path: str) -> Iterator[tuple[str, str]]:
    """The kind of every layer in a network, by its path."""
    lifted = isinstance(layer, Elementwise | Functions)
    yield path, layer.name if lifted else type(layer).__name__
    for name, child in getattr(layer, "layers", ()):
        yield from _kinds(child, join(path, name))
    inner = getattr(layer, "layer", None)
    if isinstance(layer, Bidirectional):
        for way in ("forward", "backward"):
            yield from _kinds(inner, join(path, way))
    elif inner is not None:  # called as if it stood here
        yield from ((name, kind) for name, kind in _kinds(inner, path) if name != path)


def _input(x: Any) -> LayerSummary:
    """The line of the data: the numbers of a sample are nodes, a mask's are not."""
    leaves = jax.tree.leaves(shapes_of(x))
    nodes = sum(math.prod(leaf.shape[1:]) for leaf in leaves if leaf.dtype != bool)
    memory = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    return LayerSummary("input", "", leaves[0].shape, nodes, 0, 0, memory)


_HEADERS = ("name", "kind", "output", "nodes", "parameters", "FLOPs", "memory")


def _table(made: Summary) -> str:
    lines: list[tuple[str, ...]] = [_HEADERS]
    for row in made.rows:
        numbers = [f"{n:,}" if n else "" for n in (row.nodes, row.parameters, row.flops)]
        shape = str(tuple(row.output_shape))
        lines.append((row.name or "(no scope)", row.kind, shape, *numbers, _size(row.memory)))
    totals = (made.total_nodes, made.total_parameters, made.flops)
    lines.append(("total", "", "", *(f"{n:,}" for n in totals), _size(made.memory)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i < 3 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _size(count: int) -> str:
    power = min((count.bit_length() - 1) // 10, 4) if count else 0
    return f"{count / 1024**power:.1f} {'KMGT'[power - 1]}iB" if power else f"{count} B"
