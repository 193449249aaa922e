"""A program run with a look at every equation's result: is it finite?

All of it is one compiled program. Loops keep what they saw of their equations over
all steps, a branch that isn't taken has seen nothing.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.interpreter.control_flow import (
    CUSTOM_GRADIENTS,
    KNOWN,
    bind,
    bodies,
    carried,
    context,
    rebuild,
)
from jaxnodes.interpreter.program import Path
from jaxnodes.interpreter.sites import join

_ENTERED = KNOWN - {"shard_map"}  # inside it, devices differ
_LOOPS = ("scan", "while")


class Probe(NamedTuple):
    """What was seen of an equation.

    Attributes:
      bad: of each output, whether it ever was NaN or infinite.
      turned: whether the equation made NaN of what wasn't, or infinity of what was finite.
      steps: at which step of each loop around it that first was, the outermost first,
        counted in the order in which they run.
      nan: whether it then was NaN.
      finite: whether all of its operands then were finite.
    """

    bad: tuple[Any, ...]
    turned: Any
    steps: tuple[Any, ...]
    nan: Any
    finite: Any


Probes = dict[Any, Probe]  # by `Path`


def run_probed(jaxpr: Jaxpr, values: Sequence[Any]) -> tuple[list[Any], list[Any], Probes]:
    """Runs a program.

    Args:
      jaxpr: the program.
      values: of its constants and inputs.

    Returns:
      Which of the constants and inputs are bad, which outputs are, and the probes.
    """
    outputs, probes = _run(jaxpr, values, ())
    return [_bad(v) for v in values], [_bad(v) for v in outputs], probes


def equations(jaxpr: Jaxpr, path: Path = (), scope: str = "") -> Iterator[tuple[Path, Any, str]]:
    """Every equation with its path and its scope."""
    for i, eqn in enumerate(jaxpr.eqns):
        here, inner = (*path, i), join(scope, str(eqn.source_info.name_stack))
        yield here, eqn, inner
        if eqn.primitive.name in _ENTERED:
            for k, body in enumerate(bodies(eqn)):
                yield from equations(body.jaxpr, (*here, k), inner)


def origins(
    jaxpr: Jaxpr, wanted: Collection[int], probes: Mapping[Path, Probe], path: Path = ()
) -> tuple[set[Path], set[int]]:
    """Where that which made some outputs bad may have begun.

    Args:
      jaxpr: the program.
      wanted: which of its outputs were bad.
      probes: as returned, as numbers.
      path: of the program.

    Returns:
      The equations that turned bad, and the constants and inputs, by position, that
      the outputs depend on by bad values alone.
    """
    found: set[Path] = set()
    needed = {jaxpr.outvars[i] for i in wanted if not isinstance(jaxpr.outvars[i], Literal)}
    for i, eqn in reversed(list(enumerate(jaxpr.eqns))):
        here = (*path, i)
        bad = [k for k, v in enumerate(eqn.outvars) if v in needed and probes[here].bad[k]]
        if not bad:
            continue
        if eqn.primitive.name in _ENTERED:
            inside, operands = _inside(eqn, here, set(bad), probes)
            found |= inside
        else:
            operands = range(len(eqn.invars))
            if probes[here].turned:
                found.add(here)
        needed |= {eqn.invars[k] for k in operands if not isinstance(eqn.invars[k], Literal)}
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    return found, {k for k, var in enumerate(inputs) if var in needed}


def moment(path: Path, probe: Probe, loops: Collection[Path]) -> tuple[int, ...]:
    """Sorts equations by when they turned bad."""
    steps, key = iter(probe.steps), []
    for end, part in enumerate(path, 1):
        key.append(part)
        if end % 2:
            key.append(int(next(steps)) if path[:end] in loops else 0)
    return tuple(key)


def is_loop(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in _LOOPS


def _inside(eqn, here, wanted: set[int], probes) -> tuple[set[Path], set[int]]:
    """`origins` inside an equation, and the operands that they come from."""
    loop, found = carried(eqn), set()
    while True:
        operands: set[int] = set()
        for k, body in enumerate(bodies(eqn)):
            if eqn.primitive.name == "while" and k == 0:
                continue
            inside, inputs = origins(body.jaxpr, wanted, probes, (*here, k))
            found |= inside
            operands |= {
                body.operands[i - len(body.consts)] for i in inputs if i >= len(body.consts)
            }
        # What a step gets from the one before it is an output too.
        more = wanted | {output for output, operand in loop.items() if operand in operands}
        if more == wanted:
            return found, operands
        wanted = more


def _run(jaxpr: Jaxpr, values: Sequence[Any], path: Path) -> tuple[list[Any], Probes]:
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], values, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    probes: Probes = {}
    for i, eqn in enumerate(jaxpr.eqns):
        here, operands = (*path, i), [read(atom) for atom in eqn.invars]
        if eqn.primitive.name in _ENTERED:
            with context(eqn):
                outputs, inside = _enter(eqn, here, operands)
            probes |= inside
            probes[here] = _unturned(tuple(map(_bad, outputs)))
        else:
            outputs = bind(eqn, operands)
            probes[here] = _look(operands, outputs)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars], probes


def _enter(eqn: JaxprEqn, here: Path, operands: Sequence[Any]) -> tuple[list[Any], Probes]:
    programs, name = bodies(eqn), eqn.primitive.name

    def run(k, operands, patches=None, record_only=False):
        body = programs[k]
        outputs, probes = _run(body.jaxpr, [*body.consts, *operands], (*here, k))
        if name == "cond":
            for other, branch in enumerate(programs):
                if other != k:
                    probes |= _blank(branch.jaxpr, (*here, other))
        return outputs, probes

    if name in CUSTOM_GRADIENTS:
        return run(0, operands)
    if name == "while":
        return _while(eqn, here, operands, run)
    outputs, probes = rebuild(eqn, operands, {}, run)
    if name == "scan":
        probes = _over_steps(eqn, here, probes)
    return outputs, probes


def _over_steps(eqn, here: Path, stacked: Probes) -> Probes:
    """The probes of a scan, whose steps' probes these are."""
    length, backward = eqn.params["length"], eqn.params["reverse"]
    if not length:
        return _blank(bodies(eqn)[0].jaxpr, (*here, 0), loops=1)

    def of(probe: Probe) -> Probe:
        in_order = probe.turned[::-1] if backward else probe.turned
        first = jnp.argmax(in_order).astype(jnp.int32)
        at = length - 1 - first if backward else first
        return Probe(
            tuple(jnp.any(bad) for bad in probe.bad),
            jnp.any(probe.turned),
            (first, *(step[at] for step in probe.steps)),
            probe.nan[at],
            probe.finite[at],
        )

    return {path: of(probe) for path, probe in stacked.items()}


