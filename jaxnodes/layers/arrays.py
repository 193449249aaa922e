"""What layers ask of arrays: shapes, dtypes, and parameters that fit the description."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, describe

Params = Mapping[str, Any]
State = Mapping[str, Any]


def features_of(x: Any, where: str) -> int:
    """The size of the last axis of an input that `init` was given."""
    check(
        len(getattr(x, "shape", ())) >= 1,
        f"expected an array of at least one axis, got {describe(x)}",
        where,
    )
    return x.shape[-1]


def dtype_of(x: Any) -> Any:
    """The dtype for parameters of inputs like `x`: its floating one, else float32."""
    for leaf in jax.tree.leaves(x):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jax.dtypes.canonicalize_dtype(leaf.dtype)
    return jnp.dtype(jnp.float32)


def shapes_of(x: Any) -> Any:
    """`x` as `jax.ShapeDtypeStruct`s, in the dtypes JAX would give its arrays."""

    def leaf_spec(leaf):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            leaf = np.asarray(leaf)
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(leaf_spec, x)


def check_mappings(*trees: Any) -> None:
    """Raises unless parameters and state come in dicts."""
    for tree in trees:
        check(
            isinstance(tree, Mapping),
            f"expected params and state, a dict each, got {describe(tree)}; "
            "call apply(params, state, x) with the two that init returned",
            "apply",
        )


def check_names(params: Params, names: Iterable[str], where: str, may_lack: str = "") -> None:
    """Raises unless `params` holds just these arrays; that of name `may_lack` may be left out."""
    names = set(names)
    came = set(params) if isinstance(params, Mapping) else None
    if came is None or came | (names & {may_lack}) != names:
        said = type(params).__name__ if came is None else sorted(came)
        raise JaxNodesError(
            f"expected the parameters {sorted(names)}, got {said}; "
            "take them from init of this same network",
            where,
        )


def check_params(
    params: Params,
    shapes: Mapping[str, tuple[int | str | None, ...]],
    where: str,
    may_lack: str = "",
) -> None:
    """Raises unless `params` holds just these arrays, as `check_names`, of these shapes.

    `None` in a shape allows any size; a letter one that is the same wherever the letter stands.
    """
    check_names(params, shapes, where, may_lack)
    sizes = {}
    for name in (name for name in shapes if name in params):
        shape = jnp.shape(params[name])
        expected = tuple(sizes.get(size, size) for size in shapes[name])
        fits = len(shape) == len(expected) and all(
            want is None or isinstance(want, str) or want == size
            for want, size in zip(expected, shape, strict=True)
        )
        if not fits:
            wanted = tuple("any" if size is None else size for size in expected)
            raise JaxNodesError(
                f"expected {name!r} of shape {str(wanted).replace(chr(39), '')}, got {shape}; "
                "take the parameters from init of this same network",
                where,
            )
        sizes |= {w: n for w, n in zip(expected, shape, strict=True) if isinstance(w, str)}


def as_arrays(params: Params) -> Params:
    """Numbers and lists of them, as one writes parameters by hand, as arrays."""
    if not isinstance(params, Mapping):
        return params
    return {name: jnp.asarray(value) for name, value in params.items()}


def cast_inputs(params: Params, x: Any, dtype: Any, where: str) -> tuple[Params, jax.Array]:
    """Parameters and input in the dtype to compute in.

    That is `dtype` where the layer names one, else the parameters' own; `x` is
    widened to it where nothing can be lost, and refused otherwise.
    """
    params, x = jax.tree.map(jnp.asarray, params), jnp.asarray(x)
    floats = [v.dtype for v in jax.tree.leaves(params) if jnp.issubdtype(v.dtype, jnp.floating)]
    target = jnp.dtype(dtype) if dtype is not None else (floats[0] if floats else x.dtype)
    if x.dtype != target:
        widens = jnp.issubdtype(x.dtype, jnp.floating) and (
            dtype is not None or np.can_cast(x.dtype, target)
        )
        if not widens:
            integer = not jnp.issubdtype(x.dtype, jnp.inexact)
            mend = "scale it to floats first (x / 255 for pixels)" if integer else "cast x"
            raise JaxNodesError(f"expected {target} inputs, got {describe(x)}; {mend}", where)
        x = x.astype(target)
    return jax.tree.map(lambda p: p.astype(target) if p.dtype != target else p, params), x
