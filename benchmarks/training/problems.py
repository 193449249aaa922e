"""What is trained in a workload, and how it becomes a contestant."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Contestant

RATE = 1e-3

#: `trained(problem, dropout, x, y, shuffle)` builds a training and returns
#: `run(epochs)`, which returns the mean loss of each epoch.
Trained = Callable[..., Callable[[int], Any]]


class Problem(NamedTuple):
    """Samples and initial weights, in NumPy, so that all start alike.

    Attributes:
      x, y: samples and integer labels.
      weights: of each layer, `(w, b)`; a dense layer's is (in, out), a convolution's HWIO.
      dropout: the rate after each hidden dense layer.
      batch: samples a step.
    """

    x: np.ndarray
    y: np.ndarray
    weights: list[tuple[np.ndarray, np.ndarray]]
    dropout: float
    batch: int


def contestant(
    problem: Callable[[], Problem],
    trained: Trained,
    needs: str = "jax",
    epochs: int = 1,
    steps: int = 1,
    **options: Any,
) -> Contestant:
    """Timed: some epochs with dropout, shuffled. The answer: three epochs of five batches without.

    Args:
      problem: what to train on.
      trained: as `Trained` says.
      needs: the package.
      epochs: in a timed call.
      steps: in all of them.
      options: handed on to `trained`.
    """
    return Contestant(
        functools.partial(_make, problem, trained, epochs, options),
        needs,
        steps=steps,
        answer=functools.partial(_answer, problem, trained, options),
    )


def _make(problem, trained, epochs, options):
    it = problem()
    run = trained(it, it.dropout, it.x, it.y, shuffle=True, **options)
    return lambda: run(epochs)


def _answer(problem, trained, options):
    it = problem()
    few = slice(0, 5 * it.batch)
    return np.asarray(trained(it, 0.0, it.x[few], it.y[few], shuffle=False, **options)(3))


def orders(n: int, batch: int, shuffle: bool) -> Iterator[np.ndarray]:
    """For each epoch the samples of its batches, (steps, batch); what is left over is dropped."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(n) if shuffle else np.arange(n)
        yield order[: n // batch * batch].reshape(-1, batch).astype(np.int32)
