"""Diagnosis: the area under the ROC curve, pair by pair and against scikit-learn's model."""

import diagnosis
import numpy as np
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("diagnosis")
    return diagnosis.main(out), out / "diagnosis.png"


def test_both_models_rank_nearly_all_pairs_right(shown):
    found = shown[0]["found"]
    assert found["network"]["auc"] > 0.98
    assert found["logistic regression"]["auc"] > 0.98
    assert abs(found["network"]["auc"] - found["logistic regression"]["auc"]) < 0.01
    assert found["network"]["accuracy"] > 0.95
    assert abs(found["network"]["accuracy"] - found["logistic regression"]["accuracy"]) < 0.02


def test_the_network_is_surer(shown):
    found = shown[0]["found"]
    assert found["network"]["unsure"] < found["logistic regression"]["unsure"]


def test_the_area_is_the_share_of_pairs_in_order(shown):
    p, malignant = shown[0]["chances"]["network"], shown[0]["malignant"] == 1
    difference = p[malignant][:, None] - p[~malignant][None]
    pairs = np.mean(difference > 0) + np.mean(difference == 0) / 2
    np.testing.assert_allclose(shown[0]["found"]["network"]["auc"], pairs, atol=1e-3)


def test_chances_are_right_on_average(shown):
    p, malignant = shown[0]["chances"]["network"], shown[0]["malignant"]
    assert p.shape == (569,)
    assert abs(p.mean() - malignant.mean()) < 0.03
    assert shown[0]["found"]["network"]["brier"] < 0.04


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
