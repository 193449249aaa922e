"""Variables and networks in files: no pickle, no code, and no damage that goes unseen.

Variables are written in the safetensors format, each array under its path
(`params/dense1/w`), with the SHA-256 of the whole file in the header, so that one
flipped bit anywhere is found. A file is written beside its old self, synced, and put
in its place in one step: whoever is killed in the middle leaves the old one whole.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, describe, is_concrete
from jaxnodes.layers.serialization import from_config, to_config

Variables = tuple[dict[str, Any], dict[str, Any]]

CONFIG, VARIABLES = "config.json", "variables.safetensors"

#: What safetensors calls each dtype that a file may hold.
_DTYPES: dict[str, np.dtype] = {
    code: jnp.dtype(dtype)
    for code, dtype in {
        "BOOL": "bool",
        **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
        **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
        **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
        "BF16": jnp.bfloat16,
        "C64": "complex64",
    }.items()
}

# The digest is that of the file with zeros in the digest's own place.
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_NO_DIGEST = "0" * 64


def save_variables(path: str | Path, variables: Any, *, allow_nonfinite: bool = False) -> str:
    """Writes variables to a safetensors file, in one step.

    Args:
      path: the file; an old one is replaced, once the new one is whole.
      variables: `(params, state)`, nested dicts of arrays.
      allow_nonfinite: whether to write NaN and infinity. Training that went wrong must not
        replace what it had learned before.

    Returns:
      The file's SHA-256, as it says itself.

    Raises:
      JaxNodesError: a NaN or an infinity, with its path; anything but nested dicts of
        arrays; a folder that isn't there or can't be written to.

    Example:

    >>> import tempfile, jax, jax.numpy as jnp, jaxnodes as jn
    >>> variables = jn.Dense(3).init(jax.random.key(0), jnp.ones((1, 2)))
    >>> path = Path(tempfile.mkdtemp()) / "variables.safetensors"
    >>> digest = save_variables(path, variables)
    >>> jax.tree.map(jnp.shape, load_variables(path))
    ({'b': (3,), 'w': (2, 3)}, {})
    """
    where = "save_variables"
    arrays = {name: _host_array(value, name, where) for name, value in _flat(variables, where)}
    for name, array in arrays.items():
        check(
            allow_nonfinite or array.dtype.kind in "iub" or np.isfinite(array).all(),
            f"{name}: expected finite numbers, got NaN or infinity; go back to variables from "
            "before, or pass allow_nonfinite=True",
            where,
        )
    from safetensors.numpy import save

    data = save(arrays, {"sha256": _NO_DIGEST})
    digest = hashlib.sha256(data).hexdigest()
    write_atomically(path, data.replace(_NO_DIGEST.encode(), digest.encode(), 1))
    return digest


def load_variables(path: str | Path, like: Any = None) -> Variables:
    """The variables that `save_variables` wrote, bit for bit.

    Args:
      path: the file.
      like: `(params, state)` of arrays or `jax.ShapeDtypeStruct`s, which the file must fit
        in paths, shapes and dtypes. `jax.eval_shape(net.init, key, x)` makes them.

    Returns:
      `(params, state)`, nested dicts of JAX arrays.

    Raises:
      JaxNodesError: no such file, another format, a single bit that isn't as it was
        written, float64 without `jax_enable_x64`, or a path, shape or dtype other than
        those of `like`.
    """
    path = Path(path)
    return _variables(read_file(path, "load_variables"), like, f"load_variables {path.name}")


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
        "jaxnodes": _version(),
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
    _check_like(dict(_flat(variables, where)), _specs(net, config), where)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(error, folder, "a folder to write to", where) from None
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
        mine == _config_digest(config, _verified(data, f"{where} {VARIABLES}")),
        f"expected {CONFIG} and {VARIABLES} as one save wrote them, got one that was edited, "
        f"damaged, or of another save in {folder}; save the network again",
        where,
    )
    net = from_config(config["network"])
    like = _specs(net, config)
    return net, _variables(data, like, f"{where} {VARIABLES}"), config


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes a file such that whoever reads it, whenever, finds all of the old or of the new.

    Raises:
      JaxNodesError: a folder that isn't there or can't be written to, or a full disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unusable(error, path, "a file that can be written", "save") from None
    finally:
        temporary.unlink(missing_ok=True)


def read_file(path: Path, where: str) -> bytes:
    """The bytes of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(error, path, "a file that can be read", where) from None


