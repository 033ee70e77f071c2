"""The training rows that are nearest to others in a classifier's features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodles.classifier import device_of
from oodles.data import ImageSet
from oodles.inference import BatchSeen, batches_seen, in_eval_mode

ROWS = 64
"""Training rows that the classifier sees at once."""


def nearest(classifier: nn.Module, inputs: Tensor, train: ImageSet, count: int) -> NDArray[np.int64]:
    """Return the numbers of the training rows with the highest cosine similarity to each input, the highest first.

    Args:
        classifier: gives features, or logits in their place.
        inputs: (n, *row), as the classifier reads them.
        train: rows of the same shape; they are read batch by batch.
        count: how many for each input, or all rows where there are fewer.
    """
    count = min(count, len(train))
    if not len(inputs):
        return np.empty((0, count), np.int64)
    device = device_of(classifier)
    with in_eval_mode(classifier):
        wanted = torch.cat([_directions(seen) for seen in batches_seen(classifier, [inputs], "inputs")])
        best = torch.full((len(inputs), 0), 0.0, device=device)
        numbers = torch.zeros((len(inputs), 0), dtype=torch.int64, device=device)
        start = 0
        for seen in batches_seen(classifier, train.in_order(device, ROWS), "train"):
            alike = wanted @ _directions(seen).T
            rows = torch.arange(start, start + alike.shape[1], device=device).expand(len(inputs), -1)
            start += alike.shape[1]
            best, numbers = torch.cat([best, alike], 1), torch.cat([numbers, rows], 1)
            best, places = best.topk(min(count, best.shape[1]))
            numbers = numbers.gather(1, places)
    return numbers.cpu().numpy()


def _directions(seen: BatchSeen) -> Tensor:
    """Return features (n, f) of length one; logits of a classifier that gives no features."""
    return normalize((seen.features if seen.features.numel() else seen.logits).flatten(1))
