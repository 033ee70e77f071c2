"""One object from a classifier, or from a run, to verdicts, a folder and a file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from oodles import Classifier, Detector, Preprocessing
from oodles.detection.calibration import choosing_rows
from oodles.detection.inputs import Expected, Observed
from oodles.detection.saved import ABOUT
from oodles.detection.watching import Evidence
from oodles.networks import build_network
from oodles.scores import Msp

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


def test_the_best_score_is_chosen_on_half_and_the_threshold_comes_from_the_other(classifier: Classifier) -> None:
    noise = [torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(0)).round()]
    best = Detector.fit(classifier, loader(300), train=loader(300, 1), score="best", outliers=noise)
    assert len(best.calibration.scores) == 150
    named = Detector.fit(classifier, loader(300), train=loader(300, 1), score=best.score.name)
    assert set(best.calibration.scores) < set(named.calibration.scores)
    aurocs = {}
    for score in ("msp", "energy", "mahalanobis", "knn", best.score.name):
        one = Detector.fit(classifier, loader(300), train=loader(300, 1), score=score)
        unknown, known = one(noise).scores, one.calibration.scores
        aurocs[score] = np.mean(unknown[:, None] > known) + np.mean(unknown[:, None] == known) / 2
    assert aurocs[best.score.name] >= max(aurocs.values()) - 0.005 > aurocs["msp"]
    with pytest.raises(ValueError, match=r"score='best' needs outliers=…, rows that nothing was trained on"):
        Detector.fit(classifier, loader(300), score="best")


def test_either_half_of_the_rows_has_its_own_task() -> None:
    """Energy is right about the rows that choose and wrong about the others; with msp it is the other way round."""
    near = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    choose = torch.from_numpy(choosing_rows(300))
    sure = 50 * nn.functional.one_hot(torch.arange(300) % 3, 3) - 100.0
    known = torch.where(choose[:, None], near + 10, sure)
    best = Detector.fit(nn.Identity(), [known], score="best", outliers=[near.flip(0)])
    assert best.score.name in ("energy", "max-logit")
    np.testing.assert_array_equal(best.calibration.scores, best(sure[~choose]).scores)


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
    detector = Detector.fit(made, [x], false_alarms=0.2)
    before = torch.random.get_rng_state()
    loaded = Detector.load(detector.save(tmp_path / "one"))
    assert torch.equal(before, torch.random.get_rng_state()) and not loaded.classifier.training
    np.testing.assert_array_equal(loaded(x).scores, detector(x).scores)
    mine = build_network("tests.runs.small:linear", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.2])
    folder = Detector.fit(mine, [x], false_alarms=0.2).save(tmp_path / "two")
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
        ({"false_alarms": 0.001}, r"0\.1 % needs 999 held-out known rows, got 100: give more rows, or allow 0\.99 %"),
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
