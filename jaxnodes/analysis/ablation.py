"""`ablate`: what each node is worth, exactly.

For every node the whole data set is measured without it. The layers before the node
are computed once; what follows from its change is computed on the difference
(`deltas`), many nodes at a time, a tile of samples at a time, so that it stays in cache.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.changes import Changed, Full, Thin, put, take
from jaxnodes.analysis.deltas import can_enter, propagate, run_base
from jaxnodes.analysis.inference import check_inference
from jaxnodes.analysis.sites_of import layer_steps, node_shape
from jaxnodes.analysis.zeroed import bias_value
from jaxnodes.errors import JaxNodesError, check, check_key
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.interventions import parse
from jaxnodes.interpreter.program import Place, Program
from jaxnodes.interpreter.sites import reach
from jaxnodes.interpreter.tracing import Traced, trace

_CACHE_BYTES = 2**20  # what a chunk of variants should take, so that it stays near the cores
_TILE = 256  # samples that go through at once


def ablate(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any,
    *,
    metric: Callable,
    value: Any = "zero",
    key: jax.Array | None = None,
    nodes: Collection[str] | None = None,
    auto: bool = False,
    memory: int = 2**28,
    progress: bool = False,
) -> dict[str, jax.Array]:
    """The worth of every node: the metric of the whole less the metric without the node.

    Args:
      f: any function `f(variables, x)` that names nodes (`net.predict`, say), at
        inference: what it makes of a sample must not depend on the other samples.
      variables: its first argument.
      x: its data (N, ...), or a pytree of such arrays.
      y: what the metric compares with; arrays (N, ...).
      metric: `metric(outputs, y)`, traceable; it sees all N samples at once. Of any
        shape: a metric of one value a class gives one importance a class.
      value: what takes the place of a node's value.
        `"zero"`: zero.
        `"mean"`: the node's mean over samples, space and steps.
        `"resample"`: its whole value in another sample, drawn by `key`.
        `"bias"`: its value when all weighted sums that reach it are zero, so
        `activation(b)`: what zeroing its incoming weights does.
        Or a dict of arrays by name, each broadcastable to what `record` returns.
      key: a typed PRNG key, for `"resample"`.
      nodes: names of the nodes to remove; `None` is all.
      auto: whether to find nodes in a function that names none; see `record`.
      memory: bytes that the work may take at a time, about.
      progress: whether to show which node is at work.

    Returns:
      By name, an array (size, *metric's shape): for a stack of layers in a scan
      (`Repeat`) it is (n, size, ...), since each layer's nodes are nodes of their own.
      A node in a scan over time is removed at every step.

    Raises:
      JaxNodesError: no nodes; wrong names; a function that draws random numbers, or
        whose answer for a sample changes with the rest of the batch; `"bias"` where
        the way to a node mixes nodes.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(2), jn.Dense(1))
    >>> params = {"dense1": {"w": jnp.eye(2), "b": jnp.zeros(2)},
    ...           "dense2": {"w": jnp.array([[1.0], [0.0]]), "b": jnp.zeros(1)}}
    >>> x = jnp.array([[1.0, 5.0], [2.0, 5.0]])
    >>> drops = jn.analysis.ablate(net.predict, (params, {}), x, x[:, :1], metric=jn.mse)
    >>> drops["dense1"]  # without node 0 the error is (1 + 4) / 2; node 1 is of no use
    Array([-2.5,  0. ], dtype=float32)
    """
    check(
        isinstance(memory, int) and memory >= 2**20,
        f"expected memory of at least 2**20 bytes, got {memory!r}",
        "ablate",
    )
    samples = _Samples(f, variables, x, auto)
    program = samples.traced.program
    asked = reach(program.sites if nodes is None else nodes, program.sites)
    check(
        asked,
        "expected a function that names nodes, got none; name some by jn.node, or find them by "
        "auto=True",
        "ablate",
    )
    program.check(asked, ())
    check_inference(samples.traced, len(samples.leaves), samples.tile)
    whole = metric(samples.outputs(), y)
    given = _replacements(samples, list(asked), value, key)
    drops = {}
    for name in _tracked(list(asked), progress):
        without = _without(samples, name, y, metric, value, given.get(name), key, memory)
        drops[name] = whole - without
    return drops


def _tracked(names: list[str], shown: bool) -> Iterable[str]:
    if not shown:
        return names
    from rich.progress import track

    return track(names, description="ablating")


class _Samples:
    """A function with its variables and its data, traced for one tile of samples."""

    def __init__(self, f: Callable, variables: Any, x: Any, auto: bool):
        self.leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(x)]
        lengths = {leaf.shape[:1] for leaf in self.leaves}
        check(
            len(lengths) == 1 and () not in lengths,
            f"expected data arrays of one length on the first axis, got {sorted(lengths)}",
            "analysis",
        )
        ((self.n,),) = lengths
        check(self.n > 0, "expected at least one sample, got none", "analysis")
        self.tile = min(self.n, _TILE)
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[: self.tile], x)
        self.traced: Traced = trace(f, (variables, first), {}, auto=auto, where="ablate")
        self.fixed = self.traced.args[: -len(self.leaves)]
        self._retrace = lambda x: trace(f, (variables, x), {}, auto=auto, where="ablate")
        self._tree = jax.tree.structure(x)

    def trace_for(self, leaves: list) -> Traced:
        """The function traced for another number of samples."""
        return self._retrace(self._tree.unflatten(leaves))

    def layers(self, name: str) -> tuple[bool, ...]:
        """For each scan around a site, whether its steps are layers."""
        return layer_steps(self.traced.program, name, self.constant)

    @property
    def constant(self) -> int:
        """How many of the program's constants and inputs are not data."""
        return len(self.traced.consts) + len(self.fixed)

    def tiles(self):
        """The data, tile by tile, and how many samples of each count."""
        for start in range(0, self.n, self.tile):
            rows = np.minimum(np.arange(start, start + self.tile), self.n - 1)
            yield [leaf[rows] for leaf in self.leaves], min(self.tile, self.n - start)

    def outputs(self) -> Any:
        """What the function returns for all samples."""
        parts = [
            [out[:count] for out in self.traced.run(self.traced.consts, [*self.fixed, *tile])[0]]
            for tile, count in self.tiles()
        ]
        whole = [jnp.concatenate(outs) for outs in zip(*parts, strict=True)]
        return self.traced.out_tree.unflatten(whole)


