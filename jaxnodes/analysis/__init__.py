"""Measuring nodes: what each one does and what it is worth, for any JAX function."""

from jaxnodes.analysis.ablation import ablate
from jaxnodes.analysis.agreement import Agreement, Fidelity, fidelity, measure_fidelity
from jaxnodes.analysis.attribution import METHODS, attribute
from jaxnodes.analysis.flow import GradientFlow, gradient_flow
from jaxnodes.analysis.groups import (
    Pairs,
    RemovalCurve,
    ablate_pairs,
    removal_curve,
)
from jaxnodes.analysis.nonfinite import NonFinite, find_nonfinite
from jaxnodes.analysis.orders import Shapley, shapley
from jaxnodes.analysis.pruning import prune
from jaxnodes.analysis.pruning_to_size import prune_masks, prune_to
from jaxnodes.analysis.streaming import statistics
from jaxnodes.analysis.summaries import LayerSummary, Summary, summary
from jaxnodes.analysis.tile_statistics import NodeStatistics

__all__ = [
    "METHODS",
    "Agreement",
    "Fidelity",
    "GradientFlow",
    "LayerSummary",
    "NodeStatistics",
    "NonFinite",
    "Pairs",
    "RemovalCurve",
    "Shapley",
    "Summary",
    "ablate",
    "ablate_pairs",
    "attribute",
    "fidelity",
    "find_nonfinite",
    "gradient_flow",
    "measure_fidelity",
    "prune",
    "prune_masks",
    "prune_to",
    "removal_curve",
    "shapley",
    "statistics",
    "summary",
]
