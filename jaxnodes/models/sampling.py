"""Generating sequences: ids from a causal language model, one after the other."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.errors import check, check_count, check_key, check_number, describe, is_concrete
from jaxnodes.layers.arrays import Params, State, dtype_of
from jaxnodes.layers.base import Layer
from jaxnodes.layers.recurrent import is_carried


def generate(
    net: Layer,
    variables: tuple[Params, State],
    prompt: Any,
    steps: int,
    *,
    key: jax.Array | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> jax.Array:
    """Continues sequences by ids drawn from what a language model says comes next.

    All steps are one compiled scan. A network that carries what it has seen (a decoder with
    `cache=True`, a stateful LSTM) is given one id at a time; any other one the whole sequence
    at each step. Both give the same ids.

    Args:
      net: ids (B, T) to logits (B, T, V), each step's from the steps up to it alone. If one
        layer carries what it has seen, all that look back have to.
      variables: `(params, state)`. What the state carries is of no account: caches start
        empty, for as many sequences as there are. So `params` may be those of a network
        without a cache, with `{}` as the state.
      prompt: integer ids (B, T) with T at least 1.
      steps: how many ids to add.
      key: a typed PRNG key. The same key draws the same ids.
      temperature: what logits are divided by; 0 takes the likeliest id and needs no key.
      top_k: draw from the k likeliest ids alone.
      top_p: draw from the fewest likeliest ids alone whose probabilities add up to at least
        p (Holtzman et al. 2019, arXiv:1904.09751); after `top_k`.

    Returns:
      (B, T + steps): the prompts, and what follows. Where values are being traced, so that no
      error can be raised, ids drawn from logits with a NaN are -1.

    Raises:
      JaxNodesError: a prompt and steps beyond what the network can see at once, ids that it
        doesn't know, logits with a NaN, or no key where one is needed.

    Example:

    >>> import jax, jax.numpy as jnp, jaxnodes as jn
    >>> net = jn.models.gpt(50, layers=1, heads=2, features=8, context=16, cache=True)
    >>> prompt = jnp.array([[3, 1, 4], [1, 5, 9]])
    >>> variables = net.init(jax.random.key(0), prompt)
    >>> generate(net, variables, prompt, 5, key=jax.random.key(1), top_k=10).shape
    (2, 8)
    """
    check(
        isinstance(net, Layer) and isinstance(variables, (tuple, list)) and len(variables) == 2,
        f"expected a network and its variables (params, state), got {type(net).__name__} and "
        f"{describe(variables)}",
        "generate",
    )
    prompt = jnp.asarray(prompt)
    check(
        prompt.ndim == 2 and prompt.size and jnp.issubdtype(prompt.dtype, jnp.integer),
        f"expected prompts of integer ids (B, T), got {describe(prompt)}",
        "generate",
    )
    check_count(steps, "steps", "generate")
    check_number(temperature, "temperature", "generate", least=0)
    if top_k is not None:
        check_count(top_k, "top_k", "generate")
    if top_p is not None:
        check_number(top_p, "top_p", "generate", least=0, most=1)
    greedy = temperature == 0
    if not greedy:
        check(
            key is not None,
            "expected a key to draw by, got none; pass key=jax.random.key(seed), or "
            "temperature=0 for the likeliest ids",
            "generate",
        )
        check_key(key, "generate")
    ids = _generated(
        net,
        *variables,
        prompt if prompt.dtype == jnp.int64 else prompt.astype(jnp.int32),
        None if greedy else key,
        None if greedy else temperature,
        None if greedy else top_p,
        steps=steps,
        top_k=None if greedy else top_k,
    )
    check(
        not is_concrete(ids) or ids.min() >= 0,
        "expected logits without a NaN, got some; look for one in the parameters, and for ids "
        "in the prompt that the network doesn't know",
        "generate",
    )
    return ids


@functools.partial(jax.jit, static_argnames=("net", "steps", "top_k"))
def _generated(net, params, state, prompt, key, temperature, top_p, *, steps, top_k):
    length = prompt.shape[1]
    state = _begun(net, params, state, prompt)

    def apply(state, ids):
        logits, state = net.apply(params, state, ids)
        check(
            logits.ndim == 3 and logits.shape[:-1] == ids.shape,
            f"expected a network with logits {(*ids.shape, 'V')} for ids {ids.shape}, "
            f"got {logits.shape}",
            "generate",
        )
        return logits, state

    def pick(logits, i):
        logits = logits.astype(np.promote_types(logits.dtype, np.float32))
        if temperature is None:
            drawn = jnp.argmax(logits, axis=-1)
        else:
            likely = likeliest(logits / temperature, top_k, top_p)
            drawn = jax.random.categorical(jax.random.fold_in(key, i), likely)
        return jnp.where(jnp.isnan(logits).any(-1), -1, drawn).astype(prompt.dtype)

    def one_id(carry, i):
        state, ids = carry
        logits, state = apply(state, ids[:, None])
        ids = pick(logits[:, -1], i)
        return (state, ids), ids

    def all_ids(sequence, i):
        logits, _ = apply(state, sequence[:, :-1])
        last = jax.lax.dynamic_index_in_dim(logits, length - 1 + i, axis=1, keepdims=False)
        ids = pick(last, i)
        return sequence.at[:, length + i].set(ids), None

    if not _carries(state):
        sequence = jnp.pad(prompt, ((0, 0), (0, steps)))
        return jax.lax.scan(all_ids, sequence, jnp.arange(steps))[0]
    # For the shapes alone: whatever refuses a sequence of this length says so itself.
    whole = jax.ShapeDtypeStruct((len(prompt), length + steps - 1), prompt.dtype)
    jax.eval_shape(apply, state, whole)
    logits, state = apply(state, prompt)
    first = pick(logits[:, -1], 0)
    _, ids = jax.lax.scan(one_id, (state, first), jnp.arange(1, steps))
    return jnp.concatenate([prompt, first[:, None], ids.T], axis=1)


def likeliest(logits: jax.Array, top_k: int | None, top_p: Any) -> jax.Array:
    """Logits (..., V) with -inf for all but the likeliest ids; see `generate`."""
    if top_k is not None:
        size = logits.shape[-1]
        check(top_k <= size, f"expected top_k of at most {size}, got {top_k}", "generate")
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        falling = jnp.sort(logits, axis=-1, descending=True)
        shares = jax.nn.softmax(falling)
        before = jnp.cumsum(shares, axis=-1) - shares
        kept = (before < top_p).at[..., 0].set(True)
        least = jnp.min(jnp.where(kept, falling, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits


def _begun(net: Layer, params: Params, state: State, prompt: jax.Array) -> State:
    """The state to begin with: carried parts empty, for these prompts; the rest as given."""
    made, empty = jax.eval_shape(
        net.init, jax.random.key(0), jax.ShapeDtypeStruct(prompt.shape, prompt.dtype)
    )

    # A cache is in the dtype that the network computes in: the parameters' unless it says so.
    def zeros(spec):
        dtype = dtype_of(params) if spec.dtype == dtype_of(made) else spec.dtype
        return jnp.zeros(spec.shape, dtype)

    def begun(empty, given):
        if not isinstance(empty, Mapping):
            return given
        if is_carried(empty):
            return jax.tree.map(zeros, dict(empty))
        return {name: begun(inner, given.get(name, {})) for name, inner in empty.items()}

    return begun(empty, state)


def _carries(state: Any) -> bool:
    return isinstance(state, Mapping) and (
        is_carried(state) or any(_carries(inner) for inner in state.values())
    )
