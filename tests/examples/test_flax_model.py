"""A flax model's nodes, their worth and its parameters, each against flax itself."""

import flax_model
import jax
import numpy as np
import pytest

CONV, HIDDEN, LAST = (f"Reader/{name}" for name in ("Conv_0", "Dense_0", "Dense_1"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("flax_model")
    with jax.numpy_dtype_promotion("standard"):  # which optax's adam needs
        return flax_model.main(out), out / "flax_model.png"


@pytest.fixture(scope="module")
def captured(shown):
    """What flax's own layers put out: before the activation."""
    found = shown[0]
    apply = jax.jit(
        lambda v, x: found["model"].apply(
            v, x, capture_intermediates=True, mutable=["intermediates"]
        )
    )
    _, kept = apply(found["variables"], found["test"][0])
    kept = kept["intermediates"]
    return {name: kept[name]["__call__"][0] for name in ("BatchNorm_0", "Dense_0", "Dense_1")}


def test_the_nodes_are_what_flax_captures(shown, captured):
    nodes = shown[0]["nodes"]
    assert list(nodes) == [CONV, HIDDEN, LAST]
    for name, layer, relu in (
        (CONV, "BatchNorm_0", True),
        (HIDDEN, "Dense_0", True),
        (LAST, "Dense_1", False),
    ):
        expected = np.maximum(captured[layer], 0) if relu else captured[layer]
        np.testing.assert_allclose(nodes[name], expected, atol=1e-4)


def test_a_nodes_worth_is_what_flax_loses_without_it(shown):
    """A channel by its batch norm, a dense node by the weights that leave it."""
    found = shown[0]
    x, y = found["test"]
    params, stats = found["variables"]["params"], found["variables"]["batch_stats"]
    apply = jax.jit(found["model"].apply)

    def lost(layer, changed):
        less = {"params": {**params, layer: changed}, "batch_stats": stats}
        right = np.mean(np.asarray(apply(less, x)).argmax(axis=1) == y)
        return found["accuracy"] - right

    norm, dense = params["BatchNorm_0"], params["Dense_1"]
    of_channels = [
        lost("BatchNorm_0", {name: leaf.at[c].set(0) for name, leaf in norm.items()})
        for c in range(8)
    ]
    of_nodes = [
        lost("Dense_1", {**dense, "kernel": dense["kernel"].at[i].set(0)}) for i in range(32)
    ]
    assert max(of_channels) > 0.05
    assert max(of_nodes) > 0.05
    np.testing.assert_allclose(found["drops"][CONV], of_channels, atol=1.5 / len(y))
    np.testing.assert_allclose(found["drops"][HIDDEN], of_nodes, atol=1.5 / len(y))


def test_dead_nodes_are_zero_for_every_digit_and_worth_nothing(shown, captured):
    dead = shown[0]["stats"][HIDDEN].dead
    np.testing.assert_array_equal(dead, (captured["Dense_0"] <= 0).all(axis=0))
    assert dead.sum() >= 8
    assert not shown[0]["drops"][HIDDEN][dead].any()
    assert shown[0]["accuracy"] > 0.95


def test_the_parameters_are_counted_where_they_are(shown):
    summary, params = shown[0]["summary"], shown[0]["variables"]["params"]
    expected = {f"Reader/{k}": sum(p.size for p in jax.tree.leaves(v)) for k, v in params.items()}
    assert summary.parameters == expected
    assert summary.total_parameters == 9 * 8 + 2 * 8 + 9 * 8 * 32 + 32 + 32 * 10 + 10
    assert summary.nodes == {"input": 64, CONV: 8, HIDDEN: 32, LAST: 10}


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
