"""`jaxnodes generate`: a text continued by a saved run."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np

import jaxnodes as jn
from jaxnodes.cli.environment import keep_compiled_programs
from jaxnodes.cli.options import Generate
from jaxnodes.cli.sources import read_task
from jaxnodes.cli.texts import TextTask
from jaxnodes.errors import JaxNodesError, check, check_count
from jaxnodes.training.saving import load_network


def run_generation(options: Generate) -> int:
    """Prints the prompt and what follows it."""
    keep_compiled_programs()
    check_count(options.length, "how many characters to add", "--length")
    check(
        0 <= options.seed < 2**32,
        f"expected a whole number from 0 to 2**32 - 1, got {options.seed}",
        "--seed",
    )
    net, variables, config = load_network(options.run)
    task = read_task(config)
    if not isinstance(task, TextTask) or task.model != "gpt":
        raise JaxNodesError(
            f"expected a run of gpt, which says what comes next, got one of {config['task']}",
            "generate",
        )
    known = task.vocabulary.symbols
    strange = sorted(set(options.prompt) - set(known))
    check(options.prompt, "expected at least one character, got none", "--prompt")
    check(
        not strange,
        f"expected characters that the run's text has, got {', '.join(map(repr, strange))}",
        "--prompt",
    )
    ids = continued(
        net,
        variables[0],
        task.vocabulary.encode(options.prompt),
        options.length,
        key=jax.random.key(options.seed),
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    text = task.vocabulary.decode(ids)
    if options.json:
        added = text[len(options.prompt) :]
        print(json.dumps({"run": options.run, "prompt": options.prompt, "continuation": added}))
    else:
        print(text)
    return 0


def continued(
    net: Any, params: Any, ids: np.ndarray, length: int, *, key: jax.Array, **draws: Any
) -> np.ndarray:
    """Ids and as many more as asked for, with a cache of keys and values.

    The network sees only so many ids at once. So a long text is made in pieces, each from
    the ids before it that fill half of what the network sees.

    Args:
      net: a decoder.
      params: its parameters.
      ids: (T,) to begin with.
      length: how many to add.
      key: a typed PRNG key.
      **draws: of `jn.models.generate`: `temperature`, `top_k`, `top_p`.

    Returns:
      (T + length,).
    """
    cached, end, piece = dataclasses.replace(net, cache=True), len(ids) + length, 0
    while len(ids) < end:
        seen = ids[-(net.context // 2) :]
        # As many as there is room for, wanted or not: pieces of one shape are one program.
        steps = net.context + 1 - len(seen)
        piece_key = jax.random.fold_in(key, piece)
        made = jn.models.generate(cached, (params, {}), seen[None], steps, key=piece_key, **draws)
        ids = np.concatenate([ids, np.asarray(made[0, len(seen) :])])
        piece += 1
    return ids[:end]
