"""One object from a classifier, or from a run, to verdicts, a folder and a file."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from oodles import Classifier, Detector, Part, Preprocessing, evaluate
from oodles.detection.calibration import choosing_rows
from oodles.detection.choosing import made_unknowns
from oodles.detection.inputs import Expected, Observed
from oodles.detection.saved import ABOUT
from oodles.detection.watching import Evidence
from oodles.evaluation import score_rows
from oodles.networks import build_network
from oodles.scores import SCORES, Msp

NAMES = ("dark", "grey", "light")


def rows(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Make images whose brightness is their class."""
    labels = torch.arange(count) % 3
    noise = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return noise / 4 + labels.reshape(-1, 1, 1, 1) / 3, labels


def loader(count: int, seed: int = 0) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*rows(count, seed)), batch_size=64)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    made = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh()), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(made.parameters(), 0.05)
    x, y = rows(300, 1)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(x), y).backward()
        optimizer.step()
    return made


@pytest.fixture(scope="module")
def detector(classifier: Classifier) -> Detector:
    return Detector.fit(
        classifier, loader(300, 2), train=loader(300, 1), score="knn(k=5)", classes=NAMES, false_alarms=0.1
    )


def test_verdicts_are_those_of_the_parts(classifier: Classifier, detector: Detector) -> None:
    """Beside lines that take the score apart: distances to training rows, ranks among validation rows."""
    x, _ = rows(90, 3)
    with torch.no_grad():
        known, validation, new = (
            nn.functional.normalize(classifier.features(one).double()) for one in (rows(300, 1)[0], rows(300, 2)[0], x)
        )
        classes = classifier(x).argmax(1)
    scores, calibration = (torch.cdist(one, known).sort().values[:, 4].numpy() for one in (new, validation))
    verdicts = detector(x)
    np.testing.assert_allclose(verdicts.scores, scores, atol=1e-6)
    expected = [(1 + np.sum(calibration >= score - 1e-9)) / 301 for score in scores]
    np.testing.assert_allclose(verdicts.p_values, expected, atol=0.02)
    assert detector.threshold == pytest.approx(np.sort(calibration)[-30], abs=1e-6), "30 / 301 is at most a tenth"
    assert verdicts.accepted.tolist() == (verdicts.p_values > 0.1).tolist() and 0.8 < verdicts.accepted.mean() < 0.98
    assert verdicts.classes == tuple(NAMES[number] for number in classes) and verdicts.names[:3] == ("0", "1", "2")
    assert str(verdicts) == f"{verdicts.accepted.sum()} of 90 accepted: knn(k=5) of at most {detector.threshold:.6g}"
    noise = detector(torch.rand(50, 1, 6, 6, generator=torch.Generator().manual_seed(0)).round())
    assert noise.accepted.mean() < 0.1


@pytest.mark.parametrize("score", ["knn(k=5)", "energy", "msp", "mahalanobis"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_row_that_is_not_finite_is_refused_and_leaves_the_others_as_they_are(
    classifier: Classifier, score: str, value: float
) -> None:
    detector = Detector.fit(classifier, loader(300, 2), train=loader(300, 1), score=score, false_alarms=0.1)
    x = rows(30, 3)[0]
    expected = detector(x)
    spoilt = x.clone()
    spoilt[4, 0, 2, 2] = value
    verdicts = detector(spoilt)
    others = np.arange(30) != 4
    for name in ("scores", "p_values", "accepted", "predictions"):
        np.testing.assert_array_equal(getattr(verdicts, name)[others], getattr(expected, name)[others])
    assert verdicts.scores[4] == np.inf and not verdicts.accepted[4]
    assert verdicts.p_values[4] == pytest.approx(1 / 301), "the least there is"
    assert not detector(spoilt, fdr=0.1).accepted[4]
    assert verdicts.as_dict()["inputs"][4]["score"] is None and json.dumps(verdicts.as_dict(), allow_nan=False)
    watch = detector.watch()
    watch(spoilt)
    assert watch.refused == (~expected.accepted[others]).sum() + 1


def test_a_logit_that_is_not_finite_is_refused_whatever_the_score_makes_of_it() -> None:
    """The energy of an infinite logit is −∞, which would look sure."""
    head = nn.Linear(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3e38, 0.0]]))
    detector = Detector.fit(Classifier(nn.Identity(), head), [torch.rand(60, 2) / 1e38], score="energy")
    verdicts = detector(torch.tensor([[0.0, 0.5], [30.0, 0.5]]))
    assert np.isfinite(verdicts.scores[0]) and verdicts.scores[1] == np.inf and not verdicts.accepted[1]


