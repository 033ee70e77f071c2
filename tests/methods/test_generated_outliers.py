"""Generated outliers: each kind against a naive reference, how they are divided, and what they are added to."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles import (
    GeneratedOutliers,
    Mixup,
    OutlierExposure,
    Part,
    TrainingStep,
)
from oodles.data.mixing_pictures import mixing_pictures
from oodles.methods.generated_outliers import (
    KINDS,
    columns,
    draw_partners,
    draw_places,
    generate,
    jigsaw,
    kinds_for,
    mixtures,
    noise,
    pictures,
    tokens,
)

from ..contract.networks import batch, classifier, inputs, labels
from ..contract.steps import is_one_sentence
from ..references import generated_outliers as reference


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(rows: int = 6, side: int = 8) -> Part:
    return Part(torch.rand(rows, 2, side, side, generator=generator(3)), torch.arange(rows) % 3)


def as_rows(x: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in x.flatten(1).tolist()}


def test_no_row_comes_again_before_all_have_come() -> None:
    for count in (0, 3, 6, 15):
        places = draw_places(6, count, generator())
        assert len(places) == count
        for start in range(0, count, 6):
            assert len(set(places[start : start + 6].tolist())) == len(places[start : start + 6])
    assert not torch.equal(draw_places(6, 6, generator(1)), draw_places(6, 6, generator(2)))


@pytest.mark.parametrize("classes", [[0, 1, 2, 0, 1, 2, 2], [1, 1, 0], [2, 2, 2, 2], [0]])
def test_partners_are_those_of_the_reference_and_evenly_drawn(classes: list[int]) -> None:
    part, rows = Part(torch.rand(len(classes), 2), torch.tensor(classes)), 500 * len(classes)
    places = torch.arange(rows) % len(classes)
    found = draw_partners(part, places, generator())
    shares = torch.rand(rows, dtype=torch.float64, generator=generator())
    expected = [reference.partner(classes, p, s) for p, s in zip(places.tolist(), shares.tolist(), strict=True)]
    assert found.tolist() == expected
    for row in range(len(classes)):
        seen, counts = np.unique(found[places == row].numpy(), return_counts=True)
        wanted = [place for place, label in enumerate(classes) if label != classes[row]] or range(len(classes))
        assert set(seen) == set(wanted) and counts.min() > 0.6 * 500 / len(wanted)


def test_of_probabilities_the_likeliest_class_counts_and_void_rows_are_a_class_of_their_own() -> None:
    soft = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    places = torch.arange(3).repeat(50)
    found = draw_partners(Part(torch.rand(3, 2), soft), places, generator())
    assert set(found[places < 2].tolist()) == {2} and set(found[places == 2].tolist()) == {0, 1}
    void = Part(torch.rand(3, 2), torch.tensor([0, 0, 0]), valid=torch.tensor([True, True, False]))
    assert set(draw_partners(void, places, generator())[places < 2].tolist()) == {2}
    dense = Part(torch.rand(2, 1, 2, 2), torch.tensor([[[0, 1], [1, 1]], [[1, 0], [0, 0]]], dtype=torch.uint16))
    assert draw_partners(dense, torch.tensor([0, 1]), generator()).tolist() == [1, 0]


def test_mixtures_are_of_two_classes_and_of_each_at_least_a_quarter() -> None:
    part = Part(torch.randn(6, 5, dtype=torch.float64, generator=generator(1)), torch.arange(6) % 3)
    found = mixtures(part, 40, generator())
    draws = generator()
    places = draw_places(6, 40, draws)
    partners = draw_partners(part, places, draws)
    shares = 0.25 + 0.5 * torch.rand(40, dtype=torch.float64, generator=draws)
    assert 0.25 <= shares.min() < 0.3 and 0.7 < shares.max() <= 0.75
    x = part.rows.numpy()
    expected = [
        reference.mixture(x[a], x[b], share)
        for a, b, share in zip(places.tolist(), partners.tolist(), shares.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=1e-12)


def test_columns_keep_what_is_likely_and_not_what_fits_together() -> None:
    x = torch.arange(4.0)[:, None] + torch.tensor([0.0, 10.0, 20.0])  # the three numbers of a row belong together
    found = columns(Part(x, torch.arange(4)), 3000, generator())
    for column in range(3):
        seen, counts = found[:, column].unique(return_counts=True)
        assert seen.tolist() == x[:, column].tolist() and counts.min() > 650
    apart = (found - torch.tensor([0.0, 10.0, 20.0])).std(1) > 0
    assert 0.9 < apart.float().mean() < 0.97, "1 − 1/16"


def test_pictures_are_those_of_pixmix() -> None:
    x = images()
    known = as_rows(mixing_pictures("", (2, 8, 8)).rows(np.arange(1000), x.rows))
    found = pictures(x, 30, generator())
    assert as_rows(found) <= known and len(as_rows(found)) > 20
    assert found.dtype == x.rows.dtype


@pytest.mark.parametrize("side, patches", [(8, 2), (15, 2), (16, 4), (28, 4)])
def test_puzzles_are_made_of_a_row_each(side: int, patches: int) -> None:
    x = images(side=side)
    found = jigsaw(x, 9, generator())
    kept = side // patches
    pieces = [{tuple(x.rows[row, :, :kept, :kept].flatten().tolist())} for row in range(6)]
    assert not as_rows(found) & as_rows(x.rows)
    values = {tuple(row) for row in x.rows.flatten(1).sort(1).values.tolist()}
    assert {tuple(row) for row in found.flatten(1).sort(1).values.tolist()} <= values
    corner = [
        {
            tuple(puzzle[:, a : a + kept, b : b + kept].flatten().tolist())
            for a in range(0, kept * patches, kept)
            for b in range(0, kept * patches, kept)
        }
        for puzzle in found
    ]
    assert all(any(piece <= there for piece in pieces) for there in corner), "pieces stay whole"


def test_noise_is_that_of_ceda() -> None:
    found = noise(images(), 7, generator())
    assert found.shape == (7, 2, 8, 8)
    assert found.amin((1, 2, 3)).tolist() == [0.0] * 7 and found.amax((1, 2, 3)).tolist() == [1.0] * 7


def sequences() -> Part:
    ids = torch.tensor([[9, 11, 12, 13, 14, 0], [9, 21, 22, 23, 0, 0], [9, 31, 32, 33, 34, 35]])
    mask = (ids != 0).long()
    return Part({"ids": ids, "attention_mask": mask, "length": mask.sum(1)}, torch.tensor([0, 1, 2]))


def test_tokens_are_shuffled_and_half_of_them_another_sequence_s() -> None:
    part = sequences()
    found = tokens(part, 300, generator())
    assert set(found) == {"ids", "attention_mask", "length"}
    draws = generator()
    places = draw_places(3, 300, draws)
    partners = draw_partners(part, places, draws)
    order, coin = torch.rand(2, 300, 6, generator=draws)
    assert isinstance(part.inputs, dict)
    ids, mask = part.inputs["ids"], part.inputs["attention_mask"].bool()
    assert torch.equal(found["attention_mask"], part.inputs["attention_mask"][places])
    assert torch.equal(found["length"], part.inputs["length"][places])
    for row in range(300):
        a, b = int(places[row]), int(partners[row])
        count = int(mask[a].sum())
        taken = [bool(mask[b, place] and coin[row, place] < 0.5 and place > 0) for place in range(count)]
        expected = reference.shuffled(ids[a, :count].tolist(), ids[b, :count].tolist(), order[row].tolist(), taken)
        assert found["ids"][row].tolist() == [*expected, *[0] * (6 - count)]
    foreign = [len({value // 10 for value in row[1:] if value}) > 1 for row in found["ids"].tolist()]
    assert 0.6 < np.mean(foreign) < 1


def test_tokens_without_a_mask_all_move() -> None:
    ids = torch.arange(12).reshape(2, 6)
    found = tokens(Part({"ids": ids}, torch.tensor([0, 1])), 50, generator())["ids"]
    assert all(sorted(value % 6 for value in row) == list(range(6)) for row in found.tolist())
    assert set(found[:, 0].tolist()) == {0, 6}


@pytest.mark.parametrize(
    "kind, dense, expected",
    [
        ("images", False, ("pictures", "jigsaw", "noise")),
        ("dense", True, ("pictures", "noise")),
        ("vectors", False, ("mixtures", "columns")),
        ("tokens", False, ("tokens",)),
    ],
)
def test_the_kinds_that_fit(kind: str, dense: bool, expected: tuple[str, ...]) -> None:
    assert kinds_for(Part(inputs(kind, 3)), dense=dense) == expected


def test_kinds_are_divided_evenly_and_each_step_begins_with_another() -> None:
    def ones(known: Part, count: int, generator: torch.Generator) -> Tensor:
        return torch.full((count, 6), 1.0)

    def twos(known: Part, count: int, generator: torch.Generator) -> Tensor:
        return torch.full((count, 6), 2.0)

    step = TrainingStep(classifier("vectors"), GeneratedOutliers(kinds=(ones, twos), share=0.5), OutlierExposure())
    given = batch("vectors")
    pair = given["id"].inputs, given["id"].targets
    first, second = (step.prepare(pair)["outliers"].rows[:, 0].tolist() for _ in range(2))
    assert (first, second) == ([1.0, 2.0, 2.0], [2.0, 1.0, 1.0])
    assert len(generate(given["id"], ["columns"] * 4, 2, generator())) == 2
    assert len(generate(given["id"], ["columns"], 0, generator())) == 0


def test_they_are_added_to_those_at_hand() -> None:
    given = batch("images")
    step = TrainingStep(classifier("images"), GeneratedOutliers(), OutlierExposure())
    alone = TrainingStep(classifier("images"), GeneratedOutliers(), OutlierExposure())
    both = step.prepare(given)["outliers"].rows
    made = alone.prepare((given["id"].inputs, given["id"].targets))["outliers"].rows
    assert len(made) == 3 and torch.equal(both, torch.cat([given["outliers"].rows, made]))
    terms = step(given)
    z = step.classifier(step.prepare(given)["outliers"].inputs)
    assert set(terms) == {"cross_entropy", "outlier_exposure"} and len(z) == 13


def test_pixels_of_pictures_that_are_made_all_count() -> None:
    given = batch("dense")
    valid = torch.rand(len(given["outliers"]), 8, 8, generator=generator()) < 0.5
    step = TrainingStep(classifier("dense"), GeneratedOutliers(share=1), OutlierExposure())
    found = step.prepare(given.with_part("outliers", Part(given["outliers"].inputs, valid=valid)))["outliers"]
    assert found.valid is not None
    assert torch.equal(found.valid[:10], valid) and found.valid[10:].all() and len(found) == 16


def test_outliers_of_another_shape_are_refused() -> None:
    given = batch("images")
    step = TrainingStep(classifier("images"), GeneratedOutliers(), OutlierExposure())
    sentence = re.escape("Generated outliers must have the shape and type of those that they are added to, ")
    with pytest.raises(ValueError, match=sentence) as refusal:
        step(given.with_part("outliers", Part(torch.rand(4, 2, 10, 10))))
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("kind", ["pictures", "jigsaw", "noise"])
def test_kinds_that_need_pixels_refuse_vectors(kind: str) -> None:
    step = TrainingStep(classifier("vectors"), GeneratedOutliers(kinds=(kind,)), OutlierExposure())
    with pytest.raises(ValueError, match=rf"The kind {kind} needs images of shape \(N, C, H, W\), got"):
        step(batch("vectors"))


def test_kinds_that_do_not_fit_are_refused() -> None:
    for kind, words in (
        ("tokens", "generated-outliers cannot act on this batch: tokens must be tensors"),
        ("columns", "generated-outliers cannot act on this batch: inputs must be one floating-point tensor"),
    ):
        given = "vectors" if kind == "tokens" else "tokens"
        step = TrainingStep(classifier(given), GeneratedOutliers(kinds=(kind,)), OutlierExposure())
        with pytest.raises(TypeError, match=words) as refusal:
            step(batch(given))
        assert is_one_sentence(str(refusal.value))

    def two(known: Part, count: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(2, 6)

    step = TrainingStep(classifier("vectors"), GeneratedOutliers(kinds=(two,)), OutlierExposure())
    with pytest.raises(ValueError, match="two must make 3 outliers, got 2") as refused:
        step(batch("vectors"))
    assert is_one_sentence(str(refused.value))


def test_without_a_loss_that_reads_them_they_are_refused() -> None:
    for others in ((), (Mixup(),), (OutlierExposure(weight=0),)):
        with pytest.raises(ValueError, match="generated-outliers makes, chooses or changes outliers, and no") as no:
            TrainingStep(classifier("images"), GeneratedOutliers(), *others)
        assert is_one_sentence(str(no.value))


def test_they_teach_a_classifier_what_is_unknown() -> None:
    """A few steps on made outliers make the classifier less certain of others of the same kinds, unseen."""
    found = {}
    for made in (False, True):
        net = classifier("vectors")
        methods = [GeneratedOutliers(kinds=("columns",), share=2), OutlierExposure(weight=2.0)] if made else []
        step = TrainingStep(net, *methods)
        optimizer = torch.optim.SGD(step.parameters(), lr=0.3, momentum=0.9)
        x, y = inputs("vectors", 64), labels("vectors", 64)
        assert isinstance(x, Tensor)
        for _ in range(40):
            optimizer.zero_grad()
            sum(step((x, y)).values()).backward()  # type: ignore[union-attr]
            optimizer.step()
        with torch.no_grad():
            unseen = columns(Part(x, y), 200, generator(9))
            found[made] = float(net(unseen).softmax(1).amax(1).mean())
    assert found[True] < found[False] - 0.05


def test_every_kind_has_its_name() -> None:
    assert {function.__name__ for function in KINDS.values()} == set(KINDS)
