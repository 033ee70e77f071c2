"""Images in .npy files that stay on the disk: the rows of the array, read in the file's order and known by content."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodles import pair
from oodles.data import Augment, Decoded, ImageSet, decoded, load_suite, mapped, read_images
from oodles.data.image_set import as_batch
from oodles.data.mapped import Mapped, read_npy
from oodles.detection.inputs import Expected, as_batches
from tests.contract.steps import is_one_sentence

RANDOM = np.random.default_rng(0)
POOL = RANDOM.integers(0, 256, (40, 3, 6, 6), dtype=np.uint8)
NONE = np.full(40, -1)


@pytest.fixture(autouse=True)
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "IN_MEMORY", 3000)
    mapped._content.cache_clear()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read as a whole, as they are."""
    seen: list[Path] = []
    hashed = mapped._hashed

    def noting(path: Path) -> str:
        seen.append(path)
        return hashed(path)

    monkeypatch.setattr(mapped, "_hashed", noting)
    return seen


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where files are read, in the order of time."""
    seen: list[int] = []
    opened = Path.open

    def noting(path: Path, *arguments: Any, **named: Any) -> Any:
        file = opened(path, *arguments, **named)
        return Noting(file, seen) if named.get("buffering") == 0 else file

    monkeypatch.setattr(Path, "open", noting)
    return seen


class Noting:
    """A file that notes where it is read."""

    def __init__(self, file: Any, seen: list[int]):
        self.file, self.seen = file, seen

    def __enter__(self) -> "Noting":
        return self

    def __exit__(self, *reason: object) -> None:
        self.file.close()

    def seek(self, place: int) -> None:
        self.seen.append(place)
        self.file.seek(place)

    def readinto(self, content: Any) -> int:
        return int(self.file.readinto(content))


def saved(folder: Path, images: np.ndarray = POOL, name: str = "pool.npy") -> Path:
    np.save(folder / name, images)
    return folder / name


def opened(path: Path) -> Any:
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("images", [POOL, np.moveaxis(POOL, 1, 3), POOL[:, 0], POOL[:, :2]], ids=lambda x: str(x.shape))
def test_a_large_file_gives_the_rows_of_a_small_one(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, images)
    monkeypatch.setattr(decoded, "IN_MEMORY", 1000)
    large = read_images(path).images
    monkeypatch.setattr(decoded, "IN_MEMORY", 2**30)
    small = read_images(path).images
    assert isinstance(large, Decoded) and type(small) is np.ndarray
    assert (large.shape, large.dtype) == (small.shape, small.dtype) and len(small) == 40
    for rows in ([7, 3, 7, 39, 0], slice(None), slice(30, 2, -3), 5, -1, []):
        np.testing.assert_array_equal(large[rows], small[rows if rows != [] else slice(0)])
    with pytest.raises(IndexError, match=r"row must be below 40, got 40\."):
        large[[3, 40]]


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 6, 6)])
def test_other_sizes_are_made_when_rows_are_read(
    shape: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path)
    small = read_images(path, shape).images[:]
    monkeypatch.setattr(decoded, "IN_MEMORY", 100)
    large = read_images(path, shape).images
    assert isinstance(large, Decoded) and small.shape == (40, *shape)
    np.testing.assert_array_equal(large[[9, 2]], small[[9, 2]])


def test_only_what_is_larger_than_memory_stays_in_its_file(tmp_path: Path) -> None:
    assert POOL[:27].nbytes < 3000 < POOL[:28].nbytes
    assert isinstance(read_npy(saved(tmp_path, POOL[:27])).images, np.ndarray)
    assert isinstance(read_npy(saved(tmp_path, POOL[:28])).images, Mapped)
    assert isinstance(read_npy(saved(tmp_path, POOL[:7] / np.float32(255))).images, Mapped)  # four bytes a number


VIEWS = {
    "all": lambda x: x,
    "every third": lambda x: x[4::3],
    "backwards": lambda x: x[::-1],
    "mirrored": lambda x: x[:, :, :, ::-1],
    "upside down, backwards": lambda x: x[::-2, ::-1, ::-1],
    "cropped": lambda x: x[2:, :, 1:5, 2:6],
    "transposed": lambda x: x.transpose(0, 1, 3, 2),
    "one": lambda x: x[7:8],
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_view_of_a_file_is_never_all_in_memory(view: Any, dtype: Any, tmp_path: Path) -> None:
    images = POOL if dtype == np.uint8 else (POOL / 255).astype(dtype)
    expected, given = view(images), view(opened(saved(tmp_path, images)))
    rows = ImageSet(given, NONE[: len(given)], Augment(shift=1, flip=True), 3)
    assert isinstance(rows.images, Decoded) and not rows.can_stay
    kept = ImageSet(expected.astype(np.uint8 if dtype == np.uint8 else np.float32), NONE[: len(given)], rows.augment, 3)
    indices = [(0, len(expected) - 1), (2, 0), len(expected) // 2]
    assert torch.equal(rows.__getitems__(indices)[0], kept.__getitems__(indices)[0])
    assert len(pickle.dumps(rows.images)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(rows)).images[:], kept.images)


def test_what_is_no_view_of_a_file_stays_an_array(tmp_path: Path) -> None:
    path = saved(tmp_path)
    changed = np.load(path, mmap_mode="c")
    changed[0] = 9  # in memory, and not in the file
    for images in (opened(path).copy(), opened(path)[[3, 1]], np.asarray(opened(path)), changed):
        assert ImageSet(images, NONE[: len(images)]).images is images


def test_rows_are_read_in_the_order_of_the_file_and_given_back_in_that_of_the_batch(
    tmp_path: Path, offsets: list[int]
) -> None:
    pool = ImageSet(opened(saved(tmp_path)), NONE)
    offsets.clear()
    images, _ = pool.__getitems__([31, 4, 17, 4, 0])
    assert torch.equal(images, torch.from_numpy(POOL[[31, 4, 17, 4, 0]]) / 255)
    assert [(offset - 128) / POOL[0].nbytes for offset in offsets] == [0, 4, 4, 17, 31]


def test_a_pool_is_shuffled_beside_known_rows(tmp_path: Path) -> None:
    pool = ImageSet(opened(saved(tmp_path)), NONE)
    known = [(torch.zeros(2, 3, 6, 6), torch.zeros(2, dtype=torch.int64))] * 4
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(pool, 10, shuffle=True, collate_fn=as_batch, num_workers=1)
    outliers = torch.cat([others for _, (others, _) in pair(known, loader)])
    assert sorted(map(bytes, (outliers * 255).round().byte().numpy())) == sorted(map(bytes, POOL))


def suite_file(folder: Path, outliers: str) -> Path:
    for name in ("train", "test"):
        images = np.random.default_rng(len(name)).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.arange(20) % 2)
    np.savez(folder / "more.npz", images=np.moveaxis(POOL[:9], 1, 3) // 2)
    path = folder / "mine.toml"
    path.write_text(f'train = "train.npz"\ntest = "test.npz"\n{outliers}\n[near]\npool = "pool.npy"\n')
    return path


@pytest.mark.parametrize(
    "outliers",
    [
        'outliers = "pool.npy"',
        'outliers = "pool.npy"\nvalidation_outliers = 0.2',
        'outliers = { path = "pool.npy", rows = 30 }\nvalidation_outliers = { path = "pool.npy", rows = 33 }',
        'outliers = ["more.npz", { path = "pool.npy", share = 0.5 }]\nvalidation_outliers = 0.3',
    ],
)
def test_a_suite_of_a_pool_is_the_suite_in_memory(
    outliers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    path = suite_file(tmp_path, outliers)
    large = load_suite(path)
    monkeypatch.setattr(decoded, "IN_MEMORY", 2**30)
    small = load_suite(path)
    assert large.outliers is not None and small.outliers is not None and len(small.outliers) > 20
    order = np.random.default_rng(1).permutation(len(small.outliers))
    for name in small.sets():
        rows, others = large.sets()[name], small.sets()[name]
        assert rows.names == others.names
        assert isinstance(rows.images, Decoded) == (len(rows) > 20)
        np.testing.assert_array_equal(rows.images[:], others.images)
    epochs = order % 3
    assert torch.equal(large.outliers.batch(epochs, order)[0], small.outliers.batch(epochs, order)[0])


def test_a_detector_reads_a_view_of_a_file_in_batches(tmp_path: Path) -> None:
    given = opened(saved(tmp_path, np.moveaxis(POOL, 1, 3)))
    batches, names = as_batches(given, Expected((3, 6, 6), True), None)
    assert torch.equal(torch.cat(list(batches)), torch.from_numpy(POOL) / 255) and list(names) == list(
        map(str, range(40))
    )


def fingerprint(path: Path) -> str:
    mapped._content.cache_clear()  # as in another process
    return read_images(path).fingerprint()


def later(path: Path) -> None:
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))


def changed_row(path: Path, row: int) -> None:
    images = np.load(path, mmap_mode="r+")
    images[row, 0, 0, 0] ^= 1
    images.flush()
    later(path)


def test_the_whole_is_read_once_and_again_when_the_file_was_written(
    tmp_path: Path, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "LOOKED_AT", 3)
    path = saved(tmp_path)
    first = fingerprint(path)
    assert passes == [path] and fingerprint(path) == first and passes == [path]
    later(path)
    assert fingerprint(path) == first and len(passes) == 2  # the same content, at another time
    changed_row(path, 5)  # no row that is looked at
    second = fingerprint(path)
    assert second != first and len(passes) == 3 and fingerprint(path) == second and len(passes) == 3


def test_a_row_that_is_looked_at_tells_a_change_by_itself(tmp_path: Path, passes: list[Path]) -> None:
    path = saved(tmp_path)
    before, first = path.stat(), fingerprint(path)
    changed_row(path, 0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprint(path) != first and len(passes) == 2


def test_a_copy_of_a_pool_is_the_same_data(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copyfile(path, tmp_path / "other" / "copied.npy"))
    later(copy)
    assert fingerprint(copy) == fingerprint(path)
    rows = read_images(path)
    assert rows.evenly(5).fingerprint() != rows.fingerprint()
    assert replace(rows, labels=NONE + 1).fingerprint() != rows.fingerprint()


def test_rows_that_are_taken_have_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    saved(tmp_path)
    taken = [
        load_suite(suite_file(tmp_path, f'outliers = {{ path = "pool.npy", rows = {rows} }}')).outliers
        for rows in (30, 30, 31)
    ]
    one, same, other = (rows.fingerprint() for rows in taken if rows is not None)
    assert one == same != other
    listed = read_npy(tmp_path / "pool.npy").images
    assert isinstance(listed, Mapped)
    assert len({next(listed.marks(np.array(rows))) for rows in ([0, 1, 2], [0, 2, 1], [0, 1, 3])}) == 3


def test_the_pieces_of_a_file_are_hashed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "PIECE", 256)
    monkeypatch.setattr(mapped, "READ", 128)
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 5 + b"more")
    one = mapped._hashed(path)
    path.write_bytes(bytes(range(256)) * 5 + b"mere")
    other = mapped._hashed(path)
    path.write_bytes(bytes(range(255, -1, -1)) * 5 + b"more")
    assert len({one, other, mapped._hashed(path)}) == 3


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Folders in which nothing can be written."""
    folders: list[Path] = []
    write = mapped.write_text

    def refusing(path: Path, text: str) -> None:
        if path.parent in folders:
            raise PermissionError("it is read-only")
        write(path, text)

    monkeypatch.setattr(mapped, "write_text", refusing)
    yield folders


