"""`jaxnodes train`: what it prints, what it writes, and what it must not learn from."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, r2_score

import jaxnodes as jn
from jaxnodes import data, plots
from jaxnodes.cli import main
from jaxnodes.cli.options import Train
from jaxnodes.cli.recipes import optimizer_of
from jaxnodes.training.saving import load_network
from tests.cli.conftest import DIABETES, read_json, read_lines

# The same for all that needs just any run, so that it is compiled once.
LINEAR = ["--data", "iris", "--model", "linear", "--epochs", 2, "--lr", 0.02]


def test_a_run_prints_what_it_does(digits_run):
    folder, out = digits_run
    lines = out.splitlines()
    for part in ("cpu", "jaxnodes 0", "python 3", "jax 0", "seed 5"):
        assert part in lines[0]
    assert "digits: 1294 train, 143 validation, 360 test" in lines[0]
    assert "  dense1=Dense(16, activation=relu, in_features=64)," in lines
    counted = [line.split() for line in lines if " nodes" in line]
    assert counted == [
        ["input", "64", "nodes"],
        ["dense1", "16", "nodes", "1,040", "parameters"],
        ["dense2", "10", "nodes", "170", "parameters"],
        ["total", "90", "nodes", "1,210", "parameters"],
    ]
    epochs = [line for line in lines if line.startswith("epoch ")]
    history = read_lines(folder / "history.jsonl")
    assert len(epochs) == len(history) == 3
    for text, row in zip(epochs, history, strict=True):
        assert f"epoch {row['epoch']}/3  loss {row['loss']:.4f}" in text
        assert f"rate {row['learning_rate']:.1e}" in text
        assert text.endswith(" left")
    accuracy = read_json(folder / "metrics.json")["test"]["accuracy"]
    assert f"accuracy {accuracy:.4f} (360 samples)" in lines[-2]
    assert lines[-1] == f"saved in {folder}"


def test_a_run_folder_holds_all_that_was_learned(digits_run):
    folder, _ = digits_run
    assert sorted(file.name for file in folder.iterdir()) == [
        *("config.json", "confusion.png", "curves.png", "history.jsonl", "metrics.json"),
        "variables.safetensors",
    ]
    for name in ("curves.png", "confusion.png"):
        assert matplotlib.image.imread(folder / name).std() > 0.05
    metrics = read_json(folder / "metrics.json")
    assert metrics["samples"] == {"train": 1294, "validation": 143, "test": 360}
    assert (metrics["nodes"], metrics["parameters"], metrics["epochs"]) == (90, 1210, 3)
    net, variables, config = load_network(folder)
    assert config["task"] == "classification"
    assert config["class_names"] == list("0123456789")
    assert config["training"]["optimizer"] == "adam"
    # The measures, worked out again from the files and the data alone.
    parts = data.load_data("digits", test=0.2, validation=0.08, seed=5)
    for name, part in parts._asdict().items():
        logits = np.asarray(net.predict(variables, part.x), np.float64)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        accuracy = (logits.argmax(axis=1) == part.y).mean()
        assert metrics[name]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
        loss = log_loss(part.y, chances, labels=range(10))
        assert metrics[name]["loss"] == pytest.approx(loss, rel=1e-4)
    # The kept epoch is the one of the lowest validation loss.
    history = read_lines(folder / "history.jsonl")
    losses = [row["val_loss"] for row in history]
    assert metrics["kept_epoch"] == 1 + int(np.argmin(losses))
    assert metrics["validation"]["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_json_is_all_there_is(iris_run):
    folder, out = iris_run
    report = json.loads(out)
    assert out.count("\n") == 1
    assert report.pop("folder") == str(folder)
    assert report == read_json(folder / "metrics.json")
    assert report["test"]["accuracy"] >= 0.8  # 30 flowers


def test_quiet_leaves_the_result(diabetes_run):
    folder, out = diabetes_run
    first, test, saved = out.splitlines()
    assert "diabetes: 318 train, 35 validation, 89 test" in first
    assert test.startswith("test loss ")
    assert saved == f"saved in {folder}"


def test_regression_is_measured_in_its_own_units(diabetes_run):
    folder, _ = diabetes_run
    assert not (folder / "confusion.png").exists()
    net, variables, config = load_network(folder)
    parts = data.load_data("diabetes", test=0.2, validation=0.08, seed=0)
    scaled = (parts.test.x - parts.train.x.mean(axis=0)) / parts.train.x.std(axis=0)
    outputs = np.asarray(net.predict(variables, scaled.astype(np.float32)))
    predictions = outputs * parts.train.y.std() + parts.train.y.mean()
    test = read_json(folder / "metrics.json")["test"]
    assert test["mae"] == pytest.approx(mean_absolute_error(parts.test.y, predictions), rel=1e-4)
    assert test["r2"] == pytest.approx(r2_score(parts.test.y, predictions), abs=1e-4)
    assert test["r2"] > 0.2
    history = read_lines(folder / "history.jsonl")
    kept = history[read_json(folder / "metrics.json")["kept_epoch"] - 1]
    validation = read_json(folder / "metrics.json")["validation"]
    assert kept["val_mae"] == pytest.approx(validation["mae"], rel=1e-4)
    assert config["preprocessing"]["scaler"]["mean"][0] == pytest.approx(
        parts.train.x[:, 0].mean(), rel=1e-5
    )


def test_one_seed_one_run_and_nothing_of_the_test_part_in_it(tmp_path, done):
    """Other test samples change the test's measures, and not one bit of what was learned."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.normal(size=(60, 4)).astype(np.float32),
        "y_train": rng.integers(0, 2, 60),
        "x_test": rng.normal(size=(20, 4)).astype(np.float32),
        "y_test": rng.integers(0, 2, 20),
    }
    np.savez("one.npz", **arrays)
    np.savez("two.npz", **arrays | {"x_test": 9 * arrays["x_test"], "y_test": 1 - arrays["y_test"]})
    common = ["train", "--hidden", 4, "--epochs", 2, "--batch-size", 16, "--json", "--quiet"]
    reports = {
        name: json.loads(done(*common, "--data", f"{source}.npz", "--out", name, *more))
        for name, source, more in [
            ("a", "one", []),
            ("b", "two", []),
            ("c", "one", ["--seed", 1]),
        ]
    }
    files = {name: (tmp_path / name / "variables.safetensors").read_bytes() for name in "abc"}
    assert files["a"] == files["b"]
    assert files["a"] != files["c"]
    assert reports["a"]["validation"] == reports["b"]["validation"]
    assert reports["a"]["test"] != reports["b"]["test"]
    assert reports["a"]["samples"] == {"train": 54, "validation": 6, "test": 20}


