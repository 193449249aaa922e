"""`jaxnodes evaluate` and `predict`: the saved run on its own data and on others."""

import csv
import json

import numpy as np
import pytest

from jaxnodes import data
from jaxnodes.training.saving import load_network
from tests.cli.conftest import read_json, trained


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def read_csv(text):
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("name", ["digits_run", "iris_run", "diabetes_run"])
def test_evaluate_finds_the_test_measures_again(name, request, done):
    folder, _ = request.getfixturevalue(name)
    expected = read_json(folder / "metrics.json")
    report = json.loads(done("evaluate", folder, "--json"))
    assert report["samples"] == expected["samples"]["test"]
    for measure, value in expected["test"].items():
        assert report[measure] == pytest.approx(value, rel=1e-5)
    text = done("evaluate", folder)
    assert f"loss {report['loss']:.4f}" in text.splitlines()[-1]
    own = read_json(folder / "config.json")["data"]["data"]
    assert json.loads(done("evaluate", folder, "--data", own, "--json")) == {**report, "data": own}


def test_predictions_are_those_of_the_rebuilt_network(digits_run, tmp_path, done):
    folder, _ = digits_run
    digits = data.digits()
    net, variables, _ = load_network(folder)
    logits = np.asarray(net.predict(variables, digits.x), np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    rows = read_csv(done("predict", folder, "digits", "--proba"))
    assert [row["prediction"] for row in rows] == [str(c) for c in logits.argmax(axis=1)]
    shown = [[float(row[f"p({c})"]) for c in range(10)] for row in rows]
    np.testing.assert_allclose(shown, chances, atol=1e-5)
    np.testing.assert_allclose([float(r["probability"]) for r in rows], np.max(shown, axis=1))

    assert "1797 predictions in out.csv" in done("predict", folder, "digits", "--out", "out.csv")
    assert [r["prediction"] for r in read_csv((tmp_path / "out.csv").read_text())] == [
        row["prediction"] for row in rows
    ]
    np.savez("samples.npz", x=digits.x)
    done("predict", folder, "samples.npz", "--out", "out.npz")
    with np.load("out.npz") as file:
        np.testing.assert_array_equal(file["label"], logits.argmax(axis=1))
        np.testing.assert_allclose(file["probabilities"], shown, atol=1e-6)
        assert list(file["class_names"]) == list("0123456789")
    listed = json.loads(done("predict", folder, "samples.npz", "--json"))
    assert listed["prediction"] == [row["prediction"] for row in rows]


def test_samples_of_a_table_are_found_by_their_names(iris_run, done):
    """Columns in another order, one too many, and no target."""
    folder, _ = iris_run
    iris = data.iris()
    order = [2, 0, 3, 1]
    names = [iris.feature_names[i] for i in order]
    write_csv("new.csv", [["id", *names], *([9, *x[order].tolist()] for x in iris.x)])
    rows = read_csv(done("predict", folder, "new.csv"))
    assert rows == read_csv(done("predict", folder, "iris"))
    assert {row["prediction"] for row in rows} == set(iris.class_names)


def test_quantities_are_predicted_in_their_own_units(diabetes_run, done):
    folder, _ = diabetes_run
    diabetes = data.diabetes()
    write_csv("new.csv", [diabetes.feature_names, *diabetes.x.tolist()])
    rows = read_csv(done("predict", folder, "new.csv"))
    predictions = np.array([float(row["prediction"]) for row in rows])
    assert np.corrcoef(predictions, diabetes.y[:, 0])[0, 1] > 0.5
    assert abs(predictions.mean() - diabetes.y.mean()) < 20
    done("predict", folder, "new.csv", "--out", "out.npz")
    with np.load("out.npz") as file:
        np.testing.assert_array_equal(file["prediction"][:, 0], predictions.astype(np.float32))


def test_other_data_are_measured_whole_with_the_same_classes(iris_run, done, refused):
    folder, _ = iris_run
    iris = data.iris()
    later = [i for i in range(150) if iris.y[i] > 0]  # no setosa: labels begin at 1
    names = [*iris.feature_names, "species"]
    rows = [[*iris.x[i].tolist(), iris.class_names[iris.y[i]]] for i in later]
    write_csv("later.csv", [names, *rows])
    report = json.loads(done("evaluate", folder, "--data", "later.csv", "--json"))
    predicted = [row["prediction"] for row in read_csv(done("predict", folder, "later.csv"))]
    right = [row[-1] == name for row, name in zip(rows, predicted, strict=True)]
    assert report["samples"] == 100
    assert report["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    np.savez("later.npz", x=iris.x[later], y=np.array([row[-1] for row in rows]))
    again = json.loads(done("evaluate", folder, "--data", "later.npz", "--json"))
    assert again["accuracy"] == report["accuracy"]
    write_csv("strange.csv", [names, [*iris.x[0].tolist(), "tulip"]])
    assert "got 'tulip'" in refused("evaluate", folder, "--data", "strange.csv")


def test_tables_of_words_and_tabs(tmp_path, done, refused):
    rng = np.random.default_rng(0)
    rows = [
        (f"{a + 2 * (color == 'red'):.3f}", color, f"{a:.3f}")
        for a, color in zip(rng.normal(size=80), 40 * ["red", "blue"], strict=True)
    ]
    lines = ["\t".join(row) for row in [("price", "color", "size"), *rows]]
    (tmp_path / "table.tsv").write_text("\n".join(lines))
    common = ["train", "--data", "table.tsv", "--model", "linear", "--out", "run", "--json"]
    assert "expected numbers in column 'color'" in refused(*common, "--target", "price")
    report = json.loads(done(*common, "--target", 0, "--one-hot"))
    assert report["test"]["r2"] > 0.95  # the price is size + 2 if red
    new = "color,size\nblue,0.5\nred,0.5\n"
    (tmp_path / "new.csv").write_text(new)
    blue, red = (float(row["prediction"]) for row in read_csv(done("predict", "run", "new.csv")))
    assert blue == pytest.approx(0.5, abs=0.2)
    assert red == pytest.approx(2.5, abs=0.2)


def test_a_table_that_changed_is_not_the_one_it_was_tested_on(tmp_path, done, refused):
    rng = np.random.default_rng(0)
    rows = [[f"{x:.4f}", f"{y:.4f}", "ab"[int(x > y)]] for x, y in rng.normal(size=(50, 2))]
    write_csv("table.csv", [["one", "two", "kind"], *rows])
    options = ["--data", "table.csv", "--model", "linear", "--epochs", 2, "--quiet"]
    folder, _ = trained(tmp_path / "run", *options)
    before = done("evaluate", folder)
    assert before == done("evaluate", folder)
    write_csv("table.csv", [["one", "two", "kind"], *reversed(rows)])
    assert "as it was when the network was trained" in refused("evaluate", folder)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["evaluate", "nowhere"], "expected the folder of a saved network, got 'nowhere'"),
        (["evaluate"], "Missing from jaxnodes evaluate: RUN"),
        (["evaluate", "RUN", "--data", "wine"], "expected classes among setosa"),
        (["evaluate", "RUN", "--data", "diabetes"], "expected targets for classification"),
        (["predict", "RUN"], "Missing from jaxnodes predict: DATA"),
        (["predict", "RUN", "missing.csv"], "expected a file that can be read, got missing.csv"),
        (["predict", "RUN", "digits"], "expected 4 features on the last axis, got 64"),
        (["predict", "RUN", "short.csv"], "expected a column 'sepal width (cm)'"),
        (["predict", "RUN", "other.npz"], "expected an array x of samples, got z"),
        (["predict", "RUN", "notes.md"], "expected samples: one of digits"),
        (["generate", "RUN"], "expected a run of gpt, which says what comes next"),
        (["evaluate", "RUN", "--data", "python"], "got 'python'"),
        (["predict", "RUN", "iris", "--out", "x.txt"], "--out: expected a .csv or .npz file"),
        (["predict", "RUN", "iris", "--out", "no/x.csv"], "expected a file that can be written"),
    ],
)
def test_what_is_refused_in_one_line(iris_run, refused, args, message):
    write_csv("short.csv", [["sepal length (cm)", "x"], [1, 2]])
    np.savez("other.npz", z=np.ones(3))
    folder, _ = iris_run
    assert message in refused(*(folder if arg == "RUN" else arg for arg in args))


def test_a_damaged_run_is_refused(iris_run, tmp_path, refused):
    folder, _ = iris_run
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "variables.safetensors"):
        (copy / name).write_bytes((folder / name).read_bytes())
    data = bytearray((copy / "variables.safetensors").read_bytes())
    data[-3] ^= 4
    (copy / "variables.safetensors").write_bytes(data)
    assert "the file is damaged" in refused("evaluate", copy)


def test_probabilities_are_of_classes(diabetes_run, refused):
    assert "--proba: expected a network that tells classes apart" in refused(
        "predict", diabetes_run[0], "diabetes", "--proba"
    )
