"""How layers are described: fields brought to one form, printed, and pickled."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check


def function_name(function: Callable) -> str:
    """The name a function goes by in paths and in printing."""
    inner = getattr(function, "func", function)  # of a functools.partial
    return getattr(inner, "__name__", type(inner).__name__).strip("<>")


def normalize(layer: Any, **resolvers: Callable) -> None:
    """For `__post_init__`: replaces fields by what their resolver makes of them.

    So that `Dense(3, "relu")` equals, prints and compiles as `Dense(3, jn.relu)`. A field
    `dtype` is resolved without being named: `"bfloat16"` is `jnp.bfloat16`.
    """
    if hasattr(layer, "dtype"):
        resolvers["dtype"] = lambda dtype: _compute_dtype(dtype, type(layer).__name__)
    for name, resolve in resolvers.items():
        value = getattr(layer, name)
        if value is not None:
            object.__setattr__(layer, name, resolve(value))


def _compute_dtype(dtype: Any, where: str) -> Any:
    try:
        floating = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    check(floating, f"expected a floating dtype (say jnp.bfloat16) or None, got {dtype!r}", where)
    return jnp.dtype(dtype)


class _ByName(NamedTuple):
    registry: str
    name: str


def pickled(value: Any) -> Any:
    from jaxnodes.activations import activation_name
    from jaxnodes.initializers import initializer_name

    if not callable(value) or isinstance(value, type):
        return value
    names = {"activation": activation_name(value), "initializer": initializer_name(value)}
    return next((_ByName(registry, name) for registry, name in names.items() if name), value)


def rebuilt(kind: Any, changed: dict[str, Any]) -> Any:
    from jaxnodes.activations import activation
    from jaxnodes.initializers import initializer

    find = {"activation": activation, "initializer": initializer}
    layer = object.__new__(kind)
    for field in dataclasses.fields(kind):
        value = changed.get(field.name, field.default)
        if isinstance(value, _ByName):
            value = find[value.registry](value.name)
        object.__setattr__(layer, field.name, value)
    return layer


def shown_fields(layer: Any) -> list[str]:
    """Fields as constructor arguments: the required ones, others where not the default."""
    shown = []
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        text = _shown(value)
        if field.default is dataclasses.MISSING:
            shown.append(f"{field.name}={text}" if field.kw_only else text)
        elif value != field.default:
            shown.append(f"{field.name}={text}")
    return shown


def _shown(value: Any) -> str:
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, type) or dataclasses.is_dataclass(value) or not callable(value):
        return repr(value)
    return function_name(value)
