"""Property 11: every pair of methods trains a step, or is refused by name in one sentence."""

import itertools

import pytest
import torch

from oodles import CrossEntropy, EnergyGap, LogitNorm, Mixup, OutlierExposure, RegMixup, TrainingStep
from oodles.targets import cross_entropy

from .networks import batch, classifier, inputs, tensors
from .rows import ROWS, Row, together
from .steps import all_terms, is_one_sentence, total

PAIRS = list(itertools.combinations(ROWS, 2))


def clash(first: Row, second: Row) -> bool:
    a, b = first.cls, second.cls
    shared = {"terms": set(a.heads) & set(b.heads), "adds": set(a.shares) & set(b.shares)}
    inside = any(
        "change_hidden" in one.moments and (other.views or "teacher" in other.needs) for one, other in ((a, b), (b, a))
    )
    replaced = set(first.make().replaced) & set(second.make().replaced)
    both = (set(getattr(a, fact)) & set(getattr(b, fact)) - shared[fact] for fact in ("adds", "terms"))
    reads = any("linear-head" in one.needs and "head" in other.replaces for one, other in ((a, b), (b, a)))
    return inside or reads or bool(replaced) or any(both)


def check_pair(a: Row, b: Row, kind: str = "images") -> None:
    """Check that both methods act in one step, or are refused for what both declare to change."""
    methods = together(a, b)
    if clash(a, b):
        with pytest.raises(ValueError) as refusal:
            TrainingStep(classifier(kind), *methods)
        message = str(refusal.value)
        assert a.cls.name in message and b.cls.name in message and is_one_sentence(message)
        return
    step = TrainingStep(classifier(kind), *methods)
    before = [parameter.detach().clone() for parameter in step.parameters()]
    terms = step(batch(kind))
    assert set(terms) == all_terms(*a.classes, *b.classes), "the terms of both"
    assert all(value.ndim == 0 and value.isfinite() for value in terms.values())
    total(terms).backward()
    torch.optim.SGD(step.parameters(), lr=0.1).step()
    for old, (name, new) in zip(before, step.named_parameters(), strict=True):
        assert new.isfinite().all(), name
        assert not torch.equal(old, new), f"{name} was not trained"


@pytest.mark.parametrize("a, b", PAIRS)
def test_every_pair_trains_or_is_refused(a: str, b: str) -> None:
    check_pair(ROWS[a], ROWS[b])


def test_which_pairs_are_refused() -> None:
    refused = {frozenset(pair) for pair in PAIRS if clash(ROWS[pair[0]], ROWS[pair[1]])}
    assert frozenset({"mixup", "cutmix"}) in refused
    assert frozenset({"pfs", "isomax"}) in refused
    assert not any(frozenset({"outlier-exposure", name}) in refused for name in ROWS)
    assert len(refused) < len(PAIRS) / 2


@pytest.mark.parametrize("name", ROWS)
def test_a_method_given_twice_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is given twice") as refusal:
        TrainingStep(classifier("images"), *ROWS[name].methods(), ROWS[name].make())
    assert is_one_sentence(str(refusal.value))


def test_all_methods_that_do_not_clash_train_together() -> None:
    chosen: list[Row] = []
    for row in ROWS.values():
        if not any(clash(row, other) for other in chosen):
            chosen.append(row)
    assert len(chosen) > len(ROWS) / 2
    terms = TrainingStep(classifier("images"), *together(*chosen))(batch("images"))
    assert set(terms) == all_terms(*(cls for row in chosen for cls in row.classes))
    total(terms).backward()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_logit_norm_normalises_every_part_and_not_only_id(order: tuple[int, int]) -> None:
    methods = [RegMixup(alpha=2.0), LogitNorm()]
    net = classifier("images")
    step = TrainingStep(net, *(methods[index] for index in order))
    prepared = step.prepare(batch("images"))
    terms = step.losses(prepared)
    for role, term in (("id", "cross_entropy"), ("mixed", "regmixup")):
        logits = net(prepared[role].inputs)
        normalised = logits / (logits.norm(dim=1, keepdim=True) + 1e-7) / 0.04
        expected = cross_entropy(normalised, prepared[role].targets)
        assert terms[term].item() == pytest.approx(expected.item(), rel=1e-4)
        assert abs(terms[term].item() - cross_entropy(logits, prepared[role].targets).item()) > 0.1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_smoothing_reaches_the_mixed_rows_once(order: tuple[int, int]) -> None:
    methods = [CrossEntropy(label_smoothing=0.2), RegMixup(alpha=2.0)]
    step = TrainingStep(classifier("images"), *(methods[index] for index in order))
    hard = TrainingStep(classifier("images"), RegMixup(alpha=2.0)).prepare(batch("images"))
    prepared = step.prepare(batch("images"))
    torch.testing.assert_close(prepared["mixed"].targets, 0.8 * hard["mixed"].targets + 0.05)
    assert torch.equal(prepared["mixed"].inputs, hard["mixed"].inputs)


