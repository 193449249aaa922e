"""`find_nonfinite`: the first operation that turned NaN or infinite."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnodes.analysis.probes import equations, is_loop, moment, origins, run_probed
from jaxnodes.errors import check, is_concrete
from jaxnodes.interpreter.program import Program
from jaxnodes.interpreter.sites import plain
from jaxnodes.interpreter.tracing import Traced, trace


class NonFinite(NamedTuple):
    """Where a number first wasn't finite.

    Attributes:
      scope: the layer, as a path; "" outside of all.
      node: the name of the node that was being computed, or whose gradient was; "" if none.
      primitive: JAX's name of the operation; "" if an argument came in so.
      kind: `"NaN"` or `"infinite"`.
      direction: `"backward"` for operations on the way back from outputs to inputs, else
        `"forward"`: there JAX works out factors of the derivative, too.
      steps: at which step of each loop around it, the outermost first, in the order in
        which they run.
      shape, dtype: of what it made.
      finite_inputs: whether all that the operation was given was finite; where not, it
        made NaN of infinities.
      argument: which argument came in so; "" if an operation made it.
    """

    scope: str
    node: str
    primitive: str
    kind: str
    direction: str
    steps: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any
    finite_inputs: bool
    argument: str = ""

    def __str__(self) -> str:
        if self.argument:
            return f"{self.argument} came in {self.kind} ({self.dtype} {self.shape})"
        place = self.node or self.scope or "the function"
        at = f" at step {', '.join(map(str, self.steps))}" if self.steps else ""
        given = "finite inputs" if self.finite_inputs else "infinite inputs"
        return (
            f"{place}: {self.primitive} ({self.dtype} {self.shape}) turned {self.kind} from "
            f"{given}{at}, {self.direction}"
        )


def find_nonfinite(f: Callable, *args: Any, auto: bool = False, **kwargs: Any) -> NonFinite | None:
    """The first layer, node and operation that turned NaN or infinite, on the way to an output.

    The function is run once more as one compiled program that looks at the result of
    every operation in it, inside `jax.jit`, loops and branches too. Of those that turned
    bad only those count from which bad numbers reach an output: a `log(0)` that a
    `jnp.where` leaves out is no fault.

    Args:
      f: any function that JAX can trace, of pytrees; one made by `jax.grad`, or a whole
        training step, too: then operations may be those of the way back.
      *args, **kwargs: its arguments.
      auto: whether to find nodes, for their names, in a function that names none.

    Returns:
      `NonFinite(scope, node, primitive, kind, direction, steps, shape, dtype, ...)`, which
      prints as a sentence; `None` if all outputs are finite, or infinite by constants alone.

    Raises:
      JaxNodesError: called inside of `jax.jit`; put it around.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> def loss(x):
    ...     with jax.named_scope("norm"):
    ...         return jn.node(jnp.sqrt(jnp.sum(x**2)), "size", axis=None)
    >>> jn.analysis.find_nonfinite(loss, jnp.zeros(3))
    >>> print(jn.analysis.find_nonfinite(jax.jit(jax.grad(loss)), jnp.zeros(3)))
    norm/size: div (float32 ()) turned infinite from finite inputs, forward
    """
    check(
        is_concrete((args, kwargs)),
        "expected arrays of numbers, got traced ones; put find_nonfinite around jit, grad or vmap",
        "find_nonfinite",
    )
    traced = trace(f, args, kwargs, auto=auto, where="find_nonfinite")
    program, values = traced.program, [*traced.consts, *traced.args]
    came_bad, out_bad, probes = jax.tree.map(np.asarray, _probed(program)(values))
    wanted = [i for i, bad in enumerate(out_bad) if bad]
    if not wanted:
        return None
    found, inputs = origins(program.jaxpr, wanted, probes)
    every = {path: (eqn, scope) for path, eqn, scope in equations(program.jaxpr)}
    loops = {path for path, (eqn, _) in every.items() if is_loop(eqn)}
    first = min(found, key=lambda path: moment(path, probes[path], loops), default=None)
    came = [i for i in sorted(inputs) if came_bad[i]]
    with_nan = [i for i in came if np.isnan(np.asarray(values[i])).any()]
    if with_nan or (came and (first is None or not probes[first].finite)):
        return _argument((with_nan or came)[0], bool(with_nan), traced, (f, args, kwargs))
    if first is None:
        return None
    (eqn, scope), probe = every[first], probes[first]
    backward = "transpose(" in scope
    output = next(i for i, bad in enumerate(probe.bad) if bad)
    return NonFinite(
        scope=plain(scope),
        node=_node(program, first, plain(scope), backward),
        primitive=eqn.primitive.name,
        kind="NaN" if probe.nan else "infinite",
        direction="backward" if backward else "forward",
        steps=tuple(int(step) for step in probe.steps),
        shape=eqn.outvars[output].aval.shape,
        dtype=eqn.outvars[output].aval.dtype,
        finite_inputs=bool(probe.finite),
    )


@functools.lru_cache(maxsize=64)
def _probed(program: Program) -> Callable:
    return jax.jit(functools.partial(run_probed, program.jaxpr))


def _node(program: Program, path: tuple[int, ...], scope: str, backward: bool) -> str:
    """The node of the same scope that comes next, or came last; else the next one."""
    places = sorted((p for ps in program.places.values() for p in ps), key=lambda p: p.path)
    alike = [place for place in places if plain(place.scope) == scope and scope]
    later = [place for place in alike or places if place.path >= path]
    if later and not (backward and not alike):
        return later[0].site
    return alike[-1].site if alike else ""


def _argument(place: int, nan: bool, traced: Traced, given: Any) -> NonFinite:
    """What is said of a constant or an input that isn't finite."""
    value = [*traced.consts, *traced.args][place]
    name = "an array that the function closes over"
    if place >= len(traced.consts):
        paths = [path for path, leaf in jax.tree_util.tree_leaves_with_path(given) if leaf is value]
        name = _path(paths[0]) if paths else "an argument"
    return NonFinite(
        scope="",
        node="",
        primitive="",
        kind="NaN" if nan else "infinite",
        direction="forward",
        steps=(),
        shape=np.shape(value),
        dtype=np.asarray(value).dtype,
        finite_inputs=False,
        argument=name,
    )


def _path(path: tuple) -> str:
    """Of a leaf of `(f, args, kwargs)`."""
    kind = path[0].idx
    return ("f", "args", "kwargs")[kind] + jax.tree_util.keystr(path[1:])
