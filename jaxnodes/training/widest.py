"""How programs that train are compiled."""

import functools

import jax

#: XLA prefers vectors of 256 bits even on a CPU that has wider ones.
_WIDEST = {"xla_cpu_prefer_vector_width": 512}


@functools.cache
def widest_vectors() -> dict[str, int] | None:
    """Options for `jax.jit`: on CPU the widest vectors that it has.

    Which backend there is, and whether its compiler knows the option, can be asked only once
    something runs on it.
    """
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_WIDEST).lower().compile()
    except jax.errors.JaxRuntimeError:  # XLA may drop an option at any time
        return None
    return _WIDEST
