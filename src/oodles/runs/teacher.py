"""The teacher of a run: a trained classifier from which methods learn, and which stays as it is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oodles.classifier import Classifier
from oodles.data import Suite
from oodles.networks import NETWORKS, Network, build_network, is_own_code, network_name, share_of_own_weights
from oodles.networks.libraries import library_of
from oodles.runs.folder import WEIGHTS
from oodles.runs.opened import open_run
from oodles.runs.preparation import about_weights
from oodles.runs.saved_state import fingerprint, load_weights
from oodles.spelling import shown

KINDS = "the folder of a run, a file of weights, or a network that brings its weights"


def teacher_name(given: Network | Path) -> str:
    """Return the name under which a run remembers its teacher: an absolute path, or that of a network.

    Raises:
        FileNotFoundError: for a path where there is nothing.
    """
    if isinstance(given, str | Path) and str(given) not in NETWORKS:
        if Path(given).exists():
            return str(Path(given).resolve())
        if library_of(str(given)) is None and ":" not in str(given):
            raise FileNotFoundError(f"There is no teacher at {given}: give {KINDS}.")
    return network_name(str(given) if isinstance(given, Path) else given)


def load_teacher(
    given: Network | Path,
    suite: Suite,
    contents: Mapping[str, Any],
    data: str,
    network: Network,
    build: Callable[[], Classifier],
) -> tuple[Classifier, dict[str, str]]:
    """Return a teacher for the classes and inputs of a suite, and what a run records of it.

    Args:
        given: the folder of a run, a file of weights of the network that trains, or a network, see :func:`train`.
        suite: the data that are trained on.
        contents: what a run records of them.
        data: their name.
        network: that trains; a run of the same one may be a teacher where it is code of one's own.
        build: builds that network anew.

    Raises:
        FileNotFoundError: for a run that is not finished.
        ValueError: for a teacher of other classes or inputs, one without trained weights, and a run of other rows.
    """
    name = teacher_name(given)
    sizes: dict[str, Any] = {"num_classes": len(suite.classes), "input_shape": suite.input_shape}
    if Path(name).is_dir():
        return _of_run(Path(name), contents, data, network)
    try:
        if Path(name).is_file() and library_of(name) is None:
            classifier = build()
            load_weights(classifier, Path(name))
            return classifier, about_weights(Path(name), Path(name).name)
        taught = name if isinstance(given, Path) else given
        own = share_of_own_weights(taught, **sizes)
        classifier = build_network(taught, **sizes, mean=suite.mean, std=suite.std)
    except ValueError as error:
        raise ValueError(f"The teacher {name} cannot be built: {error}") from error
    if own < 1:
        raise ValueError(
            f"A teacher must bring all of its weights, and {name} is built with random ones for these "
            f"{len(suite.classes)} classes: give {KINDS}."
        )
    return classifier, {"label": name, "file": "", "sha256": fingerprint(classifier.state_dict(), {})}


def _of_run(
    folder: Path, contents: Mapping[str, Any], data: str, student: Network
) -> tuple[Classifier, dict[str, str]]:
    """Return the classifier of a run, and what is recorded of it; refuse other classes, inputs and rows."""
    run = open_run(folder)
    network, about = run.arguments["network"], run.record["suite"]
    if is_own_code(network):
        if network != network_name(student):
            raise ValueError(
                f"The teacher {folder} names a network of one's own, {network!r}, and no code is imported because a "
                "folder names it: give its classifier from Python, teacher=open_run(…, network=…).classifier()."
            )
        run = open_run(folder, network=student)
    for what, there, here in (
        ("classes", about["classes"], contents["classes"]),
        ("shape of inputs", about.get("input_shape"), contents["input_shape"]),
        ("encoder", *(suite.get("features", {}).get("encoder") for suite in (about, contents))),
    ):
        if there != here:
            raise ValueError(
                f"The teacher {folder} must have been trained with the {what} {_words(here)} of {data!r}, got "
                f"{_words(there)}: train one on these data."
            )
    if run.data == data and about.get("sha256", {}).get("train") != contents["sha256"]["train"]:
        raise ValueError(
            f"The teacher {folder} was trained on other rows of {data!r}, which may be test rows here: use the same "
            "seed and files for both."
        )
    classifier = run.classifier()
    return classifier, about_weights(run.folder / WEIGHTS, f"{run.label} ({network})")


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else shown(value)