def test_convolutions_on_a_folder_of_images(tmp_path, done):
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 10)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = rng.integers(0, 256, (n, 8, 8), dtype=np.uint8)
        for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (tmp_path / f"{part}-{stem}-ubyte").write_bytes(head + array.tobytes())
    options = ["--model", "cnn", "--hidden", 4, "--epochs", 1, "--validation-fraction", 0.25]
    out = done("train", "--data", tmp_path, "--out", "run", *options)
    assert "30 train, 10 validation, 10 test" in out
    assert "conv2" in out
    np.savez("new.npz", x=images)
    rows = done("predict", "run", "new.npz").splitlines()
    assert rows == done("predict", "run", tmp_path / "t10k-images-idx3-ubyte").splitlines()
    assert rows == done("predict", "run", tmp_path).splitlines()
    np.savez("labeled.npz", x=images, y=labels)
    test = json.loads(done("evaluate", "run", "--json"))
    for other in (tmp_path, "labeled.npz"):
        again = json.loads(done("evaluate", "run", "--data", other, "--json"))
        assert again == {**test, "data": str(other)}
    net, variables, _ = load_network("run")
    logits = jn.predict(net, variables, images[..., None] / np.float32(255))
    assert [row.split(",")[1] for row in rows[1:]] == [str(c) for c in logits.argmax(axis=1)]


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
def test_optimizers_are_those_of_their_names(name):
    options = Train(optimizer=name, schedule="constant", learning_rate=0.5)
    optimizer = optimizer_of(options, 100)
    assert optimizer.update is getattr(jn, name)(0.1).update
    assert optimizer.init({"w": jnp.ones(2)}).learning_rate == 0.5


