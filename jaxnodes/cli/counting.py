"""The nodes and parameters of a network, layer by layer."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxnodes as jn
from jaxnodes.cli.options import ModelOptions, Summary
from jaxnodes.errors import check


class Count(NamedTuple):
    """What there is to count of a network.

    Attributes:
      nodes: of each site, the inputs first; a convolution's are its channels.
      parameters: of each layer.
    """

    nodes: dict[str, int]
    parameters: dict[str, int]

    @property
    def total_nodes(self) -> int:
        return sum(self.nodes.values())

    @property
    def total_parameters(self) -> int:
        return sum(self.parameters.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "nodes": self.total_nodes,
            "nodes_per_layer": self.nodes,
            "parameters": self.total_parameters,
            "parameters_per_layer": self.parameters,
        }

    def table(self) -> str:
        """A line for each layer, and one for the whole."""
        names = list(dict.fromkeys([*self.nodes, *self.parameters]))
        rows = [(name, self.nodes.get(name), self.parameters.get(name)) for name in names]
        rows.append(("total", self.total_nodes, self.total_parameters))
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(
            f"{name:<{width}}  {_amount(nodes):>9}{' nodes' if nodes else '      '}"
            f"  {_amount(parameters):>12}{' parameters' if parameters else ''}".rstrip()
            for name, nodes, parameters in rows
        )


def count(net: Any, input_shape: Sequence[int]) -> Count:
    """Counts the nodes and parameters of a network, from shapes alone.

    Args:
      net: a layer.
      input_shape: of a sample, without the batch axis.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x))
    nodes = {"input": math.prod(input_shape)}
    nodes |= {site.name: site.size for site in jn.node_sites(net.predict, variables, x)}
    parameters = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in variables[0].items()
    }
    order = {name: i for i, name in enumerate(nodes)}
    return Count(nodes, dict(sorted(parameters.items(), key=lambda p: order.get(p[0], len(order)))))


def network_of(options: ModelOptions, input_shape: Sequence[int], outputs: int) -> Any:
    """The network that the options describe."""
    from jaxnodes.models import cnn, linear, mlp

    check(
        options.model != "linear" or not options.hidden,
        f"expected no hidden layers in a linear model, got {options.hidden}; leave them out",
        "--hidden",
    )
    if options.model == "linear":
        return linear(input_shape, outputs)
    make, hidden = {"mlp": (mlp, (256, 128)), "cnn": (cnn, (128,))}[options.model]
    return make(
        input_shape,
        outputs,
        hidden=options.hidden or hidden,
        activation=options.activation,
        dropout=options.dropout,
    )


def run_summary(options: Summary) -> int:
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
        shape = tuple(config["input"]["shape"][1:])
    else:
        from jaxnodes.cli.sources import load_parts
        from jaxnodes.cli.tasks import task_of

        parts = load_parts(options)
        shape = parts.train.x.shape[1:]
        net = network_of(options, shape, task_of(parts, options.standardize).outputs)
    counted = count(net, shape)
    if options.json:
        print(json.dumps({"network": jn.to_config(net), **counted.to_json()}))
    else:
        print(f"{net!r}\n\n{counted.table()}")
    return 0


def _amount(number: int | None) -> str:
    return f"{number:,}" if number else ""
