"""A character model: a small GPT reads Python's standard library, once, and then writes some.

Two blocks of width 64 with rotary positions see the source of the library's modules, 64 characters
at a time, and say at each which one follows. How good that is, is measured in bits per character
(the cross-entropy by the binary logarithm) on modules that were not read. To compare: all
characters alike likely, and the counts of what follows what in the same text (a bigram model,
smoothed towards the characters' own shares).

Claims: after fewer than 200 steps of training the GPT needs fewer bits than the bigram model.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import optax
from _run import run

import jaxnodes as jn

WIDTH, BATCH, RATE = 64, 16, 3e-3


def bigram_bits(train, test, size, smoothing=10.0):
    """Bits per character of `test` by the pairs of `train`: p(b | a) = (n_ab + s p_b) / (n_a + s).

    The pairs are those that the network is asked for: within windows.
    """
    counts = np.zeros((size, size))
    np.add.at(counts, (train[0].ravel(), train[1].ravel()), 1)
    alone = (counts.sum(axis=0) + 1) / (counts.sum() + size)
    chances = (counts + smoothing * alone) / (counts.sum(axis=1, keepdims=True) + smoothing)
    return float(-np.log2(chances[test[0].ravel(), test[1].ravel()]).mean())


def main(out: Path) -> dict[str, object]:
    text = jn.data.standard_library_text(limit=200_000)
    vocabulary = jn.data.Characters(text)
    parts = jn.data.split_series(vocabulary.encode(text), test=0.1)
    train, test = (jn.data.next_character_windows(p, WIDTH) for p in (parts.train, parts.test))
    steps = len(train[0]) // BATCH

    net = jn.models.gpt(
        len(vocabulary), layers=2, heads=4, features=64, context=256, rotary=True, dropout=0.0
    )
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, 20, steps, RATE / 20)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), jn.adamw(schedule))

    def objective(params, state, batch, key):
        x, y = batch
        logits, state = net.apply(params, state, x, key=key, training=True)
        return jn.cross_entropy(logits, y), (state, None)

    step = jn.make_step(objective, optimizer)

    @jax.jit
    def learn(train_state, batches, keys):
        """All steps as one program: a scan over batches (steps, BATCH, WIDTH)."""

        def one(train_state, batch_and_key):
            train_state, (loss, _) = step(train_state, *batch_and_key)
            return train_state, loss

        return jax.lax.scan(one, train_state, (batches, keys))

    order = np.random.default_rng(0).permutation(len(train[0]))[: steps * BATCH]
    batches = tuple(part[order].reshape(steps, BATCH, WIDTH) for part in train)
    params, state = net.init(jax.random.key(0), batches[0][0])
    start = jn.TrainState(params, state, optimizer.init(params))
    end, losses = learn(start, batches, jax.random.split(jax.random.key(1), steps))
    curve = np.asarray(losses) / np.log(2)

    logits = jn.predict(net, (end.params, end.state), test[0], batch_size=128)
    bits = {
        "all alike": float(np.log2(len(vocabulary))),
        "bigram": bigram_bits(train, test, len(vocabulary)),
        "GPT": float(jn.cross_entropy(logits, test[1])) / np.log(2),
    }
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{parameters:,} parameters, {steps} steps of {BATCH * WIDTH:,} characters")
    print(f"bits per character of {test[1].size:,} that were not read:")
    for name, value in bits.items():
        print(f"  {name:10}{value:6.2f}")

    # With a cache each step looks at one id only; the parameters are the same.
    prompt = "def "
    sample = jn.models.generate(
        dataclasses.replace(net, cache=True),
        (end.params, {}),
        vocabulary.encode(prompt)[None],
        240,
        key=jax.random.key(3),
        temperature=0.7,
    )
    sample = vocabulary.decode(sample[0])
    print("it writes:\n" + "\n".join("  | " + line for line in sample.splitlines()))

    figure, (ax,) = jn.plots.panels(1, size=(5.6, 3.6))
    ax.plot(np.arange(1, steps + 1), curve, color=jn.plots.SKY, lw=0.8, label="each batch")
    smooth = np.convolve(curve, np.ones(15) / 15, "valid")
    ax.plot(np.arange(8, steps - 6), smooth, color=jn.plots.BLUE, lw=2, label="mean of 15 batches")
    ax.plot(steps, bits["GPT"], "o", color="black", label="GPT, text not read")
    ax.axhline(bits["bigram"], color=jn.plots.ORANGE, ls="--", label="bigram, text not read")
    ax.set(xlabel="training step", ylabel="bits per character", ylim=(2, 7))
    ax.legend(frameon=False)
    jn.plots.save(figure, out / "gpt_chars.png")
    return {"bits": bits, "curve": curve, "sample": sample, "test": test, "logits": logits}


if __name__ == "__main__":
    run(main, __file__)
