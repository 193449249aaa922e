"""`ablate`: what each node is worth, exactly.

For every node the whole data set is measured without it; `variants` says how.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.analysis.means import site_means
from jaxnodes.analysis.model import Model
from jaxnodes.analysis.plans import plan
from jaxnodes.analysis.samples import compiled, prepare, tracked
from jaxnodes.analysis.variants import Data, PerSample, Question, measure_whole, measure_without
from jaxnodes.cores import run_side_by_side, workers
from jaxnodes.errors import JaxNodesError, check, check_key
from jaxnodes.interpreter.interventions import parse
from jaxnodes.interpreter.sites import reach

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
        Or a dict of arrays by name, each broadcastable to what `record` returns for `x`.
      key: a typed PRNG key, for `"resample"`.
      nodes: names of the nodes to remove; `None` is all.
      auto: whether to find nodes in a function that names none; see `record`.
      memory: bytes that the work may take at a time, about.
      progress: whether to show which node is at work.

    Returns:
      By name, an array (size, *metric's shape): for a stack of layers in a scan
      (`Repeat`) it is (n, size, ...), since each layer's nodes are nodes of their own.
      A node in a scan over time is removed at every step. What follows from a change is
      computed on differences: values so large that float32 loses the rest beside them, or
      infinite ones, are measured as badly as they add up.

    Raises:
      JaxNodesError: no nodes; wrong names; a function that draws random numbers, or
        whose answer for a sample changes with the rest of the batch; `"mean"` and
        `"resample"` of a node in a `while` loop or in only some branches of a `cond`;
        `"bias"` inside of loops and branches, and where the way to a node mixes nodes.

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
    check(callable(metric), f"expected metric(outputs, y), got {type(metric).__name__}", "ablate")
    check(
        isinstance(memory, int) and memory >= 2**20,
        f"expected memory of at least 2**20 bytes, got {memory!r}",
        "ablate",
    )
    # Values of their own for each sample ask where the samples are in a node's value, unless
    # all samples go through at once.
    several = any(jnp.shape(leaf)[:1] > (_TILE,) for leaf in jax.tree.leaves(x))
    options = {"nodes": nodes, "auto": auto, "each": several and isinstance(value, Mapping)}
    options["recorded"] = isinstance(value, str) and value in ("mean", "resample")
    model, arrays = prepare(
        f, variables, x, batch_size=_TILE, where="ablate", gated=True, **options
    )
    kind, given, order = _in_place(f, variables, x, auto, model, value, key)
    question = Question(model, plan(model, memory, workers((arrays, y))), kind)
    # Outside of jit, where the metric sees the labels and refuses bad ones.
    question.measured(metric, question.outputs(), y)
    parts = question.plan.parts
    replacements = [given.get(part.nodes.site.name) for part in parts]
    data = jax.tree.map(jnp.asarray, Data(arrays, y, replacements, order))
    whole, kept = compiled(measure_whole, question, metric)(data)
    # All sites' calls at once: a core that is done with one site's goes on with the next one's.
    calls = [
        (compiled(measure_without, question, metric, k), (data, kept, jnp.asarray(variants)))
        for k, part in enumerate(parts)
        for variants in part.calls()
    ]
    found, drops = run_side_by_side(calls), {}
    for part in tracked(parts, progress, "ablating"):
        without = jnp.concatenate([next(found) for _ in part.calls()])
        worth = whole - without[: part.count]
        drops[part.nodes.site.name] = worth.reshape(*part.nodes.shape, *worth.shape[1:])
    return drops


def _in_place(
    f: Callable, variables: Any, x: Any, auto: bool, model: Model, value: Any, key: Any
) -> tuple[str, Mapping[str, Any], jax.Array | None]:
    """What takes the nodes' place: the kind, the values by name, and an order to resample by."""
    expected = "expected value 'zero', 'mean', 'resample', 'bias' or a dict of arrays"
    if isinstance(value, Mapping):
        return "given", _given(model, value), None
    check(
        isinstance(value, str) and value in ("zero", "mean", "resample", "bias"),
        f"{expected}, got {value!r}",
        "ablate",
    )
    if value == "resample":
        if key is None or model.n == 1:
            raise JaxNodesError(
                "expected key= and more than one sample to draw other samples from; "
                "pass key=jax.random.key(seed)",
                "ablate",
            )
        check_key(key, "ablate")
        return value, {}, _others(key, model.n)
    if value == "mean":
        sites = model.program.sites
        means = site_means(f, variables, x, model.names, auto=auto, where="ablate")
        return "given", {n: jnp.asarray(m, sites[n].dtype) for n, m in means.items()}, None
    return ("bias" if value == "bias" else "given"), {}, None


def _given(model: Model, value: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by name, checked against what `record` returns for all samples."""
    sites = model.program.sites
    missing = [name for name in model.names if name not in value]
    check(not missing, f"expected a value for each site, got none for {missing}", "ablate")
    reach(value, sites)
    found = {}
    for nodes in model.nodes:
        site, axis = nodes.site, nodes.sample_axis
        if axis is not None:
            site = site._replace(shape=(*site.shape[:axis], model.n, *site.shape[axis + 1 :]))
        pair = (jnp.zeros(site.size, bool), value[site.name])
        array: Any = parse({site.name: pair}, {site.name: site})[site.name].value
        own = array.ndim - len(site.shape) + (axis or 0)  # the axis of samples, from the end
        sliced = axis is not None and own >= 0 and array.shape[own] == model.n
        found[site.name] = PerSample(array, own) if sliced else array
    return found


def _others(key: jax.Array, n: int) -> jax.Array:
    """For each sample another one: the next in a random circle of all."""
    circle = jax.random.permutation(key, n)
    return jnp.zeros(n, circle.dtype).at[circle].set(jnp.roll(circle, 1))
