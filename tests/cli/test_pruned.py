"""`jaxnodes prune`: a smaller network that does what the masked one does."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import data
from jaxnodes.cli.sources import own_parts
from jaxnodes.training.saving import load_network
from tests.cli.conftest import read_json


def test_a_smaller_network_and_its_test(digits_run, done, tmp_path):
    folder, _ = digits_run
    out = tmp_path / "half"
    report = json.loads(done("prune", folder, "--rounds", 2, "--out", out, "--json"))
    before, after = read_json(folder / "metrics.json"), read_json(out / "metrics.json")
    assert report == {**after, "folder": str(out)}
    # 64-16-10 becomes 64-8-10.
    assert (report["nodes_before"], report["nodes"]) == (64 + 16 + 10, 64 + 8 + 10)
    assert report["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert report["before"]["accuracy"] == pytest.approx(before["test"]["accuracy"])
    # The new folder is a run like any other.
    again = json.loads(done("evaluate", out, "--json"))
    assert again["accuracy"] == pytest.approx(report["test"]["accuracy"])
    assert again["loss"] == pytest.approx(report["test"]["loss"], rel=1e-5)
    assert read_json(out / "config.json")["pruned"]["rounds"] == 2
    assert (out / "confusion.png").is_file()


def test_it_is_the_network_with_these_nodes_masked(digits_run, done, tmp_path):
    """By activation, in one round: the eight nodes of the largest mean, by NumPy."""
    folder, _ = digits_run
    out = tmp_path / "active"
    text = done("prune", folder, "--rounds", 1, "--by", "activation", "--out", out)
    assert text.splitlines()[-1] == f"saved in {out}"
    net, variables, config = load_network(folder)
    smaller, fewer, _ = load_network(out)
    train = own_parts(config).train.x
    x = data.digits().x
    w, b = (np.asarray(variables[0]["dense1"][part]) for part in ("w", "b"))
    means = np.maximum(train @ w + b, 0).mean(axis=0)
    kept = np.zeros(16)
    kept[np.argsort(-means)[:8]] = 1
    masked = jn.intervene(net.predict)({"dense1": jnp.asarray(kept, jnp.float32)}, variables, x)
    np.testing.assert_allclose(smaller.predict(fewer, x), masked, atol=1e-5)


def test_regression_and_a_linear_model_has_nothing_to_remove(diabetes_run, refused, tmp_path):
    folder, _ = diabetes_run
    assert "nodes that can be removed" in refused("prune", folder)
    assert not (tmp_path / "runs" / "diabetes-pruned-1").exists()


def test_bad_options(digits_run, refused):
    folder, _ = digits_run
    assert "--keep" in refused("prune", folder, "--keep", 2)
    assert "--rounds" in refused("prune", folder, "--rounds", 0)
    assert "config.json" in refused("prune", ".")
