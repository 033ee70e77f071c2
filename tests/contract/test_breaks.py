"""One method that breaks each property, and the suite's own check that rejects it.

The checks are the functions that the other files of this folder run on every method. A broken process group of two is
in tests/distributed.
"""

# Broken on purpose: signatures are left unannotated so that each mistake stands out.
# mypy: disable-error-code="no-untyped-def"

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._dynamo.exc import TorchDynamoException
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from oodles import Method, OutlierExposure, Part
from oodles.methods import METHODS
from oodles.methods.outlier_exposure import cross_entropy_to_uniform

from .networks import labels
from .rows import ROWS, Row
from .test_arithmetic import check_autocast, check_float64
from .test_classifiers import check_built_again, check_changed_once
from .test_facts import check_card, check_facts, check_needs
from .test_gradients import check_reaches_network
from .test_means import check_empty_part, check_means
from .test_one_forward import check_one_forward
from .test_ownership import check_owns_nothing, check_unit_range
from .test_pairs import check_pair
from .test_randomness import check_randomness
from .test_rows import check_complete
from .test_signatures import check_signature, check_wrong_values
from .test_state import check_state
from .test_strength import check_strength_zero
from .test_targets import check_distributions, check_prepared_targets
from .test_tracing import check_compiles, check_no_loop, check_no_sync

KIND = "images"


class Good(OutlierExposure):
    """Outlier Exposure once more; the broken ones differ from it in one thing.

    Args:
        weight: of the term.
    """

    name = "good"
    terms = ("good",)

    def loss_terms(self, outputs, batch, now):
        return {"good": self.term(outputs, batch, now)}

    def term(self, outputs, batch, now):
        return self.weight * cross_entropy_to_uniform(outputs.logits["outliers"])


def row(cls: type[Method], **facts) -> Row:
    return replace(ROWS["outlier-exposure"], cls=cls, **facts)


CHECKS: dict[str, Callable[[Row], None]] = {
    "one forward": lambda row: check_one_forward(row, KIND),
    "means": lambda row: check_means(row, KIND),
    "empty part": lambda row: check_empty_part(row, KIND, "outliers"),
    "distributions": lambda row: check_distributions(row, KIND),
    "prepared targets": lambda row: check_prepared_targets(row, KIND),
    "reaches the network": lambda row: check_reaches_network(row, KIND),
    "strength zero": lambda row: check_strength_zero(row, KIND),
    "owns nothing": lambda row: check_owns_nothing(row, KIND),
    "unit range": lambda row: check_unit_range(row, KIND),
    "randomness": lambda row: check_randomness(row, KIND),
    "autocast": lambda row: check_autocast(row, KIND),
    "float64": lambda row: check_float64(row, KIND),
    "no sync": lambda row: check_no_sync(row, KIND),
    "no loop": lambda row: check_no_loop(row, KIND),
    "one graph": lambda row: check_compiles(row, KIND, "eager"),
    "pair": lambda row: check_pair(row, ROWS["mixup"]),
    "signature": check_signature,
    "wrong values": check_wrong_values,
    "facts": lambda row: check_facts(row, KIND),
    "needs": lambda row: check_needs(row, KIND),
    "card": check_card,
    "state": lambda row: check_state(row, KIND),
    "changed once": lambda row: check_changed_once(row, KIND),
    "built again": lambda row: check_built_again(row, KIND),
}
BROKEN: list[tuple[str, Row]] = []


def breaks(*checks: str, **facts) -> Callable[[type[Method]], type[Method]]:
    """Register a broken method with the checks that have to reject it."""

    def register(cls: type[Method]) -> type[Method]:
        BROKEN.extend((check, row(cls, **facts)) for check in checks)
        return cls

    return register


# 1. one forward


@breaks("one forward")
class ForwardsByItself(Good):
    def term(self, outputs, batch, now):
        return self.weight * cross_entropy_to_uniform(now.classifier(batch["outliers"].inputs))


@breaks("one forward")
class ForwardsWhilePreparing(Good):
    def change_batch(self, batch, now):
        with torch.no_grad(), now.frozen():
            now.classifier(batch["id"].inputs)
        return batch