def _sync_folder(folder: Path) -> None:
    """Makes the new name last through a power cut, where folders can be synced (POSIX)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flat(variables: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Each array with its path, `params/dense1/w`."""
    check(
        isinstance(variables, (tuple, list)) and len(variables) == 2,
        f"expected variables, the pair (params, state), got {describe(variables)}",
        where,
    )
    for name, tree in zip(("params", "state"), variables, strict=True):
        check(isinstance(tree, Mapping), f"expected {name}, a dict, got {describe(tree)}", where)
        yield from _leaves(tree, name, where)


def _leaves(tree: Any, path: str, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for name, value in tree.items():
        check(
            isinstance(name, str) and name and "/" not in name,
            f"{path}: expected names without '/', got {name!r}",
            where,
        )
        empty = isinstance(value, Mapping) and not value
        check(not empty, f"{path}/{name}: expected arrays, got an empty dict; leave it out", where)
        yield from _leaves(value, f"{path}/{name}", where)


def _host_array(value: Any, name: str, where: str) -> np.ndarray:
    fine = isinstance(value, (jax.Array, np.ndarray, np.generic)) and is_concrete(value)
    fine = fine and value.dtype in _DTYPES.values()
    check(
        fine,
        f"{name}: expected an array of {', '.join(d.name for d in _DTYPES.values())}, "
        f"got {describe(value)}",
        where,
    )
    return np.asarray(value, order="C")


def _variables(data: bytes, like: Any, where: str) -> Variables:
    """What the bytes of a file hold, once nothing in them is other than it was written."""
    _verified(data, where)
    from safetensors import deserialize

    arrays = {name: _device_array(name, entry, where) for name, entry in deserialize(data)}
    if like is not None:
        _check_like(arrays, like, where)
    params, state = {}, {}
    for name, array in arrays.items():
        kind, *path, last = name.split("/")
        tree = params if kind == "params" else state
        for part in path:
            tree = tree.setdefault(part, {})
        tree[last] = array
    return params, state


def _verified(data: bytes, where: str) -> str:
    """The digest of a file, if it is that of its bytes."""
    found = _DIGEST.search(data, 0, 8 + int.from_bytes(data[:8], "little"))
    check(
        found is not None,
        "expected a file that save_variables wrote, got another format or a damaged header",
        where,
    )
    assert found is not None
    blank = data[: found.start(1)] + _NO_DIGEST.encode() + data[found.end(1) :]
    digest = hashlib.sha256(blank).hexdigest()
    check(
        digest == found[1].decode(),
        "expected the bytes that were written, got others: the file is damaged; "
        "restore it from a copy",
        where,
    )
    return digest


def _device_array(name: str, entry: Mapping[str, Any], where: str) -> jax.Array:
    dtype = _DTYPES[entry["dtype"]]
    check(
        jax.dtypes.canonicalize_dtype(dtype) == dtype,
        f"{name}: expected jax_enable_x64 for {dtype}, which would be cut short without it; "
        "turn it on",
        where,
    )
    return jnp.asarray(np.frombuffer(entry["data"], dtype).reshape(entry["shape"]))


def _check_like(arrays: Mapping[str, Any], like: Any, where: str) -> None:
    """Raises unless the arrays have the paths, shapes and dtypes of `like`."""
    expected = dict(_flat(like, where))
    missing, strange = (sorted(set(a) - set(b)) for a, b in ((expected, arrays), (arrays, expected)))
    check(
        not missing and not strange,
        "expected the variables of this network, got "
        + " and ".join([*(f"no {name}" for name in missing), *strange][:4]),
        where,
    )
    for name, spec in expected.items():
        came = arrays[name]
        check(
            tuple(came.shape) == tuple(spec.shape) and came.dtype == spec.dtype,
            f"{name}: expected {describe(spec)}, got {describe(came)}; "
            "take variables of this same network",
            where,
        )


def _read_config(path: Path) -> dict[str, Any]:
    where = "load_network"
    try:
        config = json.loads(read_file(path, where))
    except ValueError as error:
        raise JaxNodesError(f"expected JSON in {path}, got a damaged file ({error})", where) from None
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


def _unusable(error: OSError, path: Path, expected: str, where: str) -> JaxNodesError:
    reason = error.strerror or type(error).__name__
    return JaxNodesError(f"expected {expected}, got {path} ({reason})", where)


def _version() -> str:
    from importlib.metadata import version

    return version("jaxnodes")
