"""Evidential deep learning: outputs are evidence for classes, and little evidence means an unknown row."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_choice, check_number, check_whole
from oodles.classifier import Classifier, device_of
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32
from oodles.scores import Score, energy
from oodles.targets import Targets, as_probabilities, cross_entropy, mean_over_rows

EVIDENCE = ("relu", "softplus", "exp")
FORMS = ("mse", "log", "digamma")


def log_concentration(outputs: Float[Tensor, "n c *space"], evidence: str = "relu") -> Float[Tensor, "n c *space"]:
    """Return log α, with α = e + 1 and evidence e = relu z, softplus z, or exp z (z within ±10), z the outputs."""
    z = at_least_float32(outputs)
    match evidence:
        case "relu":
            return z.relu().log1p()
        case "softplus":
            return F.softplus(z).log1p()
        case _:
            return F.softplus(z.clamp(-10, 10))


def dirichlet_risk(logits: Float[Tensor, "n c *space"], targets: Targets, form: str = "mse") -> Float[Tensor, ""]:
    """Return the mean loss expected of class probabilities p ~ Dir(α), from log α.

    ``mse``: E ‖y − p‖². ``digamma``: E −log p_y. ``log``: −log E p_y, the cross-entropy of log α.
    """
    if form == "log":
        return cross_entropy(logits, targets)
    log_alpha = at_least_float32(logits)
    alpha = log_alpha.exp()
    strength = alpha.sum(1, keepdim=True)
    y = as_probabilities(targets, logits.shape[1]).to(alpha.dtype)
    if form == "digamma":
        return mean_over_rows((y * (strength.digamma() - alpha.digamma())).sum(1))
    p = alpha / strength
    errors = y * (1 - p).square() + (1 - y) * p.square()
    return mean_over_rows((errors + p * (1 - p) / (strength + 1)).sum(1))


def misleading_evidence(logits: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
    """Return mean KL(Dir(α̃) ‖ Dir(1)), where α̃ is α without the evidence for the row's own class, from log α.

    In float64, since gamma functions of much evidence nearly cancel.
    """
    log_alpha = logits.double()
    alpha, evidence = log_alpha.exp(), log_alpha.expm1()
    y = as_probabilities(targets, logits.shape[1])
    summands = evidence * alpha.digamma() - alpha.lgamma()
    others, misleading = summands.sum(1, keepdim=True) - summands, evidence.sum(1, keepdim=True) - evidence
    classes = logits.shape[1]
    strength = misleading + classes
    divergence = strength.lgamma() - math.lgamma(classes) - misleading * strength.digamma() + others
    return mean_over_rows((y * divergence).sum(1)).to(at_least_float32(logits).dtype)


TIE = 1e-6
"""The largest difference between logits of classes without any evidence."""


class Concentration(nn.Module):
    """A head whose logits are log α: their softmax is the expected class probability α / Σ α.

    In testing, of two classes without evidence that of the larger output has the larger logit, by next to nothing: a
    row without evidence for any class is put in the class of its largest output.
    """

    def __init__(self, layer: nn.Module, evidence: str):
        super().__init__()
        self.layer = layer
        self.evidence = evidence

    def forward(self, features: Float[Tensor, "n f *space"]) -> Float[Tensor, "n c *space"]:
        outputs = at_least_float32(self.layer(features))
        logits = log_concentration(outputs, self.evidence)
        if self.training or self.evidence != "relu":
            return logits
        return logits - TIE * (-outputs).relu().tanh()


class EDL(Method):
    """Trains a Dirichlet distribution of class probabilities, α = evidence + 1, with no evidence for wrong classes.

    When to use: no outliers at hand, few classes, and one number for "I do not know" is wanted beside the classes.
    Cost: none to speak of.
    Caveat: relu gives no gradient to a row whose outputs are all negative. Many classes train badly.

    Args:
        evidence: ``relu``, ``softplus`` or ``exp`` (of outputs within ±10) of the network's outputs.
        form: the expected loss: ``mse`` is the sum of squares, ``log`` and ``digamma`` are the paper's other two.
        annealing_epochs: the divergence's weight is min(1, t / this) in epoch t, counted from 0; 0 is full weight at
            once.

    Raises:
        ValueError: for another evidence or form, or epochs that are no whole number of at least 0.

    Source: Sensoy et al., equation 5 (``mse``), 3 (``log``) and 4 (``digamma``), and the divergence with λ_t. The head
    gives log α instead of the paper's outputs, so that softmax and scores are those of the Dirichlet distribution. The
    formulas are for class ids; of probabilities it is the expectation over the classes.
    """

    name = "edl"
    paper = Paper(
        title="Evidential Deep Learning to Quantify Classification Uncertainty",
        authors="Sensoy, Kaplan, Kandemir",
        venue="NeurIPS",
        year=2018,
        link="https://arxiv.org/abs/1806.01768",
    )
    score = "vacuity"
    terms = ("dirichlet_risk", "misleading_evidence")
    replaces = ("head", "cross-entropy")

    def __init__(self, *, evidence: str = "relu", form: str = "mse", annealing_epochs: int = 10):
        super().__init__()
        check_choice("evidence", evidence, EVIDENCE)
        check_choice("form", form, FORMS)
        check_whole("annealing_epochs", annealing_epochs, low=0)
        self.evidence = evidence
        self.form = form
        self.annealing_epochs = annealing_epochs

    def forward(
        self, outputs: Float[Tensor, "n c *space"], targets: Targets, *, annealing: float = 1.0
    ) -> Float[Tensor, ""]:
        """Loss of a network's own outputs, before evidence is made of them, and class ids or probabilities."""
        check_number("annealing", annealing, low=0)
        logits = log_concentration(outputs, self.evidence)
        return dirichlet_risk(logits, targets, self.form) + annealing * misleading_evidence(logits, targets)

    def change_classifier(self, classifier: Classifier) -> None:
        head = classifier.head
        classifier.head = Concentration(head.layer if isinstance(head, Concentration) else head, self.evidence)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        # a tensor, since a number that changes would be compiled anew in every epoch
        annealing = min(1.0, now.epoch / self.annealing_epochs) if self.annealing_epochs else 1.0
        return batch.with_draws(edl_annealing=torch.full((), annealing, device=device_of(now.classifier)))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        logits, labels = outputs.logits["id"], batch["id"].labels
        misleading = batch.draws["edl_annealing"] * misleading_evidence(logits, labels)
        return {"dirichlet_risk": dirichlet_risk(logits, labels, self.form), "misleading_evidence": misleading}


class Vacuity(Score):
    """K / S = K / Σ_k α_k, in (0, 1]: the belief that no evidence supports any class."""

    name = "vacuity"

    def check(self, classifier: nn.Module) -> None:
        if not (isinstance(classifier, Classifier) and isinstance(classifier.head, Concentration)):
            raise ValueError(f"{self.name} needs a head that gives evidence: train the classifier with edl.")

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return (logits.shape[1] * energy(logits).exp()).clamp(max=1)