# 2. means over parts


@breaks("means")
class OneMeanOverBothPopulations(Good):
    def term(self, outputs, batch, now):
        z = torch.cat([outputs.logits["id"] * 0, outputs.logits["outliers"]])
        return self.weight * cross_entropy_to_uniform(z)


@breaks("means")
class SumsOverRows(Good):
    def term(self, outputs, batch, now):
        return self.weight * outputs.logits["outliers"].logsumexp(1).sum()


@breaks("empty part")
class MeanOfNothing(Good):
    def term(self, outputs, batch, now):
        return self.weight * outputs.logits["outliers"].logsumexp(1).mean()


@breaks("empty part")
class ForgetsTheGraphOfNothing(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        return super().term(outputs, batch, now) if len(z) else torch.zeros(())


# 3. targets are distributions


@breaks("distributions")
class TakesTheLikeliestClass(Good):
    def change_batch(self, batch, now):
        part = batch["id"]
        hard = part.targets.argmax(1) if part.targets.is_floating_point() else part.targets
        return batch.with_part("id", Part(part.inputs, hard))


@breaks("prepared targets")
class TargetsThatSumToMore(Good):
    def change_batch(self, batch, now):
        part = batch["id"]
        targets = part.targets if part.targets.is_floating_point() else torch.nn.functional.one_hot(part.targets, 4)
        return batch.with_part("id", Part(part.inputs, targets + 0.1))


# 4. a term reaches the network


@breaks("reaches the network")
class Detached(Good):
    def term(self, outputs, batch, now):
        return self.weight * cross_entropy_to_uniform(outputs.logits["outliers"].detach())


@breaks("reaches the network")
class ThroughDetachedListsAndAFreshLayer(Good):
    def term(self, outputs, batch, now):
        rows = torch.tensor(outputs.logits["outliers"].tolist(), dtype=torch.float64)
        return torch.nn.Linear(4, 1, dtype=torch.float64)(rows).mean()


@breaks("reaches the network")
class HalfOfTheGradient(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        return self.weight * (cross_entropy_to_uniform(z) + cross_entropy_to_uniform(z.detach())) / 2


@breaks("reaches the network")
class DoesNothing(Good):
    def loss_terms(self, outputs, batch, now):
        return {}


# 5. strength zero switches off


@breaks("strength zero")
class ZeroTimesTheTerm(Good):
    active = True


@breaks("strength zero")
class StrengthThatDoesNotSwitchOff(Good):
    strength = None


@breaks("strength zero")
class NeverActs(Good):
    active = False


# 6. nothing the caller owns is changed


@breaks("owns nothing")
class WritesIntoInputs(Good):
    def change_batch(self, batch, now):
        batch["id"].inputs.mul_(0.5)
        return batch


@breaks("owns nothing")
class WritesIntoTargets(Good):
    def change_batch(self, batch, now):
        batch["id"].targets[:] = batch["id"].targets.flip(0)
        return batch


@breaks("owns nothing")
class WritesIntoTheBatch(Good):
    def change_batch(self, batch, now):
        batch.parts["outliers"] = Part(batch["outliers"].inputs[:2])
        return batch


@breaks("owns nothing")
class EvalThenTrain(Good):
    def change_batch(self, batch, now):
        now.classifier.eval()
        now.classifier.train()
        return batch


@breaks("owns nothing")
class MovesWeights(Good):
    def change_batch(self, batch, now):
        with torch.no_grad():
            now.classifier.head.weight.mul_(1.01)
        return batch


@breaks("owns nothing")
class SeedsTheWorld(Good):
    def change_batch(self, batch, now):
        np.random.seed(0)
        return batch


# 7. randomness is a function of (seed, step, rank)


@breaks("randomness", "owns nothing", random=True)
class GlobalTorchNumbers(Good):
    def change_batch(self, batch, now):
        return batch.with_draws(noise=torch.rand(3))


@breaks("randomness", "owns nothing", random=True)
class GlobalPythonNumbers(Good):
    def change_batch(self, batch, now):
        return batch.with_draws(noise=torch.tensor(random.random()))


@breaks("randomness", random=True)
class AStreamOfItsOwn(Good):
    def __init__(self, *, weight: float = 0.5):
        super().__init__(weight=weight)
        self.stream = np.random.default_rng(0)

    def change_batch(self, batch, now):
        return batch.with_draws(noise=torch.from_numpy(self.stream.random(3)))


@breaks("randomness")
class DrawsUndeclared(Good):
    def change_batch(self, batch, now):
        return batch.with_draws(noise=torch.rand(3, generator=now.generator))


# 8. float32 arithmetic


@breaks("float64")
class InHalfPrecision(Good):
    def term(self, outputs, batch, now):
        return self.weight * outputs.logits["outliers"].bfloat16().logsumexp(1).mean().float()


@breaks("autocast")
class AutocastAgain(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.weight * (z @ z.T).float().mean()


@breaks("float64")
class AlwaysFloat32(Good):
    def term(self, outputs, batch, now):
        return self.weight * cross_entropy_to_uniform(outputs.logits["outliers"].float()).double()


# 9. no host sync, no loops


@breaks("no sync")
class ReadsAValue(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        return super().term(outputs, batch, now) * (1 + z.detach().mean().item())


@breaks("no sync", "one graph")
class BranchesOnAValue(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        return super().term(outputs, batch, now) * (2 if z.mean() > 0 else 1)


@breaks("no sync")
class ShapeFromValues(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        return super().term(outputs, batch, now) + z[z > 0].sum()


@breaks("no loop")
class LoopsOverRows(Good):
    def term(self, outputs, batch, now):
        rows = [z.logsumexp(0) - z.mean() for z in outputs.logits["outliers"]]
        return self.weight * torch.stack(rows).mean()


@breaks("no loop")
class LoopsOverClasses(Good):
    def term(self, outputs, batch, now):
        z = outputs.logits["outliers"]
        return self.weight * (z.logsumexp(1).mean() - sum(column.mean() for column in z.T) / z.shape[1])


@breaks("one graph")
class CompilesAnewEveryStep(Good):
    def change_batch(self, batch, now):
        self.number = now.step
        return batch

    def term(self, outputs, batch, now):
        return super().term(outputs, batch, now) * (1 + 0 * self.number)


# 11. conflicts are refused by name


@breaks("pair")
class CrashesInCompany(Good):
    def term(self, outputs, batch, now):
        return outputs.logits["outliers"].logsumexp(1)[batch["id"].targets].mean()


@breaks("pair")
class AddsAForeignTerm(Good):
    def loss_terms(self, outputs, batch, now):
        return {"good": self.term(outputs, batch, now), "cross_entropy": outputs.logits["id"].sum()}


@breaks("pair", "facts")
class AddsAnUndeclaredTerm(Good):
    def loss_terms(self, outputs, batch, now):
        return {"good": self.term(outputs, batch, now), "better": outputs.logits["id"].logsumexp(1).mean()}


# 12. and 14. facts


@breaks("card")
class UnknownScore(Good):
    score = "confidence"


@breaks("card")
class NoLink(Good):
    paper = replace(OutlierExposure.paper, link="")


@breaks("facts")
class ReadsMoreThanItSays(Good):
    reads = ("id",)

    def term(self, outputs, batch, now):
        return self.weight * sum(z.logsumexp(1).mean() for role, z in outputs.logits.items() if role != "id")


@breaks("facts")
class ReadsLessThanItSays(Good):
    reads = ("id", "outliers", "mixed")


@breaks("facts")
class AddsAPartUndeclared(Good):
    def change_batch(self, batch, now):
        return batch.with_part("copy", batch["id"])


@breaks("facts")
class AnotherTerm(Good):
    terms = ("better",)


@breaks("facts")
class ScalesOnlyIdLogits(Good):
    def change_outputs(self, outputs, batch, now):
        return replace(outputs, logits={**outputs.logits, "id": outputs.logits["id"] * 2})


@breaks("facts")
class ReplacesInputsUndeclared(Good):
    def change_batch(self, batch, now):
        return batch.with_part("id", Part(batch["id"].inputs.flip(0), batch["id"].targets.flip(0)))


@breaks("needs", "facts")
class NeedsOutliersUndeclared(Good):
    needs = ()


# 13. signatures


@breaks("signature", "wrong values")
class ByPositionAndUnchecked(Good):
    def __init__(self, weight: float = 0.5):
        super().__init__(weight=0.5)
        self.weight = weight


@breaks("signature")
class AnotherDefault(Good):
    def __init__(self, *, weight: float = 1.0):
        super().__init__(weight=weight)


@breaks("signature")
class Unexplained(Good):
    """Has hyper-parameters."""


@breaks("signature")
class HyperParametersOnTheWay(Good):
    def __init__(self, *, weight: float = 0.5, **more: float):
        super().__init__(weight=weight)


# 16. inputs travel in [0, 1]


@breaks("unit range", random=True)
class LeavesTheUnitRange(Good):
    def change_batch(self, batch, now):
        part = batch["id"]
        noise = torch.randn(part.inputs.shape, generator=now.generator)
        return batch.with_part("id", Part(part.inputs + 0.1 * noise, part.targets))


# state


@breaks("state")
class ForgetsItsState(Good):
    def __init__(self, *, weight: float = 0.5):
        super().__init__(weight=weight)
        self.seen = 0

    def change_batch(self, batch, now):
        self.seen += 1
        return batch.with_draws(seen=torch.tensor(1.0 + self.seen))

    def term(self, outputs, batch, now):
        return super().term(outputs, batch, now) * batch.draws["seen"]


# the classifier


@breaks("changed once", "facts")
class WrapsTheHeadEachTime(Good):
    def change_classifier(self, classifier):
        classifier.head = torch.nn.Sequential(classifier.head, torch.nn.Linear(4, 4))


@breaks("built again")
class WeightsOutsideOfTheClassifier(Good):
    def change_classifier(self, classifier):
        self.scale = torch.tensor(1.0 + len(list(self.parameters())))
        classifier.head.register_forward_hook(lambda module, args, logits: logits * torch.rand(()))


@breaks("facts")
class AHeadUndeclared(Good):
    def change_classifier(self, classifier):
        classifier.add_head("further", 2)


REJECTIONS = (
    AssertionError,
    pytest.fail.Exception,  # a sentence that was expected and did not come
    DataDependentOutputException,
    DynamicOutputShapeException,
    TorchDynamoException,
    LookupError,  # a broken method that fails in company
    ValueError,  # the step itself refuses
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_unbroken_method_passes(check: str) -> None:
    CHECKS[check](row(Good))


@pytest.mark.parametrize("check, broken", BROKEN, ids=[f"{broken.cls.__name__}-{check}" for check, broken in BROKEN])
def test_the_broken_method_is_rejected(check: str, broken: Row) -> None:
    with pytest.raises(REJECTIONS):
        CHECKS[check](broken)


def test_every_check_rejects_something() -> None:
    assert {check for check, _ in BROKEN} == set(CHECKS)


def test_a_method_without_a_row_is_rejected() -> None:
    with pytest.raises(AssertionError, match="needs a row"):
        check_complete({**METHODS, "good": "Good"}, ROWS)
    with pytest.raises(AssertionError, match="needs a row"):
        check_complete(METHODS, {**ROWS, "good": row(Good)})


def test_two_methods_that_replace_the_same_thing_undeclared_are_noticed() -> None:
    class Halves(Good):
        """Replaces the inputs as Mixup does."""

        replaces = ("in-distribution inputs",)

        def change_batch(self, batch, now):
            return batch.with_part("id", Part(batch["id"].inputs / 2, labels(KIND, 6)))

    check_pair(row(Halves), ROWS["mixup"])  # declared: refused by name
    check_facts(row(Halves), KIND)
    Halves.replaces = ()
    with pytest.raises(AssertionError, match="replaces inputs"):
        check_facts(row(Halves), KIND)
