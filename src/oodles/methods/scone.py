"""SCONE: WOODS with a margin between known and unknown rows, so that known rows that have changed stay known."""

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.contract import Batch, Data, Method, Now, Outputs, Paper, Terms
from oodles.outliers.constraints import ConstrainedEnergies


class SCONE(Method):
    """Minimises w × mean σ(−φ) of wild rows' energies raised by η, with WOODS's constraints on known rows.

    When to use: a trained classifier, and rows without labels from where it is used, some of which are unknown and many
    known ones look otherwise than in training.
    Cost: the wild rows in the forward pass, and one pass over the training rows before the first epoch.
    Caveat: those of WOODS; and the margin belongs to the scale of one network's energies.

    Args:
        weight: w; 0 switches off.
        margin: η, added to the energies of wild rows; below 0 they count as unknown only from so much more energy on.
        false_alarms: α, the share of known rows that may be taken for unknown.
        loss_factor: τ, how many times the cross-entropy CE₀ that the trained classifier begins with is allowed.
        multiplier_rate: by which a multiplier follows an epoch's mean excess of its constraint.
        penalty_growth: by which a penalty grows after each epoch that has missed its constraint.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, a margin that is not finite, a share outside [0, 1),
            a factor or rate that is not above 0, or a growth below 1.

    Source: Bai et al., equation 5, with the margin that the authors train with; their program's default is 1. It is
    WOODS's program with η subtracted from −E(x) of wild rows, and what differs from that differs here.
    """

    name = "scone"
    paper = Paper(
        title="Feed Two Birds with One Scone: Exploiting Wild Data for Both Out-of-Distribution Generalization and "
        "Detection",
        authors="Bai, Canal, Du, Kwon, Nowak, Li",
        venue="ICML",
        year=2023,
        link="https://arxiv.org/abs/2306.09158",
        code="https://github.com/deeplearning-wisc/scone",
    )
    score = "energy"
    strength = "weight"
    needs = ("wild", "weights")
    terms = ("scone_cross_entropy", "scone_false_alarms", "scone")
    measures = ("known_cross_entropy", "false_alarms")
    replaces = ("cross-entropy", "logits")

    def __init__(
        self,
        *,
        weight: float = 1.0,
        margin: float = -10.0,
        false_alarms: float = 0.05,
        loss_factor: float = 2.0,
        multiplier_rate: float = 1.0,
        penalty_growth: float = 1.5,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("margin", margin)
        self.energies = ConstrainedEnergies(false_alarms, loss_factor, multiplier_rate, penalty_growth)
        self.weight = weight
        self.margin = margin
        self.false_alarms = false_alarms
        self.loss_factor = loss_factor
        self.multiplier_rate = multiplier_rate
        self.penalty_growth = penalty_growth

    def forward(self, wild_logits: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the logits of wild rows, without the constraints on known ones."""
        return self.weight * self.energies.wild(wild_logits, self.margin)

    def start_epoch(self, data: Data, now: Now) -> None:
        self.energies.start(self.name, data, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        known = self.energies.known(outputs.logits["id"], batch["id"].labels)
        return {**known.named(self.name), "scone": self(outputs.logits["wild"])}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        self.energies.follow(outputs.measures)
