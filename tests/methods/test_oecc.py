"""OECC; recorded: the authors' loss, whose sums go over the batch."""

import pytest
import torch
from torch import Tensor, nn

from oodles import OECC, Classifier, TrainingStep
from oodles.methods.oecc import confidence_gap, distance_to_uniform

from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT, Y, layer
from ..references import oecc as reference
from ..references.equations import pixels_as_rows

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_recorded_value_and_gradients(dtype: torch.dtype) -> None:
    recorded, z = VALUES["oecc"], layer(0, 5, dtype)
    loss = total(TrainingStep(Classifier(nn.Identity(), z), OECC())((X_IN.to(dtype), Y), outliers=X_OUT.to(dtype)))
    loss.backward()
    assert loss.item() == pytest.approx(recorded["loss"], rel=1e-6)
    for parameter, name in ((z.weight, "grad_w"), (z.bias, "grad_b")):
        assert parameter.grad is not None
        assert parameter.grad.flatten().tolist() == pytest.approx(recorded[name], rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("shape", [(7, 5), (1, 2), (2, 5, 4, 2)])
def test_the_sums(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    z_in, z_out = normal(*shape), normal(2 * shape[0], *shape[1:], seed=1)
    rows_in, rows_out = (pixels_as_rows(z.numpy()) if z.ndim > 2 else z.numpy() for z in (z_in, z_out))
    method = OECC(weight=0.5, confidence_weight=0.3, outlier_weight=0.2, training_accuracy=0.8)
    confidence, outliers = 0.15 * reference.confidence(rows_in, 0.8), 0.1 * reference.outliers(rows_out)
    found = method(z_in.to(dtype), z_out.to(dtype))
    assert found.dtype == dtype and found.item() == pytest.approx(confidence + outliers, rel=ACCURACY[dtype])


def test_each_term_has_a_weight() -> None:
    z = layer(0, 5, torch.float64)
    given = (X_IN.double(), Y), X_OUT.double()
    both = TrainingStep(Classifier(nn.Identity(), z), OECC())(*given)
    confidence = TrainingStep(Classifier(nn.Identity(), z), OECC(outlier_weight=0))(*given)
    outliers = TrainingStep(Classifier(nn.Identity(), z), OECC(confidence_weight=0))(*given)
    assert list(confidence) == ["cross_entropy", "oecc_confidence"] and list(outliers) == [
        "cross_entropy",
        "oecc_outliers",
    ]
    assert {**confidence, **outliers} == both


def test_twice_the_rows_are_twice_the_terms() -> None:
    z, o = normal(4, 3), normal(6, 3, seed=1)
    once = OECC(outlier_weight=0)(z, o).item(), OECC(confidence_weight=0)(z, o).item()
    assert OECC(outlier_weight=0)(torch.cat([z, z]), o).item() == pytest.approx(2 * once[0], rel=1e-12)
    assert OECC(confidence_weight=0)(z, torch.cat([o, o])).item() == pytest.approx(2 * once[1], rel=1e-12)


def test_uniform_predictions_are_what_outliers_are_pulled_to() -> None:
    assert distance_to_uniform(torch.zeros(3, 4)).tolist() == [0.0] * 3
    sure = torch.tensor([[1000.0, 0.0, 0.0, 0.0]])
    assert distance_to_uniform(sure).item() == pytest.approx(1.5)  # 2 − 2 / K
    assert distance_to_uniform(torch.zeros(3, 1)).tolist() == [0.0] * 3


def test_confidence_is_pulled_to_the_accuracy_from_both_sides() -> None:
    z = torch.tensor([[2.0, 0.0], [0.1, 0.0]], requires_grad=True)
    gaps = confidence_gap(z, 0.7)
    assert gaps.tolist() == pytest.approx([(0.8807970780 - 0.7) ** 2, (0.5249791875 - 0.7) ** 2])
    gaps.sum().backward()
    assert z.grad is not None and z.grad[0, 0] > 0 > z.grad[1, 0]
    assert confidence_gap(torch.zeros(3, 4), 0.25).tolist() == [0.0] * 3


def test_empty_parts_are_an_exact_zero() -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    loss = OECC()(none, none)
    assert loss.item() == 0 and loss.requires_grad


def rows_of(predicted: list[int], labels: list[int] | None) -> list[object]:
    """Batches of two for a classifier that gives its inputs back."""
    z = nn.functional.one_hot(torch.tensor(predicted), 3).float()
    if labels is None:
        return list(z.split(2))
    return list(zip(z.split(2), torch.tensor(labels).split(2), strict=True))


def test_the_accuracy_is_measured() -> None:
    net = Classifier(nn.Identity(), nn.Identity(), num_classes=3).train()
    found = OECC.suggest(net, rows_of([0, 1, 2, 1, 0], [0, 1, 1, 1, 0]), [])
    assert found == {"training_accuracy": pytest.approx(0.8)} and net.training
    assert OECC(**found).training_accuracy == found["training_accuracy"]
    with pytest.raises(ValueError, match="training_accuracy needs rows with labels, got some without") as refusal:
        OECC.suggest(net, rows_of([0, 1], None), [])
    assert is_one_sentence(str(refusal.value))
