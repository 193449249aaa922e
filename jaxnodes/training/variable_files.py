"""Variables in files: no pickle, and no damage that goes unseen.

They are written in the safetensors format, each array under its path
(`params/dense1/w`), with the SHA-256 of the whole file in the header, so that one
flipped bit anywhere is found. A file is written beside its old self, synced, and put
in its place in one step: whoever is killed in the middle leaves the old one whole.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, describe, is_concrete
from jaxnodes.training.files import read_file, write_atomically

Variables = tuple[dict[str, Any], dict[str, Any]]

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
    arrays = {
        name: _host_array(value, name, where) for name, value in flat_variables(variables, where)
    }
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
    return read_variables(read_file(path, "load_variables"), like, f"load_variables {path.name}")


def flat_variables(variables: Any, where: str) -> Iterator[tuple[str, Any]]:
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


def read_variables(data: bytes, like: Any, where: str) -> Variables:
    """What the bytes of a file hold, once nothing in them is other than it was written."""
    digest_of(data, where)
    from safetensors import deserialize

    arrays = {name: _device_array(name, entry, where) for name, entry in deserialize(data)}
    if like is not None:
        check_like(arrays, like, where)
    params, state = {}, {}
    for name, array in arrays.items():
        kind, *path, last = name.split("/")
        tree = params if kind == "params" else state
        for part in path:
            tree = tree.setdefault(part, {})
        tree[last] = array
    return params, state


def digest_of(data: bytes, where: str) -> str:
    """The digest of a file, if it is that of its bytes."""
    found = _DIGEST.search(data)
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


def check_like(arrays: Mapping[str, Any], like: Any, where: str) -> None:
    """Raises unless the arrays have the paths, shapes and dtypes of `like`."""
    expected = dict(flat_variables(like, where))
    missing, strange = (
        sorted(set(a) - set(b)) for a, b in ((expected, arrays), (arrays, expected))
    )
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
