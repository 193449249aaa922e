"""`shapley`: what nodes are worth, averaged over random orders of removal."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnodes.analysis.model import ByName
from jaxnodes.analysis.removal import Removal
from jaxnodes.errors import check_count, check_key


class Shapley(NamedTuple):
    """Shapley values of nodes. M is the metric's shape.

    Attributes:
      values: by name, (size, *M), or (n, size, *M) in a stack of layers.
      standard_errors: of the values, of the same shapes.
      whole: (*M), the metric with all nodes.
      removed: (*M), the metric without any of them. The values sum to
        `whole - removed`.
    """

    values: ByName
    standard_errors: ByName
    whole: np.ndarray
    removed: np.ndarray


def shapley(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any,
    *,
    metric: Callable,
    key: jax.Array,
    permutations: int = 16,
    nodes: Collection[str] | None = None,
    value: Any = "zero",
    batch_size: int = 256,
    memory: int = 2**28,
    auto: bool = False,
    progress: bool = False,
) -> Shapley:
    """Shapley values: a node's part in the metric, averaged over orders of removal.

    In each random order nodes are removed one after another, and a node is worth what
    the metric falls by when it goes (Castro et al. 2009, doi:10.1016/j.cor.2008.04.004;
    Ghorbani and Zou 2020, arXiv:2002.09815). So the values of each order, and their
    means, sum to the metric of the whole less that without all the nodes.

    Args:
      f, variables, x, y, metric: as for `ablate`; the metric sees all samples at once.
      key: a typed PRNG key, for the orders.
      permutations: how many orders, two or more; each takes an evaluation a node.
      nodes: names of those that have a part; `None` is all.
      value: what takes the place of a removed node's value; see `ablate_pairs`.
      batch_size, memory, auto, progress: as for `ablate_pairs`.

    Returns:
      `Shapley(values, standard_errors, whole, removed)`.

    Example: two nodes of which one is enough share its worth.

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> def f(w, x):
    ...     h = jn.node(jnp.stack([x, x], axis=-1), "h")
    ...     return h.max(axis=-1)
    >>> options = {"metric": lambda p, y: p.mean(), "key": jax.random.key(0)}
    >>> found = jn.analysis.shapley(f, (), jnp.ones(3), None, permutations=100, **options)
    >>> bool(abs(found.values["h"] - 0.5).max() < 0.2), float(found.values["h"].sum())
    (True, 1.0)
    """
    where = "shapley"
    check_key(key, where)
    check_count(permutations, "permutations", where, least=2)
    removal = Removal(
        f,
        variables,
        x,
        y,
        metric=metric,
        nodes=nodes,
        value=value,
        batch_size=batch_size,
        memory=memory,
        auto=auto,
        where=where,
    )
    k = removal.size
    keys = jax.random.split(key, permutations)
    rank = np.stack([np.asarray(jax.random.permutation(key, k)) for key in keys])

    def kept(choices):
        """Choice 0 is none of the nodes; then all but 1, ..., k - 1 of each order."""
        order, gone = np.divmod(choices - 1, max(1, k - 1))
        return np.where(choices[:, None] == 0, False, rank[order] > gone[:, None])

    found = removal.measure(1 + permutations * (k - 1), kept, progress).astype(np.float64)
    none, between = found[0], found[1:].reshape(permutations, k - 1, *found.shape[1:])
    ends = [np.broadcast_to(end, (permutations, 1, *none.shape)) for end in (removal.whole, none)]
    falls = -np.diff(np.concatenate([ends[0], between, ends[1]], axis=1), axis=1)
    falls = np.take_along_axis(falls, rank.reshape(*rank.shape, *[1] * none.ndim), axis=1)
    errors = falls.std(axis=0, ddof=1) / np.sqrt(permutations)
    return Shapley(
        removal.by_name(falls.mean(axis=0)), removal.by_name(errors), removal.whole, none
    )
