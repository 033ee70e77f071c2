"""From a run to its detector: new inputs scored, and one file for other programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oodles.checks import check_number
from oodles.data.features import Features
from oodles.detection.calibration import Calibration, choosing_rows, enough_rows
from oodles.detection.choosing import BEST, OWN, Choice
from oodles.detection.detector import Detector
from oodles.detection.exporting import Exported, check_differentiates, check_form
from oodles.detection.inputs import Expected, Preprocessing
from oodles.detection.saved import ABOUT
from oodles.detection.verdicts import Verdicts
from oodles.files import write_text
from oodles.methods import score_named
from oodles.networks.libraries import library_of
from oodles.networks.onnx_file import ALONE
from oodles.runs.choice import choose_score
from oodles.runs.folder import SCORES, RunFolder, check_output, read_run
from oodles.runs.recipe import own_score, scores_brought
from oodles.runs.testing import ready_score
from oodles.scores import Score

Root = str | Path | Sequence[str | Path]
RATE = 0.05
"""The rate of false alarms unless said."""


def detector_of(
    run: RunFolder,
    score: str | None = None,
    *,
    false_alarms: float = RATE,
    per_class: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    root: Root = (),
) -> Detector:
    """Return the detector that a run is deployed as, see :meth:`Run.detector`."""
    named = named_score(run, score, root)
    return _with_score(run, score, named, false_alarms=false_alarms, per_class=per_class, device=device, root=root)


def _with_score(
    run: RunFolder,
    score: str | None,
    named: tuple[Score, Choice | None],
    *,
    false_alarms: float,
    per_class: bool,
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    root: Root,
) -> Detector:
    """Return a run's detector with the score that was asked for, as :func:`named_score` has found it."""
    chosen, choice = named
    kept, predictions = ~_choosing(run, choice), run.scores["validation/predictions"].astype(np.int64)
    enough = enough_rows(predictions[kept], len(run.classes), false_alarms, per_class=per_class)
    if score is None and choice is not None and not enough:
        named = named_score(run, OWN)
        return _with_score(run, OWN, named, false_alarms=false_alarms, per_class=per_class, device=device, root=root)
    classifier = run.classifier(device)
    ready, values = ready_score(run, chosen, classifier, root)
    calibration = Calibration(
        values["validation"][kept].astype(np.float64),
        predictions[kept],
        run.classes,
        false_alarms,
        per_class,
    )
    suite = run.record["suite"]
    shape = tuple(suite["input_shape"])
    refused = {
        name: _rejected_share(calibration, values[name], run.scores[f"{name}/predictions"])
        for name in ("test", *run.ood_sets)
    }
    about = {
        "false_alarms_on_test": refused.pop("test"),
        "rejected": refused,
        "run": run.label,
        "data": run.data,
        "seed": run.seed,
        **({"choice": choice.reason} if choice else {}),
    }
    return Detector(
        classifier,
        ready,
        calibration,
        Expected(shape, unit_range=len(shape) == 3),
        _preprocessing(suite, trusted=run.suite is not None),
        about,
    )


def _preprocessing(suite: Mapping[str, Any], *, trusted: bool) -> Preprocessing | Features | None:
    """Return how new rows are read, by what a run says of its suite; nothing for images that files cannot hold."""
    if len(suite["input_shape"]) == 1:
        features = Features.from_dict(suite.get("features", {}))
        return features.naming(features.encoder) if trusted else features
    channels, height, width = suite["input_shape"]
    shape = (channels, height, width)
    return Preprocessing(shape, suite.get("resize"), suite.get("draft", False)) if channels in (1, 3) else None


