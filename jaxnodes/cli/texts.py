"""What there is to learn of a text: which character comes next, or which one is hidden.

A text is cut into windows, each a sample. Logits of a whole text would fill the memory,
(N, T, V); so what is trained and measured is a network with its targets among its inputs
(`Scored`), which hands on how well it did at each character.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnodes as jn
from jaxnodes.data.datasets import Splits
from jaxnodes.errors import check
from jaxnodes.models.masked_tokens import mask_tokens

#: Stands for every character that the training text doesn't have.
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

#: By model: what it learns, and what its accuracy is of.
KINDS = {"gpt": "next_character", "bert": "masked_character"}
_INSPECTED = 128  # windows, at most


class Windows(NamedTuple):
    """Stretches of a text, (N, T) each.

    Attributes:
      inputs: ids as the network sees them.
      targets: the ids to be found.
      counted: whether each is to be found.
    """

    inputs: Any
    targets: Any
    counted: Any


class Scores(NamedTuple):
    """What a network made of windows, (N, T) each.

    Attributes:
      nats: the cross-entropy of each target.
      right: whether the target was the likeliest id.
      counted: as in the windows.
    """

    nats: Any
    right: Any
    counted: Any


@dataclasses.dataclass(frozen=True)
class Scored(jn.Layer):
    """A network over ids with the targets among its inputs: `Windows` to `Scores`.

    Its variables are the network's own.
    """

    net: Any

    def init(self, key, x):
        return self.net.init(key, x.inputs)

    def apply(self, params, state, x, *, key=None, training=False):
        logits, state = self.net.apply(params, state, x.inputs, key=key, training=training)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, x.targets)
        return Scores(nats, jnp.argmax(logits, axis=-1) == x.targets, x.counted), state


def mean_nats(scores: Scores, _: Any, weights: Any = None) -> jax.Array:
    """The cross-entropy of the targets that count, with one weight a window, as a loss."""
    counted = scores.counted.astype(scores.nats.dtype)
    counted = counted if weights is None else counted * weights[:, None]
    return jnp.sum(scores.nats * counted) / jnp.sum(counted)


def share_right(scores: Scores, _: Any) -> jax.Array:
    """The share of the targets that count which were the likeliest, as a metric."""
    right = (scores.right & scores.counted).astype(scores.nats.dtype)
    return jnp.sum(right) / jnp.sum(scores.counted.astype(right.dtype))


@dataclasses.dataclass(frozen=True)
class TextTask:
    """Finding characters: the next one each time (gpt), or hidden ones (bert).

    To a run it is what `Task` is to one of tables and images; its parts are texts.
    """

    model: str
    vocabulary: jn.data.Characters
    width: int
    seed: int  # of the masks to measure with
    class_names: ClassVar[tuple[str, ...]] = ()
    target: ClassVar[str] = "text"

    @property
    def outputs(self) -> int:
        """How many ids there are; the mask's is the last one."""
        return len(self.vocabulary) + (self.model == "bert")

    @property
    def loss(self) -> Callable:
        return mean_nats

    @property
    def metrics(self) -> dict[str, Callable]:
        """What to measure each epoch."""
        return {"accuracy" if self.model == "gpt" else "masked_accuracy": share_right}

    @property
    def labels(self) -> dict[str, str]:
        """The measures with their units, as axes show them."""
        which = "next" if self.model == "gpt" else "hidden"
        (accuracy,) = self.metrics
        return {"loss": "cross-entropy (nats)", accuracy: f"accuracy ({which} characters)"}

    def learner(self, net: Any) -> Scored:
        """What is trained, and measured."""
        return Scored(net)

    def size(self, part: str) -> int:
        """How many windows there are in a text; a rest shorter than one is left out.

        Raises:
          JaxNodesError: a text that isn't empty, yet too short for a window.
        """
        windows = max(0, len(part) - 1) // self.width
        check(
            windows or not part,
            f"expected at least {self.width + 1} characters in each part of a text, as many as "
            f"the network sees and one more, got {len(part)}; take a longer text, a larger "
            "fraction, or a smaller --variant",
            "data",
        )
        return windows

    def spec(self, part: str) -> Any:
        """A batch of one sample, as the network takes it."""
        del part
        return jax.ShapeDtypeStruct((1, self.width), np.int32)

    def pair(self, part: str) -> tuple[Windows, np.ndarray]:
        """A text as the network learns it. Masks are those of the seed."""
        if not self.size(part):
            nothing = np.zeros((0, self.width), np.int32)
            return Windows(nothing, nothing, nothing.astype(bool)), nothing
        ids = self.vocabulary.encode(part)
        inputs, targets = jn.data.next_character_windows(ids, self.width)
        if self.model == "gpt":
            return Windows(inputs, targets, np.ones(inputs.shape, bool)), targets
        mask = jax.jit(_masking(self.outputs))
        windows = mask(jax.random.key(self.seed), Windows(inputs, inputs, None))
        return Windows(*map(np.asarray, windows)), inputs

    def sample(self, part: str) -> tuple[Windows, np.ndarray]:
        """Some windows, evenly spaced, for what takes long; all of a short text."""
        windows, targets = self.pair(part)
        n = len(targets)
        some = np.linspace(0, n - 1, min(n, _INSPECTED)).round().astype(int)
        return Windows(*(array[some] for array in windows)), targets[some]

    def answer(self, part: str, sample: int) -> str:
        """What a window of `sample` says."""
        windows, _ = self.sample(part)
        ids = windows.inputs if self.model == "gpt" else windows.targets
        return self.vocabulary.decode(ids[sample])

    def augmentation(self, part: str, options: Any) -> Callable | None:
        """For bert: masks drawn anew at every step.

        Raises:
          JaxNodesError: options for images.
        """
        del part
        check(
            options.augment == "auto",
            f"expected images to distort, got a text and {options.augment}; leave it out",
            "--augment",
        )
        return _masking(self.outputs) if self.model == "bert" else None

    def measure(self, outputs: Scores, part: str) -> dict[str, float]:
        """The loss, of gpt in bits too, and the accuracy; the share of unknown characters, if any.

        Args:
          outputs: of all windows of the part.
          part: the text.
        """
        nats, right, counted = (np.asarray(array) for array in outputs)
        (accuracy,) = self.metrics
        measures = _of_loss(self.model, nats[counted].mean(dtype=np.float64))
        measures[accuracy] = float(right[counted].mean())
        targets = self.pair(part)[0].targets
        unknown = (targets == self.vocabulary.symbols.index(UNKNOWN))[counted].mean()
        return measures | ({"unknown": float(unknown)} if unknown else {})

    def baseline(self, parts: Splits[str]) -> dict[str, dict[str, float]]:
        """How well one does on the test text by counting in the training text."""
        (train, _), (test, _) = self.pair(parts.train), self.pair(parts.test)
        if self.model == "gpt":
            return {"bigram": _of_loss("gpt", bigram_nats(train, test, self.outputs))}
        commonest = np.bincount(train.targets.ravel()).argmax()
        (accuracy,) = self.metrics
        found = (test.targets == commonest)[test.counted].mean()
        return {"commonest_character": {accuracy: float(found)}}

    def to_config(self) -> dict[str, Any]:
        """The task as JSON values."""
        return {
            "task": KINDS[self.model],
            "vocabulary": self.vocabulary.symbols,
            "width": self.width,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TextTask":
        """The task that `to_config` wrote."""
        model = next(model for model, kind in KINDS.items() if kind == config["task"])
        vocabulary = jn.data.Characters(config["vocabulary"], unknown=UNKNOWN)
        return cls(model, vocabulary, config["width"], config["data"]["seed"])


def bigram_nats(train: Windows, test: Windows, size: int, smoothing: float = 10.0) -> float:
    """The cross-entropy of a text by the pairs of another one, smoothed by the single characters.

        p(b | a) = (n_ab + s p_b) / (n_a + s),  p_b = (n_b + 1) / (n + size)

    Args:
      train, test: windows with the next ids as targets.
      size: how many ids there are.
      smoothing: s.
    """
    seen, counts = np.unique(_pairs(train, size), return_counts=True)
    asked = _pairs(test, size)
    places = np.searchsorted(seen, asked).clip(max=len(seen) - 1)
    of_pair = np.where(seen[places] == asked, counts[places], 0)
    before, after = asked // size, asked % size
    of_first = np.bincount(train.inputs.ravel(), minlength=size)
    alone = (np.bincount(train.targets.ravel(), minlength=size) + 1) / (train.targets.size + size)
    chances = (of_pair + smoothing * alone[after]) / (of_first[before] + smoothing)
    return float(-np.log(chances).mean())


def _pairs(windows: Windows, size: int) -> np.ndarray:
    return windows.inputs.ravel().astype(np.int64) * size + windows.targets.ravel()


def _of_loss(model: str, nats: float) -> dict[str, float]:
    bits = {"bits_per_character": float(nats / np.log(2))} if model == "gpt" else {}
    return {"loss": float(nats), **bits}


@functools.lru_cache
def _masking(ids: int) -> Callable[[jax.Array, Windows], Windows]:
    """Hides some targets; the same function for as many ids, so that it compiles once."""

    def mask(key, windows):
        return Windows(*mask_tokens(key, windows.targets, mask_id=ids - 1, vocabulary=ids))

    return mask
