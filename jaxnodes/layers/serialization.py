"""A network as plain data, and back: what `config.json` holds.

    {"kind": "Sequential", "layers": [
        {"name": "dense1", "kind": "Dense", "features": 256, "activation": "relu"},
        {"name": "dropout1", "kind": "Dropout", "rate": 0.5},
        {"name": "dense2", "kind": "Dense", "features": 10}]}

There is no code in it: public layers by their class, functions by the names they are
registered by, and whatever differs from the defaults. So reading a config runs
nothing but constructors.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnodes.activations import activation_name
from jaxnodes.errors import JaxNodesError, check
from jaxnodes.initializers import initializer_name
from jaxnodes.layers import (
    attention_layers,
    base,
    batch_normalization,
    combinators,
    convolution_layers,
    decoders,
    embeddings,
    encoders,
    excitation,
    heads,
    neurons,
    normalization,
    pooling,
    positions,
    recurrent,
    regularization,
    reshaping,
    sequence_layers,
    transformers,
)
from jaxnodes.layers.base import Elementwise, Functions, Layer, as_layer
from jaxnodes.layers.combinators import Parallel, Sequential
from jaxnodes.registry import choose

_MODULES = (
    attention_layers,
    base,
    batch_normalization,
    combinators,
    convolution_layers,
    decoders,
    embeddings,
    encoders,
    excitation,
    heads,
    neurons,
    normalization,
    pooling,
    positions,
    recurrent,
    regularization,
    reshaping,
    sequence_layers,
    transformers,
)

#: Every layer that a config can name.
LAYERS: dict[str, type[Layer]] = {
    name: kind
    for module in _MODULES
    for name, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Layer)
    and kind.__module__ == module.__name__
    and kind not in (Layer, Functions)
    and not name.startswith("_")
}


def to_config(layer: Any) -> dict[str, Any]:
    """A layer as dicts, lists, strings and numbers, for `json.dump`.

    Args:
      layer: made of public layers, with activations and initializers that have names.

    Returns:
      `{"kind": ..., ...}` with the fields that differ from their defaults.

    Raises:
      JaxNodesError: anything else, with the path of the layer that holds it.

    Example:

    >>> import jaxnodes as jn
    >>> to_config(jn.Dense(10, jn.relu))
    {'kind': 'Dense', 'features': 10, 'activation': 'relu'}
    >>> to_config(jn.Sequential(jn.Dense(10), lambda x: x * 2))
    Traceback (most recent call last):
      ...
    jaxnodes.errors.JaxNodesError: lambda1: ...
    """
    kind = type(layer).__name__
    check(
        LAYERS.get(kind) is type(layer),
        f"expected a public layer of jaxnodes, got {kind}; {_ONLY}",
        "to_config",
    )
    config: dict[str, Any] = {"kind": kind}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if isinstance(layer, (Sequential, Parallel)) and field.name == "layers":
            config["layers"] = [{"name": name, **_within(name, to_config, v)} for name, v in value]
        elif field.default is dataclasses.MISSING or value != field.default:
            config[field.name] = _encoded(value, field.name, kind)
    return config


def from_config(config: Mapping[str, Any]) -> Layer:
    """The layer that `to_config` made `config` of.

    Args:
      config: `{"kind": ..., ...}`, as it is or as read from JSON.

    Returns:
      A layer, equal to the one that was written.

    Raises:
      JaxNodesError: an unknown kind or field, a missing one, or a value that the layer
        refuses, with the path of the layer.

    Example:

    >>> from_config({"kind": "Dense", "features": 10, "activation": "relu"})
    Dense(10, activation=relu)
    """
    check(
        isinstance(config, Mapping) and "kind" in config,
        f"expected a mapping with a 'kind' (that to_config made), got {config!r}",
        "from_config",
    )
    kind = choose(config["kind"], LAYERS, "the kind of a layer", "from_config")
    values = {name: value for name, value in config.items() if name != "kind"}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in values
    ]
    check(
        not unknown and not missing,
        f"expected the fields of {kind.__name__} ({', '.join(fields)}), got "
        + " and ".join(
            [*(f"an unknown {name!r}" for name in unknown), *(f"no {name!r}" for name in missing)]
        ),
        "from_config",
    )
    for name, value in values.items():
        check(
            isinstance(value, bool) == isinstance(fields[name].default, bool),
            f"expected {name} of {kind.__name__} to be "
            f"{'' if isinstance(fields[name].default, bool) else 'other than '}true or false, "
            f"got {value!r}",
            "from_config",
        )
    if kind is Elementwise:
        return as_layer(values["function"])
    children = _children(values.pop("layers")) if kind in (Sequential, Parallel) else {}
    try:
        return kind(**{name: _decoded(value) for name, value in values.items()}, **children)
    except (TypeError, AttributeError) as error:
        raise JaxNodesError(
            f"expected values that {kind.__name__} takes, got {values!r} ({error})", "from_config"
        ) from None


_ONLY = (
    "a config holds public layers and registered names only; "
    "keep the code that builds this network, and save its variables"
)


def _encoded(value: Any, name: str, kind: str) -> Any:
    if isinstance(value, Layer):
        return to_config(value)
    if isinstance(value, tuple):
        return [_encoded(item, name, kind) for item in value]
    if isinstance(value, np.dtype):
        return value.name
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)) and math.isfinite(value):
        return float(value)
    find = initializer_name if name.endswith("init") else activation_name
    registered = find(value) if callable(value) else None
    if registered is None:
        raise JaxNodesError(
            f"expected {name} of {kind} to be registered by a name, got "
            f"{base.function_name(value) if callable(value) else repr(value)}; {_ONLY}",
            "to_config",
        )
    return registered


def _decoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_config(value)
    return tuple(map(_decoded, value)) if isinstance(value, list) else value


def _children(configs: Any) -> dict[str, Any]:
    children = {}
    for config in configs if isinstance(configs, list) else [configs]:
        check(
            isinstance(config, Mapping) and isinstance(config.get("name"), str),
            f"expected layers to be a list of mappings with a 'name', got {config!r}",
            "from_config",
        )
        config = dict(config)
        name = config.pop("name")
        check(
            name not in children, f"expected names that differ, got {name!r} twice", "from_config"
        )
        children[name] = _within(name, from_config, config)
    return children


def _within(name: str, function: Callable, argument: Any) -> Any:
    try:
        return function(argument)
    except JaxNodesError as error:
        raise error.within(name) from None
