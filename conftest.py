"""Strict dtype promotion and eight simulated devices, set before JAX starts."""

import jax
import pytest

jax.config.update(
    "jax_compilation_cache_dir", "/tmp/jaxnodes-xla"
)  # LOCAL ONLY: the lead removes it
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
