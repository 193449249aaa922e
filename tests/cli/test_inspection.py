"""`jaxnodes inspect`: the numbers are those of whole evaluations, and the figures are there."""

import contextlib
import io
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import data
from jaxnodes.cli import main
from jaxnodes.cli.inspection import node_of
from jaxnodes.cli.sources import own_test
from jaxnodes.errors import JaxNodesError
from jaxnodes.training.saving import load_network
from tests.cli.conftest import read_json


@pytest.fixture(scope="module")
def inspected(digits_run, tmp_path_factory):
    """A copy of the run, so that others find theirs as it was, with all that was printed."""
    folder = tmp_path_factory.mktemp("inspected") / "digits"
    shutil.copytree(digits_run[0], folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["inspect", str(folder), "--top", "3"]) == 0
    return folder, out.getvalue()


def test_what_nodes_are_worth_is_exact(inspected):
    """Against NumPy: the network evaluated once for each node, its column set to zero."""
    folder, _ = inspected
    _, variables, config = load_network(folder)
    test = own_test(config)
    found = read_json(folder / "nodes.json")
    assert found["samples"] == len(test.y) == 360

    w1, b1, w2, b2 = (
        np.asarray(variables[0][layer][part], np.float64)
        for layer in ("dense1", "dense2")
        for part in ("w", "b")
    )
    h = np.maximum(test.x.astype(np.float64) @ w1 + b1, 0)

    def measured(h):
        logits = h @ w2 + b2
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        loss = -logs[np.arange(len(h)), test.y].mean()
        return np.array([(logits.argmax(axis=1) == test.y).mean(), -loss])

    without = [measured(h * (np.arange(16) != j)) for j in range(16)]
    worth = measured(h) - np.array(without)
    site = found["sites"]["dense1"]
    np.testing.assert_allclose(site["accuracy_lost"], worth[:, 0], atol=1e-6)
    np.testing.assert_allclose(site["loss_gained"], worth[:, 1], atol=1e-5)
    np.testing.assert_allclose(site["mean"], h.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(site["active"], (h > 0).mean(axis=0), atol=1e-6)
    assert site["dead"] == (h == 0).all(axis=0).tolist()


def test_what_is_printed(inspected):
    folder, text = inspected
    site = read_json(folder / "nodes.json")["sites"]["dense1"]
    lines = text.splitlines()
    assert "360 test samples, a removed node is zero" in lines[0]
    row = next(line.split() for line in lines if line.startswith("dense1 "))
    active = f"{np.mean(site['active']):.0%}"
    dead, dormant = sum(site["dead"]), sum(site["dormant"])
    assert row[1:5] == ["16", active, str(dead), str(dormant)]
    # A dead node changes nothing when it goes; no other one is without effect.
    assert row[6] == str(dead)
    order = sorted(range(16), key=lambda j: -site["loss_gained"][j])
    start = next(i for i, line in enumerate(lines) if line.startswith("most important"))
    shown = [line.split()[0] for line in lines[start + 1 : start + 4]]
    assert shown == [f"dense1/{j}" for j in order[:3]]
    start = next(i for i, line in enumerate(lines) if line.startswith("least important"))
    shown = [line.split()[0] for line in lines[start + 1 : start + 4]]
    assert shown == [f"dense1/{j}" for j in order[::-1][:3]]
    for name in ("activations.png", "importance.png", "statistics.png", "weights.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert name in lines[-1]


def test_one_node(inspected, done):
    folder, _ = inspected
    net, variables, config = load_network(folder)
    test = own_test(config)
    _, nodes = jn.record(net.predict)(variables, jnp.asarray(test.x))
    values = np.asarray(nodes["dense1"])[:, 5]
    report = json.loads(done("inspect", folder, "--node", "dense1/5", "--top", 4, "--json"))
    assert report["node"] == "dense1/5"
    best = np.argsort(-values, kind="stable")[:4]
    assert [row["sample"] for row in report["top_samples"]] == best.tolist()
    assert [row["target"] for row in report["top_samples"]] == [str(test.y[i]) for i in best]
    np.testing.assert_allclose([row["value"] for row in report["top_samples"]], values[best])
    for c in range(10):
        mean = values[test.y == c].mean()
        assert report["class_means"][str(c)] == pytest.approx(mean, rel=1e-4, abs=1e-6)
    assert report["deviation"] == pytest.approx(values.std(), rel=1e-4)
    assert report["figures"] == ["node-dense1-5.png"]
    assert (folder / "node-dense1-5.png").is_file()
    text = done("inspect", folder, "--node", "dense1/5")
    assert f"number {report['rank']} of {report['of']}" in text


def test_regression_is_by_its_error(diabetes_run, done):
    folder, _ = diabetes_run
    report = json.loads(done("inspect", folder, "--node", "dense1/0", "--json"))
    _, _, config = load_network(folder)
    test = own_test(config)
    # Without its one node the model says zero, which is the mean of the training targets.
    target = config["preprocessing"]["target_scaler"]
    mean = target["mean"][0]
    whole = read_json(folder / "metrics.json")["test"]["mae"]
    assert report["mae_gained"] == pytest.approx(np.abs(test.y - mean).mean() - whole, rel=1e-4)
    assert report["figures"] == []
    assert data.diabetes().x.shape[1] == 10


def test_names_of_nodes():
    sites = ["dense1", "residual1/dense2", "repeat1/dense1"]
    assert node_of("dense1/17", sites) == ("dense1", (17,))
    assert node_of("residual1/dense2/3", sites) == ("residual1/dense2", (3,))
    assert node_of("repeat1/dense1/2/17", sites) == ("repeat1/dense1", (2, 17))
    for wrong in ("dense2/1", "dense1", "dense1/x", "17", ""):
        with pytest.raises(JaxNodesError, match="such as dense1/0, of the layers dense1, resid"):
            node_of(wrong, sites)


def test_bad_options(digits_run, refused):
    folder, _ = digits_run
    assert "from dense1/0 to dense1/15" in refused("inspect", folder, "--node", "dense1/16")
    assert "of the layers dense1, dense2" in refused("inspect", folder, "--node", "dense7/0")
    assert "--top" in refused("inspect", folder, "--top", 0)
    assert "no such folder" in refused("inspect", "nowhere")
