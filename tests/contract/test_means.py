"""Property 2: a term sees a part only through means over it."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from oodles import EnergyBounded, OutlierExposure, Outputs, TrainingStep

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import belongs_to_rows, gradients, leaf_outputs, repeat_rows, roles_in_order, terms_of, total


def check_means(row: Row, kind: str) -> None:
    """Check that doubling the rows of one part after the forward changes no term and no gradient of other parts."""
    methods = row.methods()
    step = TrainingStep(classifier(kind, dtype=torch.float64), *methods)
    prepared = step.prepare(batch(kind, dtype=torch.float64))
    roles = roles_in_order(prepared, methods)
    outputs = leaf_outputs(step.classifier, prepared, roles)
    terms = terms_of(step, prepared, outputs)
    before = gradients(total(terms), outputs)
    compared: set[str] = set()
    for role in roles:
        if role in row.aligned or role in row.cls.differentiates:
            continue  # of the latter, outputs that are doubled are no function of the inputs
        twice = {role, *(row.aligned if role == "id" else ())}

        def doubled(by_role: Mapping[str, Tensor], twice: set[str] = twice) -> dict[str, Tensor]:
            return {role: torch.cat([value] * (1 + (role in twice))) for role, value in by_role.items()}

        more = Outputs(
            doubled(outputs.features),
            doubled(outputs.logits),
            {name: doubled(by_role) for name, by_role in outputs.heads.items()},
        )
        rows = prepared
        for part in twice:
            rows = rows.with_part(part, repeat_rows(prepared[part], 2))
        if role in ("id", "wild"):
            rows = rows.with_draws(
                **{n: torch.cat([d] * 2) for n, d in rows.draws.items() if belongs_to_rows(d, prepared, role)}
            )
        again = terms_of(step, rows, more)
        assert again.keys() == terms.keys()
        if row.compares:
            changed = {name for name, value in terms.items() if again[name].item() != pytest.approx(value.item())}
            assert changed <= set(row.cls.terms)
            compared |= changed
            continue
        for name, value in terms.items():
            of_sums = {value.item(), 2 * value.item()} if row.sums and name in row.cls.terms else {value.item()}
            assert any(again[name].item() == pytest.approx(expected, rel=1e-12, abs=1e-12) for expected in of_sums), (
                f"{name} with {role} doubled"
            )
        if row.sums:
            assert total(again).item() > total(terms).item(), "no sum"
            continue
        after = gradients(total(again), outputs)
        for name, value in before.items():
            torch.testing.assert_close(after[name], value, rtol=1e-10, atol=1e-14, msg=f"{name} with {role} doubled")
    assert bool(compared) == bool(row.compares), "copies are not compared"


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_doubling_a_part_changes_nothing(name: str, kind: str) -> None:
    check_means(ROWS[name], kind)


def check_empty_part(row: Row, kind: str, role: str) -> None:
    """Check that a part without rows contributes an exact zero with a graph, and nothing becomes NaN."""
    step = TrainingStep(classifier(kind), *row.methods())
    given = batch(kind)
    none = repeat_rows(given[role], 1)
    inputs = (
        {key: value[:0] for key, value in none.inputs.items()} if isinstance(none.inputs, dict) else none.inputs[:0]
    )
    targets = None if none.targets is None else none.targets[:0]
    terms = step(given.with_part(role, type(none)(inputs, targets)))
    for name, value in terms.items():
        assert value.isfinite(), name
        assert value.requires_grad, name
    loss = total(terms)
    loss.backward()
    for name, parameter in step.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("role", ["id", "outliers", "wild"])
@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_an_empty_part_gives_no_nan(name: str, kind: str, role: str) -> None:
    check_empty_part(ROWS[name], kind, role)


def test_no_outliers_are_an_exact_zero() -> None:
    step = TrainingStep(classifier("vectors"), OutlierExposure())
    plain = TrainingStep(classifier("vectors"))(batch("vectors"))
    terms = step(batch("vectors"), outliers=torch.rand(0, 6))
    assert terms["outlier_exposure"].item() == 0 and terms["outlier_exposure"].requires_grad
    assert torch.equal(terms["cross_entropy"], plain["cross_entropy"])


def test_no_rows_at_all_are_an_exact_zero() -> None:
    step = TrainingStep(classifier("vectors"), EnergyBounded())
    terms = step((torch.rand(0, 6), torch.zeros(0, dtype=torch.long)), outliers=torch.rand(0, 6))
    assert [value.item() for value in terms.values()] == [0, 0]
    total(terms).backward()
