"""Tracing once: what is found again, what is forgotten, and what recording costs."""

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from jaxnodes.interpreter import tracing
from jaxnodes.interpreter.references import Cache, deref, is_dead, ref
from jaxnodes.primitive import node
from jaxnodes.transforms import intervene, record

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@dataclasses.dataclass(frozen=True)
class Net:
    """A description whose function counts how often it is traced."""

    by: float
    traces: Any = dataclasses.field(compare=False, default_factory=list)

    def predict(self, params, x, mode="up"):
        self.traces.append(mode)
        return node(x * params * self.by, "h")


@pytest.mark.parametrize(
    "run",
    [
        lambda f, p, x, *a: record(f)(p, x, *a)[0],
        lambda f, p, x, *a: intervene(f)({"h": jnp.ones(3)}, p, x, *a),
        lambda f, p, x, *a: record(record(f))(p, x, *a)[0][0],
        lambda f, p, x, *a: jax.grad(lambda p: record(f)(p, x, *a)[0].sum())(p),
    ],
    ids=["record", "intervene", "twice", "grad"],
)
def test_one_trace_for_each_function_and_shape(run):
    net = Net(by=float(id(run)))
    for p in (1.0, 2.0):
        run(net.predict, p, X)
    assert len(net.traces) == 1
    run(net.predict, 1.0, X[:1])
    run(net.predict, 1.0, X.astype(jnp.bfloat16))
    run(net.predict, 1.0, X, "down")
    assert net.traces == ["up"] * 3 + ["down"]
    run(net.predict, 5.0, X)
    run(net.predict, 5.0, X, "down")
    assert len(net.traces) == 4


def test_equal_descriptions_are_one_function_and_others_are_not():
    first, equal, other = Net(7.0), Net(7.0), Net(8.0)
    np.testing.assert_allclose(record(first.predict)(1.0, X)[0], 7 * X, rtol=1e-6)
    np.testing.assert_allclose(record(equal.predict)(1.0, X)[0], 7 * X, rtol=1e-6)
    np.testing.assert_allclose(record(other.predict)(1.0, X)[0], 8 * X, rtol=1e-6)
    assert (len(first.traces), len(equal.traces), len(other.traces)) == (1, 0, 1)


def test_functions_put_on_nodes_are_traced_once():
    traces = []

    def double(h):
        traces.append(1)
        return h * 2

    for k in (1.0, 2.0):
        y = intervene(open_function)({"h": double}, k * X)
        np.testing.assert_array_equal(y, 2 * k * X)
    assert len(traces) == 1


def test_static_arguments_are_told_apart_by_type_and_value():
    seen = []

    def f(x, flag):
        seen.append(flag)
        return node(x, "h")

    for flag in (True, False, "True", None, jnp.sin, True, jnp.sin):
        record(f)(X, flag)
    assert seen == [True, False, "True", None, jnp.sin]


def test_what_cannot_be_hashed_is_traced_each_time():
    class Unhashable:
        __hash__ = None

        def __init__(self):
            self.by = 2.0

        def __call__(self, x):
            return x * self.by

    scale = Unhashable()
    f = lambda x: node(x, "h")  # noqa: E731
    np.testing.assert_array_equal(record(lambda g, x: node(g(x), "h"))(scale, X)[0], 2 * X)
    np.testing.assert_array_equal(intervene(f)({"h": scale}, X), 2 * X)
    scale.by = 3.0
    np.testing.assert_array_equal(record(lambda g, x: node(g(x), "h"))(scale, X)[0], 3 * X)
    np.testing.assert_array_equal(intervene(f)({"h": scale}, X), 3 * X)


def test_the_arrays_of_a_module_are_arguments():
    traces = []

    class Module(eqx.Module):
        w: jax.Array
        activation: Callable

        def __call__(self, x):
            traces.append(1)
            return node(self.activation(x * self.w), "h")

    for w in (1.0, 2.0):
        _, nodes = record(Module(jnp.full(3, w), jax.nn.tanh))(X)
        np.testing.assert_allclose(nodes["h"], np.tanh(X * w), rtol=1e-5)
    assert len(traces) == 1


def test_closed_over_arrays_are_arguments_of_the_compiled_program():
    big = jnp.arange(3000.0).reshape(1000, 3)
    f = lambda x: node(big @ x, "h")  # noqa: E731
    traced = tracing.trace(f, (X[0],), {}, auto=False, where="test")
    text = traced.run.lower(traced.consts, traced.args, record=("h",)).as_text()
    assert "tensor<1000x3xf32>" in text.partition("@main(")[2].partition("{")[0]
    assert "constant dense" not in text


def test_configuration_is_part_of_the_key():
    f = lambda x: node(x * np.pi, "h", axis=None)  # noqa: E731
    assert record(f)(1.0)[0].dtype == jnp.float32
    with jax.enable_x64(True):
        assert record(f)(1.0)[0].dtype == jnp.float64

    def size(x):
        return node(x * jax.lax.axis_size("i"), "h")

    for n in (2, 3, 2):
        out = jax.vmap(lambda x: record(size)(x)[0], axis_name="i")(jnp.ones((n, 1)))
        assert (out == n).all()


