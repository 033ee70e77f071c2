"""The published methods: one file is one paper is one difference from plain cross-entropy training.

Methods and their scores are imported when they are first used, so that reading names needs no torch.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from oodles.spelling import suggestion

if TYPE_CHECKING:
    from torch import nn

    from oodles.classifier import Classifier
    from oodles.contract import Method
    from oodles.scores import Score

METHODS = {
    "cross-entropy": "CrossEntropy",
    "mixup": "Mixup",
    "cutmix": "CutMix",
    "regmixup": "RegMixup",
    "outlier-exposure": "OutlierExposure",
    "energy-bounded": "EnergyBounded",
    "energy-gap": "EnergyGap",
    "logit-norm": "LogitNorm",
    "background-class": "BackgroundClass",
    "rotation-prediction": "RotationPrediction",
    "jigsaw": "Jigsaw",
    "ceda": "CEDA",
    "acet": "ACET",
    "shared-discriminator": "SharedDiscriminator",
    "entropic-open-set": "EntropicOpenSet",
    "objectosphere": "Objectosphere",
    "oecc": "OECC",
    "balanced-energy": "BalancedEnergy",
    "mcd": "MCD",
    "odnl": "ODNL",
    "confidence-branch": "ConfidenceBranch",
    "cac": "CAC",
    "arpl": "ARPL",
    "flooding": "Flooding",
    "unleashing-mask": "UnleashingMask",
    "edl": "EDL",
    "t2fnorm": "T2FNorm",
    "g-odin": "GODIN",
    "isomax": "IsoMax",
    "isomax-plus": "IsoMaxPlus",
    "ish": "ISH",
    "ascood": "ASCOOD",
    "mixoe": "MixOE",
    "openmix": "OpenMix",
    "manifold-mixup": "ManifoldMixup",
    "pixmix": "PixMix",
    "augmix": "AugMix",
    "reweight-ood": "ReweightOOD",
    "palm": "PALM",
    "supcon": "SupCon",
    "cider": "CIDER",
    "pfs": "PFS",
    "duq": "DUQ",
    "vos": "VOS",
    "npos": "NPOS",
    "pascl": "PASCL",
    "sngp": "SNGP",
    "cocl": "COCL",
    "elogit-norm": "ELogitNorm",
    "mos": "MOS",
    "siren": "SIREN",
    "distillation": "Distillation",
    "ntom": "NTOM",
    "dos": "DOS",
    "poem": "POEM",
    "sam": "SAM",
    "hopfield-boosting": "HopfieldBoosting",
    "doe": "DOE",
    "divoe": "DivOE",
    "aoe": "AOE",
    "diversemix": "DiverseMix",
    "generated-outliers": "GeneratedOutliers",
    "dal": "DAL",
    "greg": "GReg",
    "woods": "WOODS",
    "scone": "SCONE",
    "sal": "SAL",
}
"""Each method's name on the command line, and its class; it lives in the file of that name."""

METHOD_SCORES = {
    "background": ("background-class", "Background"),
    "background-s2": ("background-class", "BackgroundS2"),
    "background-s3": ("background-class", "BackgroundS3"),
    "rotation": ("rotation-prediction", "Rotation"),
    "positive-logit-norm": ("jigsaw", "PositiveLogitNorm"),
    "discriminator": ("shared-discriminator", "Discriminator"),
    "discriminator-s2": ("shared-discriminator", "DiscriminatorS2"),
    "discriminator-s3": ("shared-discriminator", "DiscriminatorS3"),
    "objectosphere": ("objectosphere", "ObjectosphereScore"),
    "discrepancy": ("mcd", "Discrepancy"),
    "confidence": ("confidence-branch", "Confidence"),
    "confidence-perturbed": ("confidence-branch", "ConfidencePerturbed"),
    "cac": ("cac", "AnchorDistance"),
    "vacuity": ("edl", "Vacuity"),
    "g-odin": ("g-odin", "Perturbed"),
    "g-odin-unperturbed": ("g-odin", "Unperturbed"),
    "feature-separation": ("pfs", "FeatureSeparation"),
    "gp-variance": ("sngp", "GPVariance"),
    "cocl": ("cocl", "CalibratedOutlierClass"),
    "mos": ("mos", "OtherGroups"),
    "vmf": ("siren", "LeastDensity"),
    "sal": ("sal", "WildHead"),
    "hopfield": ("hopfield-boosting", "EnergyDifference"),
}
"""Scores of what a method leaves in the classifier: the method that brings each, and the score's class."""

