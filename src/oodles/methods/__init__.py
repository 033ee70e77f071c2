"""The published methods: one file is one paper is one difference from plain cross-entropy training."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oodles.classifier import Classifier
    from oodles.contract import Method

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
}
"""Each method's name on the command line, and its class; it lives in the file of that name."""


def method_class(name: str) -> "type[Method]":
    """The class of a method, imported now; raises ``KeyError`` for a name that is not in :data:`METHODS`."""
    cls: type[Method] = getattr(import_module(f"oodles.methods.{name.replace('-', '_')}"), METHODS[name])
    return cls


def build_methods(
    methods: "Iterable[tuple[str, Mapping[str, Any]]]", measured: Mapping[str, Mapping[str, Any]] | None = None
) -> "list[Method]":
    """Build methods from their names and settings; ``measured`` settings, by name, win."""
    return [method_class(name)(**{**given, **(measured or {}).get(name, {})}) for name, given in methods]


def change_classifier_by(methods: "Iterable[Method]", classifier: "Classifier") -> None:
    """Change a new classifier as a training step with these methods would, so that it can take trained weights."""
    for method in methods:
        if method.active:
            method.change_classifier(classifier)
