"""Optimizers against optax, step by step, and what makes them one program for all rates."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnodes.errors import JaxNodesError
from jaxnodes.optimizers import OPTIMIZERS, adam, adamw, momentum, nesterov, rmsprop, sgd

# Ours, optax's, and a rate at which each goes a sensible way.
PAIRS = {
    "sgd": (sgd, optax.sgd, 0.1),
    "momentum": (momentum, lambda r: optax.sgd(r, momentum=0.9), 0.01),
    "momentum_0.5": (
        lambda r: momentum(r, decay=0.5),
        lambda r: optax.sgd(r, momentum=0.5),
        0.05,
    ),
    "nesterov": (nesterov, lambda r: optax.sgd(r, momentum=0.9, nesterov=True), 0.01),
    "rmsprop": (rmsprop, lambda r: optax.rmsprop(r, decay=0.9, eps=1e-8), 1e-3),
    "rmsprop_0.99": (
        lambda r: rmsprop(r, decay=0.99, eps=1e-3),
        lambda r: optax.rmsprop(r, decay=0.99, eps=1e-3),
        1e-3,
    ),
    "adam": (adam, optax.adam, 1e-3),
    "adam_0.5": (
        lambda r: adam(r, b1=0.5, b2=0.9, eps=1e-4),
        lambda r: optax.adam(r, b1=0.5, b2=0.9, eps=1e-4),
        1e-3,
    ),
    "adamw": (adamw, optax.adamw, 1e-3),
    "adamw_0.1": (
        lambda r: adamw(r, weight_decay=0.1),
        lambda r: optax.adamw(r, weight_decay=0.1),
        1e-3,
    ),
}
SCHEDULES = {
    "constant": lambda rate: rate,
    "scheduled": lambda rate: optax.warmup_cosine_decay_schedule(0.0, rate, 100, 1000, rate / 100),
}
NAMES = list(OPTIMIZERS)


def nested(seed, dtype=jnp.float32, steps=()):
    rng = np.random.default_rng(seed)
    shapes = {"dense": {"w": (3, 5), "b": (5,)}, "stack": [(2, 2, 3), ()]}
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=(*steps, *shape)), dtype),
        shapes,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )


def follow(optimizer, params, gradients):
    """The parameters after each step."""

    def step(carry, gradients):
        params, state = carry
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]


def check_follows_optax(name, kind, dtype, tolerance):
    ours, theirs, rate = PAIRS[name]
    rate = SCHEDULES[kind](rate)
    params, gradients = nested(0, dtype), nested(1, dtype, steps=(1000,))

    def both(params, gradients):
        got = follow(ours(rate), params, gradients)
        with jax.numpy_dtype_promotion("standard"):
            return got, follow(theirs(rate), params, gradients)

    for a, b in zip(*map(jax.tree.leaves, jax.jit(both)(params, gradients)), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        assert not np.allclose(a[0], a[-1], atol=1e-2)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_follows_optax_for_a_thousand_steps_in_float32(name, kind):
    check_follows_optax(name, kind, jnp.float32, 1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_follows_optax_for_a_thousand_steps_in_float64(name, kind, x64):
    check_follows_optax(name, kind, jnp.float64, 1e-12)


@pytest.mark.parametrize("name", sorted(set(PAIRS) - set(NAMES)))
def test_follows_optax_with_other_settings(name, x64):
    check_follows_optax(name, "constant", jnp.float64, 1e-12)


def rosenbrock(p):
    return jnp.sum(100 * (p["y"] - p["x"] ** 2) ** 2 + (1 - p["x"]) ** 2)


def parabola(p):
    return jnp.sum((p["x"] - 3) ** 2) + jnp.sum((p["y"] + 1) ** 2)


@pytest.mark.parametrize("problem", [rosenbrock, parabola])
@pytest.mark.parametrize("name", NAMES)
def test_solves_and_another_rate_compiles_nothing(name, problem):
    make, traces = OPTIMIZERS[name], []
    rate = {"sgd": 2e-3, "momentum": 1e-4, "nesterov": 1e-4}.get(name, 0.03)

    @jax.jit
    def descend(params, state):
        traces.append(name)

        def step(_, carry):
            params, state = carry
            gradients = jax.grad(problem)(params)
            updates, state = make(9.0).update(gradients, state, params)  # the state's rate counts
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 3000, step, (params, state))

    start = {"x": jnp.array([-1.0, 0.5]), "y": jnp.array([1.0, -0.5])}

    def solve(rate):
        params, state = descend(start, make(rate).init(start))
        assert state.count == 3000
        return float(problem(params))

    assert solve(rate) < 0.02 * problem(start)
    assert solve(0) == problem(start)
    for again in (
        np.float32(rate),
        np.float64(rate),
        jnp.array(rate),
        jnp.array(rate, jnp.float16),
    ):
        assert solve(again) < 0.02 * problem(start)
    assert len(traces) == 1


@pytest.mark.parametrize("name", NAMES)
def test_update_is_one_function_for_all_rates(name):
    make = OPTIMIZERS[name]
    assert make(0.1).update is make(1e-3).update is make(jnp.array(0.2)).update
    if name != "sgd":
        setting = "b1" if name.startswith("adam") else "decay"
        assert make(0.1, **{setting: 0.7}).update is make(0.2, **{setting: 0.7}).update
        assert make(0.1, **{setting: 0.7}).update is not make(0.1).update


@pytest.mark.parametrize("name", NAMES)
def test_runs_over_traced_and_mapped_rates(name):
    make, traces = OPTIMIZERS[name], []
    params, gradients = nested(0), nested(1, steps=(5,))

    def run(rate):
        traces.append(name)
        return follow(make(rate), params, gradients)

    rates = jnp.array([0.1, 0.01, 0.001])
    jitted = jax.jit(run)
    one_by_one = jax.tree.map(lambda *runs: jnp.stack(runs), *map(jitted, rates))
    assert len(traces) == 1
    for a, b in zip(*map(jax.tree.leaves, (jax.vmap(run)(rates), one_by_one)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        assert not np.allclose(a[0], a[1], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_rate_and_count_lie_in_the_state(name):
    optimizer = OPTIMIZERS[name](0.25)
    params, gradients = nested(0), nested(1)
    state = optimizer.init(params)
    assert state.learning_rate == 0.25
    assert state.learning_rate.dtype == jnp.float32
    assert not state.learning_rate.weak_type
    updates, after = optimizer.update(gradients, state, params)
    halved, _ = optimizer.update(gradients, state._replace(learning_rate=0.125), params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(halved), strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-6)
    assert (state.count, after.count) == (0, 1)
    assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, after)
    assert optax.tree.get(after, "learning_rate") == 0.25


def test_state_of_a_schedule_reports_the_rate_last_used():
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    optimizer = sgd(schedule)
    assert sgd(schedule).update is optimizer.update
    assert sgd(lambda count: 1.0).update is not optimizer.update
    state, rates, moves = optimizer.init(jnp.array(0.0)), [], []
    for _ in range(5):
        move, state = optimizer.update(jnp.array(1.0), state)
        rates.append(float(state.learning_rate))
        moves.append(float(move))
    assert rates == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert moves == [-rate for rate in rates]


def test_a_schedule_of_a_traced_rate_leaks_nothing():
    def run(rate):
        optimizer = adam(optax.cosine_decay_schedule(rate, 10))
        return follow(optimizer, nested(0), nested(1, steps=(3,)))

    with jax.checking_leaks():
        got = jax.jit(run)(jnp.array(0.1))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(run(0.1)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_momentum_is_the_other_form_at_a_constant_rate():
    gradients, v, p = np.random.default_rng(0).normal(size=(20, 3)), np.zeros(3), np.ones(3)
    got = follow(momentum(0.1, 0.8), jnp.ones(3), jnp.asarray(gradients, jnp.float32))
    for step, g in enumerate(gradients):
        v = 0.8 * v - 0.1 * g
        p = p + v
        np.testing.assert_allclose(got[step], p, rtol=1e-5, atol=1e-6)


def test_adam_by_hand():
    # m = 0.2, v = 0.004 after g = 2: 0.1 * 2 and 0.001 * 4; unbiased 2 and 4: a step of one rate.
    optimizer = adam(0.5)
    update, state = optimizer.update(jnp.array(2.0), optimizer.init(jnp.array(0.0)))
    np.testing.assert_allclose(state.moments, [0.2, 0.004], rtol=1e-5)
    np.testing.assert_allclose(update, -0.5, rtol=1e-4)
    # Then g = -1: m = 0.18 - 0.1, v = 0.003996 + 0.001; over 0.19 and 0.001999.
    update, state = optimizer.update(jnp.array(-1.0), state)
    np.testing.assert_allclose(state.moments, [0.08, 0.004996], rtol=1e-5)
    np.testing.assert_allclose(
        update, -0.5 * (0.08 / 0.19) / (0.004996 / 0.001999) ** 0.5, rtol=1e-4
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_finite_and_near_float32(name, dtype):
    gradients, params = jnp.array([0.0, 1e-5, -1e-3, 1.0], dtype), jnp.array([1, 0, 0, 0.5], dtype)
    optimizer = OPTIMIZERS[name](0.01)

    def updates(dtype):
        step = lambda state, g: optimizer.update(g, state, params.astype(dtype))[::-1]  # noqa: E731
        state = optimizer.init(params.astype(dtype))
        assert all(m.dtype == jnp.float32 for m in state.moments)
        return jax.lax.scan(step, state, jnp.tile(gradients, (20, 1)).astype(dtype))[1]

    half = updates(dtype)
    assert half.dtype == dtype
    expected = np.asarray(updates(jnp.float32))
    eps, tiny = (float(getattr(jnp.finfo(dtype), name)) for name in ("eps", "smallest_subnormal"))
    np.testing.assert_allclose(half.astype(jnp.float32), expected, rtol=eps, atol=tiny)


def test_adam_in_half_precision_with_a_zero_gradient():
    optimizer = adam(1e-3)
    gradients = jnp.array([0.0, 1e-5], jnp.float16)
    update, _ = optimizer.update(gradients, optimizer.init(gradients))
    assert update.dtype == jnp.float16
    np.testing.assert_allclose(update, [0.0, -1e-3], rtol=2e-3)


def test_updates_have_the_parameters_dtype(x64):
    params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(2, jnp.float64)}
    optimizer = adam(0.1)
    state = optimizer.init(params)
    assert state.learning_rate.dtype == jnp.float64
    updates, state = optimizer.update(params, state, params)
    assert jax.tree.map(jnp.result_type, updates) == jax.tree.map(jnp.result_type, params)
    assert jax.tree.map(jnp.result_type, state.moments[0]) == jax.tree.map(jnp.result_type, params)


def labels(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "other", params)


COMPOSITIONS = {
    "chain": lambda of: optax.chain(optax.clip_by_global_norm(0.5), of("adam", 0.1)),
    "masked": lambda of: optax.masked(
        of("momentum", 0.1), lambda p: jax.tree.map(lambda p: p.ndim > 1, p)
    ),
    "multi_transform": lambda of: optax.multi_transform(
        {"matrix": of("adamw", 0.1), "other": of("sgd", 0.1)}, labels
    ),
    "multi_steps": lambda of: optax.MultiSteps(of("adam", 0.1), every_k_schedule=3),
    "apply_if_finite": lambda of: optax.apply_if_finite(of("rmsprop", 0.1), 2),
    "scaled": lambda of: optax.chain(of("nesterov", 0.1), optax.scale(0.5)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_serves_wherever_optax_serves(name):
    compose = COMPOSITIONS[name]
    params, gradients = nested(0), nested(1, steps=(7,))
    with jax.numpy_dtype_promotion("standard"):  # for optax's own
        ours, theirs = (
            follow(compose(of), params, gradients)
            for of in (
                lambda name, rate: OPTIMIZERS[name](rate),
                lambda name, rate: PAIRS[name][1](rate),
            )
        )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_adamw_spares_what_the_mask_does():
    def mask(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    params, gradients = nested(0), nested(1, steps=(7,))
    ours = follow(adamw(0.1, weight_decay=0.3, mask=mask), params, gradients)
    with jax.numpy_dtype_promotion("standard"):
        theirs = follow(optax.adamw(0.1, weight_decay=0.3, mask=mask), params, gradients)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert adamw(0.1, mask=mask).update is adamw(0.2, mask=mask).update


def test_a_donated_state_leaves_the_optimizer_usable():
    rate = jnp.array(0.1)
    optimizer, params = adam(rate), jnp.ones(3)
    step = jax.jit(lambda state: optimizer.update(params, state), donate_argnums=0)
    first, _ = step(optimizer.init(params))
    second, _ = step(optimizer.init(params))
    np.testing.assert_array_equal(first, second)
    assert rate == jnp.array(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_is_one_of_optax_where_optax_is_imported(name):
    assert isinstance(OPTIMIZERS[name](0.1), optax.GradientTransformation)


def test_training_does_not_import_optax_which_takes_pairs_made_before_it_came():
    code = """
