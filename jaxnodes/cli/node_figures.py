"""The figures of `jaxnodes inspect`, in the run folder."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import jaxnodes as jn
from jaxnodes import plots
from jaxnodes.cli import folders
from jaxnodes.cli.tasks import is_pixels
from jaxnodes.errors import JaxNodesError
from jaxnodes.models.convolutional import image_shape

if TYPE_CHECKING:
    from jaxnodes.cli.inspection import Findings

_SAMPLES = 200  # that the heat maps show, at most


def draw_all(found: "Findings", folder: Path) -> list[str]:
    """Draws all that there is to see of the nodes.

    Returns:
      The names of the files.
    """
    predict = found.task.learner(found.net).predict
    x = jax.tree.map(lambda array: array[:_SAMPLES], found.x)
    _, nodes = jn.record(predict)(found.variables, x)
    sites = jn.node_sites(predict, found.variables, x)
    classes = {}
    if found.task.class_names:
        classes = {
            "labels": found.part.y[:_SAMPLES],
            "class_names": found.task.class_names,
        }
    hidden = [name for name in found.worth if name != found.outputs] or [found.outputs]
    drops = {name: found.worth[name][..., 1] for name in hidden}
    unit = f"gained without the node: {found.task.labels['loss']}"
    figures: dict[str, Callable[[], Any]] = {
        folders.ACTIVATIONS: lambda: plots.activations(nodes, sites=sites, **classes),
        folders.IMPORTANCE: lambda: plots.importance(drops, unit=unit),
        folders.STATISTICS: lambda: plots.statistics(found.statistics),
    }
    if (draw := _weights(found)) is not None:
        figures[folders.WEIGHTS] = draw
    for name, draw in figures.items():
        plots.save(draw(), folder / name)
    return list(figures)


def draw_node(found: "Findings", site: str, place: tuple[int, ...], folder: Path) -> list[str]:
    """Draws the samples that a node answers to most, where they are images."""
    shape = _image_shape(found)
    if shape is None:
        return []
    s = found.statistics[site]
    images = found.part.x.reshape(-1, *shape)
    names = found.task.class_names
    labels = {"labels": found.part.y, "class_names": names} if names else {}
    title = f"{site}/{'/'.join(map(str, place))}"
    figure = plots.top_samples(s, images, nodes=[place], title=title, **labels)
    name = folders.NODE.format("-".join([site.replace("/", "-"), *map(str, place)]))
    plots.save(figure, folder / name)
    return [name]


def _image_shape(found: "Findings") -> tuple[int, int, int] | None:
    """(H, W, C) of the samples, if they are images."""
    if isinstance(found.part, str) or not is_pixels(found.part):
        return None
    try:
        return image_shape(found.part.x.shape[1:], "inspect")
    except JaxNodesError:
        return None


def _weights(found: "Findings") -> Callable[[], Any] | None:
    """How to draw the weights of the first layer, if what goes into it is an image."""
    shape = _image_shape(found)
    if shape is None:
        return None
    for name in found.worth:
        params = found.variables[0]
        for part in name.split("/"):
            params = params.get(part, {}) if isinstance(params, dict) else {}
        w: Any = np.asarray(params.get("w", 0.0))
        if w.ndim == 4:
            return lambda: plots.filters(w)
        if w.ndim == 2 and w.shape[0] == math.prod(shape):
            return lambda: plots.incoming_weights(w, shape)
        return None
    return None
