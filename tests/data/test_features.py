"""Suites of tables, texts and arrays of many channels: what files say, and one sentence for every mistake."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodles.data import holds_vectors, load_suite
from oodles.data.arrays import are_vectors
from oodles.data.features import Features
from oodles.data.suite_check import check_suite

TABLE = "age,kind,weight\n" + "".join(f"{30 + row},{'ab'[row % 2]},{row / 4}\n" for row in range(40))
OTHERS = "weight,more,age\n" + "".join(f"{-row},x,{row}\n" for row in range(10))
TOML = 'train = { features = "train.csv", label = "kind" }\ntest = "test.csv"\n'


def tables(folder: Path, more: str = "", **files: str) -> Path:
    for name, text in {"train": TABLE, "test": TABLE.replace("3", "4"), "others": OTHERS, **files}.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "mine.toml").write_text(TOML + more)
    return folder / "mine.toml"


def test_a_table_becomes_a_suite_by_its_columns(tmp_path: Path) -> None:
    path = tables(tmp_path, 'outliers = "others.csv"\n[far]\nothers = "others.csv"\n')
    assert holds_vectors(path)
    suite = load_suite(path)
    assert (suite.classes, suite.input_shape, suite.vectors) == (("a", "b"), (2,), True)
    assert suite.features == Features(("age", "weight"), label="kind")
    rows = np.concatenate([suite.train.images[:], suite.validation.images[:]])
    assert sorted(rows.tolist()) == [[30 + row, row / 4] for row in range(40)]
    assert suite.far["others"].images.tolist() == [[row, -row] for row in range(10)]  # type: ignore[union-attr]
    assert suite.mean == pytest.approx(suite.train.images[:].mean(0).tolist())
    assert suite.features.read(tmp_path / "others.csv").images[2].tolist() == [2, -2]


@pytest.mark.parametrize(
    ("features", "record"),
    [
        (Features(("age", "weight"), label="kind"), {"columns": ["age", "weight"], "label": "kind"}),
        (Features(encoder="minilm", text="query"), {"encoder": "minilm", "text": "query", "label": "label"}),
        (Features(), {"label": "label"}),
    ],
)
def test_a_record_says_how_rows_are_read(features: Features, record: dict[str, Any]) -> None:
    assert features.as_dict() == record and Features.from_dict(record) == features
    assert not Features.from_dict({"encoder": "my:own"}).trusted


def test_several_tables_are_one_set_of_outliers(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text(OTHERS)
    path = tables(tmp_path, 'outliers = ["others.csv", { features = "more.csv", share = 0.5 }]')
    suite = load_suite(path)
    assert suite.outliers is not None and suite.outliers.images.shape == (20, 2)
    assert suite.outlier_shares == ((10, 0.5), (10, 0.5))


@pytest.mark.parametrize(
    ("files", "more", "sentence"),
    [
        ({"test": "age,kind\n1,a\n2,b\n"}, "", r"test\.csv has no column 'weight': it has"),
        ({}, 'outliers = { features = "others.csv", columns = ["age", "age2"] }', "has no column 'age2'"),
        (
            {},
            'outliers = { features = "others.csv", columns = ["weight", "age"] }',
            "must have the columns of train, age, weight, got weight, age: say columns of train alone",
        ),
        ({"train": "age,kind\n1,\n2,\n"}, "", r"train\.csv must tell classes: give labels"),
        ({"train": TABLE.replace("30,", ",", 1)}, "", r"train\.csv has missing values in column 'age' \(1, the first"),
        ({}, "augment = { flip = true }", r"augment is said of images, and .*train\.csv holds feature vectors"),
        ({}, "input_shape = [3, 8, 8]", r"input_shape is said of images"),
        ({}, 'outliers = "wide.npz"', r"wide\.npz must hold features of 2 numbers, as train does, got vectors of 3"),
        ({}, 'outliers = "images.npz"', r"images\.npz must hold features of 2 numbers, as train does, got images"),
        ({}, 'outliers = { features = "wide.npz", columns = "a" }', r"columns is said of tables, \.csv and \.tsv, got"),
        ({}, 'outliers = "texts.txt"', r"texts\.txt holds texts, which become numbers by an encoder: say encoder ="),
        ({}, 'outliers = ["others.csv", "wide.npz"]', r"must hold vectors of one width to be one set"),
    ],
)
def test_mistakes_get_a_sentence(files: dict[str, str], more: str, sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", features=np.ones((3, 3)))
    np.savez(tmp_path / "images.npz", images=np.ones((3, 8, 8)))
    (tmp_path / "texts.txt").write_text("one\n")
    with pytest.raises(ValueError, match=sentence):
        load_suite(tables(tmp_path, more, **files))


def test_images_and_vectors_are_not_mixed(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((20, 8, 8))
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(20) % 2)
    np.savez(tmp_path / "test.npz", features=np.ones((20, 4)), labels=np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"test\.npz must hold images, as train does, got vectors of 4"):
        load_suite(tmp_path)


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "lengths.py").write_text(
        "import numpy as np\ncalls = []\n"
        "def encode(texts):\n    calls.append(len(texts))\n"
        "    return np.array([[len(text), text.count(' '), text.count('e')] for text in texts], float)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lengths", raising=False)
    return tmp_path


def texts(folder: Path, more: str = "") -> Path:
    pairs = {
        part: [[f"{part} {'please ' * (row % 2)}number {row}", ("wish", "order")[row % 2]] for row in range(count)]
        for part, count in (("train", 40), ("test", 20))
    }
    (folder / "all.json").write_text(json.dumps({**pairs, "strange": [["!" * row, "oos"] for row in range(1, 9)]}))
    (folder / "talk.toml").write_text(
        'encoder = "lengths:encode"\ntrain = { texts = "all.json", key = "train" }\n'
        'test = { texts = "all.json", key = "test" }\n'
        f'[far]\nstrange = {{ texts = "all.json", key = "strange" }}\n{more}'
    )
    return folder / "talk.toml"


def test_texts_become_vectors_once(encoder: Path) -> None:
    path = texts(encoder)
    assert holds_vectors(path)
    suite = load_suite(path)
    assert suite.classes == ("order", "wish") and suite.input_shape == (3,)
    assert suite.test.names[:2] == ("test number 0", "test please number 1")
    assert suite.test.images[1].tolist() == [20, 3, 4] and suite.far["strange"].images[3].tolist() == [4, 0, 0]
    calls = sys.modules["lengths"].calls
    assert sorted(calls) == [8, 20, 40] and len(list((encoder / "talk.cache").glob("*.npy"))) == 3
    again = load_suite(path)
    assert len(calls) == 3 and again.train.fingerprint() == suite.train.fingerprint()
    assert suite.features is not None
    assert suite.features.of_texts(["one more"]).images.tolist() == [[8, 1, 2]]  # type: ignore[union-attr]
    (encoder / "new.txt").write_text("a\nb c\n")
    assert suite.features.read(encoder / "new.txt").names == ("a", "b c")
    made = len(calls)
    assert suite.features.read(encoder / "new.txt").names == ("a", "b c") and len(calls) == made


def test_a_check_tells_of_columns_and_texts(encoder: Path) -> None:
    told = str(check_suite(load_suite(texts(encoder))))
    assert told.splitlines()[0] == "talk: 3 features" and "shortest  median  longest" in told
    (encoder / "twice.txt").write_text("Train number 2!\nsomething else\n")
    told = str(check_suite(load_suite(texts(encoder, 'twice = "twice.txt"\n'))))
    assert "1 texts differ from others by case, punctuation or blanks alone: train: train number 2 = far:twice" in told
    path = tables(
        encoder, train=TABLE.replace("weight\n", "weight,flag\n").replace("\n3", ",1\n3").replace(",1\n", "\n")
    )
    constant = "age,kind,same\n" + "".join(f"{row},{'ab'[row % 2]},7\n" for row in range(20))
    told = str(check_suite(load_suite(tables(encoder, train=constant, test=constant.replace("1", "5")))))
    assert path.is_file() and "train has the same number in every row of 1 features: same" in told
    assert "least  most" in " ".join(told.split()).replace("least most", "least  most")


def test_arrays_of_many_channels_and_16_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    deep = random.integers(0, 2**16, (20, 6, 9, 8), np.uint16)
    np.save(tmp_path / "train.npy", deep)
    np.save(tmp_path / "labels.npy", np.arange(20) % 2)
    np.savez(tmp_path / "test.npz", images=np.moveaxis(deep, 1, 3) // 2, labels=np.arange(20) % 2)
    (tmp_path / "deep.toml").write_text('train = { images = "train.npy", labels = "labels.npy" }\ntest = "test.npz"\n')
    suite = load_suite(tmp_path / "deep.toml")
    assert suite.input_shape == (6, 9, 8) and suite.train.images.dtype == np.float32
    everything = np.concatenate([suite.train.images[:], suite.validation.images[:]])
    assert np.sort(everything, axis=None) == pytest.approx(np.sort(deep / 65535, axis=None), abs=1e-6)
    assert suite.test.images[3] == pytest.approx(deep[3] // 2 / 65535, abs=1e-6)
    np.savez(tmp_path / "test.npz", images=np.zeros((20, 9, 8, 3), np.uint8), labels=np.arange(20) % 2)
    with pytest.raises(ValueError, match="images of 3 channels cannot become images of 6"):
        load_suite(tmp_path / "deep.toml")


def test_rows_of_tables_are_not_called_images(tmp_path: Path) -> None:
    one_class = TABLE.replace(",b,", ",a,")
    path = tables(tmp_path)
    path.write_text('classes = ["a", "b", "c"]\n' + path.read_text())
    with pytest.raises(ValueError, match=r"every class must have rows in .*train\.csv, but c has none: check names\.$"):
        load_suite(path)
    path = tables(tmp_path, test=one_class.replace("3", "4"))
    with pytest.warns(UserWarning, match=r"test\.csv has no rows of b, which train has\.$"):
        suite = load_suite(path)
    assert suite.kind == "features"
    with pytest.raises(ValueError, match=r"^train and test must hold different rows, but train with .*other rows\.$"):
        load_suite(tables(tmp_path, test=TABLE))
    apart = TABLE.replace(",a,", ",a,1").replace(",b,", ",b,1")
    path = tables(tmp_path, '[far]\nothers = "others.csv"\n', others=OTHERS + "0,x,0\n", test=apart)
    assert str(check_suite(path)).endswith("far:others holds 1 row more than once: 12 = 2\nNo row is in two sets.")


def test_whether_rows_are_vectors_is_told_before_they_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((4, 3)))
    np.save(tmp_path / "i.npy", np.zeros((4, 3, 3)))
    np.savez(tmp_path / "v.npz", features=np.zeros((4, 3)))
    np.savez(tmp_path / "i.npz", images=np.zeros((4, 3, 3)))
    (tmp_path / "broken.npy").write_bytes(b"x")
    found = {name: are_vectors(tmp_path / name) for name in ("v.npy", "i.npy", "v.npz", "i.npz", "broken.npy")}
    assert [name for name, vectors in found.items() if vectors] == ["v.npy", "v.npz"]
