"""A traced function with its nodes: the interpreter behind `record` and `intervene`.

A place in a program is a path: the index of an equation, or of one inside another
(equation, which of its bodies, equation, ...). The same jaxpr may be called from two
equations; their nodes are different nodes, with different paths.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxnodes.errors import check
from jaxnodes.interpreter.control_flow import KNOWN, Records, bind, bodies, context, rebuild, varies
from jaxnodes.interpreter.interventions import Patches
from jaxnodes.interpreter.sites import Site, fresh_names, is_differentiated, join, plain
from jaxnodes.primitive import node_p

Path = tuple[int, ...]


@dataclasses.dataclass
class Place:
    """An output of an equation that is a node, by a `node` equation or automatically.

    Attributes:
      path: the equation.
      output: which of its outputs.
      scope: the names around it, with what transformations wrapped around them.
      name: the last part of its name, or `None`.
      axis: where its nodes lie in one step's value.
      aval: shape and dtype of one step's value.
      inner_scope: of an automatic node, the end of `scope` that no equation around
        it opens.
      steps: lengths of the scans around it.
      site: its full name, once all places are known.
      differentiated: whether it is too late to intervene.
      unrecordable: why it can't be recorded, or "".
      unreachable: why nothing can be done with it, or "".
    """

    path: Path
    output: int
    scope: str
    name: str | None
    axis: int | None
    aval: Any
    inner_scope: str | None = None
    steps: tuple[int, ...] = ()
    site: str = ""
    differentiated: bool = False
    unrecordable: str = ""
    unreachable: str = ""

    @property
    def automatic(self) -> bool:
        return self.inner_scope is not None

    def as_site(self) -> Site:
        shape = self.aval.shape
        return Site(
            name=self.site,
            axis=None if self.axis is None else self.axis + len(self.steps),
            size=1 if self.axis is None else shape[self.axis],
            shape=(*self.steps, *shape),
            dtype=self.aval.dtype,
            steps=self.steps,
        )


class Program:
    """A jaxpr, where its nodes are, and an evaluator that records and changes them.

    Attributes:
      jaxpr: the program. Its constants come with the arguments, so that one program
        serves for all.
      places: the nodes at every equation that has some.
      sites: every site by its name, in program order.
    """

    def __init__(self, jaxpr: Jaxpr, automatic: Mapping[Path, Sequence[Place]] | None = None):
        self.jaxpr = jaxpr
        found = _find(jaxpr, "", (), automatic or {}, {})
        _number(found, _fresh_sites())
        self.places: dict[Path, list[Place]] = {}
        self.sites: dict[str, Site] = {}
        self._inside: dict[Path, set[str]] = {}
        self._automatic = {place.site for place in _flat(found) if place.automatic}
        for place in _flat(found):
            self.places.setdefault(place.path, []).append(place)
            self.sites.setdefault(place.site, place.as_site())
            for end in range(1, len(place.path), 2):
                self._inside.setdefault(place.path[:end], set()).add(place.site)

    def place(self, site: str) -> Place:
        """Where a site is: its first place, if branches of `cond` share it."""
        return next(p for places in self.places.values() for p in places if p.site == site)

    def check_patched(self, names: Collection[str], where: str) -> None:
        """Raises unless these sites can be intervened on."""
        for place in self._of(names):
            check(
                not place.differentiated,
                f"expected {place.site!r} to be intervened on before differentiation, but it "
                "has been differentiated already; write grad(intervene(f)), not "
                "intervene(grad(f))",
                where,
            )
            check(
                not place.unreachable,
                f"expected nodes within reach, got {place.site!r}: {place.unreachable}; "
                "move it outside",
                where,
            )

    def check_recorded(self, names: Collection[str], where: str, argument: str) -> None:
        """Raises unless these sites can be recorded; the argument is what names others."""
        for place in self._of(names):
            why = place.unreachable or place.unrecordable
            check(
                not why,
                f"expected nodes that can be recorded, got {place.site!r}: {why}; "
                f"name the others by {argument}=",
                where,
            )

    def _of(self, names: Collection[str]) -> list[Place]:
        """All places of these sites."""
        return [p for places in self.places.values() for p in places if p.site in names]

    def evaluate(
        self,
        consts: Sequence[Any],
        args: Sequence[Any],
        patches: Patches | None = None,
        record: Collection[str] = (),
    ) -> tuple[list[Any], Records]:
        """Runs the program, traceably, under `patches`.

        Args:
          consts: values of its constants.
          args: values of its inputs.
          patches: interventions by site, of `interventions.parse`.
          record: the sites to record.

        Returns:
          `(outputs, records)`, records by site.
        """
        values = [*consts, *args]
        return self._run(self.jaxpr, values, (), patches or {}, frozenset(record), False)

    def patched(
        self, path: Path, eqn: JaxprEqn, operands: Sequence[Any], patches: Patches
    ) -> list[Any]:
        """The outputs of the equation at `path`, a loop or a call, with nodes inside changed."""
        return list(self._rebuild(eqn, path, operands, patches, frozenset())[0])

    def _run(self, jaxpr, values, path, patches, record, record_only):
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], values, strict=True))

        def read(atom):
            return atom.val if isinstance(atom, Literal) else env[atom]

        records: Records = {}
        for i, eqn in enumerate(jaxpr.eqns):
            here, operands = (*path, i), [read(atom) for atom in eqn.invars]
            inside = self._inside.get(here, set())
            asked = record if record_only else record | patches.keys() | self._automatic
            if eqn.primitive is node_p:
                outputs = operands  # bound below
            elif inside & asked:
                own = {site: patches[site] for site in inside & patches.keys()}
                outputs, new = self._rebuild(eqn, here, operands, own, record)
                records |= new
            else:
                outputs = bind(eqn, operands)
            for place in self.places.get(here, ()):
                value = outputs[place.output]
                with _scope(place, eqn):
                    if place.site in patches:
                        value = patches[place.site](value, place.axis, place.site)
                    if not record_only:
                        value = node_p.bind(
                            value,
                            name=place.name,
                            axis=place.axis,
                            differentiated=place.differentiated,
                        )
                if place.site in record:
                    records[place.site] = value
                outputs[place.output] = value
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars], records

    def _rebuild(self, eqn, here, operands, patches, record):
        def run(k, operands, patches, record_only=False):
            jaxpr, consts, _ = bodies(eqn)[k]
            values = [*consts, *operands]
            return self._run(jaxpr, values, (*here, k), patches, record, record_only)

        with context(eqn):
            return rebuild(eqn, operands, patches, run)


def _scope(place: Place, eqn: JaxprEqn):
    """The scope in which to name the value at `place` once more."""
    if not place.automatic:
        return context(eqn)
    return jax.named_scope(place.inner_scope) if place.inner_scope else contextlib.nullcontext()


def _find(jaxpr: Jaxpr, scope: str, path: Path, automatic, around: dict[str, Any]) -> list:
    """The places in a program; where it branches, a list of one such list a branch."""
    found: list = []
    for i, eqn in enumerate(jaxpr.eqns):
        here, inner = (*path, i), join(scope, str(eqn.source_info.name_stack))
        if eqn.primitive is node_p:
            aval = eqn.outvars[0].aval
            place = Place(here, 0, inner, eqn.params["name"], eqn.params["axis"], aval)
            place.differentiated = eqn.params["differentiated"]
            found.append(_settle(place, around))
        else:
            within = [
                _find(body.jaxpr, inner, (*here, k), automatic, _enter(eqn, around))
                for k, body in enumerate(bodies(eqn))
            ]
            found += [within] if eqn.primitive.name == "cond" else itertools.chain(*within)
        found += [_settle(place, around) for place in automatic.get(here, ())]
    return found


def _enter(eqn: JaxprEqn, around: dict[str, Any]) -> dict[str, Any]:
    """What is around the nodes inside an equation."""
    name = eqn.primitive.name
    if name == "scan":
        return {**around, "steps": (*around.get("steps", ()), eqn.params["length"])}
    if name == "while":
        return {**around, "unrecordable": "a while loop keeps no record of its steps"}
    if name == "shard_map":
        return {**around, "mapped": (*around.get("mapped", ()), eqn)}
    if name not in KNOWN:
        why = f"it is inside the JAX operation {name}, which can't be taken apart"
        return {**around, "unreachable": why}
    return around


def _settle(place: Place, around: dict[str, Any]) -> Place:
    place.steps = around.get("steps", ())
    place.unreachable = around.get("unreachable", "")
    place.unrecordable = around.get("unrecordable", "")
    place.differentiated |= is_differentiated(place.scope)
    if any(varies(eqn, place.aval) for eqn in around.get("mapped", ())):
        place.unrecordable = (
            "it differs between the devices of a shard_map, which needs the out_specs "
            "of what it returns: shard_map(record(f), ...)"
        )
    return place


def _flat(found: list) -> Iterator[Place]:
    for item in found:
        if isinstance(item, Place):
            yield item
        else:
            for branch in item:
                yield from _flat(branch)


def _fresh_sites() -> Callable[[Place], str]:
    fresh = fresh_names()
    return lambda place: fresh(join(plain(place.scope), place.name or "") or "node")


def _number(found: list, fresh: Callable[[Place], str]) -> None:
    """Gives every place its site; nodes alike in several branches share theirs."""
    for item in found:
        if isinstance(item, Place):
            item.site = fresh(item)
            continue
        shared: dict[tuple, str] = {}
        for branch in item:
            _number(branch, _shared_sites(shared, fresh))
        sites = [{place.site for place in _flat(branch)} for branch in item]
        for place in (place for branch in item for place in _flat(branch)):
            if not all(place.site in of_branch for of_branch in sites):
                place.unrecordable = "only some branches of a cond compute it"


def _shared_sites(shared: dict[tuple, str], fresh: Callable[[Place], str]):
    """`fresh` for one branch: the k-th node of a name is that of the other branches."""
    counts: dict[tuple, int] = {}

    def site(place: Place) -> str:
        alike = (place.scope, place.name, place.axis, place.aval.shape, place.aval.dtype)
        key = (*alike, place.steps, counts.setdefault(alike, 0))
        counts[alike] += 1
        if key not in shared:
            shared[key] = fresh(place)
        return shared[key]

    return site
