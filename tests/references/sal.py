"""SAL (Du et al., 2024), in plain float64."""

import math

import numpy as np

from .equations import Rows, log_sum_exp


def gradient(feature: Rows, logits: Rows, label: int) -> Rows:
    """The gradient of −log p_y in the weights of class y of the last layer, z = W·h + b."""
    return np.array([(math.exp(logits[label] - log_sum_exp(logits)) - 1) * value for value in feature])


def fitted(
    features: Rows, logits: Rows, labels: Rows, wild: Rows, wild_logits: Rows, quantile: float
) -> tuple[Rows, Rows, float]:
    """Each class's mean gradient, the first singular vector of the wild rows around it, and the threshold of scores
    that rows have along the first singular vector of their own."""
    gradients = np.array([gradient(h, z, y) for h, z, y in zip(features, logits, labels, strict=True)])
    predicted = wild_logits.argmax(1)
    of_wild = np.array([gradient(h, z, y) for h, z, y in zip(wild, wild_logits, predicted, strict=True)])
    classes, size = logits.shape[1], features.shape[1]
    means, own_directions, directions = (np.zeros((classes, size)) for _ in range(3))
    for label in set(labels.tolist()):
        own = gradients[labels == label]
        means[label] = own.mean(0)
        own_directions[label] = np.linalg.svd(own - means[label])[2][0]
        directions[label] = np.linalg.svd(of_wild[predicted == label] - means[label])[2][0]
    scores = [score(h, z, y, means, own_directions) for h, z, y in zip(features, logits, labels, strict=True)]
    return means, directions, float(np.quantile(scores, quantile))


def score(feature: Rows, logits: Rows, label: int, means: Rows, directions: Rows) -> float:
    """The length of the row's gradient, less the class's mean, along the class's direction."""
    return abs(float((gradient(feature, logits, label) - means[label]) @ directions[label]))


def loss(known: Rows, wild: Rows, chosen: Rows) -> float:
    """The mean of both sides of the logistic loss, whichever has more rows; nothing without unknown rows."""
    if not any(chosen):
        return 0.0
    of_known = [math.log1p(math.exp(-value)) for value in known]
    of_unknown = [math.log1p(math.exp(value)) for value, is_chosen in zip(wild, chosen, strict=True) if is_chosen]
    return (sum(of_known) / len(of_known) + sum(of_unknown) / len(of_unknown)) / 2
