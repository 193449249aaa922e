"""A masked model: a small BERT finds hidden characters of Python's standard library.

It reads 16 characters at a time; of 15 % of them it has to say what they are, and most of those
are replaced by a mask (8 of 10) or by any character (1 of 10), drawn anew at every step. So it
looks both ways, and at places rather than at characters: its positions begin as sinusoids, which
tells near from far (learned from nothing, that takes longer than this example has).

Claims: on modules that were not read it finds more of the chosen characters than the commonest
character does, and more than a table of what most often follows the character before. All four
heads of its block look at near neighbors: the figure shows where, in one stretch of text.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import optax
from _run import run

import jaxnodes as jn

WIDTH, BATCH, STEPS, RATE, STD = 16, 128, 250, 8e-3, 0.1
MASK = "\0"  # stands for a hidden character; the library's source has none


def main(out: Path) -> dict[str, object]:
    text = jn.data.standard_library_text(limit=400_000)
    vocabulary = jn.data.Characters(text + MASK)
    ids, size = vocabulary.encode(text), len(vocabulary)
    mask_id = vocabulary.symbols.index(MASK)
    parts = jn.data.split_series(ids, test=0.1)
    train, test = (p[: len(p) // WIDTH * WIDTH].reshape(-1, WIDTH) for p in parts[::2])

    bert = jn.models.bert(
        size, layers=1, heads=4, features=64, hidden=128, context=WIDTH, types=1, dropout=0.0
    )
    net = jn.MaskedTokens(dataclasses.replace(bert, std=STD))  # wider weights learn sooner
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, 30, STEPS, RATE / 20)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), jn.adamw(schedule, b2=0.98))

    def masked(key, ids):
        return jn.models.mask_tokens(key, ids, mask_id=mask_id, vocabulary=size)

    def objective(params, state, ids, key):
        mask_key, key = jax.random.split(key)
        inputs, targets, weights = masked(mask_key, ids)
        logits, state = net.apply(params, state, inputs, key=key, training=True)
        return jn.cross_entropy(logits, targets, weights=weights), (state, None)

    step = jn.make_step(objective, optimizer)

    @jax.jit
    def learn(train_state, batches, keys):
        """All steps as one program: a scan over batches (STEPS, BATCH, WIDTH)."""

        def one(train_state, batch_and_key):
            train_state, (loss, _) = step(train_state, *batch_and_key)
            return train_state, loss

        return jax.lax.scan(one, train_state, (batches, keys))

    rng = np.random.default_rng(0)
    order = np.resize(rng.permutation(len(train)), STEPS * BATCH)
    batches = train[order].reshape(STEPS, BATCH, WIDTH)
    params, state = net.init(jax.random.key(0), batches[0])
    params["encoder"]["positions"]["w"] = jn.sinusoidal_positions(WIDTH, 64) * STD * np.sqrt(2)
    start = jn.TrainState(params, state, optimizer.init(params))
    end, losses = learn(start, batches, jax.random.split(jax.random.key(1), STEPS))
    losses = np.asarray(losses)

    inputs, targets, chosen = (np.asarray(a) for a in masked(jax.random.key(2), test))
    logits = jn.predict(net, (end.params, end.state), inputs, batch_size=512)
    commonest = np.bincount(parts.train).argmax()
    pairs = np.zeros((size, size))
    np.add.at(pairs, (parts.train[:-1], parts.train[1:]), 1)
    pairs[mask_id, commonest] = 1  # after a hidden character, the commonest one
    before = np.pad(inputs, ((0, 0), (1, 0)), constant_values=mask_id)[:, :-1]
    answers = {
        "commonest character": np.full_like(targets, commonest),
        "by the one before": pairs.argmax(axis=1)[before],
        "BERT": np.asarray(logits).argmax(axis=-1),
    }
    accuracy = {name: float((a == targets)[chosen].mean()) for name, a in answers.items()}
    print(f"{chosen.sum():,} chosen characters of text that was not read, found by")
    for name, share in accuracy.items():
        print(f"  {name:20}{share:6.1%}")
    line = np.flatnonzero([{"i", "n", "="} <= set(vocabulary.decode(row)) for row in test])[0]

    figure, weights, tokens = draw(net, end.params, test[line], vocabulary)
    jn.plots.save(figure, out / "bert_chars.png")
    return {"accuracy": accuracy, "losses": losses, "weights": weights, "tokens": tokens}


def draw(net, params, ids, vocabulary):
    """Where the four heads look in one stretch of text, as the embeddings go into the block."""
    x, state, inside = ids[None], {}, params["encoder"]
    by_name = dict(net.encoder.layers)
    x, state = jn.call(by_name["embedding"], "embedding", inside, state, x)
    x = x + inside["types"]["w"][0]
    for name in ("positions", "norm1"):
        x, state = jn.call(by_name[name], name, inside, state, x)
    weights = np.asarray(jn.attention_weights(inside["block1"]["attention1"], x)[0])
    tokens = [{" ": "␣", "\n": "↵"}.get(c, c) for c in vocabulary.decode(ids)]
    return jn.plots.attention_maps(weights, tokens, columns=2), weights, tokens


if __name__ == "__main__":
    run(main, __file__)
