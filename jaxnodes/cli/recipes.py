"""How often, at which rate and by which optimizer a network learns."""

import functools
from collections.abc import Callable
from typing import Any

import jaxnodes as jn
from jaxnodes.cli.networks import size_of
from jaxnodes.cli.options import TEXT_MODELS, Train

#: How many characters a gpt or a bert reads by default, the same ones again and again.
_CHARACTERS = 4_000_000


def epochs_of(options: Train, numbers: int) -> int:
    """The epochs asked for, or as many as the kind of network needs.

    Args:
      options: of the run.
      numbers: how many there are in all of the training samples; of a text, its characters.
    """
    if options.epochs is not None:
        return options.epochs
    if options.model in TEXT_MODELS:
        # About as many characters are read of a short text as of a long one.
        return max(1, min(100, round(_CHARACTERS / max(1, numbers))))
    return {"cnn": 30, "resnet": 10, "efficientnet": 10}.get(options.model, 100)


def rate_of(options: Train) -> float:
    """The learning rate asked for, or what the kind of network needs."""
    if options.learning_rate is not None:
        return options.learning_rate
    if options.model in TEXT_MODELS:
        return size_of(options).rate
    return 0.03 if options.model == "linear" else 0.003


def optimizer_of(options: Train, steps: int) -> Any:
    """The optimizer, and its schedule over so many steps."""
    make: Callable = getattr(jn, options.optimizer)
    if options.schedule == "constant":
        return make(rate_of(options))
    return make(_cosine(rate_of(options), steps))


@functools.lru_cache
def _cosine(rate: float, steps: int) -> Callable:
    """A schedule; the same one for the same arguments, so that what is compiled serves again."""
    import optax

    return optax.cosine_decay_schedule(rate, steps)
