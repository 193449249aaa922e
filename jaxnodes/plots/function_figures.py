"""What functions of nodes look like: activations and their slopes, and what a bias does."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.activations import activation as resolve_activation
from jaxnodes.activations import glu, log_softmax, softmax
from jaxnodes.errors import check
from jaxnodes.plots.figures import BLUE, ORANGE, panels, reference_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The activations that introductions show, in their order.
COMMON_ACTIVATIONS = ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "swish", "softmax")


def activation_functions(names: Iterable[str] = COMMON_ACTIVATIONS) -> "Figure":
    """Activation functions side by side, each with its slope, from -5 to 5.

    Args:
      names: of activations. Softmax is that of the pair (x, 0), the first of the two.

    Raises:
      JaxNodesError: a name that none is registered by.

    Example:

    >>> [ax.get_title() for ax in activation_functions(["relu", "softmax"]).axes]
    ['relu', 'softmax of (x, 0)']
    """
    names = tuple(names)
    check(names, "expected at least one name, got none", "plots.activation_functions")
    x = np.linspace(-5, 5, 501, dtype=np.float32)
    figure, axes = panels(len(names), columns=4, size=(2.8, 2.4))
    for name, ax in zip(names, axes, strict=True):
        f = resolve_activation(name)
        over_an_axis = f in (softmax, log_softmax, glu)
        if over_an_axis:
            f = _first_of_two(f)
        slopes = jax.vmap(jax.grad(lambda x, f=f: f(x).astype(jnp.float32)))(x)
        reference_lines(ax)
        ax.plot(x, f(jnp.asarray(x)), color=BLUE, lw=2, label="value")
        ax.plot(x, slopes, color=ORANGE, lw=1.2, ls="--", label="slope")
        ax.set_title(f"{name} of (x, 0)" if over_an_axis else name, fontsize=11)
        ax.set(xlabel="x", ylabel="value, slope", xlim=(-5, 5))
    axes[0].legend(frameon=False, loc="upper left")
    return figure


def bias_effect(
    biases: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
    *,
    weight: float = 2.0,
    activation: Any = "relu",
) -> "Figure":
    """What a bias does: it shifts where a node turns on. `activation(weight * x + b)` for some b.

    Args:
      biases: a line for each.
      weight: of the node's one input.
      activation: by function or by name.

    Example:

    >>> figure = bias_effect([-1.0, 1.0])
    >>> [line.get_label() for line in figure.axes[0].get_lines()[-2:]]
    ['b = -1', 'b = 1']
    """
    import matplotlib

    function = resolve_activation(activation)
    name = activation if isinstance(activation, str) else getattr(function, "__name__", "f")
    x = np.linspace(-3, 3, 301, dtype=np.float32)
    figure, (ax,) = panels(1, size=(5.4, 3.8))
    reference_lines(ax)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(biases)))
    for bias, color in zip(biases, shades, strict=True):
        y = function(jnp.float32(weight) * x + jnp.float32(bias))
        ax.plot(x, y, color=color, lw=2, label=f"b = {bias:g}")
    ax.set(xlabel="input x", ylabel=f"output {name}({weight:g}x + b)", xlim=(-3, 3))
    ax.legend(frameon=False)
    return figure


def _first_of_two(function: Any) -> Any:
    """A function along an axis, of the pair (x, 0), and of its result the first entry."""
    return lambda x: function(jnp.stack([x, jnp.zeros_like(x)], axis=-1))[..., 0]
