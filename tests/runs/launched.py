"""What each process of ``accelerate launch`` runs: train, and train again."""

import sys
from pathlib import Path

from oodles.data import Augment
from oodles.runs.opened import Run
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
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


if __name__ == "__main__":
    first = train_in(Path(sys.argv[1]))
    again = train_in(Path(sys.argv[1]))
    assert first.result == again.result and first.status == "finished", first.result
