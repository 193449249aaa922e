"""A network in a folder: what it is, in `config.json`, and its variables beside it.

Reading it runs no code but constructors, and finds what was damaged, edited, or
brought together from two saves.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.errors import JaxNodesError, check
from jaxnodes.layers.serialization import from_config, to_config
from jaxnodes.training.files import read_file, unusable, write_atomically
from jaxnodes.training.variable_files import (
    Variables,
    check_like,
    digest_of,
    flat_variables,
    read_variables,
    save_variables,
)
from jaxnodes.training.variable_files import load_variables as load_variables

CONFIG, VARIABLES = "config.json", "variables.safetensors"


def save_network(
    folder: str | Path,
    net: Any,
    variables: Any,
    *,
    input_spec: Any,
    extra: Mapping[str, Any] | None = None,
    allow_nonfinite: bool = False,
) -> None:
    """Writes `config.json` and `variables.safetensors`, from which `load_network` rebuilds all.

    Args:
      folder: made if it isn't there.
      net: made of public layers and registered functions (see `jn.to_config`).
      variables: `(params, state)` of this network.
      input_spec: an array or `jax.ShapeDtypeStruct` of a batch that `net.init` takes.
      extra: further entries of the config (preprocessing, class names): JSON values.
      allow_nonfinite: as in `save_variables`.

    Raises:
      JaxNodesError: a network that no config can describe, variables of another one, a
        NaN or an infinity, or a folder that can't be written to.
    """
    where = "save_network"
    config = {
        "jaxnodes": library_version(),
        "network": to_config(net),
        "input": {"shape": list(input_spec.shape), "dtype": jnp.dtype(input_spec.dtype).name},
    }
    extra = dict(extra or {})
    taken = sorted({*config, "sha256"} & set(extra))
    check(not taken, f"expected extra entries by other names, got {taken}", where)
    try:
        config = json.loads(json.dumps({**config, **extra}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise JaxNodesError(f"expected extra to hold JSON values ({error})", where) from None
    check_like(dict(flat_variables(variables, where)), _specs(net, config), where)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(error, folder, "a folder to write to", where) from None
    digest = save_variables(folder / VARIABLES, variables, allow_nonfinite=allow_nonfinite)
    config["sha256"] = _config_digest(config, digest)
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_network(folder: str | Path) -> tuple[Any, Variables, dict[str, Any]]:
    """The network that `save_network` wrote, without the code that built it.

    Args:
      folder: with `config.json` and `variables.safetensors`.

    Returns:
      `(net, variables, config)`.

    Raises:
      JaxNodesError: a missing, damaged or edited file, or two files of different saves.

    Example:

    >>> import tempfile, jax, jax.numpy as jnp, jaxnodes as jn
    >>> net, x = jn.Sequential(jn.Dense(8, "relu"), jn.Dense(3)), jnp.ones((1, 4))
    >>> folder = tempfile.mkdtemp()
    >>> save_network(folder, net, net.init(jax.random.key(0), x), input_spec=x)
    >>> loaded, variables, config = load_network(folder)
    >>> loaded == net, config["input"]
    (True, {'shape': [1, 4], 'dtype': 'float32'})
    """
    folder, where = Path(folder), "load_network"
    check(
        folder.is_dir(),
        f"expected the folder of a saved network, got {str(folder)!r} (no such folder)",
        where,
    )
    config = _read_config(folder / CONFIG)
    data = read_file(folder / VARIABLES, where)
    mine = config.get("sha256")
    check(
        mine == _config_digest(config, digest_of(data, f"{where} {VARIABLES}")),
        f"expected {CONFIG} and {VARIABLES} as one save wrote them, got one that was edited, "
        f"damaged, or of another save in {folder}; save the network again",
        where,
    )
    net = from_config(config["network"])
    like = _specs(net, config)
    return net, read_variables(data, like, f"{where} {VARIABLES}"), config


def _read_config(path: Path) -> dict[str, Any]:
    where = "load_network"
    try:
        config = json.loads(read_file(path, where))
    except ValueError as error:
        raise JaxNodesError(
            f"expected JSON in {path}, got a damaged file ({error})", where
        ) from None
    known = isinstance(config, dict) and {"network", "input"} <= set(config)
    check(known, f"expected {path} to hold a 'network' and its 'input', got neither", where)
    return config


def _config_digest(config: Mapping[str, Any], variables_digest: str) -> str:
    """The digest of a config together with its variables, however the JSON is laid out."""
    entries = {name: value for name, value in config.items() if name != "sha256"}
    text = json.dumps(entries, sort_keys=True) + variables_digest
    return hashlib.sha256(text.encode()).hexdigest()


def _specs(net: Any, config: Mapping[str, Any]) -> Any:
    """Shapes and dtypes of the variables that `net.init` makes for the config's input."""
    spec = jax.ShapeDtypeStruct(tuple(config["input"]["shape"]), config["input"]["dtype"])
    return jax.eval_shape(lambda: net.init(jax.random.key(0), spec))


def library_version() -> str:
    """The version of jaxnodes, where it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jaxnodes")
    except PackageNotFoundError:
        return "unknown"
