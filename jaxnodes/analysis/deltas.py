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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.analysis.changes import Changed, Full, Thin, put
from jaxnodes.analysis.thin_rules import RULES
from jaxnodes.interpreter.control_flow import CALLS, CUSTOM_GRADIENTS, bind, bodies
from jaxnodes.interpreter.program import Path

# What makes the first change: (equation, operands, outputs) -> what became of the outputs.
Source = Callable[[JaxprEqn, Sequence[Any], Sequence[Any]], Sequence[Changed | None]]


@dataclasses.dataclass(frozen=True)
class Base:
    """A program run as it stands: all of its values, and those of the calls inside it.

    Attributes:
      values: by variable.
      inner: of calls, by the number of their equations.
      data: the variables that depend on data.
    """

    values: dict[Any, Any]
    inner: dict[int, "Base"]
    data: set[Any]

    def read(self, atom: Any) -> Any:
        """The value of a variable, or the literal itself."""
        return atom.val if isinstance(atom, Literal) else self.values[atom]

    def is_data(self, atom: Any) -> bool:
        """Whether a variable depends on data; a literal doesn't."""
        return not isinstance(atom, Literal) and atom in self.data

    def of_data(self) -> list[Any]:
        """The values that depend on data, in the order of the program."""
        mine = [value for var, value in self.values.items() if var in self.data]
        return mine + [value for base in self.inner.values() for value in base.of_data()]

    def with_data(self, values: Iterator[Any]) -> "Base":
        """The same program with other values of what depends on data, as `of_data` gives them."""
        mine = {v: next(values) if v in self.data else old for v, old in self.values.items()}
        inner = {i: base.with_data(values) for i, base in self.inner.items()}
        return Base(mine, inner, self.data)


def run_base(jaxpr: Jaxpr, values: Sequence[Any], data: Sequence[bool] | None = None) -> Base:
    """Every value of a program.

    Args:
      jaxpr: the program.
      values: of its constants and inputs.
      data: which of these are data; by default all.
    """
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    data = [True] * len(inputs) if data is None else data
    base = Base(dict(zip(inputs, values, strict=True)), {}, set())
    base.data.update(var for var, is_data in zip(inputs, data, strict=True) if is_data)
    for i, eqn in enumerate(jaxpr.eqns):
        operands = [base.read(atom) for atom in eqn.invars]
        flags = [base.is_data(atom) for atom in eqn.invars]
        if can_enter(eqn):
            (body,) = bodies(eqn)
            entered = [*body.consts, *(operands[k] for k in body.operands)]
            among = [*(False for _ in body.consts), *(flags[k] for k in body.operands)]
            inner = run_base(body.jaxpr, entered, among)
            base.inner[i] = inner
            outputs = [inner.read(atom) for atom in body.jaxpr.outvars]
            made = [inner.is_data(atom) for atom in body.jaxpr.outvars]
        else:
            outputs = bind(eqn, operands)
            made = [any(flags)] * len(outputs)
        base.values.update(zip(eqn.outvars, outputs, strict=True))
        base.data.update(var for var, is_data in zip(eqn.outvars, made, strict=True) if is_data)
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
