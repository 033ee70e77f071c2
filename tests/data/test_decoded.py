"""Images that do not fit into memory: the same rows, decoded whenever they are asked for."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from oodles.data import Augment, Decoded, ImageSet, decoded, from_dataset, load_suite, read_images
from oodles.data.suite_check import check_suite

RANDOM = np.random.default_rng(0)


def picture_folder(folder: Path, rows: int = 12) -> Path:
    """Images of several sizes, half of them of class a."""
    for row in range(rows):
        path = folder / "ab"[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (8 + row, 9, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "IN_MEMORY", 100)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ImageSet, ImageSet]:
    """The same images in memory and decoded on demand."""
    folder = picture_folder(tmp_path)
    kept = read_images(folder, (3, 6, 6))
    monkeypatch.setattr(decoded, "IN_MEMORY", 100)
    return kept, read_images(folder, (3, 6, 6))


def test_rows_are_those_of_the_array(pair: tuple[ImageSet, ImageSet]) -> None:
    array, lazy = (images.images for images in pair)
    assert isinstance(array, np.ndarray) and isinstance(lazy, Decoded)
    assert (lazy.shape, lazy.dtype, lazy.ndim, len(lazy)) == (array.shape, array.dtype, 4, 12)
    assert lazy.nbytes == array.nbytes
    for rows in ([3, 1, 3], np.array([11, 0]), slice(2, 9, 3), slice(0), 5, np.int64(7), -1):
        assert np.array_equal(lazy[rows], array[rows])
    with pytest.raises(IndexError, match="row must be below 12, got 12"):
        lazy[12]


def test_some_rows_stay_on_demand(pair: tuple[ImageSet, ImageSet]) -> None:
    rows, labels = np.array([7, 2, 2]), np.array([1, 0, 0])
    kept, lazy = (
        ImageSet(x.images, x.labels, Augment(shift=1), 5, tuple("abcdefghijkl")).take(rows, labels) for x in pair
    )
    assert isinstance(kept.images, np.ndarray) and isinstance(lazy.images, Decoded)
    assert lazy.images.shape == (3, 3, 6, 6) and np.array_equal(lazy.images[:], pair[0].images[rows])
    for some in (kept, lazy):
        assert (some.labels.tolist(), some.names, some.augment, some.seed) == (
            [1, 0, 0],
            ("h", "c", "c"),
            Augment(1),
            5,
        )
    assert torch.equal(kept.__getitems__([(3, 1)])[0], lazy.__getitems__([(3, 1)])[0])
    assert lazy.fingerprint() != ImageSet(lazy.images.take(np.array([1, 0, 2])), labels[[1, 0, 2]]).fingerprint()


def test_batches_are_the_same_with_and_without_workers(pair: tuple[ImageSet, ImageSet]) -> None:
    kept, lazy = (ImageSet(x.images, x.labels, Augment(shift=1, flip=True), 5) for x in pair)
    indices = [(0, 3), (2, 3), 7]
    assert torch.equal(kept.__getitems__(indices)[0], lazy.__getitems__(indices)[0])
    assert torch.equal(next(iter(kept.loader(12)))[0], next(iter(lazy.loader(12)))[0])
    again = pickle.loads(pickle.dumps(lazy))
    assert torch.equal(again.__getitems__(indices)[0], lazy.__getitems__(indices)[0])


def test_the_fingerprint_notices_names_sizes_labels_and_shape(tmp_path: Path, nothing_fits: None) -> None:
    folder = picture_folder(tmp_path)

    def fingerprint(label: int = -1, side: int = 6) -> str:
        images = read_images(folder, (3, side, side))
        return ImageSet(images.images, np.full(len(images), label)).fingerprint()

    seen = [fingerprint(), fingerprint(label=0), fingerprint(side=5)]
    assert seen[0] == fingerprint()
    with (folder / "a" / "04.png").open("ab") as file:
        file.write(b"0")
    seen.append(fingerprint())
    (folder / "a" / "04.png").rename(folder / "a" / "05.png")
    seen.append(fingerprint())
    assert len(set(seen)) == 5


def test_the_fingerprint_of_an_array_is_that_of_its_bytes() -> None:
    x, y = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4), np.array([3])
    same = ImageSet(x.copy(), y.copy(), Augment(shift=1), 7).fingerprint()
    assert ImageSet(x, y).fingerprint() == same
    assert same != ImageSet(x, y + 1).fingerprint() and same != ImageSet(x[..., ::-1], y).fingerprint()


def suite_of_folders(folder: Path) -> Path:
    for part in ("train", "test"):
        picture_folder(folder / part)
    (folder / "suite.toml").write_text('train = "train"\ntest = "test"\ninput_shape = [3, 6, 6]\nvalidation = 4')
    return folder / "suite.toml"


def test_a_suite_of_them_is_the_suite_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = suite_of_folders(tmp_path)
    kept = load_suite(path)
    monkeypatch.setattr(decoded, "IN_MEMORY", 100)
    lazy = load_suite(path)
    for name, images in lazy.sets().items():
        other = kept.sets()[name]
        assert isinstance(images.images, Decoded) and images.names == other.names
        assert np.array_equal(images.images[:], other.images) and np.array_equal(images.labels, other.labels)
    assert lazy.mean == pytest.approx(kept.mean) and lazy.std == pytest.approx(kept.std)
    assert not check_suite(lazy).overlaps and "decoded on demand" in str(check_suite(lazy))


def test_mean_and_deviation_come_from_a_sample(
    tmp_path: Path, nothing_fits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodles.data.suite.ENOUGH", 3)
    suite = load_suite(suite_of_folders(tmp_path))
    pixels = suite.train.images[[0, 4, 7]] / 255  # of 8
    assert suite.mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert suite.std == pytest.approx(pixels.std((0, 2, 3)))


class Numbers(Dataset):
    """Row n is an image of brightness n, of class n modulo 3; counts how often it is asked."""

    def __init__(self, targets: list[int] | None):
        self.asked = 0
        if targets is not None:
            self.targets = targets

    def __len__(self) -> int:
        return 9

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        self.asked += 1
        return np.full((4, 4), row, np.uint8), row % 3


def test_large_data_sets_tell_labels_by_their_targets_where_these_agree(nothing_fits: None) -> None:
    known, none, other = (Numbers(targets) for targets in ([0, 1, 2] * 3, None, [1, 1, 1] * 3))
    for dataset in (known, none, other):
        images = from_dataset(dataset)
        assert isinstance(images.images, Decoded) and images.labels.tolist() == [0, 1, 2] * 3
        assert (dataset.asked < 9) == (dataset is known)
        assert images.images[[8, 2]][:, 0, 0, 0].tolist() == [8, 2]
    assert from_dataset(known).fingerprint() == from_dataset(known).fingerprint()


def test_another_type_of_pixels_is_refused_when_it_comes_up(nothing_fits: None) -> None:
    class Mixed(Numbers):
        def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
            image, label = super().__getitem__(row)
            return (image / 255 if row == 5 else image), label

    images = from_dataset(Mixed([0, 1, 2] * 3))
    assert images.images[4].max() == 4
    with pytest.raises(ValueError, match="images must all be uint8, but row 5 is float32"):
        images.images[5]
