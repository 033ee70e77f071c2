"""Look through a pool of outliers before training with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from oodles.data import Suite, load_suite
from oodles.data.decoded import sample
from oodles.data.likeness import NONE, Reference, as_inputs
from oodles.data.names import some
from oodles.data.raw import broken_images
from oodles.data.sharpness import ENOUGH, Measured, joined, measure_files, measure_pixels
from oodles.data.suite import KNOWN
from oodles.data.suite_check import measure_suite
from oodles.detection.detector import Detector
from oodles.files import check_writable, write_text
from oodles.runs.deployment import detector_at
from oodles.runs.folder import RunFolder, read_run
from oodles.runs.testing import suite_of
from oodles.screening.found import POOL, PoolCheck, Taken
from oodles.screening.neighbours import nearest
from oodles.screening.pool import Pool, open_pool

SHOWN, NEIGHBOURS = 24, 5
"""So many rows that are taken for known ones are shown, each with so many training rows."""


def check_outliers(
    pool: str | Path,
    data: Suite | str | Path | None = None,
    *,
    run: RunFolder | str | Path | None = None,
    score: str | None = None,
    false_alarms: float | None = None,
    drop: str | Path | None = None,
    report: str | Path | None = None,
    root: str | Path | Sequence[str | Path] = (),
    network: str | None = None,
) -> PoolCheck:
    """Look through a pool of outliers before training with it.

    Found are rows that are also in the suite's training, validation, test or out-of-distribution sets: the same, or of
    images copies that were compressed or resized again, and of texts those that differ by case, punctuation or blanks;
    rows that are there twice; files that cannot be read; and rows that a trained run takes for known classes. Images
    are also measured: whether sharpness, the spectrum, aspect or compression alone tells the pool from the suite.

    The pool is read in blocks, so that it may be larger than memory; of each row of the suite about 400 bytes are kept.

    Args:
        pool: a folder of images, or a file of images, feature vectors or texts, as the suite holds them.
        data: a suite, or what :func:`oodles.data.load_suite` takes, of whose files aspect and compression are measured
            too; by default that of the run.
        run: a finished run, or its folder, or the folder of a saved detector.
        score: the run's outlier score, its own unless given, see :meth:`oodles.Run.detector`.
        false_alarms: the share of known rows that the run may refuse, 0.05 unless given; a larger one takes fewer rows
            of the pool for known ones.
        drop: a file to write the rows into that remain, see :meth:`PoolCheck.write_list`.
        report: an HTML page to write, with pictures.
        root: where the files of the suite are.
        network: the run's, where that is ``package.module:function``.

    Raises:
        FileNotFoundError: for a pool, files of the suite, or a run that are not there.
        ValueError: for neither suite nor run, a pool without such rows as the suite has, and a run of other classes.
    """
    for path in (drop, report):
        if path is not None:
            check_writable(Path(path))
    if data is None and run is None:
        raise ValueError("outliers are checked beside the rows of a suite: say data, or a run that was trained on it.")
    if data is None:
        opened = run if isinstance(run, RunFolder) else read_run(str(run), network=network)
        data = suite_of(opened, root)
    suite = data if isinstance(data, Suite) else load_suite(data, root=root)
    detector = None
    if run is not None:
        detector = detector_at(run, score, false_alarms=false_alarms, device="auto", root=root, network=network)
        _check_fits(detector, suite)
    elif score is not None or false_alarms is not None:
        raise ValueError("score and false_alarms are of a run: say which, or leave them out.")
    rows = open_pool(pool, suite)
    known = {name: suite.sets()[name] for name in KNOWN}
    reference = Reference(known | suite.ood_sets(), texts=suite.kind == "texts")  # outliers may be of the pool
    seen = _look_through(rows, reference, detector)
    of_files = {} if rows.files is None else measure_files(rows.files)
    checked = PoolCheck(
        rows,
        suite,
        reference,
        seen.matches,
        seen.exact,
        seen.repeats,
        seen.broken,
        Measured({**measure_suite(suite, data, root).figures, POOL: joined([*seen.figures, of_files])}),
        None if detector is None else _taken(rows, suite, detector, seen),
    )
    if drop is not None:
        checked.write_list(drop)
    if report is not None:
        from oodles.screening.page import render

        write_text(Path(report), render(checked))
    return checked


class _Seen(NamedTuple):
    """What a pass over a pool gives."""

    matches: NDArray[np.int64]
    exact: NDArray[np.bool_]
    repeats: NDArray[np.bool_]
    broken: dict[int, str]
    figures: list[dict[str, NDArray[np.float64]]]
    scores: NDArray[np.float64]
    """NaN of what is not accepted."""
    predictions: NDArray[np.int64]


def _look_through(pool: Pool, reference: Reference, detector: Detector | None) -> _Seen:
    """Read every row of a pool once."""
    count = len(pool)
    seen = _Seen(
        np.full(count, NONE),
        np.zeros(count, bool),
        np.zeros(count, bool),
        {},
        [],
        np.full(count, np.nan),
        np.zeros(count, np.int64),
    )
    measured = sample(count, ENOUGH)
    keys = np.zeros(count, np.uint64)
    console = Console(stderr=True)
    for together in track(pool.blocks(), "looking through the pool", console=console, disable=not console.is_terminal):
        block = pool.read(together)
        rows, pixels = block.rows, block.pixels
        seen.broken.update(block.broken)
        if not len(rows):
            continue
        names = [pool.names[row] for row in rows]
        contents = reference.contents(pixels, names)
        keys[rows] = [int.from_bytes(content[:8]) for content in contents]
        seen.matches[rows], seen.exact[rows] = reference.find(pixels, contents, names)
        seen.figures.append(measure_pixels(pixels[np.isin(rows, measured)]))
        if detector is not None:
            verdicts = detector(as_inputs(pixels))
            seen.scores[rows] = np.where(verdicts.accepted, verdicts.scores, np.nan)
            seen.predictions[rows] = verdicts.predictions
    if len(seen.broken) == count:
        raise broken_images({pool.names[row]: reason for row, reason in seen.broken.items()})
    seen.repeats[:] = True
    seen.repeats[np.unique(keys, return_index=True)[1]] = False  # by 64 bits of their hashes
    seen.repeats[list(seen.broken)] = False
    return seen


def _taken(pool: Pool, suite: Suite, detector: Detector, seen: _Seen) -> Taken:
    """Return the rows that are accepted, those that the suite has itself apart."""
    new = (seen.matches == NONE) & ~seen.repeats & np.isfinite(seen.scores)
    rows = np.flatnonzero(new)[np.argsort(seen.scores[new], kind="stable")]
    shown = pool.read(rows[:SHOWN].tolist()).pixels
    return Taken(
        rows,
        seen.scores[rows],
        tuple(detector.classes[number] for number in seen.predictions[rows].tolist()),
        detector.rule,
        1 - detector.calibration.false_alarms,
        nearest(detector.classifier, as_inputs(shown), suite.train, NEIGHBOURS),
    )


def _check_fits(detector: Detector, suite: Suite) -> None:
    """Refuse a run that was trained on other rows or classes than those of a suite."""
    if detector.expected.shape not in (None, suite.input_shape):
        raise ValueError(
            f"the run must read rows of the shape {suite.input_shape}, as {suite.name} has them, and reads "
            f"{detector.expected.shape}: name the data that it was trained on."
        )
    if detector.classes != suite.classes:
        raise ValueError(
            f"the run must have the classes of {suite.name}, {some(suite.classes)}, and has {some(detector.classes)}: "
            "name the data that it was trained on."
        )
