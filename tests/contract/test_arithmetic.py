"""Property 8: losses are computed in float32 whatever the autocast dtype; float64 stays float64."""

import pytest
import torch
from torch import Tensor

from oodles import Method, Outputs, TrainingStep

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import roles_in_order, terms_of, total


def check_autocast(row: Row, kind: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Under autocast a term is the term of the same outputs cast to float32, to 1e-6."""
    method, net = row.make(), classifier(kind)
    step = TrainingStep(net, method)
    prepared = step.prepare(batch(kind))
    seen: list[tuple[Tensor, Tensor]] = []
    hook = net.head.register_forward_hook(lambda module, args, result: seen.append((args[0], result)))
    with torch.autocast("cpu", dtype=dtype):
        terms = step.losses(prepared)
    hook.remove()
    ((features, logits),) = seen
    assert logits.dtype == dtype, "autocast is on in the forward pass"
    roles = roles_in_order(prepared, [method])
    sizes = [len(prepared[role]) for role in roles]
    # the same values in float32, and in float64, which no autocast touches
    for wide, accuracy in ((torch.float32, 1e-6), (torch.float64, 1e-5)):
        outputs = Outputs(
            dict(zip(roles, features.detach().to(wide).split(sizes), strict=True)),
            dict(zip(roles, logits.detach().to(wide).split(sizes), strict=True)),
        )
        for name, expected in terms_of(step, prepared, outputs).items():
            assert terms[name].dtype == torch.float32, name
            assert terms[name].item() == pytest.approx(expected.item(), rel=accuracy, abs=1e-6), name
    total(terms).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


def check_float64(row: Row, kind: str) -> None:
    """float64 networks have float64 terms, which are not float32 values in disguise."""
    step = TrainingStep(classifier(kind, dtype=torch.float64), row.make())
    for name, value in step(batch(kind, dtype=torch.float64)).items():
        assert value.dtype == torch.float64, name
        assert value != value.float().double(), f"{name} was rounded to float32 on the way"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_terms_under_autocast(name: str, kind: str, dtype: torch.dtype) -> None:
    check_autocast(ROWS[name], kind, dtype)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_float64_stays(name: str, kind: str) -> None:
    check_float64(ROWS[name], kind)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ROWS)
def test_networks_in_half_precision_have_float32_terms(name: str, dtype: torch.dtype) -> None:
    kind = ROWS[name].kinds[0]
    step = TrainingStep(classifier(kind, dtype=dtype), ROWS[name].make())
    terms = step(batch(kind, dtype=dtype))
    assert {value.dtype for value in terms.values()} == {torch.float32}
    total(terms).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in step.parameters())


def test_autocast_is_off_where_methods_compute() -> None:
    seen = {}

    class Looks(Method):
        name = "looks"

        def change_outputs(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            z = outputs.logits["id"]
            seen["outputs"] = torch.is_autocast_enabled("cpu"), z.dtype, (z @ z.T).dtype
            return outputs

        def change_loss(self, terms, outputs, batch, now):  # type: ignore[no-untyped-def]
            f = outputs.features["id"]
            seen["loss"] = torch.is_autocast_enabled("cpu"), f.dtype, (f @ f.T).dtype
            return terms

    with torch.autocast("cpu", dtype=torch.bfloat16):
        TrainingStep(classifier("vectors"), Looks())(batch("vectors"))
        assert torch.is_autocast_enabled("cpu")
    assert seen == dict.fromkeys(("outputs", "loss"), (False, torch.float32, torch.float32))
