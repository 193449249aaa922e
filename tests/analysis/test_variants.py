"""How `ablate` goes through its variants: within its memory, with the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
import jaxnodes.cores
from jaxnodes.analysis.plans import plan
from jaxnodes.analysis.samples import prepare
from jaxnodes.analysis.variants import Data, Question, measure_whole, measure_without
from tests.drawn import drawn_variables

pytestmark = pytest.mark.usefixtures("quick")


def problem(n=3000):
    net = jn.fully_connected([20, 96, 64, 8], "tanh")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, 20)).astype(np.float32))
    return net, drawn_variables(net, x), x, jnp.asarray(rng.integers(0, 8, n), jnp.int32)


@pytest.mark.parametrize("memory", [2**20, 2**22, 2**26])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_what_it_takes_is_bounded_by_the_setting(memory, calls):
    net, variables, x, y = problem()
    model, arrays = prepare(net.predict, variables, x, where="ablate", gated=True)
    question = Question(model, plan(model, memory, calls), "given")
    data = Data(arrays, y, [None] * 3, None)
    lowered = jax.jit(functools.partial(measure_whole, question, jn.cross_entropy)).lower(data)
    took = lowered.compile().memory_analysis()
    # The samples' own 240 kB, and as much again of what a tile takes, come on top.
    assert took.temp_size_in_bytes + took.output_size_in_bytes < memory + 2**19
    _, kept = jax.eval_shape(functools.partial(measure_whole, question, jn.cross_entropy), data)
    for k, part in enumerate(question.plan.parts):
        lowered = jax.jit(functools.partial(measure_without, question, jn.cross_entropy, k)).lower(
            data, kept, part.calls()[0]
        )
        took = lowered.compile().memory_analysis().temp_size_in_bytes
        assert calls * took < memory + calls * 2**19


def test_little_memory_gives_the_same_numbers():
    """3,000 samples of 8 outputs are 96 kB a variant: of 2**20 bytes only some fit at once."""
    net, variables, x, y = problem()
    plans = {}
    for memory in (2**20, 2**28):
        model, _ = prepare(net.predict, variables, x, where="ablate", gated=True)
        plans[memory] = plan(model, memory)
    assert not plans[2**20].stored
    assert plans[2**20].parts[0].at_once < 96
    assert plans[2**28].stored
    assert [len(part.calls()) for part in plans[2**28].parts] == [1, 1, 1]
    for value in ("zero", "bias", "resample"):
        options = {"metric": jn.accuracy, "value": value, "key": jax.random.key(3)}
        little, much = (
            jn.analysis.ablate(net.predict, variables, x, y, memory=memory, **options)
            for memory in plans
        )
        for name in much:
            # Accuracies of 3,000 samples: a tie may fall to either side.
            np.testing.assert_allclose(little[name], much[name], atol=1.5 / 3000)
            assert np.std(much[name]) > 0


@pytest.mark.parametrize(("cores", "blocks"), [(1, 1), (2, 1), (3, 1), (1, 6), (2, 3)])
def test_any_number_of_cores_and_blocks_gives_the_same_numbers(monkeypatch, cores, blocks):
    """A block fills the room for outputs of the one before: 600 samples of 8, for each node."""
    net, variables, x, y = problem(600)
    monkeypatch.setattr(jaxnodes.cores, "cores", lambda: cores)
    room = 600 * 8 * 4 * 96 // (cores * blocks)
    monkeypatch.setattr("jaxnodes.analysis.plans._BLOCK_BYTES", room)
    first = plan(prepare(net.predict, variables, x, where="ablate")[0], 2**28, cores).parts[0]
    assert first.at_once == blocks * first.block
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy)
    whole = jn.cross_entropy(net.predict(variables, x), y)
    for name, size in (("dense1", 96), ("dense2", 64), ("dense3", 8)):
        assert drops[name].shape == (size,)
        for j in (0, size // 2, size - 1):
            patched = jn.intervene(net.predict)({name: jnp.ones(size).at[j].set(0)}, variables, x)
            expected = whole - jn.cross_entropy(patched, y)
            np.testing.assert_allclose(drops[name][j], expected, rtol=1e-3, atol=2e-6)


def test_only_values_that_variants_need_are_kept():
    """Neither the samples nor what comes before the first node."""
    net, variables, x, y = problem()
    model, arrays = prepare(net.predict, variables, x, where="ablate", gated=True)
    question = Question(model, plan(model, 2**28), "given")
    data = Data(arrays, y, [None] * 3, None)
    _, kept = jax.eval_shape(functools.partial(measure_whole, question, jn.cross_entropy), data)
    widths = [value.shape[-1] for value in kept.values.values()]
    assert 20 not in widths
    # The first layer's outputs; the second's weighted sums and outputs; the last's outputs.
    assert sum(widths) <= 96 + 2 * 64 + 2 * 8


def test_what_takes_a_nodes_place_is_kept_only_if_each_tile_has_its_own():
    """A bias' value is the same for all samples, but not behind a skip connection."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=(n, 4)).astype(np.float32) for n in (600, 4))

    def f(w, x):
        h = jn.node(jax.nn.relu(x @ w), "h")
        return jn.node(jax.nn.relu(h @ w) + h, "skip")

    model, arrays = prepare(f, w, x, where="ablate", gated=True)
    question = Question(model, plan(model, 2**28), "bias")
    _, kept = jax.eval_shape(
        functools.partial(measure_whole, question, jn.mse), Data(arrays, x, [None] * 2, None)
    )
    assert kept.replaced[0] is None
    assert kept.replaced[1].shape == (3, 200, 4)