def _replacements(samples: _Samples, names: list[str], value: Any, key: Any) -> dict[str, Any]:
    """What takes the place of each site's values; nothing where that is found on the way."""
    sites = samples.traced.program.sites
    if isinstance(value, str):
        check(
            value in ("zero", "mean", "resample", "bias"),
            f"expected value 'zero', 'mean', 'resample', 'bias' or a dict of arrays, got {value!r}",
            "ablate",
        )
        if value == "resample":
            check(
                key is not None and samples.n > 1,
                "expected key= and more than one sample to draw other samples from; "
                "pass key=jax.random.key(seed)",
                "ablate",
            )
            check_key(key, "ablate")
        return _means(samples, names) if value == "mean" else {}
    check(
        isinstance(value, Mapping),
        f"expected value 'zero', 'mean', 'resample', 'bias' or a dict of arrays, got {value!r}",
        "ablate",
    )
    missing = [name for name in names if name not in value]
    check(not missing, f"expected a value for each site, got none for {missing}", "ablate")
    reach(value, sites)
    pairs = {name: (jnp.zeros(sites[name].size, bool), value[name]) for name in names}
    return {name: patch.value for name, patch in parse(pairs, sites).items()}


def _means(samples: _Samples, names: list[str]) -> dict[str, jax.Array]:
    """Every node's mean over all samples, space and time, shaped to broadcast."""
    traced, totals = samples.traced, dict.fromkeys(names, 0.0)
    for tile, count in samples.tiles():
        # The last tile again without what fills it: a mean can't leave it out.
        whole = count == samples.tile
        run = traced if whole else samples.trace_for([leaf[:count] for leaf in tile])
        args = [*samples.fixed, *(tile if whole else [leaf[:count] for leaf in tile])]
        _, records = run.run(run.consts, args, record=tuple(names))
        for name in names:
            site, layers = traced.program.sites[name], samples.layers(name)
            kept = {i for i, layer in enumerate(layers) if layer} | {site.axis}
            axes = tuple(i for i in range(len(site.shape)) if i not in kept)
            total = np.asarray(records[name], np.float64).mean(axis=axes, keepdims=True)
            totals[name] = totals[name] + total * (count / samples.n)
    return {
        name: jnp.asarray(total, traced.program.sites[name].dtype) for name, total in totals.items()
    }


