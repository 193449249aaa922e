"""`gradient_flow`: the size of activations and gradients, by layer and by step."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.analysis.model import Arrays, Model, Nodes, real, take
from jaxnodes.analysis.samples import compiled, prepare, whole_loss
from jaxnodes.errors import check, check_number
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.program import Program


class GradientFlow(NamedTuple):
    """Sizes are root mean squares, NumPy arrays by the name of the site, in program order.

    Attributes:
      activations: of the nodes' values: one number, or (n,) in a stack of n layers.
      gradients: of the derivatives of the loss by these values, times the number of
        samples (so, for a mean, of one sample's loss by its own values).
      step_activations, step_gradients: (*steps,), the same at each step, for nodes in a
        scan over time; the other sites aren't here.
      verdicts: by site, or `site[layer]`, what is wrong; empty if nothing is.
    """

    activations: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    step_activations: dict[str, np.ndarray]
    step_gradients: dict[str, np.ndarray]
    verdicts: dict[str, str]


def gradient_flow(
    f: Callable,
    variables: Any,
    x: Any,
    y: Any,
    *,
    loss: Callable,
    nodes: Collection[str] | None = None,
    vanishing: float = 1e-3,
    exploding: float = 1e3,
    batch_size: int = 256,
    auto: bool = False,
) -> GradientFlow:
    """The size of activations and gradients, layer by layer and step by step.

    Gradients flow from the last layer to the first, and in a scan over time from the
    last step to the first. A layer's vanish if they are smaller than `vanishing` times
    those of the last layer, and explode if they are larger than `exploding` times
    those. Over time they do if that is so of the first step against the last.

    Args:
      f: a function `f(variables, x)` that names nodes, at inference.
      variables: its first argument.
      x: its data (N, ...), or a pytree of such arrays.
      y: what the loss compares with; arrays (N, ...).
      loss: `loss(outputs, y)`, a number, of all samples at once.
      nodes: names of those to measure; `None` is all.
      vanishing, exploding: the ratios; 0 < vanishing < exploding.
      batch_size: how many samples go through at once, at most.
      auto: whether to find nodes in a function that names none; see `record`.

    Returns:
      `GradientFlow(activations, gradients, step_activations, step_gradients, verdicts)`.

    Raises:
      JaxNodesError: no nodes, or wrong names; a loss that isn't a number; nodes that can't
        be recorded.

    Source: Bengio, Simard and Frasconi 1994, doi:10.1109/72.279181; Pascanu, Mikolov and
    Bengio 2013, arXiv:1211.5063.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(1), jn.Dense(1), jn.Dense(1))
    >>> layer = {"w": jnp.array([[0.01]]), "b": jnp.zeros(1)}
    >>> params = {"dense1": layer, "dense2": layer, "dense3": layer}
    >>> x = jnp.ones((4, 1))
    >>> jn.analysis.gradient_flow(net.predict, (params, {}), x, x, loss=jn.mse).verdicts
    {'dense1': 'vanishing: its gradient is 0.0001 times that of dense3'}
    """
    where = "gradient_flow"
    check_number(vanishing, "vanishing", where, least=0)
    check_number(exploding, "exploding", where, least=0)
    check(
        0 < vanishing < exploding,
        f"expected 0 < vanishing < exploding, got {vanishing} and {exploding}",
        where,
    )
    model, arrays = prepare(
        f,
        variables,
        x,
        nodes=nodes,
        auto=auto,
        batch_size=batch_size,
        where=where,
        each=True,
        gated=True,
    )
    whole_loss(model, arrays, loss, y, where)
    parts = compiled(_sizes, model, loss)(arrays, y)
    ratios = (vanishing, exploding)
    flow = GradientFlow({}, {}, {}, {}, {})
    for n in model.nodes:
        name = n.site.name
        sizes = [_root(*parts[what][name]) for what in ("activations", "gradients")]
        sizes[0] *= np.sqrt(len(model.fill.ravel()) / model.n)  # what fills the last tile is zero
        sizes[1] *= np.sqrt(len(model.fill.ravel()) * model.n)
        over_time = tuple(i for i, layer in enumerate(n.layers) if not layer)
        flow.activations[name], flow.gradients[name] = (_mean(s, over_time) for s in sizes)
        if over_time:
            flow.step_activations[name], flow.step_gradients[name] = sizes
    flow.verdicts.update(_over_layers(flow.gradients, *ratios))
    for n in model.nodes:
        if n.site.name in flow.step_gradients:
            said = _over_time(n, model.program, flow.step_gradients[n.site.name], *ratios)
            if said:
                earlier = flow.verdicts.get(n.site.name)
                flow.verdicts[n.site.name] = f"{earlier}; {said}" if earlier else said
    return flow


def _sizes(model: Model, loss: Callable, arrays: Arrays, y: Any) -> dict[str, Any]:
    """For each tile and site (largest, mean of squares over it) at each step, (tiles, *steps)."""

    def of_tile(tile):
        rows, fill, pull = tile
        records, slopes = model.tile_gradients(arrays, take(arrays.leaves, rows), pull)
        sizes: dict[str, Any] = {"activations": {}, "gradients": {}}
        for n in model.nodes:
            name = n.site.name
            sizes["activations"][name] = _scaled(n, n.counted(records[name], fill))
            sizes["gradients"][name] = _scaled(n, slopes[name])
        return sizes

    return jax.lax.map(of_tile, (model.rows, model.fill, model.pull(loss, arrays, y)))


def _scaled(nodes: Nodes, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest size, and the mean square of what is divided by it: nothing overflows."""
    value = jnp.abs(value).astype(real(value.dtype))
    axes = tuple(range(len(nodes.site.steps), value.ndim))
    most = jnp.max(value, axis=axes, keepdims=True)
    divided = value / jnp.where((most > 0) & jnp.isfinite(most), most, 1)
    return jnp.squeeze(most, axes), jnp.mean(divided**2, axis=axes)


