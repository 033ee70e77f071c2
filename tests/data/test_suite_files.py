"""Suite files: what they say, where paths are looked up, which rows are drawn, and one sentence for every mistake."""

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodles import TrainingWarning
from oodles.data import SHIPPED, SUITES, Augment, ImageSet, Suite, decoded, load_suite, read_images
from oodles.data.building import _order
from oodles.data.description import read_description, sources
from oodles.data.raw import RawImages
from oodles.data.suite_check import check_suite

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OODLES_DATA", raising=False)


def pictures(rows: int, side: int = 4) -> np.ndarray:
    return RANDOM.integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def save(path: Path, rows: int = 20, side: int = 4, classes: int = 2) -> np.ndarray:
    """An archive whose row r has class r modulo ``classes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pictures(rows, side)
    np.savez(path, images=images, labels=np.arange(rows) % classes)
    return images


def suite_file(folder: Path, text: str = "", *, train: str = '"train.npz"', test: str = '"test.npz"') -> Path:
    """A file beside archives train, test and more of 20 images each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test", "more"):
        if not (folder / f"{name}.npz").exists():
            save(folder / f"{name}.npz")
    path = folder / "mine.toml"
    path.write_text(f"train = {train}\ntest = {test}\n{text}", encoding="utf-8")
    return path


def rows_of(images: ImageSet) -> list[int]:
    return [int(name) for name in images.names]


def test_every_key_arrives(tmp_path: Path) -> None:
    path = suite_file(
        tmp_path,
        """
name = "my suite"
about = "nothing"
classes = ["cat", "dog"]
input_shape = [1, 2, 3]
mean = [0.25]
std = [0.5]
augment = { shift = 1, flip = true }
validation = { path = "more.npz", rows = 6 }
outliers = "more.npz"
validation_outliers = 5
[near]
cats = "more.npz"
[far]
noise = { path = "more.npz" }
[notes]
noise = "not from here"
""",
    )
    suite = load_suite(path, seed=4)
    assert (suite.name, suite.classes, suite.input_shape) == ("my suite", ("cat", "dog"), (1, 2, 3))
    assert (suite.mean, suite.std) == ((0.25,), (0.5,))
    assert suite.train.augment == Augment(shift=1, flip=True) and suite.train.seed == 4
    assert suite.outliers is not None and suite.validation_outliers is not None
    assert suite.outliers.augment == suite.train.augment != suite.validation_outliers.augment
    sizes = {name: len(images) for name, images in suite.sets().items()}
    assert sizes == {
        "train": 20,
        "validation": 6,
        "test": 20,
        "outliers": 15,
        "validation-outliers": 5,
        "near:cats": 20,
        "far:noise": 20,
    }
    assert set(rows_of(suite.outliers)) | set(rows_of(suite.validation_outliers)) == set(range(20))
    assert suite.notes == {"noise": "not from here"}
    assert suite.train.labels.tolist() == [0, 1] * 10 and set(suite.validation_outliers.labels) == {-1}
    assert load_suite(path, augment=Augment()).train.augment == Augment()


