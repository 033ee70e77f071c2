"""Mean and deviation of the training images, and the memory that measuring them takes."""

import tracemalloc

import numpy as np
import pytest

from oodles.data import Decoded, ImageSet, Suite
from oodles.data.datasets import Kept
from oodles.data.suite import BLOCK, ENOUGH, _statistics

RANDOM = np.random.default_rng(0)


def measured(images: object) -> tuple[np.ndarray, np.ndarray]:
    mean, std = _statistics(ImageSet(images, np.zeros(len(images), np.int64)))  # type: ignore[arg-type]
    return np.array(mean), np.array(std)


@pytest.mark.parametrize("low", [0, 254])
@pytest.mark.parametrize("shape", [(700, 3, 40, 40), (3, 1, 1, 1), (2, 3, 700, 600), (1, 2, 5, 7)])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_mean_and_deviation_are_those_of_float64(shape: tuple[int, int, int, int], low: int, kind: str) -> None:
    images = RANDOM.integers(low, 256, shape, dtype=np.uint8)
    wide = images.astype(np.float64) / 255
    if kind == "floats":
        images = (images / 255).astype(np.float32)
        wide = images.astype(np.float64)
    mean, std = measured(images)
    assert np.abs(mean / wide.mean((0, 2, 3)) - 1).max() < 1e-12
    expected = wide.std((0, 2, 3))
    tolerance = 1e-12 if kind == "bytes" else 1e-9  # of floats the squares are added up
    assert np.abs(std / np.where(expected > 1e-6, expected, 1) - 1).max() < tolerance


def test_a_channel_that_never_changes_has_deviation_one() -> None:
    images = np.full((50, 2, 3, 3), 51, np.uint8)
    images[0, 1, 0, 0] = 52
    mean, std = measured(images)
    assert mean[0] == 0.2 and std[0] == 1.0 and std[1] == pytest.approx(np.sqrt(1 / 450 - 1 / 450**2) / 255, rel=1e-12)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("shape", [(8 * BLOCK // 768, 3, 16, 16), (8, 1, 1024, 1024)])
def test_measuring_takes_memory_for_a_block(shape: tuple[int, ...], floats: bool) -> None:
    images = np.zeros(shape, np.float32 if floats else np.uint8)
    tracemalloc.start()
    measured(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (18 if floats else 3) * BLOCK
    assert images.nbytes > 7 * BLOCK


def test_of_images_on_the_disk_enough_are_measured() -> None:
    images = RANDOM.integers(0, 256, (ENOUGH + 1, 1, 1, 1), dtype=np.uint8)
    listed = Decoded(Kept(np.moveaxis(image, 0, 2) for image in images), images.shape, images.dtype)
    mean, _ = measured(listed)
    rows = np.unique(np.linspace(0, ENOUGH, ENOUGH).round().astype(int))
    assert len(rows) == ENOUGH and mean[0] == pytest.approx((images[rows] / 255).mean(), rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_images_that_are_no_numbers_are_refused(value: float) -> None:
    images = ImageSet(np.full((2, 1, 2, 2), 0.5), np.array([0, 1]))
    train = ImageSet(np.full((2, 1, 2, 2), value), np.array([0, 1]))
    with pytest.raises(ValueError, match="rows of train must be numbers, but some are NaN or infinite"):
        Suite("mine", train, images, images, ("a", "b"))
