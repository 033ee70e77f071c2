"""Metrics of detection and of classification, in NumPy alone.

Scores are arrays or tensors, or a :class:`Histogram` of more than fit into memory.

Two different numbers are called FPR95 in the literature; here each has a name of its own.
"""

from oodles.metrics.classification import accuracy, accuracy_at_chance, at_chance, doubts, largest_share
from oodles.metrics.detection import (
    METRICS,
    Counts,
    Decided,
    aupr_in,
    aupr_out,
    auroc,
    best_threshold,
    counts,
    decided,
    fpr95_id_positive,
    fpr95_ood_positive,
    metric_bounds,
    ood_metrics,
)
from oodles.metrics.histogram import MOST, Histogram

__all__ = [
    "METRICS",
    "MOST",
    "Counts",
    "Decided",
    "Histogram",
    "accuracy",
    "accuracy_at_chance",
    "at_chance",
    "aupr_in",
    "aupr_out",
    "auroc",
    "best_threshold",
    "counts",
    "decided",
    "doubts",
    "fpr95_id_positive",
    "fpr95_ood_positive",
    "largest_share",
    "metric_bounds",
    "ood_metrics",
]