def test_every_random_change_can_be_said(tmp_path: Path) -> None:
    changes = "crop = [0.5, 1], brightness = 0.4, contrast = 0.3, saturation = 0.2, hue = 0.1"
    suite = load_suite(suite_file(tmp_path, f"augment = {{ {changes} }}"))
    expected = Augment(crop=(0.5, 1.0), brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    assert suite.train.augment == expected and not torch.equal(suite.train[0, 0][0], suite.train[0][0])


def test_outliers_may_have_several_sources_with_shares(tmp_path: Path) -> None:
    few = "{ path = 'more.npz', rows = 4, share = 0.5 }"
    path = suite_file(tmp_path, f"outliers = [{few}, 'more.npz', 'test.npz']\nvalidation_outliers = 0.25")
    suite = load_suite(path)
    assert suite.outliers is not None and suite.validation_outliers is not None
    assert suite.outlier_shares == ((30, 0.5), (4, 0.5)), "those without a share come first, and share the rest by size"
    places = [Path(name).parent.name for name in suite.outliers.names]
    assert places == ["more.npz"] * 15 + ["test.npz"] * 15 + ["more.npz"] * 4
    rows = [int(name.rpartition("/")[2]) for name in suite.outliers.names]
    held = [name.rsplit("/", 2)[1:] for name in suite.validation_outliers.names]
    assert [place for place, _ in held] == ["more.npz"] * 5 + ["test.npz"] * 5 + ["more.npz"] * 5
    assert not set(rows[:15]) & {int(row) for _, row in held[:5]} and len({*rows[:15]}) == 15, "each source is split"
    expected = np.load(tmp_path / "test.npz")["images"][rows[15:30]]
    assert np.array_equal(np.moveaxis(suite.outliers.images[15:30], 1, 3), expected)
    assert suite.outliers.images.dtype == np.uint8 and set(suite.outliers.labels) == {-1}


def test_several_sources_without_shares_are_one_set(tmp_path: Path) -> None:
    path = suite_file(tmp_path, "outliers = ['more.npz', 'test.npz']\nvalidation_outliers = ['test.npz', 'more.npz']")
    suite = load_suite(path)
    assert suite.outlier_shares == () and suite.outliers is not None and suite.validation_outliers is not None
    assert np.array_equal(suite.outliers.images[:20], suite.validation_outliers.images[20:])
    assert len(suite.outliers) == len(suite.validation_outliers) == 40


def test_what_is_not_said_has_defaults(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path))
    images = np.load(tmp_path / "train.npz")["images"]
    assert (suite.name, suite.classes, suite.input_shape) == ("mine", ("0", "1"), (3, 4, 4))
    assert (len(suite.train), len(suite.validation)) == (18, 2) and suite.outliers is suite.validation_outliers is None
    assert suite.mean == pytest.approx((images[rows_of(suite.train)] / 255).mean((0, 1, 2)))
    assert suite.train.augment == Augment(shift=0) and not suite.near and not suite.far


@pytest.mark.parametrize("held", ["6", "0.3"])
def test_validation_is_drawn_from_train_once_for_all_seeds(tmp_path: Path, held: str) -> None:
    path = suite_file(tmp_path, f"validation = {held}")
    suite, other = load_suite(path, seed=0), load_suite(path, seed=9)
    assert rows_of(suite.validation) == rows_of(other.validation) and len(suite.validation) == 6
    assert sorted(rows_of(suite.validation) + rows_of(suite.train)) == list(range(20))
    assert all(rows_of(images) == sorted(rows_of(images)) for images in (suite.train, suite.validation))
    assert np.bincount(suite.validation.labels).tolist() == [3, 3]
    x = np.load(tmp_path / "train.npz")["images"]
    assert np.array_equal(suite.validation.images, x[rows_of(suite.validation)].transpose(0, 3, 1, 2))


def test_chosen_rows_are_balanced_and_never_those_that_validate(tmp_path: Path) -> None:
    save(tmp_path / "train.npz", rows=300, classes=3)
    full = load_suite(suite_file(tmp_path, "validation = 30"))
    some = load_suite(suite_file(tmp_path, "validation = 30", train='{ path = "train.npz", rows = 60 }'))
    more = load_suite(suite_file(tmp_path, "validation = 30", train='{ path = "train.npz", rows = 0.5 }'))
    assert rows_of(some.validation) == rows_of(full.validation)
    assert set(rows_of(some.train)) < set(rows_of(more.train)) < set(rows_of(full.train))
    assert np.bincount(some.train.labels).tolist() == [20, 20, 20]
    assert np.bincount(more.train.labels).tolist() == [50, 50, 50]