def test_what_cannot_be_kept_beside_a_pool_is_kept_in_the_cache_or_not_at_all(
    tmp_path: Path, unwritable: list[Path], passes: list[Path]
) -> None:
    path = saved(tmp_path)
    unwritable.append(tmp_path)
    first = fingerprint(path)
    assert fingerprint(path) == first and len(passes) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["pool.npy"]
    later(path)
    unwritable.append(mapped.cache_folder())
    assert fingerprint(path) == first == fingerprint(path) and len(passes) == 3
    later(path)
    unwritable.clear()
    assert fingerprint(path) == first and (tmp_path / ".pool.npy.sha256").is_file()
    for damaged in (b"", b"one", b"\xff\xfe", b"a b c"):
        (tmp_path / ".pool.npy.sha256").write_bytes(damaged)
        assert fingerprint(path) == first
    assert len(passes) == 8


SHORT = "PATH cannot be read as an .npy array: mmap length is greater than file size."


@pytest.mark.parametrize(
    ("images", "cut", "sentence"),
    [
        (
            POOL.astype(np.int64),
            0,
            "images in PATH, at 0, must be uint8, uint16 or floating point in [0, 1]",
        ),
        (POOL.astype(np.float32), 0, "floating-point images in PATH, at 0, must be in [0, 1], got "),
        (POOL > 9, 0, "PATH must hold rows of numbers, got bool of shape (40, 3, 6, 6)."),
        (
            POOL[None],
            0,
            "images in PATH must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with",
        ),
        (
            POOL.reshape(-1),
            0,
            "images in PATH must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with",
        ),
        (POOL[:0], 0, "PATH must hold rows of numbers, got uint8 of shape (0, 3, 6, 6)."),
        (POOL, 1, SHORT),
        (POOL, len(POOL) * 108, SHORT),
        (POOL, len(POOL) * 108 + 128, "PATH cannot be read as an .npy array: "),
        (np.asfortranarray(POOL), 0, "images in PATH must lie one after the other to be read one by one, as np.save "),
    ],
)
def test_what_is_no_pool_is_refused(images: np.ndarray, cut: int, sentence: str, tmp_path: Path) -> None:
    path = saved(tmp_path, images)
    os.truncate(path, path.stat().st_size - cut)
    for read in (read_images, lambda path: load_suite(suite_file(path.parent, 'outliers = "pool.npy"'))):
        with pytest.raises(ValueError) as error:
            read(path)
        message = str(error.value).replace(str(path), "PATH")
        assert message.startswith(sentence) and is_one_sentence(message)


