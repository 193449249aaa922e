"""Many runs as one program: as single runs are, and traced once."""

import many_runs
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("many_runs")
    return many_runs.main(out), out / "many_runs.png"


def test_all_runs_take_two_traces(shown):
    assert shown[0]["traced"] == 2


def test_runs_of_the_grid_are_single_runs(shown):
    assert shown[0]["losses"].shape == (many_runs.SEEDS, len(many_runs.RATES))
    assert shown[0]["apart"] < 1e-4


def test_the_rate_matters_more_than_the_seed(shown):
    losses = shown[0]["losses"]
    assert losses.mean(axis=0).std() > 3 * losses.std(axis=0).mean()
    assert shown[0]["accuracies"][:, -2].min() > 0.9


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
