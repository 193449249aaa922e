"""Nodes inside shard_map and sharded jit, on eight simulated devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxnodes.errors import JaxNodesError
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, record

GATE = np.float32([1.0, 0.0, 0.5])
W = np.float32([[0.5, -1.0, 0.2], [0.3, 0.1, -0.7], [-0.4, 0.9, 0.6]])


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == 8
    return jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(mesh, check_vma):
    every, rows = PartitionSpec(), PartitionSpec("data")
    mapped = functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(every, rows), out_specs=rows, check_vma=check_vma
    )
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)

    def inner(w, x):
        return node(jnp.tanh(x @ node(w, "w")), "h") * 2

    h = np.tanh(x @ W)
    f = mapped(inner)
    for run in (intervene(f), jax.jit(intervene(f))):
        np.testing.assert_allclose(run({"h": GATE}, W, x), 2 * h * GATE, rtol=1e-5)
    np.testing.assert_allclose(intervene(f)({"h": jnp.square}, W, x), 2 * h**2, rtol=1e-5)
    y = intervene(f)({"h": (GATE, np.float32([1, 2, 3]))}, W, x)
    np.testing.assert_allclose(y, 2 * (h * GATE + (1 - GATE) * [1, 2, 3]), rtol=1e-5)
    by_gate = jax.grad(lambda gate: intervene(f)({"h": gate}, W, x).sum())(GATE)
    np.testing.assert_allclose(by_gate, 2 * h.sum(0), rtol=1e-4)
    with pytest.raises(JaxNodesError, match="differs between the devices of a shard_map, .*out_sp"):
        record(f, only=["h"])(W, x)
    y, nodes = mapped(record(inner, only=["h"]))(W, x)
    np.testing.assert_allclose(nodes["h"], h, rtol=1e-5)
    if check_vma:  # what is the same on all devices needs no out_specs
        np.testing.assert_array_equal(record(f, only=["w"])(W, x)[1]["w"], W)


def test_shardings_of_a_nested_jit_are_kept(mesh):
    rows = NamedSharding(mesh, PartitionSpec("data"))
    f = jax.jit(lambda x: node(jnp.sin(x), "h"), in_shardings=rows, out_shardings=rows)
    y, nodes = record(f)(np.ones((16, 3), np.float32))
    assert y.sharding.is_equivalent_to(rows, 2)
    assert nodes["h"].sharding.is_equivalent_to(rows, 2)
