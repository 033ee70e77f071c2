"""Evaluation: the numbers are those of the pieces, and nothing of the caller's is changed."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from oodles.classifier import Classifier
from oodles.evaluation import Evaluation, evaluate, score_rows
from oodles.inference import Collected, collect
from oodles.methods import score_named
from oodles.metrics import ood_metrics
from oodles.scores import SCORES, Energy, HeadScore, NearestNeighbours, Score, energy, msp

from .contract.steps import is_one_sentence


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_classifier() -> Classifier:
    """Build a classifier in which dropout and a frozen batch norm, as in fine-tuning, make eval mode visible."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        classifier = Classifier(backbone, nn.Linear(8, 3))
    backbone[1].eval()
    return classifier


CLASSIFIER = make_classifier()
KNOWN, LABELS = normal(31, 5), torch.arange(31) % 3
UNKNOWN, TRAIN, TRAIN_LABELS = normal(17, 5, seed=1) * 3, normal(60, 5, seed=2), torch.arange(60) % 3


def batches(inputs: Tensor, labels: Tensor | None = None, size: int = 7) -> list:
    rows = [inputs.split(size)] if labels is None else [inputs.split(size), labels.split(size)]
    return [parts[0] if labels is None else list(parts) for parts in zip(*rows, strict=True)]


def expected_outputs(inputs: Tensor) -> tuple[Tensor, Tensor]:
    classifier = copy.deepcopy(CLASSIFIER).eval()
    with torch.no_grad():
        return classifier.features(inputs), classifier(inputs)


def evaluated(**changes) -> Evaluation:
    settings = {"scores": ["msp"], "id_loader": batches(KNOWN, LABELS), "ood_loaders": {"far": batches(UNKNOWN)}}
    return evaluate(**{"classifier": CLASSIFIER, **settings, **changes})


def test_collected_rows_are_those_of_eval_mode() -> None:
    collected = collect(CLASSIFIER, batches(KNOWN, LABELS))
    features, logits = expected_outputs(KNOWN)
    torch.testing.assert_close(collected, Collected(features, logits, LABELS))
    assert not collected.logits.requires_grad


def test_every_number_is_that_of_the_pieces() -> None:
    scores = [*SCORES, Energy(temperature=2)]
    evaluation = evaluated(scores=scores, train_loader=batches(TRAIN, TRAIN_LABELS))
    sets = {"id": expected_outputs(KNOWN), "far": expected_outputs(UNKNOWN)}
    train = expected_outputs(TRAIN)
    for score in [*map(score_named, SCORES), Energy(temperature=2)]:
        score.fit(*train, TRAIN_LABELS)
        with torch.no_grad():
            values = {name: score.of(CLASSIFIER, KNOWN, *rows).double().numpy() for name, rows in sets.items()}
        for name in sets:
            np.testing.assert_allclose(evaluation.scores[name][score.name], values[name], rtol=1e-4, atol=1e-5)
        expected = roc_auc_score([0] * 31 + [1] * 17, np.concatenate([values["id"], values["far"]]))
        assert evaluation.metrics["far"][score.name]["auroc"] == pytest.approx(expected, abs=1e-6)
        own = ood_metrics(*(evaluation.scores[name][score.name] for name in sets))
        assert evaluation.metrics["far"][score.name] == own
    assert len(evaluation.metrics["far"]) == len(scores)
    for name, (_, logits) in sets.items():
        np.testing.assert_array_equal(evaluation.predictions[name], logits.argmax(1))
    assert evaluation.accuracy == pytest.approx(np.mean(sets["id"][1].argmax(1).numpy() == LABELS.numpy()))
    np.testing.assert_array_equal(evaluation.labels, LABELS)


def test_the_table() -> None:
    loader = {"far": batches(UNKNOWN), "a longer name": batches(UNKNOWN + 1)}
    evaluation = evaluated(ood_loaders=loader, scores=["msp", "max-logit"])
    first, header, *rows = str(replace(evaluation, warnings=())).splitlines()
    assert first == f"accuracy {evaluation.accuracy:.2%}"
    assert header.split() == ["set", "score", *ood_metrics(np.ones(1), np.ones(1))]
    assert {len(row) for row in rows} == {len(header)}
    expected = evaluation.metrics["a longer name"]["max-logit"]
    assert rows[3].split() == [
        "a",
        "longer",
        "name",
        "max-logit",
        *(f"{100 * value:.2f}" for value in expected.values()),
    ]


