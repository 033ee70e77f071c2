"""One row per method: what the contract suite has to know about it, and where it may differ from the rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oodles import (
    BackgroundClass,
    CrossEntropy,
    CutMix,
    EnergyBounded,
    EnergyGap,
    LogitNorm,
    Method,
    Mixup,
    OutlierExposure,
    RegMixup,
)

from .networks import KINDS

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Row:
    """A method under test. ``settings`` have to make it act on the inputs of ``networks.py``."""

    cls: type[Method]
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """Every hyper-parameter and the paper's value for it, written down here once more by hand."""
    wrong: tuple[tuple[Mapping[str, Any], str], ...]
    """Settings that the constructor refuses, and what its sentence says."""
    random: bool = False
    """Whether it draws random numbers."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Kinds of input that it refuses, and what its sentence says."""
    by_position: tuple[str, ...] = ()
    """Hyper-parameters that may come by position: those of the named standalone pieces."""
    still: Mapping[str, str] = field(default_factory=dict)
    """Backbone tensors on which it has no effect, and why."""
    no_strength: str = ""
    """Why there is no strength, for methods that have none."""
    aligned: tuple[str, ...] = ()
    """Added parts whose rows belong to those of the part ``id``, so that only all can be doubled."""
    forwards: str = ""
    """Why it forwards rows itself while a batch is prepared, for methods that do."""
    backward: str = ""
    """Why autograd's derivative is not that of the loss, for methods that change it on purpose."""

    def make(self, **changes: Any) -> Method:
        return self.cls(**{**self.settings, **changes})

    def off(self) -> Method:
        """The method at strength zero."""
        return self.make(**{str(self.cls.strength): 0})

    def with_settings(self, **changes: Any) -> "Row":
        return replace(self, settings={**self.settings, **changes})

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind not in self.refuses)


def numbers_at_least_zero(name: str) -> tuple[tuple[Mapping[str, Any], str], ...]:
    return tuple(({name: value}, rf"{name} must be a finite number >= 0, got") for value in (-0.1, NAN, INF))


needs_tensor = "Mixing needs one floating-point tensor"
ROWS: dict[str, Row] = {
    "cross-entropy": Row(
        CrossEntropy,
        settings={"label_smoothing": 0.2},
        defaults={"label_smoothing": 0.0},
        wrong=(
            *numbers_at_least_zero("label_smoothing"),
            ({"label_smoothing": 1.0}, "label_smoothing must be below 1, got 1.0"),
            ({"label_smoothing": "0.1"}, "label_smoothing must be a number"),
        ),
    ),
    "mixup": Row(
        Mixup,
        settings={"alpha": 1.0},
        defaults={"alpha": 1.0, "per_sample": False},
        wrong=numbers_at_least_zero("alpha"),
        random=True,
        refuses={"tokens": needs_tensor},
    ),
    "cutmix": Row(
        CutMix,
        settings={"alpha": 1.0, "per_sample": True},
        defaults={"alpha": 1.0, "per_sample": False},
        wrong=numbers_at_least_zero("alpha"),
        random=True,
        refuses={
            "vectors": r"CutMix needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": needs_tensor,
            "dense": r"CutMix needs one label per image, got targets of shape \(6, 8, 8\)",
        },
        by_position=("alpha",),
    ),
    "regmixup": Row(
        RegMixup,
        settings={"alpha": 2.0, "weight": 0.7},
        defaults={"alpha": 20.0, "weight": 1.0, "per_sample": False},
        wrong=(*numbers_at_least_zero("alpha"), *numbers_at_least_zero("weight")),
        random=True,
        refuses={"tokens": needs_tensor},
    ),
    "outlier-exposure": Row(
        OutlierExposure,
        settings={"weight": 0.5},
        defaults={"weight": 0.5},
        wrong=numbers_at_least_zero("weight"),
    ),
    "energy-bounded": Row(
        EnergyBounded,
        settings={"weight": 0.1, "margin_in": -3.0, "margin_out": 1.0},
        defaults={"weight": 0.1, "margin_in": -25.0, "margin_out": -7.0, "power": 2},
        wrong=(
            *numbers_at_least_zero("weight"),
            ({"margin_in": NAN}, "margin_in must be a finite number, got nan"),
            ({"margin_out": INF}, "margin_out must be a finite number, got inf"),
            ({"margin_in": -5.0, "margin_out": -5.0}, "margin_in must be below margin_out, got -5.0 and -5.0"),
            ({"power": 3}, "power must be 1 or 2, got 3"),
        ),
    ),
    "energy-gap": Row(
        EnergyGap,
        settings={"weight": 0.1, "margin": 2.0},
        defaults={"weight": 0.1, "margin": 10.0},
        wrong=(*numbers_at_least_zero("weight"), ({"margin": NAN}, "margin must be a finite number, got nan")),
    ),
    "logit-norm": Row(
        LogitNorm,
        settings={"temperature": 0.04},
        defaults={"temperature": 0.04},
        wrong=tuple(
            ({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)
        ),
        no_strength="no finite temperature gives plain cross-entropy",
    ),
    "background-class": Row(
        BackgroundClass,
        settings={"weight": 0.8},
        defaults={"weight": 1.0},
        wrong=numbers_at_least_zero("weight"),
    ),
}

KINDS_OF_ROWS = [(name, kind) for name, row in ROWS.items() for kind in row.kinds]
"""For ``pytest.mark.parametrize``: every method on every kind of input that it accepts."""
