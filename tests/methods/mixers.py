"""What mixup, CutMix and RegMixup have to do alike: checks of one class and of one or many shares for a batch."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from oodles import Batch, CutMix, Mixup, Part, RegMixup, TrainingStep, soft_targets
from oodles.randomness import generator_for

from ..contract.networks import classifier
from ..contract.steps import is_one_sentence
from ..references.equations import cross_entropy, one_hot
from ..references.mixup import mixed

Mixer = type[Mixup] | type[CutMix] | type[RegMixup]
Check = Callable[[Mixer, bool], None]


def images(rows: int, *, height: int = 8, width: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 2, height, width, generator=generator, dtype=torch.float64).to(dtype)


def partners_of(y_a: Tensor, y_b: Tensor) -> list[int]:
    """Which row was mixed in: the labels are all different."""
    return [y_a.tolist().index(label) for label in y_b.tolist()]


def shares_of(lam: float | Tensor, rows: int) -> list[float]:
    return torch.as_tensor(lam, dtype=torch.float64).expand(rows).tolist()


def check_alpha_zero(cls: Mixer, per_sample: bool) -> None:
    """The very same tensors come back."""
    x, y = images(5), torch.arange(5)
    mixed_x, y_a, y_b, lam = cls(alpha=0, per_sample=per_sample)(x, y)
    assert mixed_x is x and y_a is y and y_b is y
    assert type(lam) is (Tensor if per_sample else float)
    assert torch.equal(torch.as_tensor(lam), torch.ones(5) if per_sample else torch.tensor(1.0))


def check_any_batch_size(cls: Mixer, per_sample: bool) -> None:
    """Every row is mixed in once, inputs stay as they are, and a single row is mixed with itself."""
    for rows in (0, 1, 2, 3, 7, 64, 65):
        x, y = images(rows), torch.arange(rows)
        before = x.clone()
        mixed_x, y_a, y_b, lam = cls(per_sample=per_sample)(x, y)
        assert mixed_x.shape == x.shape and torch.equal(x, before)
        assert sorted(y_b.tolist()) == y.tolist() == y_a.tolist()
        shares = torch.as_tensor(lam)
        assert ((shares >= 0) & (shares <= 1)).all()
        assert shares.shape == ((rows,) if per_sample else ())
        if rows == 1:
            torch.testing.assert_close(mixed_x, x)


def check_dtypes(cls: Mixer, per_sample: bool) -> None:
    """Mixed rows have the inputs' type."""
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        mixed_x, *_ = cls(per_sample=per_sample)(images(6, dtype=dtype), torch.arange(6))
        assert mixed_x.dtype == dtype and mixed_x.isfinite().all()


def check_soft_labels(cls: Mixer, per_sample: bool) -> None:
    """Distributions are mixed as class ids are."""
    x, y = images(6, dtype=torch.float64), torch.rand(6, 3, dtype=torch.float64).softmax(1)
    state = torch.Generator().manual_seed(1)
    _, y_a, y_b, lam = cls(per_sample=per_sample)(x, y, generator=state)
    _, ids, partners, same = cls(per_sample=per_sample)(x, torch.arange(6), generator=state.manual_seed(1))
    assert torch.equal(torch.as_tensor(lam), torch.as_tensor(same))
    expected = mixed(y.numpy(), partners_of(ids, partners), shares_of(lam, 6))
    np.testing.assert_allclose(soft_targets(y_a, y_b, lam, 3).numpy(), expected, rtol=0, atol=1e-12)


def check_gradients(cls: Mixer, per_sample: bool) -> None:
    """Shares sum to one: as much reaches the inputs as there are values."""
    x = images(6, dtype=torch.float64).requires_grad_()
    mixed_x, *_ = cls(per_sample=per_sample)(x, torch.arange(6))
    mixed_x.sum().backward()
    assert x.grad is not None and x.grad.sum() == pytest.approx(mixed_x.numel())


def check_shares(cls: Mixer, per_sample: bool) -> None:
    """One share for the batch, or one for each row where that is asked for."""
    *_, lam = cls(alpha=1.0, per_sample=per_sample)(torch.rand(50, 1, 32, 32), torch.arange(50))
    assert (isinstance(lam, Tensor) and len(lam.unique()) > 30) if per_sample else type(lam) is float


