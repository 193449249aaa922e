"""`jaxnodes inspect`: what every node of a saved run does and is worth."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxnodes as jn
from jaxnodes.analysis import NodeStatistics
from jaxnodes.cli import folders
from jaxnodes.cli.environment import device_line, keep_compiled_programs
from jaxnodes.cli.node_figures import draw_all, draw_node
from jaxnodes.cli.options import Inspect
from jaxnodes.cli.sources import own_test, read_task
from jaxnodes.cli.tasks import Task
from jaxnodes.cli.texts import TextTask
from jaxnodes.errors import JaxNodesError, check, check_count
from jaxnodes.training.saving import load_network


class Findings(NamedTuple):
    """What there is to know of a network's nodes.

    Attributes:
      net, variables, task: of the run.
      part: the data that it is measured on.
      x, y: of all samples, or of some windows of a text, as the network learns them.
      statistics: by site, what its nodes do.
      worth: by site (..., 2): what the score and what the loss lose without each node.
      score: what is measured first: `accuracy`, `masked_accuracy`, or `mae`.
    """

    net: Any
    variables: Any
    task: Task | TextTask
    part: Any
    x: Any
    y: Any
    statistics: dict[str, NodeStatistics]
    worth: dict[str, np.ndarray]
    score: str

    @property
    def outputs(self) -> str:
        """The site of the outputs: the last one."""
        return list(self.worth)[-1]

    def ranked(self) -> list[tuple[str, np.ndarray]]:
        """All nodes by name, the most important first: by the loss, then by the score."""
        nodes = [
            (f"{site}/{'/'.join(map(str, place))}", worth[place])
            for site, worth in self.worth.items()
            for place in np.ndindex(worth.shape[:-1])
        ]
        return sorted(nodes, key=lambda node: (-node[1][1], -node[1][0]))


def run_inspection(options: Inspect) -> int:
    """Prints what the nodes do and are worth, and keeps it in the run folder."""
    keep_compiled_programs()
    check_count(options.top, "how many to list", "--top")
    folder = Path(options.run)
    net, variables, config = load_network(folder)
    task, part = read_task(config), own_test(config)
    first = jax.tree.map(lambda array: array[:1], task.pair(part)[0])
    sites = [s.name for s in jn.node_sites(task.learner(net).predict, variables, first)]
    node = None if options.node is None else node_of(options.node, sites)
    found = measure(net, variables, task, part, options)
    if node is None:
        figures = draw_all(found, folder)
        folders.write_json(folder / folders.NODES, as_json(found, options.value))
        report = overview(found, options.top)
        lines = overview_lines(report, found)
    else:
        report = of_node(found, *node)
        figures = draw_node(found, *node, folder)
        lines = node_lines(report, found)
    if options.json:
        made = {"run": options.run, **report, "figures": figures}
        print(json.dumps(folders.finite(made)))
        return 0
    samples = f"{len(found.y)} test samples"
    print(f"{device_line()}  {options.run}: {samples}, a removed node is {options.value}")
    print("\n".join(["", *lines]))
    if figures:
        print(f"\n{', '.join(figures)} in {folder}")
    return 0


def node_of(name: str, sites: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """The site and the place of a node that is named as `dense1/17`.

    Raises:
      JaxNodesError: no such layer, or no such node of it.
    """
    site, _, number = name.rpartition("/")
    while site and site not in sites and site.rpartition("/")[2].isdecimal():
        site, _, step = site.rpartition("/")  # of a stack of layers: repeat1/dense1/2/17
        number = f"{step}/{number}"
    check(
        site in sites and all(part.isdecimal() for part in number.split("/")),
        f"expected a layer and a number, such as {sites[0]}/0, of the layers "
        f"{', '.join(sites)}; got {name!r}",
        "--node",
    )
    return site, tuple(int(part) for part in number.split("/"))


def measure(
    net: Any, variables: Any, task: Task | TextTask, part: Any, options: Inspect
) -> Findings:
    """What every node does and is worth, on these samples."""
    x, y = jax.tree.map(jnp.asarray, task.sample(part))
    predict = task.learner(net).predict
    labels = {"y": part.y, "classes": task.outputs} if task.class_names else {}
    statistics = jn.analysis.statistics(predict, variables, x, **labels, top_k=options.top)
    ((score, metric),) = task.metrics.items()
    metric = _score_and_loss(metric, task.loss, -1.0 if score == "mae" else 1.0)
    worth = jn.analysis.ablate(predict, variables, x, y, metric=metric, value=options.value)
    found = {name: np.asarray(array) for name, array in worth.items()}
    return Findings(net, variables, task, part, x, y, statistics, found, score)


@functools.lru_cache
def _score_and_loss(score: Callable, loss: Callable, sign: float) -> Callable:
    """Both as one metric, of which more is better; one function, so that it compiles once."""

    def metric(outputs, y):
        worth = -loss(outputs, y)
        return jnp.stack([jnp.asarray(sign * score(outputs, y), worth.dtype), worth])

    return metric


def overview(found: Findings, top: int) -> dict[str, Any]:
    """Each layer in a few numbers, and the nodes at both ends of the ranking."""
    # Each output is of its own class or quantity, and no node to do without.
    outputs = f"{found.outputs}/"
    every = [(name, worth.tolist()) for name, worth in found.ranked()]
    ranked = [node for node in every if not node[0].startswith(outputs)] or every
    layers = {}
    for name, s in found.statistics.items():
        layers[name] = {
            "nodes": s.mean.size,
            "active": float(s.active.mean()),
            **{kind: _places(getattr(s, kind)) for kind in ("dead", "dormant", "saturated")},
            "without_effect": _without_effect(found.worth[name]),
        }
    ends = {"most_important": ranked[:top], "least_important": ranked[::-1][:top]}
    named = {
        end: [dict(zip(("node", *_units(found)), (n, *w), strict=True)) for n, w in nodes]
        for end, nodes in ends.items()
    }
    return {"layers": layers, **named}


def _without_effect(worth: np.ndarray) -> int:
    """How many nodes change nothing but what rounding does."""
    largest = np.abs(worth).max(axis=tuple(range(worth.ndim - 1)))
    return int(np.sum((np.abs(worth) <= 1e-5 * largest).all(axis=-1)))


def _units(found: Findings) -> tuple[str, str]:
    """What the two numbers of a node's worth are."""
    return f"{found.score}_{'gained' if found.score == 'mae' else 'lost'}", "loss_gained"


