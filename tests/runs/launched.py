"""What each process of ``accelerate launch`` runs: train, and train again."""

import atexit
import json
import os
import sys
from pathlib import Path

from oodles.data import Augment
from oodles.runs.opened import Run
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from tests.distributed.worker import threads_of_a_group
from tests.runs.small import small_suite

RECIPE = Recipe(
    methods=(("energy-gap", {}),),
    learning_rate=0.05,
    epochs=3,
    batch_size=20,
    outlier_batch_size=10,
    weights="openood",
)


def train_in(folder: Path) -> Run:
    suite = small_suite(rows=130).augmented(Augment())
    return train(
        RECIPE, suite, folder=folder / "run", network="tests.runs.small:with_pooler", device="cpu", save_every=0.05
    )


def write_threads(to: Path) -> None:
    to.write_text(json.dumps(threads_of_a_group()))


if __name__ == "__main__":
    threads = Path(sys.argv[1], f"threads-{os.environ['RANK']}.json")
    atexit.register(write_threads, threads)  # hence after the group is left, which is registered later
    first = train_in(Path(sys.argv[1]))
    again = train_in(Path(sys.argv[1]))
    assert first.result == again.result and first.status == "finished", first.result
