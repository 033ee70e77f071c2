"""SAL: wild rows whose gradient leads away from those of known rows, told from these by a head of their own."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import softplus

from oodles.checks import check_number, check_share
from oodles.classifier import Classifier, device_of
from oodles.contract import Batch, Data, Method, Now, Outputs, Paper, Terms
from oodles.inference import collect
from oodles.precision import at_least_float32, unit_length
from oodles.processes import mean_over_processes, process_count, sum_over_processes
from oodles.scores import HeadScore
from oodles.targets import mean_over_rows

SAL_HEAD = "sal"
"""The further head: the log-odds of being known."""
ROUNDS = 100
"""Of power iteration."""
NOT_FITTED = -1.0
"""A threshold below every score, of a filter that has seen no rows and lets all through."""


def own_gradients(
    features: Float[Tensor, "n f"], logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]
) -> Float[Tensor, "n f"]:
    """Return the gradient of each row's cross-entropy in the last layer's weights of its own class, (p_y − 1)·h."""
    log_p = at_least_float32(logits).log_softmax(1).gather(1, labels[:, None])
    return log_p.expm1() * at_least_float32(features)


def leading_directions(rows: Float[Tensor, "n f"], labels: Int64[Tensor, " n"], classes: int) -> Float[Tensor, "c f"]:
    """Return the first right singular vector of the rows of each class, at unit length; zeros for a class without any.

    By power iteration from the column that varies most.
    """
    none = rows.new_zeros(classes, rows.shape[1])
    sizes = none.amax(1).scatter_reduce(0, labels, rows.abs().amax(1), "amax")
    rows = rows / torch.where(sizes > 0, sizes, 1.0)[labels, None]
    largest = none.index_add(0, labels, rows.square()).argmax(1, keepdim=True)
    directions = none.scatter(1, largest, 1.0)
    for _ in range(ROUNDS):
        along = (rows * directions[labels]).sum(1, keepdim=True)
        directions = unit_length(none.index_add(0, labels, along * rows))
    return directions


class SAL(Method):
    """Adds w × the logistic loss by which a head tells known rows from wild ones that a filter takes for unknown.

    The filter scores a row by abs ⟨(p_y − 1)·h − ḡ_y, v_y⟩, with y the predicted class, ḡ_y the mean of this gradient
    over the class's training rows and v_y the direction in which those of the wild rows deviate most from it; a row
    counts as unknown above the quantile τ of the scores that training rows have along the directions of their own.

    When to use: a trained classifier, and rows without labels from where it is used, some of which are unknown.
    Cost: a pass over the training and the wild rows before each epoch, whose features are held meanwhile, and the wild
    rows in two forward passes, one of them without gradients.
    Caveat: rows of which the classifier is sure have no gradient, so the filter misses unknown ones that it takes for
    a class. A share 1 − τ of the known wild rows is taken for unknown. A loop of one's own calls ``step.start_epoch``
    before each epoch, with ``Data(train=…, wild=…)``: until the first time, all wild rows count as unknown.

    Args:
        weight: w; 0 switches off. The authors' 10 goes with their learning rate of 0.001; with ten times that, training
            may collapse.
        quantile: τ, the share of training rows whose score the filter's threshold is above.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, or a quantile outside [0, 1).

    Source: Du et al., sections 3.1 and 3.2, with one singular vector, and the authors' program, in which the gradient
    is that of the last layer's row of the class, by differentiating each row: it is (p_y − 1)·h. Their loss is the mean
    over as many known rows as unknown ones; here each of the two counts a half, however many rows the filter lets
    through, and a batch without unknown rows leaves the term at zero, where theirs stops with an error. They filter
    once, by the trained classifier; here rows are filtered as they come, and the filter is fitted anew before each
    epoch, since wild rows in a batch have no names by which a choice could be kept.
    """

    name = "sal"
    paper = Paper(
        title="How Does Unlabeled Data Provably Help Out-of-Distribution Detection?",
        authors="Du, Fang, Diakonikolas, Li",
        venue="ICLR",
        year=2024,
        link="https://arxiv.org/abs/2402.03502",
        code="https://github.com/deeplearning-wisc/sal",
    )
    score = "sal"
    strength = "weight"
    needs = ("wild", "vectors", "linear-head", "weights")
    terms = ("sal",)
    measures = ("wild_chosen",)
    heads = ("sal",)
    means: Tensor
    directions: Tensor
    threshold: Tensor

    def __init__(self, *, weight: float = 10.0, quantile: float = 0.95):
        super().__init__()
        check_number("weight", weight, low=0)
        check_share("quantile", quantile)
        self.weight = weight
        self.quantile = quantile

    def forward(
        self,
        log_odds: Float[Tensor, "n 1"],
        wild_log_odds: Float[Tensor, "m 1"],
        chosen: Bool[Tensor, " m"],
    ) -> Float[Tensor, ""]:
        """Term for log-odds of being known, of known and of wild rows, and which of the latter count as unknown."""
        known, wild = at_least_float32(log_odds), at_least_float32(wild_log_odds).squeeze(1)
        count = sum_over_processes(chosen.to(wild.dtype).sum()) / process_count()
        unknown = torch.where(chosen, softplus(wild), 0.0).sum() / torch.where(count > 0, count, 1.0)
        both = mean_over_rows(softplus(-known)) + unknown
        return self.weight / 2 * torch.where(count > 0, both, 0.0)

    def choose(self, features: Float[Tensor, "m f"], logits: Float[Tensor, "m c"]) -> Bool[Tensor, " m"]:
        """Return which wild rows count as unknown."""
        return self.scores(features, logits, logits.argmax(1)) > self.threshold.to(features.dtype)

    def scores(
        self, features: Float[Tensor, "n f"], logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Return how far rows lie along the directions of their classes, which is 0 before the filter is fitted."""
        rows = own_gradients(features, logits, labels)
        means, directions = (value.to(rows.dtype)[labels] for value in (self.means, self.directions))
        return ((rows - means) * directions).sum(1).abs()

    def fit(
        self,
        features: Float[Tensor, "n f"],
        logits: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        wild_features: Float[Tensor, "m f"],
        wild_logits: Float[Tensor, "m c"],
    ) -> None:
        """Fit the filter to training rows with their class ids, and to wild rows."""
        rows, classes = own_gradients(features.double(), logits.double(), labels), logits.shape[1]
        counts = torch.bincount(labels, minlength=classes).clamp(min=1)
        means = rows.new_zeros(classes, rows.shape[1]).index_add(0, labels, rows) / counts[:, None]
        self.means.copy_(means)
        predicted = wild_logits.argmax(1)
        wild = own_gradients(wild_features.double(), wild_logits.double(), predicted)
        self.directions.copy_(leading_directions(wild - means[predicted], predicted, classes))
        rows = rows - means[labels]
        scores = (rows * leading_directions(rows, labels, classes)[labels]).sum(1).abs().cpu().numpy()
        self.threshold.fill_(float(np.quantile(scores, self.quantile)) if len(scores) else NOT_FITTED)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(SAL_HEAD, 1)
        if "means" not in self._buffers:
            empty = torch.zeros(
                classifier.num_classes, classifier.num_features, dtype=torch.float64, device=device_of(classifier)
            )
            self.register_buffer("means", empty)
            self.register_buffer("directions", empty.clone())
            self.register_buffer("threshold", empty.new_full((), NOT_FITTED))

    def start_epoch(self, data: Data, now: Now) -> None:
        if data.train is None or data.wild is None:
            raise ValueError(
                f"{self.name} fits its filter to training and wild rows before an epoch, got none of "
                f"{'the former' if data.train is None else 'the latter'}: call step.start_epoch(epoch, epochs, "
                "Data(train=…, wild=…))."
            )
        wild = collect(now.classifier, data.wild, name="wild", to=device_of(now.classifier))
        self.fit(*_training_rows(now.classifier, data.train), wild.features, wild.logits)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        inputs: Any = batch["wild"].inputs
        seen = now.seen(inputs)
        return batch.with_draws(sal_chosen=self.choose(seen.features, seen.logits))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        log_odds = outputs.heads[SAL_HEAD]
        chosen = batch.counted("wild", batch.draws["sal_chosen"])
        share, _ = mean_over_processes(chosen.to(torch.float32))
        return {"sal": self(log_odds["id"], log_odds["wild"], chosen), "wild_chosen": share}


def _training_rows(classifier: Classifier, train: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, logits and class ids of the training rows that have one."""
    rows = collect(classifier, train, name="train", to=device_of(classifier), labelled=True)
    if rows.labels is None:
        raise ValueError("train must give rows with their labels, got rows alone.")
    labels = rows.labels.argmax(1) if rows.labels.is_floating_point() else rows.labels.long()
    known = (labels >= 0) & (labels < classifier.num_classes)
    return rows.features[known], rows.logits[known], labels[known]


class WildHead(HeadScore):
    """Minus the log-odds of being known that SAL's head gives."""

    name = "sal"
    needs_heads = (SAL_HEAD,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (log_odds,) = heads
        return -at_least_float32(log_odds.squeeze(1))
