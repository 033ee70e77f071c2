"""Copies of images, compressed or resized again, are found; images that merely look alike are not."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from oodles.data import ImageSet
from oodles.data.likeness import Reference, Thumbnails, find_copies, thumbnails

RANDOM = np.random.default_rng(0)


def scenes(rows: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Draw images (n, H, W, 3) of soft shapes with some grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (rows, 5, 5, 3), dtype=np.uint8)
    soft = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse]
    grain = random.normal(0, 6, (rows, side, side, 3))
    return np.clip(np.stack(soft) + grain, 0, 255).astype(np.uint8)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    side = len(image)
    other = Image.fromarray(image).resize((round(factor * side),) * 2, Image.Resampling.LANCZOS)
    return np.asarray(other.resize((side, side), Image.Resampling.BILINEAR))


def small(images: np.ndarray) -> Thumbnails:
    return thumbnails(torch.from_numpy(np.moveaxis(images, 3, 1) / np.float32(255)))


ORIGINALS = scenes(200)
CHANGES = {
    "JPEG 75": lambda image: compressed(image, 75),
    "JPEG 30": lambda image: compressed(image, 30),
    "twice the size": lambda image: resized(image, 2),
    "three quarters": lambda image: resized(image, 0.75),
    "half": lambda image: resized(image, 0.5),
    "grain": lambda image: np.clip(image + RANDOM.normal(0, 4, image.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_copies_are_found_with_their_originals(change) -> None:  # type: ignore[no-untyped-def]
    rows = np.arange(0, 200, 5)
    copies = np.stack([change(ORIGINALS[row]) for row in rows])
    assert find_copies(small(copies), small(ORIGINALS)).tolist() == rows.tolist()


def test_other_images_of_the_same_kind_are_none() -> None:
    assert (find_copies(small(scenes(200, seed=1)), small(ORIGINALS)) == -1).all()


def test_images_that_are_all_alike_are_no_copies_of_each_other() -> None:
    alike = (0.85 * scenes(1) + 0.15 * scenes(60, seed=2)).astype(np.uint8)
    others, originals = small(alike[:20]), small(alike[20:])
    assert (others.directions @ originals.directions.T).min() > 0.92, "what elsewhere would be a copy"
    assert (find_copies(others, originals) == -1).all()
    copies = np.stack([compressed(image, 95) for image in alike[30:40]])
    assert find_copies(small(copies), originals).tolist() == list(range(10, 20))


def test_a_copy_of_what_is_there_four_times_is_found() -> None:
    originals = np.concatenate([ORIGINALS, ORIGINALS[[7, 7, 7]]])
    assert find_copies(small(compressed(ORIGINALS[7], 50)[None]), small(originals))[0] in (7, 200, 201, 202)


def test_another_brightness_or_contrast_is_another_image() -> None:
    darker = np.stack([ORIGINALS[3] // 2, (ORIGINALS[3] // 2 + 64).astype(np.uint8)])
    assert find_copies(small(darker), small(ORIGINALS)).tolist() == [-1, -1]


def test_flat_images_are_like_nothing_else() -> None:
    flat = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 128, 255)])
    assert (small(flat).directions == 0).all()
    assert (find_copies(small(flat), small(np.concatenate([ORIGINALS, flat]))) == -1).all()


def test_inner_products_are_correlations() -> None:
    one, other = small(ORIGINALS[:2]).directions
    grey = [np.asarray(Image.fromarray(image.mean(2, dtype=np.float32)).resize((8, 8), 2)) for image in ORIGINALS[:2]]
    assert float(one @ other) == pytest.approx(np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1], abs=1e-4)


def test_however_many_products_are_in_memory_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = small(np.stack([compressed(image, 60) for image in ORIGINALS[:30]]))
    monkeypatch.setattr("oodles.data.likeness.PRODUCTS", 700)
    assert find_copies(copies, small(ORIGINALS)).tolist() == list(range(30))


def test_a_reference_counts_over_its_sets_and_finds_what_is_the_same_first() -> None:
    images = np.moveaxis(ORIGINALS, 3, 1)
    sets = {"train": ImageSet(images[:150], np.full(150, -1)), "test": ImageSet(images[150:], np.full(50, -1))}
    reference = Reference(sets)
    assert [reference.place(row) for row in (0, 149, 150, 199)] == [
        ("train", 0),
        ("train", 149),
        ("test", 0),
        ("test", 49),
    ]
    changed = np.moveaxis(np.stack([ORIGINALS[160], compressed(ORIGINALS[40], 50), scenes(1, seed=9)[0]]), 3, 1)
    rows, exact = reference.find(changed, reference.contents(changed, ()), ["0", "1", "2"])
    assert rows.tolist() == [160, 40, -1] and exact.tolist() == [True, False, False]


def test_vectors_are_the_same_or_other_ones_and_texts_may_differ_by_case() -> None:
    vectors = RANDOM.random((3, 4), dtype=np.float32)
    rows = {"train": ImageSet(vectors, np.full(3, -1), names=("Hello!", "how are you", "Bye"))}
    given = np.concatenate([vectors[2:], vectors[:2] + np.float32(1e-6)])
    names = ["Bye", "hello", "who are you"]
    for texts, found, exact in ((False, [2, -1, -1], [True, False, False]), (True, [2, 0, -1], [True, False, False])):
        reference = Reference(rows, texts=texts)
        matches = reference.find(given, reference.contents(given, names), names)
        assert matches.rows.tolist() == found and matches.exact.tolist() == exact
