"""The nodes and parameters of a network, layer by layer."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax

import jaxnodes as jn
from jaxnodes.analysis import Summary, summary
from jaxnodes.cli.options import ModelOptions
from jaxnodes.cli.options import Summary as SummaryOptions
from jaxnodes.errors import check


def count(net: Any, x: Any) -> Summary:
    """What there is to count of a network, from shapes alone.

    Args:
      net: a layer.
      x: a batch of one sample, as `jax.ShapeDtypeStruct` has it.
    """
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x))
    return summary(net, variables, x)


def input_spec(config: Mapping[str, Any]) -> Any:
    """A batch of one sample, as a saved network takes it."""
    return jax.ShapeDtypeStruct(tuple(config["input"]["shape"]), config["input"]["dtype"])


def counts_table(counted: Summary) -> str:
    """Nodes and parameters: a line for each layer, and one for the whole."""
    nodes, parameters = counted.nodes, counted.parameters
    names = [row.name for row in counted.rows if row.name in {**nodes, **parameters}]
    rows = [(name, nodes.get(name), parameters.get(name)) for name in names]
    rows.append(("total", counted.total_nodes, counted.total_parameters))
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"{name:<{width}}  {_amount(nodes):>9}{' nodes' if nodes else '      '}"
        f"  {_amount(parameters):>12}{' parameters' if parameters else ''}".rstrip()
        for name, nodes, parameters in rows
    )


def run_summary(options: SummaryOptions) -> int:
    """Prints the network and what it counts."""
    if options.run is not None:
        from jaxnodes.training.saving import load_network

        given = [
            field.name
            for field in dataclasses.fields(ModelOptions)
            if getattr(options, field.name) != field.default
        ]
        check(
            not given,
            f"expected a run, or options to make a network of, got both: {options.run} and "
            f"{', '.join(given)}",
            "summary",
        )
        net, _, config = load_network(options.run)
        spec = input_spec(config)
    else:
        from jaxnodes.cli.networks import network_of
        from jaxnodes.cli.sources import load, with_data

        parts, task = load(with_data(options))
        spec = task.spec(parts.train)
        net = network_of(options, spec.shape[1:], task.outputs)
    counted = count(net, spec)
    if options.json:
        report = {
            "network": jn.to_config(net),
            "nodes": counted.total_nodes,
            "nodes_per_layer": counted.nodes,
            "parameters": counted.total_parameters,
            "parameters_per_layer": counted.parameters,
            "flops_per_sample": counted.flops,
            "activation_bytes_per_sample": counted.memory,
        }
        print(json.dumps(report))
    else:
        print(f"{net!r}\n\n{counted}")
    return 0


def _amount(number: int | None) -> str:
    return f"{number:,}" if number else ""
