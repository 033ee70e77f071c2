"""Time training against a loop written by hand: python benchmarks/training.py SUITE NETWORK [--root FOLDER] [flags]

Both train the same network on the same rows with plain cross-entropy, keep the images on the device, shift and mirror
them there, and measure accuracy on the validation rows after every epoch. Images per second are compared epoch by
epoch, in turn, and those of Outlier Exposure too. With --full, one whole training each, and how accurate they are.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import record
from torch import Tensor, nn

from oodles.data import Suite, load_suite
from oodles.networks import build_network
from oodles.runs.recipe import Recipe
from oodles.runs.training import available_precision, train


class BareLoop:
    """The loop of somebody who needs nothing but cross-entropy."""

    def __init__(self, suite: Suite, recipe: Recipe, network: str, device: str, channels_last: bool):
        torch.manual_seed(recipe.seed)
        mean, std = suite.mean, suite.std
        self.model: nn.Module = build_network(
            network, num_classes=len(suite.classes), input_shape=suite.input_shape, mean=mean, std=std
        ).to(device)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.suite, self.recipe, self.device = suite, recipe, device
        self.images, self.labels = (torch.from_numpy(a).to(device) for a in (suite.train.images, suite.train.labels))
        self.half = available_precision(recipe.mixed_precision, device) == "bf16"
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        self.steps = recipe.epochs * (len(self.images) // recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.learning_rate,
            self.steps,
            pct_start=0.25,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=self.steps / 4,
        )

    def epoch(self) -> None:
        self.model.train()
        settings = self.suite.train.augment
        order = torch.randperm(len(self.images), device=self.device)
        for rows in order.split(self.recipe.batch_size):
            if len(rows) < self.recipe.batch_size:
                break
            images = augment(self.images[rows], settings.shift, settings.flip).float() / 255
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                logits = self.model(images)
            self.optimizer.zero_grad()
            F.cross_entropy(logits.float(), self.labels[rows]).backward()
            self.optimizer.step()
            self.schedule.step()
        self.accuracy(self.suite.validation.images, self.suite.validation.labels)

    @torch.no_grad()
    def accuracy(self, images, labels) -> float:
        self.model.eval()
        right = 0
        for start in range(0, len(images), 500):
            rows = torch.from_numpy(images[start : start + 500]).to(self.device).float() / 255
            right += int((self.model(rows).argmax(1).cpu() == torch.from_numpy(labels[start : start + 500])).sum())
        return right / len(images)


def augment(images: Tensor, shift: int, flip: bool) -> Tensor:
    """Shift each image by up to ``shift`` pixels, and mirror half of them if ``flip``."""
    rows, _, height, width = images.shape
    crops = F.pad(images, (shift,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    y, x = torch.randint(2 * shift + 1, (2, rows), device=images.device)
    moved = crops[torch.arange(rows, device=images.device), :, y, x]
    mirrored = torch.rand(rows, 1, 1, 1, device=images.device) < 0.5 * flip
    return torch.where(mirrored, moved.flip(3), moved)


def epoch_times(suite: Suite, recipe: Recipe, flags: argparse.Namespace) -> dict[str, list[float]]:
    """Time single epochs in turn: the bare loop, plain training, and Outlier Exposure if there are outliers."""
    recipe = replace(recipe, epochs=1)
    options = {"network": flags.network, "channels_last": flags.channels_last, "device": flags.device}
    bare = BareLoop(suite, replace(recipe, epochs=flags.rounds + 2), flags.network, flags.device, flags.channels_last)
    ours = {"oodles": recipe}
    if suite.outliers is not None:
        ours["outlier-exposure"] = replace(recipe, methods=(("outlier-exposure", {}),))
    small = replace(suite, test=suite.test.evenly(10), near={}, far={})  # only training is timed
    seconds: dict[str, list[float]] = {name: [] for name in ("bare", *ours)}
    for round_ in range(flags.rounds + 1):
        begin = time.perf_counter()
        bare.epoch()
        taken = {"bare": time.perf_counter() - begin}
        for name, schedule in ours.items():
            with tempfile.TemporaryDirectory() as folder:
                run = train(schedule, small, folder=Path(folder, "run"), progress=False, save_every=1e9, **options)
                taken[name] = run.result["seconds"]
        if round_:  # the first warms up
            for name, value in taken.items():
                seconds[name].append(value)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite")
    parser.add_argument("network")
    parser.add_argument("--root", nargs="*", default=())
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="train on so many rows only")
    parser.add_argument("--full", action="store_true")
    flags = parser.parse_args()
    suite, recipe = load_suite(flags.suite, root=flags.root), Recipe.load(flags.recipe)
    if flags.rows:
        train_set = replace(suite.train.evenly(flags.rows), augment=suite.train.augment)
        outliers = suite.outliers and replace(suite.outliers.evenly(flags.rows), augment=suite.outliers.augment)
        suite = replace(suite, train=train_set, validation=suite.validation.evenly(flags.rows // 10), outliers=outliers)
    seconds = epoch_times(suite, recipe, flags)
    rows = len(suite.train) // recipe.batch_size * recipe.batch_size
    epochs = {
        name: {
            "images per second": round(rows / statistics.median(taken)),
            "over bare": round(statistics.median(b / t for b, t in zip(seconds["bare"], taken, strict=True)), 3),
        }
        for name, taken in seconds.items()
    }
    print(epochs)
    about = {"suite": suite.name, "network": flags.network, "rows": rows, "recipe": flags.recipe}
    if flags.full:
        bare = BareLoop(suite, recipe, flags.network, flags.device, flags.channels_last)
        begin = time.perf_counter()
        for _ in range(recipe.epochs):
            bare.epoch()
        about["bare"] = {
            "seconds": round(time.perf_counter() - begin, 1),
            "test accuracy": bare.accuracy(suite.test.images, suite.test.labels),
        }
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            run = train(recipe, suite, folder=Path(folder, "run"), network=flags.network, device=flags.device,
                        channels_last=flags.channels_last)  # fmt: skip
            about["oodles"] = {
                "seconds": round(run.result["seconds"], 1),
                "seconds with evaluation": round(time.perf_counter() - begin, 1),
                "test accuracy": run.result["test_accuracy"],
            }
        print(about)
    record(f"training-{flags.network}-{flags.device}", {**about, "epochs": epochs})


if __name__ == "__main__":
    main()
