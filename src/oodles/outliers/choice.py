"""Choose among the outliers of a batch by how unknown each looks to the classifier as it is."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from oodles.contract import Now, Part, WrongPart
from oodles.inference import Seen
from oodles.scores import Score
from oodles.targets import mean_per_row


def look(part: Part, now: Now) -> Seen:
    """Return what the classifier gives for the inputs of a part, in eval mode and without gradients."""
    if part.inputs is None:
        raise WrongPart("outliers must be inputs to be chosen among, got features.")
    return now.seen(part.inputs)


def how_unknown(score: Score, part: Part, seen: Seen, now: Now) -> Float[Tensor, " n"]:
    """Return the score of each row that was looked at: the higher, the more unknown, as in :func:`for_rows`."""
    score.check(now.classifier)
    inputs: Any = part.inputs  # that were looked at
    with now.frozen(), torch.no_grad(), torch.autocast(seen.logits.device.type, enabled=False):
        values = score.of(now.classifier, inputs, seen.features, seen.logits)
    return for_rows(values, part)


def for_rows(values: Float[Tensor, "n *space"], part: Part) -> Float[Tensor, " n"]:
    """Return one number for each row: the mean over its pixels that count, infinite where nothing counts."""
    means = mean_per_row(values, part.valid)
    if part.valid is None or part.valid.shape != values.shape:  # others are refused in the forward pass
        return means
    return torch.where(part.valid.unsqueeze(-1).flatten(1).any(1), means, torch.inf)


def take(part: Part, places: Int64[Tensor, " k"]) -> Part:
    """Return the rows at these places, in the order in which they were."""
    return part.take(places.sort().values)
