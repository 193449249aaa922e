"""Figures. Each function draws one and returns it; `save` writes it to a file.

They are matplotlib `Figure`s made without pyplot, so that nothing is global, no
window opens, and no display is needed.

    figure = jn.plots.curves(result.history)
    jn.plots.save(figure, "curves.png")
"""

from jaxnodes.plots.attention_figures import attention_maps
from jaxnodes.plots.figures import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    panels,
    reference_lines,
    save,
)
from jaxnodes.plots.flow_figures import gradient_flow
from jaxnodes.plots.function_figures import COMMON_ACTIVATIONS, activation_functions, bias_effect
from jaxnodes.plots.importance_figures import importance, importance_by_site, removal_curves
from jaxnodes.plots.node_figures import activations
from jaxnodes.plots.reader_figures import digit_reader
from jaxnodes.plots.sample_figures import top_samples
from jaxnodes.plots.statistics_figures import statistics
from jaxnodes.plots.training_figures import UNITS, confusion, curves
from jaxnodes.plots.weight_figures import filters, incoming_weights

__all__ = [
    "BLUE",
    "COMMON_ACTIVATIONS",
    "GRAY",
    "GREEN",
    "ORANGE",
    "PURPLE",
    "SKY",
    "UNITS",
    "activation_functions",
    "activations",
    "attention_maps",
    "bias_effect",
    "confusion",
    "curves",
    "digit_reader",
    "filters",
    "gradient_flow",
    "importance",
    "importance_by_site",
    "incoming_weights",
    "panels",
    "reference_lines",
    "removal_curves",
    "save",
    "statistics",
    "top_samples",
]
