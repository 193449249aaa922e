"""Files of variables and networks: exact, whole, and found out when they are not."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxnodes as jn
from jaxnodes.training.saving import load_network, load_variables, save_network, save_variables


def dense_variables(seed=0):
    net = jn.Sequential(jn.Dense(5, "relu"), jn.BatchNorm(), jn.Dense(3))
    x = jnp.ones((4, 7))
    return net, net.init(jax.random.key(seed), x), x


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_variables_come_back_as_they_were(tmp_path):
    _, variables, _ = dense_variables()
    path = tmp_path / "v.safetensors"
    digest = save_variables(path, variables)
    assert_same(load_variables(path, like=variables), variables)
    assert_same(load_variables(path), variables)
    assert len(digest) == 64
    assert [file.name for file in tmp_path.iterdir()] == ["v.safetensors"]
    first = path.read_bytes()
    save_variables(path, variables)
    assert path.read_bytes() == first


def test_the_file_is_plain_safetensors(tmp_path):
    _, (params, state), _ = dense_variables()
    path = tmp_path / "v.safetensors"
    save_variables(path, (params, state))
    arrays = load_file(path)
    assert set(arrays) == {
        *("params/dense1/w", "params/dense1/b", "params/dense2/w", "params/dense2/b"),
        *("params/batch_norm1/scale", "params/batch_norm1/bias"),
        *("state/batch_norm1/mean", "state/batch_norm1/var"),
    }
    np.testing.assert_array_equal(arrays["params/dense1/w"], params["dense1"]["w"])


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int32", "uint32", "float16", "bfloat16", "float32", "complex64"],
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_dtypes_and_shapes(tmp_path, dtype, shape):
    array = jnp.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype)
    variables = ({"layer": {"w": array}}, {})
    save_variables(tmp_path / "v", variables)
    assert_same(load_variables(tmp_path / "v", like=variables), variables)


def test_float64_needs_x64(tmp_path, x64):
    variables = ({"w": jnp.array([1 / 3, 2 / 3])}, {"count": jnp.array(2**40)})
    save_variables(tmp_path / "v", variables)
    assert_same(load_variables(tmp_path / "v"), variables)
    with (
        jax.enable_x64(False),
        pytest.raises(jn.JaxNodesError, match=r"expected jax_enable_x64 for (float64|int64)"),
    ):
        load_variables(tmp_path / "v")


def test_fortran_order_and_numpy_arrays(tmp_path):
    w = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    save_variables(tmp_path / "v", ({"w": w, "t": w.T}, {}))
    params, _ = load_variables(tmp_path / "v")
    np.testing.assert_array_equal(params["w"], w)
    np.testing.assert_array_equal(params["t"], w.T)


def test_every_flipped_bit_is_found(tmp_path):
    _, variables, _ = dense_variables()
    path = tmp_path / "v.safetensors"
    save_variables(path, variables)
    whole = path.read_bytes()
    rng = random.Random(0)
    header = 8 * (8 + int.from_bytes(whole[:8], "little"))
    bits = rng.sample(range(header), 150) + rng.sample(range(header, 8 * len(whole)), 150)
    bits += list(range(64))  # the length of the header
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(jn.JaxNodesError, match=r"damaged"):
            load_variables(path)


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_a_file_cut_short_is_found(tmp_path, length):
    _, variables, _ = dense_variables()
    path = tmp_path / "v"
    save_variables(path, variables)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(jn.JaxNodesError, match=r"load_variables v: expected .*damaged"):
        load_variables(path)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (({"w": jnp.ones((3, 3))}, {}), r"params/w: expected float32 \(3, 3\), got .*\(64, 32\)"),
        (({"w": jnp.ones((64, 32), jnp.bfloat16)}, {}), r"params/w: expected bfloat16"),
        (({"v": jnp.ones((64, 32))}, {}), r"no params/v and params/w"),
        (({"w": jnp.ones((64, 32))}, {"mean": jnp.ones(1)}), r"got no state/mean"),
        (({}, {}), r"got params/w"),
    ],
)
def test_restoring_into_something_else(tmp_path, like, message):
    save_variables(tmp_path / "v", ({"w": jnp.ones((64, 32))}, {}))
    with pytest.raises(jn.JaxNodesError, match=message):
        load_variables(tmp_path / "v", like=like)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nonfinite_variables_replace_nothing(tmp_path, bad, dtype):
    path = tmp_path / "v"
    good = ({"dense1": {"w": jnp.ones((2, 2), dtype)}}, {})
    save_variables(path, good)
    poisoned = ({"dense1": {"w": good[0]["dense1"]["w"].at[1, 0].set(bad)}}, {})
    with pytest.raises(jn.JaxNodesError, match=r"params/dense1/w: expected finite numbers"):
        save_variables(path, poisoned)
    assert_same(load_variables(path), good)
    save_variables(path, poisoned, allow_nonfinite=True)
    assert_same(load_variables(path), poisoned)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"w": jnp.ones(2)}, r"expected variables, the pair \(params, state\)"),
        (([jnp.ones(2)], {}), r"expected params, a dict, got list"),
        (({"w": 1.0}, {}), r"params/w: expected an array of bool, .*got float"),
        (({"w": np.array(["a"])}, {}), r"params/w: expected an array"),
        (({"a": {"key": jax.random.key(0)}}, {}), r"params/a/key: expected an array"),
        (({"a/b": jnp.ones(2)}, {}), r"params: expected names without '/', got 'a/b'"),
        (({"a": {"b": {}}}, {}), r"params/a/b: expected arrays, got an empty dict"),
    ],
)
def test_what_is_not_variables(tmp_path, variables, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        save_variables(tmp_path / "v", variables)
    assert not list(tmp_path.iterdir())


def test_folders_that_are_not_there(tmp_path):
    variables = ({"w": jnp.ones(2)}, {})
    with pytest.raises(jn.JaxNodesError, match=r"expected a file that can be written, got .*nodir"):
        save_variables(tmp_path / "nodir" / "v", variables)
    with pytest.raises(jn.JaxNodesError, match=r"expected a file that can be read, got .*nofile"):
        load_variables(tmp_path / "nofile")
    with pytest.raises(jn.JaxNodesError, match=r"expected a file that can be written"):
        save_variables(tmp_path, variables)
    assert not list(tmp_path.iterdir())


SAVE_FOR_EVER = """
import sys
import numpy as np
from jaxnodes.training.saving import save_variables
i = 0
while True:
    i += 1
    w = np.full((1500, 1000), i, np.float32)
    save_variables(sys.argv[1], ({"first": w, "last": w}, {}))
