import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from jaxnodes.data import load_csv, load_features
from jaxnodes.errors import JaxNodesError


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_words_as_target(write):
    path = write("length,width,kind\n1.5,2,setosa\n3,4e-1,virginica\n-5,+.5,setosa\n")
    dataset = load_csv(path)
    np.testing.assert_array_equal(dataset.x, np.float32([[1.5, 2], [3, 0.4], [-5, 0.5]]))
    assert dataset.x.dtype == np.float32
    np.testing.assert_array_equal(dataset.y, [0, 1, 0])
    assert dataset.y.dtype == np.int32
    assert dataset.feature_names == ("length", "width")
    assert dataset.class_names == ("setosa", "virginica")
    assert dataset.target == "kind"


def test_decimals_as_target(write):
    dataset = load_csv(write("area,rent\n25,700.5\n40,900\n"))
    np.testing.assert_array_equal(dataset.y, [[700.5], [900]])
    assert dataset.y.dtype == np.float32
    assert dataset.class_names == ()


def test_whole_numbers_as_target(write):
    path = write("x,y\n" + "0,10\n1,9\n2,10\n3,09\n")
    dataset = load_csv(path)
    assert dataset.class_names == ("9", "10")  # by number, not by spelling
    np.testing.assert_array_equal(dataset.y, [1, 0, 1, 0])
    numbers = load_csv(path, task="regression")
    np.testing.assert_array_equal(numbers.y, [[10], [9], [10], [9]])


def test_labels_beyond_int32_keep_their_names(write):
    big = 2**62 + 1
    dataset = load_csv(write(f"x,y\n0,{big}\n1,{big - 1}\n2,{big}\n3,{big}\n"))
    assert dataset.class_names == (str(big - 1), str(big))
    np.testing.assert_array_equal(dataset.y, [1, 0, 1, 1])


def test_whole_numbers_that_may_be_either(write):
    path = write("x,rent\n0,700\n1,800\n2,900\n")
    with pytest.raises(JaxNodesError, match=r"3 different whole numbers in 3 rows .*task="):
        load_csv(path)
    assert load_csv(path, task="regression").y.shape == (3, 1)
    assert load_csv(path, task="classification").class_names == ("700", "800", "900")


def test_truth_table(write):
    dataset = load_csv(write("0,0,0\n0,1,0\n1,0,0\n1,1,1\n"))
    np.testing.assert_array_equal(dataset.x, [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(dataset.y, [0, 0, 0, 1])
    assert dataset.feature_names == ("column1", "column2")
    assert dataset.target == "column3"


@pytest.mark.parametrize("target", ["b", 1, -2])
def test_target_by_name_or_position(write, target):
    dataset = load_csv(write("a,b,c\n1,2.5,3\n4,5.5,6\n"), target=target)
    np.testing.assert_array_equal(dataset.y, [[2.5], [5.5]])
    assert dataset.feature_names == ("a", "c")


def test_quotes_spaces_blank_lines_bom_and_line_ends(write):
    text = '\ufeff "a, or b", c\r\n\r\n 1.5 ,"x ""y"""\r\n"2","multi\nline"\r\n   \r\n'
    dataset = load_csv(write(text))
    assert dataset.feature_names == ("a, or b",)
    assert dataset.class_names == ("multi\nline", 'x "y"')
    np.testing.assert_array_equal(dataset.y, [1, 0])


def test_delimiter_and_header(write):
    path = write("2019;2020;2021\n1;2;0.5\n3;4;0.7\n")
    dataset = load_csv(path, delimiter=";", header=True)
    assert dataset.feature_names == ("2019", "2020")
    assert dataset.x.shape == (2, 2)
    assert load_csv(path, delimiter=";").x.shape == (3, 2)
    words = write("red,small,yes\nblue,large,no\n")
    assert load_csv(words, header=False, categorical="onehot").x.shape == (2, 4)


def test_one_hot(write):
    path = write("color,size,y\nred,1,0.5\nblue,2,1.5\nred,3,2.5\n")
    dataset = load_csv(path, categorical="onehot")
    assert dataset.feature_names == ("color=blue", "color=red", "size")
    np.testing.assert_array_equal(dataset.x, [[0, 1, 1], [1, 0, 2], [0, 1, 3]])


def test_the_same_columns_and_labels_of_a_new_file(write):
    known = load_csv(write("color,size,kind\nred,1,b\nblue,2,a\ngreen,3,c\n"), categorical="onehot")
    names = {"feature_names": known.feature_names, "class_names": known.class_names}
    new = load_csv(write("kind,size,other,color\nc,7,x,green\nb,8,y,red\n"), target="kind", **names)
    np.testing.assert_array_equal(new.x, [[0, 1, 0, 7], [0, 0, 1, 8]])
    np.testing.assert_array_equal(new.y, [2, 1])
    assert new.feature_names == known.feature_names
    assert new.class_names == known.class_names
    unlabeled = load_features(write("size,color\n7,green\n"), known.feature_names)
    np.testing.assert_array_equal(unlabeled, [[0, 1, 0, 7]])
    with pytest.raises(JaxNodesError, match=r"line 2, column 'color': .*'red'\], got 'pink'"):
        load_features(write("size,color\n7,pink\n"), known.feature_names)
    with pytest.raises(JaxNodesError, match="expected a column 'color', got size"):
        load_features(write("size\n7\n"), known.feature_names)
    with pytest.raises(JaxNodesError, match=r"column 'kind': expected one of a, b, c, got 'd'"):
        load_csv(write("color,size,kind\nred,1,d\n"), **names)
    with pytest.raises(JaxNodesError, match=r"line 2, column 'size': .*number, got 'big'"):
        load_features(write("size,color\nbig,red\n"), known.feature_names)


def test_scikit_learns_iris_survives_the_trip(tmp_path):
    bunch = load_iris()
    names = bunch["target_names"][bunch["target"]]
    path = tmp_path / "iris.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*bunch["feature_names"], "species"])
        writer.writerows([*x, y] for x, y in zip(bunch["data"].tolist(), names, strict=True))
    dataset = load_csv(path)
    np.testing.assert_array_equal(dataset.x, bunch["data"].astype(np.float32))
    np.testing.assert_array_equal(dataset.y, bunch["target"])
    assert dataset.feature_names == tuple(bunch["feature_names"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1).filter(
                lambda word: word.strip() == word and not word[:1].isdigit()
            ),
        ),
        min_size=2,
        max_size=20,
    )
)
def test_any_numbers_and_words_survive_the_trip(tmp_path_factory, rows):
    missing = {"", "?", "na", "n/a", "nan", "null", "<na>"}
    rows = [(x, f"word {y}") for x, y in rows if y.lower() not in missing]
    if len({y for _, y in rows}) < 2:
        return
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("x", "y"), *rows])
    dataset = load_csv(path)
    np.testing.assert_array_equal(dataset.x[:, 0], np.float32([x for x, _ in rows]))
    assert [dataset.class_names[label] for label in dataset.y] == [y for _, y in rows]


