"""Options that the compiler knows, and only those; and which networks get which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.training import loop, options

WIDEST = {"xla_cpu_prefer_vector_width": 512}
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@pytest.fixture
def asked_again():
    options.compiler_options.cache_clear()
    yield
    options.compiler_options.cache_clear()


@pytest.mark.parametrize(("small", "expected"), [(False, WIDEST), (True, WIDEST | EIGEN)])
def test_a_cpu_program_is_compiled_with_them(small, expected):
    made = options.compiler_options(small)
    assert made == expected
    assert jax.jit(lambda x: x + 1, compiler_options=made)(jnp.int32(1)) == 2


@pytest.mark.parametrize(
    ("small", "expected"), [(False, None), (True, {"xla_cpu_multi_thread_eigen": True})]
)
def test_an_option_that_the_compiler_does_not_know_is_left_out(
    small, expected, monkeypatch, asked_again
):
    monkeypatch.setattr(options, "_WIDEST", {"xla_cpu_no_such_option": 1})
    monkeypatch.setattr(options, "_EIGEN", {"xla_cpu_multi_thread_eigen": True})
    assert options.compiler_options(small) == expected


@pytest.mark.parametrize("small", [False, True])
def test_other_platforms_are_given_none(small, monkeypatch, asked_again):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert options.compiler_options(small) is None


def compiled(small, f, *arguments):
    program = jax.jit(f, compiler_options=options.compiler_options(small))
    return program.lower(*arguments).compile()


def test_they_choose_the_library_for_products():
    x, w = jnp.ones((64, 784)), jnp.ones((784, 256))
    usual, small = (compiled(s, jnp.matmul, x, w).as_text() for s in (False, True))
    assert "ynn_fusion" in usual  # else the choice is one without a difference
    assert "ynn_fusion" not in small


class Looped:
    """A layer whose product is in a loop."""

    def init(self, key, x):
        return {"w": jnp.ones((8, 8))}, ()

    def apply(self, params, state, x, **_):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ params["w"], x), state


SHAPES = {
    "784-256-128-10": (jn.models.mlp((784,), 10), (64, 784), True),
    "one product": (jn.Dense(3), (64, 4), True),
    "a matrix of 2**18": (jn.Dense(512), (64, 512), False),
    "and a little less": (jn.Dense(511), (64, 512), True),
    "few rows": (jn.Dense(3), (63, 4), False),
    "rows of two axes": (jn.Dense(3), (8, 8, 4), True),
    "in a loop": (Looped(), (64, 8), False),
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
    assert options.has_small_products(jaxpr) is expected


@pytest.mark.parametrize(("batch", "expected"), [(64, True), (32, False)])
def test_fit_asks_of_a_batch(batch, expected, monkeypatch):
    asked = []
    make = loop.epoch_program
    monkeypatch.setattr(loop, "epoch_program", lambda small: asked.append(small) or make(small))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(128, 4)).astype(np.float32), rng.integers(0, 3, 128)
    jn.fit(
        jn.Dense(3),
        (x, y),
        key=jax.random.key(0),
        loss=jn.cross_entropy,
        optimizer=jn.sgd(0.1),
        batch_size=batch,
        epochs=1,
    )
    assert asked == [expected]
