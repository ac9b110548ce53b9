"""CSV files: what is read, how it is encoded, and what is refused with which words."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import Column, Encoder, Table, read_csv, read_table, split, split_csv
from chainrule.errors import DataError, UnsupportedError

PETS = """\
kg, fur,age,is
4.5,long,3,cat
30,short,5,dog
3,long,1,cat
25.5,"wiry, grey",8,dog
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="pets.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def table_of(**columns):
    rows = len(next(iter(columns.values())))
    return Table("t.csv", columns, list(range(2, rows + 2)))


def test_numbers_stay_and_texts_become_one_hot(write):
    data = read_csv(write(PETS), "is")
    assert data.features == ("kg", "fur=long", "fur=short", "fur=wiry, grey", "age")
    assert (data.classes, data.name) == (("cat", "dog"), "pets")
    assert data.targets.tolist() == [0, 1, 0, 1]
    assert data.inputs.tolist() == [
        [4.5, 1, 0, 0, 3],
        [30, 0, 1, 0, 5],
        [3, 1, 0, 0, 1],
        [25.5, 0, 0, 1, 8],
    ]
    assert data.inputs.dtype == np.float32


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_byte_order_mark_and_blank_lines(write, end):
    text = "\ufeffa,b\n\n1,x\n   \n2,y\n\n".replace("\n", end)
    table = read_table(write(text))
    assert table.cells == {"a": ["1", "2"], "b": ["x", "y"]}
    assert table.lines == [3, 5]


def test_a_row_is_named_by_the_line_it_starts_on(write):
    table = read_table(write('a,b\n"two\nlines",1\nx,2\n'))
    assert table.lines == [2, 4]


@pytest.mark.parametrize(
    "values, task, expected",
    [
        (["b", "a", "b"], None, ("a", "b")),
        (["0", "1", "0", "1"], None, ("0", "1")),
        (["10", "9", "10.0", "9", "09"], None, ("9", "10")),
        (["0", "1", "2"], None, None),  # as many values as rows
        ([str(i) for i in range(21)] * 9, None, None),  # more than 20 values
        ([str(i) for i in range(20)] * 2, None, tuple(map(str, range(20)))),
        (["0.5", "1", "0.5", "1"], None, None),
        (["0", "1", "2"], "classification", ("0", "1", "2")),
        (["0", "1", "0", "1"], "regression", None),
    ],
)
def test_the_task_follows_from_the_target(values, task, expected):
    table = table_of(x=["1"] * len(values), y=values)
    encoder = Encoder.fit(table, "y", task=task)
    assert encoder.target.categories == expected
    assert encoder.task == ("classification" if expected else "regression")
    targets = encoder.targets(table)
    if expected:
        assert targets.dtype == np.int64
        plain = [value.removeprefix("0").removesuffix(".0") or "0" for value in values]
        assert [expected[k] for k in targets] == plain
    else:
        assert targets.dtype == np.float32
        assert np.array_equal(targets, np.array(values, np.float32))


def test_standardise_learns_from_the_given_rows_only():
    table = table_of(x=["1", "3", "1000"], k=["7", "7", "9"], c=["a", "b", "a"], y=["2", "4", "60"])
    encoder = Encoder.fit(table, "y").standardise(table, [0, 1])
    assert encoder.columns == (Column("x", None, 2.0, 1.0), Column("k", None, 7.0, 1.0),
                               Column("c", ("a", "b")))  # fmt: skip
    assert encoder.transform(table).tolist() == [[-1, 0, 1, 0], [1, 0, 0, 1], [998, 2, 1, 0]]
    assert encoder.targets(table).tolist() == [-1, 1, 57]
    assert encoder.unscale([-1, 1, 57]).tolist() == [2, 4, 60]


def test_a_constant_column_becomes_zero_in_spite_of_rounding():
    table = table_of(x=["0.1"] * 1000, y=["a", "b"] * 500)
    encoder = Encoder.fit(table, "y").standardise(table, range(1000))
    assert not encoder.transform(table).any()


