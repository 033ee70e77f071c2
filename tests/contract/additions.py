"""Methods that use what no shipped one uses yet: made features, shared views, chosen outliers, measures, other weights.

They are nobody's: each does one thing, so that the suite can hold the step to it.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from oodles import Batch, Classifier, Data, Method, Now, Outputs, Paper, Part
from oodles.contract import Gradient, Terms
from oodles.processes import mean_over_processes, rows_of_all_processes, sum_over_processes
from oodles.scores import energy
from oodles.targets import as_probabilities
from oodles.views import with_view

from .rows import Row, numbers_at_least_zero

NOBODY = Paper(title="none", authors="nobody", venue="none", year=2000, link="https://example.org")


class Weighted(Method):
    """A method with a weight.

    Args:
        weight: of the term.
    """

    name = "weighted"
    paper = NOBODY
    strength = "weight"

    def __init__(self, *, weight: float = 0.5):
        super().__init__()
        self.weight = weight


class Virtual(Weighted):
    """Raises the energy of rows that are made as features."""

    name = "virtual"
    needs = ("vectors",)
    adds = ("virtual",)
    terms = ("virtual",)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        made = torch.randn(len(batch["id"]), now.classifier.num_features, generator=now.generator)
        return batch.with_part("virtual", Part(features=made))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"virtual": -self.weight * energy(outputs.logits["virtual"]).mean()}


class Views(Weighted):
    """Pulls projections of rows and of their second view together."""

    name = "views"
    needs = ("vectors",)
    adds = ("view",)
    shares = ("view",)
    views = ("view",)
    heads = ("projection",)
    terms = ("views",)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head("projection", 5, hidden=classifier.num_features)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return with_view(batch, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        first, second = (normalize(outputs.heads["projection"][role]) for role in ("id", "view"))
        return {"views": self.weight * (first - 0.5 * second).square().sum(1).mean()}


class MoreViews(Views):
    """Shares the view and the projection with :class:`Views`."""

    name = "more-views"
    terms = ("more_views",)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        first, second = (outputs.heads["projection"][role] for role in ("id", "view"))
        return {"more_views": self.weight * (first * second).sum(1).mean()}


class Alone(Views):
    """Pulls projections together, beside cross-entropy or without.

    Args:
        weight: of the term.
        alone: train without cross-entropy.
    """

    name = "alone"
    terms = ("alone",)

    def __init__(self, *, weight: float = 0.5, alone: bool = False):
        super().__init__(weight=weight)
        self.alone = alone

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"alone": super().loss_terms(outputs, batch, now)["views"]}


class Contrast(Weighted):
    """Compares each row with the rows of all processes, and with prototypes that follow the class means."""

    name = "contrast"
    needs = ("vectors",)
    heads = ("projection",)
    terms = ("contrast",)
    prototypes: Tensor

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head("projection", 5, hidden=classifier.num_features)
        self.register_buffer("prototypes", torch.zeros(classifier.num_classes, 5, dtype=torch.float64))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        own = outputs.heads["projection"]["id"]
        others, begin = rows_of_all_processes(own)
        itself = torch.eye(len(others), device=own.device, dtype=torch.bool)[begin : begin + len(own)]
        apart = (own @ others.T).masked_fill(itself, -torch.inf).logsumexp(1).mean()
        prototypes = self.prototypes.to(own.dtype, copy=True)  # a copy, since they move in place
        near = (
            (as_probabilities(batch["id"].labels, len(self.prototypes)).to(own.dtype) * (own @ prototypes.T))
            .sum(1)
            .mean()
        )
        return {"contrast": self.weight * (apart - near)}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        own = outputs.heads["projection"]["id"].to(self.prototypes.dtype)
        y = as_probabilities(batch["id"].labels, len(self.prototypes)).to(own.dtype)
        sums = sum_over_processes(torch.cat([y.T @ own, y.sum(0)[:, None]], 1))
        counts = sums[:, 5:]
        self.prototypes.copy_(
            torch.where(counts > 0, 0.9 * self.prototypes + 0.1 * sums[:, :5] / counts, self.prototypes)
        )


class Hardest(Method):
    """Keeps the outliers of the lowest energy, those that look most like known rows."""

    name = "hardest"
    paper = NOBODY
    needs = ("outliers",)
    consumes = ("outliers",)
    replaces = ("choice of outliers",)

    def __init__(self, *, keep: int = 4):
        super().__init__()
        self.keep = keep

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        candidates = batch["outliers"]
        assert candidates.inputs is not None
        scores = energy(now.seen(candidates.inputs).logits)
        return batch.with_part("outliers", candidates.take(scores.argsort()[: self.keep]))


class Wild(Weighted):
    """Raises the energy of wild rows above what training rows had before the epoch, with a price that follows it."""

    name = "wild"
    needs = ("wild",)
    terms = ("wild",)
    measures = ("wild_energy",)
    level: Tensor
    price: Tensor

    def __init__(self, *, weight: float = 0.5):
        super().__init__(weight=weight)
        self.register_buffer("level", torch.zeros((), dtype=torch.float64))
        self.register_buffer("price", torch.ones((), dtype=torch.float64))

    def start_epoch(self, data: Data, now: Now) -> None:
        assert data.train is not None
        known = torch.cat([energy(now.seen(inputs).logits) for inputs, _ in data.train])
        self.level.copy_(known.double().mean())

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        mean, _ = mean_over_processes(energy(outputs.logits["wild"]))
        below = (self.level.to(mean.dtype, copy=True) - mean).relu()
        return {"wild": self.weight * self.price.to(mean.dtype, copy=True) * below, "wild_energy": mean}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        self.price += 0.1 * (self.level - outputs.measures["wild_energy"]).sign()


class Shaken(Weighted):
    """Forwards outliers with weights that are shaken, and raises their energy there."""

    name = "shaken"
    needs = ("outliers",)
    separate = ("outliers",)
    terms = ("shaken",)

    def change_weights(self, batch: Batch, gradient: Gradient, now: Now) -> Batch:
        weights = dict(now.classifier.named_parameters())
        noise = {name: 0.1 * torch.randn(value.shape, generator=now.shared) for name, value in weights.items()}
        change = {name: noise[name].to(value) for name, value in weights.items()}
        return batch.with_weights(("outliers",), change)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"shaken": -self.weight * energy(outputs.logits["outliers"]).mean()}


class AsTested(Weighted):
    """Raises the energy of copies of the rows, as they would be tested."""

    name = "tested"
    needs = ("vectors",)
    adds = ("copies",)
    as_tested = ("copies",)
    terms = ("tested",)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return batch.with_part("copies", Part(batch["id"].inputs))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"tested": -self.weight * energy(outputs.logits["copies"]).mean()}


class Generated(Method):
    """Makes outliers of half of the rows, or adds them to those that are there."""

    name = "generated"
    paper = NOBODY
    adds = ("outliers",)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        made = -batch["id"].rows[: len(batch["id"]) // 2]
        there = batch["outliers"].rows if "outliers" in batch else made[:0]
        return batch.with_part("outliers", Part(torch.cat([there, made])))


WEIGHT = {"settings": {"weight": 0.5}, "defaults": {"weight": 0.5}, "wrong": numbers_at_least_zero("weight")}
DENSE = {"dense": "needs features of shape"}
ADDITIONS: dict[str, Row] = {
    "virtual": Row(Virtual, **WEIGHT, random=True, refuses=DENSE, aligned=("virtual",)),
    "views": Row(Views, **WEIGHT, random=True, refuses=DENSE, aligned=("view",)),
    "alone": Row(
        Alone,
        settings={"weight": 0.5, "alone": True},
        defaults={"weight": 0.5, "alone": False},
        wrong=numbers_at_least_zero("weight"),
        random=True,
        refuses=DENSE,
        aligned=("view",),
    ),
    "contrast": Row(Contrast, **WEIGHT, refuses=DENSE, curved="rows are compared with one another"),
    "shaken": Row(Shaken, **WEIGHT, random=True),
    "hardest": Row(
        Hardest,
        settings={"keep": 4},
        defaults={"keep": 4},
        wrong=(),
        no_strength="with no fewer candidates than it keeps, it keeps all",
        forwards="it looks at the candidates",
        beside=("outlier-exposure",),
    ),
}
"""As rows of the suite."""
