"""The error that users see, and the checks every room shares.

A mistake is named where it is made: the path of the layer, what was expected,
what came, and the mend, in one line. A function that knows nothing of paths
raises `JaxNodesError("expected ...", where="dense")`; each `jn.call` it passes
through on its way out puts its own name in front (`JaxNodesError.within`).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class JaxNodesError(ValueError):
    """A mistake in the use of jaxnodes: one line, with the path and the mend.

    Args:
      problem: what was expected, what came, and the mend.
      where: the function or layer that found it; a path takes its place as soon
        as a network that knows the layer's name passes the error on.

    Example:

    >>> error = JaxNodesError("expected 64 features, got 63", where="dense")
    >>> print(error)
    dense: expected 64 features, got 63
    >>> print(error.within("dense2").within("residual1"))
    residual1/dense2: expected 64 features, got 63
    """

    def __init__(self, problem: str, where: str = "", path: tuple[str, ...] = ()):
        self.problem, self.where, self.path = problem, where, path
        place = "/".join(path) or where
        super().__init__(f"{place}: {problem}" if place else problem)

    def within(self, name: str) -> "JaxNodesError":
        """The same error as seen from the layer that calls this one `name`."""
        return JaxNodesError(self.problem, self.where, (name, *self.path))


def check(condition: Any, problem: str, where: str = "") -> None:
    """Raises `JaxNodesError` with `problem` unless `condition` holds."""
    if not condition:
        raise JaxNodesError(problem, where)


def is_concrete(*values: Any) -> bool:
    """Whether every array in `values` has numbers in it now (none is being traced)."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def check_key(key: Any, where: str = "") -> None:
    """Raises unless `key` is one typed PRNG key, as `jax.random.key` makes it."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        came = type(key).__name__ if dtype is None else f"a {dtype} array of shape {key.shape}"
        raise JaxNodesError(
            f"expected a typed PRNG key, got {came}; make one with jax.random.key(seed) "
            "(a raw key becomes typed by jax.random.wrap_key_data)",
            where,
        )
    check(key.shape == (), f"expected one key, got keys of shape {key.shape}; use jax.vmap", where)


def check_count(value: Any, name: str, where: str, least: int = 1) -> None:
    """Raises unless `value` is a whole number of at least `least`."""
    fine = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
    check(fine, f"expected {name} to be a whole number of at least {least}, got {value!r}", where)


def check_number(
    value: Any, name: str, where: str, *, least: float = -math.inf, most: float = math.inf
) -> None:
    """Raises unless `value` is a finite number between `least` and `most`."""
    fine = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    span = {
        (True, True): "",
        (False, True): f" of at least {least:g}",
        (False, False): f" between {least:g} and {most:g}",
    }.get((least == -math.inf, most == math.inf), f" of at most {most:g}")
    check(
        fine and math.isfinite(value) and least <= value <= most,
        f"expected {name} to be a finite number{span}, got {value!r}",
        where,
    )


def describe(x: Any) -> str:
    """Shape and dtype of an array as errors print them: `float32 (32, 63)`."""
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    return type(x).__name__ if shape is None else f"{dtype} {tuple(shape)}"
