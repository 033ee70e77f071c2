"""The public page: every public name once, and the module that it is from.

Type checkers read this page, and ``__init__.py`` takes from it where to import a name that is used.
"""

from oodles.benchmarking.description import Benchmark as Benchmark
from oodles.benchmarking.running import Benchmarked as Benchmarked
from oodles.benchmarking.running import benchmark as benchmark
from oodles.classifier import Classifier as Classifier
from oodles.classifier import Normalize as Normalize
from oodles.classifier import frozen as frozen
from oodles.comparing.comparison import Comparison as Comparison
from oodles.comparing.comparison import compare as compare
from oodles.contract import Batch as Batch
from oodles.contract import Data as Data
from oodles.contract import Method as Method
from oodles.contract import Now as Now
from oodles.contract import Outputs as Outputs
from oodles.contract import Paper as Paper
from oodles.contract import Part as Part
from oodles.evaluation import Evaluation as Evaluation
from oodles.evaluation import evaluate as evaluate
from oodles.inference import collect as collect
from oodles.methods.acet import ACET as ACET
from oodles.methods.arpl import ARPL as ARPL
from oodles.methods.ascood import ASCOOD as ASCOOD
from oodles.methods.augmix import AugMix as AugMix
from oodles.methods.background_class import BackgroundClass as BackgroundClass
from oodles.methods.balanced_energy import BalancedEnergy as BalancedEnergy
from oodles.methods.cac import CAC as CAC
from oodles.methods.ceda import CEDA as CEDA
from oodles.methods.confidence_branch import ConfidenceBranch as ConfidenceBranch
from oodles.methods.cross_entropy import CrossEntropy as CrossEntropy
from oodles.methods.cutmix import CutMix as CutMix
from oodles.methods.edl import EDL as EDL
from oodles.methods.energy_bounded import EnergyBounded as EnergyBounded
from oodles.methods.energy_gap import EnergyGap as EnergyGap
from oodles.methods.energy_gap import EnergyRegularizedLoss as EnergyRegularizedLoss
from oodles.methods.entropic_open_set import EntropicOpenSet as EntropicOpenSet
from oodles.methods.flooding import Flooding as Flooding
from oodles.methods.g_odin import GODIN as GODIN
from oodles.methods.ish import ISH as ISH
from oodles.methods.isomax import IsoMax as IsoMax
from oodles.methods.isomax_plus import IsoMaxPlus as IsoMaxPlus
from oodles.methods.jigsaw import Jigsaw as Jigsaw
from oodles.methods.logit_norm import LogitNorm as LogitNorm
from oodles.methods.manifold_mixup import ManifoldMixup as ManifoldMixup
from oodles.methods.mcd import MCD as MCD
from oodles.methods.mixoe import MixOE as MixOE
from oodles.methods.mixup import Mixup as Mixup
from oodles.methods.mixup import mixup_criterion as mixup_criterion
from oodles.methods.mixup import mixup_data as mixup_data
from oodles.methods.objectosphere import Objectosphere as Objectosphere
from oodles.methods.odnl import ODNL as ODNL
from oodles.methods.oecc import OECC as OECC
from oodles.methods.openmix import OpenMix as OpenMix
from oodles.methods.outlier_exposure import OutlierExposure as OutlierExposure
from oodles.methods.outlier_exposure import OutlierExposureLoss as OutlierExposureLoss
from oodles.methods.pixmix import PixMix as PixMix
from oodles.methods.regmixup import RegMixup as RegMixup
from oodles.methods.rotation_prediction import RotationPrediction as RotationPrediction
from oodles.methods.shared_discriminator import SharedDiscriminator as SharedDiscriminator
from oodles.methods.t2fnorm import T2FNorm as T2FNorm
from oodles.methods.unleashing_mask import UnleashingMask as UnleashingMask
from oodles.outliers import pair as pair
from oodles.processes import mean_over_processes as mean_over_processes
from oodles.processes import rows_of_all_processes as rows_of_all_processes
from oodles.processes import sum_over_processes as sum_over_processes
from oodles.runs.exporting import as_program as as_program
from oodles.runs.exporting import export as export
from oodles.runs.folder import Run as Run
from oodles.runs.folder import open_run as open_run
from oodles.runs.recipe import Recipe as Recipe
from oodles.runs.training import train as train
from oodles.step import TrainingStep as TrainingStep
from oodles.targets import soft_targets as soft_targets

__version__: str