def _root(most: jax.Array, squares: jax.Array) -> np.ndarray:
    """Root mean square over all tiles, in float64."""
    wide = np.asarray(most, np.float64)
    wide = np.where((wide > 0) & np.isfinite(wide), wide, 1.0)
    return np.sqrt(np.mean(wide**2 * np.asarray(squares, np.float64), axis=0))


def _mean(sizes: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.mean(sizes**2, axis=axes))


def _over_layers(gradients: dict[str, np.ndarray], vanishing: float, exploding: float) -> dict:
    """What is wrong with each layer, against the last one."""
    layers = list(_entries(gradients))
    last, reference = layers[-1]
    said = {}
    for name, size in layers:
        if not np.isfinite(size):
            said[name] = f"not finite: its gradient is {size:.3g}"
        elif size == 0:
            said[name] = "vanishing: its gradient is zero"
        elif reference > 0 and np.isfinite(reference):
            ratio = size / reference
            if not vanishing <= ratio <= exploding:
                word = "vanishing" if ratio < vanishing else "exploding"
                said[name] = f"{word}: its gradient is {ratio:.3g} times that of {last}"
    return said


def _entries(sizes: dict[str, np.ndarray]) -> Iterator[tuple[str, float]]:
    """Each layer's size, those of a stack one by one."""
    for name, size in sizes.items():
        for index in np.ndindex(*size.shape):
            at = f"[{', '.join(map(str, index))}]" if index else ""
            yield name + at, float(size[index])


def _over_time(nodes: Nodes, program: Program, sizes, vanishing: float, exploding: float) -> str:
    """What is wrong with the gradients of the first step against those of the last."""
    directions = zip(nodes.layers, _reversed(program, nodes.site.name), strict=True)
    for axis, (layer, backward) in enumerate(directions):
        if layer or sizes.shape[axis] < 2:
            continue
        others = tuple(i for i in range(sizes.ndim) if i != axis)
        along = _mean(sizes, others)
        first, last = (len(along) - 1, 0) if backward else (0, len(along) - 1)
        if not (np.isfinite(along).all() and along[last] > 0):
            continue
        ratio = along[first] / along[last]
        if not vanishing <= ratio <= exploding:
            word = "vanishing" if ratio < vanishing else "exploding"
            return (
                f"{word} over time: its gradient at step {first} is {ratio:.3g} times that at "
                f"step {last}"
            )
    return ""


def _reversed(program: Program, name: str) -> list[bool]:
    """For each scan around a site, whether it runs from the last step to the first."""
    path = program.place(name).path
    jaxpr, found = program.jaxpr, []
    for i, k in zip(path[:-1:2], path[1::2], strict=True):
        eqn = jaxpr.eqns[i]
        if eqn.primitive.name == "scan":
            found.append(eqn.params["reverse"])
        jaxpr = bodies(eqn)[k].jaxpr
    return found