def check_collate(cls: Mixer, per_sample: bool) -> None:
    """Loaders mix their batches, in workers too, which get a copy."""
    rows = [(torch.full((1, 4, 4), float(index)), index % 3) for index in range(10)]
    collate = cls(per_sample=per_sample).collate(3)  # type: ignore[union-attr]
    assert pickle.loads(pickle.dumps(collate)).num_classes == 3
    batches = list(DataLoader(rows, batch_size=4, collate_fn=collate))  # type: ignore[arg-type]
    assert [x.shape for x, _ in batches] == [(4, 1, 4, 4), (4, 1, 4, 4), (2, 1, 4, 4)]
    for _, soft in batches:
        torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))


WRONG_ROWS = (
    (images(4), torch.arange(5), ValueError, r"y must have shape \(n, …\) with n = 4, as x has, got \(5,\)"),
    (
        torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        torch.arange(4),
        TypeError,
        r"x must be floating point, got torch.uint8: convert it with x.float\(\)",
    ),
    ([1.0, 2.0], torch.arange(2), TypeError, "x must be a floating-point tensor, got list"),
    (images(2), [0, 1], TypeError, "y must be a tensor of whole numbers or floating point, got list"),
)


def check_wrong_rows(cls: Mixer, per_sample: bool) -> None:
    """Rows that cannot be mixed are refused in a sentence, at every strength."""
    for alpha in (0, 1.0):
        for x, y, error, sentence in WRONG_ROWS:
            with pytest.raises(error, match=sentence) as refusal:
                cls(alpha=alpha, per_sample=per_sample)(x, y)  # type: ignore[arg-type]
            assert is_one_sentence(str(refusal.value))


EVERY: tuple[Check, ...] = (
    check_alpha_zero,
    check_any_batch_size,
    check_dtypes,
    check_soft_labels,
    check_gradients,
    check_shares,
    check_wrong_rows,
)
"""What holds for all three."""


SHAPES = [(5,), (5, 3), (5, 2, 4), (5, 3, 4, 4), (5, 2, 3, 4, 4), (1, 3), (2,)]


def check_combinations(cls: Mixer, per_sample: bool, shape: tuple[int, ...]) -> None:
    """Rows and labels are the paper's convex combinations."""
    generator = torch.Generator().manual_seed(0)
    for dtype, accuracy in ((torch.float64, 1e-15), (torch.float32, 1e-6)):
        x = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
        y = torch.arange(shape[0])
        for _ in range(5):
            mixed_x, y_a, y_b, lam = cls(alpha=1.0, per_sample=per_sample)(x, y, generator=generator)
            assert y_a is y
            partners, shares = partners_of(y_a, y_b), shares_of(lam, len(x))
            expected = mixed(x.double().numpy(), partners, shares)
            np.testing.assert_allclose(mixed_x.double().numpy(), expected, rtol=0, atol=accuracy)
            expected = mixed(np.eye(shape[0]), partners, shares)
            np.testing.assert_allclose(soft_targets(y_a, y_b, lam, shape[0]).numpy(), expected, atol=1e-7)


def check_step(cls: Mixer, per_sample: bool) -> None:
    """The step's cross-entropy is that of the mixed rows to mixed labels; class ids are mixed in float32."""
    net = classifier("images", dtype=torch.float64)
    x, ids = images(4, dtype=torch.float64), torch.arange(4)
    method = cls(alpha=1.0, per_sample=per_sample)
    mixed_x, y_a, y_b, lam = method(x, ids, generator=generator_for(4, 0, 0, method.name))
    target = mixed(one_hot(ids.tolist(), 4), partners_of(y_a, y_b), shares_of(lam, 4))
    expected = cross_entropy(net(mixed_x).detach().numpy(), target)
    assert not torch.equal(mixed_x, x)
    for y, accuracy in ((ids, 1e-6), (torch.eye(4, dtype=torch.float64), 1e-12)):
        step = TrainingStep(net, method, seed=4)
        prepared = step.prepare(Batch({"id": Part(x, y)}))
        assert torch.equal(prepared["id"].inputs, mixed_x)
        terms = step.losses(prepared)
        assert list(terms) == ["cross_entropy"]
        assert terms["cross_entropy"].item() == pytest.approx(expected, rel=accuracy)
