"""The one file that knows the equations by which JAX holds programs inside programs.

A loop, a branch, a nested `jit`: each is one equation of a jaxpr that holds jaxprs
of its own, and each keeps them under other names, which change between versions
of JAX. Here they become alike: `bodies` lists the programs inside an equation,
`rebuild` makes the equation again with other programs in their place, through the
public function that made it first, and `bind` evaluates it as it stands.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import eval_jaxpr
from jax.extend.core import DebugInfo, Jaxpr, JaxprEqn, Literal, jaxprs_in_params
from jax.sharding import PartitionSpec, Sharding

from jaxnodes.interpreter.custom_gradients import jvp_with_records, vjp_with_records
from jaxnodes.interpreter.interventions import Patches, at_step, steps_of
from jaxnodes.two_forms import two_forms_p

Records = dict[str, Any]
Run = Callable[..., tuple[list, Records]]

# `jax.jit(inline=INLINE)` leaves no equation of its own in the program around it.
INLINE: Any = getattr(getattr(jax, "Inline", None), "JAX_EARLY", True)

CALLS = frozenset({"jit", "remat2", "shard_map", two_forms_p.name})
CUSTOM_GRADIENTS = frozenset({"custom_jvp_call", "custom_vjp_call"})
KNOWN = CALLS | CUSTOM_GRADIENTS | {"scan", "while", "cond"}


class Body(NamedTuple):
    """A program inside an equation.

    `operands[i]` is the operand of the equation that feeds input `i`; empty for an
    equation that isn't `KNOWN`. Its outputs are the equation's, one for one (but
    for the condition of a `while`).
    """

    jaxpr: Jaxpr
    consts: Sequence[Any]
    operands: Sequence[int]


def opened(jaxpr: Any) -> tuple[Jaxpr, Sequence[Any]]:
    """A jaxpr and its constants, whether JAX holds the two apart or not."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def bodies(eqn: JaxprEqn) -> list[Body]:
    """The programs inside an equation, in the order in which they run."""
    name, params, every = eqn.primitive.name, eqn.params, range(len(eqn.invars))
    if name in CALLS or name == "scan":
        return [Body(*opened(params["jaxpr"]), every)]
    if name in CUSTOM_GRADIENTS:
        return [Body(*opened(params["call_jaxpr"]), every)]
    if name == "cond":
        return [Body(*opened(branch), every[1:]) for branch in params["branches"]]
    if name == "while":
        test, carry = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        return [
            Body(*opened(params["cond_jaxpr"]), [*every[:test], *every[carry:]]),
            Body(*opened(params["body_jaxpr"]), every[test:]),
        ]
    return [Body(*opened(jaxpr), ()) for jaxpr in jaxprs_in_params(params)]


def carried(eqn: JaxprEqn) -> dict[int, int]:
    """Of a loop, the operand that each carried output becomes at the next step."""
    if eqn.primitive.name == "scan":
        consts, carry = _scan_groups(eqn)
    elif eqn.primitive.name == "while":
        consts = eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
        carry = len(eqn.outvars)
    else:
        return {}
    return {i: consts + i for i in range(carry)}