@pytest.mark.parametrize("loader", [batches(KNOWN), [*batches(KNOWN, LABELS), KNOWN]])
def test_without_all_labels_there_is_no_accuracy(loader: list) -> None:
    evaluation = evaluated(id_loader=loader, ood_loaders={})
    assert (evaluation.accuracy, evaluation.labels, evaluation.metrics) == (None, None, {})
    assert str(evaluation) == "accuracy unknown, since the rows have no labels"


def test_an_accuracy_of_zero_is_known() -> None:
    wrong = expected_outputs(KNOWN)[1].argmin(1)
    evaluation = evaluated(id_loader=batches(KNOWN, wrong), ood_loaders={})
    assert str(evaluation).splitlines()[0] == "accuracy 0.00%"
    assert evaluation.warnings == (
        "The accuracy on in-distribution rows is at chance, no better than naming the largest class for every row.",
    )


def test_one_class_for_all_rows_is_said() -> None:
    balanced = torch.arange(len(KNOWN)) % expected_outputs(KNOWN)[1].shape[1]
    first = torch.cat([torch.full((len(KNOWN), 1), 9.0), torch.zeros(len(KNOWN), 2)], 1)
    evaluation = evaluate(nn.Identity(), [(first, balanced)], {})
    assert evaluation.warnings[0] == "All predictions of in-distribution rows are one class."
    assert str(evaluation).endswith("\n".join(evaluation.warnings)) and len(evaluation.warnings) == 2


def test_labels_of_unknown_sets_do_not_matter() -> None:
    strange = [(inputs, {"anything": "at all"}, 3) for inputs in batches(UNKNOWN)]
    whole_numbers = batches(UNKNOWN, torch.full((17,), -1))
    for loader in (strange, whole_numbers):
        assert evaluated(ood_loaders={"far": loader}).metrics == evaluated().metrics


