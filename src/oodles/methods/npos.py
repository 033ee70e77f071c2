"""NPOS: outliers made as features around those of a class that have few neighbours, and a judge of features."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn.functional import normalize

from oodles.checks import check_number, check_share, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.methods.vos import VIRTUAL, begun, classes_in_turn, told_apart
from oodles.precision import at_least_float32
from oodles.processes import rows_of_all_processes
from oodles.targets import as_probabilities

JUDGE, HIDDEN = "judge", 128
"""The further head that tells rows from virtual ones, and the width of its hidden layer, as the authors set it."""
JUDGE_RATE = 0.1
"""The learning rate of that head, as a multiple of the others', likewise."""
ANCHORS = 2
"""The border rows of a class around which candidates are drawn in a step, likewise."""
CLASSES = 10
"""At most so many classes get virtual rows in a step, in turn."""
LARGEST = 20_000_000
"""The most numbers that are kept of all classes, so that what is saved stays below 100 MB."""


def nearness(rows: Float[Tensor, "*b n f"], others: Float[Tensor, "*b m f"], neighbor: int) -> Float[Tensor, "*b n"]:
    """Return the cosine of each row and its k-th nearest among the others, itself included where it is one of them."""
    cosines = normalize(rows, dim=-1) @ normalize(others, dim=-1).mT
    return cosines.topk(neighbor, dim=-1, sorted=False).values.amin(-1)


def farthest_candidates(
    anchors: Float[Tensor, "b a f"], steps: Float[Tensor, "s f"], rows: Float[Tensor, "b m f"], neighbor: int, kept: int
) -> Float[Tensor, "b a k f"]:
    """Return of the candidates anchor + step of each anchor those ``kept`` that are farthest from their k-th neighbour.

    Candidates are compared by their products, so that no more of them are made than are kept.
    """
    units = normalize(rows, dim=-1)
    products = (anchors @ units.mT)[:, :, None] + (steps @ units.mT)[:, None]
    along = anchors @ steps.T
    lengths = (anchors.square().sum(-1)[:, :, None] + 2 * along + steps.square().sum(-1)).clamp(min=1e-12).sqrt()
    near = products.topk(neighbor, dim=-1, sorted=False).values.amin(-1) / lengths
    chosen = near.topk(kept, dim=-1, largest=False).indices
    return anchors[:, :, None] + steps[chosen]


