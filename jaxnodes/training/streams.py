"""An epoch over batches that come one by one, for data larger than memory."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import check
from jaxnodes.training.batches import count_samples, filled
from jaxnodes.training.objective import measure
from jaxnodes.training.program import Recipe, TrainState, aligned, recipe_step, sample_weights


@functools.partial(jax.jit, static_argnums=0)
def _compiled_step(recipe: Recipe, train_state, batch, key):
    return recipe_step(recipe)(train_state, batch, key)


def run_stream_epoch(
    recipe: Recipe,
    train_state: TrainState,
    batches: Iterable[tuple],
    class_weights: Any,
    key: jax.Array,
) -> tuple[TrainState, dict[str, Any]]:
    """What `run_epoch` does, for an iterable of `(x, y, weights)`.

    A batch of fewer samples is filled as the last batch of an epoch is, or dropped.
    """
    losses, totals, predictions, targets = [], [], [], []
    for i, (x, y, weights) in enumerate(batches):
        n = count_samples((x, y, weights), "fit")
        if n < recipe.batch_size and recipe.ragged == "drop":
            continue
        weights = sample_weights(y, weights, class_weights)
        batch, fill = filled((x, y, weights), recipe.batch_size, "fit")
        x, y, weights = batch
        if n < recipe.batch_size:
            fill = jnp.asarray(fill)
            weights = fill if weights is None else weights * aligned(fill, weights)
        step_key = jax.random.fold_in(key, i)
        train_state, (loss, made) = _compiled_step(recipe, train_state, (x, y, weights), step_key)
        losses.append(loss)
        totals.append(jnp.float32(n) if weights is None else jnp.sum(weights))
        if recipe.metrics:
            predictions.append(jax.tree.map(lambda p, n=n: p[:n], made))
            targets.append(jax.tree.map(lambda t, n=n: t[:n], y))
    check(losses, "expected at least one batch in each epoch, got none", "fit")
    loss, total = jnp.stack(losses), jnp.stack(totals).astype(losses[0].dtype)
    measures = {"loss": jnp.sum(loss * total) / jnp.sum(total)}
    if recipe.metrics:
        joined = [
            jax.tree.map(lambda *a: jnp.concatenate(a), *part) for part in (predictions, targets)
        ]
        for name, metric in recipe.metrics:
            measures[name] = measure(metric, *joined, recipe.from_logits)
    return train_state, measures