STRANGE = {
    "paths": ["a.png", "b.png"],
    "nothing": [None, None],
    "boxes": [torch.zeros(2, 4), torch.zeros(1, 4)],
    "dictionaries": [{"box": 1}, {}],
    "words": np.array(["a", "b"]),
    "one number": torch.tensor(1),
    "too many": torch.arange(5),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_what_is_no_label_is_ignored_in_unknown_sets_and_refused_in_known_ones(strange: Any) -> None:
    model, rows = nn.Identity(), torch.eye(3)[:2]
    plain = evaluate(model, [(rows, [0, 1])], {"far": [rows]})
    given = evaluate(model, [(rows, [0, 1])], {"far": [(rows, strange)]})
    assert given.metrics == plain.metrics and given.accuracy == 1
    assert collect(model, [(rows, strange)]).labels is None
    for loaders in (
        {"id_loader": [(rows, strange)], "train_loader": [rows]},
        {"id_loader": [rows], "train_loader": [(rows, strange)]},
    ):
        with pytest.raises((TypeError, ValueError), match=r"labels (that are|must)") as refusal:
            evaluate(Classifier(model, model, num_classes=3), ood_loaders={}, scores=["knn"], **loaders)
        assert is_one_sentence(str(refusal.value))


def test_labels_of_other_shapes_in_each_batch_are_none() -> None:
    rows = torch.eye(3)
    assert collect(nn.Identity(), [(rows, torch.zeros(3, 2)), (rows, torch.zeros(3, 4))]).labels is None


class FromDictionary(nn.Module):
    """Takes a dictionary's entries as keyword arguments, as language models do."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return (nn.functional.one_hot(tokens, 4) * mask.unsqueeze(2)).float().sum(1)


@pytest.mark.parametrize("split", [True, False])
def test_dictionaries_of_inputs(split: bool) -> None:
    model = Classifier(FromDictionary(), nn.Identity(), num_classes=4) if split else FromDictionary()
    inputs = {"tokens": torch.tensor([[0, 1, 1], [3, 3, 2]]), "mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    labels = torch.tensor([1, 0])
    expected = torch.tensor([[1.0, 2, 0, 0], [0, 0, 0, 2]])
    with_labels = {**inputs, "labels": labels}
    for loader in ([inputs], [(inputs, labels)], [with_labels]):
        collected = collect(model, loader)
        torch.testing.assert_close(collected.logits, expected)
        assert (collected.labels is None) if loader[0] is inputs else torch.equal(collected.labels, labels)
    assert (set(inputs), set(with_labels)) == ({"tokens", "mask"}, {"tokens", "mask", "labels"})


@pytest.mark.parametrize("model", [nn.Linear(5, 3), nn.Sequential(nn.Flatten(), nn.Linear(5, 3))])
def test_any_module_that_gives_logits(model: nn.Module) -> None:
    evaluation = evaluated(classifier=model, scores=["energy"])
    np.testing.assert_allclose(
        evaluation.scores["far"]["energy"], energy(model(UNKNOWN)).detach(), rtol=1e-5, atol=1e-6
    )
    assert collect(model, batches(KNOWN)).features.shape == (31, 0)
    with pytest.raises(ValueError, match=r"knn needs features.*Classifier\.split"):
        evaluated(classifier=model, scores=["knn"], train_loader=batches(TRAIN, TRAIN_LABELS))


def test_dense_predictions_are_scored_by_pixel() -> None:
    model = nn.Conv2d(2, 3, 1)
    images, labels = normal(4, 2, 3, 5), torch.arange(60).reshape(4, 3, 5) % 3
    evaluation = evaluated(classifier=model, id_loader=batches(images, labels, 3), ood_loaders={"far": [images + 1]})
    logits = model(images).detach()
    np.testing.assert_allclose(evaluation.scores["id"]["msp"], msp(logits).flatten(), rtol=1e-5)
    assert evaluation.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def segmented(seed: int, *, index: int = 255) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pictures, class ids with void ones, and which pixels are unknown."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(5, 2, 3, 4, generator=generator)
    draw = torch.rand(5, 3, 4, generator=generator)
    ids = torch.randint(3, (5, 3, 4), generator=generator).masked_fill(draw < 0.3, index)
    return images, ids, draw > 0.8


@pytest.mark.parametrize(
    "index, dtype", [(255, torch.int64), (255, torch.uint8), (-100, torch.int64), (-1, torch.int32)]
)
def test_void_pixels_are_left_out(index: int, dtype: torch.dtype) -> None:
    model = nn.Conv2d(2, 3, 1)
    images, ids, unknown = segmented(0, index=index)
    labelled, mixed = ids.to(dtype), ids.masked_fill(unknown, 77).to(dtype)
    loader = list(zip(images.split(2), labelled.split(2), strict=True))
    sets = {"both": [(images, mixed)], "masked": [(images, unknown)], "all": [images]}
    settings = {"ignore_index": index, "ood_index": 77}
    found = evaluate(model, loader, sets, ["msp", "energy"], **settings)
    with torch.no_grad():
        logits = model(images)
    right = [(p == y) for p, y in zip(logits.argmax(1).flatten(), ids.flatten(), strict=True) if y != index]
    assert found.accuracy == pytest.approx(sum(map(float, right)) / len(right), abs=1e-12)
    assert found.labels.tolist() == ids[ids != index].tolist()
    assert found.predictions["id"].tolist() == logits.argmax(1)[ids != index].tolist()
    for score, function in (("msp", msp), ("energy", energy)):
        values = function(logits)
        of_id = values[ids != index]
        np.testing.assert_array_equal(found.scores["id"][score], of_id)
        beside, own = values[(mixed != index) & (mixed != 77)], values[unknown]
        assert found.metrics["both"][score] == ood_metrics(beside, own)
        assert found.metrics["masked"][score] == ood_metrics(values[~unknown], own)
        assert found.metrics["all"][score] == ood_metrics(of_id, values.flatten())
    counts = evaluate(model, loader, sets, ["msp", "energy"], keep=False, **settings)
    assert counts.metrics == found.metrics and counts.accuracy == found.accuracy and str(counts) == str(found)
    assert counts.labels is None and not counts.predictions


def test_void_pixels_may_be_anything() -> None:
    model = nn.Conv2d(2, 3, 1)
    images, ids, _ = segmented(1)
    broken = images.masked_fill((ids == 255).unsqueeze(1), float("nan"))
    found = [
        evaluate(model, [(x, ids)], {"far": [(x, ids)]}, ["msp", "energy"], ignore_index=255) for x in (images, broken)
    ]
    assert found[0].metrics == found[1].metrics and found[0].accuracy == found[1].accuracy


def test_rows_without_a_label_are_left_out_and_unknown_rows_of_one_loader_told_apart() -> None:
    labels = LABELS.clone()
    labels[::4] = -1
    mixed = torch.cat([LABELS, torch.full((17,), 9)])
    both = torch.cat([KNOWN, UNKNOWN])
    train = (TRAIN, TRAIN_LABELS.clone())
    train[1][::3] = -1
    found = evaluate(
        CLASSIFIER,
        batches(KNOWN, labels),
        {"both": batches(both, mixed)},
        ["energy", NearestNeighbours(k=3)],
        batches(*train),
        ignore_index=-1,
        ood_index=9,
    )
    kept = train[1] >= 0
    expected = evaluate(
        CLASSIFIER,
        batches(KNOWN[labels >= 0], labels[labels >= 0]),
        {"far": batches(UNKNOWN)},
        ["energy", NearestNeighbours(k=3)],
        batches(TRAIN[kept], TRAIN_LABELS[kept]),
    )
    assert found.accuracy == expected.accuracy
    for score in found.scores["id"]:
        np.testing.assert_allclose(found.scores["id"][score], expected.scores["id"][score], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.scores["both"][score], expected.scores["far"][score], rtol=1e-4, atol=1e-6)
        assert len(found.known["both"][score]) == len(KNOWN)


def test_labels_that_fit_no_pixels_are_refused() -> None:
    model = nn.Conv2d(2, 3, 1)
    images, ids, unknown = segmented(2)
    for call, sentence in (
        (lambda: evaluate(model, [(images, ids)], {}), "got 255: leave rows .* evaluate ignore_index=255"),
        (
            lambda: evaluate(model, [(images, ids)], {}, ignore_index=2),
            "ignore_index must be no class id, and 0 to 2 are",
        ),
        (
            lambda: evaluate(model, [(images, ids)], {}, ignore_index=2.0),
            "ignore_index must be a whole number, got 2.0",
        ),
        (lambda: evaluate(model, [(images, ids * 0 + 255)], {}, ignore_index=255), "'id' must give other than void"),
        (lambda: evaluate(model, [(images, ids % 3)], {"a": [(images, ids)]}, ood_index=9), "none with the label 9"),
        (
            lambda: evaluate(model, [(images, ids % 3)], {"a": [(images, unknown[:, :2])]}),
            r"shape \(5, 3, 4\) of the pred",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=sentence):
            call()


def test_half_precision_logits_are_collected_in_float32() -> None:
    model = nn.Linear(5, 3).bfloat16()
    assert collect(model, [KNOWN.bfloat16()]).logits.dtype == torch.float32


def test_nothing_of_the_callers_is_changed() -> None:
    classifier = make_classifier().train()
    classifier.backbone[1].eval()
    modes = [module.training for module in classifier.modules()]
    state, inputs = copy.deepcopy(classifier.state_dict()), KNOWN.clone()
    score = NearestNeighbours(k=3)
    loader = DataLoader(TensorDataset(inputs, LABELS), batch_size=7, shuffle=True)
    random_state = torch.get_rng_state()
    evaluate(classifier, loader, {"far": loader}, [score], train_loader=loader)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in classifier.modules()] == modes
    torch.testing.assert_close(classifier.state_dict(), state, rtol=0, atol=0)
    assert torch.equal(inputs, KNOWN)
    assert not score.fitted


def test_modes_return_after_an_exception() -> None:
    classifier = make_classifier().train()
    with pytest.raises(ValueError, match=r"of shape \(2, 6\) and torch.float32, but: mat1 and mat2"):
        collect(classifier, [normal(2, 6)])
    assert all(module.training for module in classifier.modules())


def test_a_score_fitted_beforehand_needs_no_training_rows() -> None:
    score = NearestNeighbours(k=3).fit(*expected_outputs(TRAIN), TRAIN_LABELS)
    fitted_here = evaluated(scores=[NearestNeighbours(k=3)], train_loader=batches(TRAIN, TRAIN_LABELS))
    np.testing.assert_allclose(
        evaluated(scores=[score]).scores["far"]["knn(k=3)"], fitted_here.scores["far"]["knn(k=3)"], atol=1e-6
    )


def test_training_rows_given_are_fitted_anew() -> None:
    stale = NearestNeighbours(k=3).fit(torch.eye(8), torch.eye(8), None)
    here = [
        evaluated(scores=[score], train_loader=batches(TRAIN, TRAIN_LABELS)).scores["far"]["knn(k=3)"]
        for score in (stale, NearestNeighbours(k=3))
    ]
    np.testing.assert_array_equal(*here)


def test_each_set_is_read_once() -> None:
    loaders = {"far": iter(batches(UNKNOWN)), "near": iter(batches(UNKNOWN))}
    train = iter(batches(TRAIN, TRAIN_LABELS))
    again = evaluated(ood_loaders=loaders, scores=["knn", "mahalanobis", "msp"], train_loader=train)
    assert again.metrics["far"] == again.metrics["near"]


def test_one_score_may_come_without_a_list() -> None:
    assert evaluated(scores="energy").metrics == evaluated(scores=["energy"]).metrics


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scores": ["enrgy"]}, "got 'enrgy': did you mean 'energy'"),
        ({"scores": ["energy", Energy()]}, "must differ by name, got 'energy' twice"),
        ({"scores": ["knn"]}, "knn compares with training rows: give them as train_loader"),
        ({"scores": ["mahalanobis"], "train_loader": batches(TRAIN)}, "mahalanobis needs the class ids"),
        ({"scores": ["knn"], "train_loader": []}, "train_loader must give at least one row"),
        ({"ood_loaders": {"id": batches(UNKNOWN)}}, "must not name a set 'id'"),
        ({"ood_loaders": {"far": []}}, "The loader of 'far' must give at least one row"),
        ({"ood_loaders": {"far": [UNKNOWN[:0]]}}, "The loader of 'far' must give at least one row"),
        (
            {"ood_loaders": {"far": [UNKNOWN * torch.nan]}},
            "logits of the set 'far' must be finite, .* 17 of 17 rows",
        ),
        ({"id_loader": batches(KNOWN, LABELS + 1)}, "must be class ids from 0 to 2, got 3"),
        ({"id_loader": [(KNOWN, LABELS[:-1])]}, "inputs and labels must have as many rows, got"),
    ],
)
def test_mistakes_get_a_sentence(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        evaluated(**changes)


class Several(nn.Module):
    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": inputs}


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused_with_the_set_and_the_rows(value: float) -> None:
    some = UNKNOWN.clone()
    some[[3, 8, 12], 0] = value
    for scores in (["msp"], ["energy", "entropy"], []):
        with pytest.raises(ValueError, match=r"logits of the set 'far' must be finite, .* for 3 of 17 rows"):
            evaluated(classifier=nn.Identity(), scores=scores, ood_loaders={"far": batches(some)})
    with pytest.raises(ValueError, match=r"logits of the set 'id' must be finite, .* for 3 of 17 rows"):
        evaluated(classifier=nn.Identity(), id_loader=batches(some), ood_loaders={})
    with pytest.raises(ValueError, match=r"^logits must be finite, .* for 3 of 17 rows"):
        score_rows(nn.Identity(), batches(some), [Energy()])
    images = torch.zeros(4, 3, 2, 2)
    images[1, 0] = value
    with pytest.raises(ValueError, match=r"'far' must be finite, .* for 1 of 4 rows"):
        evaluated(classifier=nn.Identity(), ood_loaders={"far": [images]})
    with pytest.raises(ValueError, match=r"brightness of the set 'far' must be finite, .* for 3 of 17 rows"):
        evaluated(classifier=Constant(), scores=[Brightness()], ood_loaders={"far": batches(some)})


class Constant(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.zeros(len(inputs), 3)


def test_settings_are_given_by_name_and_what_was_chosen_is_said() -> None:
    train = batches(TRAIN, TRAIN_LABELS)
    evaluation = evaluated(scores=["knn", "knn(k=5)"], train_loader=train)
    assert evaluation.remarks == {"knn": "k = 1"} and "knn: k = 1" in str(evaluation).splitlines()
    one, five = (evaluated(scores=[NearestNeighbours(k)], train_loader=train).scores["far"] for k in (1, 5))
    np.testing.assert_array_equal(evaluation.scores["far"]["knn"], one["knn(k=1)"])
    np.testing.assert_array_equal(evaluation.scores["far"]["knn(k=5)"], five["knn(k=5)"])


def test_other_kinds_get_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"tensor of logits, got dict: .*output="):
        collect(Several(), [KNOWN])
    with pytest.raises(TypeError, match=r"A batch of loader must be inputs or \(inputs, labels\), .*, got str"):
        collect(CLASSIFIER, ["rows"])
    with pytest.raises(ValueError, match=r"logits must have shape \(N, C\)"):
        collect(nn.Flatten(0), [KNOWN])


def test_labels_may_be_arrays_or_lists() -> None:
    x, y = torch.eye(3), [0, 1, 0]
    for labels in (y, np.array(y)):
        assert evaluate(torch.nn.Identity(), [(x, labels)], {}).accuracy == pytest.approx(2 / 3)


class Brightness(Score):
    """The mean of the inputs."""

    name = "brightness"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        raise NotImplementedError

    def of(self, classifier, inputs, features, logits):  # type: ignore[no-untyped-def]
        return inputs.mean(1)


class NegativeHead(HeadScore):
    """The negative output of a further head."""

    name = "negative-head"
    needs_heads = ("further",)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Tensor) -> Tensor:
        (value,) = heads
        return -value[:, 0]


def test_a_score_may_look_at_the_inputs() -> None:
    evaluation = evaluated(scores=[Brightness(), "msp"])
    np.testing.assert_allclose(evaluation.scores["far"]["brightness"], UNKNOWN.mean(1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(evaluation.scores["id"]["msp"], evaluated().scores["id"]["msp"], rtol=1e-6)


def test_a_score_may_look_at_a_further_head() -> None:
    classifier = copy.deepcopy(CLASSIFIER)
    head = classifier.add_head("further", 2)
    evaluation = evaluated(classifier=classifier, scores=[NegativeHead()])
    features, _ = expected_outputs(UNKNOWN)
    with torch.no_grad():
        np.testing.assert_allclose(evaluation.scores["far"]["negative-head"], -head(features)[:, 0].numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    "classifier, sentence",
    [
        (
            CLASSIFIER,
            "negative-head looks at a head 'further' that this classifier lacks: train it with",
        ),
        (
            nn.Linear(5, 3),
            r"negative-head needs features and Linear gives logits alone: make a classifier with Classifier",
        ),
    ],
)
def test_a_score_without_its_head_is_refused_before_anything_runs(classifier: nn.Module, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        evaluated(classifier=classifier, scores=[NegativeHead()], id_loader=iter(()))


def test_modes_come_back_after_a_score_has_failed() -> None:
    classifier = make_classifier().train()
    modes = [module.training for module in classifier.modules()]
    with pytest.raises(NotImplementedError) as failure:
        evaluated(classifier=classifier, scores=[Fails()])
    assert [module.training for module in classifier.modules()] == modes and failure is not None


class Fails(Brightness):
    name = "fails"

    def of(self, classifier, inputs, features, logits):  # type: ignore[no-untyped-def]
        assert not classifier.training and not torch.is_grad_enabled()
        return self(features, logits)


def test_rows_scored_alone_are_those_of_an_evaluation() -> None:
    scored = score_rows(CLASSIFIER, batches(UNKNOWN), [Energy()])
    evaluation = evaluated(scores=["energy"])
    np.testing.assert_array_equal(scored.scores["energy"], evaluation.scores["far"]["energy"])
    np.testing.assert_array_equal(scored.predictions, evaluation.predictions["far"])
    assert scored.labels is None and score_rows(CLASSIFIER, batches(KNOWN, LABELS), []).labels.tolist() == (
        LABELS.tolist()
    )
    with pytest.raises(ValueError, match="knn compares with training rows: give them as train_loader"):
        score_rows(CLASSIFIER, batches(UNKNOWN), [NearestNeighbours()])


def test_whole_numbers_of_pixels_need_a_meaning() -> None:
    torch.manual_seed(0)
    dense = nn.Conv2d(1, 3, 1)
    known = [(torch.rand(2, 1, 4, 4), torch.randint(3, (2, 4, 4)))]
    mask = torch.randint(2, (2, 4, 4))
    with pytest.raises(ValueError, match=r"Labels of pixels in 'road' are whole numbers, .* ood_index=…"):
        evaluate(dense, known, {"road": [(torch.rand(2, 1, 4, 4), mask)]})
    told = evaluate(dense, known, {"road": [(torch.rand(2, 1, 4, 4), mask.bool())]})
    assert len(told.scores["road"]["msp"]) == int(mask.sum())
    assert len(evaluate(dense, known, {"road": [torch.rand(2, 1, 4, 4)]}).scores["road"]["msp"]) == 32