def _without(samples, name, y, metric, value, replacement, key, memory) -> jax.Array:
    """The metric without each node of a site."""
    traced, layers = samples.traced, samples.layers(name)
    shape = node_shape(traced.program, name, samples.constant)
    count, plan = math.prod(shape), _plan(samples, name, memory)
    function = _compiled(
        traced.program,
        name,
        layers,
        metric,
        traced.out_tree,
        samples.tile,
        plan.chunk,
        samples.constant,
        value if value in ("resample", "bias") else "given",
    )
    order = _others(key, samples.n) if value == "resample" else None
    parts = []
    for start in range(0, count, plan.at_once):
        # The last ones are filled up, so that every part has one shape.
        places = np.arange(start, start + plan.at_once, dtype=np.int32)
        variants = jnp.asarray(np.minimum(places, np.int32(count - 1)))
        arrays = (traced.consts, samples.fixed, samples.leaves, y, variants, replacement, order)
        parts.append(function(*arrays)[: count - start])
    without = jnp.concatenate(parts)
    return without.reshape(*shape, *without.shape[1:])


class _Plan(NamedTuple):
    at_once: int
    chunk: int


def _plan(samples: _Samples, name: str, memory: int) -> _Plan:
    """How many variants to measure at once, and how many of them to compute at once."""
    program = samples.traced.program
    count = math.prod(node_shape(program, name, samples.constant))
    out = sum(_bytes(var) for var in program.jaxpr.outvars) / samples.tile
    (place, *_) = (p for ps in program.places.values() for p in ps if p.site == name)
    after = program.jaxpr.eqns[place.path[0] :]
    wide = max(_bytes(var) for eqn in after for var in eqn.outvars)
    at_once = max(1, min(count, int(memory / (4 * samples.n * out + 1))))
    chunk = max(1, min(at_once, _CACHE_BYTES // wide, memory // (4 * wide)))
    return _Plan(-(-at_once // chunk) * chunk, chunk)


def _bytes(var: Any) -> int:
    return var.aval.size * np.dtype(var.aval.dtype).itemsize if hasattr(var, "aval") else 0


def _others(key: jax.Array, n: int) -> jax.Array:
    """For each sample another one: the next in a random circle of all."""
    circle = jax.random.permutation(key, n)
    return jnp.zeros(n, circle.dtype).at[circle].set(jnp.roll(circle, 1))


@functools.lru_cache(maxsize=256)
def _compiled(program, name, layers, metric, out_tree, tile, chunk, constant, kind):
    """`(consts, fixed, leaves, y, variants, replacement, order) -> metric of each variant`."""
    (place,) = (p for places in program.places.values() for p in places if p.site == name)
    jaxpr = program.jaxpr
    path, loop = _beginning(program, place)
    if kind == "bias" and loop:
        raise JaxNodesError(
            f"expected a node outside of loops, got {name!r}: what comes of a step's weighted sums "
            "goes on into the next; use value='zero' or 'mean'",
            "ablate",
        )
    begin = _patched if loop else _thin

    def of_tile(consts, fixed, variants, replacement, mine, others):
        values = [*consts, *fixed, *mine]
        base = run_base(jaxpr, values)
        if kind == "resample":
            _, records = program.evaluate(consts, [*fixed, *others], record=(name,))
            replacement = records[name]
        elif kind == "bias":
            data = [i >= constant for i in range(len(values))]
            replacement = bias_value(program, place, base, data)

        def of_chunk(variants):
            source = begin(program, place, path, layers, variants, replacement)
            made = propagate(jaxpr, base, {}, {path: source})
            return [
                _whole(m, base.read(atom), chunk)
                for m, atom in zip(made, jaxpr.outvars, strict=True)
            ]

        made = jax.lax.map(of_chunk, variants.reshape(-1, chunk))
        return [m.reshape(-1, *m.shape[2:]) for m in made]

    def measured(consts, fixed, leaves, y, variants, replacement, order):
        n = leaves[0].shape[0]
        rows = jnp.asarray(np.minimum(np.arange(-(-n // tile) * tile), n - 1).reshape(-1, tile))

        def of_rows(rows):
            mine, others = (
                None if i is None else [jnp.take(leaf, i, axis=0, mode="clip") for leaf in leaves]
                for i in (rows, None if order is None else order[rows])
            )
            return of_tile(consts, fixed, variants, replacement, mine, others)

        made = jax.lax.map(of_rows, rows)
        made = [jnp.moveaxis(m, 1, 0).reshape(m.shape[1], -1, *m.shape[3:])[:, :n] for m in made]
        return jax.vmap(lambda out: metric(out_tree.unflatten(out), y))(made)

    return jax.jit(measured)


def _whole(made: Changed | None, base: jax.Array, variants: int) -> jax.Array:
    if made is None:
        return jnp.broadcast_to(base, (variants, *base.shape))
    return put(base, made) if isinstance(made, Thin) else made.values


def _thin(program, place, path, layers, variants, replacement):
    """The change of one node's place along the axis of the nodes."""

    def source(eqn, operands, outputs):
        h = outputs[place.output]
        made: list[Changed | None] = [None] * len(outputs)
        new = jnp.zeros_like(h) if replacement is None else jnp.broadcast_to(replacement, h.shape)
        if place.axis is None:
            made[place.output] = Full(jnp.broadcast_to(new, (len(variants), *h.shape)))
        else:
            indices = variants[:, None]
            made[place.output] = Thin(place.axis, indices, take(new, indices, place.axis))
        return made

    return source


def _patched(program, place, path, layers, variants, replacement):
    """The change of all that a loop makes, with one node gated inside it."""
    site = program.sites[place.site]
    spread = [n if layer else 1 for n, layer in zip(site.steps, layers, strict=True)]

    def source(eqn, operands, outputs):
        def one(variant):
            gate = jnp.ones(math.prod(spread) * site.size, site.dtype).at[variant].set(0)
            gate = jnp.broadcast_to(gate.reshape(*spread, site.size), (*site.steps, site.size))
            given = gate if replacement is None else (gate, replacement)
            return program.patched(path, eqn, operands, parse({site.name: given}, program.sites))

        return [Full(values) for values in jax.vmap(one)(variants)]

    return source


def _beginning(program: Program, place: Place) -> tuple[tuple[int, ...], bool]:
    """The equation at which a change begins: the node's own, or the loop around it."""
    jaxpr = program.jaxpr
    for end in range(1, len(place.path), 2):
        eqn = jaxpr.eqns[place.path[end - 1]]
        if not can_enter(eqn):
            return place.path[:end], True
        jaxpr = bodies(eqn)[place.path[end]].jaxpr
    return place.path, False
