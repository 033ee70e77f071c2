"""Property 8: losses are computed in float32 whatever the autocast dtype; float64 stays float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from oodles import Method, Outputs, TrainingStep

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import pass_of, roles_in_order, terms_of, total


def check_autocast(row: Row, kind: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Check that under autocast a term is the term of the same outputs cast to float32, to 1e-6."""
    methods, net = row.methods(), classifier(kind)
    step = TrainingStep(net, *methods)
    prepared = step.prepare(batch(kind))
    results: dict[str, list[Tensor]] = {"features": [], "logits": [], **{name: [] for name in net.heads}}

    def watch(what: str) -> Callable[..., None]:
        return lambda module, args, result: results[what].append(result)

    hooks = [net.backbone.register_forward_hook(watch("features")), net.head.register_forward_hook(watch("logits"))]
    hooks += [head.register_forward_hook(watch(name)) for name, head in net.heads.items()]
    with torch.autocast("cpu", dtype=dtype):
        terms = step.losses(prepared)
    for hook in hooks:
        hook.remove()
    roles = roles_in_order(prepared, methods)
    apart = sum(role in method.separate for method in methods for role in roles)
    apart += any(method.as_tested for method in methods)
    assert results["features"][0].dtype == dtype or kind == "tokens", "autocast is on in the forward pass"
    assert results["logits"][0].dtype == dtype or any("head" in method.replaces for method in methods), (
        "autocast is on in the head"
    )
    made = [prepared[role].first.to(dtype) for role in roles if prepared[role].features is not None]
    results["features"][0] = torch.cat([results["features"][0], *made])
    sizes = [len(prepared[role]) for role in roles]
    passes = list(dict.fromkeys(pass_of(prepared, role) for role in roles))

    def by_role(what: str, wide: torch.dtype) -> dict[str, Tensor]:
        if len(passes) > 1:  # all rows with either weights
            rows = {role: results[what][passes.index(pass_of(prepared, role))] for role in roles}
            return {role: rows[role].detach().to(wide).split(sizes)[place] for place, role in enumerate(roles)}
        whole = torch.cat(results[what][: 1 + apart]).detach().to(wide)  # a method may call the head once more
        return dict(zip(roles, whole.split(sizes), strict=True))

    # the same values in float32, and in float64, which no autocast touches
    for wide, accuracy in ((torch.float32, 1e-6), (torch.float64, 1e-5)):
        outputs = Outputs(
            by_role("features", wide), by_role("logits", wide), {name: by_role(name, wide) for name in net.heads}
        )
        # outputs that are put together here are no function of the inputs
        same = {} if row.cls.differentiates else terms_of(step, prepared, outputs)
        assert all(value.dtype == torch.float32 for value in terms.values())
        for name, expected in same.items():
            assert terms[name].dtype == torch.float32, name
            assert terms[name].item() == pytest.approx(expected.item(), rel=accuracy, abs=1e-6), name
    total(terms).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


def check_float64(row: Row, kind: str) -> None:
    """Check that terms of float64 networks are computed in float64 throughout."""
    step = TrainingStep(classifier(kind, dtype=torch.float64), *row.methods())
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
    step = TrainingStep(classifier(kind, dtype=dtype), *ROWS[name].methods())
    terms = step(batch(kind, dtype=dtype))
    assert {value.dtype for value in terms.values()} == {torch.float32}
    total(terms).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in step.parameters())


def test_autocast_is_off_where_methods_compute() -> None:
    observed = {}

    class Looks(Method):
        name = "looks"
        terms = ("looks",)

        def change_outputs(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            z = outputs.logits["id"]
            observed["outputs"] = torch.is_autocast_enabled("cpu"), z.dtype, (z @ z.T).dtype
            return outputs

        def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            f = outputs.features["id"]
            observed["loss"] = torch.is_autocast_enabled("cpu"), f.dtype, (f @ f.T).dtype
            return {}

    with torch.autocast("cpu", dtype=torch.bfloat16):
        TrainingStep(classifier("vectors"), Looks())(batch("vectors"))
        assert torch.is_autocast_enabled("cpu")
    assert observed == dict.fromkeys(("outputs", "loss"), (False, torch.float32, torch.float32))
