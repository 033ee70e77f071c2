"""A detector's folder: ``detector.json``, and the file of tensors that it names. Nothing in it is unpickled.

The file of tensors is named by its fingerprint and written first, so a crash leaves the old detector or the new one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from oodles import __version__
from oodles.classifier import Classifier
from oodles.data.features import Features
from oodles.detection.calibration import Calibration
from oodles.detection.inputs import Expected, Preprocessing, Reading
from oodles.evaluation import is_named
from oodles.files import in_one_piece, write_json
from oodles.files.forms import ANY, COUNT, NUMBER, SHARE, TEXT, TRUTH, Each, Every, Form, Maybe, Value, check_form
from oodles.methods import build_methods, change_classifier_by, score_named
from oodles.networks import build_network, is_own_code
from oodles.scores import Score

FORMAT = 1
"""Of the folder; raised when other versions read it in another way."""
ABOUT = "detector.json"
TENSORS = re.compile(r"tensors-[0-9a-f]{16}\.safetensors")
WEIGHTS, FIT, CALIBRATION = "weights/", "fit/", "calibration/"
Tensors = dict[str, Tensor]
TYPE = Value(
    "a type of numbers", lambda name: isinstance(name, str) and isinstance(getattr(torch, name, None), torch.dtype)
)
FILE = Value("the name of a file of tensors", lambda name: isinstance(name, str) and bool(TENSORS.fullmatch(name)))
DETECTOR_FORM: Form = {
    **{"score": TEXT, "false_alarms": NUMBER, "per_class": TRUTH, "classes": Every(TEXT)},
    "expected": {"shape": Maybe(Every(COUNT)), "unit_range": TRUTH, "dtype?": TYPE},
    "preprocessing": Maybe(Each(ANY)),
    "network": Maybe({"network": TEXT, "num_classes": COUNT, "input_shape": Every(COUNT), "methods?": Every(ANY)}),
    **{"tensors": FILE, "tensors_sha256": TEXT},
    "about": {"false_alarms_on_test?": SHARE, "rejected?": Each(SHARE), "choice?": TEXT},
}
"""Of ``detector.json``; what a network and preprocessing need besides, they say when they are built."""
ADVICE = "take it from a copy, or save the detector again"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a detector is made of; see there."""

    classifier: nn.Module
    score: Score
    calibration: Calibration
    expected: Expected = field(default_factory=Expected)
    preprocessing: Reading | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def write_detector(parts: Parts, folder: Path) -> Path:
    """Write a detector's folder, see :meth:`Detector.save`."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / ABOUT).is_file())):
        raise ValueError(f"{folder} must be a new folder or that of a detector, and it holds something else.")
    score, calibration = parts.score, parts.calibration
    if not is_named(score):
        raise ValueError(f"A detector is saved with a score that its name describes, and {score.name!r} does not.")
    if others := [name for name, value in parts.classifier.state_dict().items() if not isinstance(value, Tensor)]:
        raise ValueError(f"A classifier is saved as tensors, and it keeps something else under {others[0]!r}.")
    tensors = {
        **{WEIGHTS + name: value for name, value in parts.classifier.state_dict().items()},
        **{FIT + name: value for name, value in (score.state() if score.needs_fit else {}).items()},
        CALIBRATION + "scores": torch.from_numpy(calibration.scores),
        CALIBRATION + "predictions": torch.from_numpy(calibration.predictions),
    }
    # copies, since tied weights would share memory
    content = save({name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()})
    fingerprint = sha256(content).hexdigest()
    about = {
        "format": FORMAT,
        "oodles": __version__,
        "score": score.name,
        "false_alarms": calibration.false_alarms,
        "per_class": calibration.per_class,
        "thresholds": calibration.thresholds.tolist(),
        "classes": list(calibration.classes),
        "expected": asdict(parts.expected),
        "preprocessing": _described(parts.preprocessing),
        "network": _origin(parts.classifier),
        "tensors": f"tensors-{fingerprint[:16]}.safetensors",
        "tensors_sha256": fingerprint,
        "about": dict(parts.about),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with in_one_piece(folder / str(about["tensors"])) as file:
        file.write(content)
    write_json(folder / ABOUT, {**about, "sha256": _digest(about)})
    for old in folder.glob("tensors-*.safetensors"):
        if TENSORS.fullmatch(old.name) and old.name != about["tensors"]:
            old.unlink()
    return folder


def read_detector(folder: Path, classifier: nn.Module | None, network: str | None) -> Parts:
    """Read a detector's folder, see :meth:`Detector.load`."""
    if not (folder / ABOUT).is_file():
        raise FileNotFoundError(f"{folder} is no folder of a detector, it has no {ABOUT}: Detector.save makes one.")
    about = _read_about(folder / ABOUT)
    tensors = _read_tensors(folder / about["tensors"], about["tensors_sha256"])
    weights = _part(tensors, WEIGHTS)
    module = classifier if classifier is not None else _rebuilt(folder, about["network"], network)
    if _shapes(module.state_dict()) != _shapes(weights):  # before any of them is replaced
        raise ValueError(
            f"{folder} holds the weights of another network than {type(module).__name__}: hand over the classifier "
            "that it was saved with, or one like it."
        )
    with _read_from(folder / ABOUT):
        score, fit = score_named(about["score"]), _part(tensors, FIT)
        calibration = Calibration(
            tensors[CALIBRATION + "scores"].numpy(),
            tensors[CALIBRATION + "predictions"].numpy(),
            tuple(about["classes"]),
            about["false_alarms"],
            about["per_class"],
        )
        shape, preprocessing = about["expected"]["shape"], about["preprocessing"]
        parts = Parts(
            module,
            score.load_state(fit) if score.needs_fit else score,
            calibration,
            Expected(**{**about["expected"], "shape": None if shape is None else tuple(shape)}),
            _reading(preprocessing),
            about["about"],
        )
    module.load_state_dict(weights)  # when nothing can fail any more
    return parts


