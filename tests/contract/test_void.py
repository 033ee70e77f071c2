"""Void rows and pixels leave every term: the terms are those of the others, and nothing depends on what is void."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oodles import (
    Batch,
    Classifier,
    EnergyBounded,
    Method,
    Mixup,
    Now,
    OutlierExposure,
    Outputs,
    Part,
    RegMixup,
    TrainingStep,
)
from oodles.facts import ROLES
from oodles.forward_pass import Reading

from .additions import Hardest
from .networks import CLASSES, batch, classifier, labels, probabilities
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import equal_batches, is_one_sentence, terms_of, total

VOID = 255


def mask(kind: str, rows: int, *, seed: int = 0) -> Tensor:
    """Draw which rows or pixels count: about two thirds, and in a row or picture of its own none."""
    shape = (rows, 8, 8) if kind == "dense" else (rows,)
    counts = torch.rand(shape, generator=torch.Generator().manual_seed(seed + 7)) < 0.7
    counts[1] = False
    counts[0].fill_(True) if kind != "dense" else counts[0, 0].fill_(True)
    return counts


def void_batch(kind: str, *, soft: bool = False, garbage: int = 0) -> Batch:
    """Draw a batch with void rows or pixels in every part; their labels are garbage."""
    given = batch(kind, dtype=torch.float64)
    valid = mask(kind, len(given["id"]))
    if soft:
        targets = probabilities(kind, len(valid))
        targets = torch.where(valid.unsqueeze(1), targets, float("nan") if garbage else 0.0)
    else:
        targets = torch.where(valid, labels(kind, len(valid)), garbage)
    known = Part(given["id"].inputs, targets, valid=valid)
    others = {
        role: Part(given[role].inputs, valid=mask(kind, len(given[role]), seed=seed))
        for seed, role in enumerate(ROLES, start=1)
    }
    return Batch({"id": known, **others})


def dropped(values: Tensor, counts: Tensor | None) -> Tensor:
    """Drop what is void by boolean indexing."""
    if counts is None:
        return values
    return values[counts] if counts.ndim == 1 else values.movedim(1, -1)[counts]


def naive_terms(step: TrainingStep, prepared: Batch) -> Mapping[str, Tensor]:
    """Compute the terms of the rows or pixels that count, each part's chosen by boolean indexing after the forward."""
    methods = [method for method in step.methods if isinstance(method, Method)]
    views = {role for method in methods for role in method.views}
    whole = step._forward(replace(prepared, places={}), Reading.of(methods))
    counts = {role: prepared["id" if role in views else role].valid for role in whole.logits}

    def left(by_role: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {role: dropped(value, counts[role]) for role, value in by_role.items()}

    parts = dict(prepared.parts)
    for role, part in parts.items():
        if part.targets is not None and part.valid is not None:
            ids = not part.targets.is_floating_point()
            parts[role] = replace(part, targets=part.targets[part.valid] if ids else dropped(part.targets, part.valid))
    draws, valid = dict(prepared.draws), prepared["id"].valid
    for name, draw in draws.items():
        if draw.ndim and len(draw) == len(valid) and valid.ndim == 1:
            draws[name] = draw[valid]
        elif draw.ndim == 1 and len(draw) == len(valid):
            draws[name] = draw.reshape(-1, *[1] * (valid.ndim - 1)).expand(valid.shape)[valid]
        elif draw.ndim == 1 and len(draw) == len(prepared["wild"]):
            draws[name] = dropped(draw, prepared["wild"].valid)
    outputs = Outputs(
        left(whole.features), left(whole.logits), {name: left(by_role) for name, by_role in whole.heads.items()}
    )
    return terms_of(step, Batch(parts, draws), outputs)


def check_void(row: Row, kind: str, *, soft: bool = False) -> None:
    """Check that terms and gradients are those of the rows or pixels that count."""
    step = TrainingStep(classifier(kind, dtype=torch.float64), *row.methods())
    prepared = step.prepare(void_batch(kind, soft=soft))
    terms, expected = step.losses(prepared), naive_terms(step, prepared)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-10, atol=1e-12, msg=name)
    parameters = [parameter for parameter in step.parameters() if parameter.requires_grad]
    slopes = torch.autograd.grad(total(terms), parameters, allow_unused=True)
    for slope, other in zip(slopes, torch.autograd.grad(total(expected), parameters, allow_unused=True), strict=True):
        assert (slope is None) == (other is None)
        if slope is not None:
            torch.testing.assert_close(slope, other, rtol=1e-9, atol=1e-11)


