"""From an optimizer's rule to its pair of functions, `init` and `update`.

`init` knows the learning rate and puts it into the state, where `update` finds it.
So `update` depends on the rule and its settings alone, and is one function for all
rates.

In a program that imports optax the pair is an `optax.GradientTransformation`. To import
it takes a sixth of the time that JAX takes, so nothing here does: in other programs it is
a `Pair`, which optax takes as well, should it come later.
"""

import functools
import math
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, describe, is_concrete
from jaxnodes.packing import (
    Packed,
    groups,
    is_packed_like,
    joined,
    parted,
    wide_dtype,
    zeros,
)

if TYPE_CHECKING:
    import optax


class OptimizerState(NamedTuple):
    """The state of every optimizer here.

    Attributes:
      count: steps taken, int32, ().
      learning_rate: (), float32 (float64 under x64). With a schedule, the rate
        last used, and replacing it has no effect.
      moments: a tuple of trees like the parameters', in float32 or wider: none
        (sgd), the velocity (momentum), the mean square (rmsprop), or the mean and
        the mean square (adam, adamw). For parameters with many small arrays, each is
        `Packed` instead.
    """

    count: jax.Array
    learning_rate: jax.Array
    moments: tuple[Any, ...]


class Pair(NamedTuple):
    """The functions of an optimizer, as `optax.GradientTransformation` has and names them."""

    init: Callable
    update: Callable


class Rule(NamedTuple):
    """How an optimizer moves one leaf.

    Attributes:
      name: as errors call it.
      at: `at(t, **settings)` is what step number t, counted from 1 and a float,
        does to each leaf: `(g, p, *moments) -> (direction, *moments)`. The update
        is `-rate * direction`.
      moments: how many there are.
      needs_params: whether `update` must be given the parameters.
    """

    name: str
    at: Callable[..., Callable]
    moments: int
    needs_params: bool = False


def transformation(
    rule: Rule, learning_rate: Any, settings: dict[str, Any], mask: Callable | None = None
) -> "optax.GradientTransformation":
    """The pair of functions of a rule.

    Args:
      rule: what to do to each leaf.
      learning_rate: a nonnegative number, a traced scalar, or a schedule.
      settings: the rule's, hashable.
      mask: where to show the rule the parameters, and where zeros: a function from
        the parameters to a tree of booleans.
    """
    schedule = learning_rate if callable(learning_rate) else None
    if schedule is None:
        _check_rate(learning_rate, rule.name)

    def init(params):
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            _check_floating(leaf, path, "parameters", rule.name)

        return OptimizerState(
            count=jax.device_put(np.int32(0)),
            learning_rate=_scheduled(schedule, 0) if schedule else _as_rate(learning_rate),
            moments=tuple(zeros(params) for _ in range(rule.moments)),
        )

    # Only a program that has imported optax can ask whether this is one of its pairs.
    pair: Any = getattr(sys.modules.get("optax"), "GradientTransformation", Pair)
    return pair(init, _update(rule, schedule, mask, settings))


_UPDATES: weakref.WeakValueDictionary[tuple, Callable] = weakref.WeakValueDictionary()


def _update(rule: Rule, schedule: Callable | None, mask: Callable | None, settings: dict) -> Any:
    """The one `update` of these arguments."""
    items = tuple(settings.items())
    if schedule is None and mask is None:
        return _plain_update(rule, items)
    # These functions may close over traced values, which no cache may keep alive. An
    # update that lives keeps them alive itself, so that their ids are theirs alone.
    key = (rule, items, id(schedule), id(mask))
    update = _UPDATES.get(key)
    if update is None:
        update = _UPDATES[key] = _new_update(rule, schedule, mask, settings)
    return update


@functools.lru_cache(maxsize=1024)
def _plain_update(rule: Rule, items: tuple) -> Callable:
    return _new_update(rule, None, None, dict(items))


def _new_update(
    rule: Rule, schedule: Callable | None, mask: Callable | None, settings: dict
) -> Callable:
    def update(updates, state, params=None):
        _check_update(rule, updates, state, params)
        count = jnp.minimum(state.count, jnp.iinfo(state.count.dtype).max - 1) + 1
        rate = _scheduled(schedule, state.count) if schedule else _as_rate(state.learning_rate)
        step = rule.at(count.astype(rate.dtype), **settings)

        params = updates if params is None else params
        shown = params if mask is None else mask(params)
        check(
            jax.tree.structure(shown) == jax.tree.structure(params),
            f"expected a mask like the parameters', {jax.tree.structure(params)}, got "
            f"{jax.tree.structure(shown)}; jax.tree.map over the parameters makes one",
            rule.name,
        )
        leaves = map(jax.tree.leaves, (updates, params, shown))
        rows = [_Row(g, p, True if mask is None else s) for g, p, s in zip(*leaves, strict=True)]
        moves, moments = _moved(step, rate, rows, state.moments)
        moves = jax.tree.structure(updates).unflatten(moves)
        return moves, OptimizerState(count, rate, moments)

    update.__name__ = update.__qualname__ = f"{rule.name}_update"
    return update