def test_terms_of_a_composition_are_those_of_its_methods_alone() -> None:
    given = batch("images")
    together = TrainingStep(classifier("images"), OutlierExposure(), EnergyGap())(given)
    for method in (OutlierExposure(), EnergyGap()):
        alone = TrainingStep(classifier("images"), method)(given)
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((torch.nn.Linear(6, 4),), "classifier must be a Classifier, got Linear: make one with Classifier.split"),
        ((classifier("vectors"), "mixup"), "methods must be instances of Method, got str"),
        ((classifier("vectors"), Mixup), "methods must be instances of Method, got"),
        ((classifier("vectors"), [Mixup()]), "methods must be instances of Method, got list of 1"),
    ],
)
def test_steps_of_the_wrong_things_are_refused(arguments: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence) as refusal:
        TrainingStep(*arguments)  # type: ignore[arg-type]
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "given, sentence",
    [
        (torch.rand(6, 6), r"batch must be \(inputs, targets\) or a Batch, got Tensor"),
        ((torch.rand(6, 6),), r"batch must be \(inputs, targets\) or a Batch, got tuple of 1"),
        (
            (torch.rand(6, 6), torch.arange(6) % 4, torch.arange(6)),
            "got tuple of 3: leave out what follows the targets",
        ),
        ((torch.rand(6, 6).numpy(), torch.arange(6) % 4), "got ndarray: torch.from_numpy makes a tensor of it"),
        ((torch.rand(6, 6), list("abcdef")), "must have labels that are numbers, .*, got list of str"),
        (dict(x=torch.rand(6, 6)), "with inputs and targets, got none under 'labels' in a dictionary of x"),
        (dict(labels=torch.arange(6) % 4), "must have inputs beside its labels, got a dictionary without"),
        (dict(x=torch.rand(6, 6), text=["a"] * 6, labels=torch.arange(6) % 4), "got list of str under 'text'"),
        (
            dict(x=torch.rand(6, 6), label=torch.arange(6), labels=torch.arange(6)),
            "labels once, got 'labels' and 'label'",
        ),
        ((torch.rand(6, 6), None), "A batch must have a part 'id' with inputs and targets, got none"),
        (
            (torch.rand(6, 6), torch.zeros(5, dtype=torch.long)),
            "inputs and targets must have as many rows, got 6 and 5",
        ),
        ((torch.rand(6, 6), torch.full((6,), 4)), "must be class ids from 0 to 3, got 4"),
    ],
)
def test_wrong_batches_are_refused(given: object, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence) as refusal:
        TrainingStep(classifier("vectors"))(given)
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("outliers", ["noise", 3.0, []])
def test_wrong_outliers_are_refused(outliers: object) -> None:
    with pytest.raises(TypeError, match="outliers must be inputs or") as refusal:
        TrainingStep(classifier("vectors"), OutlierExposure())(
            (torch.rand(6, 6), torch.zeros(6, dtype=torch.long)), outliers=outliers
        )
    assert is_one_sentence(str(refusal.value))


def test_outliers_come_as_a_labelled_loader_gives_them() -> None:
    x, y, o = torch.rand(6, 6), torch.zeros(6, dtype=torch.long), torch.rand(5, 6)
    expected = TrainingStep(classifier("vectors"), OutlierExposure())((x, y), outliers=o)
    for outliers in ((o, torch.full((5,), 99)), [o, torch.full((5,), -1)], [o]):
        terms = TrainingStep(classifier("vectors"), OutlierExposure())([x, y], outliers=outliers)
        assert torch.equal(total(terms), total(expected))


def test_outliers_of_another_kind_are_refused() -> None:
    (x, o), y = tensors(inputs("images", 4)) + tensors(inputs("images", 3, seed=5)), torch.arange(4)
    wrong = {
        "1 channel": (o[:, :1], r"as many dimensions and channels as .* \(4, 2, 8, 8\), got \(3, 1, 8, 8\)"),
        "one image": (o[0], r"as many dimensions and channels as .*, got \(2, 8, 8\)"),
        "float64": (o.double(), "the type of the in-distribution inputs, torch.float32, got torch.float64: convert"),
        "uint8": (
            (255 * o).byte(),
            "the type of .* torch.float32, got torch.uint8: convert them, and divide them by 255 if",
        ),
        "255": (255 * o, "the units of the in-distribution inputs, which reach from .* to .*: are some divided by 255"),
    }
    for given, sentence in wrong.values():
        with pytest.raises(ValueError, match=f"^outliers must (have|be in) {sentence}") as refusal:
            TrainingStep(classifier("images"), OutlierExposure())((x, y), given)
        assert is_one_sentence(str(refusal.value))
        assert TrainingStep(classifier("images"))((x, y), given), "which nobody looks at"
    with pytest.raises(ValueError, match="outliers must be in the units"):
        TrainingStep(classifier("images"), OutlierExposure())((255 * x, y), o)
    step = TrainingStep(classifier("images"), OutlierExposure())
    for outliers in (o, 4 * o - 2, 0 * o, o[:0], 255 * o):
        assert torch.isfinite(total(step((x, y), outliers))), "after the first batch units are not looked at again"


def test_the_part_on_which_a_network_does_not_run_is_named() -> None:
    step = TrainingStep(classifier("vectors"), OutlierExposure())
    y = torch.arange(4)
    with pytest.raises(ValueError, match=r"must run on outliers, of shape \(3, 5\), .* \(4, 6\), but: mat1") as refusal:
        step((torch.rand(4, 6), y), torch.rand(3, 5))
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(RuntimeError, match="mat1"):
        step((torch.rand(4, 5), y), torch.rand(3, 5))
