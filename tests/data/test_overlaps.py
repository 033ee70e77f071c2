"""Images in two sets: training warns of them, once, by sets and numbers."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodles.data import Decoded, ImageSet, Suite
from oodles.data.datasets import Kept
from oodles.data.overlaps import by_content, warn_of_overlaps
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from tests.data.test_suite_check import copied, suite


def told(one: Suite) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_overlaps(one)
    return [str(warning.message) for warning in caught]


def test_the_first_row_of_every_content_is_known() -> None:
    images = np.array([3, 1, 3, 2, 1], np.uint8).reshape(5, 1, 1, 1)
    assert sorted(by_content(images).values()) == [0, 1, 3]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_bytes_and_the_same_in_floating_point_are_one_content(kind: type) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)
    floating = (images / 255).astype(kind)
    assert by_content(images) == by_content(floating)
    between = ((images + np.float64(0.5)) / 256).astype(kind)
    assert not set(by_content(images)) & set(by_content(between)) and len(by_content(between)) == 64
    assert set(by_content(between)) == set(by_content(between.astype(np.float32)))


def test_clean_sets_are_no_reason_to_warn() -> None:
    assert told(suite()) == []


def test_what_is_trained_on_and_tested_is_told_in_one_sentence() -> None:
    one = copied(copied(suite(), "outliers", "far:y", [7, 6, 5]), "train", "test", [4])
    assert told(one) == [
        "mine has the same images in train and test (1), outliers and far:y (3): what is measured on these says "
        "nothing of new ones, and oodles suite check names them."
    ]


@pytest.mark.parametrize(
    ("source", "target", "pair"),
    [
        ("train", "outliers", "train and outliers"),
        ("train", "validation", "train and validation"),
        ("outliers", "test", "test and outliers"),
        ("outliers", "validation-outliers", "outliers and validation-outliers"),
        ("outliers", "near:x", "outliers and near:x"),
        ("train", "far:y", "train and far:y"),
    ],
)
def test_every_set_is_held_against_what_is_trained_on(source: str, target: str, pair: str) -> None:
    (sentence,) = told(copied(suite(), source, target, [0, 1]))
    assert sentence.startswith(f"mine has the same images in {pair} (2): what")


def test_sets_that_nothing_learns_from_may_share_images() -> None:
    assert told(copied(suite(), "near:x", "far:y", [0, 1])) == []


def test_sets_on_the_disk_are_not_decoded() -> None:
    class Never(Kept):
        def __getitem__(self, row):  # type: ignore[no-untyped-def]
            raise AssertionError("it was decoded")

    one = copied(suite(), "train", "test", [0])
    far = ImageSet(Decoded(Never(), (9, 3, 4, 4), np.dtype(np.uint8)), np.full(9, -1))
    assert len(told(replace(one, far={"y": far}))) == 1


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_training_warns_and_goes_on(tmp_path: Path) -> None:
    def images(rows: int, labels: object = None) -> ImageSet:
        pixels = np.random.default_rng(rows).integers(0, 256, (rows, 1, 8, 8), dtype=np.uint8)
        return ImageSet(pixels, np.full(rows, -1) if labels is None else np.array(labels))

    one = Suite(
        "mine", images(4, [0, 1, 0, 1]), images(2, [0, 1]), images(3, [0, 1, 1]), ("a", "b"), outliers=images(5)
    )
    one = replace(one, far={"y": one.sets()["outliers"]})
    with pytest.warns(UserWarning, match=r"mine has the same images in outliers and far:y \(5\): what"):
        run = train(Recipe(epochs=1, batch_size=2), one, folder=tmp_path / "run", device="cpu", progress=False)
    assert run.status == "finished"