def test_a_long_tail_is_made_of_all_rows_before_some_validate(tmp_path: Path) -> None:
    save(tmp_path / "train.npz", rows=300, classes=3)
    suite = load_suite(suite_file(tmp_path, "imbalance = 25\nvalidation = 31"))
    kept = sorted(rows_of(suite.train) + rows_of(suite.validation))
    assert np.bincount(np.array(kept) % 3).tolist() == [100, 20, 4], "100 · 25^(−c/2)"
    assert np.bincount(suite.validation.labels).tolist() == [25, 5, 1] and suite.imbalance == 25
    again = load_suite(suite_file(tmp_path, "imbalance = 25\nvalidation = 31"), seed=5)
    assert rows_of(again.train) == rows_of(suite.train)
    assert kept != [row for row in range(300) if row // 3 < (100, 20, 4)[row % 3]], "not the first ones of a file"
    shown = str(check_suite(suite))
    assert [line.split()[1] for line in shown.splitlines() if line.startswith(("0 ", "1 ", "2 "))] == ["75", "15", "3"]
    x = np.load(tmp_path / "train.npz")["images"]
    assert np.array_equal(suite.train.images, x[rows_of(suite.train)].transpose(0, 3, 1, 2))


def test_a_long_tail_of_uneven_classes_takes_as_many_rows_as_its_profile_allows(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [40, 30, 2])
    np.savez(tmp_path / "train.npz", images=pictures(72), labels=labels)
    counts = np.bincount(
        labels[rows_of(load_suite(suite_file(tmp_path, "imbalance = 4\nvalidation = 'more.npz'")).train)]
    )
    assert counts.tolist() == [8, 4, 2]
    even = load_suite(suite_file(tmp_path, "imbalance = 1\nvalidation = 'more.npz'"))
    assert np.bincount(even.train.labels).tolist() == [2, 2, 2]
    whole = load_suite(suite_file(tmp_path, "validation = 'more.npz'"))
    assert len(whole.train) == 72 and whole.imbalance is None


@pytest.mark.parametrize("value", ["0.5", "-1", "nan", "inf", "true", "'100'", "[100]"])
def test_a_long_tail_is_a_number_of_at_least_one(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValueError, match=r"imbalance in .*mine\.toml must be a finite number of at least 1, .*, got"):
        load_suite(suite_file(tmp_path, f"imbalance = {value}"))


def test_wild_rows_are_a_set_of_their_own(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path, "wild = { path = 'more.npz', rows = 6 }"), seed=3)
    assert suite.wild is not None and len(suite.wild) == 6 and set(suite.wild.labels) == {-1}
    assert suite.wild.augment == suite.train.augment and suite.wild.seed == 3
    assert suite.others == {"wild": suite.wild} and list(suite.sets())[-1] == "wild"
    assert suite.augmented(Augment(flip=True)).others["wild"].augment == Augment(flip=True)
    assert len(suite.train) == 18 and suite.notes == {}


def test_wild_rows_may_be_mixed(tmp_path: Path) -> None:
    save(tmp_path / "train.npz", 100)
    mixture = "wild = { known = 12, unknown = 'more.npz', share = 0.25 }"
    suite = load_suite(suite_file(tmp_path, mixture, train="{ path = 'train.npz', rows = 60 }"))
    assert suite.wild is not None and (len(suite.train), len(suite.validation), len(suite.wild)) == (48, 10, 16)
    sources = [name.rsplit("/", 2)[1] for name in suite.wild.names]
    assert sources == ["train.npz"] * 12 + ["more.npz"] * 4, "4 of 16 are unknown"
    known = [int(name.rsplit("/", 1)[1]) for name in suite.wild.names[:12]]
    assert not set(known) & set(rows_of(suite.train)) and not set(known) & set(rows_of(suite.validation))
    assert sum(row % 2 for row in known) == 6, "as many of each class"
    assert suite.notes == {}, "no test set is of their kind"


def test_wild_rows_of_a_test_set_get_a_remark(tmp_path: Path) -> None:
    mixture = "wild = { known = 6, unknown = { path = 'more.npz', rows = 9 }, share = 0.5 }"
    path = suite_file(tmp_path, f"{mixture}\nfar.noise = 'more.npz'\n")
    with pytest.warns(TrainingWarning, match="wild holds rows of noise, which is a test set: results on it tell of"):
        suite = load_suite(path)
    assert suite.notes == {"noise": "same kind as the wild rows"}
    checked = check_suite(path)
    assert checked.remarks == (
        "wild holds rows of noise, which is a test set: results on it tell of a kind that training has seen, without "
        "labels.",
    )
    assert "wild and far:noise share 6 images" in str(checked) or "far:noise and wild share" in str(checked)
    path.write_text(path.read_text() + "[notes]\nnoise = 'mine'\n")
    with pytest.warns(TrainingWarning, match="which is a test set"):
        assert load_suite(path).notes == {"noise": "mine"}


def test_each_class_is_drawn_in_its_share() -> None:
    labels = np.array([0] * 60 + [7] * 30 + [-1] * 9 + [2**40])
    order = _order(RawImages("here", np.zeros((100, 1, 1, 1)), labels, (), ("",) * 100))
    assert sorted(order) == list(range(100))
    first, drawn = order[:10], labels[order[:50]]
    assert [(labels[first] == label).sum() for label in (0, 7, -1)] == [6, 3, 1]
    assert [(drawn == label).sum() for label in (0, 7)] == [30, 15]
    plain = _order(RawImages("here", np.zeros((8, 1, 1, 1)), None, (), ("",) * 8))
    assert sorted(plain) == list(range(8)) != plain.tolist()


