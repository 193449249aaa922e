"""Which nodes go through at a time, and what is kept for them."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.analysis.plans import plan
from jaxnodes.analysis.samples import prepare
from tests.drawn import drawn_variables


def model_of(n, nodes=None):
    net = jn.fully_connected([20, 96, 64, 8], "tanh")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(n, 20)).astype(np.float32))
    variables = drawn_variables(net, x)
    return prepare(net.predict, variables, x, nodes=nodes, where="ablate", gated=True)[0]


@pytest.mark.parametrize("calls", [1, 2, 3, 8])
def test_each_node_is_in_one_call_and_every_core_has_as_many(calls):
    for part in plan(model_of(3000), 2**28, calls).parts:
        of_calls = part.calls()
        # 96, 64 and 8 nodes: no more calls than cores, and the last one may have fewer.
        assert len(of_calls) <= calls
        assert part.at_once < part.count / calls + part.chunk + 1
        numbers = np.concatenate(of_calls)
        assert list(dict.fromkeys(numbers)) == list(range(part.count))


@pytest.mark.parametrize("memory", [2**20, 2**22, 2**28])
@pytest.mark.parametrize("calls", [1, 2])
def test_calls_are_whole_blocks_of_whole_chunks(memory, calls):
    for part in plan(model_of(3000), memory, calls).parts:
        assert part.at_once % part.block == 0
        assert part.block % part.chunk == 0
        assert all(len(numbers) == part.at_once for numbers in part.calls())


@pytest.mark.parametrize("memory", [2**20, 2**22])
def test_the_outputs_of_a_block_take_a_part_of_the_memory(memory):
    """8 float32 outputs a sample, of 3,000 samples."""
    for part in plan(model_of(3000), memory).parts:
        assert part.block * 3000 * 8 * 4 <= memory


def test_values_are_stored_where_they_fit():
    """Half of the memory is for them; each layer has at most six values of its outputs' size."""
    model = model_of(3000)
    least = 3000 * 4 * (96 + 64 + 8)  # each layer's outputs are among them, and more
    assert not plan(model, 2 * least).stored
    assert plan(model, 2 * 6 * least).stored


def test_parts_are_the_sites_that_are_asked_for():
    parts = plan(model_of(300, nodes=["dense2"]), 2**28).parts
    assert [(part.nodes.site.name, part.count) for part in parts] == [("dense2", 64)]
