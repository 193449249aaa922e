"""How large activations and gradients are, layer by layer and step by step."""

import itertools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxnodes.analysis.flow import GradientFlow
from jaxnodes.errors import check
from jaxnodes.plots.figures import BLUE, ORANGE, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def gradient_flow(flow: GradientFlow) -> "Figure":
    """The size of activations and gradients: of each layer, and of each step where there are some.

    The first layer is on top. Layers whose gradients vanish or explode are marked by a ring
    and by that word; a size of zero, or one that isn't finite, has no place on a logarithmic
    axis and is a triangle at its edge; over time it is a gap. A panel for each site in a
    scan over time follows.

    Args:
      flow: what `analysis.gradient_flow` returned.

    Raises:
      JaxNodesError: anything else.

    Example:

    >>> import jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.Sequential(jn.Dense(1), jn.Dense(1))
    >>> layer = {"w": jnp.array([[1e-4]]), "b": jnp.zeros(1)}
    >>> variables, x = ({"dense1": layer, "dense2": layer}, {}), jnp.ones((4, 1))
    >>> figure = gradient_flow(jn.analysis.gradient_flow(net.predict, variables, x, x, loss=jn.mse))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['dense1', 'dense2']
    """
    where = "plots.gradient_flow"
    check(
        isinstance(flow, GradientFlow),
        f"expected what analysis.gradient_flow returned, got {type(flow).__name__}",
        where,
    )
    rows = list(_layers(flow))
    count = 1 + len(flow.step_gradients)
    height = max(0.27 * len(rows) + 1.2, 2.9 if count > 1 else 1.9)
    figure, axes = panels(count, columns=2, size=(5.0, height))
    _draw_layers(axes[0], rows)
    for name, ax in zip(flow.step_gradients, axes[1:], strict=True):
        _draw_steps(ax, flow, name)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _layers(flow: GradientFlow):
    """Of each layer (name, activation, gradient, verdict), those of a stack one by one."""
    for site, sizes in flow.gradients.items():
        for index in np.ndindex(*sizes.shape):
            name = site + (f"[{', '.join(map(str, index))}]" if index else "")
            verdict = _words(flow.verdicts.get(name, ""))[0]
            yield name, float(flow.activations[site][index]), float(sizes[index]), verdict


def _words(verdict: str) -> tuple[str, str]:
    """What is wrong with a layer, and over time, in a word or two each."""
    words = [part.partition(":")[0] for part in verdict.split("; ") if part]
    of_layer = [word for word in words if not word.endswith("over time")]
    over_time = [word for word in words if word.endswith("over time")]
    return "".join(of_layer[:1]), "".join(over_time[:1])


def _draw_layers(ax: "Axes", rows: list[tuple[str, float, float, str]]) -> None:
    places = np.arange(len(rows))
    names, activations, gradients, verdicts = zip(*rows, strict=True)
    for sizes, label, color, style in (
        (np.array(activations), "activation", BLUE, "s--"),
        (np.array(gradients), "gradient of the loss", ORANGE, "o-"),
    ):
        drawable = np.isfinite(sizes) & (sizes > 0)
        ax.plot(np.where(drawable, sizes, np.nan), places, style, color=color, ms=5, label=label)
        for place in places[~drawable]:
            at, marker = (0, "<") if sizes[place] == 0 else (1, ">")
            across = ax.get_yaxis_transform()
            ax.plot(at, place, marker, color=color, transform=across, clip_on=False, zorder=3)
    marked = [i for i, verdict in enumerate(verdicts) if verdict]
    for i in marked:
        ax.text(1.03, i, verdicts[i], transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    fine = [i for i in marked if np.isfinite(gradients[i]) and gradients[i] > 0]
    ax.plot(np.array(gradients)[fine], fine, "o", ms=12, mfc="none", mec="black", mew=1.2)
    _decades(ax, "x", [*activations, *gradients])
    ax.set_yticks(places, names)
    ax.set(xlabel="size (root mean square)", ylabel="layer", ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis="x", color="#E5E5E5", lw=0.8)
    ax.set_axisbelow(True)


def _draw_steps(ax: "Axes", flow: GradientFlow, name: str) -> None:
    """A line for each layer of a stack, over the steps."""
    from matplotlib.ticker import MaxNLocator

    for sizes, color, style in (
        (flow.step_activations[name], BLUE, "--"),
        (flow.step_gradients[name], ORANGE, "-"),
    ):
        whole = flow.activations[name] if color == BLUE else flow.gradients[name]
        for line in _by_layer(sizes, whole):
            drawable = np.where((line > 0) & np.isfinite(line), line, np.nan)
            marker = "o" if len(line) <= 20 else None
            ax.plot(np.arange(len(line)), drawable, style, color=color, marker=marker, ms=3.5)
    verdict = _words(flow.verdicts.get(name, ""))[1]
    ax.set_title(f"{name}: {verdict}" if verdict else name, fontsize=10)
    sizes = [flow.step_activations[name], flow.step_gradients[name]]
    _decades(ax, "y", np.concatenate(sizes, axis=None))
    ax.set(xlabel="time step", ylabel="size (root mean square)")
    ax.grid(axis="y", color="#E5E5E5", lw=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _by_layer(sizes: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Sizes (*steps,) as (layers, time), `whole` being their root mean squares over time.

    Which of the steps are layers is told by the numbers: of them alone is `whole` the mean.
    """
    for layers in itertools.combinations(range(sizes.ndim), whole.ndim):
        time = tuple(i for i in range(sizes.ndim) if i not in layers)
        means = np.sqrt(np.mean(sizes**2, axis=time))
        if means.shape == whole.shape and np.allclose(means, whole, equal_nan=True):
            moved = sizes.transpose(*layers, *time)
            return moved.reshape(whole.size, -1)
    return sizes.reshape(1, -1)


def _decades(ax: "Axes", axis: Literal["x", "y"], sizes: Any) -> None:
    """A logarithmic axis of whole decades, so that at least two of them are named."""
    from matplotlib.ticker import NullFormatter

    sizes = np.asarray(sizes, float)
    powers = np.log10(sizes[np.isfinite(sizes) & (sizes > 0)])
    low, high = (powers.min() - 0.1, powers.max() + 0.1) if powers.size else (0.0, 1.0)
    limits = 10.0 ** np.floor(low), 10.0 ** np.ceil(high)
    ax.set(**{f"{axis}scale": "log", f"{axis}lim": limits})
    getattr(ax, f"{axis}axis").set_minor_formatter(NullFormatter())
