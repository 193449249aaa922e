"""An epoch over batches that come one by one, for data larger than memory."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.compiling import compiler_options
from jaxnodes.errors import check
from jaxnodes.training.batches import count_samples, filled, to_device, with_weights
from jaxnodes.training.objective import measure
from jaxnodes.training.program import Recipe, TrainState, aligned, recipe_step, sample_weights


def _step(recipe: Recipe, train_state: TrainState, batch: tuple, key: jax.Array) -> tuple:
    return recipe_step(recipe)(train_state, batch, key)


@functools.cache
def _step_program(small_products: bool) -> Any:
    return jax.jit(_step, static_argnums=0, compiler_options=compiler_options(small_products))


def run_stream_epoch(
    recipe: Recipe,
    train_state: TrainState,
    batches: Iterable[tuple],
    class_weights: Any,
    outputs: tuple[int, ...] | None,
    key: jax.Array,
) -> tuple[TrainState, dict[str, Any]]:
    """What `run_epoch` does without shuffling, for an iterable of `(x, y, weights)`.

    A batch of fewer samples is filled as the last batch of an epoch is, or dropped.
    """
    _, steps_key = jax.random.split(key)  # the first one shuffles arrays
    losses, totals, predictions, targets = [], [], [], []
    for i, (x, y, weights) in enumerate(batches):
        n = count_samples((x, y, weights), "fit")
        if n < recipe.batch_size and recipe.ragged == "drop":
            continue
        weights = sample_weights(y, weights, class_weights, recipe.loss, outputs)
        batch, fill = filled((x, y, weights), recipe.batch_size, "fit")
        x, y, weights = batch
        if n < recipe.batch_size:
            fill = jnp.asarray(fill)
            weights = fill if weights is None else weights * aligned(fill, weights)
        step_key = jax.random.fold_in(steps_key, i)
        step = _step_program(recipe.small_products)
        train_state, (loss, made) = step(recipe, train_state, (x, y, weights), step_key)
        losses.append(loss)
        totals.append(jnp.float32(n) if weights is None else jnp.sum(weights))
        if recipe.metrics:
            predictions.append(jax.tree.map(lambda p, n=n: p[:n], made))
            targets.append(jax.tree.map(lambda t, n=n: t[:n], y))
    check(losses, "expected at least one batch in each epoch, got none", "fit")
    loss, total = jnp.stack(losses), jnp.stack(totals).astype(losses[0].dtype)
    measures = {"loss": jnp.sum(loss * total) / jnp.sum(total)}
    if recipe.metrics:
        made, met = (_joined(parts) for parts in (predictions, targets))
        for name, metric in recipe.metrics:
            measures[name] = measure(metric, made, met, recipe.from_logits)
    return train_state, measures


def _joined(parts: list) -> Any:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


class Stream:
    """Batches from an iterable or a function, the first one looked at for its shapes."""

    def __init__(self, source: Any):
        self.source = source
        check(
            callable(source) or hasattr(source, "__iter__"),
            f"expected (x, y), (x, y, weights), an iterable of such batches or a function "
            f"epoch -> iterable, got {type(source).__name__}",
            "fit",
        )
        check(
            callable(source) or iter(source) is not source,
            "expected an iterable that can be iterated anew each epoch, got an iterator; "
            "pass a function epoch -> iterable",
            "fit",
        )
        first = next(self.batches(0), None)
        check(first is not None, "expected at least one batch, got none", "fit")
        self.first: tuple = first or ()

    def batches(self, epoch: int) -> Iterator[tuple]:
        source: Any = self.source(epoch) if callable(self.source) else self.source
        for batch in source:
            yield to_device(with_weights(batch))
