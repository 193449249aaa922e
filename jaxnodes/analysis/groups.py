"""Nodes together: pairs and their interaction, and removal one after another."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnodes.analysis.removal import Node, Removal
from jaxnodes.errors import check, check_count


class Pairs(NamedTuple):
    """What pairs of nodes are worth. M is the metric's shape, mostly ().

    Attributes:
      nodes: the k nodes.
      single: (k, *M), the metric of the whole less the metric without the node.
      joint: (k, k, *M), the same without both nodes; on the diagonal `single`.
      interaction: (k, k, *M), `joint[i, j] - single[i] - single[j]`, on the diagonal
        zero: above zero, each of the two makes up for the other's loss.
    """

    nodes: tuple[Node, ...]
    single: np.ndarray
    joint: np.ndarray
    interaction: np.ndarray


class RemovalCurve(NamedTuple):
    """The metric as nodes are removed one after another. M is the metric's shape.

    Attributes:
      removed: (P,), how many nodes are gone at each point, from 0 on.
      metric: (P, *M), at each point.
      nodes: all nodes, in the order in which they go.
    """

    removed: np.ndarray
    metric: np.ndarray
    nodes: tuple[Node, ...]


def ablate_pairs(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any,
    *,
    metric: Callable,
    nodes: Iterable[Node | str] | None = None,
    value: Any = "zero",
    batch_size: int = 256,
    memory: int = 2**28,
    auto: bool = False,
    progress: bool = False,
) -> Pairs:
    """What two nodes are worth together, for all pairs, and how far that is from their sum.

    Of k nodes, k (k + 1) / 2 evaluations of all samples.

    Args:
      f, variables, x, y, metric: as for `ablate`; the metric sees all samples at once.
      nodes: pairs of which nodes: names of sites, for all nodes of one, and single nodes
        `(name, index)`, or `(name, (layer, index))` in a stack of layers; `None` is all.
      value: what takes the place of a removed node's value: `"zero"`, `"mean"` (over
        samples, space and steps), or a dict by name of arrays that broadcast to the
        nodes' shape.
      batch_size: how many samples go through at once, at most.
      memory: bytes that the work may take at a time, about.
      auto: whether to find nodes in a function that names none; see `record`.
      progress: whether to show how far it has come.

    Returns:
      `Pairs(nodes, single, joint, interaction)`.

    Raises:
      JaxNodesError: no nodes, or wrong ones; as for `ablate`.

    Example: of two equal nodes, either will do.

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> def f(w, x):
    ...     h = jn.node(jnp.stack([x, x], axis=-1), "h")
    ...     return h.max(axis=-1)
    >>> x = jnp.array([1.0, 2.0])
    >>> pairs = jn.analysis.ablate_pairs(f, (), x, x, metric=lambda p, y: -jn.mse(p, y))
    >>> print(pairs.single, pairs.joint[0, 1], pairs.interaction[0, 1])
    [0. 0.] 2.5 2.5
    """
    where = "ablate_pairs"
    asked = None if nodes is None else [nodes] if isinstance(nodes, str) else list(nodes)
    names = (
        None
        if asked is None
        else list(dict.fromkeys(n if isinstance(n, str) else n[0] for n in asked))
    )
    removal = Removal(
        f,
        variables,
        x,
        y,
        metric=metric,
        nodes=names,
        exact=True,
        value=value,
        batch_size=batch_size,
        memory=memory,
        auto=auto,
        where=where,
    )
    every = list(removal.all_nodes())
    chosen = np.arange(len(every)) if asked is None else _numbers(asked, every, where)
    k = len(chosen)
    first, second = np.triu_indices(k)

    def kept(choices):
        stay = np.ones((len(choices), len(every)), bool)
        row = np.arange(len(choices))
        stay[row, chosen[first[choices]]] = stay[row, chosen[second[choices]]] = False
        return stay

    drops = removal.whole - removal.measure(len(first), kept, progress)
    joint = np.zeros((k, k, *drops.shape[1:]), drops.dtype)
    joint[first, second] = joint[second, first] = drops
    single = joint[np.arange(k), np.arange(k)]
    interaction = joint - single[:, None] - single[None]
    interaction[np.arange(k), np.arange(k)] = 0
    return Pairs(tuple(every[i] for i in chosen), single, joint, interaction)


def removal_curve(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any,
    *,
    metric: Callable,
    importance: Mapping[str, Any],
    order: str = "worst",
    every: int = 1,
    value: Any = "zero",
    batch_size: int = 256,
    memory: int = 2**28,
    auto: bool = False,
    progress: bool = False,
) -> RemovalCurve:
    """The metric as nodes are removed one after another, by an importance.

    Args:
      f, variables, x, y, metric: as for `ablate`; the metric sees all samples at once.
      importance: by name, an array (size,), or (n, size) in a stack of layers, as
        `ablate`, `attribute` and `shapley` return them. Its sites' nodes are removed.
      order: `"worst"` removes the least important first, `"best"` the most important.
        Of equal ones the first goes first.
      every: how many nodes go from one point of the curve to the next.
      value: what takes the place of a removed node's value; see `ablate_pairs`.
      batch_size, memory, auto, progress: as for `ablate_pairs`.

    Returns:
      `RemovalCurve(removed, metric, nodes)`. The first point has all nodes, the last none.

    Raises:
      JaxNodesError: wrong names, shapes that aren't the nodes', an importance that is NaN.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> def f(w, x):
    ...     return jn.node(x * w, "h").sum(axis=-1)
    >>> w, x = jnp.array([1.0, 3.0]), jnp.ones((4, 2))
    >>> options = {"metric": lambda p, y: p.mean(), "importance": {"h": w}}
    >>> jn.analysis.removal_curve(f, w, x, None, **options).metric
    array([4., 3., 0.], dtype=float32)
    """
    where = "removal_curve"
    fine = order in ("worst", "best")
    check(fine, f"expected order 'worst' or 'best', got {order!r}", where)
    check_count(every, "every", where)
    check(
        isinstance(importance, Mapping) and importance,
        "expected an importance, a dict of arrays by name, such as ablate returns",
        where,
    )
    removal = Removal(
        f,
        variables,
        x,
        y,
        metric=metric,
        nodes=list(importance),
        exact=True,
        value=value,
        batch_size=batch_size,
        memory=memory,
        auto=auto,
        where=where,
    )
    worth = _flat(importance, removal, where)
    going = np.argsort(worth if order == "worst" else -worth, kind="stable")
    rank = np.empty(len(going), int)
    rank[going] = np.arange(len(going))
    removed = np.unique([*range(0, len(going), every), len(going)])
    metrics = removal.measure(len(removed), lambda i: rank >= removed[i][:, None], progress)
    nodes = list(removal.all_nodes())
    return RemovalCurve(removed, metrics, tuple(nodes[i] for i in going))


def _numbers(asked: Iterable[Node | str], every: list[Node], where: str) -> np.ndarray:
    """The numbers of the nodes asked for, each once."""
    number = {node: i for i, node in enumerate(every)}
    found: dict[int, None] = {}
    for node in asked:
        if isinstance(node, str):
            found |= dict.fromkeys(i for i, (name, _) in enumerate(every) if name == node)
            continue
        check(
            node in number,
            f"expected nodes (name, index), or (name, (layer, index)), got {node}; the last one "
            f"of that name is {[n for n in every if n[0] == node[0]][-1:]}",
            where,
        )
        found[number[node]] = None
    return np.array(list(found), int)


def _flat(importance: Mapping[str, Any], removal: Removal, where: str) -> np.ndarray:
    """An importance for each node, in the order of their numbers."""
    parts = []
    for nodes in removal.model.nodes:
        name = nodes.site.name
        check(name in importance, f"expected an importance for {name!r}, got none", where)
        part = np.asarray(importance[name], float)
        check(
            part.shape == nodes.shape,
            f"expected an importance of shape {nodes.shape} for {name!r}, got {part.shape}; "
            "of a metric of several values, choose one",
            where,
        )
        check(not np.isnan(part).any(), f"expected numbers for {name!r}, got NaN", where)
        parts.append(part.ravel())
    return np.concatenate(parts)
