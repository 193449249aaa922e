"""Overfitting: the validation loss rises, and both cures help."""

import numpy as np
import overfitting
import pytest


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("overfitting")
    return overfitting.main(out), out / "overfitting.png"


def test_just_a_fifth_of_the_labels_is_wrong():
    labels = np.arange(100, dtype=np.int32) % 10
    wrong = overfitting.wrong_labels(labels, 0.2)
    assert (wrong != labels).sum() == 20
    assert set(wrong) <= set(range(10))


def test_the_validation_loss_rises_from_its_lowest(shown):
    assert shown[0]["rise"].shape == (overfitting.SEEDS,)
    assert shown[0]["rise"].min() > 1.2


def test_early_stopping_keeps_an_early_epoch(shown):
    assert max(shown[0]["stopped"]) < overfitting.EPOCHS / 2


@pytest.mark.parametrize("cure", ["early stopping", "dropout"])
def test_a_cure_lowers_the_test_loss_of_every_seed(shown, cure):
    losses, accuracies = shown[0]["losses"], shown[0]["accuracies"]
    assert np.all(losses[cure] < 0.9 * losses["plain"])
    assert accuracies[cure].mean() > accuracies["plain"].mean() + 0.03


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