import sys, jax, jax.numpy as jnp, jaxnodes as jn
x, y, key = jnp.ones((4, 2)), jnp.array([0, 1, 1, 0]), jax.random.key(0)
net, optimizer, options = jn.Dense(2), jn.adam(0.1), dict(key=key, loss=jn.cross_entropy)
fitted = jn.fit(net, (x, y), optimizer=optimizer, epochs=3, **options).variables[0]
assert "optax" not in sys.modules
import optax
chain = optax.chain(optax.clip_by_global_norm(1e9), optimizer)
chained = jn.fit(net, (x, y), optimizer=chain, epochs=3, **options).variables[0]
assert jax.tree.all(jax.tree.map(jnp.allclose, fitted, chained)), (fitted, chained)
masked = optax.masked(optimizer, {"w": True, "b": False})
updates, _ = masked.update(fitted, masked.init(fitted), fitted)
assert (updates["b"] == fitted["b"]).all() and not (updates["w"] == fitted["w"]).any()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_count_stays_where_it_is_full():
    optimizer = sgd(0.1)
    state = optimizer.init(jnp.ones(()))._replace(count=jnp.int32(2**31 - 2))
    for expected in (2**31 - 1, 2**31 - 1):
        _, state = optimizer.update(jnp.ones(()), state)
        assert state.count == expected