class NPOS(Method):
    """Adds λ × the logistic loss by which a further head tells features from those made at the borders of classes.

    When to use: no outliers at hand; the paper adds it to CIDER's loss on two views.
    Cost: neighbours among the rows kept of at most ten classes at each step.
    Caveat: it starts late, so its share of the epochs has to be trained after that.

    Args:
        weight: λ; 0 switches off.
        start: the share of the epochs before the term counts, in [0, 1).
        memory: the features kept of each class, or fewer: of all classes at most 20 million numbers.
        neighbors: k, as a share of the features kept of a class, above 0.
        border: the share of them that lies farthest from its k-th neighbour, above 0.
        candidates: the number drawn around each border row that is taken.
        kept: the number of them that become virtual rows.
        spread: the standard deviation of candidates.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, a start outside [0, 1), shares outside (0, 1], a
            spread that is not above 0, no memory or candidates, or fewer candidates than are kept.

    Source: Tao et al., section 3 and algorithm 1. Features are compared at unit length and made as they are; the head
    learns at a tenth of the rate. Each step takes two border rows of each of at most ten classes, in turn, and keeps
    the features of one view. As the paper says, and other than in the authors' program, the farthest candidates are
    those of each border row, and the features kept of a class are never emptied; where a class has had fewer rows than
    it may keep, these stand for the others. The loss is the equation's sum of two means. Of soft targets, a row belongs
    to the likeliest class.
    """

    name = "npos"
    paper = Paper(
        title="Non-Parametric Outlier Synthesis",
        authors="Tao, Du, Zhu, Li",
        venue="ICLR",
        year=2023,
        link="https://arxiv.org/abs/2303.02966",
        code="https://github.com/deeplearning-wisc/npos",
    )
    score = "knn"
    strength = "weight"
    needs = ("vectors",)
    adds = ("virtual",)
    terms = ("npos",)
    heads = ("judge",)
    features: Tensor
    written: Tensor

    def __init__(
        self,
        *,
        weight: float = 0.1,
        start: float = 0.4,
        memory: int = 100,
        neighbors: float = 0.3,
        border: float = 0.2,
        candidates: int = 600,
        kept: int = 20,
        spread: float = 0.1,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_share("start", start)
        check_whole("memory", memory, low=1)
        check_number("neighbors", neighbors, above=0, high=1)
        check_number("border", border, above=0, high=1)
        check_whole("kept", kept, low=1)
        check_whole("candidates", candidates, low=kept)
        check_number("spread", spread, above=0)
        self.weight = weight
        self.start = start
        self.memory = memory
        self.neighbors = neighbors
        self.border = border
        self.candidates = candidates
        self.kept = kept
        self.spread = spread

    def forward(self, judged: Float[Tensor, " n"], judged_virtual: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """Term for what the judge gives for rows and for virtual rows: log-odds of a known row."""
        return self.weight * told_apart(at_least_float32(judged), at_least_float32(judged_virtual))

    def rows_of(self, classes: Int64[Tensor, " b"]) -> Float[Tensor, "b m f"]:
        """Return the features kept of these classes; those that there are stand for those that are not there yet."""
        count = self.written[classes].clamp(1, self.room)
        places = torch.arange(self.room, device=classes.device) % count[:, None]
        return self.features[classes[:, None] * self.room + places]

    @property
    def room(self) -> int:
        """Return how many features are kept of a class."""
        return len(self.features) // len(self.written)

    def drawn(self, classes: Int64[Tensor, " b"], generator: Generator | None = None) -> Float[Tensor, "n f"]:
        """Draw candidates around border rows of these classes, and return the farthest ones."""
        rows = self.rows_of(classes)
        neighbor, widest = (max(1, round(share * self.room)) for share in (self.neighbors, self.border))
        picks = torch.rand(len(classes), widest, generator=generator).topk(min(ANCHORS, widest)).indices
        steps = self.spread * torch.randn(self.candidates, rows.shape[2], generator=generator)
        with torch.autocast(rows.device.type, enabled=False):
            border = nearness(rows, rows, neighbor).topk(widest, largest=False).indices
            places = border.gather(1, picks.to(rows.device, non_blocking=True))
            anchors = rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2]))
            steps = steps.to(rows.device, rows.dtype, non_blocking=True)
            made: Tensor = farthest_candidates(anchors, steps, rows, neighbor, self.kept).flatten(0, 2)
        return made

    def change_classifier(self, classifier: Classifier) -> None:
        head = classifier.add_head(JUDGE, 1, hidden=HIDDEN)
        if "written" not in self._buffers:
            like = at_least_float32(next(head.parameters()).detach())
            classes, features = classifier.num_classes, classifier.num_features
            each = max(1, min(self.memory, LARGEST // (classes * features)))
            self.register_buffer("features", like.new_zeros(classes * each + 1, features))
            self.register_buffer("written", torch.zeros(classes, dtype=torch.long, device=like.device))

    def parameter_groups(self, classifier: Classifier) -> Sequence[Mapping[str, Any]]:
        return [{"params": classifier.heads[JUDGE].parameters(), "learning_rate": JUDGE_RATE}]

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        count = min(len(self.written), CLASSES)
        made = self.drawn(classes_in_turn(self.written > 0, count, now.step * count), now.generator)
        return batch.with_part(VIRTUAL, Part(features=made)).with_draws(npos=begun(self.start, now, made))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        judged = outputs.heads[JUDGE]
        return {"npos": batch.draws["npos"] * self(judged["id"].squeeze(1), judged[VIRTUAL].squeeze(1))}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        rows, _ = rows_of_all_processes(outputs.features["id"].to(self.features.dtype))
        ids, _ = rows_of_all_processes(as_probabilities(batch["id"].labels, len(self.written)).argmax(1))
        finite = rows.isfinite().all(1, keepdim=True)
        rows = torch.where(finite, rows, 0.0)
        own = finite & (ids[:, None] == torch.arange(len(self.written), device=ids.device))
        number = self.written[ids] + (own.cumsum(0) - 1).gather(1, ids[:, None]).squeeze(1)
        self.written += own.sum(0)
        # only the last ones of a class find room: the others go to the row behind all classes
        last = finite.squeeze(1) & (number >= self.written[ids] - self.room)
        self.features.index_copy_(
            0, torch.where(last, ids * self.room + number % self.room, -1) % len(self.features), rows
        )
        self.features[-1] = 0