def _places(which: np.ndarray) -> list[str]:
    return ["/".join(map(str, place)) for place in np.argwhere(which).tolist()]


def overview_lines(report: dict[str, Any], found: Findings) -> list[str]:
    """The overview as people read it."""
    columns = ("nodes", "active", "dead", "dormant", "saturated", "no effect")
    width = max([len(name) for name in report["layers"]] + [9])
    lines = ["".join([f"{'':<{width}}", *(f"{column:>11}" for column in columns)])]
    for name, layer in report["layers"].items():
        counts = [layer["nodes"], f"{layer['active']:.0%}"]
        counts += [len(layer[kind]) for kind in ("dead", "dormant", "saturated")]
        counts += [layer["without_effect"]]
        lines.append("".join([f"{name:<{width}}", *(f"{count:>11}" for count in counts)]))
    first, second = _units(found)
    room = max(14, len(first) + 2)
    for end in ("most_important", "least_important"):
        title = end.replace("_", " ")
        head = f"{title:<{width + 8}}{first.replace('_', ' '):>{room}}{'loss gained':>14}"
        lines += ["", head]
        lines += [
            f"{node['node']:<{width + 8}}{node[first]:>{room}.4f}{node[second]:>14.4f}"
            for node in report[end]
        ]
    return lines


def of_node(found: Findings, site: str, place: tuple[int, ...]) -> dict[str, Any]:
    """All that is known of one node.

    Raises:
      JaxNodesError: a number that the layer doesn't have.
    """
    s, worth = found.statistics[site], found.worth[site]
    shape = worth.shape[:-1]
    if len(place) != len(shape) or any(i >= n for i, n in zip(place, shape, strict=True)):
        last = "/".join(str(n - 1) for n in shape)
        raise JaxNodesError(
            f"expected a node from {site}/{'/'.join('0' * len(shape))} to {site}/{last}, got "
            f"{site}/{'/'.join(map(str, place))}",
            "--node",
        )
    name = f"{site}/{'/'.join(map(str, place))}"
    rank = [node for node, _ in found.ranked()].index(name) + 1
    samples = s.top_samples[place].tolist()
    report: dict[str, Any] = {
        "node": name,
        **dict(zip(_units(found), worth[place].tolist(), strict=True)),
        "rank": rank,
        "of": sum(w[..., 0].size for w in found.worth.values()),
        "mean": float(s.mean[place]),
        "deviation": float(np.sqrt(s.variance[place])),
        "minimum": float(s.minimum[place]),
        "maximum": float(s.maximum[place]),
        "active": float(s.active[place]),
        **{kind: bool(getattr(s, kind)[place]) for kind in ("dead", "dormant", "saturated")},
        "top_samples": [
            {"sample": sample, "value": value, "target": found.task.answer(found.part, sample)}
            for sample, value in zip(samples, s.top_values[place].tolist(), strict=True)
        ],
    }
    if found.task.class_names:
        means = s.class_means[place].tolist()
        report["class_means"] = dict(zip(found.task.class_names, means, strict=True))
        report["selectivity"] = float(s.selectivity[place])
    return report


def node_lines(report: dict[str, Any], found: Findings) -> list[str]:
    """One node as people read it."""
    first, second = _units(found)
    kinds = [kind for kind in ("dead", "dormant", "saturated") if report[kind]]
    lines = [
        f"{report['node']}  {first.replace('_', ' ')} {report[first]:.4f}, loss gained "
        f"{report[second]:.4f}: number {report['rank']} of {report['of']} in importance, "
        "outputs included",
        f"value {report['mean']:.4f} ± {report['deviation']:.4f}, from {report['minimum']:.4f} to "
        f"{report['maximum']:.4f}; above zero for {report['active']:.0%}"
        + (f"; {', '.join(kinds)}" if kinds else ""),
    ]
    if "class_means" in report:
        means = "  ".join(f"{name} {mean:.3f}" for name, mean in report["class_means"].items())
        lines += [f"mean by class  {means}", f"selectivity {report['selectivity']:.2f}"]
    lines += ["", f"{'sample':>8}{'value':>12}  {found.task.target or 'target'}"]
    return lines + [
        f"{row['sample']:>8}{row['value']:>12.4f}  {_line(row['target'])}"
        for row in report["top_samples"]
    ]


def _line(target: Any) -> str:
    """What is to be said of a sample; a text in one line."""
    return "\\n".join(str(target).split("\n"))


def as_json(found: Findings, value: str) -> dict[str, Any]:
    """All nodes' numbers, by site."""
    kept = ("mean", "variance", "minimum", "maximum", "active", "dead", "dormant", "saturated")
    first, second = _units(found)
    return {
        "samples": len(found.y),
        "value": value,
        "sites": {
            name: {
                first: worth[..., 0].tolist(),
                second: worth[..., 1].tolist(),
                **{field: getattr(found.statistics[name], field).tolist() for field in kept},
            }
            for name, worth in found.worth.items()
        },
    }