def test_drawn_rows_stay_the_same_for_ever() -> None:
    order = _order(RawImages("here", np.zeros((12, 1, 1, 1)), np.arange(12) % 3, (), ("",) * 12))
    assert order.tolist() == [9, 2, 7, 4, 5, 0, 11, 3, 10, 6, 8, 1]


def test_sets_of_other_sizes_are_converted_alike(tmp_path: Path) -> None:
    suite_file(tmp_path)
    wide = np.zeros((1, 4, 12, 3), np.uint8)
    wide[:, :, 4:8] = 200
    np.savez(tmp_path / "more.npz", images=wide)
    suite = load_suite(suite_file(tmp_path, 'outliers = "more.npz"\nnear.a = "more.npz"\nfar.b = "more.npz"'))
    assert suite.outliers is not None
    for images in (suite.outliers, suite.near["a"], suite.far["b"]):
        assert np.array_equal(images.images, np.full((1, 3, 4, 4), 200))


def test_resize_takes_the_shorter_side_first_and_crops_the_centre(tmp_path: Path) -> None:
    suite_file(tmp_path)
    tall = pictures(1, 20)[:, :, :10]
    np.savez(tmp_path / "more.npz", images=tall)
    suite = load_suite(suite_file(tmp_path, 'input_shape = [3, 4, 4]\nresize = 6\nfar.b = "more.npz"'))
    resized = np.asarray(Image.fromarray(tall[0]).resize((6, 12), Image.Resampling.BILINEAR))
    assert np.array_equal(suite.far["b"].images[0], resized[4:8, 1:5].transpose(2, 0, 1))
    further = read_images(tmp_path / "more.npz", suite.input_shape, suite.resize)
    assert np.array_equal(further.images, suite.far["b"].images)


# where files are


def test_folders_are_looked_through_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = suite_file(tmp_path / "own", 'root = ["stated", "/nowhere"]')
    places = [tmp_path / "argument", tmp_path / "environment", tmp_path / "own" / "stated", tmp_path / "own"]
    expected = [save(place / "test.npz") for place in places]
    monkeypatch.setenv("OODLES_DATA", os.pathsep.join(["/nowhere", str(tmp_path / "environment")]))
    for place, images in zip(places, expected, strict=True):
        found = load_suite(path, root=["/nowhere", tmp_path / "argument"]).test.images
        assert np.array_equal(found, images.transpose(0, 3, 1, 2))
        (place / "test.npz").unlink()
    with pytest.raises(FileNotFoundError) as refused:
        load_suite(path, root=tmp_path / "argument")
    folders = f"{places[0]}, /nowhere, {places[1]}, {places[2]}, {places[3]}"
    assert str(refused.value) == (
        f"The data 'mine' needs test.npz, which is in none of {folders}: "
        "name its folder with --root (root=) or OODLES_DATA."
    )


def test_absolute_paths_and_gzipped_files_that_were_unpacked(tmp_path: Path) -> None:
    images, labels = tmp_path / "far" / "x-images", tmp_path / "far" / "x-labels"
    images.parent.mkdir()
    images.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 55, 66]))
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 0]))
    source = f'{{ images = "{images}.gz", labels = "{labels}.gz" }}'
    suite = load_suite(suite_file(tmp_path, "validation = 'more.npz'\ninput_shape = [1, 1, 1]", test=source))
    assert suite.test.images.ravel().tolist() == [55, 66] and suite.test.labels.tolist() == [1, 0]
    with pytest.raises(FileNotFoundError, match=r"The data 'mine' needs /nowhere/x\.npz, but nothing is there\."):
        load_suite(suite_file(tmp_path, test='"/nowhere/x.npz"'))


def test_a_folder_is_a_suite_without_a_file(tmp_path: Path) -> None:
    for name in ("train", "test", "validation_outliers", "near/cats"):
        save(tmp_path / f"{name}.npz")
    suite = load_suite(tmp_path)
    assert list(suite.sets()) == ["train", "validation", "test", "validation-outliers", "near:cats"]
    again = load_suite(suite_file(tmp_path))
    assert rows_of(again.train) == rows_of(suite.train) and again.train.augment == suite.train.augment


# mistakes

