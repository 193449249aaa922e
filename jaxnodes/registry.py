"""Looking things up by name: activations, initializers, optimizers."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxnodes.errors import JaxNodesError


def plain(name: str) -> str:
    """A name as people mean it, however they write it: `Leaky-ReLU` is `leakyrelu`."""
    return re.sub(r"[\s_-]+", "", name).lower()


def choose(name: Any, choices: Mapping[str, Any], kind: str, where: str) -> Any:
    """What `choices` holds under `name`, however it is spelled; an error lists them all."""
    found = {plain(key): value for key, value in choices.items()}
    if isinstance(name, str) and plain(name) in found:
        return found[plain(name)]
    close = difflib.get_close_matches(plain(name), found, n=1) if isinstance(name, str) else []
    hint = next((f"; did you mean {key!r}?" for key in choices if [plain(key)] == close), "")
    raise JaxNodesError(f"expected {kind} ({', '.join(choices)}), got {name!r}{hint}", where)


def resolve(value: Any, registry: Mapping[str, Callable], kind: str, where: str) -> Callable:
    """`value` itself if it is a function, else the one registered by that name."""
    if callable(value) and not isinstance(value, type):
        return value
    return choose(value, registry, f"a function or the name of {kind}", where)


def registered_name(function: Any, registry: Mapping[str, Callable]) -> str | None:
    """The name `function` is registered by: its own where that is one, else the first."""
    names = [name for name, registered in registry.items() if registered is function]
    own = getattr(function, "__name__", None)
    return own if own in names else next(iter(names), None)
