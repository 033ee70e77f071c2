"""Generated pictures, the cache that keeps them, and folders of one's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodles.data import mixing_pictures as module
from oodles.data.mixing_pictures import MixingPictures, generated_pictures, kept_pictures, mixing_pictures

SHAPES = [(1, 8, 8), (3, 20, 32), (2, 17, 9), (5, 40, 140)]


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_and_every_picture_shows_something(shape: tuple[int, int, int]) -> None:
    pictures = generated_pictures(shape, 16, seed=1)
    assert pictures.shape == (16, *shape) and pictures.dtype == np.uint8
    assert pictures.std((1, 2, 3)).min() > 1, "a picture of one colour"
    assert 60 < pictures.mean() < 190
    assert len({picture.tobytes() for picture in pictures}) == 16


def test_the_seed_alone_decides() -> None:
    first, again, other = (generated_pictures((3, 12, 12), 24, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_pictures_made_in_several_goes_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 12 * 12 * module.MAPS * 2)  # two pictures at a time
    pictures = generated_pictures((1, 12, 12), 41)
    assert pictures.std((1, 2, 3)).min() > 1 and len({picture.tobytes() for picture in pictures}) == 41


def test_channels_differ_and_grey_pictures_have_one() -> None:
    pictures = generated_pictures((3, 16, 16), 16).astype(float)
    assert (np.abs(pictures[:, 0] - pictures[:, 2]).mean((1, 2)) > 1).all()


def test_pictures_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = kept_pictures((1, 8, 8), 16)
    (file,) = (tmp_path / "cache" / "oodles").iterdir()
    assert file.name == "mixing-pictures-1-1x8x8-16-0.npz"
    monkeypatch.setattr(module, "generated_pictures", lambda *_: pytest.fail("made again"))
    assert np.array_equal(kept_pictures((1, 8, 8), 16), made)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and no more"])
def test_a_damaged_file_is_made_again(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = kept_pictures((1, 8, 8), 8)
    (file,) = (tmp_path / "oodles").iterdir()
    whole = file.read_bytes()
    for broken in (content, whole[:-30], whole[:200]):
        file.write_bytes(broken)
        assert np.array_equal(kept_pictures((1, 8, 8), 8), made)
        assert file.read_bytes() == whole and list(file.parent.iterdir()) == [file]


def test_a_file_of_other_pictures_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = kept_pictures((1, 8, 8), 8)
    (file,) = (tmp_path / "oodles").iterdir()
    for wrong in ({"pictures": made[:4]}, {"pictures": made.astype(float)}, {"others": made}):
        np.savez(file, **wrong)
        assert np.array_equal(kept_pictures((1, 8, 8), 8), made)


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "oodles").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_pictures((1, 8, 8), 8).shape == (8, 1, 8, 8)


def test_rows_in_the_unit_range() -> None:
    pixels = np.array([[[[0, 255]]], [[[51, 102]]]], dtype=np.uint8)
    rows = MixingPictures(pixels).rows(np.array([1, 0, 1]), torch.zeros(1, dtype=torch.float64))
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows[:, 0, 0], torch.tensor([[0.2, 0.4], [0.0, 1.0], [0.2, 0.4]]).double())
    floating = MixingPictures(pixels.astype(np.float32) / 255).rows(np.array([1]), torch.zeros(1))
    torch.testing.assert_close(floating[0, 0, 0], torch.tensor([0.2, 0.4]))


def test_a_folder_of_images_of_other_sizes(tmp_path: Path) -> None:
    for number, colour in enumerate(["red", "lime"]):
        Image.new("RGB", (20 + number, 30), colour).save(tmp_path / f"{number}.png")
    pictures = mixing_pictures(str(tmp_path), (3, 8, 10))
    assert len(pictures) == 2
    rows = pictures.rows(np.array([0, 1]), torch.zeros(1))
    assert rows.shape == (2, 3, 8, 10)
    torch.testing.assert_close(rows[:, :, 4, 4], torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold images"):
        mixing_pictures(str(tmp_path / "empty"), (3, 8, 10))


def test_large_pictures_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    monkeypatch.setattr(module, "kept_pictures", lambda shape, count: counts.append(count) or np.zeros((1, *shape)))
    for side in (32, 224, 10_000):
        mixing_pictures.__wrapped__("", (3, side, side))
    assert counts == [1000, 445, 1]