MISTAKES = {
    "no TOML": ("train = [", r"mine\.toml cannot be read as TOML: Invalid value"),
    "unknown key": ("outlier = 'x'", r"has a key 'outlier' that suites do not have: did you mean 'outliers'\?"),
    "strange key": ("zzz = 1", r"has a key 'zzz' that suites do not have: expected one of name, train, test"),
    "number for a path": ("outliers = 3", r"outliers in .*mine\.toml must be a path or a table such as .*, got 3"),
    "empty path": ("outliers = ''", "outliers in .* must be a path or a table such as"),
    "unknown source key": ("outliers = { pathh = 'a' }", r"outliers in .* has no key 'pathh': did you mean 'path'\?"),
    "no kind": (
        "outliers = { rows = 3 }",
        "must say where its rows are: path, cifar, list, dataset, images, features",
    ),
    "half a list": ("outliers = { list = 'a' }", "must say images too, as its rows come from 'list'"),
    "two kinds": (
        "outliers = { path = 'a', labels = 'b' }",
        "outliers in .* cannot say 'labels' of rows that come from 'path'",
    ),
    "path of a number": ("outliers = { path = 3 }", "path in outliers in .* must be text, got 3"),
    "no files": ("outliers = { cifar = [] }", r"cifar in outliers in .* must be text, got \[\]"),
    "part": ("outliers = { cifar = 'a', part = 'valid' }", "part in outliers in .* must be one of train, test"),
    "rows": ("outliers = { path = 'more.npz', rows = 0 }", "rows of outliers .* or a share between 0 and 1, got 0"),
    "rows, true": ("outliers = { path = 'a', rows = true }", "rows of outliers .* a share between 0 and 1, got True"),
    "more rows than there are": (
        "outliers = { path = 'more.npz', rows = 21 }",
        r"rows of .*more\.npz must be at most 20, as there are 20 rows, got 21",
    ),
    "validation": ("validation = 1.5", "validation in .* must be a number of rows or a share .*, got 1.5"),
    "all validate": ("validation = 20", r"validation of .*train\.npz must be at most 19, as there are 20 rows, got 20"),
    "a class is gone": (
        "validation = 19",
        r"every class must have rows to train on, but class '\d' has none among the 1 of 20 that are left of .*: take",
    ),
    "held from nothing": ("validation_outliers = 5", "can be a number only where there are outliers"),
    "slash": ("near.'a/b' = 'more.npz'", "names of near sets must be some text without '/' and ':', got 'a/b'"),
    "colon": ("far.'a:b' = 'more.npz'", "names of far sets must be some text without '/' and ':', got 'a:b'"),
    "no name": ("far.'' = 'more.npz'", "names of far sets must be some text without '/' and ':', got ''"),
    "near is no table": ("near = 'more.npz'", "near in .* must be a table with a source for every set, got 'more.npz'"),
    "near.x": ("near.x = 3", "near.x in .* must be a path or a table such as"),
    "name": ("name = 3", "name in .* must be text, got 3"),
    "root": ("root = 3", "root in .* must be a folder or a list of them, got 3"),
    "one class": ("classes = ['a']", "classes in .* must be a list of at least 2 different names"),
    "same classes": ("classes = ['a', 'a']", "classes in .* must be a list of at least 2 different names"),
    "classes too few": ("classes = ['a', 'b', 'c']", "class 2 has none"),
    "shape": ("input_shape = [32, 32]", r"input_shape in .* must be \[channels, height, width\] .*, got \[32, 32\]"),
    "true for a number": ("input_shape = [true, 8, 8]", "input_shape in .* must be"),
    "channels": ("input_shape = [4, 8, 8]", "images of 3 channels cannot become images of 4: ask for as many"),
    "side": ("input_shape = [3, 8, 4097]", r"at most 4096 pixels a side, got \[3, 8, 4097\]"),
    "resize": (
        "input_shape = [3, 8, 8]\nresize = 7",
        "resize in .* no smaller than input_shape's and at most .*, got 7",
    ),
    "resize too much": ("input_shape = [3, 8, 8]\nresize = 4097", "resize in .* at most 4096, got 4097"),
    "resize alone": ("resize = 7", "resize in .* needs input_shape"),
    "mean": ("mean = 0.5", "mean in .* must be one number per channel, got 0.5"),
    "mean of a channel": ("input_shape = [3, 8, 8]\nmean = [0.5]", r"mean in .* one number per channel, got \[0.5\]"),
    "std": ("std = [0.0, 1.0, 1.0]", r"std in .* must be per channel, of images in \[0, 1\], so above 0 and at most 1"),
    "mean of bytes": (
        "mean = [125, 123.5, 110]",
        r"mean in .* must be per channel, of images in \[0, 1\], .* got \[125, 123\.5, 110\]: divide by 255\.",
    ),
    "mean below 0": ("mean = [-0.1, 0, 0]", r"mean in .*, so at least 0 and at most 1, got \[-0\.1, 0, 0\]\."),
    "mean, NaN": ("mean = [nan, 0, 0]", r"mean in .* at most 1, got \[nan, 0, 0\]\."),
    "std, infinite": ("std = [1, inf, 1]", r"std in .*, so above 0 and at most 1, got \[1, inf, 1\]"),
    "mean alone": ("mean = [0.5, 0.5, 0.5]", "mean in .* needs std: give both, or neither and they are measured"),
    "std alone": ("std = [0.5, 0.5, 0.5]", "std in .* needs mean: give both, or neither and they are measured"),
    "augment": ("augment = 3", "augment in .* must be a table such as .*, got 3"),
    "augment key": ("augment = { flipp = true }", r"augment in .* has no key 'flipp': did you mean 'flip'\?"),
    "flip": ("augment = { flip = 1 }", "flip in .* must be true or false, got 1"),
    "share alone": (
        "outliers = { path = 'more.npz', share = 0.5 }",
        "share in .* only of sources in a list of outliers",
    ),
    "wild as train": (
        "wild = 'train.npz'",
        "train and wild must hold different rows, but both are .*: wild rows",
    ),
    "wild as outliers": (
        "outliers = ['test.npz', 'more.npz']\nwild = 'more.npz'",
        "outliers and wild must hold different rows, but both are .*more.npz: wild rows are known and unknown ones",
    ),
    "wild without known": (
        "wild = { unknown = 'more.npz', share = 0.1 }",
        "wild in .* must say known too: rows",
    ),
    "wild of none known": (
        "wild = { known = 0, unknown = 'more.npz', share = 0.1 }",
        "known of wild in .* must be a number of rows or a share between 0 and 1, got 0",
    ),
    "wild share": (
        "wild = { known = 5, unknown = 'more.npz', share = 1 }",
        "share of wild in .* must be a number between 0 and 1, that of the unknown rows, got 1",
    ),
    "wild key": (
        "wild = { known = 5, unknwon = 'more.npz', share = 0.1 }",
        "wild in .* has no key 'unknwon': did you mean 'unknown'?",
    ),
    "wild source": (
        "wild = { known = 5, unknown = 3, share = 0.1 }",
        "unknown of wild in .* must be a path",
    ),
    "too many known": (
        "wild = { known = 18, unknown = 'more.npz', share = 0.1 }",
        "wild.known of .* must be at most 17, as there are 18 rows, got 18",
    ),
    "too few unknown": (
        "wild = { known = 5, unknown = 'more.npz', share = 0.9 }",
        r"wild must have a share of 0\.9 of unknown rows, which are 45 beside its known ones, and .* has 20: give",
    ),
    "share of near": ("near.cats = { path = 'more.npz', share = 0.5 }", "share in .*, not of near:cats"),
    "share of 1": ("outliers = ['test.npz', { path = 'more.npz', share = 1 }]", "share of .* between 0 and 1, got 1"),
    "shares below 1": (
        "outliers = [{ path = 'test.npz', share = 0.5 }, { path = 'more.npz', share = 0.4 }]",
        r"shares of outliers in .* must add up to 1, got 0\.9: or leave one of them out",
    ),
    "shares above 1": (
        "outliers = [{ path = 'test.npz', share = 0.6 }, { path = 'more.npz', share = 0.4 }, 'more.npz']",
        r"shares of outliers in .* must add up to less than 1, as other sources have none, got 1\.",
    ),
    "no outliers": ("outliers = []", r"outliers in .* must be a path or a table .*, got \[\]"),
    "no source in a list": (
        "outliers = ['more.npz', 3]",
        "source 2 of outliers in .* must be a path .*, got 3",
    ),
    "a list of near": ("near.cats = ['more.npz']", "near.cats in .* must be a path or a table"),
    "a list of train": ("validation = ['more.npz']", "validation in .* must be a path or a table"),
    "rows of a list": (
        "outliers = ['more.npz', 'test.npz']\nvalidation_outliers = 5",
        "validation_outliers in .* must be a share below 1 where outliers are a list, got 5",
    ),
    "a source without images": (
        "outliers = ['more.npz', { path = 'empty', share = 0.5 }]",
        r"empty must hold images \(.*\), but has none",
    ),
    "crop": ("augment = { crop = 0.7 }", "augment in .* cannot be used: crop must be the least and the largest share"),
    "jitter": ("augment = { hue = 'red' }", "augment in .* cannot be used: hue must be a number >= 0, got 'red'"),
    "transforms": ("augment = { transforms = 'no.such:thing' }", "transforms 'no.such:thing' cannot be imported"),
    "shift": ("augment = { shift = -1 }", "augment in .* cannot be used: shift must be a whole number"),
    "shift out of the image": (
        "augment = { shift = 4 }",
        "shift must be smaller than the sides of the images, 4 × 4 pixels, got 4",
    ),
    "notes": ("notes = ['a']", "notes in .* must be a table of remarks"),
    "note on nothing": ("near.cat = 'more.npz'\nnotes.cats = 'a'", r"speak of 'cats', .*: did you mean 'cat'\?"),
}


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=sentence):
        load_suite(suite_file(tmp_path, text))


