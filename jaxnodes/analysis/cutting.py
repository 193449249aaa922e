"""Taking nodes out of a network: the way through it, and through layers made of layers."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxnodes.analysis.cut_layers import LAYER_RULES, mixing
from jaxnodes.analysis.cuts import At, Cut, Made, Mask, Walk, uncut
from jaxnodes.errors import check
from jaxnodes.interpreter.sites import join
from jaxnodes.layers.combinators import Parallel, Repeat, Residual, Sequential
from jaxnodes.layers.sequence_layers import Bidirectional


def cut_out(
    layer: Any,
    params: Mapping[str, Any],
    state: Mapping[str, Any],
    x: Any,
    masks: Mapping[str, Mask],
    *,
    path: str = "",
    numbers: itertools.count | None = None,
    why: str = "they are the network's outputs",
) -> tuple[Made, dict[str, np.ndarray | None]]:
    """The layer, and all in it, without the nodes that `masks` remove.

    Args:
      layer, params, state: with numbers in them.
      x: shapes of its input.
      masks: by site; they have been checked.
      path: of the layer.
      numbers: of nodes.
      why: its output must be whole.

    Returns:
      What is left, and for each site the numbers of its nodes, `None` if some of them
      can't be removed alone.

    Raises:
      JaxNodesError: a mask on nodes that can't be removed.
    """
    numbers = itertools.count() if numbers is None else numbers
    walk = Walk(masks, numbers)
    made, _ = _layer(walk, layer, path, params, state, x, uncut(x))
    if walk.asked:
        before = {site: walk.mask(site, len(gone)) for site, gone in walk.asked.items()}
        more = {s: Mask(m.keep & ~walk.asked[s], m.value) for s, m in before.items()}
        walk = Walk({**masks, **more}, numbers)
        made, _ = _layer(walk, layer, path, params, state, x, uncut(x))
    walk.whole(made.cut, why)
    units = {
        site: None if walk.tied.intersection(of_site.tolist()) else of_site
        for site, of_site in walk.origins.items()
    }
    return made, {**units, **walk.inside}


def _layer(walk: Walk, layer, path, params, state, x, cut) -> tuple[Made, Any]:
    y = jax.eval_shape(lambda *args: layer.apply(*args)[0], params, state, x)
    at = At(layer, path, params, state, x, y, cut)
    return _RULES.get(type(layer), mixing)(walk, at), y


def _children(walk: Walk, pairs: Any, at: At, in_a_row: bool) -> tuple[dict, dict, dict, list[Cut]]:
    """The layers inside another one, with their variables and the cuts that they leave."""
    layers, params, state, cuts, x, cut = {}, {}, {}, [], at.x, at.cut
    for name, layer in pairs:
        own = (layer, join(at.path, name), at.params.get(name, {}), at.state.get(name, {}))
        made, y = _layer(walk, *own, x, cut)
        layers[name] = made.layer
        cuts.append(made.cut)
        for whole, part in ((params, made.params), (state, made.state)):
            if part:
                whole[name] = part
        if in_a_row:
            x, cut = y, made.cut
    return layers, params, state, cuts


def _sequential(walk: Walk, at: At) -> Made:
    layers, params, state, cuts = _children(walk, at.layer.layers, at, in_a_row=True)
    return Made(Sequential(**layers), params, state, cuts[-1] if cuts else at.cut)


def _residual(walk: Walk, at: At) -> Made:
    branch = dataclasses.replace(at.cut, shared=True)
    made = _sequential(walk, at._replace(layer=at.layer.layer, cut=branch))
    return made._replace(layer=Residual(made.layer), cut=walk.added([at.cut, made.cut], at.path))


def _parallel(walk: Walk, at: At) -> Made:
    merge = at.layer.merge
    branch = at._replace(cut=dataclasses.replace(at.cut, shared=True))
    layers, params, state, cuts = _children(walk, at.layer.layers, branch, in_a_row=False)
    cut = _merged(walk, at, cuts, merge)
    return Made(Parallel(merge=merge, **layers), params, state, cut)


def _merged(walk: Walk, at: At, cuts: list[Cut], merge: Any) -> Cut:
    if merge == "sum":
        return walk.added(cuts, at.path)
    if merge == "concat":
        parts = zip(*((c.keep, c.constant, c.origin) for c in cuts), strict=True)
        return Cut(*map(np.concatenate, parts), shared=any(c.shared for c in cuts))
    for cut in cuts:
        walk.whole(cut, f"the function that merges {at.path!r} may mix them")
    return uncut(at.y)


def _bidirectional(walk: Walk, at: At) -> Made:
    """Ways of different sizes are no `Bidirectional`, but the same things side by side."""
    merge, forward = at.layer.merge, at.layer.layer
    pairs = (("forward", forward), ("backward", dataclasses.replace(forward, reverse=True)))
    branch = at._replace(cut=dataclasses.replace(at.cut, shared=True))
    layers, params, state, cuts = _children(walk, pairs, branch, in_a_row=False)
    cut = _merged(walk, at, cuts, merge)
    if dataclasses.replace(layers["backward"], reverse=False) == layers["forward"]:
        return Made(Bidirectional(layers["forward"], merge), params, state, cut)
    check(
        not isinstance(at.x, tuple),
        f"expected as many nodes kept in both ways of {at.path!r}, where there is a mask on the "
        f"sequences, got {' and '.join(str(c.keep.sum()) for c in cuts)}",
        "prune",
    )
    return Made(Parallel(merge=merge, **layers), params, state, cut)


def _repeat(walk: Walk, at: At) -> Made:
    """Each layer of the stack for itself; what is left must be alike."""
    why = f"all layers of {at.path!r} have one width"
    walk.whole(at.cut, why)
    made = []
    for i in range(at.layer.n):
        params, state = jax.tree.map(lambda leaf, i=i: leaf[i], (at.params, at.state))
        masks = {
            site: mask.at(i)
            for site, mask in walk.masks.items()
            if site.startswith(f"{at.path}/") or not at.path
        }
        step, units = cut_out(
            at.layer.layer, params, state, at.x, masks, path=at.path, numbers=walk.numbers, why=why
        )
        made.append(step)
        walk.inside |= units
    check(
        all(step.layer == made[0].layer for step in made),
        f"expected as many nodes kept in each of the {at.layer.n} layers of {at.path!r}, got masks "
        "that keep different numbers",
        "prune",
    )
    params, state = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *(step[part] for step in made))
        for part in (1, 2)
    )
    layer = dataclasses.replace(at.layer, layer=made[0].layer)
    return Made(layer, params, state, uncut(at.y))


_RULES: dict[type, Callable[[Walk, At], Made]] = {
    **LAYER_RULES,
    Bidirectional: _bidirectional,
    Parallel: _parallel,
    Repeat: _repeat,
    Residual: _residual,
    Sequential: _sequential,
}