def check_void_labels_matter_nowhere(row: Row, kind: str) -> None:
    """Check that what a method makes is the same, where it counts, whatever stands in the place of void labels."""
    made = []
    for garbage in (0, 3):
        given, net, method = void_batch(kind, garbage=garbage), classifier(kind, dtype=torch.float64), row.make()
        TrainingStep(net, method, *row.methods()[1:])
        made.append(method.change_batch(given, Now(net, step=0, epoch=0, epochs=1, seed=(0,), name=method.name)))
    for role, part in made[0].parts.items():
        other = made[1][role]
        assert (part.valid is None) == (other.valid is None)
        assert part.valid is None or torch.equal(part.valid, other.valid)
        if part.targets is not None:
            assert part.valid is not None, f"{role} has targets of void rows or pixels"
            ids = not part.targets.is_floating_point()
            for a, b in [(part.targets, other.targets)]:
                assert torch.equal(*(t[part.valid] if ids else dropped(t, part.valid) for t in (a, b))), role
        if isinstance(part.inputs, Tensor):
            rows = slice(None) if part.valid is None or part.valid.ndim > 1 else part.valid
            assert torch.equal(part.inputs[rows], other.inputs[rows]), role


def check_all_void(row: Row, kind: str) -> None:
    """Check that a batch of which nothing counts gives finite terms with a graph, and no gradient becomes NaN."""
    given = void_batch(kind)
    nothing = {role: replace(part, valid=torch.zeros_like(part.valid)) for role, part in given.parts.items()}
    step = TrainingStep(classifier(kind, dtype=torch.float64), *row.methods())
    terms = step(Batch(nothing))
    for name, value in terms.items():
        assert value.isfinite() and value.requires_grad, name
    assert terms.get("cross_entropy", torch.zeros(())).item() == 0
    total(terms).backward()
    for name, parameter in step.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def check_nothing_void(row: Row, kind: str) -> None:
    """Check that where all counts, terms and gradients are those of a step without ``ignore_index``, bit for bit."""
    given = batch(kind)
    everything = torch.ones(len(given["outliers"]), *((8, 8) if kind == "dense" else ()), dtype=torch.bool)
    found = []
    for index, outliers in ((None, given["outliers"]), (VOID, replace(given["outliers"], valid=everything))):
        step = TrainingStep(classifier(kind), *row.methods(), ignore_index=index)
        prepared = step.prepare(given.with_part("outliers", outliers))
        assert not prepared.places
        terms = step.losses(prepared)
        total(terms).backward()
        found.append([*terms.values(), *(p.grad for p in step.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("soft", [False, True], ids=["ids", "soft"])
@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_terms_are_those_of_what_counts(name: str, kind: str, soft: bool) -> None:
    if ROWS[name].cls.differentiates:
        pytest.skip("outputs that are cut out by hand are no function of the inputs")
    check_void(ROWS[name], kind, soft=soft)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_void_labels_matter_nowhere(name: str, kind: str) -> None:
    check_void_labels_matter_nowhere(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_batch_of_which_nothing_counts(name: str, kind: str) -> None:
    check_all_void(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_batch_of_which_all_counts(name: str, kind: str) -> None:
    check_nothing_void(ROWS[name], kind)


def tensors(kind: str = "dense") -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw pictures, labels, what counts of them, and outliers with their pixels."""
    given = batch(kind, dtype=torch.float64)
    y, o = given["id"].targets, given["outliers"].inputs
    assert isinstance(given["id"].inputs, Tensor) and isinstance(o, Tensor) and y is not None
    return given["id"].inputs, y, mask(kind, len(y)), o, mask(kind, len(o), seed=1)


def made(*methods: Method, **settings: int) -> TrainingStep:
    return TrainingStep(classifier("dense", dtype=torch.float64), *methods, **settings)


def expected_terms(x: Tensor, y: Tensor, valid: Tensor, o: Tensor, pixels: Tensor) -> list[float]:
    """Compute cross-entropy and outlier exposure of pixels, one by one."""
    net = classifier("dense", dtype=torch.float64)
    with torch.no_grad():
        p, q = net(x).log_softmax(1), net(o).log_softmax(1)
    known = [-p[n, y[n, i, j], i, j].item() for n, i, j in valid.nonzero().tolist()]
    unknown = [-q[n, :, i, j].mean().item() for n, i, j in pixels.nonzero().tolist()]
    return [sum(known) / len(known), 0.5 * sum(unknown) / len(unknown)]


@pytest.mark.parametrize(
    "index, dtype", [(255, torch.int64), (255, torch.uint8), (-100, torch.int64), (-1, torch.int32), (7, torch.int16)]
)
def test_any_number_that_is_no_class_id_marks_void_pixels(index: int, dtype: torch.dtype) -> None:
    x, y, valid, o, pixels = tensors()
    labelled = y.masked_fill(~valid, index).to(dtype)
    before = labelled.clone()
    expected = expected_terms(x, y, valid, o, pixels)
    masks = {"truth values": pixels, "class ids": torch.where(pixels, 2, index).to(dtype), "array": pixels.numpy()}
    for name, given in masks.items():
        terms = made(OutlierExposure(), ignore_index=index)((x, labelled), (o, given))
        assert [value.item() for value in terms.values()] == pytest.approx(expected, rel=1e-12), name
    assert torch.equal(labelled, before)


def test_the_inverted_mask_gives_another_term() -> None:
    x, y, _, o, pixels = tensors()
    found = [made(OutlierExposure())((x, y), (o, given))["outlier_exposure"] for given in (pixels, ~pixels)]
    everything = made(OutlierExposure())((x, y), o)["outlier_exposure"]
    share = pixels.double().mean()
    assert found[0] != found[1]
    torch.testing.assert_close(share * found[0] + (1 - share) * found[1], everything)


def test_unknown_pixels_of_the_same_pictures() -> None:
    x, y, valid, _, _ = tensors()
    unknown = valid & (torch.rand(y.shape, generator=torch.Generator().manual_seed(3)) < 0.3)
    labelled = y.masked_fill(~valid, VOID).masked_fill(unknown, 254)
    expected = expected_terms(x, y, valid & ~unknown, x, unknown)
    step = made(OutlierExposure(), ignore_index=VOID, ood_index=254)
    seen: list[int] = []
    step.classifier.backbone.register_forward_hook(lambda module, args, result: seen.append(len(args[0])))
    assert [value.item() for value in step((x, labelled)).values()] == pytest.approx(expected, rel=1e-12)
    assert seen == [len(x)], "the pictures go through the network once"
    mixed = made(Mixup(), OutlierExposure(), ignore_index=VOID, ood_index=254)((x, labelled))
    assert mixed["outlier_exposure"].item() == pytest.approx(expected[1], rel=1e-12), "of the pictures as they were"
    given = made(OutlierExposure(), ignore_index=VOID, ood_index=254)((x, labelled), (x.flip(0), labelled.flip(0)))
    assert [value.item() for value in given.values()] == pytest.approx(expected, rel=1e-12)


def test_a_mixed_pixel_counts_where_both_do() -> None:
    x, y, valid, _, _ = tensors()
    step = made(RegMixup(), ignore_index=VOID)
    part = step.prepare((x, y.masked_fill(~valid, VOID)))["mixed"]
    assert isinstance(part.inputs, Tensor) and part.targets is not None and part.valid is not None
    one_hot = torch.nn.functional.one_hot(y, CLASSES).movedim(-1, 1).double()
    mixed = 0
    for n in range(len(x)):
        fits = []
        for other in range(len(x)):
            for share in (part.inputs - x[other])[n].flatten()[:1] / (x[n] - x[other]).flatten()[:1]:
                mixture = share * x[n] + (1 - share) * x[other]
                if torch.allclose(mixture, part.inputs[n], atol=1e-6):
                    fits.append((other, share))
        if not fits:
            continue  # mixed with itself
        mixed += 1
        other, share = fits[0]
        assert torch.equal(part.valid[n], valid[n] & valid[other])
        expected = share * one_hot[n] + (1 - share) * one_hot[other]
        counts = part.valid[n]
        torch.testing.assert_close(part.targets[n][:, counts].double(), expected[:, counts], rtol=1e-4, atol=1e-4)
    assert mixed > 2 and not part.valid[1].any()


def test_a_puzzle_moves_what_counts_with_its_pixels() -> None:
    x, y, valid, _, _ = tensors()
    x = valid.unsqueeze(1).expand(-1, 2, -1, -1).double()  # pictures of what counts
    part = made(ROWS["jigsaw"].make(), ignore_index=VOID).prepare((x, y.masked_fill(~valid, VOID)))["jigsaw"]
    assert isinstance(part.inputs, Tensor) and part.valid is not None
    assert torch.equal(part.valid, part.inputs[:, 0] == 1) and not torch.equal(part.valid, valid)


def test_compiled_in_one_graph_for_any_number_of_pixels() -> None:
    x, y, _, o, _ = tensors()
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        graphs.append(len(list(graph.graph.nodes)))
        return graph

    methods = (OutlierExposure(), Mixup(), ROWS["confidence-branch"].make(), ROWS["mcd"].make())
    steps = [made(*methods, ignore_index=VOID) for _ in range(2)]
    steps[1].compile(backend=count)
    for seed in range(5):
        valid, pixels = mask("dense", len(y), seed=seed), mask("dense", len(o), seed=9 + seed)
        plain, compiled = (step((x, y.masked_fill(~valid, VOID)), (o, pixels)) for step in steps)
        for name, value in plain.items():
            torch.testing.assert_close(compiled[name], value)
        for step in steps:
            step.after_update()
    assert len(graphs) <= 2, "one more for sizes that change"


REFUSALS = {
    "a class": (lambda: made(ignore_index=3), "ignore_index must be no class id, and 0 to 3 are, got 3"),
    "an unknown class": (lambda: made(ood_index=0), "ood_index must be no class id, and 0 to 3 are, got 0"),
    "no number": (lambda: made(ignore_index=2.5), "ignore_index must be a whole number, got 2.5"),  # type: ignore[arg-type]
    "a truth value": (lambda: made(ignore_index=True), "ignore_index must be a whole number, got True"),
    "without": (
        lambda: made()(with_label(255)),
        "got 255: leave rows .* or give the step or evaluate ignore_index=255",
    ),
    "another": (lambda: made(ignore_index=255)(with_label(-1)), "from 0 to 3, got -1: .* ignore_index=-1"),
    "no such": (lambda: made()(with_label(9)), "from 0 to 3, got 9: leave rows without a label out of the batch.$"),
    "numbers": (
        lambda: with_mask(torch.ones(10, 8, 8)),
        "outliers came with torch.float32 of shape .* give truth values",
    ),
    "ids alone": (lambda: with_mask(torch.ones(10, 8, 8).long()), "outliers came with torch.int64 .* truth values"),
    "channels": (lambda: with_mask(torch.ones(10, 1, 8, 8).bool()), r"outliers came with torch.bool of shape \(10, 1"),
    "fewer": (
        lambda: with_mask(torch.ones(9, 8, 8).bool()),
        "What counts in 'outliers' .* its 10 rows or their pixels",
    ),
    "smaller": (
        lambda: with_mask(torch.zeros(10, 4, 4).bool()),
        r"'outliers' that count .* of shape \(10, 4, 8, 8\), got",
    ),
    "valid": (
        lambda: made()(Batch({"id": part_with(torch.ones(6).bool())})),
        r"of its labels' shape \(6, 8, 8\), got \(6,\)",
    ),
}


def with_label(index: int) -> tuple[Tensor, Tensor]:
    x, y, valid, _, _ = tensors()
    return x, y.masked_fill(~valid, index)


def with_mask(given: Tensor) -> object:
    x, y, _, o, _ = tensors()
    return made(OutlierExposure())((x, y), (o, given))


def part_with(valid: Tensor) -> Part:
    x, y, _, _, _ = tensors()
    return Part(x, y, valid=valid)


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_a_sentence(case: str) -> None:
    call, sentence = REFUSALS[case]
    with pytest.raises((ValueError, TypeError), match=sentence) as refusal:
        call()
    assert is_one_sentence(str(refusal.value))


def test_labels_of_whole_pictures_beside_outliers_do_not_matter() -> None:
    x, y, _, o, _ = tensors()
    alone = made(OutlierExposure())((x, y), o)
    for given in (torch.zeros(len(o)), ["path"] * len(o), None, torch.rand(len(o), 4)):
        terms = made(OutlierExposure())((x, y), (o, given))
        assert all(torch.equal(terms[name], value) for name, value in alone.items())
    images = batch("images")
    masks = torch.zeros(len(images["outliers"]), 8, 8, dtype=torch.bool)
    plain = TrainingStep(classifier("images"), OutlierExposure())
    assert (
        plain((images["id"].inputs, images["id"].targets), (images["outliers"].inputs, masks))["outlier_exposure"] > 0
    )


def test_a_method_that_forgets_what_counts_is_refused() -> None:
    class Forgetful(Method):
        name = "forgetful"
        adds = ("more",)
        terms = ("more",)

        def change_batch(self, batch: Batch, now: Now) -> Batch:
            return batch.with_part("more", Part(batch["id"].inputs, batch["id"].targets))

        def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            return {"more": outputs.logits["more"].mean()}

    with pytest.raises(ValueError, match="made the part 'more' of rows or pixels some of which are void") as refusal:
        made(Forgetful(), ignore_index=VOID)(with_label(VOID))
    assert is_one_sentence(str(refusal.value))


def test_labelled_outliers_that_all_count_may_be_chosen_beside_void_rows() -> None:
    """Their labels say nothing of which rows of the other part count."""
    given, void = batch("vectors"), void_batch("vectors")["id"]
    labelled = Part(given["outliers"].inputs, labels("vectors", len(given["outliers"])))
    known = Part(given["id"].inputs, void.targets, valid=void.valid)
    step = TrainingStep(classifier("vectors"), Hardest(keep=3), OutlierExposure())
    prepared = step.prepare(Batch({"id": known, "outliers": labelled}))
    assert len(prepared["outliers"]) == 3 and prepared["outliers"].valid is None
    assert step.losses(prepared)["outlier_exposure"].isfinite()


def test_features_of_another_resolution() -> None:
    backbone, head = torch.nn.Conv2d(2, 7, 2, stride=2), torch.nn.Conv2d(7, CLASSES, 1)
    net = Classifier(backbone, torch.nn.Sequential(head, torch.nn.Upsample(scale_factor=2)), CLASSES, 7).double()
    x, y, valid, o, pixels = tensors()
    labelled = y.masked_fill(~valid, VOID)
    terms = TrainingStep(net, OutlierExposure(), ignore_index=VOID)((x, labelled), (o, pixels))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(net(x), labelled, ignore_index=VOID)
    torch.testing.assert_close(terms["cross_entropy"].detach(), expected)
    step = TrainingStep(net, ROWS["objectosphere"].make(), ignore_index=VOID)
    with pytest.raises(TypeError, match=r"objectosphere cannot act .* features of 'id' must have the logits' pixels"):
        step((x, labelled), (o, pixels))


def test_what_is_prepared_and_hooks_after_the_update_see_rows_of_pixels() -> None:
    seen: dict[str, tuple[int, ...]] = {}

    class Watch(OutlierExposure):
        name = "watch"

        def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
            seen.update(logits=tuple(outputs.logits["id"].shape), targets=tuple(batch["id"].labels.shape))

    x, y, valid, o, pixels = tensors()
    step = made(Watch(), ignore_index=VOID)
    step((x, y.masked_fill(~valid, VOID)), (o, pixels))
    step.after_update()
    assert seen == {"logits": (int(valid.sum()), CLASSES), "targets": (int(valid.sum()),)}


def test_rows_are_taken_with_what_counts() -> None:
    x, y, valid, _, _ = tensors()
    taken = Part(x, y, valid=valid).take(torch.tensor([2, 0]))
    assert taken.valid is not None and torch.equal(taken.valid, valid[[2, 0]])
    assert equal_batches(Batch({"id": taken}), Batch({"id": Part(x[[2, 0]], y[[2, 0]])}))


def test_a_batch_without_pixels_is_an_exact_zero() -> None:
    x, y, _, o, pixels = tensors()
    step = made(OutlierExposure(), EnergyBounded(), ignore_index=VOID)
    terms = step((x, torch.full_like(y, VOID)), (o, torch.zeros_like(pixels)))
    assert [value.item() for value in terms.values()] == [0, 0, 0]
    total(terms).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in step.parameters())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "suggest" in vars(row.cls)])
def test_what_is_measured_is_measured_on_what_counts(name: str) -> None:
    x, y, valid, o, pixels = tensors()
    net = classifier("dense", dtype=torch.float64)
    with torch.no_grad():  # apart enough for margins
        net.head.bias.zero_()
    cls, labelled = ROWS[name].cls, y.masked_fill(~valid, VOID)
    loud = torch.where(valid.unsqueeze(1), 40 * x, 1e3 * x)  # whose energies are lower
    quiet = torch.where(pixels.unsqueeze(1), 0 * o, 1e3 * o)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # with other weights, known pixels may not have the lower energies
        pointwise = Classifier(torch.nn.Conv2d(2, 7, 1).double(), net.head)
    found = cls.suggest(pointwise, [(loud, labelled)], [(quiet, pixels)], ignore_index=VOID)

    def single(images: Tensor, chosen: Tensor) -> Tensor:
        return images.movedim(1, -1)[chosen][:, :, None, None]

    known = single(loud, valid), y[valid][:, None, None]
    expected = cls.suggest(pointwise, [known], [single(quiet, pixels)])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6), key
