"""WOODS: energies of wild rows raised, as far as known rows stay below a threshold and their classes are learned."""

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.contract import Batch, Data, Method, Now, Outputs, Paper, Terms
from oodles.outliers.constraints import ConstrainedEnergies


class WOODS(Method):
    """Minimises w × mean σ(−φ) of wild rows, with mean σ(φ) ≤ α and CE ≤ τ·CE₀ on known ones, φ of the energy.

    When to use: a trained classifier, and rows without labels from where it is used, some of which are unknown.
    Cost: the wild rows in the forward pass, and one pass over the training rows before the first epoch.
    Caveat: it learns the unknown rows that are among the wild ones, and known rows that differ from the training rows
    may be taken for them. What makes the cross-entropy larger than it can be at first, such as mixing rows, makes its
    constraint one that cannot be kept. A loop of one's own calls ``step.start_epoch`` before each epoch, with
    ``Data(train=…)``.

    Args:
        weight: w; 0 switches off.
        false_alarms: α, the share of known rows that may be taken for unknown.
        loss_factor: τ, how many times the cross-entropy CE₀ that the trained classifier begins with is allowed.
        multiplier_rate: by which a multiplier follows an epoch's mean excess of its constraint.
        penalty_growth: by which a penalty grows after each epoch that has missed its constraint.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, a share outside [0, 1), a factor or rate that is not
            above 0, or a growth below 1.

    Source: Katz-Samuels et al., equation 7 and algorithm 1, with the energy as detector and the authors' settings. The
    constraints stand in augmented Lagrangians: λ·c + ρ/2·c², or −λ² / 2ρ where ρ·c + λ < 0; where its constraint is
    kept, the cross-entropy so has no gradient. Four things differ from the authors' program. Multipliers follow the
    means of the epoch's own batches, and not those of another pass over the training rows. Penalties grow to 10 at
    most: they would grow until training diverges where a constraint cannot be kept. φ is linear in energies from which
    the training rows' first mean and deviation are taken out, and starts with half of these rows as false alarms: as
    published it starts at random, mostly where it has no gradient. It rises with the energy, where the authors' may
    turn round.
    """

    name = "woods"
    paper = Paper(
        title="Training OOD Detectors in their Natural Habitats",
        authors="Katz-Samuels, Nakhleh, Nowak, Li",
        venue="ICML",
        year=2022,
        link="https://arxiv.org/abs/2202.03299",
        code="https://github.com/jkatzsam/woods_ood",
    )
    score = "energy"
    strength = "weight"
    needs = ("wild", "weights")
    terms = ("woods_cross_entropy", "woods_false_alarms", "woods")
    measures = ("known_cross_entropy", "false_alarms")
    replaces = ("cross-entropy", "logits")

    def __init__(
        self,
        *,
        weight: float = 1.0,
        false_alarms: float = 0.05,
        loss_factor: float = 2.0,
        multiplier_rate: float = 1.0,
        penalty_growth: float = 1.5,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        self.energies = ConstrainedEnergies(false_alarms, loss_factor, multiplier_rate, penalty_growth)
        self.weight = weight
        self.false_alarms = false_alarms
        self.loss_factor = loss_factor
        self.multiplier_rate = multiplier_rate
        self.penalty_growth = penalty_growth

    def forward(self, wild_logits: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the logits of wild rows, without the constraints on known ones."""
        return self.weight * self.energies.wild(wild_logits)

    def start_epoch(self, data: Data, now: Now) -> None:
        self.energies.start(self.name, data, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        known = self.energies.known(outputs.logits["id"], batch["id"].labels)
        return {**known.named(self.name), "woods": self(outputs.logits["wild"])}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        self.energies.follow(outputs.measures)
