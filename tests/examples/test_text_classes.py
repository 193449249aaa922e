"""Text classes: an LSTM and a bag of words, on lines of modules that neither has seen."""

import numpy as np
import pytest
import text_classes


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("text_classes")
    return text_classes.main(out), out / "text_classes.png"


def test_labels_are_what_the_source_says():
    source = (
        '"""A module."""\n'
        "class A:\n"
        '    """A thing\n    of two lines.\n\n    # not a comment\n    """\n'
        "    # one comment\n"
        "    def f(self):\n"
        '        """Return it."""\n'
        "        # a comment\n"
        "        # of two lines\n"
        "        return 1  # behind code\n"
    )
    assert set(text_classes.lines_of(source)) == {
        ("A thing of two lines.", 1),
        ("one comment", 2),
        ("Return it.", 0),
    }


def test_no_line_is_in_both_parts(shown):
    texts = shown[0]["texts"]
    assert len(texts["train"]) > len(texts["test"]) > 1000
    assert not set(texts["train"]) & set(texts["test"])


def test_accuracies_are_those_of_scikit_learn(shown):
    from sklearn.metrics import accuracy_score

    for name, answer in shown[0]["answers"].items():
        expected = accuracy_score(shown[0]["truth"], answer)
        np.testing.assert_allclose(shown[0]["accuracy"][name], expected)


def test_both_beat_the_commonest_class_and_are_about_as_good(shown):
    common, bag, lstm = shown[0]["accuracy"].values()
    assert min(bag, lstm) > common + 0.15
    assert abs(lstm - bag) < 0.05


def test_classes_are_the_hardest(shown):
    truth = shown[0]["truth"]
    for name in ("bag of words", "LSTM"):
        answer = shown[0]["answers"][name]
        recall = [(answer == truth)[truth == label].mean() for label in range(3)]
        assert np.argmin(recall) == 1


def test_the_figure_is_there(shown):
    assert shown[1].stat().st_size > 10_000
