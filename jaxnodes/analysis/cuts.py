"""What is left of a value when features are cut out of it, and who has a say in that.

The smaller network's values are the masked network's at the features that are kept; at
the others that one is constant, and so can be folded into what comes next. `Cut` says
which and what. `Walk` goes through a network by these rules and keeps count: which node
each feature comes of, and which can't be removed.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check
from jaxnodes.interpreter.automatic import ELEMENTWISE
from jaxnodes.interpreter.control_flow import CALLS, CUSTOM_GRADIENTS, bodies, opened


@dataclasses.dataclass(frozen=True)
class Cut:
    """What becomes of the features on the last axis of a value.

    Attributes:
      keep: (F,) bool, which of them the smaller network has.
      constant: (F,) float64, the value of each one that it doesn't have.
      origin: (F,) int, the number of the node each one comes of, channel by channel; -1
        where that isn't a node that could be removed.
      shared: whether something else takes the same value, so that nothing behind it may
        ask for the removal of these nodes.
    """

    keep: np.ndarray
    constant: np.ndarray
    origin: np.ndarray
    shared: bool = False

    @property
    def removed(self) -> np.ndarray:
        """The constants that are missing in the smaller network, and zero elsewhere."""
        constant = np.where(self.keep, 0, self.constant)
        check(
            np.isfinite(constant).all(),
            "expected finite values in the place of removed nodes, but on the way to the next "
            "weights some become infinite or NaN; use others",
            "prune",
        )
        return constant

    def tiled(self, times: int) -> "Cut":
        """The channels of `times` places in a row, as a flatten has them."""
        parts = (np.tile(part, times) for part in (self.keep, self.constant, self.origin))
        return Cut(*parts, shared=self.shared)


class Mask(NamedTuple):
    """Which nodes of a site are kept, (size,), and what takes the others' place.

    `value` is (size,), or (size, dim) for nodes of dim numbers each; for a stack of layers
    both have axes for those in front.
    """

    keep: np.ndarray
    value: np.ndarray

    def at(self, step: int) -> "Mask":
        return Mask(self.keep[step], self.value[step])


class At(NamedTuple):
    """A layer in its place: its variables, shapes of its input and output, the input's cut."""

    layer: Any
    path: str
    params: Mapping[str, Any]
    state: Mapping[str, Any]
    x: Any
    y: Any
    cut: Cut

    @property
    def site(self) -> str:
        """The name of its nodes: its path, `node` for a network that is one layer."""
        return self.path or "node"

    @property
    def array(self) -> Any:
        """Shape and dtype of the input; of the first array where there are several."""
        return jax.tree.leaves(self.x)[0]


class Made(NamedTuple):
    """The smaller layer, its variables, and the cut that it leaves."""

    layer: Any
    params: Mapping[str, Any]
    state: Mapping[str, Any]
    cut: Cut


def uncut(value: Any) -> Cut:
    """The cut of a value that has all of its features, none of them a node's to remove."""
    shape = jax.tree.leaves(value)[0].shape
    size = shape[-1] if shape else 1
    return Cut(np.ones(size, bool), np.zeros(size), np.full(size, -1))


