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
    from oodles.contract import Batch, Data, Method, Now, Outputs, Paper, Part
    from oodles.evaluation import Evaluation, evaluate
    from oodles.exporting import as_program, export
    from oodles.inference import collect
    from oodles.methods.acet import ACET
    from oodles.methods.arpl import ARPL
    from oodles.methods.ascood import ASCOOD
    from oodles.methods.augmix import AugMix
    from oodles.methods.background_class import BackgroundClass
    from oodles.methods.balanced_energy import BalancedEnergy
    from oodles.methods.cac import CAC
    from oodles.methods.ceda import CEDA
    from oodles.methods.confidence_branch import ConfidenceBranch
    from oodles.methods.cross_entropy import CrossEntropy
    from oodles.methods.cutmix import CutMix
    from oodles.methods.edl import EDL
    from oodles.methods.energy_bounded import EnergyBounded
    from oodles.methods.energy_gap import EnergyGap, EnergyRegularizedLoss
    from oodles.methods.entropic_open_set import EntropicOpenSet
    from oodles.methods.flooding import Flooding
    from oodles.methods.g_odin import GODIN
    from oodles.methods.ish import ISH
    from oodles.methods.isomax import IsoMax
    from oodles.methods.isomax_plus import IsoMaxPlus
    from oodles.methods.jigsaw import Jigsaw
    from oodles.methods.logit_norm import LogitNorm
    from oodles.methods.manifold_mixup import ManifoldMixup
    from oodles.methods.mcd import MCD
    from oodles.methods.mixoe import MixOE
    from oodles.methods.mixup import Mixup, mixup_criterion, mixup_data
    from oodles.methods.objectosphere import Objectosphere
    from oodles.methods.odnl import ODNL
    from oodles.methods.oecc import OECC
    from oodles.methods.openmix import OpenMix
    from oodles.methods.outlier_exposure import OutlierExposure, OutlierExposureLoss
    from oodles.methods.pixmix import PixMix
    from oodles.methods.regmixup import RegMixup
    from oodles.methods.rotation_prediction import RotationPrediction
    from oodles.methods.shared_discriminator import SharedDiscriminator
    from oodles.methods.t2fnorm import T2FNorm
    from oodles.methods.unleashing_mask import UnleashingMask
    from oodles.outliers import pair
    from oodles.processes import mean_over_processes, rows_of_all_processes, sum_over_processes
    from oodles.recipe import Recipe
    from oodles.run_folder import Run, open_run
    from oodles.step import TrainingStep
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
    "TrainingStep": "step",
    "mean_over_processes": "processes",
    "rows_of_all_processes": "processes",
    "sum_over_processes": "processes",
    "Data": "contract",
    "as_program": "exporting",
    "export": "exporting",
    "Evaluation": "evaluation",
    "collect": "inference",
    "evaluate": "evaluation",
    "ACET": "methods.acet",
    "ASCOOD": "methods.ascood",
    "BackgroundClass": "methods.background_class",
    "BalancedEnergy": "methods.balanced_energy",
    "CEDA": "methods.ceda",
    "ARPL": "methods.arpl",
    "CAC": "methods.cac",
    "ConfidenceBranch": "methods.confidence_branch",
    "EDL": "methods.edl",
    "Flooding": "methods.flooding",
    "UnleashingMask": "methods.unleashing_mask",
    "CrossEntropy": "methods.cross_entropy",
    "CutMix": "methods.cutmix",
    "EnergyBounded": "methods.energy_bounded",
    "EnergyGap": "methods.energy_gap",
    "EnergyRegularizedLoss": "methods.energy_gap",
    "EntropicOpenSet": "methods.entropic_open_set",
    "GODIN": "methods.g_odin",
    "ISH": "methods.ish",
    "IsoMax": "methods.isomax",
    "IsoMaxPlus": "methods.isomax_plus",
    "Jigsaw": "methods.jigsaw",
    "LogitNorm": "methods.logit_norm",
    "MCD": "methods.mcd",
    "AugMix": "methods.augmix",
    "ManifoldMixup": "methods.manifold_mixup",
    "MixOE": "methods.mixoe",
    "OpenMix": "methods.openmix",
    "PixMix": "methods.pixmix",
    "Mixup": "methods.mixup",
    "mixup_criterion": "methods.mixup",
    "mixup_data": "methods.mixup",
    "Objectosphere": "methods.objectosphere",
    "ODNL": "methods.odnl",
    "OECC": "methods.oecc",
    "OutlierExposure": "methods.outlier_exposure",
    "OutlierExposureLoss": "methods.outlier_exposure",
    "RegMixup": "methods.regmixup",
    "RotationPrediction": "methods.rotation_prediction",
    "SharedDiscriminator": "methods.shared_discriminator",
    "T2FNorm": "methods.t2fnorm",
    "pair": "outliers",
    "Recipe": "recipe",
    "Run": "run_folder",
    "open_run": "run_folder",
    "soft_targets": "targets",
    "train": "training",
}

__all__ = [
    "ACET",
    "ARPL",
    "ASCOOD",
    "CAC",
    "CEDA",
    "EDL",
    "GODIN",
    "ISH",
    "MCD",
    "ODNL",
    "OECC",
    "AugMix",
    "BackgroundClass",
    "BalancedEnergy",
    "Batch",
    "Benchmark",
    "Benchmarked",
    "Classifier",
    "Comparison",
    "ConfidenceBranch",
    "CrossEntropy",
    "CutMix",
    "Data",
    "EnergyBounded",
    "EnergyGap",
    "EnergyRegularizedLoss",
    "EntropicOpenSet",
    "Evaluation",
    "Flooding",
    "IsoMax",
    "IsoMaxPlus",
    "Jigsaw",
    "LogitNorm",
    "ManifoldMixup",
    "Method",
    "MixOE",
    "Mixup",
    "Normalize",
    "Now",
    "Objectosphere",
    "OpenMix",
    "OutlierExposure",
    "OutlierExposureLoss",
    "Outputs",
    "Paper",
    "Part",
    "PixMix",
    "Recipe",
    "RegMixup",
    "RotationPrediction",
    "Run",
    "SharedDiscriminator",
    "T2FNorm",
    "TrainingStep",
    "UnleashingMask",
    "as_program",
    "benchmark",
    "collect",
    "compare",
    "evaluate",
    "export",
    "frozen",
    "mean_over_processes",
    "mixup_criterion",
    "mixup_data",
    "open_run",
    "pair",
    "rows_of_all_processes",
    "soft_targets",
    "sum_over_processes",
    "train",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'oodles' has no attribute {name!r}")
    return getattr(import_module(f"oodles.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
