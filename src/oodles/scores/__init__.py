"""Outlier scores for any classifier: the higher, the more out-of-distribution.

Some are functions of the logits; some compare features with those of training rows and are fitted first. Those that
look at what a method has left in the classifier are in the method's file. Each has a :class:`Score` class, so that
evaluations treat all alike; ``SCORES`` and ``FURTHER_SCORES`` hold these by name, ``oodles.methods.METHOD_SCORES`` the
others.
"""

from oodles.scores.of_inputs import Odin
from oodles.scores.of_logits import (
    Energy,
    Entropy,
    Gen,
    KlMatching,
    MaxLogit,
    Msp,
    energy,
    entropy,
    generalized_entropy,
    max_logit,
    msp,
)
from oodles.scores.of_shaped_features import Ash, Dice, FeatureNorm, React, Scale, ShapedScore, largest
from oodles.scores.of_training_rows import (
    Cosine,
    Mahalanobis,
    NearestNeighbours,
    RelativeMahalanobis,
    She,
    VirtualLogit,
)
from oodles.scores.score import ComparingScore, HeadScore, Score, settings_of

SCORES: dict[str, type[Score]] = {
    "msp": Msp,
    "max-logit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "feature-norm": FeatureNorm,
    "scale": Scale,
    "ash": Ash,
    "knn": NearestNeighbours,
    "mahalanobis": Mahalanobis,
    "relative-mahalanobis": RelativeMahalanobis,
}
"""The scores that every run is tested with, by name and with their default settings."""

FURTHER_SCORES: dict[str, type[Score]] = {
    "vim": VirtualLogit,
    "gen": Gen,
    "react": React,
    "odin": Odin,
    "dice": Dice,
    "she": She,
    "kl-matching": KlMatching,
    "cosine": Cosine,
}
"""The scores that are computed when they are asked for by name."""

__all__ = [
    "FURTHER_SCORES",
    "SCORES",
    "Ash",
    "ComparingScore",
    "Cosine",
    "Dice",
    "Energy",
    "Entropy",
    "FeatureNorm",
    "Gen",
    "HeadScore",
    "KlMatching",
    "Mahalanobis",
    "MaxLogit",
    "Msp",
    "NearestNeighbours",
    "Odin",
    "React",
    "RelativeMahalanobis",
    "Scale",
    "Score",
    "ShapedScore",
    "She",
    "VirtualLogit",
    "energy",
    "entropy",
    "generalized_entropy",
    "largest",
    "max_logit",
    "msp",
    "settings_of",
]