def test_rates_fall_along_a_cosine_or_stay(done):
    done("train", *LINEAR, "--out", "falls", "--json")
    done("train", *LINEAR, "--out", "stays", "--json", "--schedule", "constant")
    falls, stays = (
        [row["learning_rate"] for row in read_lines(Path(run) / "history.jsonl")]
        for run in ("falls", "stays")
    )
    assert stays == pytest.approx([0.02, 0.02])
    # 108 samples make 4 steps an epoch; the last of each is step 3 and step 7 of 8.
    assert falls == pytest.approx([0.01 * (1 + np.cos(np.pi * t / 8)) for t in (3, 7)], rel=1e-5)


def test_early_stopping(done):
    options = ["--data", "iris", "--hidden", 8, "--epochs", 40, "--early-stopping", 2]
    report = json.loads(done("train", *options, "--lr", 0.2, "--out", "run", "--json"))
    assert report["epochs"] == report["kept_epoch"] + 2 < 40
    losses = [row["val_loss"] for row in read_lines(Path("run/history.jsonl"))]
    assert losses[-3] == min(losses)


def test_without_validation_the_last_epoch_is_kept(done):
    options = [*LINEAR, "--validation-fraction", 0]
    report = json.loads(done("train", *options, "--out", "run", "--json"))
    assert report["validation"] is None
    assert report["kept_epoch"] == 2
    assert report["samples"]["validation"] == 0


def test_run_folders_are_fresh_and_kept(tmp_path, done, refused, diabetes_run):
    options = ["train", *LINEAR, "--quiet"]
    done(*options)
    done(*options)
    assert sorted(f.name for f in (tmp_path / "runs").iterdir()) == [
        *("iris-linear-1", "iris-linear-2"),
    ]
    assert "--overwrite" in refused(*options, "--out", "runs/iris-linear-1")
    (tmp_path / "file").write_text("")
    assert "got the file" in refused(*options, "--out", "file")
    folder = tmp_path / "runs" / "iris-linear-1"
    for name in ("nodes.json", "activations.png", "node-dense1-0.png", "notes.png"):
        (folder / name).write_text("of the network before")
    done(*options, "--out", "runs/iris-linear-1", "--overwrite", *DIABETES)
    assert sorted(file.name for file in folder.iterdir()) == [
        *("config.json", "curves.png", "history.jsonl", "metrics.json", "notes.png"),
        "variables.safetensors",
    ]
    assert load_network("runs/iris-linear-1")[2]["task"] == "regression"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "nonsense"], r"expected one of digits, .*got 'nonsense'"),
        (["--data", "missing.csv"], r"expected a file that can be read, got missing.csv"),
        (["--data", "nan.csv"], r"line 3, column 'b': expected a value, got 'nan'"),
        (["--model", "tree"], r"invalid choice 'tree' for argument '--model'"),
        (["--model", "cnn", "--data", "iris"], r"cnn: expected images"),
        (["--model", "linear", "--hidden", "3"], r"--hidden: expected options that linear has"),
        (["--model", "resnet", "--dropout", "0.3"], r"--dropout: expected options that resnet has"),
        (["--model", "resnet", "--variant", "b0"], r"--variant: expected a depth such as 20"),
        (["--model", "efficientnet", "--variant", "b9"], r"expected a variant"),
        (["--variant", "gru"], r"--variant: expected options that mlp has"),
        (["--model", "forecaster"], r"forecaster: expected windows \(steps, features\)"),
        (["--hidden", "a"], r"--hidden.*\['a'\]"),
        (["--hidden", "0"], r"expected each size to be a whole number of at least 1, got 0"),
        (["--activation", "rleu"], r"got 'rleu'; did you mean 'relu'"),
        (["--dropout", "1.5"], r"got 1\.5"),
        (["--optimizer", "lion"], r"invalid choice 'lion'"),
        (["--learning-rate", "nan"], r"--learning-rate: expected the rate .*got nan"),
        (["--lr", "-1"], r"--learning-rate: expected the rate .*got -1"),
        (["--epochs", "0"], r"--epochs: expected epochs .*got 0"),
        (["--epochs", "many"], r"--epochs"),
        (["--batch-size", "0"], r"--batch-size: .*got 0"),
        (["--early-stopping", "0"], r"--early-stopping: .*got 0"),
        (["--early-stopping", "3", "--validation-fraction", "0"], r"expected validation samples"),
        (["--seed", "-1"], r"--seed: expected a whole number from 0 to 2\*\*32 - 1, got -1"),
        (["--seed", str(2**32)], r"--seed: expected"),
        (["--test-fraction", "0"], r"--test-fraction: expected a fraction above 0"),
        (["--test-fraction", "1.5"], r"expected test to be a fraction from 0 to below 1, got 1.5"),
        (["--validation-fraction", "1"], r"leave samples to train on"),
        (["--train-size", "5"], r"expected options of digits .*got 'train_size'"),
        (["--target", "a"], r"got 'target'"),
        (["--augment", "on", "--data", "wine"], r"--augment: expected images"),
        (["--frobnicate"], r"Unrecognized options: --frobnicate"),
        (["--hidden", str(10**14)], r"expected what fits into memory"),
    ],
)
def test_what_is_refused_in_one_line(tmp_path, refused, args, message):
    (tmp_path / "nan.csv").write_text("a,b,c\n1,2,x\n3,nan,y\n")
    assert re.search(message, refused("train", "--json", *args))
    assert {file.name for file in tmp_path.iterdir()} <= {"nan.csv", "runs"}
    assert not list(tmp_path.glob("runs/*"))


