"""Tracing once for each function and each shape of its arguments.

`jax.make_jaxpr` remembers what it traced for as long as the function object lives
that it was given. So each function is kept in one such object, found again by what
the function *is* (`references.ref`), and each jaxpr has one `Program`, with one
compiled evaluator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxnodes.errors import check, is_concrete
from jaxnodes.interpreter.automatic import find_automatic
from jaxnodes.interpreter.control_flow import INLINE, opened
from jaxnodes.interpreter.interventions import Patches
from jaxnodes.interpreter.program import Program
from jaxnodes.interpreter.references import Cache, deref, ref

_functions = Cache(maxsize=128)
_SHAPES = 32  # programs kept for each function


class Traced(NamedTuple):
    """A function traced for some arguments.

    Attributes:
      program: its equations and its nodes; one object for all calls with these shapes.
      consts: the arrays that the function closes over.
      args: the arrays among its arguments, in order.
      out_tree: how its outputs are put together.
      run: `program.evaluate`, compiled: a function of `(consts, args, patches, record=)`.
    """

    program: Program
    consts: Sequence[Any]
    args: Sequence[Any]
    out_tree: Any
    run: Callable[..., Any]

    def apply(self, patches: Patches | None = None, record: Sequence[str] = ()) -> Any:
        """`(y, records)` for these arguments, under `patches`."""
        patches, record = patches or {}, tuple(record)
        if any(patch.function is not None for patch in patches.values()):
            # What functions close over, tracers too, is found by tracing once more.
            args = (self.consts, self.args, patches, record)
            outputs, records = trace(self.program.evaluate, args, {}, where="intervene").apply()[0]
        else:
            outputs, records = self.run(self.consts, self.args, patches, record=record)
        return self.out_tree.unflatten(outputs), records


class _Function:
    """A function of arrays alone, and the programs it has been traced to."""

    def __init__(self, treedef: Any, dynamic: tuple[bool, ...], statics: tuple):
        def function(*arrays):
            array, static = iter(arrays), iter(statics)
            leaves = [next(array) if is_array else deref(next(static)) for is_array in dynamic]
            f, args, kwargs = treedef.unflatten(leaves)
            return f(*args, **kwargs)

        self.trace = jax.make_jaxpr(function, return_shape=True)
        self.programs: dict[Any, tuple[Program, Callable]] = {}


def trace(
    f: Callable, args: tuple, kwargs: Mapping[str, Any], *, auto: bool = False, where: str
) -> Traced:
    """Traces `f` for these arguments.

    Args:
      f: a function, or a callable pytree.
      args, kwargs: pytrees of arrays, of `jax.ShapeDtypeStruct`s, and of anything
        else, which is static.
      auto: whether to find nodes at dense and convolution operations too.
      where: the transformation, for errors.
    """
    check(callable(f), f"expected a function, got {type(f).__name__}", where)
    leaves, treedef = jax.tree.flatten((f, args, dict(kwargs)))
    dynamic = tuple(map(_is_array, leaves))
    arrays = [leaf for leaf, is_array in zip(leaves, dynamic, strict=True) if is_array]
    function, forget = _function(treedef, dynamic, leaves)
    closed, out_shape = function.trace(*arrays)
    jaxpr, consts = opened(closed)
    if not is_concrete(*consts):
        forget()  # tracers must not outlive their trace in a cache
    out_tree = jax.tree.structure(out_shape)
    data = _data(f, args, kwargs, dynamic, where) if auto else ()
    if (jaxpr, data) not in function.programs:
        automatic = find_automatic(jaxpr, [*[False] * len(consts), *data]) if auto else {}
        program = Program(jaxpr, automatic)
        run = jax.jit(program.evaluate, static_argnames="record", inline=INLINE)
        while len(function.programs) >= _SHAPES:
            del function.programs[next(iter(function.programs))]
        function.programs[jaxpr, data] = program, run
    program, run = function.programs[jaxpr, data]
    return Traced(program, consts, arrays, out_tree, run)


def _function(treedef, dynamic, leaves) -> tuple[_Function, Callable[[], None]]:
    """The function that these leaves are the parts of, and how to forget it."""
    others = [leaf for leaf, is_array in zip(leaves, dynamic, strict=True) if not is_array]
    try:
        key, statics = (treedef, dynamic), tuple(map(ref, others))
        function = _functions.get(key, statics, lambda: _Function(treedef, dynamic, statics))
    except TypeError:  # something can't be hashed, so it can't be known again
        statics = tuple(ref(other, unhashable=True) for other in others)
        return _Function(treedef, dynamic, statics), lambda: None
    return function, lambda: _functions.drop(key, statics)


def _is_array(leaf: Any) -> bool:
    """Whether a leaf is traced: an array or a number. All else, a bool too, is static."""
    return type(leaf) in (int, float, complex) or (
        hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    )


def _data(f, args, kwargs, dynamic, where) -> tuple[bool, ...]:
    """For every array, whether it is data, that is, in an argument after the first.

    A callable pytree that has arrays of its own, as a module of equinox has, takes
    the place of the first argument.
    """
    own = any(map(_is_array, jax.tree.leaves(f)))
    check(
        own or len(args) + len(kwargs) > 1,
        "auto=True expects f(variables, x), where the data are the arguments after the first, "
        "but got one argument; add the other",
        where,
    )
    variables = len(jax.tree.leaves(f if own else (f, args[:1])))
    return tuple(i >= variables for i, is_array in enumerate(dynamic) if is_array)