def test_weights_that_the_function_prepares_are_not_kept_for_each_tile():
    """A transposed weight depends on no data: it is computed once, not stored by the tile."""
    w, x = (np.random.default_rng(0).normal(size=(n, 30)).astype(np.float32) for n in (40, 600))

    def f(w, x):
        return jn.node(jnp.tanh(x @ (2.0 * w).T), "h") @ w

    drops = jn.analysis.ablate(f, w, x, x, metric=jn.mse)
    h = np.tanh(np.asarray(x, np.float64) @ (2 * np.asarray(w, np.float64)).T)
    out = h @ np.asarray(w, np.float64)
    target = np.asarray(x, np.float64)
    whole = ((out - target) ** 2).mean()
    expected = [
        whole - ((out - np.outer(h[:, j], np.asarray(w, np.float64)[j]) - target) ** 2).mean()
        for j in range(40)
    ]
    np.testing.assert_allclose(drops["h"], expected, rtol=1e-3, atol=1e-4)


def test_values_of_their_own_for_each_sample():
    """Given for 600 samples, three tiles of them, as `record` returns them."""
    net, variables, x, y = problem(600)
    _, nodes = jn.record(net.predict)(variables, x)
    given = {name: h[::-1] * 0.5 for name, h in nodes.items()}
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy, value=given)
    whole = jn.cross_entropy(net.predict(variables, x), y)
    for name, j in (("dense1", 0), ("dense1", 95), ("dense2", 7), ("dense3", 3)):
        gate = jnp.ones(nodes[name].shape[-1]).at[j].set(0)
        patched = jn.intervene(net.predict)({name: (gate, given[name])}, variables, x)
        expected = whole - jn.cross_entropy(patched, y)
        np.testing.assert_allclose(drops[name][j], expected, rtol=1e-3, atol=2e-6)
    constant = {name: jnp.full(h.shape[-1], 0.1) for name, h in nodes.items()}
    drops = jn.analysis.ablate(
        net.predict, variables, x, y, metric=jn.cross_entropy, value=constant
    )
    patched = jn.intervene(net.predict)(
        {"dense2": (jnp.ones(64).at[5].set(0), constant["dense2"])}, variables, x
    )
    expected = whole - jn.cross_entropy(patched, y)
    np.testing.assert_allclose(drops["dense2"][5], expected, rtol=1e-3, atol=2e-6)
    short = {name: h[:500] for name, h in nodes.items()}
    with pytest.raises(jn.JaxNodesError, match=r"broadcasts to \(600, 96\)"):
        jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy, value=short)


def test_a_repeated_name_inside_a_loop_is_one_site_at_a_time():
    def f(w, x):
        def step(h, x_t):
            h = jn.node(jnp.tanh(x_t @ w + h), "h")
            return jn.node(0.5 * h + 0.1, "h"), None

        h, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], 4)), jnp.moveaxis(x, 1, 0))
        return h

    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5, 6, 3)))
    y = jnp.ones((5, 4))
    drops = jn.analysis.ablate(f, w, x, y, metric=jn.mse)
    assert list(drops) == ["h", "h#2"]
    h = np.zeros((5, 4))
    for removed in range(2):
        for j in range(4):
            h = np.zeros((5, 4))
            for t in range(6):
                h = np.tanh(np.asarray(x[:, t], np.float64) @ np.asarray(w, np.float64) + h)
                h[:, j] = 0 if removed == 0 else h[:, j]
                h = 0.5 * h + 0.1
                h[:, j] = 0 if removed == 1 else h[:, j]
            expected = jn.mse(f(w, x), y) - ((h - 1) ** 2).mean()
            found = drops["h" if removed == 0 else "h#2"][j]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
