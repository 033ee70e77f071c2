"""What the step offers and no shipped method uses yet: the checks of the suite, and what each of them means."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from oodles import (
    SAM,
    BackgroundClass,
    Batch,
    Classifier,
    Data,
    EnergyBounded,
    LogitNorm,
    Method,
    MixOE,
    Mixup,
    OutlierExposure,
    Part,
    PixMix,
    TrainingStep,
)
from oodles.contract import Gradient, Now, WrongPart
from oodles.randomness import generator_for
from oodles.scores import energy
from oodles.views import random_view, with_view

from .additions import ADDITIONS, NOBODY, Alone, AsTested, Generated, Hardest, MoreViews, Shaken, Views, Virtual, Wild
from .networks import batch, classifier, inputs, tensors
from .rows import ROWS, Row
from .steps import equal_batches, is_one_sentence, total
from .test_arithmetic import check_autocast, check_float64
from .test_classifiers import check_changed_once
from .test_facts import check_facts
from .test_one_forward import check_one_forward
from .test_ownership import check_owns_nothing
from .test_pairs import check_pair
from .test_randomness import check_randomness
from .test_state import check_state
from .test_strength import check_strength_zero
from .test_tracing import check_compiles, check_no_loop, check_no_sync

CHECKS: dict[str, Callable[[Row, str], None]] = {
    "facts": check_facts,
    "one forward": check_one_forward,
    "owns nothing": check_owns_nothing,
    "randomness": check_randomness,
    "state": check_state,
    "strength zero": check_strength_zero,
    "autocast": check_autocast,
    "float64": check_float64,
    "no sync": check_no_sync,
    "no loop": check_no_loop,
    "changed once": check_changed_once,
    "one graph": lambda row, kind: check_compiles(row, kind, "aot_eager"),
}
DIFFERS = {
    ("virtual", "autocast"): "the check listens to the backbone, which does not see rows made as features",
    ("shaken", "autocast"): "the check listens to the head, whose weights are others for outliers",
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", ADDITIONS)
def test_the_checks_of_the_suite(name: str, check: str) -> None:
    if reason := DIFFERS.get((name, check)):
        pytest.skip(reason)
    CHECKS[check](ADDITIONS[name], "images")


OTHERS = ("mixup", "logit-norm", "outlier-exposure", "rotation-prediction", "flooding", "g-odin")


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")  # random features cost much
@pytest.mark.parametrize(
    "other", ["mixup", "logit-norm", "outlier-exposure", "rotation-prediction", "flooding", "g-odin"]
)
@pytest.mark.parametrize("name", ADDITIONS)
def test_they_compose(name: str, other: str) -> None:
    check_pair(ADDITIONS[name], ROWS[other])
    check_pair(ROWS[other], ADDITIONS[name])


# rows made as features


def test_features_that_are_made_join_the_others_behind_the_backbone() -> None:
    net, made = classifier("images"), torch.randn(5, 7)
    sizes: list[int] = []
    net.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    step = TrainingStep(net, Virtual(weight=1.0), LogitNorm(temperature=0.5))
    given = step.prepare(batch("images")).with_part("virtual", Part(features=made))
    terms = step.losses(given)
    assert sizes == [6], "the backbone sees the rows that are inputs"
    logits = net.head(made)
    normalised = logits / (logits.norm(dim=1, keepdim=True) + 1e-7) / 0.5
    assert terms["virtual"].item() == pytest.approx(-energy(normalised).mean().item(), rel=1e-5), "LogitNorm acts on it"
    terms["virtual"].backward()
    assert net.head.weight.grad is not None
    assert all(parameter.grad.abs().sum() == 0 for parameter in net.backbone.parameters() if parameter.grad is not None)


def test_a_part_is_inputs_or_features() -> None:
    for wrong in ({}, {"inputs": torch.rand(2, 3), "features": torch.rand(2, 3)}):
        with pytest.raises(ValueError, match="A part must have inputs or features, got") as refusal:
            Part(**wrong)
        assert is_one_sentence(str(refusal.value))
    made = Part(features=torch.rand(4, 7))
    assert len(made) == 4
    with pytest.raises(WrongPart, match="inputs must be one floating-point tensor, got features"):
        _ = made.rows
    with pytest.raises(WrongPart, match="targets must be class ids or probabilities, got none"):
        _ = made.labels


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_rows_of_a_part_are_taken(kind: str) -> None:
    part, places = batch(kind)["id"], torch.tensor([4, 1, 1])
    taken = part.take(places)
    assert torch.equal(taken.labels, part.labels[[4, 1, 1]]) and len(taken) == 3
    if isinstance(part.inputs, dict):
        assert isinstance(taken.inputs, dict)
        assert all(torch.equal(taken.inputs[key], value[[4, 1, 1]]) for key, value in part.inputs.items())
    else:
        assert torch.equal(taken.rows, part.rows[[4, 1, 1]])
    made = Part(features=torch.arange(6.0).reshape(3, 2)).take(torch.tensor([2]))
    assert made.features is not None and made.features.tolist() == [[4.0, 5.0]]


@pytest.mark.parametrize("kind, shape", [("vectors", (3, 6)), ("vectors", (7,)), ("dense", (3, 7))])
def test_features_that_do_not_fit_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    class Misfits(Virtual):
        needs = ()

        def change_batch(self, batch: Batch, now: Now) -> Batch:
            return batch.with_part("virtual", Part(features=torch.zeros(shape)))

    with pytest.raises(ValueError, match="Features of 'virtual' must have shape") as refusal:
        TrainingStep(classifier(kind), Misfits())(batch(kind))
    assert is_one_sentence(str(refusal.value))


def test_rows_are_numbered_by_whole_numbers_and_have_as_many_targets() -> None:
    part = batch("vectors")["id"]
    for wrong in (torch.tensor([]), part.labels > 0, [0, 1], torch.tensor(1)):
        with pytest.raises(TypeError, match=r"places must be whole numbers of rows, \(N,\), got") as refusal:
            part.take(wrong)  # type: ignore[arg-type]
        assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="rows must be a whole number of at least 1, got 0"):
        Now(classifier("vectors")).seen(part.rows, rows=0)

    class Unequal(Virtual):
        def change_batch(self, batch: Batch, now: Now) -> Batch:
            return batch.with_part(
                "virtual", Part(features=torch.zeros(3, 7), targets=torch.zeros(2, dtype=torch.long))
            )

    with pytest.raises(ValueError, match="virtual and targets must have as many rows, got 3 and 2"):
        TrainingStep(classifier("vectors"), Unequal())(batch("vectors"))


# second views


def test_methods_share_a_view_a_head_and_one_forward() -> None:
    net = classifier("images")
    sizes: list[int] = []
    net.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    step = TrainingStep(net, MoreViews(), Views())
    terms = step(batch("images"))
    assert sizes == [12] and list(net.heads) == ["projection"] and {"views", "more_views"} <= set(terms)
    alone = TrainingStep(classifier("images"), Views())
    assert alone(batch("images"))["views"].item() == pytest.approx(terms["views"].item(), rel=1e-6)


def test_a_view_that_is_there_stays() -> None:
    given = batch("images").with_part("view", Part(torch.ones(6, 2, 8, 8)))
    assert TrainingStep(classifier("images"), Views()).prepare(given)["view"] is given["view"]


def test_a_view_that_was_given_does_not_go_with_rows_that_are_changed() -> None:
    given = batch("images").with_part("view", Part(torch.ones(6, 2, 8, 8)))
    step = TrainingStep(classifier("images"), Views(), Mixup())
    with pytest.raises(
        ValueError, match=r"views compares rows with the given part 'view', and mixup changes"
    ) as refusal:
        step.prepare(given)
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="id and view must have as many rows, got 6 and 4"):
        TrainingStep(classifier("images"), Views()).prepare(given.with_part("view", Part(torch.ones(4, 2, 8, 8))))


def test_a_view_is_of_what_the_known_rows_have_become() -> None:
    for methods in ((Views(), PixMix()), (PixMix(), Views())):
        prepared = TrainingStep(classifier("images"), *methods, seed=3).prepare(batch("images"))
        expected = random_view(prepared["id"].rows, generator=generator_for(3, 0, 0, "view"))
        assert torch.equal(prepared["view"].rows, expected)


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_other_inputs_are_seen_again_as_they_are(kind: str) -> None:
    given = batch(kind)
    batched = with_view(given, Now(classifier(kind), seed=(0,), step=0))
    view = batched["view"]
    assert view.targets is given["id"].targets
    assert all(torch.equal(a, b) for a, b in zip(tensors(view.inputs), tensors(given["id"].inputs), strict=True))


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_a_view_of_the_same_rows_is_forwarded_again_where_some_of_them_are_void(kind: str) -> None:
    """Or dropout would not tell the two views apart."""
    step = TrainingStep(classifier(kind), Views(), ignore_index=9)
    sizes: list[int] = []
    step.classifier.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(next(iter([*args, *kwargs.values()])))), with_kwargs=True
    )
    step(batch(kind))
    assert sizes == [12]


def test_a_random_view_is_a_crop_with_its_colours_changed() -> None:
    """Of an image whose pixels say where they are, the view says what was shown."""
    rows = 400
    y, x = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 16), indexing="ij")
    images = torch.stack([x, y]).expand(rows, 2, 16, 16)  # two channels: no grey, no saturation
    before = images.clone()
    view = random_view(images, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, before) and view.shape == images.shape
    assert view.min() >= 0 and view.max() <= 1
    across = view[:, 0, 8, -1] - view[:, 0, 8, 0]
    assert 0.4 < (across < 0).float().mean() < 0.6, "half of them are mirrored"
    plain = random_view(images, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain, view), "a function of the generator"
    colours = torch.rand(rows, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    grey = random_view(colours, generator=torch.Generator().manual_seed(2))
    share = ((grey.amax(1) - grey.amin(1)).amax((1, 2)) < 1e-6).float().mean()
    assert 0.13 < share < 0.27, "a fifth of them are grey"


def test_an_unchanged_crop_is_the_image() -> None:
    """Where the draws ask for all of it, unmirrored and in its own colours."""

    class Fixed:
        def __call__(self, *args: object, **kwargs: object) -> torch.Tensor:
            u = torch.full((10, 3), 0.5, dtype=torch.float64)
            u[0], u[2], u[5], u[9] = 1.0, 1.0, 1.0, 1.0
            return u

    x = torch.rand(3, 3, 9, 12, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", Fixed())
        view = random_view(x)
    torch.testing.assert_close(view, x, rtol=1e-12, atol=1e-12)


# miners, and outliers that are made


def test_a_miner_chooses_with_a_frozen_classifier() -> None:
    net = classifier("images", noisy=True).train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    step = TrainingStep(net, OutlierExposure(), Hardest(keep=3))
    given = batch("images")
    prepared = step.prepare(given)
    assert all(torch.equal(net.get_buffer(name), value) for name, value in before.items()), "statistics"
    assert all(module.training for module in net.modules())
    rows = given["outliers"].rows
    with torch.no_grad():
        scores = energy(copy.deepcopy(net).eval()(rows))
    assert torch.equal(prepared["outliers"].rows, rows[scores.argsort()[:3]])


def test_a_miner_whose_choice_nobody_looks_at_is_refused() -> None:
    with pytest.raises(
        ValueError, match="hardest makes, chooses or changes outliers, and no other method uses them"
    ) as no:
        TrainingStep(classifier("vectors"), Hardest(), Mixup())
    assert is_one_sentence(str(no.value))


class Changed(Method):
    """Doubles the outliers, for others."""

    name = "changed"
    paper = NOBODY
    needs = ("outliers",)
    consumes = ("outliers",)
    replaces = ("outliers",)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return batch.with_part("outliers", Part(2 * batch["outliers"].rows))


def test_methods_that_prepare_outliers_for_one_another_alone_are_refused() -> None:
    for preparing in ((Changed(), Hardest()), (Hardest(), Generated())):
        with pytest.raises(ValueError, match="chooses or changes outliers, and no other method uses them") as no:
            TrainingStep(classifier("vectors"), *preparing)
        assert is_one_sentence(str(no.value))
        TrainingStep(classifier("vectors"), *preparing, OutlierExposure())


@pytest.mark.parametrize(
    "methods, score",
    [
        ((OutlierExposure(),), "msp"),
        ((OutlierExposure(), EnergyBounded()), "energy"),
        ((BackgroundClass(), OutlierExposure()), "background"),
        ((EnergyBounded(weight=0), OutlierExposure()), "msp"),
        ((Changed(), EnergyBounded()), "energy"),
        ((MixOE(), LogitNorm()), "msp"),
    ],
    ids=lambda value: value if isinstance(value, str) else " + ".join(method.name for method in value),
)
def test_the_score_of_what_trains_on_outliers_is_known(methods: tuple[Method, ...], score: str) -> None:
    told = []

    class Asks(Hardest):
        name = "asks"

        def change_batch(self, batch: Batch, now: Now) -> Batch:
            told.append((now.score_of("outliers"), now.score_of("wild")))
            return batch

    TrainingStep(classifier("images"), *methods, Asks()).prepare(batch("images"))
    assert told == [(score, "msp")]


def test_made_outliers_are_enough_and_are_added_to_real_ones() -> None:
    given = batch("vectors")
    known = Batch({"id": given["id"]})
    made = -given["id"].rows[:3]
    for methods in ((OutlierExposure(), Generated()), (Generated(), OutlierExposure())):
        step = TrainingStep(classifier("vectors"), *methods)
        assert torch.equal(step.prepare(known)["outliers"].rows, made)
        assert torch.equal(step.prepare(given)["outliers"].rows, torch.cat([given["outliers"].rows, made]))
    hardest = TrainingStep(classifier("vectors"), Hardest(keep=2), OutlierExposure(), Generated()).prepare(known)
    assert len(hardest["outliers"]) == 2, "made, then chosen"


def test_what_a_classifier_sees_in_pieces_is_what_it_gives_at_once() -> None:
    for kind in ("images", "tokens"):
        net, x = classifier(kind, noisy=kind == "images", dtype=torch.float32).train(), inputs(kind, 11)
        net.add_head("further", 2)
        pieces = Now(net).seen(x, rows=4)
        net.eval()
        with torch.no_grad():
            features = net.features(x)
            expected = features, net.head(features), net.heads["further"](features)
        for joined, value in zip((pieces.features, pieces.logits, pieces.heads["further"]), expected, strict=True):
            assert not joined.requires_grad
            torch.testing.assert_close(joined, value)


# other weights


def loss_at(net: nn.Module, given: Batch) -> torch.Tensor:
    return cross_entropy(net(given["id"].rows), given["id"].labels)


def one_step_up(net: Classifier, given: Batch, radius: float) -> Classifier:
    """A copy whose weights have taken a step of this length along the gradient, by hand."""
    plain = copy.deepcopy(net)
    loss_at(plain, given).backward()
    length = torch.stack([p.grad.square().sum() for p in plain.parameters()]).sum().sqrt()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter += radius * parameter.grad / length  # type: ignore[operator]
    plain.zero_grad()
    return plain


def test_one_step_up_is_that_of_sharpness_aware_minimisation() -> None:
    net, given = classifier("images", dtype=torch.float64), batch("images", dtype=torch.float64)
    plain = one_step_up(net, given, 0.3)
    expected = loss_at(plain, given)
    expected.backward()
    terms = TrainingStep(net, SAM(radius=0.3))(given)
    total(terms).backward()
    assert terms["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-12)
    for (name, parameter), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-10, atol=1e-12, msg=name)


def test_the_extra_pass_moves_neither_statistics_nor_random_numbers() -> None:
    net, plain = (classifier("images", noisy=True).train() for _ in range(2))
    state = torch.get_rng_state()
    prepared = TrainingStep(net, SAM()).prepare(batch("images"))
    assert torch.equal(torch.get_rng_state(), state)
    for name, buffer in plain.named_buffers():
        assert torch.equal(net.get_buffer(name), buffer), name
    step = TrainingStep(net, SAM())
    step.losses(prepared)
    assert int(net.get_buffer("backbone.1.num_batches_tracked")) == 1, "one forward pass in the step"


def test_a_gradient_is_of_the_loss_or_of_another_number() -> None:
    found = []

    class Looks(Shaken):
        def change_weights(self, batch: Batch, gradient: Gradient, now: Now) -> Batch:
            found.extend((gradient(batch), gradient(batch, lambda outputs: energy(outputs.logits["outliers"]).mean())))
            return batch

    net, given = classifier("vectors", dtype=torch.float64), batch("vectors", dtype=torch.float64)
    net.add_head("further", 2)
    total(TrainingStep(net, Looks(weight=0.7))(given)).backward()

    def mean() -> torch.Tensor:
        return energy(net(given["outliers"].rows)).mean()

    wanted = loss_at(net, given) - 0.7 * mean(), mean()
    expected = [torch.autograd.grad(value, net.head.weight)[0] for value in wanted]
    for gradients, slope in zip(found, expected, strict=True):
        assert gradients.keys() == dict(net.named_parameters()).keys()
        torch.testing.assert_close(gradients["head.weight"], slope)
        assert not gradients["heads.further.weight"].any(), "zeros where it does not depend on them"


def test_some_roles_are_forwarded_with_other_weights() -> None:
    net, given = classifier("vectors", dtype=torch.float64), batch("vectors", dtype=torch.float64)
    step = TrainingStep(net, Shaken(weight=1.0), seed=5)
    terms = step(given)
    shaken = copy.deepcopy(net)
    generator = generator_for(5, 0, "shaken", "shared")
    with torch.no_grad():
        for parameter in shaken.parameters():
            parameter += (0.1 * torch.randn(parameter.shape, generator=generator)).to(parameter)
    assert terms["shaken"].item() == pytest.approx(-energy(shaken(given["outliers"].rows)).mean().item(), rel=1e-12)
    assert terms["cross_entropy"].item() == pytest.approx(loss_at(net, given).item(), rel=1e-12)


def test_weights_that_layers_share_change_together_and_come_back() -> None:
    shared = nn.Linear(6, 6, dtype=torch.float64)
    net = Classifier(nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh()), shared, num_classes=6)
    weight, given = shared.weight, batch("vectors", dtype=torch.float64)
    plain = one_step_up(net, given, 0.3)
    for _ in range(2):
        terms = TrainingStep(net, SAM(radius=0.3))(given)
        assert terms["cross_entropy"].item() == pytest.approx(loss_at(plain, given).item(), rel=1e-12)
        assert shared.weight is weight and isinstance(weight, nn.Parameter)
        assert [name for name, _ in net.named_parameters()] == [name for name, _ in plain.named_parameters()]


CHANGES: dict[str, tuple[tuple[object, dict[str, tuple[int, ...]]], str]] = {
    "role": ((("idd",), {}), "with_weights must name each role once, got 'idd', and the batch has none of that name"),
    "parameter": (("id", {"head.weigth": (4, 7)}), "no parameter 'head.weigth' to change: did you mean 'head.weight'"),
    "shape": (
        ("id", {"head.weight": (7, 4)}),
        r"change of 'head.weight' must have (its )?shape \(4, 7\), got \(7, 4\)",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changes_of_weights_that_cannot_be_are_refused(case: str) -> None:
    (roles, shapes), sentence = CHANGES[case]

    class Wrong(SAM):
        name = "wrong"

        def change_weights(self, batch, gradient, now):  # type: ignore[no-untyped-def]
            return batch.with_weights(roles, {name: torch.zeros(shape) for name, shape in shapes.items()})

    with pytest.raises(ValueError, match=sentence) as refusal:
        TrainingStep(classifier("vectors"), Wrong())(batch("vectors"))
    assert is_one_sentence(str(refusal.value))


def test_two_methods_that_change_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="both replace 'weights'"):
        TrainingStep(classifier("vectors"), SAM(), Shaken())


# numbers of a process and numbers of all


def test_shared_numbers_do_not_depend_on_the_rank() -> None:
    def draws(rank: int, step: int = 0, name: str = "a") -> list[torch.Tensor]:
        now = Now(classifier("vectors"), seed=(7,), step=step, name=name, rank=rank)
        return [torch.rand(3, generator=generator) for generator in (now.shared, now.generator, now.generator_of("x"))]

    first, second = draws(0), draws(1)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1]) and not torch.equal(first[2], second[2])
    for other in (draws(0, step=1), draws(0, name="b")):
        assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])
    assert torch.equal(draws(0, name="b")[2], first[2]), "draws that methods share do not depend on theirs"
    assert not torch.equal(first[0], first[1])


# wild rows, measures, epochs


def wild() -> Part:
    return Part(inputs("vectors", 5, seed=3))


def test_wild_rows_come_by_keyword() -> None:
    net, given = classifier("vectors"), batch("vectors")
    given = Batch({role: part for role, part in given.parts.items() if role != "wild"})
    step = TrainingStep(net, Wild())
    with pytest.raises(ValueError, match=r"wild needs wild, got none: call step\(batch, wild=inputs\)") as refusal:
        step(given)
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(TypeError, match="wild must be inputs or"):
        step(given, wild=3.0)
    for rows in (wild(), wild().rows, (wild().rows, torch.zeros(5))):
        assert step(given, wild=rows)["wild"].item() >= 0


def test_measures_are_given_and_not_summed() -> None:
    net = classifier("vectors")
    step = TrainingStep(net, Wild())
    terms = step(batch("vectors"), wild=wild())
    assert set(terms) == {"cross_entropy", "wild"} and set(step.measures) == {"wild_energy"}
    measured = step.measures["wild_energy"]
    assert measured.item() == pytest.approx(energy(net(wild().rows)).mean().item(), rel=1e-6)
    assert not measured.requires_grad
    method = step.methods[0]
    assert isinstance(method, Wild)
    step.after_update()
    assert method.price.item() == pytest.approx(1.1 if method.level > measured else 0.9), "seen after the update"


def test_an_epoch_begins_with_a_pass_over_data_and_goes_on_after_a_resume() -> None:
    def fresh() -> tuple[TrainingStep, Wild]:
        method = Wild()
        return TrainingStep(classifier("vectors"), method, seed=2), method

    data = Data(train=[(batch("vectors", seed=seed)["id"].rows, None) for seed in range(3)])
    step, method = fresh()
    step.start_epoch(0, 2, data)
    rows = torch.cat([inputs_ for inputs_, _ in data.train or ()])
    assert method.level.item() == pytest.approx(energy(step.classifier(rows)).mean().item(), rel=1e-6)
    assert (step.epoch, step.epochs) == (0, 2)
    step(batch("vectors"), wild=wild())
    with torch.no_grad():
        step.classifier.head.bias += 1.0
    state = copy.deepcopy(step.state_dict())
    begun = method.level.clone()

    resumed, again = fresh()
    resumed.load_state_dict(state)
    resumed.start_epoch(0, 2, data)
    assert torch.equal(again.level, begun), "an epoch that goes on keeps what it began with"
    resumed.start_epoch(1, 2, data)
    assert again.level.item() == pytest.approx(begun.item() - 1, rel=1e-5), "the next one begins anew"

    ended, later = fresh()
    ended.load_state_dict(state)
    ended.start_epoch(1, 2, data)
    assert later.level.item() == pytest.approx(begun.item() - 1, rel=1e-5), "saved at the end of an epoch"


@pytest.mark.parametrize("arguments", [(-1, 3), (3, 3), (0.5, 2), (0, 2, [])])
def test_wrong_epochs_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"epochs? must be|data must be Data") as refusal:
        TrainingStep(classifier("vectors")).start_epoch(*arguments)
    assert is_one_sentence(str(refusal.value))


def test_epochs_draw_numbers_of_their_own() -> None:
    drawn = []

    class Draws(Virtual):
        name = "draws"
        adds = ()
        terms = ()

        def change_batch(self, batch: Batch, now: Now) -> Batch:
            drawn.append(torch.rand(2, generator=now.generator))
            return batch

        def start_epoch(self, data: Data, now: Now) -> None:
            drawn.append(torch.rand(2, generator=now.generator))

        loss_terms = Hardest.loss_terms  # type: ignore[assignment]  # the contract's own

    step = TrainingStep(classifier("vectors"), Draws())
    step.start_epoch(0, 2)
    step.prepare(batch("vectors"))
    step.start_epoch(1, 2)
    assert len({tuple(values.tolist()) for values in drawn}) == 3


def test_prepared_batches_are_the_same_for_the_same_seed() -> None:
    methods = Views(), Virtual(), Shaken(), OutlierExposure()
    first, second = (TrainingStep(classifier("images"), *methods, seed=4).prepare(batch("images")) for _ in range(2))
    assert equal_batches(first, second)


# methods that train alone


def test_the_cross_entropy_of_a_method_that_trains_alone_reaches_the_last_layer_and_nothing_else() -> None:
    terms, slopes = {}, {}
    for alone in (False, True):
        step = TrainingStep(classifier("images", dtype=torch.float64), Alone(alone=alone))
        terms[alone] = step(batch("images", dtype=torch.float64))
        parameters = dict(step.classifier.named_parameters())
        gradients = torch.autograd.grad(terms[alone]["cross_entropy"], list(parameters.values()), allow_unused=True)
        slopes[alone] = dict(zip(parameters, gradients, strict=True))
    assert terms[False].keys() == terms[True].keys() == {"cross_entropy", "alone"}
    for name, value in terms[False].items():
        torch.testing.assert_close(terms[True][name], value)
    assert {name for name, slope in slopes[True].items() if slope is not None} == {"head.weight", "head.bias"}
    for name in ("head.weight", "head.bias"):
        torch.testing.assert_close(slopes[True][name], slopes[False][name])
    assert any(slope is not None for name, slope in slopes[False].items() if name.startswith("backbone"))


def test_beside_a_method_that_trains_alone_a_change_of_the_loss_would_be_idle_and_is_refused() -> None:
    for other in (LogitNorm(), ROWS["edl"].make(), ROWS["g-odin"].make()):
        TrainingStep(classifier("images"), Alone(), type(other)())
        with pytest.raises(ValueError, match=r"both replace '(logits|cross-entropy)'") as refusal:
            TrainingStep(classifier("images"), Alone(alone=True), other)
        assert is_one_sentence(str(refusal.value))


# rows that are forwarded as at test time


def test_rows_are_forwarded_as_at_test_time() -> None:
    net, given = classifier("images", noisy=True).train(), batch("images")
    for seed in range(3):
        net(batch("images", seed=seed)["id"].rows)
    expected = copy.deepcopy(net).eval()
    mean = -energy(expected(given["id"].rows)).mean()
    step = TrainingStep(net, AsTested(weight=1.0), LogitNorm())
    prepared = step.prepare(given).with_part("copies", Part(given["id"].inputs))
    for dtype in (None, torch.bfloat16):
        fresh = copy.deepcopy(step)
        with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            terms = fresh.losses(prepared)
        assert terms["tested"].item() == pytest.approx(mean.item(), rel=1e-6), "not normalised, and in float32"
        assert int(fresh.classifier.get_buffer("backbone.1.num_batches_tracked")) == 4
        assert all(module.training for module in fresh.classifier.modules())


def test_statistics_that_move_later_leave_the_backward_pass_of_tested_rows_alone() -> None:
    slopes = []
    for together in (False, True):
        torch.manual_seed(0)
        net = classifier("images", noisy=True).train()
        step = TrainingStep(net, AsTested(weight=1.0))
        losses = [total(step(batch("images", seed=seed))) for seed in range(2)] if together else []
        for seed in range(2):
            (losses[seed] if together else total(step(batch("images", seed=seed)))).backward()
        slopes.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(*slopes)


def test_modes_come_back_after_an_error_on_tested_rows() -> None:
    net = classifier("vectors", noisy=True).train()
    step = TrainingStep(net, AsTested())
    prepared = step.prepare(batch("vectors")).with_part("copies", Part(torch.rand(3, 5)))
    with pytest.raises(RuntimeError):
        step.losses(prepared)
    assert all(module.training for module in net.modules())


def test_a_step_with_tested_rows_compiles_and_is_not_compiled_again() -> None:
    torch._dynamo.reset()
    eager, compiled = (TrainingStep(classifier("images", noisy=True).train(), AsTested(), SAM()) for _ in range(2))
    compiled.compile(backend="aot_eager")
    for seed in range(3):
        found = []
        for step in (eager, compiled):
            torch.manual_seed(seed)
            with torch._dynamo.config.patch(error_on_recompile=seed > 0):
                found.append(step(batch("images", seed=seed))["tested"])
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
