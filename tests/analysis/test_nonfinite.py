"""`find_nonfinite` on functions of which it is known where they go wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from jaxnodes.analysis import find_nonfinite
from tests.drawn import drawn_variables

INF = np.inf


def cell(c, x):
    with jax.named_scope("cell"):
        c = jn.node(jnp.exp(c * x), "h", axis=None)
    return c, c


def scanned(c, reverse=False):
    return jax.lax.scan(cell, c, jnp.ones(8), reverse=reverse)[0]


def looped(x):
    return jax.lax.while_loop(lambda s: s[1] < 9, lambda s: (jnp.exp(s[0]), s[1] + 1), (x, 0))[0]


def nested(x):
    def outer(c, k):
        return jax.lax.fori_loop(0, 3, lambda i, c: c * k, c), None

    return jax.lax.scan(outer, x, jnp.float32([1e9, 1e9, 1e9]))[0]


def branched(x):
    return jax.lax.cond(x > 0, lambda x: jnp.log(-x), lambda x: x / 0.0, x)


def later_in_the_loop(x):
    """In program order the log comes first, in time the square root does."""

    def step(c, i):
        a, b = c
        return (a + jnp.log(4.5 - i), jnp.sqrt(b - 1)), None

    return jax.lax.scan(step, (x, x), jnp.arange(8.0))[0]


@jax.custom_jvp
def custom(x):
    return jnp.log(x)


custom.defjvp(lambda x, dx: (custom(*x), dx[0]))


def norm(x):
    with jax.named_scope("norm"):
        return jn.node(jnp.sqrt(jnp.sum(x**2)), "size", axis=None)


def masked_log(x):
    return jnp.where(x > 0, jnp.log(x), 0.0).sum()


def masked_softmax(x):
    return jax.nn.softmax(jnp.where(x > 0, x, -INF))


F, S = np.float32, jnp.float32
CASES = {
    "scan": (scanned, (S(2),), ("cell", "cell/h", "exp", "infinite", "forward", (2,), True)),
    "reversed scan": (
        lambda x: scanned(x, reverse=True),
        (S(2),),
        ("cell", "cell/h", "exp", "infinite", "forward", (2,), True),
    ),
    "while": (looped, (S(1),), ("", "", "exp", "infinite", "forward", (3,), True)),
    "nested loops": (nested, (S(1),), ("", "", "mul", "infinite", "forward", (1, 1), True)),
    "branch": (branched, (S(1),), ("", "", "log", "NaN", "forward", (), True)),
    "other branch": (branched, (S(-1),), ("", "", "div", "infinite", "forward", (), True)),
    "time": (later_in_the_loop, (S(3),), ("", "", "sqrt", "NaN", "forward", (2,), True)),
    "vmap": (
        jax.vmap(scanned),
        (F([0.1, 2]),),
        ("cell", "cell/h", "exp", "infinite", "forward", (2,), True),
    ),
    "remat": (jax.checkpoint(branched), (S(1),), ("", "", "log", "NaN", "forward", (), True)),
    "custom gradient": (custom, (S(-1),), ("", "", "log", "NaN", "forward", (), True)),
    # The factor 1 / (2 sqrt) is worked out on the way forward.
    "derivative": (
        jax.grad(norm),
        (jnp.zeros(3),),
        ("norm", "norm/size", "div", "infinite", "forward", (), True),
    ),
    "backward of where": (
        jax.grad(masked_log),
        (jnp.zeros(3),),
        ("", "", "div", "NaN", "backward", (), True),
    ),
    "backward of a scan": (
        jax.grad(scanned),
        (S(0.9),),
        ("cell", "cell/h", "exp", "infinite", "forward", (3,), True),
    ),
    "infinity by constants": (
        masked_softmax,
        (jnp.zeros(3),),
        ("", "", "sub", "NaN", "forward", (), False),
    ),
}


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("case", CASES)
def test_where_it_begins(case, jit):
    f, args, expected = CASES[case]
    found = find_nonfinite(jax.jit(f) if jit else f, *args)
    fields = ("scope", "node", "primitive", "kind", "direction", "steps", "finite_inputs")
    assert tuple(getattr(found, field) for field in fields) == expected


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c * x, x), (S(2),)),
        (masked_log, (jnp.zeros(3),)),  # log(0) that reaches no output
        (masked_softmax, (jnp.arange(3.0),)),
        (lambda x: jnp.where(x > 0, x, -INF), (jnp.zeros(2),)),  # nothing turned
        (lambda x: jax.lax.scan(lambda c, x: (c / 0, x), 1.0, x)[1], (jnp.ones(3),)),
        (lambda key: jax.random.normal(key, (3,)), (jax.random.key(0),)),
    ],
)
def test_none_where_all_is_finite(f, args):
    assert find_nonfinite(f, *args) is None


def test_a_layer_of_a_network():
    net = jn.Sequential(jn.Dense(3, "relu"), jn.SimpleRNN(2), jn.Dense(2))
    x = jnp.ones((2, 4, 3))
    params, state = drawn_variables(net, x)
    assert find_nonfinite(net.predict, (params, state), x) is None
    params["dense2"]["w"] = jnp.full((2, 2), 3e38)
    params["simple_rnn1"]["b"] = jnp.full(2, 30.0)
    found = find_nonfinite(net.predict, (params, state), x)
    assert (found.scope, found.node, found.primitive) == ("dense2", "dense2", "dot_general")
    assert (found.shape, found.dtype) == ((2, 4, 2), np.float32)
    assert str(found) == (
        "dense2: dot_general (float32 (2, 4, 2)) turned infinite from finite inputs, forward"
    )

    def loss(params, x):
        return jn.mse(net.predict((params, state), x), jnp.zeros((2, 4, 2)))

    assert find_nonfinite(jax.jit(jax.value_and_grad(loss)), params, x).node == "dense2"


def test_automatic_names():
    import flax.linen as nn

    net = nn.Dense(2)
    x = jnp.ones((3, 4))
    variables = jax.tree.map(lambda p: p + 3e38, net.init(jax.random.key(0), x))
    found = find_nonfinite(net.apply, variables, x, auto=True)
    (site,) = jn.node_sites(net.apply, variables, x, auto=True)
    assert (found.node, found.primitive) == (site.name, "dot_general")


def test_arguments_that_came_in_so():
    def f(variables, x, mask=None):
        y = variables["w"] * x
        return y if mask is None else jax.nn.softmax(y + mask)

    w, x = {"w": jnp.ones(3)}, jnp.ones(3)
    found = find_nonfinite(f, w, x.at[0].set(jnp.nan))
    assert (found.argument, found.kind, found.primitive) == ("args[1]", "NaN", "")
    assert str(found) == "args[1] came in NaN (float32 (3,))"
    assert find_nonfinite(f, {"w": w["w"] / 0}, x).argument == "args[0]['w']"
    # A mask of infinities is no fault, unless it makes one.
    assert find_nonfinite(f, w, x, mask=jnp.array([0, 0, -INF])) is None
    assert find_nonfinite(f, w, x, mask=jnp.full(3, -INF)).argument == "kwargs['mask']"
    closed = functools.partial(jnp.add, np.float32([np.nan]))
    assert find_nonfinite(lambda x: closed(x), x).argument.startswith("an array")


def test_compiles_once():
    calls = []

    def f(x):
        calls.append(x)
        return jnp.log(x)

    for x in (jnp.ones(3), -jnp.ones(3)):
        find_nonfinite(f, x)
    assert len(calls) == 1


def test_refuses_traced_arguments():
    with pytest.raises(JaxNodesError, match="put find_nonfinite around jit"):
        jax.jit(lambda x: find_nonfinite(jnp.log, x) and x)(jnp.ones(2))