def test_without_parameters_and_in_empty_trees():
    for name in set(NAMES) - {"adamw"}:
        optimizer, gradients = OPTIMIZERS[name](0.1), nested(1)
        state = optimizer.init(nested(0))
        without, _ = optimizer.update(gradients, state)
        given, _ = optimizer.update(gradients, state, nested(0))
        for a, b in zip(jax.tree.leaves(without), jax.tree.leaves(given), strict=True):
            np.testing.assert_array_equal(a, b)
    updates, state = adam(0.1).update({"a": {}, "b": None}, adam(0.1).init({"a": {}, "b": None}))
    assert updates == {"a": {}, "b": None}
    assert state.count == 1


PARAMS = {"dense1": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}}
FLAT = {"dense1": {"w": jnp.ones(6), "b": jnp.ones(3)}}
PART = {"dense1": {"w": jnp.ones((2, 3))}}
MISTAKES = [
    (lambda: sgd(-0.1), "sgd: expected the learning rate to be a nonnegative number, got -0.1"),
    (lambda: adam(float("nan")), "got nan"),
    (lambda: adam(jnp.array(jnp.inf)), "got inf"),
    (lambda: sgd("0.1"), "a number or a schedule, got '0.1'"),
    (lambda: sgd(True), "a number or a schedule, got True"),
    (lambda: sgd(jnp.ones(3)), "use jax.vmap"),
    (lambda: momentum(0.1, decay=1.0), "decay to be a nonnegative number below 1, got 1.0"),
    (lambda: momentum(0.1, nesterov=0.9), "nesterov to be a bool, got 0.9"),
    (lambda: rmsprop(0.1, decay=-0.1), "rmsprop: expected decay"),
    (lambda: rmsprop(0.1, eps=0), "eps to be a positive number, got 0"),
    (lambda: adam(0.1, b1=1.5), "adam: expected b1"),
    (lambda: adam(0.1, b2=jnp.array(0.9)), "adam: expected b2 .* only the rate may be an array"),
    (lambda: adamw(0.1, weight_decay=-1), "adamw: expected weight_decay"),
    (lambda: adamw(0.1, mask={"w": True}), "mask to be a function"),
    (
        lambda: adamw(0.1, mask=lambda p: True).update(PARAMS, adamw(0.1).init(PARAMS), PARAMS),
        "expected a mask like the parameters",
    ),
    (lambda: adamw(0.1).update(PARAMS, adamw(0.1).init(PARAMS)), "update.gradients, state, params"),
    (lambda: sgd(0.1).init({"a": jnp.arange(3)}), "floating parameters, got int32 .3,. at a"),
    (lambda: sgd(0.1).update(jnp.arange(3), sgd(0.1).init(jnp.ones(3))), "floating gradients"),
    (lambda: adam(0.1).update(PARAMS, sgd(0.1).init(PARAMS)), "its own init returned"),
    (lambda: adam(0.1).update(PARAMS, (), PARAMS), "its own init returned, got tuple"),
    (
        lambda: adam(0.1).update(FLAT, adam(0.1).init(PARAMS)),
        r"\(2, 3\) at dense1/w, got \(6,\)",
    ),
    (lambda: sgd(0.1).update(PART, sgd(0.1).init(PARAMS), PARAMS), r"at dense1/b, got nothing"),
    (lambda: sgd(0.1).update(PARAMS, sgd(0.1).init(PARAMS), PART), r"nothing at dense1/b"),
    (
        lambda: sgd(0.1).update((jnp.ones(3),), sgd(0.1).init(PARAMS), [jnp.ones(3)]),
        "in a tree like the parameters",
    ),
]


@pytest.mark.parametrize(("mistake", "problem"), MISTAKES)
def test_mistakes_are_named(mistake, problem):
    with pytest.raises(JaxNodesError, match=problem) as error:
        mistake()
    assert "\n" not in str(error.value)