class _Row(NamedTuple):
    """A gradient, its parameter, and where the rule is shown it."""

    gradient: Any
    parameter: Any
    shown: Any

    def inputs(self) -> tuple[jax.Array, jax.Array]:
        """The gradient, and what the rule sees of the parameter."""
        wide = wide_dtype(self.parameter)
        g, p = (jnp.asarray(a).astype(wide) for a in self[:2])
        return g, p if self.shown is True else jnp.where(self.shown, p, 0)


def _moved(
    step: Callable, rate: jax.Array, rows: list[_Row], moments: tuple[Any, ...]
) -> tuple[list[jax.Array], tuple[Any, ...]]:
    """The updates of all rows, and the moments after the step."""
    moves: list[Any] = [None] * len(rows)
    columns = [jax.tree.leaves(moment) for moment in moments]
    for place, group in enumerate(groups(moments, [row.parameter for row in rows])):
        inputs = [rows[i].inputs() for i in group]
        g, p = map(joined, zip(*inputs, strict=True))
        direction, *new = step(g, p, *(column[place] for column in columns))
        for column, array in zip(columns, new, strict=True):
            column[place] = array
        move = -rate.astype(direction.dtype) * direction
        for i, part in zip(group, parted(move, [g for g, _ in inputs]), strict=True):
            moves[i] = part.astype(jnp.result_type(rows[i].parameter))
    return moves, tuple(
        jax.tree.structure(moment).unflatten(column)
        for moment, column in zip(moments, columns, strict=True)
    )


def _check_update(rule: Rule, gradients: Any, state: Any, params: Any) -> None:
    check(
        isinstance(state, OptimizerState) and len(state.moments) == rule.moments,
        f"expected the state that its own init returned, got {type(state).__name__}",
        rule.name,
    )
    check(
        params is not None or not rule.needs_params,
        "expected the parameters, since they decay; update(gradients, state, params)",
        rule.name,
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        _check_floating(leaf, path, "gradients", rule.name)
    for like in (params, *state.moments[:1]):
        if isinstance(like, Packed):
            check(
                is_packed_like(like, gradients),
                "expected gradients like the parameters that the state was made for; take both "
                "from the same network",
                rule.name,
            )
        elif like is not None:
            _check_alike(gradients, like, rule.name)


def _scheduled(schedule: Callable, count: Any) -> jax.Array:
    # Optax's schedules mix integers and floats, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        return _as_rate(schedule(jnp.asarray(count, jnp.int32)))


def _as_rate(rate: Any) -> jax.Array:
    """A copy, since the state may be donated, always of the same type, since it may be traced."""
    return jnp.array(rate, jnp.result_type(float))


def _check_rate(rate: Any, where: str) -> None:
    kinds = (int, float, np.ndarray, np.generic, jax.Array)
    scalar = isinstance(rate, kinds) and not isinstance(rate, bool) and jnp.shape(rate) == ()
    came = describe(rate) if hasattr(rate, "shape") else repr(rate)
    check(
        scalar,
        f"expected a learning rate that is a number or a schedule, got {came}; "
        "use jax.vmap for several rates",
        where,
    )
    if is_concrete(rate):
        number(np.asarray(rate).item(), "the learning rate", where)


def _check_floating(leaf: Any, path: Any, kind: str, where: str) -> None:
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
        raise JaxNodesError(
            f"expected floating {kind}, got {describe(leaf)} at {_keystr(path)}; "
            "optax.masked leaves such out",
            where,
        )


def _check_alike(gradients: Any, params: Any, where: str) -> None:
    if jax.tree.structure(gradients) == jax.tree.structure(params):
        pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(params), strict=True)
        if all(jnp.shape(g) == jnp.shape(p) for g, p in pairs):
            return
    got, expected = (
        {_keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (gradients, params)
    )
    for path in {**expected, **got}:
        if got.get(path) != expected.get(path):
            raise JaxNodesError(
                f"expected gradients like the parameters, {expected.get(path, 'nothing')} at "
                f"{path}, got {got.get(path, 'nothing')}; take both from the same network",
                where,
            )
    raise JaxNodesError(
        f"expected gradients in a tree like the parameters', {jax.tree.structure(params)}, got "
        f"{jax.tree.structure(gradients)}",
        where,
    )


def _keystr(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "the root"


def number(
    value: Any, name: str, where: str, *, above: float = -math.inf, below: float = math.inf
) -> float:
    """`value` as a Python number: at least 0, and between the limits."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    fine = real and math.isfinite(value) and value >= 0 and above < value < below
    kind = "a positive number" if above == 0 else "a nonnegative number"
    limit = "" if below == math.inf else f" below {below}"
    mend = "; only the rate may be an array" if isinstance(value, jax.Array) else ""
    check(fine, f"expected {name} to be {kind}{limit}, got {value}{mend}", where)
    return float(value)
