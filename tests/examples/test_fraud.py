"""Fraud: recall rises with the class weight, precision falls, the ranking gains nothing."""

import fraud
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("fraud")
    return fraud.main(out), out / "fraud.png"


def table(shown, name):
    """(weights, seeds)."""
    return np.array([of_weight[name] for of_weight in shown[0]["found"].values()])


def test_recall_rises_and_precision_falls_with_the_weight_for_every_seed(shown):
    recall, precision = table(shown, "recall"), table(shown, "precision")
    assert recall.shape == (len(fraud.WEIGHTS), fraud.SEEDS)
    assert np.all(np.diff(recall, axis=0) > 0)
    assert np.all(np.diff(precision, axis=0) < 0)
    recall, precision = recall.mean(axis=1), precision.mean(axis=1)
    assert recall[0] < 0.65 < 0.87 < recall[-1]
    assert precision[-1] < 0.3 < 0.7 < precision[0]


def test_the_rates_are_counts_of_alarms(shown):
    from sklearn.metrics import precision_score, recall_score

    truth = shown[0]["fraud"]
    for weight, scores in shown[0]["scores"].items():
        found = shown[0]["found"][weight]
        for seed, score in enumerate(scores):
            alarm = score > 0
            np.testing.assert_allclose(found["recall"][seed], recall_score(truth, alarm), rtol=1e-5)
            expected = precision_score(truth, alarm)
            np.testing.assert_allclose(found["precision"][seed], expected, rtol=1e-5)


def test_accuracy_falls_and_the_ranking_gains_nothing(shown):
    assert np.all(table(shown, "accuracy")[0] > table(shown, "accuracy")[-1])
    average = table(shown, "average").mean(axis=1)
    assert average.max() < average[0] + 0.01
    assert average.min() > average[0] - 0.08


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
