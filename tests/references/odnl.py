"""Cross-entropy of outliers to random labels (Wei et al., 2021), row by row."""

from collections.abc import Sequence

from .equations import Rows, log_sum_exp


def loss(logits_out: Rows, labels: Sequence[int]) -> float:
    """mean −log p_ỹ(o)."""
    return sum(log_sum_exp(z) - z[label] for z, label in zip(logits_out, labels, strict=True)) / len(logits_out)