def test_a_later_file_needs_the_trained_columns_only(write):
    table = read_table(write(PETS))
    encoder = Encoder.fit(table, "is").standardise(table, range(4))
    shuffled = read_table(write("age,other,fur,kg\n3,,long,4.5\n", "new.csv"))
    assert np.array_equal(encoder.transform(shuffled), encoder.transform(table)[:1])


def test_split_csv_scales_by_the_training_rows(write):
    rows = [f"{i * i % 97},{'uvw'[i % 3]},{'ab'[i % 2]}" for i in range(100)]
    path = write("x,c,y\n" + "\n".join(rows))
    encoder, parts = split_csv(path, "y", seed=4)
    train = parts[0].inputs[:, 0].astype(np.float64)
    assert [len(part) for part in parts] == [60, 20, 20]
    assert abs(train.mean()) < 1e-6 and abs(train.std() - 1) < 1e-6
    table = read_table(path)
    expected = encoder.transform(table)[split(encoder.targets(table), seed=4).test]
    assert np.array_equal(parts[2].inputs, expected)


LONG = "".join(f"{i},{i % 2}\n" for i in range(20))


@pytest.mark.parametrize(
    "text, target, message",
    [
        ("", "y", "the file is empty; it needs a header line and rows"),
        ("\n\n", "y", "the file is empty"),
        ("x,y\n", "y", "a header and no rows"),
        ("x,y\n1,2\n3\n", "y", "line 3: 1 values, but the header has 2 columns"),
        ("x,y\n1,2\n\n3,4,5\n", "y", "line 4: 3 values, but the header has 2 columns"),
        ("x,y,x\n1,2,3\n", "y", "line 1: column names must differ; more than once: 'x'"),
        ("x,,y\n1,2,3\n", "y", "line 1: column 2 has no name"),
        ("5.1,3\n4.9,2\n", "y", "line 1: a header of numbers only, '5.1', '3'; name the columns"),
        ("x;y\n1;2\n", "y", "line 1: values are separated by ';'; use commas"),
        ("x\ty\n1\t2\n", "y", r"values are separated by '\\t'; use commas"),
        (b"x,y\n1,2\ncaf\xe9,3\n", "y", r"line 3: not UTF-8 text \(byte 0xe9\)"),
        ('x,y\n1,"2\n3,4\n', "y", "not CSV: unexpected end of data"),
        ("x,y\n" + "1" * 200_000 + ",2\n", "y", "line 2: not CSV: field larger than"),
        ("Species,y\n1,2\n", "speces", "no column 'speces'; nearest: 'Species'; columns: 'Sp"),
        ("x,y\n1,2\n", "weight", "no column 'weight'; columns: 'x', 'y'"),
        ("y\na\nb\n", "y", "no column besides the target 'y'"),
        *(
            (f"x,y\n1,a\n{gap},b\n", "y", "line 3, column 'x': '.*' is a missing value; fill it in")
            for gap in ("", " ", "NA", "N/A", "NaN", "-nan", "null", "?")
        ),
        ("x,c,y\n1,a,a\n2,,b\n", "y", "line 3, column 'c': '' is a missing value"),
        ("x,y\n1,a\n2,\n", "y", "line 3, column 'y': '' is a missing value"),
        ("x,y\n1,a\n-inf,b\n", "y", "line 3, column 'x': '-inf' is infinite"),
        ("x,y\n1,a\n1e999,b\n", "y", "line 3, column 'x': '1e999' is infinite"),
        ("x,y\n" + LONG + "2O,1\n", "y",
         "line 22, column 'x': '2O' is not a number, but 20 of 21 values in the column are"),
        ("x,y\n" + LONG + "1_0,1\n", "y", "line 22, column 'x': '1_0' is not a number, but"),
        ("x,y\n1e300,a\n2,b\n", "y", r"column 'x': scaled values hold 1e\+300, beyond the range"),
        ("x,y\n1,a\n2,a\n", "y", "column 'y': every row is 'a'; a target needs two or more"),
        ("x,y\n1,3\n2,3\n", "y", "column 'y': every row is '3'"),
        ("n,y\n" + "".join(f"name {i},{i % 2}\n" for i in range(60)), "y",
         "column 'n': 60 different values in 60 rows, such as 'name 0', 'name 1', 'name 10', look"),
    ],
)  # fmt: skip
def test_read_csv_refuses(write, text, target, message):
    with pytest.raises(DataError, match=r"pets\.csv.*" + message):
        read_csv(write(text), target)


