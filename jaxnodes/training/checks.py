"""What can be told of data and optimizer before anything is compiled."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, is_concrete
from jaxnodes.layers.arrays import Params, State, shapes_of
from jaxnodes.losses import ON_LOGITS, binary_cross_entropy
from jaxnodes.targets import binary_labels, class_labels
from jaxnodes.targets import sample_weights as weights_of
from jaxnodes.training.batches import take
from jaxnodes.training.objective import unwrapped
from jaxnodes.training.program import Recipe, TrainState


def check_optimizer(optimizer: Any) -> None:
    """Raises unless `optimizer` is a pair (init, update), as optax has it."""
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        mend = "; call it with a learning rate first" if callable(optimizer) else ""
        raise JaxNodesError(
            "expected an optax.GradientTransformation such as jn.adam(1e-3), "
            f"got {optimizer!r}{mend}",
            "optimizer",
        )


def check_inputs(net: Any, variables: tuple[Params, State], x: Any, where: str) -> None:
    """Finds inputs that explain why the numbers made of them aren't finite, if any do.

    Floats that aren't finite themselves, or whole numbers, such as token ids, that a layer
    refuses where it can look at them: outside of a program.
    """
    ends = set()
    for leaf in map(np.asarray, jax.tree.leaves(x)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            bad = int(np.sum(~np.isfinite(leaf.astype(np.float32))))
            check(not bad, f"expected finite inputs, got {bad} that are NaN or infinite", where)
        else:
            rows = leaf.reshape(len(leaf), -1)
            ends |= {int(rows.min(1).argmin()), int(rows.max(1).argmax())}
    if ends:
        net.apply(*variables, take(x, jnp.array(sorted(ends))))


@functools.partial(jax.jit, static_argnums=0)  # for its cache: each network is traced once
def _outputs(net: Any, params: Params, state: State, x: Any) -> Any:
    return net.apply(params, state, x)[0]


def traced(net: Any, train_state: TrainState, x: Any, spec: Any) -> tuple[Any, Any]:
    """Shapes and dtypes of a batch as long as those of `spec`, and how outputs are made of it."""
    inputs = jax.tree.map(
        lambda one, first: jax.ShapeDtypeStruct((*first.shape[:1], *one.shape[1:]), one.dtype),
        shapes_of(x),
        spec,
    )
    return inputs, _outputs.trace(net, train_state.params, train_state.state, inputs)


def shape_of_outputs(
    net: Any, train_state: TrainState, x: Any, spec: Any
) -> tuple[int, ...] | None:
    """The outputs' shape for a batch, if they are one array."""
    return getattr(traced(net, train_state, x, spec)[1].out_info, "shape", None)


def check_targets(recipe: Recipe, train_state: TrainState, data: tuple, spec: Any) -> None:
    """Finds a label that is no class, or inputs that some layer can't take, among all samples.

    Inside the compiled program values can't be looked at: there a bad label makes the
    loss NaN. Here they can.
    """
    x, y, weights = data
    n = len(jax.tree.leaves(x)[0])
    inputs, made = traced(recipe.net, train_state, x, spec)
    outputs = made.out_info
    loss = unwrapped(recipe.loss)
    if loss not in ON_LOGITS or not is_concrete(y) or not hasattr(outputs, "shape"):
        return
    size = jax.tree.leaves(inputs)[0].shape[0]
    check(
        outputs.shape[:1] == (size,),
        f"expected one output a sample, got {outputs.shape} for a batch of {size}",
        "fit",
    )
    logits: Any = np.broadcast_to(np.zeros((), np.float32), (n, *outputs.shape[1:]))
    labels = np.asarray(y)
    one_hot = loss is not binary_cross_entropy and labels.shape == logits.shape
    shape = labels.shape[:-1] if one_hot else labels.shape
    w, _ = weights_of(None if weights is None else np.asarray(weights), shape, loss.__name__)
    check_labels = binary_labels if loss is binary_cross_entropy else class_labels
    check_labels(logits, labels, w, loss.__name__)
