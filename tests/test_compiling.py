"""Options that the compiler knows, and only those; and which networks get which."""

import jax
import jax.numpy as jnp
import pytest

import jaxnodes as jn
from jaxnodes import compiling

WIDEST = {"xla_cpu_prefer_vector_width": 512}
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@pytest.fixture
def asked_again():
    compiling.compiler_options.cache_clear()
    yield
    compiling.compiler_options.cache_clear()


knows_both = pytest.mark.skipif(
    not (compiling._are_known(WIDEST) and compiling._are_known(EIGEN)),
    reason="XLA of this version has other options",
)


@knows_both
@pytest.mark.parametrize(("small", "expected"), [(False, WIDEST), (True, WIDEST | EIGEN)])
def test_a_cpu_program_is_compiled_with_them(small, expected):
    made = compiling.compiler_options(small)
    assert made == expected
    assert jax.jit(lambda x: x + 1, compiler_options=made)(jnp.int32(1)) == 2


@pytest.mark.parametrize(
    ("small", "known", "expected"),
    [
        (False, {}, None),
        (True, {}, None),
        (True, WIDEST, WIDEST),
        (True, EIGEN, EIGEN),
        (False, EIGEN, None),
        (True, WIDEST | EIGEN, WIDEST | EIGEN),
    ],
)
def test_what_the_compiler_does_not_know_is_left_out(
    small, known, expected, monkeypatch, asked_again
):
    monkeypatch.setattr(compiling, "_are_known", lambda asked: asked.items() <= known.items())
    assert compiling.compiler_options(small) == expected


def test_the_compiler_is_asked():
    assert not compiling._are_known({"xla_cpu_no_such_option": 1})


@pytest.mark.parametrize("small", [False, True])
def test_other_platforms_are_given_none(small, monkeypatch, asked_again):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.compiler_options(small) is None


def lowered(small, f, *arguments):
    program = jax.jit(f, compiler_options=compiling.compiler_options(small))
    return program.lower(*arguments).compile().as_text()


@knows_both
def test_they_choose_the_library_for_products():
    x, w = jnp.ones((64, 784)), jnp.ones((784, 256))
    usual, small = (lowered(s, jnp.matmul, x, w) for s in (False, True))
    if "ynn_fusion" not in usual:
        pytest.skip("XLA of this version has another library by default")
    assert "ynn_fusion" not in small


class Own:
    """A network of someone else's: `f(w, x)`."""

    def __init__(self, f, *shape):
        self.f, self.shape = f, shape

    def init(self, key, x):
        return {"w": jnp.ones(self.shape)}, ()

    def apply(self, params, state, x, **_):
        return self.f(params["w"], x), state


def turned(w, x):
    return jax.vmap(lambda row: w @ row)(x)


def looped(w, x):
    return jax.lax.fori_loop(0, 3, lambda _, x: x @ w, x)


def branched(w, x):
    return jax.lax.cond(w[0, 0] > 0, lambda w, x: x @ w, lambda w, x: x, w, x)


def wrapped(f):
    return jax.checkpoint(jax.jit(f))


SHAPES = {
    "784-256-128-10": (jn.models.mlp((784,), 10), (64, 784), True),
    "one product": (jn.Dense(3), (64, 4), True),
    "a matrix of 2**18": (jn.Dense(512), (64, 512), False),
    "and a little less": (jn.Dense(511), (64, 512), True),
    "few rows": (jn.Dense(3), (63, 4), False),
    "rows of two axes": (jn.Dense(3), (8, 8, 4), True),
    "in a loop": (Own(looped, 8, 8), (64, 8), False),
    "weights first": (Own(turned, 3, 4), (64, 4), True),
    "weights first, few rows": (Own(turned, 100, 4), (63, 4), False),
    "weights first, large": (Own(turned, 1024, 1024), (64, 1024), False),
    "in programs inside of it": (Own(wrapped(turned), 3, 4), (64, 4), True),
    "and few rows": (Own(wrapped(turned), 100, 4), (63, 4), False),
    "in a branch": (Own(branched, 4, 4), (64, 4), True),
    "and of few rows": (Own(branched, 100, 100), (63, 100), False),
    "of data by data": (Own(lambda w, x: x @ x.T @ x, 1, 1), (64, 4), False),
    "convolutions": (jn.models.cnn((8, 8, 1), 10, hidden=()), (64, 8, 8, 1), False),
    "an inner convolution": (
        Own(lambda w, x: jax.vmap(lambda row: jnp.convolve(row, w[0], "same"))(x) @ w, 8, 8),
        (64, 8),
        False,
    ),
    "of each head": (jn.Attention(2), (8, 8, 4), False),
    "over time": (jn.LSTM(4), (64, 5, 4), False),
    "half precision": (jn.Dense(3, dtype=jnp.bfloat16), (64, 4), False),
    "without products": (jn.Flatten(), (64, 4), False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_which_networks_have_small_products(name):
    net, shape, expected = SHAPES[name]
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    jaxpr = jax.make_jaxpr(lambda v, x: net.apply(*v, x)[0])(variables, x)
    assert compiling.has_small_products(jaxpr.jaxpr, 1) is expected
