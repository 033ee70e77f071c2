"""Own data by path: arrays and image folders, conversion, and one sentence for every mistake."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodles.data import Augment, load_suite, read_images
from oodles.data.preprocess import fit_image

RANDOM = np.random.default_rng(0)


def pictures(rows: int = 8, side: int = 8, channels: int = 3) -> np.ndarray:
    return RANDOM.integers(0, 256, (rows, side, side, channels), dtype=np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path)


def save_suite(folder: Path, **sets: dict[str, np.ndarray]) -> Path:
    """A folder of arrays; ``near__cats`` lands in near/cats.npz."""
    defaults = {part: {"images": pictures(20), "labels": np.arange(20) % 2} for part in ("train", "test")}
    for name, arrays in {**defaults, **sets}.items():
        path = folder / f"{name.replace('__', '/')}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    return folder


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda x: x, lambda x: x.transpose(0, 3, 1, 2)),
        (lambda x: x.transpose(0, 3, 1, 2), lambda x: x.transpose(0, 3, 1, 2)),
        (lambda x: x[..., 0], lambda x: x[:, None, :, :, 0]),
        (lambda x: (x / 255).astype(np.float64), lambda x: x.transpose(0, 3, 1, 2) / np.float32(255)),
    ],
    ids=["channels last", "channels first", "grey", "floating point"],
)
def test_arrays_in_every_layout(tmp_path: Path, given: Callable, expected: Callable) -> None:
    x = pictures()
    np.savez(tmp_path / "a.npz", images=given(x), labels=np.arange(8, dtype=np.uint8))
    data = read_images(tmp_path / "a.npz")
    assert np.allclose(data.images, expected(x), atol=1e-7)
    assert data.labels.tolist() == list(range(8))
    assert data.names == tuple("01234567")


def test_image_folders_give_file_names_and_pixels(tmp_path: Path) -> None:
    x = pictures(3)
    for name, pixels in zip(("b/2.png", "b/deep/1.png", "a.png"), x, strict=True):
        save_png(tmp_path / name, pixels)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"not an image")
    with pytest.warns(UserWarning, match=r"this is left out: 1 × \.txt\.$"):
        data = read_images(tmp_path)
    assert data.names == ("a.png", "b/2.png", "b/deep/1.png")
    assert np.array_equal(data.images, x[[2, 0, 1]].transpose(0, 3, 1, 2))
    assert data.labels.tolist() == [-1, -1, -1]


def test_folders_inside_a_folder_of_images_are_no_classes(tmp_path: Path) -> None:
    for name, pixels in zip("ab", pictures(2), strict=True):
        save_png(tmp_path / name / "x.png", pixels)
    assert read_images(tmp_path).labels.tolist() == [-1, -1]


def test_a_single_image(tmp_path: Path) -> None:
    x = pictures(1, channels=1)
    save_png(tmp_path / "one.png", x[0])
    data = read_images(tmp_path / "one.png")
    assert data.names == ("one.png",) and np.array_equal(data.images, x.transpose(0, 3, 1, 2))


def test_a_photograph_that_a_camera_turned_is_turned_back(tmp_path: Path) -> None:
    image = Image.fromarray(pictures(1, channels=1)[0, :4, :, 0])
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_images(tmp_path / "turned.png").images[0, 0], np.rot90(np.asarray(image), -1))


def test_colour_becomes_grey_as_pillow_has_it_and_grey_fills_channels() -> None:
    colour = pictures(1, side=32)[0]
    grey = fit_image(colour, (1, 32, 32))[..., 0]
    assert grey.dtype == np.uint8
    difference = np.abs(grey.astype(int) - np.asarray(Image.fromarray(colour).convert("L")))
    assert difference.max() <= 1 and difference.mean() < 0.02
    assert np.array_equal(fit_image(grey[..., None], (3, 32, 32)), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("floating", [False, True])
def test_other_sizes_are_cropped_to_the_aspect_ratio_and_averaged(tmp_path: Path, floating: bool) -> None:
    wide = np.zeros((1, 16, 48), dtype=np.uint8)
    wide[:, :, :16], wide[:, :, 32:] = 255, 255  # the sides are cropped away
    wide[:, 8:, 16:32] = 200
    np.savez(tmp_path / "a.npz", images=wide / 255 if floating else wide)
    image = read_images(tmp_path / "a.npz", (1, 8, 8)).images[0, 0] * (255 if floating else 1)
    image = image[:, 1:-1]  # the filter of the outer columns reaches across the crop
    assert np.allclose(image[:3], 0, atol=1) and np.allclose(image[5:], 200, atol=1)


def test_a_folder_of_arrays_becomes_a_suite(tmp_path: Path) -> None:
    test = {"images": pictures(6), "labels": np.array([0, 1, 1, 0, 0, 0], dtype=np.uint8)}
    save_suite(
        tmp_path / "mine",
        test=test,
        validation={"images": pictures(5), "labels": np.zeros(5, dtype=int)},
        outliers={"images": pictures(9, channels=1)},
        near__cats={"images": pictures(2), "labels": np.array([7, 8])},
        far__noise={"images": RANDOM.random((4, 16, 16))},
    )
    suite = load_suite(tmp_path / "mine", seed=5)
    assert (suite.name, suite.classes, suite.input_shape) == ("mine", ("0", "1"), (3, 8, 8))
    assert (len(suite.train), len(suite.validation), len(suite.test)) == (20, 5, 6)
    assert np.array_equal(suite.test.images, test["images"].transpose(0, 3, 1, 2))
    assert suite.test.labels.tolist() == [0, 1, 1, 0, 0, 0]
    assert suite.outliers is not None and suite.outliers.images.shape == (9, 3, 8, 8)
    assert suite.near["cats"].labels.tolist() == [-1, -1]
    assert suite.far["noise"].images.shape == (4, 3, 8, 8)
    assert suite.train.augment == suite.outliers.augment == Augment(shift=1)
    assert suite.test.augment == suite.near["cats"].augment == Augment()
    assert suite.train.seed == 5


def test_mean_and_std_per_channel_of_uint8_images(tmp_path: Path) -> None:
    x = pictures(2500)
    x[..., 2] = 51
    save_suite(
        tmp_path,
        train={"images": x, "labels": np.arange(2500) % 2},
        validation={"images": x[::-1], "labels": x[:, 0, 0, 0] % 2},
    )
    suite = load_suite(tmp_path)
    assert suite.mean == pytest.approx((x / 255).mean((0, 1, 2)))
    assert suite.std == pytest.approx([*(x / 255).std((0, 1, 2))[:2], 1.0])


def test_without_validation_a_tenth_of_train_is_drawn_whatever_the_seed(tmp_path: Path) -> None:
    train = {"images": pictures(40), "labels": np.arange(40) % 4}
    save_suite(tmp_path, train=train)
    suite, other = (load_suite(tmp_path, seed) for seed in (0, 1))
    assert len(suite.validation) == 4 and len(suite.train) == 36
    assert {int(name) for name in suite.train.names} | {int(name) for name in suite.validation.names} == set(range(40))
    for data in (suite.train, suite.validation):
        rows = [int(name) for name in data.names]
        assert data.labels.tolist() == [row % 4 for row in rows]
        assert np.array_equal(data.images, train["images"][rows].transpose(0, 3, 1, 2))
    assert suite.validation.names == other.validation.names and sorted(suite.validation.labels) == [0, 1, 2, 3]


def test_class_folders_keep_their_names_and_order(tmp_path: Path) -> None:
    for index, pixels in enumerate(pictures(8)):
        save_png(tmp_path / "train" / ("dog", "cat")[index % 2] / f"{index}.png", pixels)
        save_png(tmp_path / "validation" / "dog" / f"{index}.png", pixels // 2)  # one class only: the names decide
        save_png(tmp_path / "test" / ("dog", "cat")[index % 2] / f"{index}.png", pixels // 3)
    suite = load_suite(tmp_path)
    assert suite.classes == ("cat", "dog")
    assert suite.validation.labels.tolist() == [1] * 8
    for data in (suite.train, suite.test):
        assert [suite.classes[label] for label in data.labels] == [name.split("/")[0] for name in data.names]


def test_folders_called_by_numbers_count_in_their_order(tmp_path: Path) -> None:
    for name, pixels in zip(range(12), pictures(12), strict=True):
        save_png(tmp_path / "train" / str(name) / "x.png", pixels)
        save_png(tmp_path / "validation" / str(name) / "x.png", pixels // 2)
    np.savez(tmp_path / "test.npz", images=pictures(3), labels=np.array([2, 10, 11]))
    suite = load_suite(tmp_path)
    assert suite.classes == tuple(str(number) for number in range(12))
    assert suite.test.labels.tolist() == [2, 10, 11]
    for data in (suite.train, suite.validation):
        assert [suite.classes[label] for label in data.labels] == [name.split("/")[0] for name in data.names]


def test_bare_numbers_mean_the_classes_that_are_called_so(tmp_path: Path) -> None:
    for name, pixels in zip(("007", "3", "10"), pictures(3), strict=True):
        save_png(tmp_path / "train" / name / "x.png", pixels)
        save_png(tmp_path / "validation" / name / "x.png", pixels // 2)
    np.savez(tmp_path / "test.npz", images=pictures(3), labels=np.array([10, 3, 7]))
    suite = load_suite(tmp_path)
    assert suite.classes == ("3", "007", "10") and suite.test.labels.tolist() == [2, 0, 1]
    np.savez(tmp_path / "test.npz", images=pictures(2), labels=np.array([10, 1]))
    with pytest.raises(ValueError, match=r"labels in .*test\.npz must be numbers of train's classes, got 1\."):
        load_suite(tmp_path)


def test_bare_numbers_beside_other_names_need_their_order(tmp_path: Path) -> None:
    for name, pixels in zip(("cat", "dog"), pictures(2), strict=True):
        for part, factor in (("train", 1), ("validation", 2)):
            save_png(tmp_path / part / name / "x.png", pixels // factor)
    np.savez(tmp_path / "test.npz", images=pictures(2), labels=np.array([1, 1]))
    with pytest.raises(ValueError, match=r"test\.npz must have names, .* \('cat', …\): .* or say classes = \[…\] in a"):
        load_suite(tmp_path)
    (tmp_path / "mine.toml").write_text(
        'train = "train"\nvalidation = "validation"\ntest = "test.npz"\nclasses = ["dog", "cat"]'
    )
    suite = load_suite(tmp_path / "mine.toml")
    assert suite.test.labels.tolist() == [1, 1]
    assert dict(zip(suite.train.names, suite.train.labels.tolist(), strict=True)) == {"cat/x.png": 1, "dog/x.png": 0}


def test_numbers_count_the_given_classes_even_where_those_are_numbers(tmp_path: Path) -> None:
    save_suite(tmp_path, test={"images": pictures(2), "labels": np.array([0, 1])})
    (tmp_path / "mine.toml").write_text('train = "train.npz"\ntest = "test.npz"\nclasses = ["1", "0"]')
    assert load_suite(tmp_path / "mine.toml").test.labels.tolist() == [0, 1]


def test_class_names_in_arrays_are_matched_by_name(tmp_path: Path) -> None:
    save_suite(
        tmp_path,
        train={"images": pictures(4), "labels": np.array([0, 1, 0, 1]), "classes": np.array(["cat", "dog"])},
        test={"images": pictures(2), "labels": np.array([0, 1]), "classes": np.array(["dog", "cat"])},
    )
    suite = load_suite(tmp_path)
    assert suite.classes == ("cat", "dog") and suite.test.labels.tolist() == [1, 0]


def test_names_of_classes_may_be_bytes_and_labels_of_any_whole_type(tmp_path: Path) -> None:
    labels = {"images": pictures(4), "classes": np.array([b"cat", "h\u00fcndin".encode()])}
    save_suite(
        tmp_path,
        train={**labels, "labels": np.array([0, 1, 0, 1], np.uint16)},
        validation={**labels, "images": pictures(4), "labels": np.array([0, 1, 0, 1], np.int8)},
        test={**labels, "images": pictures(4), "labels": np.array([0, 1, 0, 1], ">i4")},
    )
    suite = load_suite(tmp_path)
    assert suite.classes == ("cat", "hündin")
    assert suite.train.labels.tolist() == suite.test.labels.tolist() == [0, 1, 0, 1]


def test_names_that_a_file_gives_must_be_those_of_the_folders(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            save_png(tmp_path / part / name / "x.png", pictures(1)[0])
    for classes, sentence in {
        "['cat', 'dog', 'fox']": r"every class must have images in .*train, but fox has none: check names\.$",
        "['cat', 'fox']": r"every class must have images in .*train, but fox has none",
    }.items():
        (tmp_path / "mine.toml").write_text(f"train = 'train'\ntest = 'test'\nclasses = {classes}")
        with pytest.raises(ValueError, match=sentence):
            load_suite(tmp_path / "mine.toml")


def test_the_augmentation_can_be_chosen(tmp_path: Path) -> None:
    suite = load_suite(save_suite(tmp_path), augment=Augment(shift=2, flip=True))
    assert suite.train.augment == Augment(shift=2, flip=True)
    digits = load_suite("digits", augment=Augment())
    assert digits.outliers is not None
    assert digits.train.augment == digits.outliers.augment == Augment()


ARRAYS = {
    "no images": ({"pictures": pictures()}, "must hold an array called images, or one called features, but has none"),
    "no rows": ({"images": pictures(0)}, r"must hold at least one image, got shape \(0, 8, 8, 3\)"),
    "shape": ({"images": np.zeros((4, 8), np.uint8)}, r"must have shape \(N, H, W\), .* got \(4, 8\)"),
    "channels": (
        {"images": np.zeros((4, 8, 8, 8), np.uint8)},
        r"fewer channels than pixels a side, got \(4, 8, 8, 8\)",
    ),
    "whole numbers": ({"images": np.zeros((4, 8, 8), int)}, "must be uint8, uint16 or floating .*, got int64"),
    "too bright": ({"images": np.full((4, 8, 8), 255.0)}, r"must be in \[0, 1\], got 255 to 255: divide them"),
    "NaN": (
        {"images": np.where(np.arange(4) % 3, 0.5, np.nan)[:, None, None] * np.ones((8, 8))},
        r"wrong\.npz holds NaN in 2 of 4 images \(row 0, 3\): leave these rows out\.$",
    ),
    "infinity": (
        {"images": np.where(np.arange(20) < 3, 0.5, np.inf)[:, None, None] * np.ones((8, 8))},
        r"holds infinity in 17 of 20 images \(row 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 7 more\): leave",
    ),
    "other names": (
        {"x_train": pictures(), "y_train": np.ones(8)},
        r"must hold an array called images, or one called features, but has none: it holds x_train, y_train\.$",
    ),
    "words": (
        {"images": pictures(2), "labels": np.array(["cat", "dog"])},
        r"must be 2 whole numbers, got <U3 of shape \(2,\): put names into an array called classes",
    ),
    "huge labels": (
        {"images": pictures(2), "labels": np.array([0, 2**64 - 1], np.uint64)},
        r"labels in .* must be below 2\*\*63, got 18446744073709551615\.$",
    ),
    "truth": ({"images": pictures(2), "labels": np.array([True, False])}, r"must be 2 whole numbers, got bool"),
    "nested classes": (
        {"images": pictures(2), "labels": np.array([0, 1]), "classes": np.array([["a", "b"]])},
        r"classes in .* must be a list of names, got <U1 of shape \(1, 2\)\.$",
    ),
    "fractions for classes": (
        {"images": pictures(2), "labels": np.array([0, 1]), "classes": np.array([0.0, 1.0])},
        r"classes in .* must be a list of names, got float64",
    ),
    "objects": ({"images": np.array([{}, {}])}, "cannot be read as .npz arrays: Object arrays"),
    "floating labels": ({"images": pictures(), "labels": np.ones(8)}, "must be 8 whole numbers, got float64"),
    "few labels": (
        {"images": pictures(), "labels": np.ones(3, int)},
        r"must be 8 whole numbers, got int64 of .*\(3,\)",
    ),
}


@pytest.mark.parametrize(("arrays", "sentence"), ARRAYS.values(), ids=ARRAYS)
def test_wrong_arrays_are_refused_with_their_path(tmp_path: Path, arrays: dict, sentence: str) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=sentence) as refused:
        read_images(tmp_path / "wrong.npz")
    assert str(tmp_path / "wrong.npz") in str(refused.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "whole.npz", images=pictures(2))
    content = (tmp_path / "whole.npz").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.npz cannot be read as \.npz arrays"):
            read_images(tmp_path / "cut.npz")


def test_a_file_with_flipped_bits_is_read_or_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", images=pictures(2))
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    refused = 0
    for place in range(0, len(content), 3):
        content[place] ^= 0x15
        (tmp_path / "bad.npz").write_bytes(content)
        try:
            read_images(tmp_path / "bad.npz")
        except ValueError as error:
            refused += "bad.npz" in str(error)
        content[place] ^= 0x15
    assert refused > 20


SUITES = {
    "labels out of range": (
        {"test": {"images": pictures(2), "labels": np.array([0, 2])}},
        r"labels in .*test\.npz must be 0 to 1, got 2",
    ),
    "negative labels": (
        {"test": {"images": pictures(2), "labels": np.array([0, -1])}},
        r"labels in .*test\.npz must be 0 to 1, got -1",
    ),
    "negative training labels": (
        {"train": {"images": pictures(3), "labels": np.array([0, -1, 1])}},
        r"labels in .*train\.npz must be 0 to 1, got -1",
    ),
    "unlabelled": ({"train": {"images": pictures(2)}}, r"train\.npz must tell classes: give labels"),
    "gap": ({"train": {"images": pictures(2), "labels": np.array([0, 2])}}, r"class 1 has none: number classes from 0"),
    "huge": ({"train": {"images": pictures(2), "labels": np.array([0, 2**60])}}, r"class 1 has none"),
    "one class": ({"train": {"images": pictures(2), "labels": np.zeros(2, int)}}, "at least 2 classes, got 1"),
    "strange class": (
        {"test": {"images": pictures(2), "labels": np.array([0, 1]), "classes": np.array(["0", "bird"])}},
        r"classes in .*test\.npz must be those of train, got 'bird'",
    ),
    "a name without rows": (
        {"train": {"images": pictures(2), "labels": np.array([0, 1]), "classes": np.array(["cat", "dog", "fox"])}},
        r"every class must have images in .*train\.npz, class fox has none",
    ),
    "the same name twice": (
        {"train": {"images": pictures(2), "labels": np.array([0, 1]), "classes": np.array(["e\u0301", "\u00e9"])}},
        r"classes in .*train\.npz must have different names, got é, é",
    ),
    "mistyped part": ({"outlier": {"images": pictures(2)}}, r"got 'outlier\.npz': did you mean 'outliers'\?"),
    "near as a file": ({"near": {"images": pictures(2)}}, r"got 'near\.npz': did you mean 'near'\?"),
}


@pytest.mark.parametrize(("sets", "sentence"), SUITES.values(), ids=SUITES)
def test_wrong_suites_are_refused(tmp_path: Path, sets: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_suite(save_suite(tmp_path, **sets))


def test_missing_things_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got 'digit': did you mean 'digits'\?"):
        load_suite("digit")
    with pytest.raises(ValueError, match=r"got '/nowhere': give a folder, a TOML file or one of .*digits"):
        load_suite("/nowhere")
    with pytest.raises(FileNotFoundError, match=r"must hold train\.npz or a folder train, but has neither"):
        load_suite(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nothing is at .*none\.npz"):
        read_images(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"must hold images \(\.bmp, .*\), but has none"):
        read_images(tmp_path)


def test_all_that_is_wrong_with_a_folder_s_parts_is_said_at_once(tmp_path: Path) -> None:
    for name in ("train", "val", "ood", "tset"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="may hold train, validation, test, outliers") as refused:
        load_suite(tmp_path)
    assert str(refused.value).endswith(
        "near, far, got 'ood': did you mean 'far/ood'? And got 'tset': did you mean 'test'? "
        "And got 'val': did you mean 'validation'? And must hold test.npz or a folder test, but has neither."
    )
    with pytest.raises(FileNotFoundError, match=r"folder train, but has neither\. And must hold test\.npz or a folder"):
        load_suite(tmp_path / "train")


def test_files_that_are_called_like_parts_are_told(tmp_path: Path) -> None:
    save_suite(tmp_path, near__x={"images": pictures(2)})
    for name in ("README.md", "sheet.png", "outliers.zip", "validation.tar.gz", "near/y.zip"):
        (tmp_path / name).touch()
    (tmp_path / "far").symlink_to("nowhere")
    with pytest.warns(UserWarning, match="holds more than sets") as told:
        load_suite(tmp_path)
    assert [str(one.message) for one in told] == [
        f"{tmp_path} holds more than sets, and this is left out: far (a link to nothing), outliers.zip, "
        "validation.tar.gz.",
        f"{tmp_path / 'near'} holds more than sets, and this is left out: y.zip.",
    ]


def test_uppercase_endings_of_archives_count(tmp_path: Path) -> None:
    save_suite(tmp_path, outliers={"images": pictures(3)})
    (tmp_path / "outliers.npz").rename(tmp_path / "outliers.NPZ")
    outliers = load_suite(tmp_path).outliers
    assert outliers is not None and len(outliers) == 3


def test_wrong_image_folders_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name, pixels in zip("abcd", pictures(4), strict=True):
            save_png(tmp_path / part / name / "x.png", pixels)
    (tmp_path / "near").mkdir()
    with pytest.raises(ValueError, match=r"near must hold one \.npz file or one folder per set, but has none"):
        load_suite(tmp_path)
    (tmp_path / "near").rmdir()
    save_png(tmp_path / "train" / "d" / "y.png", pictures(1, side=9)[0])
    with pytest.raises(ValueError, match="must have one size, got 8 × 8 and 9 × 9: resize them first"):
        load_suite(tmp_path)
    (tmp_path / "train" / "d" / "y.png").unlink()
    save_png(tmp_path / "train" / "y.png", pictures(1)[0])
    with pytest.raises(ValueError, match=r"train must tell classes: .* one folder per class"):
        load_suite(tmp_path)
    (tmp_path / "train" / "y.png").unlink()
    np.savez(tmp_path / "train.npz", images=pictures())
    with pytest.raises(ValueError, match=r"must hold train\.npz or a folder train, but has both"):
        load_suite(tmp_path)


def test_images_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    save_png(tmp_path / "whole.png", pictures(1, side=32)[0])
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-200])
    (tmp_path / "text.png").write_text("hello")
    Image.fromarray(np.full((8, 8), 4000, dtype=np.int32)).save(tmp_path / "deep.tif")
    (tmp_path / "deep.tif").rename(tmp_path / "deep.png")
    for name, sentence in {"cut": "truncated", "text": "cannot identify", "deep": "more than 8 bits"}.items():
        with pytest.raises(ValueError, match=rf"{name}\.png cannot be used as an image: .*{sentence}"):
            read_images(tmp_path / f"{name}.png")


def test_a_channel_count_that_files_cannot_have_is_refused(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", pictures(1)[0])
    with pytest.raises(ValueError, match="1 or 3 channels, but 4 are asked for"):
        read_images(tmp_path, (4, 8, 8))