class Walk:
    """The bookkeeping of one pass through a network.

    Attributes:
      masks: by site.
      origins: of every site met, the number of each of its nodes; nodes that only go
        together share theirs, and -1 can't be removed.
      tied: numbers of nodes that can't be removed by themselves.
      asked: nodes of layers before a site that have to be removed for its mask's sake.
      inside: numbers of the nodes of sites inside a stack of layers, each gone through by
        itself; `None` where some can't be removed alone.
    """

    def __init__(self, masks: Mapping[str, Mask], numbers: itertools.count):
        self.masks, self.numbers = masks, numbers
        self.origins: dict[str, np.ndarray] = {}
        self.tied: set[int] = {-1}
        self.asked: dict[str, np.ndarray] = {}
        self.inside: dict[str, np.ndarray | None] = {}
        self._sites: dict[int, tuple[str, int]] = {}

    def mask(self, site: str, size: int) -> Mask:
        """The mask on a site; one that keeps all where none was given."""
        return self.masks.get(site, Mask(np.ones(size, bool), np.zeros(size)))

    def number(self, site: str, count: int, each: int = 1) -> np.ndarray:
        """New numbers for the nodes of a site, `each` in a row sharing theirs."""
        fresh = np.array([next(self.numbers) for _ in range(count // each)])
        self._sites |= {number: (site, i) for i, number in enumerate(fresh.tolist())}
        self.origins[site] = np.repeat(fresh, each)
        return self.origins[site]

    def make(self, at: At, features: int, activation: Callable | None) -> tuple[np.ndarray, Cut]:
        """Which features a layer of weights keeps, and the cut behind its activation."""
        if is_elementwise(activation, jax.tree.leaves(at.y)[0].ndim):
            mask = self.mask(at.site, features)
            return mask.keep, Cut(mask.keep, mask.value, self.number(at.site, features))
        cut = uncut(at.y)
        self.origins[at.site] = cut.origin
        check(
            self.mask(at.site, len(cut.keep)).keep.all(),
            f"expected every node of {at.site!r} to stay, since its activation mixes them; "
            "leave it out of the masks",
            "prune",
        )
        return np.ones(features, bool), cut

    def rename(self, site: str, cut: Cut) -> Cut:
        """The cut behind a site whose nodes are the channels of its input.

        Its mask removes the nodes that its input comes of; if they are still there, they
        are asked for, and the network is gone through once more.
        """
        self.origins[site] = np.where(cut.shared, -1, cut.origin)
        mask = self.mask(site, len(cut.keep))
        wanted, kept = self.origins[site][~mask.keep & cut.keep], cut.origin[mask.keep]
        stuck = (wanted < 0) | np.isin(wanted, kept)
        check(
            not stuck.any(),
            f"expected nodes of {site!r} that come of one layer of weights alone, through which "
            f"they can be removed, but {stuck.sum()} of those to remove don't",
            "prune",
        )
        for number in wanted.tolist():
            source, i = self._sites[number]
            self.asked.setdefault(source, np.zeros(len(self.origins[source]), bool))[i] = True
        constant = np.where(mask.keep, cut.constant, mask.value)
        return dataclasses.replace(cut, constant=constant)

    def whole(self, cut: Cut, why: str) -> None:
        """Raises unless nothing has been cut out, which something needs."""
        self.tied.update(cut.origin.tolist())
        if not cut.keep.all():
            site, _ = self._sites.get(int(cut.origin[~cut.keep][0]), ("the layer before", 0))
            raise JaxNodesError(
                f"expected every node of {site!r} to stay, since {why}; leave it out of the masks",
                "prune",
            )

    def added(self, cuts: list[Cut], path: str) -> Cut:
        """The cut of a sum, all of whose parts must be cut alike."""
        first = cuts[0]
        for cut in cuts:
            self.tied.update(cut.origin.tolist())
            check(
                np.array_equal(cut.keep, first.keep),
                f"expected the same features kept in all that {path!r} adds up, got "
                f"{' and '.join(str(c.keep.sum()) for c in cuts)} of {len(first.keep)} kept; mask "
                "what is added alike, or not at all",
                "prune",
            )
        total = sum((cut.constant for cut in cuts), np.zeros_like(first.constant))
        return Cut(first.keep, total, first.origin, shared=True)


def is_elementwise(function: Callable | None, rank: int = 1) -> bool:
    """Whether each number that a function makes depends on one alone, and all alike.

    Args:
      function: of one array; `None` is the identity.
      rank: the number of axes of the array.

    >>> import jax
    >>> [is_elementwise(f) for f in (jax.nn.gelu, jax.nn.softmax, lambda x: x * x.shape[-1])]
    [True, False, False]
    """
    if function is None:
        return True
    probe = jnp.linspace(-2, 2, 4).reshape(*(1,) * (rank - 1), 4)
    if not _elementwise(*opened(jax.make_jaxpr(function)(probe))):
        return False
    return np.allclose(function(probe)[..., :2], function(probe[..., :2]), 1e-4, equal_nan=True)


def _elementwise(jaxpr: Any, consts: Any) -> bool:
    return all(jnp.ndim(const) == 0 for const in consts) and all(
        all(_elementwise(body.jaxpr, body.consts) for body in bodies(eqn))
        if eqn.primitive.name in CALLS | CUSTOM_GRADIENTS
        else eqn.invars[0].aval.ndim == 0
        if eqn.primitive.name == "broadcast_in_dim"
        else eqn.primitive.name in ELEMENTWISE
        for eqn in jaxpr.eqns
    )


def carried_through(function: Callable, cut: Cut, dtype: Any) -> Cut:
    """The cut behind a function of each feature, which the constants go through."""
    made = function(jnp.asarray(cut.constant, dtype))
    return dataclasses.replace(cut, constant=np.asarray(made, np.float64))