@pytest.mark.parametrize(
    "task, message",
    [
        ("regression", "line 2, column 'is': 'cat' is not a number"),
        ("ranking", "task must be 'classification', 'regression' or None, got 'ranking'"),
    ],
)
def test_a_task_that_does_not_suit(write, task, message):
    with pytest.raises(DataError, match=message):
        read_csv(write(PETS), "is", task=task)
    with pytest.raises(DataError, match="line 2, column 'kg': '4.5' is no class"):
        read_csv(write(PETS), "kg", task="classification")


def test_a_parquet_file_is_the_same_table_as_the_csv(write):
    pa = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "whole": pa.array([3, -1, 2**53 + 1, 7], pa.int64()),
        "real": pa.array([0.1, 1e-300, -2.5, 3.0], pa.float64()),
        "single": pa.array([0.1, 0.5, -2.5, 3.0], pa.float32()),
        "tiny": pa.array([1, 0, 255, 7], pa.uint8()),
        "flag": pa.array([True, False, True, True]),
        "texts": pa.array([" long", "wiry, grey", "long", "é"]),
        "kinds": pa.array(["a", "b", "a", "b"]).dictionary_encode(),
        "large": pa.array(["x", "y", "x", "y"], pa.large_string()),
        "is": pa.array(["cat", "dog", "cat", "dog"]),
    }
    path = write("", "pets.parquet")
    pq.write_table(pa.table(columns), path, row_group_size=3)
    lists = [column.to_pylist() for column in columns.values()]
    rows = [",".join(f'"{value}"' for value in row) for row in zip(*lists, strict=True)]
    text = write("\n".join([",".join(columns), *rows]))
    one, two = read_table(path), read_table(text)
    assert one.cells == two.cells and list(one.cells) == list(columns)
    assert (one.lines, two.lines) == ([1, 2, 3, 4], [2, 3, 4, 5])
    assert read_csv(path, "is").fingerprint() == read_csv(text, "is").fingerprint()
    given = [split_csv(each, "is", (0.5, 0.25, 0.25), seed=1) for each in (path, text)]
    assert given[0][0] == given[1][0]
    for part, same in zip(given[0][1], given[1][1], strict=True):
        assert part.fingerprint() == same.fingerprint()


