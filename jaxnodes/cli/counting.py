"""The nodes and parameters of a network, layer by layer."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jaxnodes as jn
from jaxnodes.analysis import Summary, summary
from jaxnodes.cli.options import ModelOptions
from jaxnodes.cli.options import Summary as SummaryOptions
from jaxnodes.errors import check
from jaxnodes.models.convolutional import image_shape


def count(net: Any, input_shape: Sequence[int]) -> Summary:
    """What there is to count of a network, from shapes alone.

    Args:
      net: a layer.
      input_shape: of a sample, without the batch axis.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x))
    return summary(net, variables, x)


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


#: What each model takes of the options, with its own default where it has one.
_TAKES: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"hidden": (256, 128), "activation": None, "dropout": None},
    "cnn": {"hidden": (128,), "activation": None, "dropout": None},
    "resnet": {"variant": "20", "activation": None},
    "efficientnet": {"variant": "b0", "activation": "swish", "dropout": None},
    "forecaster": {"variant": "lstm", "hidden": (64,), "dropout": None},
}


def network_of(options: ModelOptions, input_shape: Sequence[int], outputs: int) -> Any:
    """The network that the options describe.

    Raises:
      JaxNodesError: options that the model doesn't have, or whatever it finds.
    """
    from jaxnodes import models

    takes, defaults = _TAKES[options.model], ModelOptions()
    given = {}
    for name in ("hidden", "activation", "dropout", "variant"):
        value = getattr(options, name)
        changed = value != getattr(defaults, name)
        check(
            name in takes or not changed,
            f"expected options that {options.model} has ({', '.join(takes) or 'none'}), got "
            f"{name} {value}; leave it out",
            f"--{name}",
        )
        if name in takes:
            given[name] = value if changed or takes[name] is None else takes[name]
    variant = given.pop("variant", "")
    if options.model == "resnet":
        check(variant.isdecimal(), f"expected a depth such as 20 or 50, got {variant}", "--variant")
        return models.resnet(input_shape, outputs, int(variant), **given)
    if options.model == "efficientnet":
        # Small images, and training runs too short for the authors' running statistics.
        small = {"stem_stride": 1} if min(image_shape(input_shape)[:2]) < 64 else {}
        norm = jn.BatchNorm(epsilon=1e-3)
        return models.efficientnet(input_shape, outputs, variant, norm=norm, **small, **given)
    if options.model == "forecaster":
        return models.forecaster(input_shape, outputs, kind=variant, **given)
    return getattr(models, options.model)(input_shape, outputs, **given)


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
        shape = tuple(config["input"]["shape"][1:])
    else:
        from jaxnodes.cli.sources import load_parts
        from jaxnodes.cli.tasks import task_of

        parts = load_parts(options)
        shape = parts.train.x.shape[1:]
        net = network_of(options, shape, task_of(parts, options.standardize).outputs)
    counted = count(net, shape)
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