@pytest.mark.parametrize(
    ("train", "text", "sentence"),
    [
        ("'test.npz'", "", r"train and test must .*, but both are .*test\.npz: name other rows"),
        ("{ path = 'same.npz', rows = 3 }", "", r"train and test must .*, but both are .*test\.npz: name other"),
        ("'train.npz'", "validation = 'train.npz'", r"train and validation .*: say how many rows of train validate"),
        ("'train.npz'", "validation = { path = 'test.npz', rows = 9 }", r"validation and test must .* both are"),
        ("{ dataset = 'a:b' }", "validation = { dataset = 'a:b' }", "train and validation .* both are a:b"),
    ],
)
def test_the_same_source_is_never_two_of_train_validation_and_test(
    tmp_path: Path, train: str, text: str, sentence: str
) -> None:
    (tmp_path / "same.npz").symlink_to("test.npz")
    with pytest.raises(ValueError, match=sentence):
        load_suite(suite_file(tmp_path, text, train=train))


@pytest.mark.parametrize("fits", [True, False])
def test_copies_are_never_two_of_train_validation_and_test(
    tmp_path: Path, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row, pixels in enumerate(pictures(4)):
        for name in ("train", "more", "test"):
            image = tmp_path / name / "ab"[row % 2] / f"{row}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels // 2 if name == "test" and row == 3 else pixels).save(image)
    if not fits:
        monkeypatch.setattr(decoded, "IN_MEMORY", 100)
    path = suite_file(tmp_path, "validation = 'test'\nnear.train = 'train'", train="'train'", test="'more'")
    with pytest.raises(ValueError, match="train and test must hold different images, but hold the same"):
        load_suite(path)
    path = suite_file(tmp_path, "validation = 'more'\nnear.train = 'train'", train="'train'", test="'test'")
    with pytest.raises(ValueError, match="train and validation must hold different images, but hold the same"):
        load_suite(path)
    path = suite_file(tmp_path, "validation = 1\nnear.train = 'train'", train="'train'", test="'test'")
    assert len(load_suite(path).train) == 3  # most images are in two sets: for `oodles suite check`
    if fits:  # what validates is taken out of train, and the copy is noticed all the same
        path = suite_file(tmp_path, "validation = 1\nnear.train = 'train'", train="'train'", test="'more'")
        with pytest.raises(ValueError, match="train with what validates holds the same as test: name other images"):
            load_suite(path)


def test_too_few_rows_are_told_as_such(tmp_path: Path) -> None:
    save(tmp_path / "train.npz", rows=200, classes=12)
    sentence = r"but class '\d+' has none among the 3 of 200 that are left of .*train\.npz: take more rows for train"
    with pytest.raises(ValueError, match=sentence):
        load_suite(suite_file(tmp_path, train="{ path = 'train.npz', rows = 3 }"))
    with pytest.raises(
        ValueError, match=r"must be at most 180, as there are 200 rows and validation takes 20, got 200\."
    ):
        load_suite(suite_file(tmp_path, train="{ path = 'train.npz', rows = 200 }"))


def test_outliers_that_validate_need_no_others(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path, "validation_outliers = 'more.npz'"))
    assert suite.outliers is None and suite.validation_outliers is not None
    assert rows_of(suite.validation_outliers) == list(range(20))


