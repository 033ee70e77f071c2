"""Tables in CSV files and arrays in .npy files: their values, and a sentence for everything that is no such table."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodles.data.arrays import open_npy
from oodles.data.names import in_order
from oodles.data.raw import RawImages
from oodles.data.tables import MISSING, class_ids, read_cells, read_table
from tests.contract.steps import is_one_sentence


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, **settings: object) -> str:
    with pytest.raises(ValueError) as error:
        read_table(path, **settings)  # type: ignore[arg-type]  # as they are in the suites of users
    assert is_one_sentence(str(error.value)), error.value
    return str(error.value).replace(str(path), "PATH")


def labels_of(raw: RawImages) -> list[str] | None:
    return None if raw.labels is None else [raw.classes[label] for label in raw.labels]


def test_every_column_but_the_label_is_a_feature(tmp_path: Path) -> None:
    raw = read_table(written(tmp_path, "length,label,width\n1,b,2.5\n-3e2, a,.1\n 4 ,b ,5\n"))
    assert raw.images.dtype == np.float32
    assert np.array_equal(raw.images, np.array([[1, 2.5], [-300, 0.1], [4, 5]], dtype=np.float32))
    assert raw.columns == ("length", "width")
    assert raw.classes == ("a", "b")
    assert raw.labels is not None and raw.labels.dtype == np.int64 and raw.labels.tolist() == [1, 0, 1]
    assert raw.names == ("2", "3", "4")
    assert raw.place == str(tmp_path / "table.csv")


def test_some_columns_in_an_order_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path, "name,a,kind,b\nTom,1,x,2\nAnn,3,y,4\n")
    raw = read_table(path, "kind", ["b", "a"])
    assert (raw.images.tolist(), raw.columns) == ([[2, 1], [4, 3]], ("b", "a"))
    assert (labels_of(raw), raw.take(np.array([1])).columns) == (["x", "y"], ("b", "a"))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("a,b,label\n1,2,x\n3,4,y", "no-end.csv"),
        ("a,b,label\r\n1,2,x\r\n3,4,y\r\n", "crlf.csv"),
        ("a,b,label\r1,2,x\r3,4,y\r", "cr.csv"),
        ("\ufeffa,b,label\n1,2,x\n3,4,y\n", "mark.csv"),
        ("a;b;label\n1;2;x\n3;4;y\n", "semicolons.csv"),
        ("a\tb\tlabel\n1\t2\tx\n3\t4\ty\n", "tabs.csv"),
        ("a\tb\tlabel\n1\t2\tx\n3\t4\ty\n", "tabs.tsv"),
        ("\ufeffa;b;label\n1;2;x\n3;4;y\n", "both.csv"),
        ('"a","b","label"\n"1","2","x"\n"3",4,y\n', "quoted.csv"),
        ("\n \na,b,label\n\n1,2,x\n   \n3,4,y\n\n", "blank.csv"),
        (" a , b,label \n1,2,x\n3,4,y\n", "spaces.csv"),
    ],
)
def test_ways_to_write_the_same_table(content: str, name: str, tmp_path: Path) -> None:
    raw = read_table(written(tmp_path, content, name))
    assert (raw.images.tolist(), raw.columns, labels_of(raw)) == ([[1, 2], [3, 4]], ("a", "b"), ["x", "y"])


def test_rows_are_named_by_the_lines_where_they_begin(tmp_path: Path) -> None:
    raw = read_table(written(tmp_path, 'a,label\n\n1,"two\nlines"\n2,one\n'))
    assert (raw.names, labels_of(raw)) == (("3", "5"), ["two\nlines", "one"])


def test_commas_are_text_in_files_that_tabs_separate(tmp_path: Path) -> None:
    raw = read_table(written(tmp_path, "length, in mm\tlabel\n1\tx, y\n", "table.tsv"))
    assert (raw.columns, raw.classes) == (("length, in mm",), ("x, y",))


def test_labels_that_are_whole_numbers_are_in_their_order(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "a,label\n1,10\n2,9\n3,9\n")).classes == ("9", "10")
    assert read_table(written(tmp_path, "a,label\n1,10\n2,9\n3,x\n")).classes == ("10", "9", "x")
    assert in_order(["3" * 5000, "20"]) == ("20", "3" * 5000)


def test_both_unicode_forms_are_one_name(tmp_path: Path) -> None:
    path = written(tmp_path, "cafe\u0301,label\n1,e\u0301\n2,\u00e9\n")
    raw = read_table(path, columns=["caf\u00e9"])
    assert (raw.columns, raw.classes) == (("caf\u00e9",), ("\u00e9",))


@pytest.mark.parametrize("content", ["a,b\n1,2\n3,4\n", "a,b,label\n1,2,\n3,4,?\n"])
def test_unknown_rows_have_no_labels(content: str, tmp_path: Path) -> None:
    raw = read_table(written(tmp_path, content))
    assert (raw.images.tolist(), raw.labels, raw.classes) == ([[1, 2], [3, 4]], None, ())


def test_columns_may_be_named_by_their_numbers(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "0,1,label\n5,6,x\n")).images.tolist() == [[5, 6]]
    assert read_table(written(tmp_path, "1,2\n5,6\n")).images.tolist() == [[5, 6]]
    assert read_table(written(tmp_path, "400.5,401.5,label\n5,6,x\n")).columns == ("400.5", "401.5")
    assert read_table(written(tmp_path, "400.5,401.5\n5,6\n"), columns=["401.5"]).images.tolist() == [[6]]


def test_the_largest_numbers_stay_what_they_are(tmp_path: Path) -> None:
    largest = np.finfo(np.float32).max
    assert read_table(written(tmp_path, f"a\n{largest!s}\n-{largest!s}\n1e-60\n")).images.tolist() == [
        [largest],
        [-largest],
        [0],
    ]


TEXT = "PATH holds text where numbers are meant in "
NO_TEXT = ": write decimals with a point, leave such columns out with columns = […], or encode them as numbers."
FILL = ": fill them in, or leave these rows or columns out."
QUOTES = ": put the text in quotes, and double those in it."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "PATH must begin with a line that names its columns, but is empty."),
        (" \n\n", "PATH must begin with a line that names its columns, but is empty."),
        ("a,label\n", "PATH must hold rows below its header, but has none."),
        ("label\nx\n", "PATH must have columns of numbers, but has none besides 'label'."),
        (
            "a,b,label\n1,,x\n?,2,x\nna,NaN,x\n",
            "PATH has missing values in column 'b' (2, the first in line 2: ''), column 'a' (2, the first in line 3: "
            "'?')" + FILL,
        ),
        (
            "a,b,label\n1,red,x\n2,blue,x\n",
            TEXT + "column 'b' (2, the first in line 2: 'red')" + NO_TEXT,
        ),
        (
            "a;label\n1,5;x\n",
            TEXT + "column 'a' (1, the first in line 2: '1,5')" + NO_TEXT,
        ),
        (
            "a\n1_000\n",
            TEXT + "column 'a' (1, the first in line 2: '1_000')" + NO_TEXT,
        ),
        (
            "a,b\n,red\n",
            TEXT + "column 'b' (1, the first in line 2: 'red')" + NO_TEXT,
        ),
        (
            "a,b\n1,inf\n-Infinity,2\n",
            "PATH holds infinity in column 'b' (1, the first in line 2: 'inf'), column 'a' (1, the first in line 3: "
            "'-Infinity'): leave these rows out.",
        ),
        (
            "a\n3.5e38\n-1e999\n",
            "PATH holds numbers beyond the range of float32, ±3.4e38, in column 'a' (2, the first in line 2: "
            "'3.5e38'): scale them.",
        ),
        (
            "a,b\n1,2\n1,2,3\n",
            "line 3 of PATH must have 2 cells, as the header has, got 3: put text in quotes if it holds the sign that "
            "separates cells.",
        ),
        (
            "a,b\n1\n",
            "line 2 of PATH must have 2 cells, as the header has, got 1: put text in quotes if it holds the sign that "
            "separates cells.",
        ),
        ("a,b,a\n1,2,3\n", "PATH must name every column once, but names 'a' more than once."),
        (
            ",a,label\n0,2,x\n",
            "PATH must name every column, but the name of column 1 is empty: name it, or leave it out "
            "with columns = […].",
        ),
        (
            "5.1,3.5,setosa\n4.9,3.0,setosa\n",
            "PATH must begin with a line that names its columns, but its first line holds the number 5.1: put names "
            "above it.",
        ),
        ("a,Label\n1,x\n", "PATH has no column 'label' for labels: did you mean 'Label'?"),
        (
            "a,label\n1,x\n2,\n3,?\n",
            "PATH must have a label in every row or in none, but 2 of 3 have none, the first in line 3.",
        ),
        (
            'a,label\n1,x\n2,"y\n3,z\n',
            "line 3 of PATH cannot be read as CSV, unexpected end of data" + QUOTES,
        ),
        (
            'a,label\n1,"x"y\n',
            "line 2 of PATH cannot be read as CSV, ',' expected after '\"'" + QUOTES,
        ),
        (
            b"a,label\n1," + b"caf\xe9\n",
            "PATH must be text in UTF-8, but byte 0xe9 in line 2 is none: save it as UTF-8.",
        ),
        (
            "a,label\n".encode("utf-16"),
            "PATH must be text in UTF-8, but byte 0xff in line 1 is none: save it as UTF-8.",
        ),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(content: str | bytes, sentence: str, tmp_path: Path) -> None:
    assert refused(written(tmp_path, content)) == sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"columns": ["lenght"]}, "PATH has no column 'lenght': did you mean 'length'?"),
        ({"columns": ["q"]}, "PATH has no column 'q': it has 'length', 'width', 'kind'."),
        (
            {"label": "kind", "columns": ["length", "kind"]},
            "columns of PATH must be other columns than the label's, 'kind', each of them once, got 'length', 'kind'.",
        ),
        (
            {"columns": ["length", "length"]},
            "columns of PATH must be other columns than the label's, 'label', each of them once, got 'length', "
            "'length'.",
        ),
        ({"label": "knd", "columns": ["length"]}, "PATH has no column 'knd' for labels: did you mean 'kind'?"),
    ],
)
def test_settings_that_fit_no_column_are_refused(settings: dict[str, object], sentence: str, tmp_path: Path) -> None:
    assert refused(written(tmp_path, "length,width,kind\n1,2,3\n"), **settings) == sentence


def test_a_column_that_is_no_feature_may_be_nearly_called_label_if_features_are_named(tmp_path: Path) -> None:
    raw = read_table(written(tmp_path, "labels,b\n1,2\n"), columns=["labels"])
    assert (raw.images.tolist(), raw.labels) == ([[1]], None)


def test_many_columns_of_text_are_named_at_once(tmp_path: Path) -> None:
    header = ",".join(f"c{number}" for number in range(12))
    words = ",".join("x" * 12)
    assert "'c9' (1, the first in line 2: 'x') and 2 more: " in refused(written(tmp_path, f"{header}\n{words}\n"))


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
CHARACTERS = st.characters(exclude_categories=["Cs"])  # halves of characters cannot be in a file
WORDS = st.text(CHARACTERS, min_size=1).filter(lambda word: word.strip().casefold() not in MISSING)


@given(rows=st.lists(st.tuples(FLOATS, FLOATS, WORDS), min_size=1, max_size=6), separator=st.sampled_from(",;\t"))
def test_any_numbers_and_labels_come_back(
    rows: list[tuple[float, float, str]], separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows([("a", "b", "label"), *rows])
    raw = read_table(written(tmp_path_factory.mktemp("any"), out.getvalue()))
    assert np.array_equal(raw.images, np.array([row[:2] for row in rows], dtype=np.float32))
    assert labels_of(raw) == labels_of(named([row[2] for row in rows]))


def named(labels: list[str]) -> RawImages:
    """The labels as they are told apart."""
    ids, classes = class_ids(labels, labels, "")
    return RawImages("", np.zeros((len(labels), 1)), ids, classes, ())


@given(content=st.text(CHARACTERS), ending=st.sampled_from([".csv", ".tsv"]))
def test_any_text_is_a_table_or_is_refused_in_one_line(
    content: str, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("any"), content, f"table{ending}")
    try:
        assert np.isfinite(read_table(path).images).all()
    except ValueError as error:
        assert str(error).isprintable() and str(error)[-1] in ".?"


@given(rows=st.lists(st.lists(st.text(CHARACTERS), min_size=2, max_size=2), max_size=5))
def test_any_cells_come_back(rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([("a", "b"), *rows])
    cells = [list(row) for _, row in read_cells(written(tmp_path_factory.mktemp("any"), out.getvalue()))]
    assert cells == [["a", "b"], *rows]


@pytest.mark.parametrize("values", [np.arange(24, dtype=np.uint16).reshape(2, 3, 4), np.array([[0.5], [1.5]])])
def test_npy_arrays_stay_in_their_file(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    opened = open_npy(tmp_path / "a.npy")
    assert isinstance(opened, np.memmap) and not opened.flags.writeable
    assert opened.dtype == values.dtype and np.array_equal(opened, values)


def saved(values: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(values))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "PATH cannot be read as an .npy array: "),
        (b"no array at all", "PATH cannot be read as an .npy array: "),
        (saved([1.0, 2.0])[:-1], "PATH cannot be read as an .npy array: mmap length is greater than file size."),
        (
            saved([1.0]) + saved([2.0]),
            "PATH cannot be read as an .npy array: it goes on for 136 bytes after the array that it announces.",
        ),
        (saved([{}]), "PATH cannot be read as an .npy array: "),
        (saved(["a"]), "PATH must hold rows of numbers, got <U1 of shape (1,)."),
        (saved(np.zeros((3, 0))), "PATH must hold rows of numbers, got float64 of shape (3, 0)."),
        (saved([1j]), "PATH must hold rows of numbers, got complex128 of shape (1,)."),
    ],
)
def test_damaged_npy_files_are_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = written(tmp_path, content, "a.npy")
    with pytest.raises(ValueError) as error:
        open_npy(path)
    message = str(error.value).replace(str(path), "PATH")
    assert is_one_sentence(message) and message.startswith(sentence)
