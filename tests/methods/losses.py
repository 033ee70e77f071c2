"""What tests of losses share: logits of several shapes, targets and precisions, and the same as rows in float64."""

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import Classifier

from ..contract.steps import is_one_sentence
from ..references.equations import pixels_as_rows

SHAPES = {"rows": ((7, 5), (11, 5)), "pixels": ((3, 5, 4, 2), (2, 5, 4, 2)), "one row": ((1, 2), (1, 2))}
TARGETS = ("class ids", "probabilities")
ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-6, torch.float16: 1e-6}
"""In half precision it is the loss of the rounded logits, computed in float32."""
Case = tuple[str, str, torch.dtype]
CASES = pytest.mark.parametrize(
    "case", list(itertools.product(SHAPES, TARGETS, ACCURACY)), ids=lambda case: ", ".join(map(str, case))
)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def logits(rows: int, classes: int = 5, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits of either sign, drawn in float64."""
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)


@dataclass(frozen=True)
class Given:
    """Tensors for the package, and the same numbers as rows for the references."""

    known: Tensor
    unknown: Tensor
    targets: Tensor
    z_in: np.ndarray
    z_out: np.ndarray
    t: np.ndarray

    def check(self, value: Tensor, expected: float, accuracy: float = 0.0) -> None:
        dtype = self.known.dtype
        assert value.ndim == 0 and value.dtype == torch.promote_types(dtype, torch.float32)
        accuracy = accuracy or ACCURACY[dtype]
        assert value.item() == pytest.approx(expected, rel=accuracy, abs=accuracy)


def given(case: Case) -> Given:
    """In-distribution and outlier logits, and targets of the former."""
    shape, kind, dtype = case
    generator = torch.Generator().manual_seed(0)
    drawn = (4 * torch.randn(size, generator=generator, dtype=torch.float64) for size in SHAPES[shape])
    known, unknown = (z.to(dtype) for z in drawn)
    ids = torch.randint(known.shape[1], (len(known), *known.shape[2:]), generator=generator)
    targets, t = ids, F.one_hot(ids, known.shape[1]).movedim(-1, 1).double()
    if kind == "probabilities":
        targets = torch.rand(known.shape, generator=generator, dtype=torch.float64).softmax(1).to(dtype)
        t = targets.double()
    return Given(known, unknown, targets, _rows(known.double()), _rows(unknown.double()), _rows(t))


def _rows(values: Tensor) -> np.ndarray:
    return pixels_as_rows(values.numpy()) if values.ndim > 2 else values.numpy()


def logits_alone(classes: int = 5) -> Classifier:
    """A classifier whose inputs are its logits."""
    return Classifier(nn.Identity(), nn.Identity(), num_classes=classes)


def check_signature(piece: type[nn.Module], defaults: Mapping[str, float]) -> None:
    """A standalone loss: settings by position, then logits, targets and, where there are some, outliers' logits."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    settings = inspect.signature(piece).parameters
    assert {name: p.default for name, p in settings.items()} == defaults
    call = inspect.signature(piece().forward).parameters
    assert list(call) == ["logits_in", "targets_in", "logits_out"] and call["logits_out"].default is None
    assert {p.kind for p in (*settings.values(), *call.values())} == {kind}


def check_plain_without_outliers(piece: nn.Module) -> None:
    """No outliers, or none of them: cross-entropy bit for bit."""
    plain = F.cross_entropy(logits(6), LABELS)
    for further in ((), (None,), (logits(0),)):
        assert torch.equal(piece(logits(6), LABELS, *further), plain)


def check_huge_logits(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Finite values and gradients, whatever the logits of known rows and outliers."""
    for size in (1e4, -1e4):
        a = torch.tensor([[size, 0.0, -size]] * 2, requires_grad=True)
        b = torch.tensor([[0.0, size, size]] * 3, requires_grad=True)
        value = loss(a, b)
        assert value.isfinite()
        for gradient in torch.autograd.grad(value, (a, b), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


WRONG_OUTLIERS = {
    "classes": (
        logits(4, 6),
        ValueError,
        r"logits_out must have shape \(m, c, …\) with c = 5, as logits_in has, got \(4, 6\)",
    ),
    "whole": (torch.ones(4, 5, dtype=torch.long), TypeError, "logits_out must be floating point, got torch.int64"),
    "one dimension": (
        torch.ones(5),
        ValueError,
        r"logits_out must have shape \(m, c, …\) with c = 5, as logits_in has, got \(5,\)",
    ),
    "no tensor": ([[1.0] * 5], TypeError, "logits_out must be a floating-point tensor"),
}


def check_wrong_outliers(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Outliers' logits that do not fit are refused in a sentence."""
    for wrong, error, sentence in WRONG_OUTLIERS.values():
        with pytest.raises(error, match=sentence) as refusal:
            loss(logits(6), wrong)  # type: ignore[arg-type]
        assert is_one_sentence(str(refusal.value))
