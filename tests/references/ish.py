"""ISH in plain float64: the gradient of the last layer's weights, one number at a time (Xu et al., ICLR 2024)."""

import math
from collections.abc import Sequence

Row = Sequence[float]


def softmax(logits: Row) -> list[float]:
    exponents = [math.exp(z - max(logits)) for z in logits]
    return [e / sum(exponents) for e in exponents]


def shaped(features: Row, kept: int) -> list[float]:
    """The largest features times exp(Σ h / Σ the largest), the others zero; for features of at least 0."""
    order = sorted(range(len(features)), key=lambda index: -features[index])[:kept]
    ratio = sum(features) / sum(features[index] for index in order)
    return [math.exp(ratio) * h if index in order else 0.0 for index, h in enumerate(features)]


def gradients(
    rows: Sequence[Row], weight: Sequence[Row], bias: Row, targets: Sequence[Row], kept: int
) -> tuple[list[list[float]], list[float], list[list[float]]]:
    """Of the mean cross-entropy: in the weights as ISH computes it, in the bias and in the features as they are."""
    of_weight = [[0.0] * len(rows[0]) for _ in weight]
    of_bias = [0.0] * len(weight)
    of_rows = []
    for row, target in zip(rows, targets, strict=True):
        logits = [sum(w * h for w, h in zip(ws, row, strict=True)) + b for ws, b in zip(weight, bias, strict=True)]
        slopes = [(p - t) / len(rows) for p, t in zip(softmax(logits), target, strict=True)]
        learned = shaped(row, kept)
        for c, slope in enumerate(slopes):
            of_bias[c] += slope
            for f, h in enumerate(learned):
                of_weight[c][f] += slope * h
        of_rows.append([sum(slope * ws[f] for slope, ws in zip(slopes, weight, strict=True)) for f in range(len(row))])
    return of_weight, of_bias, of_rows
