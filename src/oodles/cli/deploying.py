"""From a run to verdicts: ``oodles score`` and ``oodles export``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from oodles.cli.flags import (
    File,
    Folders,
    OptionalFraction,
    OptionalName,
    OptionalPath,
)
from oodles.cli.shown import print_json, print_result


def score(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    inputs: Annotated[Path, Positional, arg(metavar="INPUTS")],
    /,
    *,
    to: OptionalPath = None,
    score: OptionalName = None,
    false_alarms: OptionalFraction = None,
    accept: OptionalFraction = None,
    fdr: OptionalFraction = None,
    per_class: bool = False,
    root: Folders = (),
    network: OptionalName = None,
    data: OptionalPath = None,
    encoder: OptionalName = None,
    json: bool = False,
) -> None:
    """Classify new inputs and accept or reject each: class, score, verdict and p-value in a CSV file.

    Args:
        run: a run folder, or the folder of a saved detector.
        inputs: an image, a folder of images, an .npz or .npy file, a table or texts, as the run was trained on.
        to: the CSV file; scores.csv unless given, and none with --json.
        score: outlier score, such as energy or "knn(k=5)"; "own" is the method's own; unless given, or with "best", the
            one that tells unknowns made of validation rows best, see evaluate --choose-score.
        false_alarms: share of known inputs that may be rejected; 0.05 unless given, or a saved detector's.
        accept: share of known inputs to accept, in place of --false-alarms.
        fdr: reject over all inputs together instead, so that at most this share of the rejected ones is known, in
            expectation.
        per_class: keep the share of false alarms for each predicted class by itself.
        root: folder that holds the files of the suite, if they have moved.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        data: the run's suite file, if it names functions of your own, or has moved.
        encoder: the run's, of texts, if it is package.module:function.
        json: print one JSON document.
    """
    from oodles.runs.deployment import score_inputs

    to = to or (None if json else Path("scores.csv"))
    verdicts = score_inputs(
        run,
        inputs,
        score=score,
        false_alarms=false_alarms,
        accept=accept,
        fdr=fdr,
        per_class=per_class,
        to=to,
        root=root,
        network=network,
        data=data,
        encoder=encoder,
    )
    if json:
        print_json(verdicts.as_dict())
    else:
        _say_choice(verdicts.choice)
        print_result(f"{verdicts}\n{to}")


def export(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    /,
    *,
    to: File = Path("model.onnx"),
    score: OptionalName = None,
    false_alarms: OptionalFraction = None,
    accept: OptionalFraction = None,
    per_class: bool = False,
    root: Folders = (),
    network: OptionalName = None,
    data: OptionalPath = None,
    json: bool = False,
) -> None:
    """Write a trained run as one file for other programs: inputs to logits, score and verdict.

    A Python file beside it turns pictures into what it reads, with NumPy and Pillow alone.

    oodles export RUN --to model.onnx

    Args:
        run: a run folder, or the folder of a saved detector.
        to: the file, .onnx or .pt2.
        score: outlier score, such as energy or "knn(k=5)"; "own" is the method's own; unless given, or with "best", the
            one that tells unknowns made of validation rows best, see evaluate --choose-score.
        false_alarms: share of known inputs that may be rejected; 0.05 unless given, or a saved detector's.
        accept: share of known inputs to accept, in place of --false-alarms.
        per_class: keep the share of false alarms for each predicted class by itself.
        root: folder that holds the files of the suite, if they have moved.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        data: the run's suite file, if it names functions of your own, or has moved.
        json: print one JSON document.
    """
    from oodles.runs.deployment import export as export_run

    exported = export_run(
        run,
        to,
        score=score,
        false_alarms=false_alarms,
        accept=accept,
        per_class=per_class,
        root=root,
        network=network,
        data=data,
    )
    if json:
        print_json({"file": str(exported.path), "checked": exported.checked, **exported.about})
    else:
        _say_choice(exported.about.get("choice", ""))
        print_result(exported)


def _say_choice(reason: str) -> None:
    if reason:
        print_result(f"Score: {reason}; --score own takes the method's, --score NAME another.")
