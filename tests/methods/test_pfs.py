"""Feature separation: the two terms, their gradients, their start, and the score."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oodles import ARPL, PFS, Classifier, OutlierExposure, TrainingStep, evaluate
from oodles.methods.pfs import FeatureSeparation, cosines

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import pfs as reference

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of known rows and outliers, weights of classes, soft targets."""
    generator = torch.Generator().manual_seed(3)
    h, o, w, y = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((6, 8), (9, 8), (4, 8), (6, 4)))
    return h, o, w, y.softmax(1)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_papers_equations(dtype: torch.dtype, accuracy: float, mixed: bool) -> None:
    h, o, w, y = rows(dtype)
    found = PFS(weight=0.7)(h, y if mixed else LABELS, o, w)
    shares = (y if mixed else one_hot(LABELS, 4)).tolist()
    expected = reference.orthogonal(o.tolist(), w.tolist()) + reference.parallel(h.tolist(), w.tolist(), shares)
    assert found.dtype == dtype and found.item() == pytest.approx(0.7 * expected, rel=accuracy)


def test_the_term_of_a_step_begins_in_the_middle() -> None:
    net = classifier("vectors", dtype=torch.float64)
    given = batch("vectors", dtype=torch.float64)
    step, plain = TrainingStep(net, PFS(weight=0.7)), TrainingStep(net)
    weight = net.head.weight.tolist()
    with torch.no_grad():
        h, o = (net.features(given[role].inputs).tolist() for role in ("id", "outliers"))
    y = one_hot(given["id"].labels, 4).tolist()
    expected = 0.7 * (reference.orthogonal(o, weight) + reference.parallel(h, weight, y))
    for epoch, value in enumerate((0.0, 0.0, expected, expected)):
        step.start_epoch(epoch, 4)
        terms = step(given)
        assert terms["pfs"].item() == pytest.approx(value, rel=1e-12), epoch
        alone = plain(given)["cross_entropy"].item()  # other rows beside them move last digits on some processors
        assert terms["cross_entropy"].item() == pytest.approx(alone, rel=1e-14)


def test_before_its_start_it_is_plain_training() -> None:
    net, given = classifier("vectors", dtype=torch.float64), batch("vectors", dtype=torch.float64)
    step = TrainingStep(net, PFS())
    step.start_epoch(0, 2)
    sum(step(given).values()).backward()  # type: ignore[union-attr]
    found = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    sum(TrainingStep(net)(given).values()).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(found, [parameter.grad for parameter in net.parameters()])


def test_weights_of_the_last_layer_have_no_gradient() -> None:
    h, o, w, _ = (value.requires_grad_() for value in rows())
    PFS()(h, LABELS, o, w).backward()
    assert w.grad is None and h.grad is not None and h.grad.any() and o.grad is not None and o.grad.any()


def test_features_of_zeros_stay_finite() -> None:
    h, o, w, _ = rows()
    h, o = torch.zeros_like(h, requires_grad=True), torch.zeros_like(o, requires_grad=True)
    term = PFS()(h, LABELS, o, w)
    term.backward()
    assert term.item() == 0 and h.grad is not None and h.grad.isfinite().all() and o.grad is not None
    assert o.grad.isfinite().all()


def test_training_makes_outliers_orthogonal() -> None:
    generator = torch.Generator().manual_seed(0)
    x, o = torch.randn(30, 6, generator=generator), 1 + torch.randn(30, 6, generator=generator)
    net = classifier("vectors")
    step = TrainingStep(net, PFS(start=0.0), OutlierExposure())
    optimizer = torch.optim.SGD(step.parameter_groups(0.1), momentum=0.9)

    def along() -> float:
        with torch.no_grad():
            return cosines(net.features(o), net.head.weight).abs().sum(1).mean().item()  # type: ignore[arg-type]

    before = along()
    for _ in range(60):
        optimizer.zero_grad()
        sum(step((x, torch.arange(30) % 4), o).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert along() < 0.6 * before


def test_the_score_is_that_of_the_authors() -> None:
    net = classifier("vectors", dtype=torch.float64)
    given = batch("vectors", dtype=torch.float64)
    known, unknown = given["id"], given["outliers"].inputs
    found = evaluate(
        net, [(known.inputs, known.labels)], {"ood": [unknown]}, ["feature-separation"], [(known.inputs, known.labels)]
    ).scores["ood"]["feature-separation"]
    with torch.no_grad():
        h = net.features(unknown)  # type: ignore[arg-type]
        z = net.head(h)
    expected = [
        reference.score(row, logits, net.head.weight.tolist())
        for row, logits in zip(h.tolist(), z.tolist(), strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_it_reads_the_weights_of_a_linear_last_layer() -> None:
    net = Classifier(nn.Identity(), nn.Sequential(nn.Linear(6, 4), nn.ReLU()), num_features=6, num_classes=4)
    for given, methods, sentence in (
        (net, (), "pfs needs a linear last layer, which gives .*, got Sequential"),
        (classifier("vectors"), (ARPL(),), "pfs needs the linear last layer that arpl replaces: use one of them"),
    ):
        with pytest.raises(ValueError, match=sentence) as refusal:
            TrainingStep(given, PFS(), *methods)
        assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="feature-separation reads the classifier's head") as refusal:
        FeatureSeparation().fit(torch.zeros(2, 6), torch.zeros(2, 4), None)
    assert is_one_sentence(str(refusal.value))


def test_its_start_is_not_compiled_anew() -> None:
    step = TrainingStep(classifier("vectors"), PFS())
    step.compile(backend="aot_eager")
    torch._dynamo.reset()
    found = []
    for epoch in range(4):
        step.start_epoch(epoch, 4)
        with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
            found.append(step(batch("vectors"))["pfs"].item())
    assert found[:2] == [0, 0] and found[2] != 0 and found[3] == found[2]
