"""The gradients that recurrent layers form after the loop, against JAX's own of single cells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import cores
from jaxnodes.layers import over_time
from tests.layers.compiled_loops import assert_no_memory_is_shared
from tests.layers.test_recurrent import CELLS, KINDS, RUNS, assert_close, problem, weighted

pytestmark = pytest.mark.usefixtures("quick")

MASKS = [False, True]
SHORT_LOOP = over_time._SHORT_LOOP


def one_by_one(kind, params, x, initial, mask=None, reverse=False, cell=None):
    """Cells called in a Python loop: nothing here is derived by a rule of ours."""
    cell = cell or CELLS[kind]
    carry, outputs = initial, [None] * x.shape[1]
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        new = cell(params, carry, x[:, t])
        if mask is not None:
            valid = mask[:, t, None]
            new = jax.tree.map(functools.partial(jnp.where, valid), new, carry)
        h = new[0] if kind == "lstm" else new
        outputs[t] = h if mask is None else jnp.where(valid, h, 0)
        carry = new
    return jnp.stack(outputs, axis=1), carry


def both(kind, seed, masked=False, reverse=False):
    """Ours and the loop as functions of parameters, inputs and carry; arguments for them."""
    *arguments, mask = problem(kind, seed, jnp.float64)
    mask = mask if masked else None

    def ours(params, x, initial):
        return RUNS[kind](params, x, initial=initial, mask=mask, reverse=reverse)

    def theirs(params, x, initial):
        return one_by_one(kind, params, x, initial, mask, reverse)

    return ours, theirs, tuple(arguments)


def like(tree, seed):
    """Random numbers in the shapes of `tree`."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), tree)