def test_closed_over_tracers_do_not_leak():
    def loss(w, x):
        def f(x):
            return node(jnp.tanh(x * w), "h").sum()

        y, nodes = record(f)(x)
        gated = intervene(f)({"h": (jnp.ones(3), w)}, x)
        return y + nodes["h"].sum() + gated + intervene(f)({"h": lambda h: h * w}, x)

    def plain(w, x):
        h = jnp.tanh(x * w)
        return 3 * h.sum() + (h * w).sum()

    def patched(w, x):
        scale = lambda h: h * w  # noqa: E731
        return intervene(open_function)({"h": lambda h: scale(h)}, x).sum()

    w = jnp.array([0.5, -1.0, 2.0])
    for f, expected in ((loss, plain), (patched, lambda w, x: (w * x).sum())):
        check_no_leaks(f, expected, w)


def open_function(x):
    return node(x, "h")


def check_no_leaks(f, expected, w):
    for transform in (
        lambda f: f(w, X),
        lambda f: jax.grad(f)(w, X),
        lambda f: jax.jit(jax.grad(f))(w, X),
        lambda f: jax.vmap(f, (None, 0))(w, X),
        lambda f: jax.lax.scan(lambda w, x: (w * 0.5, f(w, x)), w, X)[1],
    ):
        with jax.checking_leaks():
            got = transform(f)
        np.testing.assert_allclose(got, transform(expected), rtol=1e-5)
        np.testing.assert_allclose(transform(f), got, rtol=1e-5)


def test_functions_and_their_arrays_are_not_kept_alive():
    def use():
        array = jnp.ones(1000)
        record(lambda x: node(x * array.sum(), "h"))(X)
        return weakref.ref(array)

    gone = use()
    record(lambda x: node(x, "other"))(X)  # what is dead is dropped when something is added
    gc.collect()
    assert gone() is None


def test_the_cache_is_bounded():
    functions = [eval("lambda x: x") for _ in range(5)]
    cache = Cache(maxsize=3)
    for k, f in enumerate(functions):
        assert cache.get("key", (ref(f),), lambda k=k: k) == k
    assert len(cache) == 3
    assert cache.get("key", (ref(functions[2]),), lambda: "new") == 2
    assert cache.get("key", (ref(functions[0]),), lambda: "new") == "new"
    f = lambda: None  # noqa: E731
    for n in range(tracing._SHAPES + 3):
        record(lambda x: f() or node(x, "h"))(np.ones(n, np.float32))
        grow = record(len_of)
        grow(np.ones(n, np.float32))
    statics = (ref(len_of),)
    (entry,) = [
        value for (_, refs), value in tracing._functions._entries.items() if refs == statics
    ]
    assert len(entry.programs) == tracing._SHAPES
    assert len(tracing._functions) <= 128


def len_of(x):
    return node(x, "h")


def test_references_know_methods_by_function_and_owner():
    net = Net(2.0)
    reference = ref(net.predict)
    assert reference == ref(Net(2.0).predict)
    assert reference != ref(Net(3.0).predict)
    assert deref(reference)(1.0, X).shape == X.shape

    class Owner:
        def method(self):
            return 5

    owner = Owner()
    reference = ref(owner.method)
    assert deref(reference)() == 5
    del owner
    gc.collect()
    assert is_dead(reference)
    with pytest.raises(TypeError):
        ref([])
    assert ref([], unhashable=True) != ref([], unhashable=True)


def everything(x):
    """One function with a node inside every construct that can be recorded."""

    @jax.custom_vjp
    def straight_through(x):
        return node(jnp.round(x), "st")

    straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))
    x = node(jax.nn.relu(x), "h")
    x = jax.jit(lambda x: node(jnp.sin(x), "jit"))(x)
    x, _ = jax.lax.scan(lambda c, a: (node(jnp.tanh(c * a), "scan"),) * 2, x, jnp.arange(4.0))
    x = jax.lax.cond(x.sum() > 0, lambda x: node(x, "c") * 2, lambda x: node(x * 3, "c"), x)
    x = jax.checkpoint(lambda x: jnp.sin(node(jnp.sin(x), "remat")))(x)
    return straight_through(x) @ x.T


@pytest.mark.parametrize("of", [lambda f: f, lambda f: jax.grad(lambda x: f(x).sum())])
def test_dropped_records_cost_nothing(of):
    plain, recorded = of(everything), of(lambda x: record(everything)(x)[0])
    np.testing.assert_array_equal(jax.jit(recorded)(X), jax.jit(plain)(X))
    compiled = [jax.jit(f).lower(X).compile() for f in (plain, recorded)]
    costs = [program.cost_analysis() for program in compiled]
    for kind in ("flops", "transcendentals", "bytes accessed"):
        assert costs[0][kind] == costs[1][kind]
    memory = [program.memory_analysis().temp_size_in_bytes for program in compiled]
    assert memory[0] == memory[1]


def test_dropped_records_leave_the_same_jaxpr():
    def f(params, x):
        h = node(jax.nn.relu(x @ params["w"]), "h")
        return node(h @ params["w"].T, "out")

    params = {"w": jnp.ones((3, 4))}
    plain = jax.make_jaxpr(f)(params, X)
    recorded = jax.make_jaxpr(lambda params, x: record(f)(params, x)[0])(params, X)
    assert str(recorded) == str(plain)
    assert str(jax.make_jaxpr(intervene(f))({}, params, X)) == str(plain)


def test_unused_scan_records_are_removed_by_dead_code_elimination():
    def f(x):
        return jax.lax.scan(lambda c, a: (node(c * a, "h"), None), x, jnp.arange(4.0))[0]

    def shapes(g):
        jaxpr = jax.make_jaxpr(g)(X)
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        pruned = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]
        return [var.aval.shape for eqn in pruned.eqns for var in eqn.outvars]

    assert shapes(lambda x: record(f)(x)[0]) == shapes(f)
