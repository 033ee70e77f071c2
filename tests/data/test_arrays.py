"""What an archive or a gzipped file unpacks to is known, and limited, before memory is taken."""

import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from oodles.data import arrays, read_images

ROWS = 64 * 2**10


def archive(path: Path, shape: tuple[int, ...], content: bytes = b"", **members: np.ndarray) -> Path:
    """An archive whose images have a header of this shape, in bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", header.getvalue() + content)
        for name, array in members.items():
            saved = io.BytesIO()
            np.save(saved, array)
            file.writestr(f"{name}.npy", saved.getvalue())
    return path


def peak_while_refused(path: Path, sentence: str) -> int:
    """Return the most bytes that were taken until a file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=sentence) as refused:
            read_images(path)
        assert str(path) in str(refused.value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "UNPACKED", 2**20)


@pytest.mark.usefixtures("small_limit")
def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "bomb.npz", (ROWS, 16, 16), bytes(ROWS * 256))
    size = path.stat().st_size
    assert arrays.RATIO * size < 2**20
    sentence = rf"its {size:,} bytes unpack to 16,777,344, and at most 1,048,576 are taken: set OODLES_MAX_UNPACKED to"
    assert peak_while_refused(path, sentence) < 2**20
    monkeypatch.setenv("OODLES_MAX_UNPACKED", str(2**25))
    assert len(read_images(path)) == ROWS
    monkeypatch.setenv("OODLES_MAX_UNPACKED", "much")
    peak_while_refused(path, "OODLES_MAX_UNPACKED must be a whole number of bytes, got 'much'")


@pytest.mark.usefixtures("small_limit")
def test_labels_and_names_count_as_well_and_other_arrays_do_not(tmp_path: Path) -> None:
    images = {"shape": (1, 2, 2), "content": b"1234"}
    for name, bomb in {"labels": np.zeros(2**18), "classes": np.zeros(2**10, "<U1000")}.items():
        path = archive(tmp_path / f"{name}.npz", **images, **{name: bomb})
        assert peak_while_refused(path, r"unpack to .*, and at most 1,048,576 are taken") < 2**20
    assert len(read_images(archive(tmp_path / "other.npz", **images, other=np.zeros(2**18)))) == 1


@pytest.mark.usefixtures("small_limit")
def test_what_hardly_shrinks_is_read_whatever_its_size(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 16, (2**13, 16, 16), dtype=np.uint8)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", images=images)
        assert np.array_equal(read_images(tmp_path / "a.npz").images[:, 0], images)


@pytest.mark.parametrize("shape", [(2**40, 2**10, 2**10), (2**62, 2**62, 2**62), (10**9, 1, 1), (3, 1, 1)])
def test_a_header_that_announces_more_or_less_than_there_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = archive(tmp_path / "a.npz", shape, bytes(100))
    assert (
        peak_while_refused(path, "a.npz cannot be read as .npz arrays: images should go on for .* bytes and has 100")
        < 2**20
    )


def test_object_arrays_stay_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array([{}, None]), allow_pickle=True)
    peak_while_refused(tmp_path / "a.npz", "Object arrays cannot be loaded")


@pytest.mark.usefixtures("small_limit")
def test_a_gzipped_file_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path: Path) -> None:
    announced = struct.pack(">HBB3I", 0, 8, 3, ROWS, 16, 16)
    (tmp_path / "x-ubyte.gz").write_bytes(gzip.compress(announced + bytes(ROWS * 256)))
    assert peak_while_refused(tmp_path / "x-ubyte.gz", r"unpack to 16,777,216, and at most 1,048,576") < 2**20
    (tmp_path / "y-ubyte").write_bytes(announced + bytes(100))
    assert peak_while_refused(tmp_path / "y-ubyte", "should go on for 16777216 bytes and ends after 100") < 2**20
