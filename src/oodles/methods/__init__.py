"""The published methods: one file is one paper is one difference from plain cross-entropy training."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
}
"""Each method's name on the command line, and its class; it lives in the file of that name."""


def method_class(name: str) -> "type[Method]":
    """The class of a method, imported now; raises ``KeyError`` for a name that is not in :data:`METHODS`."""
    cls: type[Method] = getattr(import_module(f"oodles.methods.{name.replace('-', '_')}"), METHODS[name])
    return cls
