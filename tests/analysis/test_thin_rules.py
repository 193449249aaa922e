"""What follows from a node's change, operation by operation, against whole evaluations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnodes as jn
from jaxnodes.analysis import deltas
from jaxnodes.analysis.changes import Thin, take
from jaxnodes.analysis.thin_rules import RULES
from jaxnodes.interpreter.control_flow import bodies, opened
from tests.analysis.operations import GROUPS, N, kernel

CASES = [(group, name) for group, (_, _, cases) in GROUPS.items() for name in cases]


@functools.cache
def measured(group):
    """For every case of a group, each node's worth by `ablate` and by a loop."""
    shape, axis, cases = GROUPS[group]

    def f(variables, x):
        h = jn.node(x, "h", axis=axis)
        return [case.f(h) for case in cases.values()]

    def metric(outputs, y):
        wide = [jnp.ravel(out).astype(np.float64) for out in outputs]
        return jnp.stack([jnp.sum(np.cos(np.arange(out.size)) * out) for out in wide])

    rng = np.random.default_rng(1)
    x, value = (jnp.asarray(rng.uniform(0.05, 0.95, (N, *shape))) for _ in range(2))
    options = {"metric": metric, "value": {"h": value}, "nodes": ["h"]}
    found = np.asarray(jn.analysis.ablate(f, (), x, None, **options)["h"])
    evaluate = jax.jit(lambda x: metric(f((), x), None))
    whole, without = evaluate(x), []
    for i in range(x.shape[axis]):
        one = (slice(None),) * axis + (i,)
        without.append(evaluate(x.at[one].set(value[one])))
    expected = np.stack([whole - each for each in without])
    return {name: pair for name, *pair in zip(cases, found.T, expected.T, strict=True)}


@pytest.mark.parametrize(("group", "name"), CASES, ids=map("/".join, CASES))
def test_equals_a_loop_of_whole_evaluations(group, name, quick, x64):
    found, expected = measured(group)[name]
    assert np.any(expected != 0)
    loose = "half" in name or "float32" in name
    np.testing.assert_allclose(found, expected, rtol=1e-5 if loose else 1e-9, atol=1e-11)


def traced(case, shape, axis):
    """A case's program, and what becomes of its outputs, with as many variants as nodes."""
    x = jax.ShapeDtypeStruct((N, *shape), np.float64)
    closed = jax.make_jaxpr(case.f)(x)
    jaxpr, consts = opened(closed)

    def changed(x):
        places = jnp.arange(shape[axis - 1], dtype=np.int32)[:, None]
        thin = Thin(axis, places, take(x + 1, places, axis))
        base = deltas.run_base(jaxpr, [*consts, x])
        (made,) = deltas.propagate(jaxpr, base, {jaxpr.invars[-1]: thin}, {})
        return made.values

    return jaxpr, functools.partial(jax.eval_shape, changed, x)


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for body in bodies(eqn):
            yield from equations(body.jaxpr)


def test_only_what_must_be_whole_is_made_whole(x64, monkeypatch):
    """And every rule is of an operation that is among the cases."""
    spread, whole, seen = deltas.spread, [], set()

    def watched(eqn, operands, mine):
        if any(isinstance(m, Thin) for m in mine):
            whole.append(eqn.primitive.name)
        return spread(eqn, operands, mine)

    monkeypatch.setattr(deltas, "spread", watched)
    for group, name in CASES:
        shape, axis, cases = GROUPS[group]
        jaxpr, run = traced(cases[name], shape, axis)
        whole.clear()
        run()
        assert " ".join(whole) == cases[name].whole, f"{group}/{name}"
        seen.update(eqn.primitive.name for eqn in equations(jaxpr))
    new = {"one_minus_square"}  # of jax 0.12
    assert RULES.keys() - seen <= new


@pytest.mark.parametrize("library", ["ours", "lax"])
def test_all_channels_cost_a_convolution_about_as_much_as_one_pass(library):
    channels = 8
    x = jax.ShapeDtypeStruct((N, 8, 8, channels), np.float32)
    w = jax.ShapeDtypeStruct((3, 3, channels, 6), np.float32)
    y = jax.ShapeDtypeStruct((N, 6, 6, 6), np.float32)

    def f(x, w):
        if library == "ours":
            return jn.conv({"w": w}, x, padding="VALID")
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=numbers)

    def changes(x, w, y):
        places = jnp.arange(channels)[:, None]
        thin = Thin(3, places, jnp.zeros((channels, N, 8, 8, 1)))
        return RULES[eqn.primitive.name](eqn, [x, w], [thin, None], [y]).values

    jaxpr, _ = opened(jax.make_jaxpr(f)(x, w))
    (eqn,) = (eqn for eqn in equations(jaxpr) if "conv" in eqn.primitive.name)
    whole, thin = (
        jax.jit(g).lower(*args).compile().cost_analysis()["flops"]
        for g, args in ((f, (x, w)), (changes, (x, w, y)))
    )
    assert whole <= thin < 1.2 * whole  # a loop over the channels is 8 times one pass


W4 = kernel(3, 4, 4)


def over_layers(w, x):
    return lax.scan(lambda h, w: (jn.node(jnp.tanh(h @ w), "h"), None), x, w)[0]


def over_time(w, x):
    def step(h, u):
        h = jn.node(jnp.tanh(h @ w[0] + u), "h")
        return h, h * u

    h, ys = lax.scan(step, x * 0, jnp.stack([x, x**2, x - 1]))
    return h @ w[1] + jnp.sum(ys, 0)


def in_a_branch(w, x):
    h = lax.cond(w[0, 0, 0] > 0, lambda x: jn.node(x * 2, "h"), lambda x: x, x)
    return jnp.tanh(h @ w[1])


def in_a_while(w, x):
    def step(at):
        return at[0] + 1, jn.node(jnp.tanh(at[1] @ w[0]), "h")

    return lax.while_loop(lambda at: at[0] < 3, step, (0, x))[1] @ w[1]


@pytest.mark.parametrize("f", [over_layers, over_time, in_a_branch, in_a_while])
def test_nodes_inside_loops_and_branches(f, quick, x64):
    x, layers = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (N, 4))), f is over_layers

    def metric(out, y):
        return jnp.sum(out * np.cos(np.arange(4 * N)).reshape(N, 4))

    found = jn.analysis.ablate(f, W4, x, None, metric=metric)["h"]
    without = jax.jit(lambda gate: metric(jn.intervene(f)({"h": gate}, W4, x), None))
    gates = 1 - np.eye(12 if layers else 4).reshape(-1, *((3, 4) if layers else (4,)))
    expected = np.array([metric(f(W4, x), None) - without(gate) for gate in gates])
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-9, atol=1e-12)