STEP_TIMES = {
    "cross-entropy": 1.0,
    "mixup": 1.0,
    "cutmix": 1.0,
    "regmixup": 2.0,
    "outlier-exposure": 2.0,
    "energy-bounded": 2.0,
    "energy-gap": 2.0,
    "logit-norm": 1.0,
    "background-class": 2.0,
    "rotation-prediction": 4.0,
    "jigsaw": 2.0,
    "ceda": 2.0,
    "acet": 27.5,
    "shared-discriminator": 2.0,
    "entropic-open-set": 2.0,
    "objectosphere": 2.0,
    "oecc": 2.0,
    "balanced-energy": 2.0,
    "mcd": 2.0,
    "odnl": 2.0,
    "confidence-branch": 1.0,
    "cac": 1.0,
    "arpl": 1.0,
    "flooding": 1.0,
    "unleashing-mask": 1.0,
    "edl": 1.0,
    "t2fnorm": 1.0,
    "g-odin": 1.0,
    "isomax": 1.0,
    "isomax-plus": 1.0,
    "ish": 1.0,
    "ascood": 2.9,
    "mixoe": 2.0,
    "openmix": 2.0,
    "manifold-mixup": 1.0,
    "pixmix": 1.1,
    "augmix": 3.2,
    "reweight-ood": 2.2,
    "palm": 2.2,
    "supcon": 2.2,
    "cider": 2.2,
    "pfs": 2.0,
    "duq": 3.3,
    "vos": 1.2,
    "npos": 1.5,
    "pascl": 3.3,
    "sngp": 1.1,
    "cocl": 2.2,
    "elogit-norm": 1.0,
    "mos": 1.0,
    "siren": 1.2,
    "distillation": 1.4,
    "ntom": 2.0,
    "dos": 2.0,
    "poem": 2.1,
    "sam": 2.0,
    "hopfield-boosting": 2.1,
    "doe": 6.0,
    "divoe": 4.6,
    "aoe": 2.8,
    "diversemix": 2.5,
    "generated-outliers": 1.5,
    "dal": 2.1,
    "greg": 6.0,
    "woods": 2.0,
    "scone": 2.0,
    "sal": 2.5,
}
"""The time of a training step with a method over a plain one with as many in-distribution rows, as it was measured."""


def scores_of(method: str) -> tuple[str, ...]:
    """Return the names of the scores that a method brings."""
    return tuple(name for name, (owner, _) in METHOD_SCORES.items() if owner == method)


def method_class(name: str) -> "type[Method]":
    """Import the class of a method; raises ``KeyError`` for a name that is not in :data:`METHODS`."""
    cls: type[Method] = getattr(_module(name), METHODS[name])
    return cls


def method_score(name: str) -> "Score":
    """Make a score of :data:`METHOD_SCORES` with its default settings; raises ``KeyError`` for another name."""
    method, cls = METHOD_SCORES[name]
    score: Score = getattr(_module(method), cls)()
    return score


def score_named(name: str) -> "Score":
    """Make a score of a name, with settings where the name has some: ``energy``, ``knn(k=5)``.

    Raises:
        ValueError: for an unknown score, unknown settings, or values that a setting cannot have.
    """
    scores: Any = import_module("oodles.scores")
    plain, opened, inside = name.strip().partition("(")
    known: dict[str, type[Score]] = {**scores.SCORES, **scores.FURTHER_SCORES}
    if plain not in known and plain not in METHOD_SCORES:
        names = [*known, *METHOD_SCORES]
        hint = suggestion(plain, names, "choose one of them.")
        raise ValueError(f"score must be one of {', '.join(names)}, got {name!r}{hint}")
    cls = known.get(plain) or type(method_score(plain))
    defaults, settings = scores.settings_of(cls), {}
    if opened and not inside.endswith(")"):
        raise ValueError(f"A score with settings is written like knn(k=5), got {name!r}: close the bracket.")
    for pair in inside.removesuffix(")").split(",") if inside.strip(") ") else []:
        setting, equals, value = (word.strip() for word in pair.partition("="))
        if setting not in defaults:
            hint = suggestion(setting, defaults) if defaults else ": leave the brackets out."
            raise ValueError(f"{plain} has no setting {setting!r}{hint}")
        if not equals or not value or setting in settings:
            raise ValueError(f"The setting {setting!r} of {plain} must have one value, as in knn(k=5), got {name!r}.")
        settings[setting] = _read_value(value, defaults[setting])
    return cls(**settings)


def _read_value(text: str, default: object) -> object:
    """Read the value of a setting as the name of a score shows it; what cannot be read is left to the score."""
    words = {"true": True, "false": False, "none": None}
    if isinstance(default, str):
        return text
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _module(method: str) -> ModuleType:
    return import_module(f"oodles.methods.{method.replace('-', '_')}")


def build_methods(
    methods: "Iterable[tuple[str, Mapping[str, Any]]]",
    measured: Mapping[str, Mapping[str, Any]] | None = None,
    teacher: "nn.Module | None" = None,
) -> "list[Method]":
    """Build methods from their names and settings; ``measured`` settings win, and who needs the teacher gets it."""
    built = []
    for name, given in methods:
        cls = method_class(name)
        handed = {"teacher": teacher} if "teacher" in cls.needs else {}
        built.append(cls(**{**given, **(measured or {}).get(name, {}), **handed}))
    return built


def change_classifier_by(methods: "Iterable[Method]", classifier: "Classifier") -> None:
    """Change a new classifier as a training step with these methods would, so that it can take trained weights."""
    for method in methods:
        if method.active:
            method.change_classifier(classifier)
