import __future__

import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnodes.data import Characters, next_character_windows, standard_library_text
from jaxnodes.errors import JaxNodesError

TEXTS = st.text(st.characters(), min_size=1, max_size=50)


@given(TEXTS)
def test_decode_undoes_encode(text):
    vocabulary = Characters(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert len(ids) == len(text)
    assert vocabulary.decode(ids) == text
    assert Characters(vocabulary.symbols) == vocabulary
    assert len(vocabulary) == len(set(text)) == ids.max() + 1


@given(TEXTS, TEXTS)
def test_unknown_stands_for_all_others(seen, new):
    vocabulary = Characters(seen, unknown="?")
    expected = "".join(c if c in seen or c == "?" else "?" for c in new)
    assert vocabulary.decode(vocabulary.encode(new)) == expected


def test_ids_by_hand():
    vocabulary = Characters("banana\U0001f34c")
    assert vocabulary.symbols == "abn\U0001f34c"
    np.testing.assert_array_equal(vocabulary.encode("nab\U0001f34c"), [2, 0, 1, 3])
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode(vocabulary.encode("")) == ""
    assert hash(vocabulary) == hash(Characters("nab\U0001f34c"))


def test_unknown_characters_are_an_error():
    with pytest.raises(JaxNodesError, match=r"among the 3 of the vocabulary, got 'z' at 2; .*unk"):
        Characters("abc").encode("abzy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "at least one character"),
        ((b"abc",), "expected a text, got bytes"),
        (("abc", "??"), "unknown to be one character"),
        (("abc", ""), "unknown to be one character"),
    ],
)
def test_bad_vocabularies(arguments, message):
    with pytest.raises(JaxNodesError, match=message):
        Characters(*arguments)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 3], "ids from 0 to 2, got 0 to 3"),
        ([-1], "got -1"),
        ([0.0], "whole numbers"),
        ([[0]], r"\(1, 1\)"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(JaxNodesError, match=message):
        Characters("abc").decode(ids)


def test_encode_wants_a_text():
    with pytest.raises(JaxNodesError, match="got list"):
        Characters("abc").encode(["a"])


@pytest.mark.parametrize(("stride", "starts"), [(None, [0, 4]), (1, range(6)), (5, [0, 5])])
def test_next_characters(stride, starts):
    ids = np.arange(10, 20)
    x, y = next_character_windows(ids, 4, stride=stride)
    np.testing.assert_array_equal(x, [ids[i : i + 4] for i in starts])
    np.testing.assert_array_equal(y, x + 1)
    assert x.dtype == y.dtype == np.int32


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([1, 2], {"width": 2}, "at least 3 steps"),
        ([1.0, 2.0], {"width": 1}, "encode the text first"),
        ([[1, 2]], {"width": 1}, r"got int64 \(1, 2\)"),
        ([1, -1], {"width": 1}, "got -1 to 1"),
        ([1, 2**31], {"width": 1}, "got 1 to 2147483648"),
        ([1, 2], {"width": 1, "stride": 0}, "stride"),
    ],
)
def test_bad_next_characters(ids, options, message):
    with pytest.raises(JaxNodesError, match=message):
        next_character_windows(ids, **options)


def test_standard_library_text():
    text = standard_library_text(200_000)
    assert len(text) == 200_000
    assert text.isascii()
    assert text == standard_library_text(300_000)[:200_000]
    assert text.startswith(pathlib.Path(__future__.__file__).read_text())
    assert text.count("def ") > 200


def test_the_whole_standard_library():
    text = standard_library_text(None)
    assert len(text) > 5_000_000
    assert len(Characters(text)) < 128


def test_bad_limit():
    with pytest.raises(JaxNodesError, match="limit"):
        standard_library_text(0)


def test_no_standard_library(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(JaxNodesError, match="standard library as files"):
        standard_library_text()