def test_inputs_of_every_kind_are_the_same_inputs(detector: Detector, tmp_path: Path) -> None:
    x = (rows(5, 3)[0] * 255).round().clamp(0, 255).byte()
    pixels = x.numpy()[:, 0]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.iterdir())
    np.savez(tmp_path / "all.npz", images=pixels)
    expected = detector(x / 255).scores.tolist()
    kinds: dict[str, Any] = {
        "bytes": x,
        "arrays of bytes": x.numpy(),
        "arrays, grey": pixels,
        "arrays, channels last": pixels[..., None],
        "arrays": (x / 255).numpy(),
        "list of arrays": list(pixels),
        "list of tensors": [one / 255 for one in x],
        "pictures": [Image.fromarray(image) for image in pixels],
        "paths": files,
        "words": list(map(str, files)),
        "file of arrays": tmp_path / "all.npz",
        "loader": DataLoader(TensorDataset(x / 255, torch.zeros(5)), batch_size=2),
        "batches": [(x[:2] / 255, None), (x[2:] / 255, None)],
    }
    for name, given in kinds.items():
        assert detector(given).scores.tolist() == pytest.approx(expected, abs=1e-6), name
    (tmp_path / "all.npz").unlink()
    assert detector(tmp_path).scores.tolist() == pytest.approx(expected, abs=1e-6)
    assert detector(tmp_path).names == tuple(path.name for path in files)
    assert detector(files).names == tuple(map(str, files))
    for single in (files[0], Image.fromarray(pixels[0]), pixels[0], pixels[0][..., None]):
        assert detector(single).scores.tolist() == pytest.approx(expected[:1], abs=1e-6)