def _while(eqn, here: Path, operands: Sequence[Any], run: Callable) -> tuple[list[Any], Probes]:
    test, body = bodies(eqn)
    places = body.operands[len(body.operands) - len(eqn.outvars) :]

    def with_carry(carry):
        return {**dict(enumerate(operands)), **dict(zip(places, carry, strict=True))}

    def goes_on(state):
        values = with_carry(state[0])
        return _run(test.jaxpr, [*test.consts, *(values[i] for i in test.operands)], (*here, 0))[0][
            0
        ]

    def step(state):
        carry, i, seen = state
        values = with_carry(carry)
        outputs, probes = run(1, [values[k] for k in body.operands])
        return outputs, i + 1, {path: later(i, seen[path], probes[path]) for path in seen}

    def later(i, seen: Probe, probe: Probe) -> Probe:
        new = probe._replace(steps=(i, *probe.steps))
        kept = jax.tree.map(lambda a, b: jnp.where(seen.turned, a, b), seen, new)
        bad = tuple(a | b for a, b in zip(seen.bad, probe.bad, strict=True))
        return kept._replace(bad=bad, turned=seen.turned | probe.turned)

    seen = _blank(body.jaxpr, (*here, 1), loops=1)
    carry = [operands[k] for k in places]
    outputs, _, probes = jax.lax.while_loop(goes_on, step, (carry, jnp.int32(0), seen))
    return outputs, probes | _blank(test.jaxpr, (*here, 0), loops=1)


def _blank(jaxpr: Jaxpr, path: Path, loops: int = 0) -> Probes:
    """Probes that have seen nothing, inside so many loops."""
    probes: Probes = {}
    for i, eqn in enumerate(jaxpr.eqns):
        here = (*path, i)
        if eqn.primitive.name in _ENTERED:
            for k, body in enumerate(bodies(eqn)):
                probes |= _blank(body.jaxpr, (*here, k), loops + is_loop(eqn))
        bad = (jnp.zeros((), bool),) * len(eqn.outvars)
        probes[here] = _unturned(bad, (jnp.int32(0),) * loops)
    return probes


def _unturned(bad: tuple[Any, ...], steps: tuple[Any, ...] = ()) -> Probe:
    no = jnp.zeros((), bool)
    return Probe(bad, no, steps, no, no)


def _look(operands: Sequence[Any], outputs: Sequence[Any]) -> Probe:
    """What there is to see of an equation that isn't entered."""
    no = jnp.zeros((), bool)
    nan_before = _any(map(_nan, operands), no)
    bad_before = _any(map(_bad, operands), no)
    bad, nan = tuple(map(_bad, outputs)), _any(map(_nan, outputs), no)
    turned = (nan & ~nan_before) | (_any(bad, no) & ~bad_before)
    return Probe(bad, turned, (), nan, ~bad_before)


def _any(flags: Any, start: jax.Array) -> jax.Array:
    for flag in flags:
        start = start | flag
    return start


def _bad(x: Any) -> jax.Array:
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return ~jnp.all(jnp.isfinite(x)) if inexact else jnp.zeros((), bool)


def _nan(x: Any) -> jax.Array:
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.any(jnp.isnan(x)) if inexact else jnp.zeros((), bool)