"""


def test_killed_in_the_middle_of_a_save(tmp_path):
    """A real process, killed while its next file is being written."""
    path, seen = tmp_path / "v.safetensors", []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(path)])
        begun = {file.name for file in tmp_path.glob(".v.*")}
        saved = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None:
            if not path.exists() or path.stat().st_mtime_ns == saved:
                time.sleep(0.001)
                continue
            now = {file.name for file in tmp_path.glob(".v.*")} - begun
            if now and any(size_of(tmp_path / name) > 0 for name in now):
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
        params, state = load_variables(path)
        values = {float(v) for w in params.values() for v in (w.min(), w.max())}
        assert len(values) == 1
        assert state == {}
        seen.append(values.pop())
    assert min(seen) >= 1


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_network_comes_back_without_its_code(tmp_path):
    net, variables, x = dense_variables()
    extra = {"classes": ["a", "b"], "scaler": {"mean": [0.1], "std": [float(np.float32(0.3))]}}
    save_network(tmp_path / "run", net, variables, input_spec=x, extra=extra)
    loaded, restored, config = load_network(tmp_path / "run")
    assert loaded == net
    assert_same(restored, variables)
    assert {name: config[name] for name in extra} == extra
    assert config["input"] == {"shape": [4, 7], "dtype": "float32"}
    x = jax.random.normal(jax.random.key(1), (9, 7))
    np.testing.assert_array_equal(loaded.predict(restored, x), net.predict(variables, x))


def test_carried_state_and_half_precision(tmp_path):
    net = jn.Sequential(jn.LSTM(3, stateful=True), jn.LastStep(), jn.Dense(2))
    spec = jax.ShapeDtypeStruct((4, 6, 5), jnp.bfloat16)
    variables = net.init(jax.random.key(0), spec)
    save_network(tmp_path, net, variables, input_spec=spec)
    loaded, restored, _ = load_network(tmp_path)
    assert loaded == net
    assert_same(restored, variables)


def test_config_and_variables_belong_together(tmp_path):
    net, variables, x = dense_variables(0)
    _, others, _ = dense_variables(1)
    save_network(tmp_path / "a", net, variables, input_spec=x, extra={"mean": 1.25})
    save_network(tmp_path / "b", net, others, input_spec=x, extra={"mean": 1.25})
    config = tmp_path / "a" / "config.json"
    text = config.read_text()
    config.write_text(json.dumps(json.loads(text)))  # another layout, the same content
    load_network(tmp_path / "a")
    config.write_text(text.replace("1.25", "1.75"))
    with pytest.raises(jn.JaxNodesError, match=r"got one that was edited, damaged, or of another"):
        load_network(tmp_path / "a")
    config.write_text(text)
    os.replace(tmp_path / "b" / "variables.safetensors", tmp_path / "a" / "variables.safetensors")
    with pytest.raises(jn.JaxNodesError, match=r"of another save"):
        load_network(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"network": {}}', "\x00\xff"])
def test_a_config_that_is_none(tmp_path, text):
    net, variables, x = dense_variables()
    save_network(tmp_path, net, variables, input_spec=x)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(jn.JaxNodesError, match=r"load_network: expected .*config.json"):
        load_network(tmp_path)


def test_saving_a_network_is_refused_where_loading_would_fail(tmp_path):
    net, variables, x = dense_variables()
    other = jn.Sequential(jn.Dense(5, "relu"), jn.BatchNorm(), jn.Dense(4))
    with pytest.raises(jn.JaxNodesError, match=r"params/dense2/b: expected float32 \(4,\), got"):
        save_network(tmp_path / "run", other, variables, input_spec=x)
    with pytest.raises(jn.JaxNodesError, match=r"lambda1: expected function of Elementwise"):
        save_network(tmp_path / "run", jn.Sequential(lambda x: x), ({}, {}), input_spec=x)
    for extra, message in [
        ({"network": 1}, r"by other names, got \['network'\]"),
        ({"mean": np.ones(2)}, r"expected extra to hold JSON values"),
        ({"mean": float("nan")}, r"expected extra to hold JSON values"),
    ]:
        with pytest.raises(jn.JaxNodesError, match=message):
            save_network(tmp_path / "run", net, variables, input_spec=x, extra=extra)
    assert not list(tmp_path.iterdir())
    with pytest.raises(jn.JaxNodesError, match=r"expected the folder of a saved network, got"):
        load_network(tmp_path / "run")
