"""Decoded images that are kept on disk: the same pixels and fingerprints, decoded once, and anew after a change."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodles.data import Suite, decoded, image_files, load_suite
from tests.data.test_decoded import picture_folder


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded, as they are."""
    seen: list[str] = []
    fitted = image_files.Files.fitted

    def noting(self: image_files.Files, row: int, fit: Any) -> Any:
        seen.append(self.names[row])
        return fitted(self, row, fit)

    monkeypatch.setattr(image_files.Files, "fitted", noting)
    return seen


def write_suite(folder: Path, more: str = 'cache = "kept"') -> Path:
    for name in ("train", "test"):
        if not (folder / name).exists():
            picture_folder(folder / name, 30)
    path = folder / "mine.toml"
    path.write_text(f'train = "train"\ntest = "test"\ninput_shape = [3, 6, 6]\nvalidation = 0.2\n{more}\n')
    return path


def same(one: Suite, other: Suite) -> bool:
    return all(
        np.array_equal(one.sets()[name].images[:], other.sets()[name].images[:])
        and one.sets()[name].fingerprint() == other.sets()[name].fingerprint()
        for name in one.sets()
    )


@pytest.mark.parametrize("fits", [True, False])
def test_files_are_decoded_once(
    fits: bool, tmp_path: Path, decodings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fits:
        monkeypatch.setattr(decoded, "IN_MEMORY", 100)
    plain = load_suite(write_suite(tmp_path, ""))
    path = write_suite(tmp_path)
    decodings.clear()
    first = load_suite(path)
    assert len(decodings) == 60
    again = load_suite(path)
    assert same(plain, first)
    decodings.clear()
    assert same(first, again) and decodings == []
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_another_file_or_shape_is_decoded_anew(tmp_path: Path, decodings: list[str]) -> None:
    path = write_suite(tmp_path)
    load_suite(path)
    decodings.clear()
    os.utime(tmp_path / "train" / "a" / "00.png", ns=(0, 0))  # of train or of validation
    one, other = tmp_path / "test" / "a" / "00.png", tmp_path / "test" / "a" / "02.png"
    shutil.copyfile(other, one)
    suite = load_suite(path)
    assert len(decodings) in (30 + 24, 30 + 6) and np.array_equal(suite.test.images[0], suite.test.images[1])
    decodings.clear()
    load_suite(write_suite(tmp_path, 'cache = "kept"\nresize = 7'))
    assert len(decodings) == 60


def test_what_is_damaged_is_decoded_anew(tmp_path: Path, decodings: list[str]) -> None:
    path = write_suite(tmp_path)
    suite = load_suite(path)
    for damage in (lambda file: file.write_bytes(file.read_bytes()[:-1]), lambda file: np.save(file, np.zeros(3))):
        for file in (tmp_path / "kept").iterdir():
            damage(file)
        decodings.clear()
        assert same(suite, load_suite(path)) and len(decodings) == 60


def test_arrays_are_not_kept(tmp_path: Path) -> None:
    images = np.zeros((20, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(20) % 2)
    np.savez(tmp_path / "test.npz", images=images + 1, labels=np.arange(20) % 2)
    path = tmp_path / "mine.toml"
    path.write_text('train = "train.npz"\ntest = "test.npz"\ncache = "kept"\n')
    load_suite(path)
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    path = write_suite(tmp_path, 'cache = "mine.toml/kept"')
    with pytest.raises(OSError, match=r"cannot be written|mine\.toml"):
        load_suite(path)
    with pytest.raises(ValueError, match=r"cache in .* must be text, got 3"):
        load_suite(write_suite(tmp_path, "cache = 3"))
