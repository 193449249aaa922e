"""Every command of these tests runs in an empty folder, and keeps no compiled programs."""

import contextlib
import io
import json

import pytest

from jaxnodes.cli import main

DIABETES = ["--data", "diabetes", "--model", "linear", "--epochs", 30, "--lr", 0.03]


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNODES_COMPILE_CACHE", "off")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused: exit code 2, one line on stderr, which is returned."""

    def run(*args):
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("jaxnodes: ")
        return err

    return run


@pytest.fixture
def done(capsys):
    """Runs a command that must succeed, and returns what it printed."""

    def run(*args):
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


def trained(folder, *args):
    """A run folder of a training run, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXNODES_COMPILE_CACHE", "off")
        assert main(["train", "--out", str(folder), *map(str, args)]) == 0
    return folder, out.getvalue()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return trained(folder, "--hidden", 16, "--epochs", 3, "--seed", 5)


@pytest.fixture(scope="session")
def iris_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "iris"
    return trained(folder, "--data", "iris", "--hidden", 8, "--epochs", 40, "--lr", 0.02, "--json")


@pytest.fixture(scope="session")
def diabetes_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "diabetes"
    return trained(folder, *DIABETES, "--quiet")


def read_json(path):
    return json.loads(path.read_text())


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
