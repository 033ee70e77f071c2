"""Image sets: values, augmentation as a function of (seed, epoch, row), batches."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from oodles.data import Augment, ImageSet, as_batch

MOVED = Augment(shift=2, flip=True)


def images(rows: int = 6, channels: int = 2, side: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (rows, channels, side, side), dtype=np.uint8)


def image_set(augment: Augment = MOVED, seed: int = 3) -> ImageSet:
    return ImageSet(images(), np.arange(6) % 3, augment, seed)


def test_items_are_float32_images_in_0_to_1_and_labels() -> None:
    image, label = image_set()[4]
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(images()[4]).float() / 255)
    assert label == 1 and type(label) is int


def test_floating_point_images_stay_as_they_are() -> None:
    values = np.linspace(0, 1, 16, dtype=np.float64).reshape(1, 1, 4, 4)
    image, _ = ImageSet(values, np.array([-1]))[0]
    assert torch.equal(image, torch.from_numpy(values[0]).float())


def test_a_batch_equals_its_items_across_epochs_and_plain_rows() -> None:
    data = image_set()
    indices = [(0, 1), (1, 1), 1, (0, 5), (7, 0), (1, 2)]
    batch, labels = data.__getitems__(indices)
    assert torch.equal(batch, torch.stack([data[index][0] for index in indices]))
    assert labels.tolist() == [data[index][1] for index in indices]
    assert labels.dtype == torch.int64


def test_each_augmented_image_is_a_shifted_and_mirrored_original() -> None:
    data = image_set()
    for epoch in range(20):
        original = np.pad(data[2][0].numpy(), ((0, 0), (2, 2), (2, 2)))
        crops = [original[:, y : y + 4, x : x + 4] for y in range(5) for x in range(5)]
        crops += [crop[:, :, ::-1] for crop in crops]
        assert any(np.array_equal(data[(epoch, 2)][0].numpy(), crop) for crop in crops)


def test_every_shift_and_both_mirrorings_come_up_equally_often() -> None:
    rows = 9 * 2 * 200
    picture = np.zeros((1, 1, 5, 5), dtype=np.float32)
    picture[0, 0, 2, 1], picture[0, 0, 2, 3] = 1.0, 0.5  # never leaves the image, tells left from right
    data = ImageSet(np.repeat(picture, rows, 0), np.zeros(rows, dtype=np.int64), Augment(shift=1, flip=True))
    batch, _ = data.__getitems__([(0, row) for row in range(rows)])
    outcomes, counts = np.unique(batch.flatten(1).numpy(), axis=0, return_counts=True)
    assert len(outcomes) == 18
    assert abs(counts / 200 - 1).max() < 0.25


def test_augmentation_depends_on_seed_and_epoch_and_row() -> None:
    same = ImageSet(np.repeat(images(1, side=8), 50, 0), np.zeros(50, dtype=np.int64), Augment(shift=2), seed=0)
    other = ImageSet(same.images, same.labels, same.augment, seed=1)
    first = same.__getitems__([(0, row) for row in range(50)])[0]
    assert len(first.flatten(1).unique(dim=0)) > 10
    assert not torch.equal(first, same.__getitems__([(1, row) for row in range(50)])[0])
    assert not torch.equal(first, other.__getitems__([(0, row) for row in range(50)])[0])
    assert torch.equal(first, same.__getitems__([(0, row) for row in range(50)])[0])


def test_rows_without_epoch_and_sets_without_augmentation_are_plain() -> None:
    plain = torch.from_numpy(images()).float() / 255
    assert torch.equal(image_set().__getitems__(range(6))[0], plain)
    assert torch.equal(image_set(Augment()).__getitems__([(3, row) for row in range(6)])[0], plain)


def test_nothing_is_written_to_the_images() -> None:
    data = image_set()
    data.__getitems__([(0, row) for row in range(6)])[0].zero_()
    data.__getitems__(range(6))[0].zero_()
    data[0][0].zero_()
    assert np.array_equal(data.images, images())


@pytest.mark.parametrize("workers", [0, 2])
def test_worker_counts_do_not_matter(workers: int) -> None:
    data = image_set()
    batches = [[(epoch, row) for row in (5, 0, 3)] for epoch in (0, 1, 2)]
    loader = DataLoader(data, batch_sampler=batches, collate_fn=as_batch, num_workers=workers)
    for indices, (inputs, labels) in zip(batches, loader, strict=True):
        assert torch.equal(inputs, data.__getitems__(indices)[0])
        assert labels.tolist() == [2, 0, 0]


def test_the_global_random_state_is_untouched() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    image_set(seed=11)[(0, 0)]
    assert (torch.rand(1), np.random.rand()) == expected


def test_loader_gives_plain_rows_in_order() -> None:
    batches = list(image_set().loader(4))
    assert [len(labels) for _, labels in batches] == [4, 2]
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), torch.from_numpy(images()).float() / 255)


def test_a_set_can_be_pickled_for_workers() -> None:
    again = pickle.loads(pickle.dumps(image_set()))
    assert torch.equal(again[(4, 1)][0], image_set()[(4, 1)][0])


@pytest.mark.parametrize("shift", [-1, 1.5, True])
def test_a_wrong_shift_is_refused(shift: int) -> None:
    with pytest.raises(ValueError, match="shift must be a whole number"):
        Augment(shift=shift)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must have shape .*, or vectors \(N, F\), .* got \(2, 4, 4\)"):
        ImageSet(images()[0], np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match=r"got \(6, 2, 4, 4\) and \(5,\)"):
        ImageSet(images(), np.zeros(5, dtype=np.int64))