@contextmanager
def _read_from(path: Path) -> Iterator[None]:
    """Name the file whose content something cannot be made of."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ValueError(f"{path} describes what cannot be made: {said}; {ADVICE}.") from error


def _described(reading: Reading | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    return reading.as_dict() if isinstance(reading, Features) else asdict(reading)


def _reading(described: Mapping[str, Any] | None) -> Reading | None:
    if described is None:
        return None
    if "input_shape" not in described:
        return Features.from_dict(described)
    return Preprocessing(**{**described, "input_shape": tuple(described["input_shape"])})


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        written = about.pop("format")
        if written != FORMAT:
            by = about.get("oodles", "another version")
            raise ValueError(
                f"{path} has the format {written!r} of oodles {by}, and {__version__} reads {FORMAT}: use that version."
            )
        digest = about.pop("sha256")
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(_damaged(path)) from error
    if digest != _digest({"format": FORMAT, **about}):
        raise ValueError(_damaged(path))
    check_form(about, DETECTOR_FORM, str(path), ADVICE)
    return dict(about)


def _read_tensors(path: Path, fingerprint: str) -> Tensors:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {ADVICE}.")
    content = path.read_bytes()
    if sha256(content).hexdigest() != fingerprint:
        raise ValueError(_damaged(path))
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return f"{path} is not what was saved, it was changed or damaged: {ADVICE}."


def _part(tensors: Tensors, start: str) -> Tensors:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shape of each tensor; anything else that a module keeps has none."""
    return {name: getattr(value, "shape", None) for name, value in weights.items()}


def _digest(about: Mapping[str, Any]) -> str:
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _origin(classifier: nn.Module) -> Mapping[str, Any] | None:
    """Return how a classifier's network is built, if building it gives tensors of the same names and shapes."""
    origin = classifier.origin if isinstance(classifier, Classifier) else None
    if origin is None:
        return None
    try:
        again = _built(origin).state_dict()
    except (ValueError, TypeError, RuntimeError):
        return None
    return origin if _shapes(again) == _shapes(classifier.state_dict()) else None


def _rebuilt(folder: Path, origin: Mapping[str, Any] | None, network: str | None) -> nn.Module:
    """Build the network that a folder names, which is imported only if the caller names it too, or is the package's."""
    if origin is None:
        raise ValueError(
            f"{folder} holds weights of a network that the package cannot build: hand over one like it, "
            "Detector.load(folder, classifier=…)."
        )
    name = origin["network"]
    if is_own_code(name) and network != name:
        raise ValueError(
            f"{folder} names a network of one's own, {name!r}, and no code is imported because a folder names it: if "
            f"you trust it, say network={name!r}."
        )
    with _read_from(folder / ABOUT):
        return _built(origin)


def _built(origin: Mapping[str, Any]) -> Classifier:
    settings = {key: value for key, value in origin.items() if key not in ("network", "methods")}
    with torch.random.fork_rng(devices=[]):  # the new weights are replaced at once
        classifier = build_network(origin["network"], **{**settings, "input_shape": tuple(settings["input_shape"])})
        methods = tuple((name, given) for name, given in origin.get("methods", ()))
        change_classifier_by(build_methods(methods), classifier)
    return classifier
