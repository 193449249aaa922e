"""Programs side by side on the cores: the numbers and settings of one after the other."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnodes import cores


@pytest.mark.parametrize("count", [1, 2, 5])
def test_calls_come_back_in_their_order(monkeypatch, count):
    monkeypatch.setattr(cores, "cores", lambda: count)
    calls = [({"a": jnp.full(3, float(i))}, jnp.asarray(i)) for i in range(4)]
    function = jax.jit(lambda tree, i: tree["a"] * 10 + i)
    found = cores.run_side_by_side([(function, call) for call in calls])
    np.testing.assert_array_equal(np.stack(list(found)), np.arange(4)[:, None] * np.full(3, 11))


@pytest.mark.parametrize("count", [1, 2])
def test_calls_may_be_of_several_functions(monkeypatch, count):
    """Each of its own shapes, too."""
    monkeypatch.setattr(cores, "cores", lambda: count)
    double, total = jax.jit(lambda x: 2 * x), jax.jit(jnp.sum)
    calls = [(double, (jnp.arange(3),)), (total, (jnp.ones(5),)), (double, (jnp.ones(3, int),))]
    found = [np.asarray(value).tolist() for value in cores.run_side_by_side(calls)]
    assert found == [[0, 2, 4], 5.0, [2, 2, 2]]


def test_a_function_is_traced_once_and_by_the_caller(monkeypatch):
    """Other threads have neither its settings nor its strictness."""
    monkeypatch.setattr(cores, "cores", lambda: 3)
    traced = []

    @jax.jit
    def function(x):
        traced.append(threading.get_ident())
        return x / 3

    with jax.enable_x64(True):
        calls = [(function, (jnp.asarray(float(i)),)) for i in range(5)]
        for _ in range(2):
            found = list(cores.run_side_by_side(calls))
    assert traced == [threading.get_ident()]
    assert [value.dtype for value in found] == [jnp.float64] * 5
    np.testing.assert_allclose(found, np.arange(5) / 3, rtol=1e-15)


def test_calls_are_under_way_at_the_same_time(monkeypatch):
    """Each waits for the other, which one after the other would never do."""
    monkeypatch.setattr(cores, "cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=60)

    def meet(x):
        meeting.wait()
        return np.float32(1)

    def function(x):
        return jax.pure_callback(meet, jax.ShapeDtypeStruct((), jnp.float32), x)

    compiled = jax.jit(function)
    found = cores.run_side_by_side([(compiled, (jnp.zeros(()),)), (compiled, (jnp.ones(()),))])
    assert [float(value) for value in found] == [1, 1]


def test_an_error_of_a_call_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 2)

    def refuse(x):
        raise ValueError("no such thing")

    def function(x):
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct((), jnp.float32), x)

    with pytest.raises(Exception, match="no such thing"):
        list(cores.run_side_by_side([(jax.jit(function), (jnp.zeros(()),))] * 2))


def test_arrays_spread_over_devices_are_one_program_at_a_time():
    mesh = jax.sharding.Mesh(jax.devices()[:1], "d")
    one = jax.device_put(jnp.zeros(8), jax.sharding.NamedSharding(mesh, jax.P("d")))
    assert cores.workers({"x": one, "y": np.zeros(2)}) == cores.workers()
    if jax.device_count() > 1:
        mesh = jax.sharding.Mesh(jax.devices(), "d")
        spread = jax.device_put(jnp.zeros(8), jax.sharding.NamedSharding(mesh, jax.P("d")))
        assert cores.workers({"x": spread, "y": one}) == 1