@pytest.mark.parametrize("cell", ["", " ", "?", "NA", "nan", "NaN", "null", "N/A"])
@pytest.mark.parametrize("column", [0, 1])
def test_missing_values_are_named(write, cell, column):
    row = ["3", "yes"]
    row[column] = cell
    path = write(f"age,sick\n1,yes\n2,no\n{','.join(row)}\n4,no\n")
    name = ["age", "sick"][column]
    with pytest.raises(JaxNodesError, match=f"line 4, column '{name}': expected a value"):
        load_csv(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,x\n1O,y\n", r"line 3, column 'a': expected a number as in other lines, got '1O'"),
        ("year,2019\n1,0.5\n2,0.7\n", "line 1, column 'column1': .*header=True"),
        ("a,b\n1_000,0.5\n2,0.5\n", "got '1_000'"),
        ("a,b\n1," + "9" * 5000 + "\n2,1\n", "line 2, column 'b': expected a finite number"),
        ("a,b\ninf,0.5\n2,0.5\n", r"line 2, column 'a': expected a finite number, got 'inf'"),
        ("a,b\n1e39,0.5\n2,0.5\n", "within float32's range"),
        ("a,b\n1,0.5\n2,0.5,7\n", "line 3: expected 2 cells as in line 1, got 3"),
        ("a,b\n1,0.5\n2\n", "line 3: expected 2 cells as in line 1, got 1"),
        ("color,b\nred,0.5\nblue,0.7\n", "column 'color', got words such as 'red'.*onehot"),
        ("", "got an empty file"),
        ("\n\n", "got an empty file"),
        ("a,b\n", "rows below the header"),
        ("a;b\n1;2.5\n", "the one column 'a;b'; is the delimiter right"),
        ("a,a,b\n1,2,0.5\n", "'a' twice"),
        (",a,b\n0,2,0.5\n", "none for number 1 .*index=False"),
        ('a,b\n"1,0.5\n', "broken at line 2"),
        ('a,b\n"1"x,0.5\n', "broken at line 2"),
        (b"a,b\n\xff\xfe,1\n", "CSV file in UTF-8"),
        ("a,b\n1,yes\n2,yes\n", "at least two classes in column 'b', got only 'yes'"),
        ("a,b\n1,1\n2,yes\n", "line 3, column 'b': expected a number as in other lines"),
    ],
)
def test_malformed_files(write, text, message):
    with pytest.raises(JaxNodesError, match=message) as caught:
        load_csv(write(text))
    assert str(caught.value).startswith("load_csv table.csv: ")
    assert "\n" not in str(caught.value)


def test_line_numbers_count_quoted_line_ends(write):
    with pytest.raises(JaxNodesError, match="line 5, column 'b'"):
        load_csv(write('a,b\n"1\n",yes\n\n2,?\n'))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "c"}, "target among a, b, got 'c'"),
        ({"target": 2}, "got 2"),
        ({"delimiter": ",,"}, "one character"),
        ({"header": "yes"}, "header="),
        ({"categorical": "one-hot"}, "categorical='error' or 'onehot', got 'one-hot'"),
        ({"task": "rank"}, "task="),
        ({"task": "regression", "target": "b"}, "finite number, got 'x'"),
    ],
)
def test_bad_options(write, options, message):
    with pytest.raises(JaxNodesError, match=message):
        load_csv(write("a,b\n1,x\n2,y\n"), **options)


def test_missing_file(tmp_path):
    with pytest.raises(JaxNodesError, match="No such file"):
        load_csv(tmp_path / "nothing.csv")
    with pytest.raises(JaxNodesError, match="a file that can be read"):
        load_csv(tmp_path)


def test_row_names_are_not_one_hot(write):
    lines = "".join(f"person {i},{i}.5\n" for i in range(1001))
    with pytest.raises(JaxNodesError, match="at most 1000 different words in column 'name'"):
        load_csv(write("name,y\n" + lines), categorical="onehot")


def test_one_hot_names_that_collide(write):
    path = write("a,a=x,y\nx,1,0.5\nz,2,0.5\n")
    with pytest.raises(JaxNodesError, match="expected different names"):
        load_csv(path, categorical="onehot")


def test_classes_may_mix_words_and_numbers_on_demand(write):
    path = write("a,b\n1,1\n2,other\n3,1\n")
    assert load_csv(path, task="classification").class_names == ("1", "other")