def test_what_is_wrong_further_on_is_told_when_it_is_read(tmp_path: Path) -> None:
    images = (POOL / 255).astype(np.float32)
    images[30, 1, 2, 3] = np.nan
    pool = read_images(saved(tmp_path, images))
    assert pool.images[[29, 31]].shape == (2, 3, 6, 6)
    with pytest.raises(ValueError, match=r"pool\.npy, at 30, holds NaN in 1 of 1 images"):
        pool.images[[31, 30]]
    os.truncate(tmp_path / "pool.npy", 128 + 21 * images[0].nbytes + 7)
    assert np.array_equal(pool.images[20], images[20])
    with pytest.raises(ValueError, match=r"pool\.npy was cut off while it was read, before the end of row 21\."):
        pool.images[[25, 21, 3]]


MEMORY = """
import resource, sys
import numpy as np
from oodles.data import load_suite, mapped

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

mapped._hashed = lambda path: 64 * "0"
few = load_suite(sys.argv[1]).outliers
few.fingerprint()
few.batch(np.zeros(256, np.int64), np.arange(256) % len(few))
before = most()
pool = load_suite(sys.argv[2]).outliers
pool.fingerprint()
for start in range(20):
    assert not pool.batch(np.full(256, -1), np.arange(start, 10**6, 4000)[:250].repeat(2)[:256])[0].any()
print(len(pool), most() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="It asks the system how much memory a process has had.")
def test_a_million_images_take_little_memory(tmp_path: Path) -> None:
    """A sparse file, which takes no room on the disk; what is left are names and labels, and the order of a pass."""
    np.lib.format.open_memmap(tmp_path / "pool.npy", mode="w+", dtype=np.uint8, shape=(10**6, 32, 32, 3))
    images = RANDOM.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    for name in ("train", "test"):
        np.savez(tmp_path / f"{name}.npz", images=images + len(name), labels=np.arange(20) % 2)
    for name in ("train.npz", "pool.npy"):
        text = f'train = "train.npz"\ntest = "test.npz"\nvalidation = 4\noutliers = {{ path = "{name}"ROWS }}'
        (tmp_path / f"{name}.toml").write_text(text.replace("ROWS", "" if name == "pool.npy" else ", rows = 5"))
    paths = [str(tmp_path / f"{name}.toml") for name in ("train.npz", "pool.npy")]
    ran = subprocess.run([sys.executable, "-c", MEMORY, *paths], check=True, capture_output=True, text=True)
    rows, more = map(int, ran.stdout.split())
    assert rows == 10**6 and more < 300 * 2**20
