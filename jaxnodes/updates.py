"""From an optimizer's rule to its pair of functions, `init` and `update`.

The pair is optax's, an `optax.GradientTransformation`. `init` knows the learning
rate and puts it into the state, where `update` finds it. So `update` depends on
the rule and its settings alone, and is one function for all rates.
"""

import functools
import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import JaxNodesError, check, describe, is_concrete

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
        the mean square (adam, adamw).
    """

    count: jax.Array
    learning_rate: jax.Array
    moments: tuple[Any, ...]


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
    import optax

    schedule = learning_rate if callable(learning_rate) else None
    if schedule is None:
        _check_rate(learning_rate, rule.name)

    def init(params):
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            _check_floating(leaf, path, "parameters", rule.name)

        def zeros():
            return jax.tree.map(lambda p: jnp.zeros_like(p, _wide(p)), params)

        return OptimizerState(
            count=jnp.zeros((), jnp.int32),
            learning_rate=_scheduled(schedule, 0) if schedule else _as_rate(learning_rate),
            moments=tuple(zeros() for _ in range(rule.moments)),
        )

    return optax.GradientTransformation(init, _update(rule, schedule, mask, settings))


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
        import optax

        _check_update(rule, updates, state, params)
        count: Any = optax.safe_increment(state.count)
        rate = _scheduled(schedule, state.count) if schedule else _as_rate(state.learning_rate)
        step = rule.at(count.astype(rate.dtype), **settings)

        def move(g, p, shown, *moments):
            g, p = jnp.asarray(g), jnp.asarray(p)
            wide = _wide(p)
            seen = p.astype(wide) if mask is None else jnp.where(shown, p.astype(wide), 0)
            direction, *moments = step(g.astype(wide), seen, *moments)
            return (-rate.astype(wide) * direction).astype(p.dtype), *moments

        params = updates if params is None else params
        shown = params if mask is None else mask(params)
        check(
            jax.tree.structure(shown) == jax.tree.structure(params),
            f"expected a mask like the parameters', {jax.tree.structure(params)}, got "
            f"{jax.tree.structure(shown)}; jax.tree.map over the parameters makes one",
            rule.name,
        )
        trees = (updates, params, shown, *state.moments)
        rows = zip(*map(jax.tree.leaves, trees), strict=True)
        moved = [move(*row) for row in rows]
        structure = jax.tree.structure(updates)
        updates, *moments = [
            structure.unflatten([row[i] for row in moved]) for i in range(1 + rule.moments)
        ]
        return updates, OptimizerState(count, rate, tuple(moments))

    update.__name__ = update.__qualname__ = f"{rule.name}_update"
    return update


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
        if like is not None:
            _check_alike(gradients, like, rule.name)


def _wide(p: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(np.promote_types(jnp.result_type(p), np.float32))


def _scheduled(schedule: Callable, count: Any) -> jax.Array:
    # Optax's schedules mix integers and floats, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        return _as_rate(schedule(jnp.asarray(count, jnp.int32)))


def _as_rate(rate: Any) -> jax.Array:
    """A copy, since the state may be donated, always of the same type, since it may be traced."""
    return jnp.array(rate).astype(jnp.result_type(float))


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
    check(
        jnp.issubdtype(jnp.result_type(leaf), jnp.floating),
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
