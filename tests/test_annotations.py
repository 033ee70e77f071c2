"""Arguments are held against their annotations: what is let through, what is refused, what is not looked at."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Bool, Float, Float64, Integer, Shaped
from torch import Generator, Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from oodles import MCD, Flooding, Method, OutlierExposureLoss, Paper
from oodles.checks import shapes_checked
from oodles.targets import RowTargets, Targets

from .contract.steps import is_one_sentence


@shapes_checked
def loss(
    z: Float[Tensor, "n c *space"],
    y: Targets,
    o: Float[Tensor, "m c *space"] | None = None,
    *more: Float[Tensor, "n _"],
    lam: float | Float[Tensor, " n"] = 1.0,
    count: int = 1,
    per_row: bool = False,
    word: str = "",
    generator: Generator | None = None,
    head: nn.Linear | None = None,
) -> Tensor:
    """Say what it does."""
    return z.sum()


Z, Y = torch.zeros(3, 4), torch.tensor([0, 1, 2])
PIXELS, IDS = torch.zeros(3, 4, 2, 5), torch.zeros(3, 2, 5, dtype=torch.int64)
RIGHT: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((Z, Y), {}),
    ((Z, Z.double()), {}),
    ((Z.half(), Y.to(torch.uint16), torch.zeros(0, 4)), {}),
    ((torch.zeros(0, 4), Y[:0], None), {}),
    ((PIXELS, IDS, torch.zeros(2, 4, 2, 5)), {}),
    ((torch.zeros(3, 4, 0, 5), IDS[:, :0]), {}),
    ((Z, Y, Z, torch.zeros(3, 1), torch.zeros(3, 9)), {}),
    ((Z, Y), {"lam": torch.rand(3), "count": 2, "per_row": True, "word": "a", "generator": Generator()}),
    ((Z, Y), {"lam": torch.tensor(0.5), "head": nn.Linear(1, 1)}),
    ((), {"y": Y, "z": Z}),
)
WRONG: tuple[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str], ...] = (
    (([1.0], Y), {}, TypeError, "z must be a floating-point tensor, got list."),
    ((Y, Y), {}, TypeError, "z must be floating point, got torch.int64: convert it with z.float()."),
    ((Z[0], Y), {}, ValueError, "z must have shape (n, c, …) with c at least 1, got (4,)."),
    ((Z[:, :0], Y), {}, ValueError, "z must have shape (n, c, …) with c at least 1, got (3, 0)."),
    ((Z, Y[:2]), {}, ValueError, "y of torch.int64 must have shape (n,) with n = 3, as z has, got (2,)."),
    ((Z, None), {}, TypeError, "y must be a tensor of whole numbers or floating point, got None."),
    ((Z, Y > 0), {}, TypeError, "y must be whole numbers or floating point, got torch.bool."),
    (
        (Z, Z.long()),
        {},
        ValueError,
        "y of torch.int64 must have shape (n,) with n = 3, as z has, got (3, 4): convert it with y.float().",
    ),
    (
        (Z, Y.double()),
        {},
        ValueError,
        "y of torch.float64 must have shape (n, c) with n = 3 and c = 4, as z has, got (3,): convert it with y.long().",
    ),
    ((Z, Y, Z[:, :2]), {}, ValueError, "o must have shape (m, c) with c = 4, as z has, got (3, 2)."),
    ((PIXELS, IDS, Z), {}, ValueError, "o must have shape (m, c, 2, 5) with c = 4, as z has, got (3, 4)."),
    ((Z, Y, Z, Z, Z[:2]), {}, ValueError, "more[1] must have shape (n, …) with n = 3, as z has, got (2, 4)."),
    ((Z, Y, 3), {}, TypeError, "o must be a floating-point tensor or left out, got 3."),
    ((Z, Y), {"lam": "x"}, TypeError, "lam must be a floating-point tensor or a number, got 'x'."),
    ((Z, Y), {"lam": torch.rand(2)}, ValueError, "lam must have shape (n,) with n = 3, as z has, got (2,)."),
    ((Z, Y), {"lam": True}, TypeError, "lam must be a floating-point tensor or a number, got True."),
    ((Z, Y), {"count": 1.0}, TypeError, "count must be a whole number, got 1.0."),
    ((Z, Y), {"per_row": "no"}, TypeError, "per_row must be True or False, got 'no'."),
    ((Z, Y), {"word": 3}, TypeError, "word must be a word, got 3."),
    ((Z, Y), {"generator": 3}, TypeError, "generator must be a Generator or left out, got 3."),
    ((Z, Y), {"head": Z}, TypeError, "head must be a Linear or left out, got a tensor of shape (3, 4)."),
    (
        (Z.to_sparse(), Y),
        {},
        TypeError,
        "z must be a dense tensor, got torch.sparse_coo: convert it with z.to_dense().",
    ),
    (
        (Z.to(torch.float8_e5m2), Y),
        {},
        TypeError,
        "z must be floating point, got torch.float8_e5m2: convert it with z.float().",
    ),
)


@pytest.mark.parametrize("place", range(len(RIGHT)))
def test_what_is_let_through(place: int) -> None:
    args, named = RIGHT[place]
    assert loss(*args, **named).shape == ()


@pytest.mark.parametrize("args, named, error, sentence", WRONG, ids=[sentence for *_, sentence in WRONG])
def test_what_is_refused(args: Any, named: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as refusal:
        loss(*args, **named)
    assert str(refusal.value) == sentence and is_one_sentence(sentence)


def test_signature_name_and_docstring_stay() -> None:
    assert list(inspect.signature(loss).parameters)[:3] == ["z", "y", "o"]
    assert (loss.__name__, loss.__doc__) == ("loss", "Say what it does.")
    assert list(inspect.signature(MCD.forward).parameters) == ["self", "logits_out", "second_out"]


def test_a_function_without_annotations_of_shapes_is_left_alone() -> None:
    def plain(x, y: list[int], *rest: Any) -> None: ...  # type: ignore[no-untyped-def]

    assert shapes_checked(plain) is plain


def test_what_cannot_be_read_may_be_anything() -> None:
    def function(a: "OnlyThere", b: 'Float[Tensor, " n"]', c: Float[Tensor, "n+1"], d: Float[Tensor, "#n"]) -> None:  # type: ignore[name-defined]
        """Annotations in quotes, of names that are not there, and of sizes that are computed."""

    checked = shapes_checked(function)
    checked(3, torch.zeros(2), torch.zeros(9), torch.zeros(1))
    with pytest.raises(TypeError, match="b must be a floating-point tensor, got 1"):
        checked(3, 1, torch.zeros(9), torch.zeros(1))


def test_types_of_one_kind_and_fixed_sizes() -> None:
    @shapes_checked
    def function(
        a: Float64[Tensor, "2 *_ 3"], b: Bool[Tensor, " n"], c: Shaped[Tensor, "... n"], d: Integer[Tensor, ""]
    ) -> None:
        pass

    d = torch.tensor(1)
    function(torch.zeros(2, 3).double(), torch.ones(4) > 0, torch.zeros(7, 4), d)
    function(torch.zeros(2, 5, 3).double(), torch.ones(4) > 0, torch.ones(1, 2, 4) > 0, d)
    for a, b, c, sentence in (
        (torch.zeros(2, 3), torch.ones(4) > 0, d, "a must be torch.float64, got torch.float32"),
        (torch.zeros(2, 4).double(), torch.ones(4) > 0, d, r"a must have shape \(2, …, 3\), got \(2, 4\)"),
        (torch.zeros(2).double(), torch.ones(4) > 0, d, r"a must have shape \(2, …, 3\), got \(2,\)"),
        (torch.zeros(2, 3).double(), torch.ones(4), d, "b must be torch.bool, got torch.float32"),
        (
            torch.zeros(2, 3).double(),
            torch.ones(4) > 0,
            torch.zeros(4, 3),
            r"c must have shape \(…, n\) with n = 4, as b",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            function(a, b, c, d)


def test_tracing_skips_it_in_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    expected = MCD()(a, b)

    def looked_at(*given: Any) -> None:
        raise AssertionError("an argument was looked at")

    monkeypatch.setattr("oodles.checks.annotations._check", looked_at)
    compiled = torch.compile(MCD().forward, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(a, b), expected)
    with pytest.raises(AssertionError, match="an argument was looked at"):
        MCD()(a, b)


def test_it_works_with_tensors_of_other_kinds() -> None:
    with FakeTensorMode():
        assert loss(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)).shape == ()
        with pytest.raises(ValueError, match=r"y of torch.int64 must have shape"):
            loss(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))
    assert loss(Z.to("meta"), Y.to("meta")).device.type == "meta"
    rows = torch.func.vmap(lambda z, y: loss(z, y), in_dims=(0, None))(torch.randn(5, 3, 4), Y)
    assert rows.shape == (5,)
    gradient = torch.func.grad(lambda z: loss(z, Y))(Z)
    assert torch.equal(gradient, torch.ones(3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(Z @ torch.zeros(4, 4), Y).shape == ()
    assert loss(nn.Parameter(Z), Y).shape == ()


def test_a_method_of_one_s_own_is_checked_without_a_word() -> None:
    class Own(Method):
        name = "own"
        paper = Paper(title="", authors="", venue="", year=2024, link="")

        def forward(self, features: Float[Tensor, "n f"], targets: RowTargets) -> Float[Tensor, ""]:
            return features.sum()

    Own()(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"targets of torch.int64 must have shape \(n,\) with n = 2, as features has"):
        Own()(torch.zeros(2, 3), torch.tensor([0, 1, 0]))


def test_what_used_to_be_broadcast_is_refused() -> None:
    loss_of_all: Callable[..., Any] = OutlierExposureLoss()
    for call, sentence in (
        (lambda: Flooding()(torch.zeros(3)), r"loss must have shape \(\), got \(3,\)"),
        (
            lambda: MCD()(torch.zeros(2, 4), torch.zeros(1, 4)),
            r"second_out must have shape \(m, c\) with m = 2 and c = 4",
        ),
        (
            lambda: loss_of_all(Z, Y, torch.zeros(2, 1)),
            r"logits_out must have shape \(m, c, …\) with c = 4, as log",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
