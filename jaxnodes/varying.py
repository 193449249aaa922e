"""Values inside `jax.shard_map`, which may differ between devices.

Most of JAX's operations take operands of which some differ and some don't; a loop's carry and a
primitive of our own want all of them alike.
"""

from typing import Any

import jax


def varying(tree: Any) -> frozenset:
    """The mesh axes along which any of these arrays differs between devices."""
    types = [jax.typeof(leaf).manual_axis_type for leaf in jax.tree.leaves(tree)]
    return frozenset().union(*(kind.varying for kind in types))


def vary_alike(tree: Any) -> Any:
    """The same arrays, all as ones that differ along every axis that any of them does.

    The transpose of this cast adds up: an array that was the same everywhere has the sum of all
    devices' gradients.
    """
    axes = varying(tree)

    def cast(leaf):
        missing = axes - varying(leaf)
        return jax.lax.pcast(leaf, tuple(missing), to="varying") if missing else leaf

    return jax.tree.map(cast, tree)
