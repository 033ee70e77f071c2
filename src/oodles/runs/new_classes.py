"""An estimate of how well a new class would be told: plain trainings with classes held out of each.

It chooses nothing. Scores and methods that tell these classes well need not tell the next ones well.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oodles.checks import check_whole
from oodles.data import Suite
from oodles.data.suite import HELD_OUT
from oodles.files import write_json
from oodles.files.forms import read_json
from oodles.randomness import NEW_CLASSES as DRAW
from oodles.randomness import generator_for
from oodles.runs.folder import ADVICE, NEW_CLASSES, RUN, WEIGHTS, RunFolder, locked, read_run
from oodles.runs.forms import NEW_CLASSES_FORM
from oodles.runs.recipe import OF_NETWORK, Recipe, recipes
from oodles.runs.testing import suite_of
from oodles.runs.training import train

SHARE = 5
"""One in so many classes is held out of a training, and at least one."""
LIKE_THE_RUN = ("head", "mean", "std", "accumulate", "compile", "channels_last")
"""Arguments of a run that its plain trainings have, too, besides the network."""


@dataclass(frozen=True)
class HeldOut:
    """How a training without some classes tells them."""

    held_out: tuple[str, ...]
    """Names of the classes."""
    rows: int
    """Their validation rows, which were told from those of the other classes."""
    aurocs: Mapping[str, float]
    """By score."""


@dataclass(frozen=True)
class NewClassEstimate:
    """How well a new class of the same kind may be told, by plain trainings that held some classes out."""

    trainings: tuple[HeldOut, ...]
    classes: int
    """Of the run."""
    score: str
    """The one that the sentence is about: that of the run's methods, or msp where plain training has not that one."""

    def aurocs(self, score: str) -> tuple[float, ...]:
        """Return the AUROC of each training."""
        return tuple(training.aurocs[score] for training in self.trainings)

    @property
    def scores(self) -> tuple[str, ...]:
        """Return the scores that every training has."""
        first, *others = (training.aurocs for training in self.trainings)
        return tuple(score for score in first if all(score in other for other in others))

    @property
    def sentence(self) -> str:
        """Say between which AUROCs, in per cent, a new class was told."""
        low, high = (f"{100 * end(self.aurocs(self.score)):.0f}" for end in (min, max))
        return f"A new class of this kind: AUROC {low if low == high else f'{low} to {high}'} ({self.score})."

    def __str__(self) -> str:
        """Return a line for every score, and the sentence."""
        width = max(map(len, ("score", *self.scores)))
        lines = [f"{'score':{width}}   mean  lowest  highest"]
        for score in self.scores:
            values = self.aurocs(score)
            mean, low, high = (100 * value for value in (sum(values) / len(values), min(values), max(values)))
            lines.append(f"{score:{width}}  {mean:5.1f}  {low:6.1f}  {high:7.1f}")
        held = "; ".join(f"{', '.join(one.held_out)} ({one.rows} rows)" for one in self.trainings)
        return "\n".join(
            [
                *lines,
                f"AUROC of validation rows of {self.classes} classes, some held out of plain training: {held}.",
                self.sentence,
                "This is an estimate and no choice: neither this range nor the order of scores need hold for the next.",
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        trainings = [asdict(training) for training in self.trainings]
        return {"score": self.score, "classes": self.classes, "sentence": self.sentence, "trainings": trainings}


def new_class_estimate(
    run: RunFolder | str | Path,
    splits: int = 3,
    *,
    suite: Suite | None = None,
    root: str | Path | Sequence[str | Path] = (),
    network: str | None = None,
    data: str | Path | None = None,
    progress: bool = True,
) -> NewClassEstimate:
    """Estimate how well a new class of the same kind would be told, by training without some of the known ones.

    Each training is one of the run's network with its settings and seed, and with cross-entropy alone. A fifth of the
    classes, at least one, is held out of it; no class is held out twice, and the run's seed draws them. Their
    validation rows are then told from those of the other classes: no test row is looked at, and no training row of
    them, since training rows may come from elsewhere. What was found is kept in the run's folder, training by training,
    and a call for no more of them reads it there.

    Args:
        run: a run, or its folder. One that starts from another run trains as that one does.
        splits: how many trainings.
        suite: the data, where the run was trained on a suite of one's own making.
        root: where the files of the suite are now, if they have moved.
        network: of a folder, see :func:`open_run`.
        data: likewise.
        progress: show a progress bar, where standard error is a terminal.

    Raises:
        FileNotFoundError: for a folder that is no run, and where the data or a run that it starts from are not there.
        ValueError: before anything trains, for more trainings than the classes allow, for an adopted run and one that
            starts from a file of weights, which may know the classes; and for a training that diverged.

    Example:
        >>> print(new_class_estimate("runs/mixup-digits-0"))  # doctest: +SKIP
    """
    run = run if isinstance(run, RunFolder) else read_run(run, network=network, data=data)
    groups = draw_groups(len(run.classes), splits, run.seed)
    held = [tuple(run.classes[number] for number in group) for group in groups]
    if len(_kept(run, held)) < splits:
        start, whole = _beginning(run), suite or _data_of(run, root)
        _check_rows(run, whole, groups)
        with locked(run.folder):
            trainings = _kept(run, held)
            for group in groups[len(trainings) :]:
                trainings.append(_train_without(run, start, whole, group, progress))
                write_json(run.folder / NEW_CLASSES, {"trainings": [asdict(training) for training in trainings]})
    estimate = NewClassEstimate(tuple(_kept(run, held)[:splits]), len(run.classes), run.deployed_score)
    return estimate if estimate.score in estimate.scores else replace(estimate, score="msp")


def draw_groups(classes: int, splits: int, seed: int) -> list[list[int]]:
    """Draw the class ids that each training holds out; none is in two groups, and more splits change no earlier one.

    Raises:
        ValueError: for more splits than the classes allow.
    """
    check_whole("the number of trainings for new classes", splits, low=1)
    if classes < 3:
        raise ValueError(
            f"A training that holds a class out needs two others, and the run has {classes} classes: take a run "
            "of three or more."
        )
    size = max(1, classes // SHARE)
    if splits * size > classes:
        raise ValueError(
            f"{classes} classes allow at most {classes // size} trainings, since each holds out {size} and no class is "
            f"held out twice, got {splits}: ask for fewer."
        )
    order = torch.randperm(classes, generator=generator_for(seed, DRAW)).tolist()
    return [sorted(order[start : start + size]) for start in range(0, splits * size, size)]


def _kept(run: RunFolder, held: Sequence[tuple[str, ...]]) -> list[HeldOut]:
    """Read what the folder keeps of earlier trainings."""
    path = run.folder / NEW_CLASSES
    if not path.is_file():
        return []
    entries = read_json(path, NEW_CLASSES_FORM, ADVICE[NEW_CLASSES])["trainings"]
    kept = [HeldOut(tuple(one["held_out"]), one["rows"], one["aurocs"]) for one in entries]
    if any(one.held_out != names for one, names in zip(kept, held, strict=False)):
        raise ValueError(f"{path} holds out other classes than the run's seed draws; {ADVICE[NEW_CLASSES]}.")
    return kept


def _beginning(run: RunFolder) -> RunFolder:
    """Return the run that a run starts from, if it starts from one, or that one from another: itself otherwise."""
    if run.recipe.epochs == 0:
        raise ValueError(f"{run.folder} was adopted, so there is no training to repeat without some of its classes.")
    weights = run.recipe.weights
    if weights in (None, OF_NETWORK, *recipes()):
        return run
    if not (Path(str(weights)) / RUN).is_file():
        raise ValueError(
            f"{run.folder} starts from {weights}, which may know the classes that are to be held out, and there is no "
            "run there that says how it was trained: take a run that starts from random weights or from its network's."
        )
    before = read_run(str(weights))
    then, now = run.record["initial"].get("sha256"), before.result.get("sha256", {}).get(WEIGHTS)
    if then and now and then != now:
        raise ValueError(
            f"{run.folder} starts from weights that {weights} had once, and it was trained anew since then: take a run "
            "that starts from random weights or from its network's."
        )
    return replace(_beginning(before), network=run.network)


def _data_of(run: RunFolder, root: str | Path | Sequence[str | Path]) -> Suite:
    try:
        return suite_of(run, root)
    except (FileNotFoundError, ValueError) as error:
        raise FileNotFoundError(
            f"To hold classes of {run.folder} out of training needs its data: {str(error).rstrip('.')}, or call "
            "new_class_estimate with the suite."
        ) from error


def _check_rows(run: RunFolder, suite: Suite, groups: Sequence[Sequence[int]]) -> None:
    """Refuse a suite of other classes, and to hold out some that have no validation rows."""
    if suite.classes != run.classes:
        raise ValueError(
            f"{run.folder} was trained on other classes than {suite.name!r} has now: give the data that it was trained "
            "on."
        )
    there = np.bincount(suite.validation.labels, minlength=len(suite.classes))
    for group in groups:
        others = there.sum() - there[list(group)].sum()
        if not (there[list(group)].sum() and others):
            names = ", ".join(suite.classes[number] for number in group)
            raise ValueError(
                f"Classes that are held out are told by validation rows, and {suite.name!r} has none of {names}, or "
                "none of the others: give it more."
            )


def _train_without(run: RunFolder, start: RunFolder, whole: Suite, held: Sequence[int], progress: bool) -> HeldOut:
    """Train plainly without some classes, inside the run's folder, and delete all but what was measured."""
    suite, names = whole.without_classes(held), tuple(whole.classes[number] for number in held)
    folder = run.folder / HELD_OUT
    arguments = {key: start.arguments[key] for key in LIKE_THE_RUN if start.arguments.get(key) is not None}
    trained = train(
        _plain(start.recipe, held),
        suite,
        folder=folder / str(held[0]) / "plain",  # what it starts from may stand beside it
        network=start.network_to_build,
        progress=progress,
        **arguments,
    )
    if trained.status == "diverged":
        raise ValueError(f"A plain training without {', '.join(names)} diverged: {trained.reason}")
    tested = trained.result["metrics"]["test"][f"near:{HELD_OUT}"]
    aurocs = {score: metrics["auroc"] for score, metrics in tested.items()}
    shutil.rmtree(folder)
    return HeldOut(names, len(suite.near[HELD_OUT]), aurocs)


def _plain(recipe: Recipe, held: Collection[int]) -> Recipe:
    """Return a recipe without its methods, and without the weights of classes that are held out."""
    weights = recipe.class_weights
    if isinstance(weights, tuple):
        weights = tuple(weight for number, weight in enumerate(weights) if number not in held)
    return replace(recipe, methods=(), suggest=None, teacher=None, class_weights=weights)