def detector_at(
    place: RunFolder | str | Path,
    score: str | None = None,
    *,
    false_alarms: float | None = None,
    accept: float | None = None,
    per_class: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "cpu",
    root: Root = (),
    network: str | None = None,
    data: str | Path | None = None,
    encoder: str | None = None,
) -> Detector:
    """Return the detector of a run or of its folder, or the one that a folder holds, at the rate that is asked for.

    Arguments are those of :meth:`Run.detector` and :func:`open_run`; ``accept`` is 1 − ``false_alarms``, in its place.

    Raises:
        FileNotFoundError: for a folder that is neither, and a run that is not finished.
        ValueError: for another score than a saved detector has.
    """
    false_alarms = rate_of(false_alarms, accept)
    if isinstance(place, RunFolder) or not (Path(place) / ABOUT).is_file():
        run = place if isinstance(place, RunFolder) else read_run(place, network=network, data=data)
        rate = RATE if false_alarms is None else false_alarms
        return detector_of(run, score, false_alarms=rate, per_class=per_class, device=device, root=root).naming(encoder)
    detector = Detector.load(place, network=network, device=device, encoder=encoder)
    if score is not None and score_named(score).name != detector.score.name:
        raise ValueError(f"{place} holds a detector with the score {detector.score.name}, got {score}: leave it out.")
    rate = detector.calibration.false_alarms if false_alarms is None else false_alarms
    return detector.at(rate, per_class=per_class or detector.calibration.per_class)


def score_inputs(
    run: RunFolder | str | Path,
    inputs: Any,
    *,
    score: str | None = None,
    false_alarms: float | None = None,
    accept: float | None = None,
    fdr: float | None = None,
    per_class: bool = False,
    to: str | Path | None = "scores.csv",
    root: Root = (),
    network: str | None = None,
    data: str | Path | None = None,
    encoder: str | None = None,
) -> Verdicts:
    """Classify new images and say which of them look out-of-distribution.

    Args:
        run: a finished run, or its folder; or the folder of a saved detector.
        inputs: an image, a folder of images or an array in a file, brought to the size of the training images; a table
            or texts, where these were trained on; or what else :class:`~oodles.Detector` reads.
        score: an outlier score, such as ``knn(k=5)``; ``own`` is the one that the run's methods ask for. By default it
            is the chosen one, see :func:`oodles.choose_score`, as with ``best``, which refuses where nothing can be
            chosen. One that the run has not been tested with needs the run's data at hand, once.
        false_alarms: the share of known inputs that may be refused, in (0, 1); 0.05 unless given, or that of a saved
            detector.
        accept: 1 − ``false_alarms``, in its place.
        fdr: see :class:`~oodles.Detector`.
        per_class: keep the promise for each predicted class by itself.
        to: a CSV file to write, or none.
        root: where the files of the run's suite are now, if they have moved; for scores that it was not tested with.
        network: of a folder, see :func:`open_run`.
        data: likewise.
        encoder: that of the texts that were trained on, if it is ``package.module:function``; code is imported only if
            the caller names it.

    Raises:
        FileNotFoundError: for a folder that is no run or is not finished, and for inputs that are not there.
        ValueError: for an unknown score, unreadable images, a rate outside (0, 1), and one that needs more rows.
    """
    if to is not None:
        check_output(Path(to))
    detector = detector_at(
        run,
        score,
        false_alarms=false_alarms,
        accept=accept,
        per_class=per_class,
        device="auto",
        root=root,
        network=network,
        data=data,
        encoder=encoder,
    )
    verdicts = detector(inputs, fdr=fdr)
    if to is not None:
        write_text(Path(to), verdicts.to_csv())
    return verdicts