def equal(make, ours, theirs, *arguments):
    ours, theirs = (jax.jit(make(f))(*arguments) for f in (ours, theirs))
    assert_close(ours, theirs, np.dtype("float64"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seed", [11, 12])
def test_values_tangents_and_gradients(kind, masked, reverse, seed, x64):
    ours, theirs, arguments = both(kind, seed, masked, reverse)

    def make(f):
        def run(arguments, directions):
            outputs, tangents = jax.jvp(f, arguments, directions)
            return outputs, tangents, jax.vjp(f, *arguments)[1](like(outputs, 3))

        return run

    equal(make, ours, theirs, arguments, like(arguments, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["params", "x", "initial", "w_h", "b"])
def test_gradients_in_one_argument(kind, which, x64):
    """The others' tangents are known zeros, of which nothing is computed."""
    ours, theirs, (params, x, initial) = both(kind, 13, masked=True)
    given = {"params": params, "x": x, "initial": initial} | params

    def make(f):
        def loss(value):
            new = {"params": params, "x": x, "initial": initial}
            if which in new:
                new[which] = value
            else:
                new["params"] = params | {which: value}
            return weighted(f(**new))

        return jax.grad(loss)

    equal(make, ours, theirs, given[which])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", MASKS)
def test_second_derivatives(kind, masked, x64):
    """Forward over reverse, and reverse over reverse."""
    ours, theirs, arguments = both(kind, 14, masked)
    directions = like(arguments, 4)

    def make(f):
        gradient = jax.grad(lambda *a: weighted(f(*a)), (0, 1, 2))

        def dot(a, b):
            return sum(map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)))

        def run(arguments):
            forward = jax.jvp(gradient, arguments, directions)[1]
            return forward, jax.grad(lambda a: dot(gradient(*a), directions))(arguments)

        return run

    equal(make, ours, theirs, arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_axes", [(0, None, None), (None, 0, None), (0, 0, 0)])
def test_gradients_of_many_networks(kind, in_axes, x64):
    ours, theirs, arguments = both(kind, 15)
    many = [
        jax.tree.map(lambda a: jnp.stack([a, -a, a / 2]), a) if axis == 0 else a
        for a, axis in zip(arguments, in_axes, strict=True)
    ]

    def make(f):
        return jax.vmap(jax.grad(lambda *a: weighted(f(*a)), (0, 1, 2)), in_axes)

    equal(make, ours, theirs, *many)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_under_remat_and_in_a_scan(kind, x64):
    ours, theirs, (params, x, initial) = both(kind, 16)

    def make(f):
        def descend(params, _):
            loss = jax.checkpoint(lambda p: weighted(f(p, x, initial)))
            gradients = jax.grad(loss)(params)
            return jax.tree.map(lambda p, g: p - 1e-2 * g, params, gradients), None

        return lambda params: jax.lax.scan(descend, params, length=3)[0]

    equal(make, ours, theirs, params)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_shard_map(kind, x64):
    ours, theirs, (params, x, initial) = both(kind, 21)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, rows = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")

    def make(f):
        def gradients(params, x, initial):
            return jax.grad(lambda p, x: weighted(f(p, x, initial)), (0, 1))(params, x)

        if f is theirs:
            return gradients
        specs = {"in_specs": (everywhere, rows, rows), "out_specs": (everywhere, rows)}
        return jax.shard_map(gradients, mesh=mesh, **specs)

    equal(make, ours, theirs, params, x, initial)


@pytest.mark.parametrize("activation", [jax.nn.softmax, jnp.sin, jax.nn.relu])
def test_any_activation_of_a_simple_rnn(activation, x64):
    """Softmax too, whose derivative isn't a number for each node."""
    params, x, initial, _ = problem("simple_rnn", 17, jnp.float64)
    cell = functools.partial(jn.simple_rnn_cell, activation=activation)

    def ours(params, x):
        return jn.simple_rnn(params, x, initial=initial, activation=activation)

    def theirs(params, x):
        return one_by_one("simple_rnn", params, x, initial, cell=cell)

    equal(lambda f: jax.grad(lambda *a: weighted(f(*a)), (0, 1)), ours, theirs, params, x)


def scans_of(jaxpr):
    """All loops; newer versions of JAX keep an inlined jit as an equation."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        elif "jaxpr" in equation.params:
            yield from scans_of(equation.params["jaxpr"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_loop_adds_up_no_weights(kind):
    """What is carried backward is as large as the hidden state, whatever the weights' size."""
    params, x, _, _ = problem(kind, 18)
    gradient = jax.grad(lambda params: weighted(RUNS[kind](params, x)))
    scans = list(scans_of(jax.make_jaxpr(gradient)(params).jaxpr))
    *forward, backward = [scan.params["reverse"] for scan in scans]
    assert backward
    assert not any(forward)
    shapes = {v.aval.shape for scan in scans for v in scan.outvars}
    carried = {shape for shape in shapes if shape[:2] != (x.shape[1], x.shape[0])}
    assert carried == {(x.shape[0], params["w_h"].shape[0])}


@pytest.mark.parametrize("kind", KINDS)
def test_other_platforms_multiply_without_reshaping(kind, x64, monkeypatch):
    ours, theirs, arguments = both(kind, 19)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    equal(lambda f: jax.grad(lambda *a: weighted(f(*a)), (0, 1, 2)), ours, theirs, *arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_a_derived_node_is_recorded_and_not_patched(kind):
    params, x, _, _ = problem(kind, 20)

    def f(params):
        with jax.named_scope("recurrent"):
            return weighted(RUNS[kind](params, x)[0])

    _, nodes = jn.record(jax.value_and_grad(f))(params)
    recorded = jnp.moveaxis(nodes["recurrent"], 0, 1)
    assert_close(recorded, RUNS[kind](params, x)[0], np.dtype("float32"))
    gate = jnp.zeros(params["w_h"].shape[0])
    with pytest.raises(jn.JaxNodesError, match="recurrent.*differentiat"):
        jn.intervene(jax.grad(f))({"recurrent": gate}, params)
    gated = jax.grad(lambda params: jn.intervene(f)({"recurrent": gate}, params))
    assert not any(np.any(g) for g in jax.tree.leaves(gated(params)))


@pytest.fixture
def two_cores(monkeypatch):
    """For each device, whatever the machine has; what was compiled for it is left out."""
    monkeypatch.setattr(over_time, "workers", lambda: 2 * jax.local_device_count())
    monkeypatch.setattr(over_time, "_SHORT_LOOP", 0)
    over_time.over_time.clear_cache()
    yield
    over_time.over_time.clear_cache()


def long_enough(kind, dtype, rows=8, steps=4, inputs=3, features=5):
    """A layer of a size whose loop is split, its inputs, carry and mask."""
    keys = jax.random.split(jax.random.key(22), 4)
    params = getattr(jn, f"{kind}_init")(keys[0], inputs, features, dtype=dtype)
    params["b"] = jax.random.normal(keys[1], params["b"].shape, dtype)
    x = jax.random.normal(keys[2], (rows, steps, inputs), dtype)
    h = jax.random.normal(keys[3], (rows, features), dtype)
    mask = jnp.arange(steps) < jnp.arange(rows)[:, None] % (steps + 1)
    return params, x, (h, h / 2) if kind == "lstm" else h, mask


def loops(layer, *arguments):
    """The `while` loops that XLA is given: one for a scan, two and gates for two loops."""
    return jax.jit(layer).lower(*arguments).as_text().count("stablehlo.while")


def pulled(layer):
    """Outputs and gradients, for random cotangents."""

    def run(*arguments):
        y, pull = jax.vjp(layer, *arguments)
        return y, pull(like(y, 23))

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("reverse", [False, True])
def test_two_loops(kind, masked, reverse, two_cores, x64):
    *arguments, mask = long_enough(kind, jnp.float64)
    options = {"mask": mask if masked else None, "reverse": reverse}

    def layer(params, x, initial):
        return RUNS[kind](params, x, initial=initial, **options)

    def cells(params, x, initial):
        return one_by_one(kind, params, x, initial, **options)

    assert loops(layer, *arguments) > 2
    assert loops(pulled(layer), *arguments) > 4
    assert_close(layer(*arguments), cells(*arguments), np.dtype("float64"))
    equal(pulled, layer, cells, *arguments)
    tangents = like(tuple(arguments), 24)
    equal(lambda f: lambda *a: jax.jvp(f, a, tangents), layer, cells, *arguments)


@pytest.mark.parametrize("own", ["weights", "inputs", "initial"])
def test_in_shard_map_whatever_each_device_has_its_own_of(own, two_cores, x64, quick):
    *arguments, _ = long_enough("lstm", jnp.float64)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")
    names = ("weights", "inputs", "initial")
    specs = tuple(split if name == own else everywhere for name in names)

    def ours(params, x, initial):
        return RUNS["lstm"](params, x, initial=initial)

    def theirs(params, x, initial):
        return one_by_one("lstm", params, x, initial)

    def make(f):
        def pulled(*arguments):
            y, pull = jax.vjp(f, *arguments)
            return y, pull(jax.tree.map(jnp.cos, y))

        if f is theirs:
            return pulled
        return jax.shard_map(pulled, mesh=mesh, in_specs=specs, out_specs=(split, specs))

    equal(make, ours, theirs, *arguments)


@pytest.mark.parametrize("parts", [1, 2])
def test_outside_of_jit_a_second_gradient_traces_nothing(parts, two_cores, monkeypatch):
    params, x, *_ = long_enough("simple_rnn", jnp.float32)
    monkeypatch.setattr(over_time, "_parts", lambda *_: parts)
    traces = []

    def counted(z):
        traces.append(z)
        return jnp.tanh(z)

    def gradient():
        return jax.grad(lambda p: jnp.sum(jn.simple_rnn(p, x, activation=counted)[0]))(params)

    first = gradient()
    after = len(traces)
    assert after
    jax.tree.map(np.testing.assert_array_equal, gradient(), first)
    assert len(traces) == after


def test_without_jit(two_cores):
    params, x, *_ = long_enough("gru", jnp.float32)

    def gradient():
        return jax.grad(lambda p: jnp.sum(jn.gru(p, x)[0]))(params)

    compiled = gradient()
    with jax.disable_jit():
        assert_close(gradient(), compiled, np.dtype("float32"))


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_of_two_loops(kind, two_cores, x64):
    params, x, initial, mask = long_enough(kind, jnp.float64)
    direction = like(params, 25)

    def twice(run):
        def slope(params):
            gradient = jax.grad(lambda p: weighted(run(p)))(params)
            products = jax.tree.map(jnp.vdot, gradient, direction)
            return sum(jax.tree.leaves(products))

        return lambda params: (jax.grad(slope)(params), jax.jvp(slope, (params,), (direction,)))

    for valid in (None, mask):
        equal(
            twice,
            lambda p, valid=valid: RUNS[kind](p, x, initial=initial, mask=valid)[0],
            lambda p, valid=valid: one_by_one(kind, p, x, initial, valid)[0],
            params,
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_axes", [(0, None, None), (None, 0, None), (0, 0, 0)])
def test_gradients_of_two_loops_of_many_networks(kind, in_axes, two_cores, x64):
    *arguments, _ = long_enough(kind, jnp.float64)
    many = [
        jax.tree.map(lambda a: jnp.stack([a, -a, a / 2]), argument) if axis == 0 else argument
        for argument, axis in zip(arguments, in_axes, strict=True)
    ]

    def gradients(run):
        def loss(params, x, initial):
            return weighted(run(params, x, initial)[0])

        return jax.vmap(jax.grad(loss, (0, 1, 2)), in_axes)

    def layer(params, x, initial):
        return RUNS[kind](params, x, initial=initial)

    assert loops(gradients(layer), *many) > 4
    equal(gradients, layer, lambda p, x, i: one_by_one(kind, p, x, i), *many)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", MASKS)
def test_two_loops_share_no_memory(kind, masked, two_cores):
    """Else the second one would wait for the first: read off what XLA compiled."""
    jax.config.update("jax_disable_most_optimizations", False)
    params, x, _, mask = long_enough(kind, jnp.float32)

    def layer(params, x):
        return RUNS[kind](params, x, mask=mask if masked else None)[0]

    for run, count in ((layer, 2), (pulled(layer), 4)):
        text = jax.jit(run).lower(params, x).compile().as_text()
        assert_no_memory_is_shared(text, count)


def test_two_loops_of_more_and_fewer_axes(two_cores):
    params, x, *_ = long_enough("lstm", jnp.float32)
    outputs, (h, c) = jn.lstm(params, x)
    of_axes = x.reshape(2, 2, 2, *x.shape[1:])
    assert loops(lambda x: jn.lstm(params, x), of_axes) > 2
    apart = jn.lstm(params, of_axes)
    joined = jax.tree.map(lambda y: y.reshape(8, *y.shape[3:]), apart)
    assert_close(joined, (outputs, (h, c)), np.dtype("float32"))
    assert loops(lambda x: jn.lstm(params, x), x[0]) == 1  # of one row


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_two_loops_of_many_networks_their_nodes_and_gradients(kind, two_cores):
    params, x, initial, _ = long_enough(kind, jnp.float32)
    many = jax.tree.map(lambda a: jnp.stack([a, -a]), params)
    ours = jax.vmap(lambda p: RUNS[kind](p, x, initial=initial))(many)
    for i in range(2):
        of_one = one_by_one(kind, jax.tree.map(lambda a, i=i: a[i], many), x, initial)
        assert_close(jax.tree.map(lambda a, i=i: a[i], ours), of_one, np.dtype("float32"))

    def run(x):
        with jax.named_scope("recurrent"):
            return RUNS[kind](params, x)[0]

    assert loops(run, x) > 2
    outputs, nodes = jn.record(run)(x)
    np.testing.assert_array_equal(jnp.moveaxis(nodes["recurrent"], 0, 1), outputs)
    gated = jn.intervene(run)({"recurrent": jnp.zeros(5).at[2].set(1)}, x)
    assert np.any(gated[..., 2])
    assert not np.any(jnp.delete(gated, 2, axis=-1))

    def theirs(x):
        return one_by_one(kind, params, x, jax.tree.map(jnp.zeros_like, initial))[0]

    for derive in (jax.grad, lambda f: lambda x: jax.jvp(f, (x,), (x,))[1]):
        ours, expected = (derive(lambda x, f=f: jnp.mean(f(x) ** 2))(x) for f in (run, theirs))
        assert_close(ours, expected, np.dtype("float32"))


@pytest.mark.parametrize(
    ("rows", "steps", "inputs", "features", "expected"),
    [
        (32, 128, 64, 128, True),
        (8, 64, 64, 128, True),
        (32, 32, 128, 256, True),
        (4, 1_000, 64, 128, False),  # few rows
        (32, 64, 8, 16, False),  # soon over
        (512, 64, 64, 128, False),  # large enough for XLA to split a step
        (8, 64, 256, 512, False),  # weights beyond a core's cache
    ],
)
def test_when_two_loops_pay(rows, steps, inputs, features, expected, two_cores, monkeypatch):
    monkeypatch.setattr(over_time, "_SHORT_LOOP", SHORT_LOOP)
    weights = (jnp.zeros((inputs + features, 4 * features)), jnp.zeros(4 * features))
    x = jnp.zeros((steps, rows, inputs))
    assert over_time._parts(weights, x) == (2 if expected else 1)
    monkeypatch.setattr(over_time, "workers", lambda: 2 * jax.local_device_count() - 1)
    assert over_time._parts(weights, x) == 1
    monkeypatch.setattr(over_time, "workers", cores.workers)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert over_time._parts(weights, x) == 1