def test_other_sizes_need_preprocessing(classifier: Classifier, tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    plain = Detector.fit(classifier, loader(200))
    with pytest.raises(ValueError, match=r"inputs must have shape \(N, 1, 6, 6\), got \(1, 3, 30, 40\)"):
        plain(tmp_path / "photo.png")
    fitted = Detector.fit(classifier, loader(200), preprocessing=Preprocessing((1, 6, 6), resize=8))
    small = Image.fromarray(photo).resize((10, 8), Image.Resampling.BILINEAR)
    centre = (np.asarray(small) @ np.array([0.299, 0.587, 0.114]))[1:7, 2:8]
    expected = fitted(torch.from_numpy(centre).float()[None, None] / 255).scores
    np.testing.assert_allclose(fitted(tmp_path / "photo.png").scores, expected, atol=0.01)
    with pytest.raises(ValueError, match=r"validation rows have rows of shape \(1, 6, 6\): let Normalize"):
        Detector.fit(classifier, loader(200), preprocessing=Preprocessing((3, 6, 6)))
    with pytest.raises(ValueError, match="resize must be a whole number of at least 6, got 5"):
        Preprocessing((1, 6, 6), resize=5)


def test_any_module_that_gives_logits_will_do() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    generator = torch.Generator().manual_seed(0)
    known = 5 * torch.randn(200, 4, generator=generator)
    detector = Detector.fit(model, [(known,)], score="energy")
    assert detector.classes == ("0", "1", "2") and not detector.expected.unit_range
    new = torch.randn(7, 4, generator=generator)
    np.testing.assert_allclose(detector(new).scores, -model(new).logsumexp(1).detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(detector(new.numpy()).scores, detector(new).scores)
    with pytest.raises(ValueError, match="Images and paths need to know how they become inputs"):
        detector("photo.png")


class OfNames(nn.Module):
    """Reads a dictionary."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(pixels)
        return logits


def test_the_best_score_is_chosen_on_half_and_the_threshold_comes_from_the_other(classifier: Classifier) -> None:
    noise = torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(0)).round()
    best = Detector.fit(classifier, loader(300), train=loader(300, 1), outliers=[noise])
    assert len(best.calibration.scores) == 150
    named = Detector.fit(classifier, loader(300), train=loader(300, 1), score=best.score.name)
    assert set(best.calibration.scores) < set(named.calibration.scores)
    choose, (x, _) = choosing_rows(300), rows(300, 0)
    predictions = torch.from_numpy(named(x).predictions)
    aurocs: dict[str, list[float]] = {}
    for score in ("msp", "energy", "mahalanobis", "knn", best.score.name):
        one = Detector.fit(classifier, loader(300), train=loader(300, 1), score=score)
        known = one(x).scores[choose]
        made = [rows for _, rows in made_unknowns(Part(x[choose], predictions[choose]))]
        for unknown in (*made, *len(made) * [noise]):  # which counts as much as all that was made
            pairs = score_rows(classifier, [unknown], [one.score]).scores[score][:, None] - known
            aurocs.setdefault(score, []).append(float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2))
    means = {score: np.mean(by_kind) for score, by_kind in aurocs.items()}
    assert means[best.score.name] == pytest.approx(max(means.values())) and max(means.values()) > means["msp"] + 0.02
    ahead = 100 * (means[best.score.name] - means["msp"])
    assert (
        best.about["choice"]
        == f"{best.score.name}, {ahead:.0f} points above msp on unknowns made of validation rows and on outliers"
    )
    assert Detector.fit(classifier, loader(300), train=loader(300, 1), score="own").score.name == "msp"


def test_where_nothing_can_be_chosen_it_is_msp_on_all_rows(classifier: Classifier) -> None:
    few = Detector.fit(classifier, loader(99), false_alarms=0.1)
    rare = Detector.fit(classifier, loader(150), false_alarms=0.01)
    words = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    named = Detector.fit(OfNames(words), ({"pixels": x} for x, _ in loader(200)), false_alarms=0.1)
    for one, count in ((few, 99), (rare, 150), (named, 200)):
        assert one.score.name == "msp" and len(one.calibration.scores) == count and "choice" not in one.about
    with pytest.raises(ValueError, match="'best' cannot be told: 99 validation rows are too few to tell which score"):
        Detector.fit(classifier, loader(99), false_alarms=0.1, score="best")
    with pytest.raises(ValueError, match="no unknowns are made of rows that are no images"):
        Detector.fit(OfNames(words), ({"pixels": x} for x, _ in loader(200)), false_alarms=0.1, score="best")


def test_either_half_of_the_rows_has_its_own_task() -> None:
    """Energy is right about the rows that choose and wrong about the others; with msp it is the other way round."""
    near = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    choose = torch.from_numpy(choosing_rows(300))
    sure = 50 * nn.functional.one_hot(torch.arange(300) % 3, 3) - 100.0
    known = torch.where(choose[:, None], near + 10, sure)
    best = Detector.fit(OfNames(nn.Identity()), [{"pixels": known}], score="best", outliers=[{"pixels": near.flip(0)}])
    assert best.score.name in ("energy", "max-logit")
    assert best.about["choice"].startswith(f"{best.score.name}, ") and best.about["choice"].endswith(
        " above msp on outliers"
    )
    np.testing.assert_array_equal(best.calibration.scores, best({"pixels": sure[~choose]}).scores)


def test_saved_and_loaded_it_is_the_same(detector: Detector, tmp_path: Path) -> None:
    folder = detector.save(tmp_path / "detector")
    new = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh()), nn.Linear(8, 3))
    loaded = Detector.load(folder, classifier=new)
    x, _ = rows(50, 5)
    for one, other in ((detector, loaded), (detector.at(0.3, per_class=True), loaded.at(0.3, per_class=True))):
        assert vars(one(x)).keys() == vars(other(x)).keys()
        for name in ("scores", "p_values", "thresholds", "accepted"):
            np.testing.assert_array_equal(getattr(one(x), name), getattr(other(x), name))
    assert loaded(x).classes == detector(x).classes and str(loaded) == str(detector)
    detector.at(0.2).save(folder)
    assert len(list(folder.iterdir())) == 2 and Detector.load(folder, classifier=new).calibration.false_alarms == 0.2


def test_networks_of_the_package_are_built_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = build_network("small-cnn", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.2])
    x = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    detector = Detector.fit(made, [x], score="msp", false_alarms=0.2)
    before = torch.random.get_rng_state()
    loaded = Detector.load(detector.save(tmp_path / "one"))
    assert torch.equal(before, torch.random.get_rng_state()) and not loaded.classifier.training
    np.testing.assert_array_equal(loaded(x).scores, detector(x).scores)
    mine = build_network("tests.runs.small:linear", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.2])
    folder = Detector.fit(mine, [x], score="own", false_alarms=0.2).save(tmp_path / "two")
    with pytest.raises(ValueError, match=r"no code is imported because a folder names it: .* network='tests\.runs"):
        Detector.load(folder)
    assert Detector.load(folder, network="tests.runs.small:linear")(x).scores.tolist() == mine_scores(mine, x)


def mine_scores(model: nn.Module, x: torch.Tensor) -> list[float]:
    with torch.no_grad():
        return Msp()(x[:, :0], model(x)).double().tolist()


def flip_a_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << (place % 8)
    path.write_bytes(bytes(content))


def test_a_damaged_or_foreign_folder_is_refused(detector: Detector, classifier: Classifier, tmp_path: Path) -> None:
    folder = detector.save(tmp_path / "detector")
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    for path, content in kept.items():
        for place in range(0, len(content), max(1, len(content) // 40)):
            flip_a_bit(path, place)
            with pytest.raises(ValueError, match=r"was changed or damaged|has the format") as refused:
                Detector.load(folder, classifier=classifier)
            assert "\n" not in str(refused.value)
            path.write_bytes(content)
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="was changed or damaged"):
            Detector.load(folder, classifier=classifier)
        path.write_bytes(content)
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({**about, "format": 2, "oodles": "9.9"}))
    with pytest.raises(ValueError, match=r"has the format 2 of oodles 9\.9, and .* reads 1: use that version"):
        Detector.load(folder, classifier=classifier)
    next(path for path in kept if path.suffix == ".safetensors").unlink()
    (folder / ABOUT).write_bytes(kept[folder / ABOUT])
    with pytest.raises(ValueError, match="is missing: take it from a copy"):
        Detector.load(folder, classifier=classifier)
    with pytest.raises(FileNotFoundError, match=r"is no folder of a detector, it has no detector\.json"):
        Detector.load(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be a new folder or that of a detector"):
        detector.save(tmp_path / "other")


def test_weights_of_another_network_are_refused(detector: Detector, tmp_path: Path) -> None:
    folder = detector.save(tmp_path / "detector")
    with pytest.raises(ValueError, match="holds weights of a network that the package cannot build: hand over one"):
        Detector.load(folder)
    with pytest.raises(ValueError, match="holds the weights of another network than Classifier"):
        Detector.load(folder, classifier=Classifier(nn.Flatten(), nn.Linear(36, 3)))


class Mine(Msp):
    name = "mine"


def test_a_score_of_ones_own_works_and_is_not_saved(classifier: Classifier, tmp_path: Path) -> None:
    detector = Detector.fit(classifier, loader(100), score=Mine(), false_alarms=0.2)
    assert detector(rows(4)[0]).score == "mine"
    with pytest.raises(ValueError, match="score that its name describes, and 'mine' does not"):
        detector.save(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


def test_the_false_discovery_rate_is_over_the_batch(detector: Detector) -> None:
    x = torch.cat([rows(60, 7)[0], torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(1)).round()])
    verdicts = detector(x, fdr=0.2)
    assert not verdicts.accepted[60:].any() and verdicts.accepted[:60].mean() > 0.85
    assert verdicts.rule == "knn(k=5), at most 20 % of the refused being known, in expectation"
    with pytest.raises(ValueError, match=r"fdr=0\.001 needs 999 calibration rows, got 300: none could be refused"):
        detector(x, fdr=0.001)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda x: x * 255, r"inputs must be in \[0, 1\], got .* to 2\d\d: divide by 255"),
        (lambda x: x - 0.5, r"inputs must be in \[0, 1\], got -0\.495 to .*: leave normalising to the classifier"),
        (lambda x: x[0], r"must have shape \(N, 1, 6, 6\), got \(1, 6, 6\): a single one needs another dimension"),
        (lambda x: x[..., :5], r"must have shape \(N, 1, 6, 6\), got \(4, 1, 6, 5\)"),
        (lambda x: x.numpy() * 255, r"floating-point images in the array must be in \[0, 1\]"),
        (lambda x: {"a": x, "b": x}, "inputs must be one tensor .*, got a dictionary"),
        (lambda x: [], "inputs must be images, paths, tensors or a loader, got nothing"),
        (lambda x: 7, "inputs must be images, paths, tensors or a loader, got int"),
        (lambda x: [x, x * 300], "divide by 255"),
        (lambda x: "none.png", "nothing is at none.png"),
    ],
)
def test_inputs_that_cannot_be_read_get_a_sentence(
    detector: Detector, given: Callable[[torch.Tensor], Any], words: str
) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=words) as refused:
        detector(given(rows(4)[0]))
    assert "\n" not in str(refused.value)


def test_mistakes_in_fitting_get_a_sentence(classifier: Classifier) -> None:
    for settings, words in (
        (
            {"false_alarms": 0.001},
            r"0\.1 % needs 999 held-out known rows, got 100: hold more back for validation, or allow 0\.99 %",
        ),
        ({"score": "knn"}, "knn compares with training rows: give them as train_loader"),
        ({"score": "enrgy"}, "did you mean 'energy'"),
        ({"classes": ["a", "b"]}, "classes must be 3 different names, one for each logit, got 2"),
        ({"classes": ["a", "a", "b"]}, "classes must be 3 different names, one for each logit, got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            Detector.fit(classifier, loader(100), **{"false_alarms": 0.2, **settings})  # type: ignore[arg-type]
    dense = Classifier(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 3, 1))
    with pytest.raises(ValueError, match="this classifier gives 3600 predictions for 100: evaluate"):
        Detector.fit(dense, loader(100))


def test_numbers_of_another_precision_are_brought_to_that_of_the_classifier() -> None:
    torch.manual_seed(0)
    x = torch.randn(100, 4)
    plain = Detector.fit(nn.Linear(4, 3), [x], false_alarms=0.2)
    for given in (x.double(), x.double().numpy(), [(x[:40].double(), None), x[40:].double()]):
        np.testing.assert_array_equal(plain(given).scores, plain(x).scores)
    np.testing.assert_array_equal(plain(x.half()).scores, plain(x.half().float()).scores)
    for other, name in ((x.long(), "int64"), (x > 0, "bool"), (x + 0j, "complex64")):
        with pytest.raises(ValueError, match=rf"inputs must be float32 numbers, got {name}: convert them, x\.to\("):
            plain(other)
    short = Classifier(nn.Flatten(), nn.Linear(36, 3)).bfloat16()
    images = rows(100)[0]
    detector = Detector.fit(short, [images.bfloat16()], false_alarms=0.2)
    picture = (images[0, 0] * 255).byte().numpy()
    expected = detector((torch.from_numpy(picture)[None, None] / 255).bfloat16()).scores
    np.testing.assert_array_equal(detector(Image.fromarray(picture)).scores, expected)


def test_a_dictionary_in_a_tensors_place_changes_nothing() -> None:
    x = rows(100)[0]
    detector = Detector.fit(Classifier(nn.Flatten(), nn.Linear(36, 3)), [x], false_alarms=0.2)
    before = detector(x).scores
    with pytest.raises(ValueError, match=r"inputs must be one tensor \(N, 1, 6, 6\), got a dictionary"):
        detector({"x": x})
    np.testing.assert_array_equal(detector(x).scores, before)


def test_nothing_is_scored_in_silence(detector: Detector) -> None:
    with pytest.raises(ValueError, match="inputs must give at least one row, got none"):
        detector(rows(4)[0][:0])
    with pytest.raises(ValueError, match="validation must give at least one row, got none"):
        Detector.fit(nn.Linear(4, 3), [])


def test_what_was_measured_at_another_rate_is_not_said_of_this_one(detector: Detector) -> None:
    told = replace(detector, about={"false_alarms_on_test": 0.09, "rejected": {"far": 0.5}, "run": "one"})
    assert told.at(0.2).about == told.at(0.1, per_class=True).about == {"run": "one"}
    assert told.at(0.1).about == told.about


def test_a_refused_classifier_keeps_its_weights(detector: Detector, tmp_path: Path) -> None:
    other = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh()), nn.Linear(8, 4))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="holds the weights of another network than Classifier"):
        Detector.load(detector.save(tmp_path / "detector"), classifier=other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_saving_removes_no_file_of_others(detector: Detector, tmp_path: Path) -> None:
    folder = detector.save(tmp_path / "detector")
    (folder / "tensors-mine.safetensors").write_text("mine")
    detector.at(0.2, per_class=True).save(folder)
    Detector.fit(detector.classifier, loader(200), score="msp").save(folder)
    assert len(list(folder.iterdir())) == 3 and (folder / "tensors-mine.safetensors").read_text() == "mine"


class Remembering(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_what_is_no_tensor_is_not_saved(tmp_path: Path) -> None:
    detector = Detector.fit(Remembering(4, 3), [torch.rand(100, 4)], false_alarms=0.2)
    with pytest.raises(ValueError, match="saved as tensors, and it keeps something else under '_extra_state'"):
        detector.save(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{}"])
def test_a_description_that_is_another_document_is_damaged(detector: Detector, tmp_path: Path, text: str) -> None:
    folder = detector.save(tmp_path / "detector")
    (folder / ABOUT).write_text(text)
    with pytest.raises(ValueError, match="was changed or damaged"):
        Detector.load(folder)


def test_the_classifier_stays_as_it_is() -> None:
    """Whatever its modes are, those of the detector are eval modes, also of a loaded one."""
    torch.manual_seed(0)
    mixed = Classifier(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout()), nn.Linear(36, 3))
    mixed.train()
    mixed.backbone[1].eval()  # type: ignore[index]
    before = {name: value.clone() for name, value in mixed.state_dict().items()}
    x = rows(200)[0]
    detector = Detector.fit(mixed, [x])
    scores = detector(x).scores
    assert [module.training for module in mixed.modules()] == [True, True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in mixed.state_dict().items())
    mixed.eval()
    np.testing.assert_array_equal(detector(x).scores, scores)


def test_the_best_score_needs_no_training_rows(classifier: Classifier) -> None:
    noise = [torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(0)).round()]
    assert not Detector.fit(classifier, loader(300), score="best", outliers=noise).score.needs_fit


def test_preprocessing_gives_rows_from_0_to_1(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="the validation rows have another range: let Normalize"):
        Detector.fit(classifier, [rows(100)[0] * 3], preprocessing=Preprocessing((1, 6, 6)))


def test_a_watch_starts_from_what_the_calibration_tells(detector: Detector) -> None:
    watch = detector.watch()
    watch.count(detector(x := rows(40, 3)[0]))
    expected = Evidence(30, 300)
    expected.add(~detector(x).accepted)
    assert np.log(watch.evidence) == pytest.approx(expected.log)


def test_what_goes_below_0_was_normalised(detector: Detector) -> None:
    with pytest.raises(ValueError, match=r"got -5 to 250: leave normalising to the classifier"):
        detector(torch.linspace(-5, 250, 36).reshape(1, 1, 6, 6))


def test_only_images_in_unit_range_tell_their_range() -> None:
    image = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    for batches, expected in (
        ([image], Expected((1, 6, 6), True)),
        ([image - 0.5, image], Expected((1, 6, 6), False)),
        ([image * 1.5], Expected((1, 6, 6), False)),
        ([image.flatten(1)], Expected((36,), False)),
        ([image.double()], Expected((1, 6, 6), True, "float64")),
        ([image, image[..., 1:]], Expected(None, False)),
    ):
        seen = Observed(batches)
        assert len(list(seen)) == len(batches) and seen.expected() == expected


def test_a_folder_of_another_program_is_damaged_whatever_it_lacks(detector: Detector, tmp_path: Path) -> None:
    """With a right digest: what is missing or of another type is found when it is read."""
    from oodles.detection.saved import _digest

    detector.save(tmp_path / "detector")
    file = tmp_path / "detector" / ABOUT
    about = json.loads(file.read_text())
    del about["sha256"]
    fresh = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh()), nn.Linear(8, 3))
    for key in ("score", "classes", "expected", "tensors", "false_alarms"):
        for forged in ({k: v for k, v in about.items() if k != key}, {**about, key: 7}, {**about, key: None}):
            file.write_text(json.dumps({**forged, "sha256": _digest(forged)}))
            with pytest.raises(ValueError):
                Detector.load(tmp_path / "detector", classifier=fresh)


def test_what_no_detector_can_be_made_of_is_a_sentence(
    classifier: Classifier, detector: Detector, tmp_path: Path
) -> None:
    mixed = [rows(60)[0], torch.rand(9, 1, 5, 5)]
    wide = [rows(60)[0], rows(60)[0].double()]
    for given, kind, sentence in (
        ((None, loader(60)), TypeError, "classifier must be a Classifier or a module that gives logits, got NoneType"),
        ((classifier, None), TypeError, "validation must be a loader of known rows, got NoneType"),
        ((classifier, mixed), ValueError, r"must run on inputs of shape \(9, 1, 5, 5\) and torch.float32, but: mat1"),
        ((classifier, wide), ValueError, r"must run on inputs of shape \(60, 1, 6, 6\) and torch.float64, but: mat1"),
    ):
        with pytest.raises(kind, match=sentence):
            Detector.fit(*given)  # type: ignore[arg-type]  # on purpose
    detector.save(tmp_path / "detector")
    with pytest.raises(ValueError, match="device must be auto, cpu or cuda, got 'tpu'"):
        Detector.load(tmp_path / "detector", classifier=classifier, device="tpu")  # type: ignore[arg-type]


BROKEN = (math.nan, math.inf, -math.inf)


def with_broken(x: torch.Tensor) -> torch.Tensor:
    """Put NaN, infinity and minus infinity into the first rows."""
    x = x.clone()
    for row, value in enumerate(BROKEN):
        x[row].view(-1)[row] = value
    return x


@pytest.mark.parametrize("name", [name for name in SCORES])
def test_a_row_that_is_not_finite_is_refused_and_changes_no_other(classifier: Classifier, name: str) -> None:
    x = rows(30, 3)[0]
    for settings in ({}, {"fdr": 0.2}):
        detector = Detector.fit(classifier, loader(300, 2), train=loader(300, 1), score=name, false_alarms=0.1)
        whole, verdicts = detector(x[3:], **settings), detector(with_broken(x), **settings)
        assert verdicts.scores[:3].tolist() == [math.inf] * 3 and not verdicts.accepted[:3].any()
        assert verdicts.p_values[:3].tolist() == [1 / 301] * 3 and verdicts.not_finite == 3 and whole.not_finite == 0
        np.testing.assert_allclose(verdicts.scores[3:], whole.scores, rtol=1e-5, atol=1e-6)
        assert verdicts.accepted[3:].tolist() == whole.accepted.tolist() and whole.accepted.any()


def test_rows_that_are_not_finite_are_told_and_counted(detector: Detector) -> None:
    x = rows(30, 3)[0]
    verdicts = detector([x[:10], with_broken(x)[:10], x[10:]])
    assert str(verdicts).endswith(f"{detector.threshold:.6g}; 3 not finite, and refused for it")
    document = json.loads(json.dumps(verdicts.as_dict(), allow_nan=False))
    assert document["not_finite"] == 3 and [row["score"] for row in document["inputs"][10:13]] == [None] * 3
    assert [line.split(",")[2:4] for line in verdicts.to_csv().split()[11:14]] == [["inf", "reject"]] * 3
    watch = detector.watch()
    watch(x)
    before = watch.refused
    watch(with_broken(x))
    assert watch.refused == before + (~detector(with_broken(x)).accepted).sum() >= before + 3
    nan = replace(verdicts, scores=np.full(40, math.nan))
    assert detector.watch().count(nan), "another's verdicts may say NaN"


def test_inputs_are_looked_at_where_the_network_hides_what_is_wrong_with_them() -> None:
    """A saturated unit makes a sure answer of an infinite number."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    known = torch.randn(200, 4)
    detector = Detector.fit(model, [known], score="energy", false_alarms=0.3)
    new = known[:1].repeat(3, 1)
    new[1, 0], new[2, 0] = math.inf, -math.inf
    assert model(new).isfinite().all()
    assert detector(new).scores.tolist()[1:] == [math.inf] * 2 and not detector(new).accepted[1:].any()
    with pytest.raises(ValueError, match=r"Validation rows must be finite, .* got NaN or infinity in 2 of 203: leave"):
        Detector.fit(model, [new, known])


@pytest.mark.parametrize("score", ["energy", None, "best"])
def test_validation_rows_are_named_where_the_network_hands_on_what_is_wrong_with_them(score: str | None) -> None:
    torch.manual_seed(0)
    known = torch.randn(300, 4)
    known[170:173, 1] = math.nan
    with pytest.raises(ValueError, match=r"Validation rows must be finite, .* got NaN or infinity in 3 of 300: leave"):
        Detector.fit(nn.Linear(4, 3), known.split(50), score=score)


def test_the_range_is_told_of_the_finite_rows(detector: Detector) -> None:
    x = with_broken(rows(5, 3)[0])
    with pytest.raises(ValueError, match=r"inputs must be in \[0, 1\], got [\d.]+ to 148: divide by 255"):
        detector(x * 255)


def test_the_exported_graph_refuses_the_same_rows(detector: Detector, tmp_path: Path) -> None:
    x = with_broken(rows(30, 3)[0])
    for one in (detector, detector.at(0.3, per_class=True)):
        given = torch.export.load(one.export(tmp_path / "model.pt2").path).module()(x)
        assert given["accept"].tolist() == one(x).accepted.tolist() and not given["accept"][:3].any()
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    nn.init.constant_(model[0].weight, 1.0)  # type: ignore[arg-type]  # an infinite number looks sure
    table = Detector.fit(model, [torch.randn(200, 4, generator=torch.Generator().manual_seed(0))], score="energy")
    hidden = torch.tensor([[9.0, 0, 0, 0], [math.inf, 0, 0, 0]])
    given = torch.export.load(table.export(tmp_path / "table.pt2").path).module()(hidden)
    assert given["accept"].tolist() == table(hidden).accepted.tolist() == [True, False]


def test_a_logit_of_minus_infinity_is_refused_though_its_energy_is_finite(tmp_path: Path) -> None:
    detector = Detector.fit(nn.ReLU6(), [torch.rand(200, 3)], score="energy", false_alarms=0.1)
    sure = torch.tensor([[5.0, 5.0, 5.0]])
    assert detector(sure).accepted.all()
    logits = replace(detector, classifier=Lowest())
    assert logits(sure).scores.tolist() == [math.inf] and not logits(sure).accepted.any()
    given = torch.export.load(logits.export(tmp_path / "model.pt2").path).module()(sure)
    assert given["score"].isfinite().all() and not given["accept"].any()


class Lowest(nn.Module):
    """Gives minus infinity as the last logit."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([logits[:, :2], torch.full_like(logits[:, 2:], -math.inf)], 1)


def test_rows_that_are_not_finite_do_not_count_among_discoveries(detector: Detector) -> None:
    """One of thirty would be no discovery and so accepted; thirty would be many and let others be refused."""
    x = rows(60, 3)[0]
    one = x[:30].clone()
    one[0, 0, 0, 0] = math.nan
    assert not detector(one, fdr=0.05).accepted[0] and detector(one, fdr=0.05).p_values[0] > 0.05 / 30
    many = x.clone()
    many[30:, 0, 0, 0] = math.nan
    many[0] = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0)).round()
    for fdr in (0.02, 0.05, 0.2, 0.5):
        assert detector(many, fdr=fdr).accepted[:30].tolist() == detector(many[:30], fdr=fdr).accepted.tolist()
    assert not detector(many, fdr=0.5).accepted[30:].any()


def test_threads_share_a_classifier() -> None:
    """One ends while another is at work: this goes on in eval mode, and the last one gives the modes back."""
    torch.manual_seed(0)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout()), nn.Linear(36, 3))
    x = rows(200)[0]
    detector = Detector.fit(model, [x])
    model.train()
    model.backbone[1].eval()  # type: ignore[index]
    modes = [module.training for module in model.modules()]
    expected = detector(x).scores
    first_begun, second_begun, first_ended = Event(), Event(), Event()

    def slowly(begun: Event, wait: Event) -> Iterator[torch.Tensor]:
        yield x[:100]
        begun.set()
        assert wait.wait(60)
        yield x[100:]

    results = {}

    def first() -> None:
        results["first"] = detector(slowly(first_begun, second_begun)).scores
        first_ended.set()

    def second() -> None:
        assert first_begun.wait(60)
        results["second"] = detector(slowly(second_begun, first_ended)).scores

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scores in results.values():
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert len(results) == 2 and [module.training for module in model.modules()] == modes


class Named(nn.Module):
    """Reads its rows by their name, of two that it knows."""

    def forward(self, left: torch.Tensor | None = None, right: torch.Tensor | None = None) -> torch.Tensor:
        return left if left is not None else -right  # type: ignore[operator]


def test_asking_a_figure_leaves_the_classifier_as_it_was() -> None:
    model = Classifier(Named(), nn.Linear(4, 3))
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    before = model(x)
    batches = [({"right": x}, torch.arange(100) % 3)]
    evaluate(model, batches, {"other": [{"right": x + 1}]}, ["msp", "knn"], batches)
    assert model.input_name is None and torch.equal(model(x), before)
    model.input_name = "right"
    evaluate(model, [({"left": x}, torch.arange(100) % 3)], {"other": [{"left": x + 1}]})
    assert model.input_name == "right"


def forged(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a description, and write the digest that fits it."""
    about = json.loads((folder / ABOUT).read_text())
    del about["sha256"]
    change(about)
    digest = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    (folder / ABOUT).write_text(json.dumps({**about, "sha256": digest}))
    return folder


KEYS = ("score", "false_alarms", "per_class", "classes", "expected", "preprocessing", "network", "tensors", "about")


@pytest.mark.parametrize("key", [*KEYS, "tensors_sha256"])
@pytest.mark.parametrize("value", ["nothing", 7, [], [[]], {"rejected": 1}, "../../secrets", math.nan])
def test_a_forged_description_gets_a_sentence(classifier: Classifier, tmp_path: Path, key: str, value: Any) -> None:
    made = Detector.fit(classifier, loader(100), score="energy", false_alarms=0.2)
    folder = made.save(tmp_path / "detector")

    def change(about: dict[str, Any]) -> None:
        about.pop(key) if value == "nothing" else about.update({key: value})

    forged(folder, change)
    with pytest.raises(ValueError, match=r"[;:] take it from a copy, or save the detector again") as refused:
        Detector.load(folder, classifier=classifier)
    assert "\n" not in str(refused.value)


def test_forged_details_get_a_sentence(tmp_path: Path) -> None:
    made = build_network("small-cnn", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.2])
    x = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    reading = Preprocessing((1, 8, 8), resize=9)
    folder = Detector.fit(made, [x], false_alarms=0.2, preprocessing=reading).save(tmp_path / "one")
    assert Detector.load(folder).preprocessing == reading
    kept = (folder / ABOUT).read_text()
    changes: tuple[tuple[Callable[[dict[str, Any]], Any], str], ...] = (
        (lambda about: about["expected"].update(dtype="load"), "expected.dtype must be a type of numbers, got 'load'"),
        (lambda about: about["expected"].update(shape=[1, "8", 8]), r"expected.shape\[1\] must be a whole number"),
        (lambda about: about["network"].pop("num_classes"), "network.num_classes is missing"),
        (lambda about: about["network"].update(depth=9), "describes what cannot be made: .*depth"),
        (lambda about: about["network"].update(mean=[[]]), "describes what cannot be made"),
        (lambda about: about["preprocessing"].update(resize="9"), "describes what cannot be made: resize must be"),
        (lambda about: about["preprocessing"].update(zoom=9), "describes what cannot be made: .*zoom"),
        (lambda about: about.update(score="enrgy"), "describes what cannot be made: score must be one of"),
        (lambda about: about.update(score="knn"), "describes what cannot be made: knn learns"),
        (lambda about: about.update(false_alarms=1e-9), "describes what cannot be made: A rate of false alarms"),
        (lambda about: about["about"].update(rejected={"far": "all"}), "about.rejected.far must be a number"),
    )
    for change, words in changes:
        forged(folder, change)
        with pytest.raises(ValueError, match=words) as refused:
            Detector.load(folder)
        assert "\n" not in str(refused.value)
        (folder / ABOUT).write_text(kept)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        (None, "validation must be a loader of known rows, got NoneType"),
        (7, "validation must be a loader of known rows, got int"),
        ([torch.rand(9, 4), torch.rand(9, 5)], r"must run on inputs of shape \(9, 5\) and torch.float32, but: mat1"),
        (
            [torch.rand(9, 4), torch.rand(9, 4).double()],
            r"inputs of shape \(9, 4\) and torch.float64, but: mat1 and mat2",
        ),
        (
            [{"input": torch.rand(9, 4)}, {"input": torch.rand(9, 5)}],
            r"inputs of shape \(9, 5\) and torch.float32, but: mat1",
        ),
    ],
)
def test_batches_that_cannot_be_read_get_a_sentence(batches: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as refused:
        Detector.fit(nn.Linear(4, 3), batches, false_alarms=0.2)
    assert "\n" not in str(refused.value)


def test_a_device_that_is_not_there_gets_a_sentence(detector: Detector, tmp_path: Path) -> None:
    folder = detector.save(tmp_path / "detector")
    with pytest.raises(ValueError, match=r"device must be auto, cpu or cuda, got 'tpu', which is not here\."):
        Detector.load(folder, classifier=detector.classifier, device="tpu")  # type: ignore[arg-type]
    assert Detector.load(folder, classifier=detector.classifier, device="auto").score.name == "knn(k=5)"


def test_a_score_at_the_threshold_is_accepted() -> None:
    known = torch.arange(99.0)[:, None].repeat(1, 3)
    detector = Detector.fit(nn.Identity(), [known], score="max-logit", false_alarms=0.1)
    verdicts = detector(torch.tensor([[8.0], [9.0], [10.0]]).repeat(1, 3))
    assert detector.threshold == -9 and verdicts.accepted.tolist() == [False, True, True]
    assert verdicts.p_values.tolist() == [0.1, 0.11, 0.12]


def test_a_little_beyond_the_range_is_rounding(classifier: Classifier) -> None:
    x = torch.cat([rows(100)[0], torch.full((1, 1, 6, 6), -5e-4), torch.full((1, 1, 6, 6), 1 + 5e-4)])
    detector = Detector.fit(classifier, [x], false_alarms=0.2)
    assert detector.expected.unit_range and len(detector(x[-2:])) == 2
    with pytest.raises(ValueError, match="resize must be a whole number of at least 6, got 5"):
        Preprocessing((1, 6, 4), resize=5)


def test_as_many_rows_as_a_share_needs_are_enough() -> None:
    known = torch.randn(99, 3, generator=torch.Generator().manual_seed(0))
    detector = Detector.fit(nn.Identity(), [known], score="energy", false_alarms=0.2)
    assert detector(known + 1000, fdr=0.01).accepted.all()


def test_classes_stay_beside_their_scores_where_half_of_the_rows_chooses(classifier: Classifier) -> None:
    noise = [torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(0)).round()]
    best = Detector.fit(classifier, loader(300), score="best", outliers=noise)
    kept = best(rows(300, 0)[0][~choosing_rows(300)])
    np.testing.assert_array_equal(best.calibration.predictions, kept.predictions)
    np.testing.assert_allclose(best.calibration.scores, kept.scores, rtol=1e-6)


