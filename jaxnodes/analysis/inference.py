"""Whether a function is one of inference: the same sample, the same answer."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr

from jaxnodes.errors import check
from jaxnodes.interpreter.control_flow import bodies
from jaxnodes.interpreter.tracing import Traced

# Dropout makes its own numbers of a key's words, which it gets by unwrapping the key.
_RANDOM = {
    "random_bits",
    "random_unwrap",
    "threefry2x32",
    "rng_bit_generator",
    "rng_uniform",
    "random_gamma",
}


def check_inference(traced: Traced, data: int, samples: int) -> None:
    """Raises unless a function treats each sample alone, and without chance.

    Args:
      traced: the function, traced for a batch.
      data: how many of its last arguments are arrays of samples.
      samples: how many samples they hold.

    Raises:
      JaxNodesError: it draws random numbers; it doesn't return one output a sample; or
        an output changes with the other samples of the batch.
    """
    drawn = sorted(set(_primitives(traced.program.jaxpr)) & _RANDOM)
    check(
        not drawn,
        f"expected a function of inference, but it draws random numbers ({drawn[:1]}); "
        "measure with training=False",
        "analysis",
    )
    for var in traced.program.jaxpr.outvars:
        aval: Any = var.aval
        check(
            aval.shape[:1] == (samples,),
            f"expected outputs with one entry a sample, got shape {aval.shape} for "
            f"{samples} samples; return the outputs and let the metric reduce them",
            "analysis",
        )
    half = samples // 2
    if not half:
        return
    fixed, mine = traced.args[:-data], traced.args[-data:]
    before, _ = traced.run(traced.consts, traced.args)
    after, _ = traced.run(traced.consts, [*fixed, *_halves_alike(mine)])
    for pair in zip(before, after, strict=True):
        a, b = (np.asarray(made)[:half].astype(np.float64) for made in pair)
        scale = np.max(np.abs(a), where=np.isfinite(a), initial=1e-30)
        check(
            np.allclose(a, b, rtol=0, atol=1e-3 * scale, equal_nan=True),
            "expected a function of inference, but its answer for a sample changes with the rest "
            "of the batch (batch norm in training mode does that); measure with training=False",
            "analysis",
        )


@jax.jit
def _halves_alike(leaves: Sequence[Any]) -> list[jax.Array]:
    """Samples whose second half is the first one again."""
    half = len(leaves[0]) // 2
    return [jnp.concatenate([leaf[:half], leaf[:half], leaf[2 * half :]]) for leaf in leaves]


def _primitives(jaxpr: Jaxpr) -> Iterator[str]:
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for body in bodies(eqn):
            yield from _primitives(body.jaxpr)
