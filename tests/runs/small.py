"""A suite and networks small enough to be trained in a moment."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oodles.data import Augment, ImageSet, Suite
from oodles.detection.calibration import choosing_rows

NONE = Augment()


def small_suite(rows: int = 120, classes: int = 3) -> Suite:
    """Make a suite of images whose brightest rows tell the class; outliers are noise."""
    random = np.random.default_rng(0)

    def known(count: int, augment: Augment = NONE) -> ImageSet:
        labels = np.arange(count) % classes
        images = random.random((count, 1, 8, 8), dtype=np.float32) / 2
        for row, label in enumerate(labels):
            images[row, 0, 3 * label : 3 * label + 2] += 0.5
        return ImageSet(images, labels.astype(np.int64), augment)

    def unknown(count: int, augment: Augment = NONE) -> ImageSet:
        return ImageSet(random.random((count, 1, 8, 8), dtype=np.float32), np.full(count, -1), augment)

    augment = Augment(shift=1, flip=True)
    return Suite(
        name="small",
        train=known(rows, augment),
        validation=known(30),
        test=known(30),
        outliers=unknown(50, augment),
        near={"noise": unknown(20)},
        far={"more": unknown(20)},
        classes=tuple("abc"[:classes]),
    )


def measured_on(suite: Suite) -> list[Any]:
    """Return batches of what settings are measured on: training rows, and half of the validation rows."""
    images, labels = next(iter(suite.validation.loader(10_000)))
    chosen = torch.from_numpy(choosing_rows(len(labels)))
    return [*suite.train.loader(), (images[chosen], labels[chosen])]


def write_sets(folder: Path, **sets: ImageSet) -> None:
    """Write images with their labels, if they have some, as people keep them: a file for each set, by its path."""
    for name, images in sets.items():
        path = folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = {"labels": images.labels} if images.labels.min() >= 0 else {}
        np.savez(path, images=images.images, **labels)


def write_suite(folder: Path, suite: Suite) -> None:
    """Write a suite's known rows and those near them as a folder that is a suite."""
    known = {name: getattr(suite, name) for name in ("train", "validation", "test")}
    write_sets(folder, **known, **{f"near/{name}": images for name, images in suite.near.items()})


def with_dropout(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Build a network with batch norm and dropout: statistics and random numbers that resuming has to restore."""
    hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
    return nn.Sequential(hidden, nn.Linear(16, num_classes))


def linear(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Build a network in which no row depends on the others of a batch."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, num_classes))


class Pooled(nn.Sequential):
    """That network with a layer that nothing comes of."""

    def __init__(self, *layers: nn.Module):
        super().__init__(*layers)
        self.pooler = nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        for layer in list(self)[:-1]:
            images = layer(images)
        return images


def with_pooler(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Build that network with a parameter that no loss depends on."""
    return Pooled(*linear(num_classes, input_shape))


def taught(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Build a network that brings all of its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return linear(num_classes, input_shape)