@pytest.mark.parametrize(
    ("get", "end"), [("Ask me.", "or OODLES_DATA. Ask me."), ("it is here", "or OODLES_DATA; it is here.")]
)
def test_how_to_get_the_files_reads_well(tmp_path: Path, get: str, end: str) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        load_suite(suite_file(tmp_path, f"get = '{get}'", test="'away.npz'"))
    assert str(refused.value).endswith(end)


def test_other_mistakes_are_refused(tmp_path: Path) -> None:
    path = suite_file(tmp_path)
    path.write_text('train = "train.npz"\n')
    with pytest.raises(ValueError, match=r"mine\.toml must say where test is"):
        load_suite(path)
    path.write_bytes(b"train = '\xff'")
    with pytest.raises(ValueError, match=r"mine\.toml cannot be read as TOML"):
        load_suite(path)
    with pytest.raises(ValueError, match="data must be a suite, a TOML file or a folder with train and test"):
        load_suite(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"got 'fashion_12k': did you mean 'fashion-12k'\?"):
        load_suite("fashion_12k")


def test_a_list_says_mean_for_as_many_channels_as_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mean must have one number for each of 3 channels, got 1"):
        load_suite(suite_file(tmp_path, "mean = [0.5]\nstd = [0.5]"))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = suite_file(tmp_path, 'far.x = "more.npz"')
    (tmp_path / "more.npz").write_bytes((tmp_path / "more.npz").read_bytes()[:-50])
    with pytest.raises(
        ValueError, match=r"more\.npz cannot be read as \.npz arrays: it is no zip archive, or one that"
    ):
        load_suite(path)
    np.savez(tmp_path / "test.npz", images=pictures(2), labels=np.array([0, 2]))
    with pytest.raises(ValueError, match=r"labels in .*test\.npz must be 0 to 1, got 2"):
        load_suite(path)


