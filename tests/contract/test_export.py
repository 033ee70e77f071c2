"""A trained classifier and its method's score export as one graph for any number of rows, with the same numbers."""

import pytest
import torch

from oodles import TrainingStep
from oodles.detection.exporting import _FORMS, Deployed, _silence, as_program
from oodles.evaluation import score_rows
from oodles.inference import collect
from oodles.methods import score_named, scores_of

from .networks import batch, classifier, inputs, labels
from .rows import ROWS, Row

KIND = "images"
EXPORTED = [name for name, row in ROWS.items() if KIND in row.kinds]


def exported_scores(row: Row) -> list[str]:
    """Return the paper's score and those that the method brings, without those that differentiate inputs."""
    wanted = dict.fromkeys([row.cls.score, *scores_of(row.cls.name)])
    return [name for name in wanted if not score_named(name).differentiates] or ["msp"]


def changes_inference(row: Row) -> bool:
    """Say whether a trained classifier is another graph than that of plain training."""
    return bool(scores_of(row.cls.name) or row.cls.heads or "head" in row.cls.replaces)


def check_exports(row: Row, suffix: str) -> None:
    net = classifier(KIND, noisy=True)
    step = TrainingStep(net, *row.methods())
    step(batch(KIND))
    step.after_update()
    net.eval()
    write, read = _FORMS[suffix]
    rows = inputs(KIND, 40, seed=5)
    assert isinstance(rows, torch.Tensor)
    for name in exported_scores(row):
        score = score_named(name)
        if score.needs_fit:
            score.fit_of(net, *collect(net, [(rows, labels(KIND, 40))]))
        threshold = float(score_rows(net, [rows], [score]).scores[name].mean())
        with _silence():
            module = read(write(as_program(net, score, threshold, rows[:2]), "{}"))
        assert module is not None
        for few in (rows[:1], rows[1:8], rows):
            loaded = {key: value.detach() for key, value in module(few).items()}
            with torch.no_grad():
                torch.testing.assert_close(loaded["logits"], net(few), atol=1e-4, rtol=1e-4)
                deployed = Deployed(net, score, threshold)(few)
            expected = torch.from_numpy(score_rows(net, [few], [score]).scores[name])
            torch.testing.assert_close(loaded["score"], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(deployed["score"], expected, atol=0, rtol=0)
            clear = (expected - threshold).abs() > 1e-4 * (1 + abs(threshold))
            assert torch.equal(loaded["accept"][clear], (expected <= threshold)[clear])


@pytest.mark.parametrize("name", EXPORTED)
def test_a_trained_classifier_exports_with_its_score(name: str) -> None:
    check_exports(ROWS[name], ".pt2")


@pytest.mark.parametrize("name", [name for name in EXPORTED if changes_inference(ROWS[name])])
def test_what_changes_inference_exports_to_onnx(name: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'oodles[onnx]'")
    check_exports(ROWS[name], ".onnx")
