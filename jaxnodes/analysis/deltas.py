"""What follows from changing one node: a program run on the difference alone.

Removing node j from a layer changes one column of its value. Elementwise operations,
pooling and the like leave it one column; the next weighted sum spreads it, and even
that is a rank-one change of a sum known already: `z + (v - h_j) w_j`. Only what comes
after needs a pass of its own.

So a program is run for K variants at once on three kinds of values: unchanged ones,
which the base run has; `Thin` ones, which differ from the base in a few places along
one axis; and `Full` ones. An operation without a rule of its own gets full values, by
`jax.vmap` over the variants: the same numbers, by more work.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.analysis.changes import Changed, Full, Thin, put
from jaxnodes.analysis.thin_rules import RULES
from jaxnodes.interpreter.control_flow import CALLS, CUSTOM_GRADIENTS, bind, bodies

# What makes the first change: (equation, operands, outputs) -> what became of the outputs.
Source = Callable[[JaxprEqn, Sequence[Any], Sequence[Any]], Sequence[Changed | None]]
Path = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Base:
    """A program run as it stands: all of its values, and those of the calls inside it."""

    values: dict[Any, Any]
    inner: dict[int, "Base"]

    def read(self, atom: Any) -> Any:
        """The value of a variable, or the literal itself."""
        return atom.val if isinstance(atom, Literal) else self.values[atom]


def run_base(jaxpr: Jaxpr, values: Sequence[Any]) -> Base:
    """Every value of a program, given those of its constants and inputs."""
    base = Base(dict(zip([*jaxpr.constvars, *jaxpr.invars], values, strict=True)), {})
    for i, eqn in enumerate(jaxpr.eqns):
        operands = [base.read(atom) for atom in eqn.invars]
        if can_enter(eqn):
            (body,) = bodies(eqn)
            inner = run_base(body.jaxpr, [*body.consts, *(operands[k] for k in body.operands)])
            base.inner[i] = inner
            outputs = [inner.read(atom) for atom in body.jaxpr.outvars]
        else:
            outputs = bind(eqn, operands)
        base.values.update(zip(eqn.outvars, outputs, strict=True))
    return base


def propagate(
    jaxpr: Jaxpr,
    base: Base,
    changed: Mapping[Any, Changed],
    sources: Mapping[Path, Source],
    path: Path = (),
) -> list[Changed | None]:
    """Runs a program on what changed.

    Args:
      jaxpr: the program.
      base: all of its values as they are.
      changed: those of its inputs that changed, by variable.
      sources: what makes the first change, by the path of its equation.
      path: where this program is in the whole one.

    Returns:
      For each output what became of it; `None` where it stayed as it was.
    """
    changed = dict(changed)

    def now(atom):
        return None if isinstance(atom, Literal) else changed.get(atom)

    for i, eqn in enumerate(jaxpr.eqns):
        here, mine = (*path, i), [now(atom) for atom in eqn.invars]
        inside = any(place[: len(here)] == here for place in sources)
        if not inside and all(m is None for m in mine):
            continue
        operands = [base.read(atom) for atom in eqn.invars]
        outputs = [base.values[var] for var in eqn.outvars]
        if here in sources:
            made = sources[here](eqn, operands, outputs)
        elif can_enter(eqn):
            (body,) = bodies(eqn)
            inputs = zip(body.jaxpr.invars, (mine[k] for k in body.operands), strict=True)
            entered = {var: m for var, m in inputs if m is not None}
            made = propagate(body.jaxpr, base.inner[i], entered, sources, (*here, 0))
        else:
            made = _equation(eqn, operands, mine, outputs)
        changed |= {v: m for v, m in zip(eqn.outvars, made, strict=True) if m is not None}
    return [now(atom) for atom in jaxpr.outvars]


def can_enter(eqn: JaxprEqn) -> bool:
    """Whether an equation is a call whose program may stand in place of it."""
    name = eqn.primitive.name
    return name in CUSTOM_GRADIENTS or (name in CALLS and name != "shard_map")


def _equation(eqn: JaxprEqn, operands, mine, outputs) -> list[Changed]:
    rule = RULES.get(eqn.primitive.name)
    if rule is not None and any(isinstance(m, Thin) for m in mine):
        made = rule(eqn, operands, mine, outputs)
        if made is not None:
            return [made]
    return spread(eqn, operands, mine)


def spread(eqn: JaxprEqn, operands, mine) -> list[Changed]:
    """Any equation, on full values, for all variants at once."""
    whole = [
        put(x, m) if isinstance(m, Thin) else m.values if m is not None else x
        for x, m in zip(operands, mine, strict=True)
    ]
    axes = [None if m is None else 0 for m in mine]
    made = jax.vmap(lambda *xs: bind(eqn, xs), in_axes=axes)(*whole)
    return [Full(values) for values in made]