def test_suites_of_one_s_own_making_have_one_shape() -> None:
    def images(side: int) -> ImageSet:
        return ImageSet(np.zeros((2, 3, side, side), np.uint8), np.array([0, 1]))

    with pytest.raises(ValueError, match=r"those of near:x have \(3, 5, 5\) and those of train \(3, 4, 4\)"):
        Suite("mine", images(4), images(4), images(4), ("a", "b"), near={"x": images(5)})


# the shipped ones


@pytest.mark.parametrize("name", [name for name, place in SUITES.items() if isinstance(place, Path)])
def test_shipped_files_say_in_a_sentence_what_is_missing(name: str, tmp_path: Path) -> None:
    description = read_description(SHIPPED / f"{name}.toml")
    assert description["name"] == name and description["about"].endswith(".")
    with pytest.raises(FileNotFoundError) as refused:
        load_suite(name, root=tmp_path)
    sentence = str(refused.value)
    assert sentence.startswith(f"The data {name!r} needs ") and f"which is in none of {tmp_path}" in sentence
    assert str(SHIPPED) not in sentence  # a package is no place for data
    assert sentence.endswith(f"{description['get']}.")
    assert {"train", "test", "outliers"} <= {place for place, _ in sources(description)}


def test_small_protocols_say_the_same_as_the_large_ones_but_for_the_rows() -> None:
    for small, large, rows in (
        ("fashion-12k", "fashion", 12000),
        ("fashion-12k-lt", "fashion", 12000),
        ("fashion-12k-wild", "fashion", 15600),
        ("cifar10-10k", "cifar10", 10000),
    ):
        one, other = (tomllib.loads((SHIPPED / f"{name}.toml").read_text()) for name in (small, large))
        other["train"] = {"path": other["train"]} if isinstance(other["train"], str) else other["train"]
        assert one.pop("train") == {**other.pop("train"), "rows": rows}
        for key in ("name", "about", "validation"):
            one.pop(key), other.pop(key)
        assert one.pop("imbalance", None) == (100 if small.endswith("-lt") else None)
        assert ("wild" in one) == small.endswith("-wild")
        one.pop("wild", None)
        assert one == other


def test_openood_runs_with_one_flag(tmp_path: Path) -> None:
    path = SHIPPED / "openood-cifar10.toml"
    for number, (name, source) in enumerate(sources(read_description(path))):
        assert not isinstance(source, str)
        rows = 20 if name in ("train", "test", "validation") else 3
        lines = []
        for row in range(rows):
            image = tmp_path / source["images"] / f"{number}" / f"{row}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 36, 3), 10 * number + row, np.uint8)).save(image)
            lines.append(f"{number}/{row}.png {row % 10 if rows == 20 else -1}\n")
        (tmp_path / source["list"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source["list"]).write_text("".join(lines))
    suite = load_suite("openood-cifar10", root=tmp_path)
    assert [*suite.near, *suite.far] == ["cifar100", "tin", "mnist", "svhn", "texture", "places365"]
    assert suite.input_shape == (3, 32, 32) and len(suite.train) == len(suite.validation) == 20
    assert suite.validation_outliers is not None and suite.validation_outliers.images[:, 0, 0, 0].tolist() == [
        40,
        41,
        42,
    ]
