"""Options that the compiler knows, and only those."""

import jax
import jax.numpy as jnp
import pytest

from jaxnodes.training import widest


@pytest.fixture(autouse=True)
def asked_again():
    widest.widest_vectors.cache_clear()
    yield
    widest.widest_vectors.cache_clear()


def test_a_cpu_program_is_compiled_with_them():
    options = widest.widest_vectors()
    assert options == {"xla_cpu_prefer_vector_width": 512}
    assert jax.jit(lambda x: x + 1, compiler_options=options)(jnp.int32(1)) == 2


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(widest, "_WIDEST", {"xla_cpu_no_such_option": 1})
    assert widest.widest_vectors() is None


def test_other_platforms_are_given_none(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert widest.widest_vectors() is None