def bind(eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The outputs of one equation, bound as it stands, with all its rules.

    Args:
      eqn: an equation of a jaxpr.
      operands: a value for each of `eqn.invars` (those of literals aren't looked at).
    """
    values = {
        var: value
        for var, value in zip(eqn.invars, operands, strict=True)
        if not isinstance(var, Literal)
    }
    debug_info = DebugInfo("bind", eqn.primitive.name, None, None)
    alone = Jaxpr([], list(values), eqn.outvars, [eqn], debug_info=debug_info)
    return list(eval_jaxpr(alone, (), *values.values()))


def rebuild(eqn: JaxprEqn, operands: Sequence[Any], patches: Patches, run: Run) -> Any:
    """The outputs of a `KNOWN` equation whose programs are run another way.

    Args:
      eqn: the equation.
      operands: a value for each of its operands.
      patches: the interventions on the nodes inside it.
      run: `run(k, operands, patches, record_only=False) -> (outputs, records)`
        evaluates program `k`; `record_only` asks for records alone, and leaves no
        nodes behind.

    Returns:
      `(outputs, records)`; records of a scan are stacked over its steps.
    """
    return _REBUILD[eqn.primitive.name](eqn, operands, patches, run)


@contextlib.contextmanager
def context(eqn: JaxprEqn) -> Iterator[None]:
    """The scope and settings under which an equation was traced."""
    scope = str(eqn.source_info.name_stack)
    with eqn.ctx.manager, jax.named_scope(scope) if scope else contextlib.nullcontext():
        yield


def _jit(eqn, operands, patches, run):
    def function(*operands):
        outputs, records = run(0, _constrain(operands, eqn.params["in_shardings"]), patches)
        return _constrain(outputs, eqn.params["out_shardings"]), records

    function.__name__ = function.__qualname__ = eqn.params["name"]
    return jax.jit(function, inline=eqn.params["inline"])(*operands)


def _constrain(values, shardings):
    """What `jit` does with shardings that are given; the others aren't `Sharding`s."""
    return [
        jax.lax.with_sharding_constraint(value, sharding)
        if isinstance(sharding, Sharding)
        else value
        for value, sharding in zip(values, shardings, strict=True)
    ]


def _remat(eqn, operands, patches, run):
    options = {"prevent_cse": eqn.params["prevent_cse"], "policy": eqn.params["policy"]}
    return jax.checkpoint(lambda *operands: run(0, operands, patches), **options)(*operands)


def _shard_map(eqn, operands, patches, run):
    """Each device applies the same patches to what it sees."""
    params, every = eqn.params, PartitionSpec()
    leaves, tree = jax.tree.flatten(patches)
    arrays = [None if callable(leaf) else leaf for leaf in leaves]

    def function(operands, arrays):
        here = [
            leaf if array is None else array for leaf, array in zip(leaves, arrays, strict=True)
        ]
        return run(0, operands, tree.unflatten(here))

    return jax.shard_map(
        function,
        mesh=params["mesh"],
        in_specs=(list(params["in_specs"]), every),
        out_specs=(list(params["out_specs"]), every),
        check_vma=params["check_vma"],
        axis_names=params["newly_manual_axes"],
    )(list(operands), arrays)


def varies(eqn: JaxprEqn, aval: Any) -> bool:
    """Whether a value inside a `shard_map` may differ between devices."""
    return not eqn.params["check_vma"] or bool(aval.manual_axis_type.varying)


def _scan_groups(eqn: JaxprEqn) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many are carried."""
    if "ft_in" in eqn.params:
        consts, carry, _ = eqn.params["ft_in"].unpack()
        return len(consts), len(carry)
    return eqn.params["num_consts"], eqn.params["num_carry"]


def _scan(eqn, operands, patches, run):
    consts, carries = _scan_groups(eqn)
    end = consts + carries

    def step(carry, slices):
        xs, of_step = slices
        outputs, records = run(0, [*operands[:consts], *carry, *xs], at_step(patches, of_step))
        return outputs[:carries], (outputs[carries:], records)

    carry, (ys, records) = jax.lax.scan(
        step,
        list(operands[consts:end]),
        (list(operands[end:]), steps_of(patches)),
        **{option: eqn.params[option] for option in ("length", "reverse", "unroll")},
    )
    return [*carry, *ys], records


def _while(eqn, operands, patches, run):
    test, end = eqn.params["cond_nconsts"], eqn.params["cond_nconsts"] + eqn.params["body_nconsts"]
    outputs = jax.lax.while_loop(
        lambda carry: run(0, [*operands[:test], *carry], patches)[0][0],
        lambda carry: run(1, [*operands[test:end], *carry], patches)[0],
        list(operands[end:]),
    )
    return outputs, {}


def _cond(eqn, operands, patches, run):
    def branch(k):
        return lambda *operands: run(k, operands, patches)

    branches = [branch(k) for k in range(len(eqn.params["branches"]))]
    if patches:
        return jax.lax.switch(operands[0], branches, *operands[1:])
    # `switch` would clamp the index once more: the program of a recorded function whose
    # records are dropped would be longer than that of the function.
    traced = [jax.make_jaxpr(branch, return_shape=True)(*operands[1:]) for branch in branches]
    params = {**eqn.params, "branches": tuple(jaxpr for jaxpr, _ in traced)}
    outputs = eqn.primitive.bind(*operands, **params)
    return jax.tree.unflatten(jax.tree.structure(traced[0][1]), outputs)


def _custom_gradient(eqn, operands, patches, run):
    """Patched, the primal is differentiated as it stands; recorded, nothing changes."""
    if patches:
        return run(0, operands, patches)
    with_records = jvp_with_records if "jvp" in eqn.primitive.name else vjp_with_records
    return with_records(
        lambda *operands: run(0, operands, {}),
        lambda *operands: bind(eqn, operands),
        lambda *operands: run(0, operands, {}, record_only=True)[1],
    )(*operands)


def _two_forms(eqn, operands, patches, run):
    return run(0, operands, patches)


_REBUILD = {
    "jit": _jit,
    two_forms_p.name: _two_forms,
    "remat2": _remat,
    "shard_map": _shard_map,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_jvp_call": _custom_gradient,
    "custom_vjp_call": _custom_gradient,
}
