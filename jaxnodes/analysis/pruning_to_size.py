"""`prune_to`: a network pruned to a target size, by any importance of its nodes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnodes.analysis.cutting import cut_out
from jaxnodes.analysis.pruning import Variables, node_shapes, prepared, prune
from jaxnodes.errors import check, check_count, check_number
from jaxnodes.layers.arrays import shapes_of
from jaxnodes.layers.base import Layer


def prune_to(
    net: Layer,
    variables: Variables,
    importance: Mapping[str, Any] | Callable[[Layer, Variables], Mapping[str, Any]],
    keep: float | Mapping[str, float],
    *,
    x: Any,
    scope: str = "layer",
    values: Any = "zero",
    rounds: int = 1,
) -> tuple[Layer, Variables]:
    """The network with its most important nodes alone: `prune` to a target size.

    What a node is worth depends on the others: of two that do the same either may go, but
    not both. So importance is best measured again whenever some nodes are gone, in `rounds`.

    Args:
      net, variables, x, values: as of `prune`.
      importance: as of `prune_masks`, which chooses the nodes; or a function
        `(net, variables) -> importance` that measures it.
      keep, scope: as of `prune_masks`.
      rounds: how often to measure and to remove, each time the same share of what is there;
        more than one needs a function, and `values` that aren't named one by one.

    Returns:
      `(net, variables)`.

    Raises:
      JaxNodesError: as `prune_masks` and `prune`, or rounds without a function.

    Example: the half with the largest outgoing weights (`ablate` gives what they are worth).

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.fully_connected([4, 16, 8, 3])
    >>> x = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    >>> params, state = net.init(jax.random.key(0), x)
    >>> after = {"dense1": "dense2", "dense2": "dense3"}
    >>> importance = {name: jnp.abs(params[after[name]]["w"]).sum(1) for name in after}
    >>> smaller, variables = prune_to(net, (params, state), importance, 0.5, x=x)
    >>> smaller
    Sequential(
      dense1=Dense(8, activation=relu, in_features=4),
      dense2=Dense(4, activation=relu, in_features=8),
      dense3=Dense(3, in_features=4),
    )
    """
    check_count(rounds, "rounds", "prune_to")
    check(
        rounds == 1 or (callable(importance) and isinstance(values, str)),
        f"expected a function of importance, and values 'zero' or 'mean', for {rounds} rounds, "
        f"got {type(importance).__name__} and {type(values).__name__}; each round measures "
        "what the one before has left",
        "prune_to",
    )

    def choose(net, variables, found, keep):
        return prune_masks(net, variables, found, keep, x=x, scope=scope)

    measure = importance if callable(importance) else lambda net, variables: importance
    found = measure(net, variables)
    masks = choose(net, variables, found, keep)
    first = now = {name: mask.size for name, mask in masks.items()}
    last = {name: int(mask.sum()) for name, mask in masks.items()}
    for done in range(1, rounds):
        then = {name: first[name] * (last[name] / first[name]) ** (done / rounds) for name in now}
        masks = choose(net, variables, found, _fraction(now, then, scope))
        net, variables = prune(net, variables, masks, x=x, values=values)
        now = {name: int(mask.sum()) for name, mask in masks.items()}
        found = measure(net, variables)
        masks = choose(net, variables, found, _fraction(now, last, scope))
    return prune(net, variables, masks, x=x, values=values)


def _fraction(now: Mapping[str, int], then: Mapping[str, float], scope: str) -> Any:
    """What to keep to come from so many nodes to so many."""
    if scope == "global":
        return sum(then.values()) / sum(now.values())
    return {name: then[name] / now[name] for name in now}


def prune_masks(
    net: Layer,
    variables: Variables,
    importance: Mapping[str, Any],
    keep: float | Mapping[str, float],
    *,
    x: Any,
    scope: str = "layer",
) -> dict[str, np.ndarray]:
    """Masks that keep the most important nodes, for `prune`.

    Args:
      net, variables, x: as of `prune`.
      importance: by name, one number a node, the larger the more important, as `ablate` gives
        them. Layers that it doesn't name keep all of their nodes.
      keep: the fraction of nodes to keep. Nodes that have to stay (the outputs, say) are no
        part of it; where two names are of the same nodes, a layer's and those of the function
        lifted after it, the last one counts. Or by name, for the layers to be pruned, a
        fraction (a float) or a number of nodes (an int).
      scope: `"layer"` keeps the fraction of each layer; `"global"` of all nodes together, by
        importances as they are, and at least one of each layer.

    Returns:
      By name, a bool array (size,), or (n, size) for the layers of a `Repeat`, each of which
      keeps as many. Heads that share keys and values stay or go together, by the sum of
      their importances.

    Raises:
      JaxNodesError: names, shapes or numbers that don't fit, or nothing that can be removed.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net, x = jn.Sequential(jn.Dense(3), jn.Dense(1)), jnp.ones((1, 2))
    >>> variables = net.init(jax.random.key(0), x)
    >>> prune_masks(net, variables, {"dense1": [0.1, 0.3, 0.2]}, {"dense1": 2}, x=x)
    {'dense1': array([False,  True,  True])}
    """
    by_name = isinstance(keep, Mapping)
    check(
        scope == "layer" or (scope == "global" and not by_name),
        f"expected scope 'layer', or 'global' with one number to keep, got {scope!r}",
        "prune_masks",
    )
    traced, variables = prepared(net, variables, x)
    shapes = node_shapes(traced, x, importance)
    _, units = cut_out(net, *variables, shapes_of(x), {})
    ranked = {
        name: _Ranked(name, importance[name], shape, units[name])
        for name, shape in shapes.items()
        if units.get(name) is not None
    }
    if by_name:
        wrong = sorted(set(keep) - set(ranked))
        check(
            not wrong,
            f"expected names of nodes that can be removed and have an importance "
            f"({', '.join(ranked)}), got {wrong}",
            "prune_masks",
        )
        ranked = {name: of_site for name, of_site in ranked.items() if name in keep}
    else:
        last = {of_site.nodes: name for name, of_site in ranked.items()}
        ranked = {name: ranked[name] for name in last.values()}
    check(ranked, "expected an importance of nodes that can be removed, got none", "prune_masks")
    if scope == "layer":
        counts = {
            name: of_site.count(keep[name] if isinstance(keep, Mapping) else keep)
            for name, of_site in ranked.items()
        }
    else:
        counts = _global_counts(ranked, keep)
    return {name: of_site.best(counts[name]) for name, of_site in ranked.items()}


class _Ranked:
    """The nodes of a site in units that stay or go together, a row for each layer of a stack."""

    def __init__(self, name: str, importance: Any, shape: tuple[int, ...], numbers: Any):
        importance = np.asarray(importance, np.float64)
        check(
            importance.shape == shape and np.isfinite(importance).all(),
            f"expected a finite importance of shape {shape}, one number a node, got shape "
            f"{importance.shape}{'' if np.isfinite(importance).all() else ' with NaN in it'}",
            f"prune_masks {name!r}",
        )
        self.name, self.shape = name, shape
        unique, self.unit = np.unique(numbers, return_inverse=True)
        self.nodes, self.units = frozenset(unique.tolist()), len(unique)
        self.each = shape[-1] // self.units
        rows = importance.reshape(-1, shape[-1])
        of_units = [rows[:, self.unit == i].sum(axis=1) for i in range(self.units)]
        self.scores = np.stack(of_units, axis=1)

    def count(self, keep: float) -> int:
        """How many units to keep, for a fraction or a number of nodes."""
        where, size = f"prune_masks {self.name!r}", self.shape[-1]
        if isinstance(keep, int | np.integer) and not isinstance(keep, bool):
            check_count(keep, "the number of nodes to keep", where)
            check(
                keep <= size and keep % self.each == 0,
                f"expected to keep at most {size} nodes"
                f"{f', {self.each} at a time' if self.each > 1 else ''}, got {keep}",
                where,
            )
            return int(keep) // self.each
        check_number(keep, "the fraction of nodes to keep", where, least=0, most=1)
        return max(1, int(keep * self.units + 0.5))

    def best(self, count: int) -> np.ndarray:
        """The mask that keeps this many units of each row; of equal ones the first."""
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :count]
        kept = np.zeros(self.scores.shape, bool)
        np.put_along_axis(kept, order, True, axis=1)
        return kept[:, self.unit].reshape(self.shape)


def _global_counts(ranked: Mapping[str, _Ranked], keep: Any) -> dict[str, int]:
    """How many units of each site are among the best of all, once each has its very best."""
    check_number(keep, "the fraction of nodes to keep", "prune_masks", least=0, most=1)
    counts = dict.fromkeys(ranked, 1)
    left = keep * sum(r.scores.size * r.each for r in ranked.values())
    left -= sum(len(r.scores) * r.each for r in ranked.values())
    others = [
        (-score, name, place)
        for name, r in ranked.items()
        for row in -np.sort(-r.scores, axis=1)
        for place, score in enumerate(row[1:].tolist(), 2)
    ]
    for _, name, place in sorted(others, key=lambda entry: entry[0]):
        if left < ranked[name].each * 0.5:
            break
        left -= ranked[name].each
        counts[name] = max(counts[name], place)
    return counts
