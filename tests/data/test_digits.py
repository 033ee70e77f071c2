"""The embedded suite: what the seed draws, that sets are disjoint, and what they show."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from oodles.data import ImageSet, Suite, load_suite
from oodles.data.digits import FONTS, LETTERS

HANDWRITTEN = {image.tobytes(): int(label) for image, label in zip(*load_digits(return_X_y=True), strict=True)}


def digit_of(image: np.ndarray) -> int | None:
    """The handwritten digit that an image is, bit by bit."""
    return HANDWRITTEN.get((image.astype(np.float64) * 16).tobytes())


def sets(suite: Suite) -> dict[str, ImageSet]:
    assert suite.outliers is not None
    own = {"train": suite.train, "validation": suite.validation, "test": suite.test, "outliers": suite.outliers}
    return {**own, **suite.near, **suite.far}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_six_digits_are_known_two_near_two_outliers(seed: int) -> None:
    suite = load_suite("digits", seed)
    known = {int(name) for name in suite.classes}
    near = {digit_of(image) for image in suite.near["digits"].images}
    outliers = {digit_of(image) for image in sets(suite)["outliers"].images} - {None}
    assert (len(known), len(near), len(outliers)) == (6, 2, 2)
    assert known | near | outliers == set(range(10))
    assert list(suite.classes) == sorted(suite.classes)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_labels_are_the_digits_of_the_classes(part: str) -> None:
    suite = load_suite("digits", 4)
    data = sets(suite)[part]
    assert [suite.classes[label] for label in data.labels] == [str(digit_of(image)) for image in data.images]
    assert data.labels.dtype == np.int64


def test_no_image_is_twice_anywhere() -> None:
    for seed in range(3):
        images = [image.tobytes() for data in sets(load_suite("digits", seed)).values() for image in data.images]
        assert len(set(images)) == len(images)


def test_all_known_digits_are_used_in_the_same_shares() -> None:
    suite = load_suite("digits", 0)
    for label, name in enumerate(suite.classes):
        counts = [int((data.labels == label).sum()) for data in (suite.train, suite.validation, suite.test)]
        assert sum(counts) == sum(digit == int(name) for digit in HANDWRITTEN.values())
        assert np.allclose(np.array(counts) / sum(counts), [0.15, 0.35, 0.5], atol=0.01)


def test_outliers_hold_shuffled_training_digits_and_patches() -> None:
    suite = load_suite("digits", 0)
    outliers = sets(suite)["outliers"].images
    strange = [image for image in outliers if digit_of(image) is None]
    levels = {np.sort(image, axis=None).tobytes() for image in suite.train.images}
    shuffled = [image for image in strange if np.sort(image, axis=None).tobytes() in levels]
    assert len(shuffled) == 360 and len(strange) == 720


def test_everything_has_the_shape_and_the_levels_of_the_digits() -> None:
    suite = load_suite("digits", 0)
    assert suite.input_shape == (1, 8, 8)
    for data in sets(suite).values():
        assert data.images.shape[1:] == (1, 8, 8)
        assert set(np.unique(data.images * 16)) <= set(range(17))


def test_seeds_draw_different_suites_and_the_same_seed_the_same() -> None:
    first, again, other = (sets(load_suite("digits", seed)) for seed in (0, 0, 1))
    for name in first:
        assert np.array_equal(first[name].images, again[name].images)
        assert name == "letters" or not np.array_equal(first[name].images, other[name].images)
    assert len({load_suite("digits", seed).classes for seed in range(8)}) > 4


def test_training_rows_and_outliers_are_augmented_alike_and_others_are_not() -> None:
    suite = load_suite("digits", 2)
    for name, data in sets(suite).items():
        rows = range(len(data))
        moved = data.__getitems__([(0, row) for row in rows])[0]
        assert torch.equal(moved, data.__getitems__(rows)[0]) == (name not in ("train", "outliers"))
        if name in ("train", "outliers"):
            assert data.augment == suite.train.augment


def test_mean_and_std_are_those_of_the_training_pixels() -> None:
    suite = load_suite("digits", 0)
    pixels = suite.train.images.astype(np.float64)
    assert suite.mean == pytest.approx([pixels.mean()])
    assert suite.std == pytest.approx([pixels.std()])


def test_letters_come_in_every_font_and_none_twice() -> None:
    letters = load_suite("digits", 0).far["letters"]
    assert len(letters) == len(LETTERS) * len(FONTS)
    assert not set("BDGIJOQSTZ" + "bgijloqstz0123456789") & set(LETTERS)


def test_letters_fill_the_frame_like_digits() -> None:
    images = load_suite("digits", 0).far["letters"].images
    ink = images[:, 0] > 0
    assert ink.any(2)[:, [0, -1]].mean() > 0.99  # top and bottom row
    columns = ink.any(1)
    assert np.abs(columns.argmax(1) - columns[:, ::-1].argmax(1)).max() <= 2  # centred


def test_a_capital_l_looks_like_one() -> None:
    picture = load_suite("digits", 0).far["letters"].images[LETTERS.index("L"), 0]
    rows, columns = (picture > 0.4).sum(1), (picture > 0.4).sum(0)
    assert columns.max() == 8 and rows.argmax() == 7 and (rows[:6] <= 2).all()


def test_far_photograph_is_marked() -> None:
    assert load_suite("digits", 0).notes == {"photograph": "same kind as the auxiliary outliers"}


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_a_wrong_seed_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        load_suite("digits", seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wild_rows_are_known_digits_and_a_tenth_near_ones(seed: int) -> None:
    plain, suite = load_suite("digits", seed), load_suite("digits-wild", seed)
    assert suite.wild is not None and suite.name == "digits-wild" and set(suite.wild.labels) == {-1}
    assert suite.wild.augment == suite.train.augment and suite.notes["digits"] == "same kind as the wild rows"
    near = {digit_of(image) for image in plain.near["digits"].images}
    digits = [digit_of(image) for image in suite.wild.images]
    assert set(digits) >= {int(name) for name in suite.classes}
    assert sum(digit in near for digit in digits) == pytest.approx(0.1 * len(digits), abs=0.5)

    def contents(*parts: ImageSet) -> list[bytes]:
        return sorted(image.tobytes() for part in parts for image in part.images)

    together = contents(suite.validation, suite.near["digits"], suite.wild)
    assert together == contents(plain.validation, plain.near["digits"]), "each row is in one set"
    assert len(suite.validation) == round(0.6 * len(plain.validation))
    assert [HANDWRITTEN[(image * 16).astype(np.float64).tobytes()] for image in suite.validation.images] == [
        int(suite.classes[label]) for label in suite.validation.labels
    ]
    for name in ("train", "test", "outliers", "far:letters"):
        assert suite.sets()[name].fingerprint() == plain.sets()[name].fingerprint(), name
    assert suite.wild.fingerprint() != load_suite("digits-wild", seed + 1).sets()["wild"].fingerprint()
