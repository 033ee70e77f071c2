"""The order in which methods are written has no meaning, and one method's draws do not depend on the others."""

import itertools

import pytest
import torch
from torch import Tensor

from oodles import (
    ASCOOD,
    ODNL,
    AugMix,
    Batch,
    CrossEntropy,
    Distillation,
    ManifoldMixup,
    Method,
    Mixup,
    Now,
    OutlierExposure,
    Part,
    PixMix,
    RegMixup,
    RotationPrediction,
    TrainingStep,
)

from .additions import ADDITIONS, Hardest
from .networks import batch, classifier
from .rows import ROWS, together
from .steps import equal_batches, is_one_sentence, total
from .test_pairs import clash

ALL = ROWS | ADDITIONS
PAIRS = [pair for pair in itertools.combinations(ALL, 2) if not clash(ALL[pair[0]], ALL[pair[1]])]


def outcome(*methods: Method) -> tuple[TrainingStep, dict[str, Tensor], dict[str, Tensor]]:
    """Run a step; return it, its terms, and the gradients of the classifier."""
    step = TrainingStep(classifier("images"), *methods, seed=3)
    terms = step(batch("images"))
    total(terms).backward()
    return step, terms, {name: p.grad for name, p in step.classifier.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("a, b", PAIRS)
def test_two_orders_are_one(a: str, b: str) -> None:
    first, second = (outcome(*together(*(ALL[name] for name in names))) for names in ((a, b), (b, a)))
    assert list(first[1]) == list(second[1])
    for swapped, expected in zip(second[1:], first[1:], strict=True):
        assert swapped.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(swapped[name], value), name


def test_three_methods_in_six_orders() -> None:
    methods = [AugMix(weight=2.0), PixMix(), OutlierExposure()]
    expected = outcome(*methods)[1]
    for order in itertools.permutations(methods):
        terms = outcome(*order)[1]
        assert list(terms) == list(expected) and all(torch.equal(terms[name], expected[name]) for name in terms)


CHANGE_ROWS = [name for name, row in ALL.items() if "in-distribution inputs" in row.cls.replaces]
DRAW = [name for name, row in ALL.items() if row.random]


@pytest.mark.parametrize("other", ["outlier-exposure", "logit-norm", "confidence-branch", "odnl", "virtual"])
@pytest.mark.parametrize("name", DRAW)
def test_another_method_leaves_the_draws_as_they_were(name: str, other: str) -> None:
    if name == other or clash(ALL[name], ALL[other]):
        pytest.skip("they cannot be combined")
    alone = TrainingStep(classifier("images"), *ALL[name].methods(), seed=3)
    for rows in ((ALL[name], ALL[other]), (ALL[other], ALL[name])):
        beside = TrainingStep(classifier("images"), *together(*rows), seed=3)
        for _ in range(2):
            given, both = alone.prepare(batch("images")), beside.prepare(batch("images"))
            for role in ("id", *ALL[name].cls.adds):
                expected, actual = given[role], both[role]
                assert torch.equal(actual.first, expected.first), role
                assert expected.targets is None or torch.equal(actual.labels, expected.labels), role
            assert all(torch.equal(both.draws[draw], value) for draw, value in given.draws.items())
        alone.steps = 0


@pytest.mark.parametrize("other", ["outlier-exposure", "openmix", "background-class", "mcd", "views", "contrast"])
@pytest.mark.parametrize("name", [name for name, row in ALL.items() if row.cls.heads or "head" in row.cls.replaces])
def test_another_method_leaves_new_weights_as_they_were(name: str, other: str) -> None:
    if name == other or clash(ALL[name], ALL[other]):
        pytest.skip("they cannot be combined")
    alone = TrainingStep(classifier("images"), *ALL[name].methods(), seed=3).classifier.state_dict()
    for order in ((name, other), (other, name)):
        beside = TrainingStep(classifier("images"), *together(*(ALL[method] for method in order)), seed=3)
        state = beside.classifier.state_dict()
        assert all(torch.equal(state[key], value) for key, value in alone.items())


def test_two_methods_of_one_name_draw_different_numbers() -> None:
    class Again(RegMixup):
        """One more of them."""

        adds = ("again",)
        terms = ("again",)

        def change_batch(self, batch, now):  # type: ignore[no-untyped-def]
            return batch.with_part("again", super().change_batch(batch, now)["mixed"])

        def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            return {"again": outputs.logits["again"].sum()}

    prepared = TrainingStep(classifier("images"), RegMixup(), Again()).prepare(batch("images"))
    assert not torch.equal(prepared["mixed"].rows, prepared["again"].rows)
    alone = TrainingStep(classifier("images"), RegMixup()).prepare(batch("images"))
    assert torch.equal(prepared["mixed"].rows, alone["mixed"].rows)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rows_are_replaced_before_parts_are_made_of_them(order: tuple[int, int]) -> None:
    for maker, role in (
        (RotationPrediction(), "rotated_90"),
        (RegMixup(alpha=2.0), "mixed"),
        (ASCOOD(alpha=1e-9), "ascood"),
    ):
        methods = [maker, PixMix()]
        prepared = TrainingStep(classifier("images"), *(methods[index] for index in order)).prepare(batch("images"))
        clean = TrainingStep(classifier("images"), maker).prepare(batch("images"))
        pixmix = TrainingStep(classifier("images"), PixMix()).prepare(batch("images"))
        assert torch.equal(prepared["id"].rows, pixmix["id"].rows)
        assert not torch.allclose(prepared[role].rows, clean[role].rows, atol=1e-3), "made of the clean rows"
    rotated = TrainingStep(classifier("images"), RotationPrediction(), PixMix()).prepare(batch("images"))
    assert torch.equal(rotated["rotated_90"].rows, rotated["id"].rows.rot90(1, (2, 3)))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rows_that_are_mixed_inside_the_network_are_taken_clean_by_others(order: tuple[int, int]) -> None:
    """RegMixup mixes rows with their own labels, not with those of what manifold mixup makes of them later."""
    methods = [ManifoldMixup(), RegMixup(alpha=2.0)]
    prepared = TrainingStep(classifier("images"), *(methods[index] for index in order)).prepare(batch("images"))
    clean = TrainingStep(classifier("images"), RegMixup(alpha=2.0)).prepare(batch("images"))
    assert torch.equal(prepared["mixed"].rows, clean["mixed"].rows)
    assert torch.equal(prepared["mixed"].labels, clean["mixed"].labels)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("viewer", [AugMix, RotationPrediction, Distillation])
def test_what_no_order_makes_right_is_refused(viewer: type[Method], order: tuple[int, int]) -> None:
    methods = [ManifoldMixup(), viewer()]
    with pytest.raises(ValueError, match="manifold-mixup mixes rows inside the network and") as refusal:
        TrainingStep(classifier("images"), *(methods[index] for index in order))
    assert viewer.name in str(refusal.value) and is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_labels_of_outliers_are_smoothed_as_all_others(order: tuple[int, int]) -> None:
    methods = [CrossEntropy(label_smoothing=0.2), ODNL()]
    prepared = TrainingStep(classifier("images"), *(methods[index] for index in order)).prepare(batch("images"))
    hard = TrainingStep(classifier("images"), ODNL()).prepare(batch("images"))
    one_hot = torch.nn.functional.one_hot(hard["outliers"].labels, 4)
    torch.testing.assert_close(prepared["outliers"].labels, 0.8 * one_hot + 0.05)


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_whoever_looks_at_labels_last_sees_those_that_are_trained(name: str) -> None:
    seen: list[Tensor] = []

    def look(self: Method, given: Batch, now: Now) -> Batch:
        seen.append(given["id"].labels)
        return given

    looker = type("Looks", (Method,), {"name": name, "change_batch": look})()
    prepared = TrainingStep(classifier("images"), ManifoldMixup(), looker).prepare(batch("images"))
    assert seen[0] is prepared["id"].labels and seen[0].is_floating_point()


def test_rows_mixed_with_outliers_are_mixed_with_those_that_were_chosen() -> None:
    def mix(self: Method, given: Batch, now: Now) -> Batch:
        rows = torch.cat([given["id"].rows[:2], given["outliers"].rows[:2]])
        return given.with_part("id", Part(rows, given["id"].labels[:4]))

    facts = {"needs": ("outliers",), "consumes": ("outliers",), "replaces": ("in-distribution inputs",)}
    mixes: Method = type("Mixes", (Method,), {"name": "mixes", "change_batch": mix, **facts})()
    given = batch("vectors")
    prepared = TrainingStep(classifier("vectors"), mixes, Hardest(keep=2)).prepare(given)
    hardest = TrainingStep(classifier("vectors"), OutlierExposure(), Hardest(keep=2)).prepare(given)["outliers"].rows
    assert torch.equal(prepared["id"].rows[2:], hardest)
    with pytest.raises(ValueError, match="hardest makes, chooses or changes outliers, and no other method uses them"):
        TrainingStep(classifier("vectors"), OutlierExposure(weight=0), Hardest())


@pytest.mark.parametrize("viewer", [AugMix(weight=0), RotationPrediction(weight=0)])
def test_methods_that_are_switched_off_stand_beside_any(viewer: Method) -> None:
    assert set(TrainingStep(classifier("images"), viewer, ManifoldMixup())(batch("images"))) == {"cross_entropy"}


def test_draws_that_belong_to_nobody_do_not_change() -> None:
    first, second = (TrainingStep(classifier("images"), Mixup(), seed=seed).prepare(batch("images")) for seed in (3, 3))
    assert equal_batches(first, second)
