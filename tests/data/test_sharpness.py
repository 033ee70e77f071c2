"""Figures by which sets can be told apart without any class: values, and what is told of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodles.data.image_files import Files
from oodles.data.sharpness import Apart, Measured, measure_files, measure_images, sharpness, spectrum_tail

RANDOM = np.random.default_rng(0)


def slow_sharpness(image: np.ndarray) -> float:
    grey = image.mean(0)
    height, width = grey.shape
    return float(
        np.mean(
            [
                abs(4 * grey[y, x] - grey[y - 1, x] - grey[y + 1, x] - grey[y, x - 1] - grey[y, x + 1])
                for y in range(1, height - 1)
                for x in range(1, width - 1)
            ]
        )
    )


def slow_tail(image: np.ndarray) -> float:
    grey = image.mean(0)
    height, width = grey.shape
    down, across = (np.sin(np.pi * np.arange(1, side + 1) / (side + 1)) ** 2 for side in (height, width))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(down, across))) ** 2
    high = 0.0
    for y in range(height):
        for x in range(width):
            fast = np.hypot(min(y, height - y) / height, min(x, width - x) / width) > 0.25
            high += power[y, x] if fast else 0
    return float(high / power.sum())


@pytest.mark.parametrize("sides", [(8, 8), (7, 5), (9, 12), (3, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_figures_are_those_of_their_definitions(sides: tuple[int, int], channels: int) -> None:
    images = RANDOM.random((4, channels, *sides))
    expected = [[slow(image) for image in images] for slow in (slow_sharpness, slow_tail)]
    given = torch.from_numpy(images.astype(np.float32))
    np.testing.assert_allclose(sharpness(given), expected[0], rtol=1e-5)
    np.testing.assert_allclose(spectrum_tail(given), expected[1], rtol=1e-4)


def test_a_flat_image_has_neither_and_a_chessboard_has_all() -> None:
    flat, board = torch.full((1, 1, 16, 16), 0.5), torch.from_numpy(np.indices((16, 16)).sum(0) % 2).float()[None, None]
    assert sharpness(flat).item() == spectrum_tail(flat).item() == 0
    assert sharpness(board).item() == 4 and spectrum_tail(board).item() > 0.99


def test_bytes_and_what_they_are_in_unit_range_measure_the_same() -> None:
    pixels = RANDOM.integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    one, other = measure_images(pixels), measure_images((pixels / np.float32(255)).astype(np.float32))
    assert list(one) == ["sharpness", "spectrum"]
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-5)


def test_vectors_and_images_without_an_inner_pixel_have_no_figures() -> None:
    assert measure_images(np.zeros((4, 9), np.float32)) == measure_images(np.zeros((4, 1, 2, 9), np.float32)) == {}


def test_so_many_rows_are_measured_spread_over_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodles.data.sharpness.ENOUGH", 3)
    pixels = RANDOM.random((9, 1, 4, 4), dtype=np.float32)
    assert measure_images(pixels)["sharpness"].tolist() == measure_images(pixels[[0, 4, 8]])["sharpness"].tolist()


def test_files_are_measured_by_their_headers_and_broken_ones_passed_over(tmp_path: Path) -> None:
    Image.fromarray(RANDOM.integers(0, 256, (10, 20, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(RANDOM.integers(0, 256, (10, 5), dtype=np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"none")
    figures = measure_files(Files(tmp_path, ("a.png", "b.png", "c.png", "gone.png")))
    assert figures["aspect"].tolist() == [2, 0.5]
    sizes = [(tmp_path / name).stat().st_size for name in ("a.png", "b.png")]
    assert figures["compression"].tolist() == [sizes[0] / 200, sizes[1] / 50]
    assert measure_files(Files(tmp_path, ("c.png",))) == {}


def measured(**sets: np.ndarray) -> Measured:
    return Measured({name: {"sharpness": values} for name, values in sets.items()})


MANY = np.arange(300.0)


def test_a_pair_is_told_by_the_share_of_pairs_in_which_one_is_higher() -> None:
    ((apart,),) = measured(a=np.array([1.0, 2, 3]), b=np.array([2.0, 0, 0, 0])).pairs()
    assert apart == Apart("a", "b", "sharpness", (3 * 3 + 1.5) / 12) and apart.certainty == apart.auroc
    assert Apart("b", "a", "sharpness", 0.2).certainty == 0.8


def test_a_planted_difference_is_told_in_words_and_chance_is_not() -> None:
    sharp = measured(test=MANY, near=MANY + 120, other=MANY + 1)
    assert sharp.in_words()[1:] == [
        "Sharpness alone tells test from near at .82.",
        "Sharpness alone tells near from other at .82.",
    ]
    assert [pair[0][:2] for pair in sharp.told()] == [("test", "near"), ("near", "other")]
    assert not measured(test=MANY[:4], near=MANY[:4] + 2).told(), "so few rows differ by chance"


def test_all_figures_of_a_pair_are_in_one_sentence_the_surest_first() -> None:
    pair = Measured(
        {"test": {"sharpness": MANY, "aspect": MANY}, "near": {"sharpness": MANY + 90, "aspect": MANY - 200}}
    )
    assert pair.in_words()[1] == "The aspect ratio alone tells test from near at .94, sharpness at .76."


def test_test_rows_speak_for_all_known_ones() -> None:
    sets = {"train": MANY, "validation": MANY, "test": MANY, "near": MANY + 200}
    assert [pair[0][:2] for pair in measured(**sets).told()] == [("test", "near")]
    del sets["test"]
    assert [pair[0][:2] for pair in measured(**sets).told()] == [("train", "near"), ("validation", "near")]
    assert [pair[0][:2] for pair in measured(train=MANY + 200, test=MANY).told()] == [("train", "test")]


def test_cells_show_medians_and_what_tells_a_set_from_the_reference() -> None:
    sets = measured(test=MANY, near=MANY + 300, empty=MANY)
    assert [sets.cells(name) for name in ("test", "near", "gone")] == [("150",), ("450 (1.00)",), ("",)]
    assert sets.as_dict()["medians"] == {
        "test": {"sharpness": 149.5},
        "near": {"sharpness": 449.5},
        "empty": {"sharpness": 149.5},
    }
    assert sets.as_dict()["apart"][0] == {"one": "test", "other": "near", "figure": "sharpness", "auroc": 0.0}
    assert Measured().names == () and Measured().told() == []
