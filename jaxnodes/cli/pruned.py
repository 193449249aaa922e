"""`jaxnodes prune`: a smaller network out of a saved run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.analysis.agreement import Negative
from jaxnodes.cli import folders
from jaxnodes.cli.counting import count, input_spec
from jaxnodes.cli.environment import device_line, keep_compiled_programs
from jaxnodes.cli.options import Prune
from jaxnodes.cli.sources import own_parts, read_task
from jaxnodes.cli.tasks import Task
from jaxnodes.cli.texts import TextTask
from jaxnodes.cli.training import measures_line
from jaxnodes.data.datasets import Dataset
from jaxnodes.errors import JaxNodesError, check_count, check_number
from jaxnodes.training.saving import load_network, save_network


def run_pruning(options: Prune) -> int:
    """Prints the measures before and after, and saves what is left."""
    keep_compiled_programs()
    check_number(options.keep, "the fraction of nodes to keep", "--keep", least=0, most=1)
    check_count(options.rounds, "rounds", "--rounds")
    net, variables, config = load_network(options.run)
    task = read_task(config)
    if isinstance(task, TextTask):
        raise JaxNodesError(
            f"expected a run of tables or images, got one of texts ({task.model}), whose nodes "
            "can't be cut out; inspect says what they are worth",
            "prune",
        )
    parts = own_parts(config)
    name = Path(options.run).resolve().name
    folder = folders.reserve(options.out, f"{name}-pruned", options.overwrite)
    try:
        smaller, fewer = jn.analysis.prune_to(
            net,
            variables,
            importance_on(parts.train, task, options),
            options.keep,
            x=jnp.asarray(task.inputs(parts.train.x)),
            scope=options.scope,
            values=options.value,
            rounds=options.rounds,
        )
        save(folder, smaller, fewer, config, options)
    finally:
        folders.release(folder)
    before, _ = tested(net, variables, task, parts.test)
    after, outputs = tested(smaller, fewer, task, parts.test)
    spec = input_spec(config)
    counts = {"before": count(net, spec), "after": count(smaller, spec)}
    metrics = {
        "test": after,
        "before": before,
        "samples": {"test": len(parts.test.y)},
        "nodes": counts["after"].total_nodes,
        "nodes_before": counts["before"].total_nodes,
        "parameters": counts["after"].total_parameters,
        "parameters_before": counts["before"].total_parameters,
    }
    folders.write_json(folder / folders.METRICS, metrics)
    if task.class_names:
        matrix = jax.jit(jn.confusion_matrix)(outputs, parts.test.y)
        plots.save(plots.confusion(matrix, task.class_names), folder / folders.CONFUSION)
    if options.json:
        print(json.dumps(folders.finite({**metrics, "folder": str(folder)})))
        return 0
    print(f"{device_line()}  {options.run}: importance by {len(parts.train.y)} training samples")
    for when, measures in (("before", before), ("after", after)):
        counted = counts[when]
        size = f"{counted.total_nodes:,} nodes, {counted.total_parameters:,} parameters"
        print(f"{when:<8}{size:>36}  test {measures_line(measures)}")
    print(f"saved in {folder}")
    return 0


def importance_on(part: Dataset, task: Task, options: Prune) -> Callable:
    """What each node of a network is worth on these samples, by the measure asked for."""
    x, y = (jnp.asarray(array) for array in task.pair(part))

    def importance(net: Any, variables: Any) -> dict[str, Any]:
        if options.by == "exact":
            metric = Negative(task.loss)
            return jn.analysis.ablate(
                net.predict, variables, x, y, metric=metric, value=options.value
            )
        return jn.analysis.attribute(
            net.predict, variables, x, y, method=options.by, loss=task.loss
        )

    return importance


def tested(net: Any, variables: Any, task: Task, part: Dataset) -> tuple[dict[str, float], Any]:
    """The measures of a network on the test samples, and its outputs."""
    outputs = np.asarray(jn.predict(net, variables, task.inputs(part.x)))
    return task.measure(outputs, part), outputs


def save(folder: Path, net: Any, variables: Any, config: dict[str, Any], options: Prune) -> None:
    """Writes the smaller network, with all that its run knew of its task and data."""
    own = {"jaxnodes", "network", "input", "sha256"}
    extra = {name: value for name, value in config.items() if name not in own}
    extra["pruned"] = {
        "from": options.run,
        "keep": options.keep,
        "by": options.by,
        "scope": options.scope,
        "value": options.value,
        "rounds": options.rounds,
    }
    save_network(folder, net, variables, input_spec=input_spec(config), extra=extra)
    folders.clear(folder)
