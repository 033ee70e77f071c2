"""WOODS: the equations, what is measured before, multipliers that follow an epoch, and what an own loop has to call."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oodles import WOODS, Batch, Classifier, Data, Method, Mixup, Part, TrainingStep
from oodles.outliers.constraints import LARGEST_PENALTY, ConstrainedEnergies, Constraint, augmented_lagrangian

from ..contract.networks import CLASSES, batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import woods as reference

ACCURACY = {torch.float64: 1e-12, torch.float32: 2e-6}


def drawn(seed: int, rows: int) -> Tensor:
    """Logits of either sign."""
    return 3 * torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energies(a: float, b: float, **settings: float) -> ConstrainedEnergies:
    """Log-odds with this slope and bias, of energies as they are."""
    made = ConstrainedEnergies(**{"false_alarms": 0.05, "loss_factor": 2.0, "rate": 1.0, "growth": 1.5, **settings})
    with torch.no_grad():
        made.double().slope.fill_(math.log(math.expm1(a)))
        made.bias.fill_(b)
    return made


def training_rows(step: TrainingStep, kind: str = "vectors", count: int = 3) -> tuple[Data, Tensor, Tensor]:
    """Batches of training rows, and their logits in float64 with their labels."""
    batches = [batch(kind, seed=seed)["id"] for seed in range(count)]
    with torch.no_grad():
        logits = torch.cat([step.classifier(part.rows) for part in batches]).double()
    labels = torch.cat([part.labels for part in batches])
    return Data(train=[(part.rows, part.labels) for part in batches]), logits, labels


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("bias", [0.3, 4.0, -4.0])
def test_the_papers_equations(dtype: torch.dtype, bias: float) -> None:
    z, w, y = drawn(0, 5), drawn(1, 7), torch.tensor([0, 3, 1, 2, 2])
    made = energies(0.7, bias)
    made.first_loss.fill_(0.4)
    for constraint, multiplier, penalty in ((made.on_alarms, 0.3, 1.5), (made.on_loss, 0.2, 2.25)):
        constraint.multiplier.fill_(multiplier)
        constraint.penalty.fill_(penalty)
    known = made.known(z.to(dtype), y)
    alarms, loss = reference.false_alarms(z.numpy(), 0.7, bias), reference.cross_entropy(z.numpy(), one_hot(y).numpy())
    expected = {
        "alarms": alarms,
        "loss": loss,
        "of_alarms": reference.augmented(alarms - 0.05, 0.3, 1.5),
        "of_loss": reference.augmented(loss - 0.8, 0.2, 2.25),
    }
    assert {name: value.item() for name, value in known._asdict().items()} == pytest.approx(
        expected, rel=10 * ACCURACY[dtype]
    )
    assert all(value.dtype == dtype for value in known)
    method = WOODS(weight=0.6)
    method.energies = made
    assert method(w.to(dtype)).item() == pytest.approx(
        0.6 * reference.wild(w.numpy(), 0.7, bias), rel=10 * ACCURACY[dtype]
    )


def test_soft_targets_and_pixels() -> None:
    made = energies(0.5, 0.1)
    z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(4))
    pixels = z.movedim(1, -1).flatten(0, 2)
    soft = one_hot(y, 3).movedim(-1, 1).double()
    for targets in (y, soft):
        torch.testing.assert_close(made.known(z, targets), made.known(pixels, y.flatten()))


def test_a_constraint_that_is_kept_has_no_gradient() -> None:
    for excess, slope in ((0.2, 0.1 + 2 * 0.2), (-0.02, 0.1 - 2 * 0.02), (-0.3, 0.0)):
        c = torch.tensor(excess, dtype=torch.float64, requires_grad=True)
        term = augmented_lagrangian(c, torch.tensor(0.1).double(), torch.tensor(2.0).double())
        assert term.item() == pytest.approx(reference.augmented(excess, float(torch.tensor(0.1)), 2.0))
        term.backward()
        assert c.grad is not None and c.grad.item() == pytest.approx(slope, abs=1e-7)


def test_multipliers_follow_the_means_of_epochs() -> None:
    constraint, multiplier, penalty = Constraint(), 0.0, 1.0
    constraint.update(0.8, 1.5)
    assert (constraint.multiplier.item(), constraint.penalty.item()) == (0.0, 1.0), "no batches, no movement"
    for epoch in ([0.3, 0.1], [0.05], [-0.1, -0.3, -0.2], [-9.0], [-9.0]):
        for excess in epoch:
            constraint.note(torch.tensor(excess, dtype=torch.float64))
        constraint.update(0.8, 1.5)
        multiplier, penalty = reference.moved(sum(epoch) / len(epoch), multiplier, penalty, 0.8, 1.5)
        assert constraint.multiplier.item() == pytest.approx(multiplier, rel=1e-12)
        assert constraint.penalty.item() == pytest.approx(penalty, rel=1e-12)
    assert penalty == 2.25 and 0 < multiplier < 0.2


def test_a_penalty_does_not_grow_without_end() -> None:
    """Of a constraint that cannot be kept, 1.5 to the power of the epochs is more than any learning rate bears."""
    constraint = Constraint()
    for _ in range(100):
        constraint.note(torch.tensor(0.01, dtype=torch.float64))
        constraint.update(1.0, 1.5)
    assert constraint.penalty.item() == LARGEST_PENALTY and constraint.multiplier.item() == pytest.approx(1.0)


def test_training_rows_are_measured_before_the_first_epoch_alone() -> None:
    step = TrainingStep(classifier("vectors", noisy=True).train(), WOODS())
    method = step.methods[0]
    assert isinstance(method, WOODS)
    before = {name: value.clone() for name, value in step.classifier.state_dict().items()}
    step.classifier.eval()
    data, logits, labels = training_rows(step)
    step.classifier.train()
    step.start_epoch(0, 2, data)
    expected = reference.measured(logits.numpy(), one_hot(labels, CLASSES).double().numpy())
    made = method.energies
    found = made.first_loss.item(), made.mean.item(), made.deviation.item()
    assert found == pytest.approx(expected, rel=1e-5)
    odds = made.log_odds(logits)
    assert odds.mean().item() == pytest.approx(0, abs=1e-5) and odds.std(unbiased=False).item() == pytest.approx(1)
    for name, value in step.classifier.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert step.classifier.training
    with torch.no_grad():
        step.classifier.head.bias += 1.0
    step.start_epoch(1, 2)
    assert (made.first_loss.item(), made.mean.item()) == pytest.approx(expected[:2], rel=1e-5), "once"


def test_void_labels_are_not_measured() -> None:
    step = TrainingStep(classifier("vectors"), WOODS())
    data, logits, labels = training_rows(step)
    keep = torch.arange(len(labels)) % 3 > 0
    void = torch.where(keep, labels, 255).tensor_split(3)
    rows = [rows for rows, _ in data.train or ()]
    step.start_epoch(0, 1, Data(train=list(zip(rows, void, strict=True))))
    method = step.methods[0]
    assert isinstance(method, WOODS)
    expected = reference.measured(logits[keep].numpy(), one_hot(labels[keep], CLASSES).double().numpy())
    assert method.energies.first_loss.item() == pytest.approx(expected[0], rel=1e-5)
    assert method.energies.deviation.item() == pytest.approx(expected[2], rel=1e-5)


def test_an_epoch_follows_the_last_one() -> None:
    method = WOODS(multiplier_rate=0.5, penalty_growth=2.0)
    step = TrainingStep(classifier("vectors"), method)
    data, _, _ = training_rows(step)
    step.start_epoch(0, 2, data)
    alarms = []
    for seed in range(3):
        terms = step(batch("vectors", seed=seed))
        step.after_update()
        alarms.append(step.measures["false_alarms"].item())
        assert set(terms) == {"woods_cross_entropy", "woods_false_alarms", "woods"}
        assert set(step.measures) == {"known_cross_entropy", "false_alarms"}
    assert method.energies.on_alarms.multiplier == 0, "nothing moves within an epoch"
    step.start_epoch(1, 2)
    excess = sum(alarms) / 3 - 0.05
    assert excess > 0
    assert method.energies.on_alarms.multiplier.item() == pytest.approx(0.5 * excess, rel=1e-5)
    assert method.energies.on_alarms.penalty.item() == 2.0
    assert method.energies.on_loss.penalty.item() == 1.0, "twice the first cross-entropy is kept at once"
    assert method.energies.on_loss.count == 0


def test_the_cross_entropy_is_a_term_until_it_was_measured_and_then_a_constraint() -> None:
    step = TrainingStep(classifier("vectors"), WOODS(loss_factor=100.0))
    given = batch("vectors")
    loss = step(given)["woods_cross_entropy"]
    plain = TrainingStep(classifier("vectors"))(given)["cross_entropy"]
    torch.testing.assert_close(loss, plain)
    step.start_epoch(0, 1, training_rows(step)[0])
    kept = step(given)["woods_cross_entropy"]
    assert kept.item() == 0
    slopes = torch.autograd.grad(kept, list(step.classifier.parameters()))
    assert not any(slope.any() for slope in slopes), "far below its bound, it is left alone"


def test_training_rows_have_to_be_there() -> None:
    step = TrainingStep(classifier("vectors"), WOODS())
    with pytest.raises(ValueError, match="woods measures the training rows before the first epoch, got none") as told:
        step.start_epoch(0, 3)
    assert is_one_sentence(str(told.value))
    with pytest.raises(ValueError, match="train must give rows with their labels, got rows alone"):
        step.start_epoch(0, 3, Data(train=[torch.rand(3, 6)]))


def test_its_unknown_rows_get_the_higher_energy() -> None:
    """Two classes, and beside one of them a third kind of rows, which is a fifth of the wild ones."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [3.0, 5.0]])

    def rows(kinds: Tensor) -> Tensor:
        return centres[kinds] + torch.randn(len(kinds), 2, generator=generator)

    y = torch.arange(200) % 2
    x = rows(y)
    wild = rows(torch.cat([y[:160], torch.full((40,), 2)]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(nn.Sequential(nn.Linear(2, 16), nn.Tanh()), nn.Linear(16, 2))

    def train(epochs: int, *methods: Method) -> None:
        step = TrainingStep(net, *methods)
        optimizer = torch.optim.SGD(step.parameters(), lr=0.1, momentum=0.9)
        for epoch in range(epochs):
            step.start_epoch(epoch, epochs, Data(train=[(x, y)]))
            for _ in range(10):
                optimizer.zero_grad()
                total(step((x, y), wild=wild)).backward()
                optimizer.step()
                step.after_update()

    def gap() -> float:
        with torch.no_grad():
            known, unknown = (-net(part).logsumexp(1) for part in (rows(y), rows(torch.full((200,), 2))))
        return float((unknown > known.quantile(0.95)).float().mean())

    train(10)
    before = gap()
    train(20, WOODS())
    with torch.no_grad():
        accuracy = float((net(x).argmax(1) == y).float().mean())
    assert before < 0.3 < 0.9 < gap() and accuracy > 0.97


def test_nothing_wild_leaves_the_constraints() -> None:
    step = TrainingStep(classifier("vectors"), WOODS())
    given = batch("vectors")
    terms = step(Batch({"id": given["id"], "wild": Part(torch.rand(0, 6))}))
    assert terms["woods"].item() == 0 and terms["woods_cross_entropy"].item() > 0


def test_mixed_rows_compose() -> None:
    step = TrainingStep(classifier("vectors"), WOODS(), Mixup())
    step.start_epoch(0, 1, training_rows(step)[0])
    assert all(value.isfinite() for value in step(batch("vectors")).values())