def test_files_of_verdicts_say_what_the_verdicts_say(detector: Detector) -> None:
    for one in (detector, detector.at(0.3, per_class=True)):
        verdicts = one(rows(30, 3)[0])
        lines = [line.split(",") for line in verdicts.to_csv().split()[1:]]
        assert [line[3] == "accept" for line in lines] == verdicts.accepted.tolist()
        assert [float(line[4]) for line in lines] == verdicts.p_values.tolist()
        document = verdicts.as_dict()
        for key, values in (("p_value", verdicts.p_values), ("threshold", verdicts.thresholds)):
            assert [row[key] for row in document["inputs"]] == values.tolist()
        if one is detector:
            assert document["threshold"] == verdicts.threshold == detector.threshold
        else:
            assert document["threshold"] is None
            with pytest.raises(ValueError, match="The threshold must be one for all inputs, and classes"):
                assert verdicts.threshold


def test_another_name_than_the_folders_imports_nothing(tmp_path: Path) -> None:
    mine = build_network("tests.runs.small:linear", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.2])
    folder = Detector.fit(mine, [torch.rand(120, 1, 8, 8)], false_alarms=0.2).save(tmp_path / "mine")
    with pytest.raises(ValueError, match="no code is imported because a folder names it"):
        Detector.load(folder, network="tests.runs.small:with_dropout")