def test_csv_needs_no_pyarrow_and_parquet_says_so(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(read_table(write(PETS))) == 4
    with pytest.raises(UnsupportedError, match=r"pyarrow, .* pip install 'chainrule\[parquet\]'"):
        read_table(write("", "a.parquet"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read: No such file"):
        read_table(tmp_path / "none.csv")


def test_columns_can_be_ignored(write):
    assert read_csv(write(PETS), "is", ignore=["fur", "age"]).features == ("kg",)
    with pytest.raises(DataError, match="no column 'furr'; nearest: 'fur'"):
        read_csv(write(PETS), "is", ignore=["furr"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("kg,age\n1,2\n", r"new\.csv: no column 'fur'; columns: 'kg', 'age'"),
        ("KG,fur,years\n1,2,3\n", r"new\.csv: no column 'kg', 'age'; nearest: 'KG'; columns: 'KG'"),
        ("kg,fur,age\n1,long,2\n1,bald,2\n",
         "line 3, column 'fur': 'bald' is not one of the known: 'long', 'short', 'wiry, grey'"),
        ("kg,fur,age\nheavy,long,2\n", "line 2, column 'kg': 'heavy' is not a number"),
        ("kg,fur,age\n1,long,NA\n", "line 2, column 'age': 'NA' is a missing value"),
        ("kg,fur,age\n1,long,inf\n", "line 2, column 'age': 'inf' is infinite"),
    ],
)  # fmt: skip
def test_transform_refuses(write, text, message):
    encoder = Encoder.fit(read_table(write(PETS)), "is")
    with pytest.raises(DataError, match=message):
        encoder.transform(read_table(write(text, "new.csv")))


def test_targets_refuse_an_unknown_class_and_unscale_refuses_classes(write):
    encoder = Encoder.fit(read_table(write(PETS)), "is")
    with pytest.raises(DataError, match="line 2, column 'is': 'cow' is not one of the known"):
        encoder.targets(table_of(**{"is": ["cow"]}))
    with pytest.raises(DataError, match="no column 'is'"):
        encoder.targets(table_of(kg=["1"]))
    with pytest.raises(DataError, match="'is' is classes 'cat', 'dog', not a number"):
        encoder.unscale([0.5])


def test_numbers_too_far_apart_to_scale():
    table = table_of(x=["-1e308", "1e308"], y=["a", "b"])
    with pytest.raises(DataError, match=r"column 'x': numbers from -1e\+308 to 1e\+308"):
        Encoder.fit(table, "y").standardise(table, [0, 1])
    with pytest.raises(DataError, match="no rows to take a mean of"):
        Encoder.fit(table, "y").standardise(table, [])


FINITE = st.integers(-(10**9), 10**9).map(lambda n: str(n / 1000))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda s: "t" + s)


@given(st.lists(st.tuples(FINITE, TEXT, FINITE), min_size=2, max_size=30))
def test_an_encoder_survives_json(rows):
    numbers, texts, targets = (list(column) for column in zip(*rows, strict=True))
    table = table_of(n=numbers, c=texts, y=targets)
    encoder = Encoder.fit(table, "y", task="regression").standardise(table, range(len(rows)))
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    assert np.array_equal(again.transform(table), encoder.transform(table))


def test_a_classifying_encoder_survives_json(write):
    encoder = Encoder.fit(read_table(write(PETS)), "is")
    assert Encoder.from_json(encoder.to_json()) == encoder


X = {"name": "x", "categories": None, "mean": 0.0, "std": 1.0}
Y = {"name": "y", "categories": ["a", "b"], "mean": 0.0, "std": 1.0}
GOOD = {"format": 1, "target": Y, "columns": [X]}


def test_the_good_recipe_of_the_next_test_is_good():
    assert Encoder.from_json(json.dumps(GOOD)).classes == ("a", "b")


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "expected an object of format, target and columns"),
        ({**GOOD, "more": 1}, "expected an object"),
        ({**GOOD, "format": 2}, "format 2, this version reads 1"),
        ({**GOOD, "columns": []}, "columns must be a list of at least one"),
        ({**GOOD, "columns": {"x": X}}, "columns must be a list"),
        ({**GOOD, "columns": [X, X]}, "two columns have the same name"),
        ({**GOOD, "columns": [{**X, "name": "y"}]}, "two columns have the same name"),
        ({**GOOD, "columns": ["x"]}, r"columns\[0\] must be an object of name"),
        ({**GOOD, "columns": [{**X, "name": 3}]}, r"columns\[0\] has no name"),
        ({**GOOD, "columns": [{**X, "mean": float("nan")}]}, "the mean .* finite number, got nan"),
        ({**GOOD, "columns": [{**X, "mean": "1"}]}, "the mean .* finite number, got '1'"),
        ({**GOOD, "columns": [{**X, "mean": 10**400}]}, "out of range"),
        ({**GOOD, "columns": [{**X, "std": True}]}, "the std .* finite number, got True"),
        ({**GOOD, "columns": [{**X, "std": 0}]}, "the std .* must be above 0, got 0"),
        ({**GOOD, "columns": [{**X, "categories": "ab"}]}, "must be distinct texts, or null"),
        ({**GOOD, "columns": [{**X, "categories": ["a", 1]}]}, "must be distinct texts"),
        ({**GOOD, "columns": [{**X, "categories": ["a", "a"]}]}, "must be distinct texts"),
        ({**GOOD, "columns": [{**X, "categories": [[]]}]}, "must be distinct texts"),
        ({**GOOD, "target": {**Y, "categories": ["a"]}}, "fewer than two classes"),
    ],
)
def test_from_json_refuses(content, message):
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(DataError, match="encoder: .*" + message):
        Encoder.from_json(text)