def export(
    run: RunFolder | str | Path,
    to: str | Path,
    *,
    score: str | None = None,
    false_alarms: float | None = None,
    accept: float | None = None,
    per_class: bool = False,
    root: Root = (),
    network: str | None = None,
    data: str | Path | None = None,
) -> Exported:
    """Write a trained run as one graph: images in [0, 1] to ``logits``, ``score`` and ``accept``, for any batch size.

    It is :meth:`oodles.Detector.export` of the run's detector. The file says besides which share of the test rows and
    of every out-of-distribution set is rejected.

    Args:
        run: a finished run, or its folder; or the folder of a saved detector.
        to: a file that ends in ``.onnx``, or in ``.pt2`` for ``torch.export.load``.
        score: an outlier score, such as ``knn(k=5)``; ``own`` is the one that the run's methods ask for. By default it
            is the chosen one, see :func:`oodles.choose_score`, as with ``best``, which refuses where nothing can be
            chosen. One that the run has not been tested with needs the run's data at hand, once; the
            file holds what it has learnt.
        false_alarms: the share of known inputs that may be refused, in (0, 1); 0.05 unless given, or that of a saved
            detector.
        accept: 1 − ``false_alarms``, in its place.
        per_class: keep the promise for each predicted class by itself.
        root: where the files of the run's suite are now, if they have moved; for scores that it was not tested with.
        network: of a folder, see :func:`open_run`.
        data: likewise.

    Raises:
        FileNotFoundError: for a folder that is no run or is not finished.
        ImportError: for ONNX without the packages that write it.
        ValueError: for another ending, a rate outside (0, 1) or one that needs more rows, an unknown score, and a score
            or a network that no graph can hold, as one that was adopted from an ONNX file.
    """
    to = Path(to)
    check_output(to)
    check_form(to)
    if not isinstance(run, RunFolder) and (Path(run) / ABOUT).is_file():
        saved = detector_at(run, score, false_alarms=false_alarms, accept=accept, per_class=per_class, network=network)
        return saved.export(to)
    run = run if isinstance(run, RunFolder) else read_run(run, network=network, data=data)
    if library_of(run.arguments["network"]) == "onnx":
        raise ValueError(f"{run.folder} cannot be exported: {ALONE}.")
    said = rate_of(false_alarms, accept)
    named = named_score(run, score, root)
    others = [name for name in scores_brought(run.methods) if not score_named(name).differentiates]
    check_differentiates(named[0], others)
    rate = RATE if said is None else said
    return _with_score(run, score, named, false_alarms=rate, per_class=per_class, root=root).export(to)


def rate_of(false_alarms: float | None, accept: float | None) -> float | None:
    """Return the rate of false alarms, given as such or as the share that is to be accepted, or none.

    Raises:
        ValueError: for both, and for a share outside (0, 1).
    """
    if false_alarms is not None and accept is not None:
        raise ValueError("false_alarms and accept say the same: leave accept out.")
    if accept is not None:
        check_number("accept", accept, above=0)
        if accept >= 1:
            why = "no threshold can promise that" if accept == 1 else "0.95 accepts 95 % of the known inputs"
            raise ValueError(f"accept must be below 1, got {accept}: {why}.")
        return round(1 - accept, 12)
    return false_alarms


def named_score(run: RunFolder, score: str | None, root: Root = ()) -> tuple[Score, Choice | None]:
    """Return a score as it is named, by default the chosen one, and the choice, where one was made.

    Where nothing is asked for and nothing can be chosen, since the run's data are not at hand, it is the one that the
    run's methods ask for.

    Raises:
        FileNotFoundError: for a run that is not finished, and for ``best`` where the data are needed and not there.
        ValueError: for an unknown score, and for ``best`` where nothing can be told.
    """
    if not run.scores:
        name = score if score not in (None, BEST, OWN) else "outlier"
        raise FileNotFoundError(f"{run.folder} has no {name} scores of validation rows: {run.why_not(SCORES)}")
    if score == OWN:
        return score_named(own_score(run.methods)), None
    if score is not None and score != BEST:
        return score_named(score), None
    try:
        choice = choose_score(run, root=root)
    except FileNotFoundError:
        if score == BEST:
            raise
        return score_named(own_score(run.methods)), None
    if score == BEST and not choice.aurocs:
        raise ValueError(f"{run.folder}: {' '.join(choice.remarks)} Name a score, or leave it out.")
    return score_named(choice.chosen), choice


def _choosing(run: RunFolder, choice: Choice | None) -> NDArray[np.bool_]:
    """Say which validation rows have chosen something, a checkpoint, settings or a score, and are no calibration rows.

    Of runs of earlier versions, all rows that measured a setting did.
    """
    rows = len(run.scores["validation/predictions"])
    chose = bool(choice and choice.aurocs) or bool(run.record.get("validation_chose"))
    return choosing_rows(rows) if chose else np.zeros(rows, bool)


def _rejected_share(calibration: Calibration, values: NDArray[Any], predictions: NDArray[Any]) -> float:
    thresholds = calibration.thresholds
    return float(np.mean(values > (thresholds[predictions] if calibration.per_class else thresholds)))
