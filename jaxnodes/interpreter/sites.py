"""Sites: the places in a function where nodes are, and what they are called."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from jaxnodes.errors import JaxNodesError

_WRAPPER = re.compile(r"(?:^|(?<=[/(]))(?:vmap|jvp|transpose)\(")


class Site(NamedTuple):
    """Where nodes are.

    Attributes:
      name: as `record` names them and `intervene` finds them.
      axis: the axis of `shape` along which the nodes lie; `None` if the value is one node.
      size: how many nodes.
      shape: of the value that `record` returns: the axes of `steps`, then one step's value.
      dtype: of the value.
      steps: lengths of the scans around it, the outermost first.
    """

    name: str
    axis: int | None
    size: int
    shape: tuple[int, ...]
    dtype: Any
    steps: tuple[int, ...] = ()


def join(*scopes: str) -> str:
    """Scopes one inside the other, as a path."""
    return "/".join(filter(None, scopes))


def plain(scope: str) -> str:
    """A scope without what `vmap`, `jvp` and `transpose` wrap around its names.

    >>> plain("transpose(jvp(net))/dense1/vmap()")
    'net/dense1'
    >>> plain("transpose(jvp(net))/jvp(net)/rematted_computation")
    'net'
    """
    while wrapper := _WRAPPER.search(scope):
        depth, end = 1, wrapper.end()
        while depth and end < len(scope):
            depth += {"(": 1, ")": -1}.get(scope[end], 0)
            end += 1
        inner, rest = scope[wrapper.end() : end - 1], scope[end:]
        if rest.startswith("/jvp("):  # the way back, through what says its own scope once more
            inner, rest = "", rest[1:]
        scope = scope[: wrapper.start()] + inner + rest
    return join(*(part for part in scope.split("/") if part != "rematted_computation"))


def is_differentiated(scope: str) -> bool:
    """Whether what was computed in this scope was computed by differentiating something.

    A custom gradient's rule computes its primal out of reach of the node's own jvp
    rule; but not out of the scope.
    """
    return any(wrapper.group() != "vmap(" for wrapper in _WRAPPER.finditer(scope))


def fresh_names() -> Callable[[str], str]:
    """A function that numbers names given to it before: `h`, `h#2`, `h#3`.

    >>> fresh = fresh_names()
    >>> [fresh("h"), fresh("h"), fresh("c"), fresh("h")]
    ['h', 'h#2', 'c', 'h#3']
    """
    counts: dict[str, int] = {}
    taken: set[str] = set()

    def fresh(name: str) -> str:
        while True:
            counts[name] = counts.get(name, 0) + 1
            numbered = name if counts[name] == 1 else f"{name}#{counts[name]}"
            if numbered not in taken:
                taken.add(numbered)
                return numbered

    return fresh


def reach(names: Collection[str], sites: Mapping[str, Site]) -> dict[str, str]:
    """For every site that one of `names` reaches, that name.

    A bare name reaches all of its repetitions, but for those named themselves;
    `h#1` is the first alone.

    Raises:
      JaxNodesError: a name that no site has.
    """
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise JaxNodesError(unknown_name(wrong[0], sites))
    own = {name.removesuffix("#1"): name for name in names if "#" in name}
    reached: dict[str, str] = {}
    for name in names:
        sites_of = [
            site
            for site in sites
            if site == name.removesuffix("#1") or site.rpartition("#")[0] == name
        ]
        if not sites_of:
            raise JaxNodesError(unknown_name(name, sites))
        reached |= {site: name for site in sites_of if own.get(site, name) == name}
        if name not in reached.values():
            raise JaxNodesError(
                f"expected a name for nodes that no other name reaches, got {name!r} "
                f"beside {', '.join(map(repr, own.values()))}; leave it out"
            )
    return reached


def unknown_name(name: Any, sites: Mapping[str, Site]) -> str:
    """The error for a name that no site has: the closest name, and all the others."""
    if not sites:
        return (
            f"expected the name of a node, got {name!r}, but the function names no nodes; "
            "name some by jn.node, or find them by auto=True"
        )
    close = difflib.get_close_matches(str(name).partition("#")[0], sites, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    shown = list(sites)[:40]
    more = f" and {len(sites) - len(shown)} more" if len(sites) > len(shown) else ""
    return f"expected the name of a node, got {name!r}{hint} the nodes are {', '.join(shown)}{more}"
