"""Oodles: training-time out-of-distribution detection.

The public surface is this page. Names are imported when they are first used, so that commands which need no torch
start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oodles.benchmarking.description import Benchmark
    from oodles.benchmarking.running import Benchmarked, benchmark
    from oodles.classifier import Classifier, Normalize, frozen
    from oodles.comparison import Comparison, compare
    from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, TrainingStep, mean_over_processes
    from oodles.evaluation import Evaluation, collect, evaluate
    from oodles.methods.background_class import BackgroundClass
    from oodles.methods.cross_entropy import CrossEntropy
    from oodles.methods.cutmix import CutMix
    from oodles.methods.energy_bounded import EnergyBounded
    from oodles.methods.energy_gap import EnergyGap, EnergyRegularizedLoss
    from oodles.methods.logit_norm import LogitNorm
    from oodles.methods.mixup import Mixup, mixup_criterion, mixup_data
    from oodles.methods.outlier_exposure import OutlierExposure, OutlierExposureLoss
    from oodles.methods.regmixup import RegMixup
    from oodles.outliers import pair
    from oodles.recipe import Recipe
    from oodles.run_folder import Run, open_run
    from oodles.targets import soft_targets
    from oodles.training import train

_HOME = {
    "Benchmark": "benchmarking.description",
    "Benchmarked": "benchmarking.running",
    "benchmark": "benchmarking.running",
    "Classifier": "classifier",
    "Normalize": "classifier",
    "frozen": "classifier",
    "Comparison": "comparison",
    "compare": "comparison",
    "Batch": "contract",
    "Method": "contract",
    "Now": "contract",
    "Outputs": "contract",
    "Paper": "contract",
    "Part": "contract",
    "TrainingStep": "contract",
    "mean_over_processes": "contract",
    "Evaluation": "evaluation",
    "collect": "evaluation",
    "evaluate": "evaluation",
    "BackgroundClass": "methods.background_class",
    "CrossEntropy": "methods.cross_entropy",
    "CutMix": "methods.cutmix",
    "EnergyBounded": "methods.energy_bounded",
    "EnergyGap": "methods.energy_gap",
    "EnergyRegularizedLoss": "methods.energy_gap",
    "LogitNorm": "methods.logit_norm",
    "Mixup": "methods.mixup",
    "mixup_criterion": "methods.mixup",
    "mixup_data": "methods.mixup",
    "OutlierExposure": "methods.outlier_exposure",
    "OutlierExposureLoss": "methods.outlier_exposure",
    "RegMixup": "methods.regmixup",
    "pair": "outliers",
    "Recipe": "recipe",
    "Run": "run_folder",
    "open_run": "run_folder",
    "soft_targets": "targets",
    "train": "training",
}

__all__ = [
    "BackgroundClass",
    "Batch",
    "Benchmark",
    "Benchmarked",
    "Classifier",
    "Comparison",
    "CrossEntropy",
    "CutMix",
    "EnergyBounded",
    "EnergyGap",
    "EnergyRegularizedLoss",
    "Evaluation",
    "LogitNorm",
    "Method",
    "Mixup",
    "Normalize",
    "Now",
    "OutlierExposure",
    "OutlierExposureLoss",
    "Outputs",
    "Paper",
    "Part",
    "Recipe",
    "RegMixup",
    "Run",
    "TrainingStep",
    "benchmark",
    "collect",
    "compare",
    "evaluate",
    "frozen",
    "mean_over_processes",
    "mixup_criterion",
    "mixup_data",
    "open_run",
    "pair",
    "soft_targets",
    "train",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'oodles' has no attribute {name!r}")
    return getattr(import_module(f"oodles.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
