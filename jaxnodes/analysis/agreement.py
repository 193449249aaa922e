"""`fidelity`: how well a cheap measure of importance agrees with the exact one."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnodes.analysis.ablation import ablate
from jaxnodes.analysis.attribution import METHODS, attribute
from jaxnodes.errors import check


class Agreement(NamedTuple):
    """Correlations with the exact importance, from -1 to 1; NaN where one side is constant.

    Attributes:
      pearson: of the numbers.
      spearman: of their ranks, equal numbers sharing their mean rank.
    """

    pearson: float
    spearman: float


class Fidelity(NamedTuple):
    """How well one measure agrees with the exact one.

    Attributes:
      overall: over the nodes of all sites together.
      sites: by name, over the nodes of each site.
    """

    overall: Agreement
    sites: dict[str, Agreement]


def fidelity(
    importances: Mapping[str, Mapping[str, Any]], exact: Mapping[str, Any]
) -> dict[str, Fidelity]:
    """How well measures of importance agree with the exact importance of the same nodes.

    Args:
      importances: by the measure's name, and then by that of the site, arrays as
        `attribute` returns them.
      exact: by the site's name, arrays of the same shapes, such as `ablate` returns.

    Returns:
      By the measure's name, `Fidelity(overall, sites)` with Pearson's and Spearman's
      correlation.

    Raises:
      JaxNodesError: sites that aren't the same, or arrays of other shapes.

    Example:

    >>> import jaxnodes as jn
    >>> found = jn.analysis.fidelity({"cheap": {"h": [1, 2, 9]}}, {"h": [0.1, 0.2, 0.3]})
    >>> print(found["cheap"].sites["h"])
    Agreement(pearson=0.92, spearman=1.0)
    """
    where = "fidelity"
    check(exact, "expected exact importances by name, got none", where)
    true = {name: np.asarray(array, float) for name, array in exact.items()}
    found = {}
    for measure, importance in importances.items():
        cheap = {name: np.asarray(array, float) for name, array in importance.items()}
        check(
            cheap.keys() == true.keys(),
            f"expected {measure!r} for the sites {list(true)}, got {list(cheap)}",
            where,
        )
        for name, array in cheap.items():
            check(
                array.shape == true[name].shape,
                f"expected {measure!r} of shape {true[name].shape} for {name!r}, got "
                f"{array.shape}; of a metric of several values, choose one",
                where,
            )
        pairs = {name: (cheap[name].ravel(), true[name].ravel()) for name in true}
        pooled = [np.concatenate(side) for side in zip(*pairs.values(), strict=True)]
        sites = {name: _agreement(*pair) for name, pair in pairs.items()}
        found[measure] = Fidelity(_agreement(*pooled), sites)
    return found


def measure_fidelity(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any,
    *,
    loss: Callable,
    metric: Callable | None = None,
    methods: Collection[str] = METHODS,
    nodes: Collection[str] | None = None,
    auto: bool = False,
    progress: bool = False,
    **options: Any,
) -> dict[str, Fidelity]:
    """`fidelity` of methods of `attribute` on your model, against the exact `ablate`.

    Args:
      f, variables, x, y: as for `ablate`.
      loss: `loss(outputs, y)`, a number, for the methods.
      metric: for `ablate`; more is better. By default minus the loss.
      methods: which ones.
      nodes: names of the sites; `None` is all.
      auto: whether to find nodes in a function that names none; see `record`.
      progress: whether to show how far the ablation has come.
      **options: `value` and `key` for `ablate`.

    Returns:
      By method, `Fidelity(overall, sites)`.

    Example:

    >>> import jax, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(8, "tanh"), jn.Dense(3))
    >>> x = jax.random.normal(jax.random.key(0), (20, 4))
    >>> y = jax.random.randint(jax.random.key(1), (20,), 0, 3)
    >>> variables = net.init(jax.random.key(2), x)
    >>> options = {"loss": jn.cross_entropy, "methods": ["taylor", "taylor2"]}
    >>> found = jn.analysis.measure_fidelity(net.predict, variables, x, y, **options)
    >>> bool(found["taylor2"].overall.pearson > 0.9)
    True
    """
    metric = Negative(loss) if metric is None else metric
    shared = {"nodes": nodes, "auto": auto}
    exact = ablate(f, variables, x, y, metric=metric, progress=progress, **shared, **options)
    importances = {
        method: attribute(f, variables, x, y, method=method, loss=loss, **shared)
        for method in methods
    }
    return fidelity(importances, exact)


@dataclasses.dataclass(frozen=True)
class Negative:
    """A loss as a metric: equal for equal losses, so that it compiles once."""

    loss: Callable

    def __call__(self, outputs: Any, y: Any) -> jax.Array:
        return -self.loss(outputs, y)


def _agreement(a: np.ndarray, b: np.ndarray) -> Agreement:
    return Agreement(_correlation(a, b), _correlation(_ranks(a), _ranks(b)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else float("nan")


def _ranks(a: np.ndarray) -> np.ndarray:
    """From 1 on, equal numbers at the mean of their ranks; all NaN if one is NaN."""
    if np.isnan(a).any():
        return np.full(a.shape, np.nan)
    _, place, counts = np.unique(a, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
