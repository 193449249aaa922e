"""The command line itself: help at once, the smaller commands, and compiled programs kept."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import jaxnodes as jn
from jaxnodes.cli import main


def run(code, **environment):
    """Runs Python code in a process of its own; what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_help_imports_nothing_heavy():
    code = """
import sys
from jaxnodes.cli import main
for args in ["--help"], ["train", "--help"], ["--version"]:
    assert main(args) == 0
heavy = {"jax", "numpy", "scipy", "sklearn", "matplotlib", "optax", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    out = run(code)
    for word in (
        "train",
        "evaluate",
        "predict",
        "generate",
        "inspect",
        "prune",
        "summary",
        "doctor",
        "--learning-rate",
    ):
        assert word in out


def test_no_command_and_a_wrong_one(refused):
    assert (
        "Expected one of {train, evaluate, predict, generate, inspect, prune, summary, doctor}"
        in refused()
    )
    assert "frob" in refused("frob")


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    def broken(options):
        raise ValueError("not the user's")

    monkeypatch.setattr("jaxnodes.cli.environment.run_doctor", broken)
    with pytest.raises(ValueError, match="not the user's"):
        main(["doctor"])


def test_summary_counts_the_classifier_of_the_guides(done):
    report = json.loads(done("summary", "--data", "digits28", "--json"))
    assert report["nodes_per_layer"] == {"input": 784, "dense1": 256, "dense2": 128, "dense3": 10}
    assert report["nodes"] == 1178
    assert report["parameters"] == 235_146
    net = jn.from_config(report["network"])
    assert dict(net.layers)["dense1"] == jn.Dense(256, "relu", in_features=784)
    text = done("summary", "--data", "digits28", "--model", "cnn")
    total = ["total", "1,018", "421,642"]
    assert text.splitlines()[-1].split()[:3] == total
    # Multiply-adds by hand, two operations each; padded products count whole.
    convolutions = 28 * 28 * 32 * 9 * 1 + 14 * 14 * 64 * 9 * 32
    report = json.loads(done("summary", "--data", "digits28", "--model", "cnn", "--json"))
    assert report["flops_per_sample"] == 2 * (convolutions + 3136 * 128 + 128 * 10)
    assert report["nodes_per_layer"]["conv2"] == 64


def test_summary_of_a_run(digits_run, done, refused):
    folder, _ = digits_run
    text = done("summary", folder)
    flops = f"{2 * (64 * 16 + 16 * 10):,}"
    assert text.splitlines()[-1].split()[:4] == ["total", "90", "1,210", flops]
    assert "got both" in refused("summary", folder, "--model", "cnn")


def test_doctor(done, capsys, monkeypatch):
    report = json.loads(done("doctor", "--json"))
    assert report["matmul"]["works"] is True
    assert report["matmul"]["largest_error"] < 1e-3
    assert report["versions"]["jax"] == jax.__version__
    assert report["versions"]["numpy"] == np.__version__
    assert report["versions"]["optax"] == optax.__version__
    assert report["devices"] == ["cpu"] * 8
    assert report["x64"] is False
    assert 0.1 < report["memory_gib"]["host"] < 1e5
    assert "matmul    works" in done("doctor")
    monkeypatch.setattr("jaxnodes.cli.environment._product", lambda: (0.5, 0.1))
    assert main(["doctor"]) == 1
    assert "matmul    is wrong" in capsys.readouterr().out


def test_a_process_looks_for_garbage_seldom():
    code = """
import gc, sys
from jaxnodes.cli import process
sys.argv = ["jaxnodes", "--version"]
assert process() == 0
sys.argv = ["jaxnodes", "frob"]
sys.stderr = sys.stdout
assert process() == 2
assert gc.get_freeze_count() > 1_000
assert gc.get_threshold()[0] == 5_000
"""
    assert "frob" in run(code)


def test_nobody_reads_the_output():
    command = [sys.executable, "-m", "jaxnodes", "doctor"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate()[1] == ""
    assert process.returncode == 1


def test_compiled_programs_are_kept(tmp_path):
    (tmp_path / "file").write_text("")
    code = """
import os, sys
import jax
from jaxnodes.cli.environment import keep_compiled_programs as keep
os.environ["JAXNODES_COMPILE_CACHE"] = "off"
assert keep() is None
for blocked in "file", "file/below":
    os.environ["JAXNODES_COMPILE_CACHE"] = blocked
    assert keep() is None
assert jax.config.jax_compilation_cache_dir is None
jax.jit(lambda x: x + 1)(2.0)
del os.environ["JAXNODES_COMPILE_CACHE"]
folder = keep()
assert str(folder).startswith(os.path.join(os.environ["XDG_CACHE_HOME"], "jaxnodes"))
assert jax.config.jax_compilation_cache_dir == str(folder)
jax.jit(lambda x: x * 3)(2.0)
assert list(folder.iterdir())
os.environ["JAXNODES_COMPILE_CACHE"] = "elsewhere"
assert keep() == folder
"""
    run(code, XDG_CACHE_HOME=str(tmp_path / "cache"))
