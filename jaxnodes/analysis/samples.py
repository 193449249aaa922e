"""Getting a function and its data ready to be measured: `prepare`, and what runs a measure."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnodes.analysis.inference import check_inference
from jaxnodes.analysis.model import Arrays, Model, Nodes, take
from jaxnodes.analysis.sites_of import layer_steps
from jaxnodes.compiling import compiler_options
from jaxnodes.errors import JaxNodesError, check, check_count, is_concrete
from jaxnodes.interpreter.program import Program
from jaxnodes.interpreter.references import Cache, deref, ref
from jaxnodes.interpreter.sites import reach, unknown_name
from jaxnodes.interpreter.tracing import Traced, trace


def prepare(
    f: Callable,
    variables: Any,
    x: Any,
    *,
    nodes: Collection[str] | None = None,
    auto: bool = False,
    batch_size: int = 256,
    where: str,
    exact: bool = False,
    recorded: bool = False,
    each: bool = False,
    gated: bool = False,
) -> tuple[Model, Arrays]:
    """A function traced for its data, and the arrays of both.

    Args:
      f: a function of inference `f(variables, x)` that names nodes.
      variables, x: its arguments; every leaf of `x` is (N, ...).
      nodes: names of those to measure; `None` is all.
      auto: whether to find nodes in a function that names none.
      batch_size: how many samples go through at once, at most.
      where: the measure, for errors.
      exact: whether a name means one site, and not its repetitions too.
      recorded: whether it asks for nodes' values.
      each: whether it tells samples apart, and so asks where they are in these values.
      gated: whether nodes are intervened on.
    """
    check(
        is_concrete((variables, x)),
        "expected arrays of numbers, got traced ones; call it outside of jit, grad and vmap",
        where,
    )
    check_count(batch_size, "batch_size", where)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(x)]
    n = count_samples(leaves, where)
    tile = -(-n // -(-n // batch_size))  # tiles as alike as can be: little fills the last
    structure = jax.tree.structure(x)
    first = structure.unflatten([jax.lax.slice_in_dim(leaf, 0, tile) for leaf in leaves])
    traced = trace(f, (variables, first), {}, auto=auto, where=where)
    program = traced.program
    asked = _asked(program, nodes, exact, where)
    program.check_patched(asked if gated else (), where)
    program.check_recorded(asked if recorded or each else (), where, "nodes")
    check_inference(traced, len(leaves), tile)
    axes = dict.fromkeys(asked)
    if each:
        more = [jax.ShapeDtypeStruct((tile + 1, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        again = trace(f, (variables, structure.unflatten(more)), {}, auto=auto, where=where)
        axes = {name: _sample_axis(traced, again, name, tile, where) for name in asked}
    constant = len(traced.consts) + len(traced.args) - len(leaves)
    measured = tuple(
        Nodes(program.sites[name], layer_steps(program, name, constant), axes[name])
        for name in asked
    )
    for of_site in measured if gated else ():
        check(
            jnp.issubdtype(of_site.site.dtype, jnp.floating),
            f"expected floating nodes, got {of_site.site.name!r} of dtype {of_site.site.dtype}; "
            "name the others by nodes=",
            where,
        )
    model = Model(program, traced.run, traced.out_tree, len(leaves), n, tile, measured)
    return model, Arrays(traced.consts, traced.args[: len(traced.args) - len(leaves)], leaves)


def count_samples(leaves: Sequence[Any], where: str) -> int:
    """The length of the first axis, which all arrays share."""
    lengths = {leaf.shape[:1] for leaf in leaves}
    check(
        len(lengths) == 1 and () not in lengths,
        f"expected data arrays of one length on the first axis, got {sorted(lengths)}",
        where,
    )
    ((n,),) = lengths
    check(n > 0, "expected at least one sample, got none", where)
    return n


_programs = Cache(maxsize=512)


def compiled(measure: Callable, model: Any, *options: Any) -> Callable:
    """`measure(model, *options, ...)` compiled, one program for each choice of these.

    A metric or a loss among them doesn't live on because of it, nor what that closes over.

    Args:
      measure: a function of all of them and of arrays.
      model: a `Model`, or a question about one.
      options: more that isn't arrays.
    """
    options = tuple(ref(option, unhashable=True) for option in (model, *options))

    def run(*arrays):
        return measure(*map(deref, options), *arrays)

    run.__name__ = measure.__name__

    def program():
        return jax.jit(run, compiler_options=compiler_options(model.small_products))

    return _programs.get(measure, options, program)


def whole_outputs(model: Model, arrays: Arrays) -> Any:
    """What the function returns for all samples, by the program that is compiled already."""
    parts = [
        [out[: fill.sum()] for out in model.run(arrays, take(arrays.leaves, rows))[0]]
        for rows, fill in zip(model.rows, model.fill, strict=True)
    ]
    outs = [jnp.concatenate(of_tiles) for of_tiles in zip(*parts, strict=True)]
    return model.out_tree.unflatten(outs)


def whole_loss(model: Model, arrays: Arrays, loss: Callable, y: Any, where: str) -> jax.Array:
    """The loss of all samples. Its labels are numbers here, so bad ones are errors."""
    check(callable(loss), f"expected loss(outputs, y), got {type(loss).__name__}", where)
    value = loss(whole_outputs(model, arrays), y)
    shape = jnp.shape(value)
    check(
        shape == () and jnp.issubdtype(jnp.result_type(value), jnp.floating),
        f"expected a loss that returns one floating number, got shape {shape}; take its mean",
        where,
    )
    return value


def tracked(items: Iterable[Any], shown: bool, what: str) -> Iterable:
    """`items`, with a bar that says how far it has come, if `shown`."""
    if not shown:
        return items
    from rich.progress import track

    return track(items, description=what)


def _asked(program: Program, nodes: Collection[str] | None, exact: bool, where: str) -> list[str]:
    """The sites that are measured, in program order."""
    check(
        program.sites,
        "expected a function that names nodes, got none; name some by jn.node, or find them by "
        "auto=True",
        where,
    )
    if nodes is None:
        return list(program.sites)
    names = (nodes,) if isinstance(nodes, str) else nodes
    check(len(names), "expected the names of some nodes, got none; nodes=None is all", where)
    reached = names if exact else reach(names, program.sites)
    if wrong := [name for name in reached if name not in program.sites]:
        raise JaxNodesError(unknown_name(wrong[0], program.sites), where)
    return [name for name in program.sites if name in reached]


def _sample_axis(traced: Traced, again: Traced, name: str, tile: int, where: str) -> int:
    """The axis that grows by one when the tile does."""
    mine, other = (
        t.program.sites[name].shape if name in t.program.sites else () for t in (traced, again)
    )
    grown = [i for i, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]]
    if len(mine) == len(other) and [(mine[i], other[i]) for i in grown] == [(tile, tile + 1)]:
        return grown[0]
    raise JaxNodesError(
        f"expected nodes with an axis for the samples alone, got {name!r} of shape {mine} for "
        f"{tile} samples; name the others by nodes=",
        where,
    )