def test_a_loss_that_turns_nan_leaves_nothing(tmp_path, capsys):
    args = ["train", "--data", "diabetes", "--optimizer", "sgd", "--lr", "1e30", "--out", "run"]
    assert main([*args, "--quiet"]) == 2
    assert "expected a finite loss, got" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_what_was_learned(tmp_path):
    """A real process, a real SIGINT, in the midst of epochs without end."""
    # What starts the tests in the background may have SIGINT ignored, which children inherit.
    program = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('jaxnodes', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "train", "--hidden", "8", "--out", "run"]
    process = subprocess.Popen(
        [*command, "--epochs", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch       3/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    history = read_lines(tmp_path / "run" / "history.jsonl")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert len(history) == metrics["epochs"] == metrics["kept_epoch"] >= 3
    assert metrics["interrupted"] is True
    assert f"stopped: kept what epoch {len(history)} of 1000000 had learned" in out
    assert "saved in run" in out
    # The last epoch's variables: the loss on the validation part is that epoch's.
    assert metrics["validation"]["loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-5)
    load_network(tmp_path / "run")


def test_ctrl_c_before_there_is_anything_to_keep(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(jn, "fit", interrupted)
    assert main(["train", "--data", "iris", "--out", "run", "--quiet"]) == 130
    assert capsys.readouterr().err == "jaxnodes: stopped\n"
    assert not (tmp_path / "run").exists()


def test_ctrl_c_while_figures_are_drawn(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "curves", interrupted)
    assert main(["train", *map(str, LINEAR), "--quiet", "--out", "run"]) == 130
    assert capsys.readouterr().err == "jaxnodes: stopped; the network is in run\n"
    load_network(tmp_path / "run")


def test_a_forecaster_of_series(tmp_path, done):
    """Windows (steps, features) from a file; it must beat the last value, which is no forecast."""
    series = np.sin(np.arange(400) / 5)
    x, y = jn.data.windows(series, 12, horizon=3)
    np.savez(tmp_path / "series.npz", x=np.float32(x), y=np.float32(y[..., 0]))
    options = ["--model", "forecaster", "--variant", "gru", "--hidden", 8, "--epochs", 12]
    done("train", "--data", "series.npz", *options, "--lr", 0.02, "--quiet", "--out", "run")
    net, _, config = load_network("run")
    assert net == jn.models.forecaster((12, 1), 3, kind="gru", hidden=(8,), dropout=0.1)
    naive = np.abs(y[..., 0] - x[:, -1:, 0]).mean()
    assert read_json(tmp_path / "run" / "metrics.json")["test"]["mae"] < 0.5 * naive
    assert config["task"] == "regression"


@pytest.mark.parametrize(
    ("model", "parameters"), [("resnet", 272_186), ("efficientnet", 4_019_782)]
)
def test_deep_networks_by_name(model, parameters, done):
    """272,474 are those of ResNet-20 on color images: one 3 x 3 kernel of 16 has two fewer."""
    report = json.loads(done("summary", "--model", model, "--json"))
    assert report["parameters"] == parameters
    assert 272_474 - 272_186 == 3 * 3 * 2 * 16
