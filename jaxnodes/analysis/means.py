"""The mean of every node over all samples, space and time: what `"mean"` puts in its place."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.sites_of import layer_steps
from jaxnodes.interpreter.tracing import trace


def site_means(
    f: Callable,
    variables: Any,
    x: Any,
    names: Collection[str],
    *,
    auto: bool = False,
    batch_size: int = 256,
    where: str,
) -> dict[str, np.ndarray]:
    """Every node's mean, in float64, shaped to broadcast against what `record` returns.

    Args:
      f, variables, x: a function that names nodes, and its arguments; leaves of x are (N, ...).
      names: of sites.
      auto: whether to find nodes in a function that names none.
      batch_size: how many samples go through at once. The last ones are traced apart: what
        fills a batch can't be left out of a mean.
      where: the measure, for errors.
    """
    leaves = jax.tree.leaves(x)
    n, means = len(leaves[0]), dict.fromkeys(names, np.zeros(()))
    for start in range(0, n, batch_size):
        rows = slice(start, min(start + batch_size, n))
        tile = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), x)
        traced = trace(f, (variables, tile), {}, auto=auto, where=where)
        fixed = len(traced.consts) + len(traced.args) - len(leaves)
        _, records = traced.apply(record=tuple(names))
        for name in names:
            site, layers = traced.program.sites[name], layer_steps(traced.program, name, fixed)
            kept = {site.axis, *(i for i, layer in enumerate(layers) if layer)}
            axes = tuple(set(range(len(site.shape))) - kept)
            mean = np.asarray(records[name], np.float64).mean(axis=axes, keepdims=True)
            means[name] = means[name] + mean * ((rows.stop - start) / n)
    return means
