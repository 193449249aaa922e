"""Measuring nodes: what each one does and what it is worth, for any JAX function."""

from jaxnodes.analysis.ablation import ablate

__all__ = ["ablate"]
