"""Segmentation with void pixels end to end, on a small generated street: trained, tested, and blind to what is void."""

import pytest
import torch
from torch import Tensor, nn

from oodles import (
    Classifier,
    EnergyBounded,
    LogitNorm,
    Method,
    MixOE,
    Mixup,
    Objectosphere,
    OutlierExposure,
    TrainingStep,
    evaluate,
)
from oodles.metrics import METRICS, Histogram, ood_metrics
from oodles.scores import energy

SKY, BUILDING, ROAD = 0, 1, 2
UNKNOWN, VOID = 254, 255
SIDE = 24


def draws(generator: torch.Generator, *ranges: tuple[int, int]) -> list[int]:
    return [int(torch.randint(low, high, (), generator=generator)) for low, high in ranges]


def street(pictures: int, *, seed: int, unknown: str = "") -> tuple[Tensor, Tensor]:
    """Draw streets (N, 3, H, W) and their labels: borders are void, a ``ball`` or one of many ``things`` is unknown."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.tensor([[0.3, 0.5, 0.9], [0.6, 0.4, 0.3], [0.35, 0.35, 0.35]])
    labels = torch.full((pictures, SIDE, SIDE), SKY)
    for ids in labels:
        horizon, left, width = draws(generator, (9, 14), (0, 10), (6, 13))
        ids[horizon - 6 : horizon, left : left + width] = BUILDING
        ids[horizon:] = ROAD
    images = colours[labels].movedim(-1, 1) + 0.05 * torch.randn(pictures, 3, SIDE, SIDE, generator=generator)
    border = torch.zeros_like(labels, dtype=torch.bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    labels[border] = VOID
    for image, ids in zip(images, labels, strict=True) if unknown else ():
        top, left = draws(generator, (14, 17), (2, 14))
        channel, dark = draws(generator, (0, 3), (0, 2))
        vivid = 0.1 + 0.8 * ((torch.arange(3) == channel) != bool(dark))
        colour = vivid if unknown == "things" else torch.tensor([0.9, 0.1, 0.6])
        noise = 0.05 * torch.randn(3, 6, 7, generator=generator)
        image[:, top : top + 6, left : left + 7] = colour[:, None, None] + noise
        ids[top - 1 : top + 7, left - 1 : left + 8] = VOID
        ids[top : top + 6, left : left + 7] = UNKNOWN
    return images.clamp(0, 1).contiguous(), labels


def network(kernel: int = 3) -> Classifier:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 16, kernel, padding=kernel // 2)
    backbone = nn.Sequential(first, nn.ReLU(), nn.Conv2d(16, 16, kernel, padding=kernel // 2), nn.ReLU())
    return Classifier(backbone, nn.Conv2d(16, 3, 1))


def train(classifier: Classifier, *methods: Method, images: Tensor, labels: Tensor, steps: int = 120) -> Classifier:
    step = TrainingStep(classifier, *methods, ignore_index=VOID, ood_index=UNKNOWN)
    optimizer = torch.optim.Adam(step.parameters(), lr=0.005)
    for number in range(steps):
        rows = torch.arange(4) + number * 4 % len(images)
        optimizer.zero_grad()
        torch.stack(list(step((images[rows], labels[rows])).values())).sum().backward()
        optimizer.step()
    return classifier


METHODS = {
    "outlier-exposure": (OutlierExposure(),),
    "energy-bounded": (EnergyBounded(margin_in=-8, margin_out=-2),),
    "logit-norm": (LogitNorm(), OutlierExposure()),
    "mixup": (Mixup(alpha=0.1), OutlierExposure()),
}


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_thing_on_the_road_is_found(name: str) -> None:
    images, labels = street(64, seed=0, unknown="things")
    classifier = train(network(), *METHODS[name], images=images, labels=labels)
    known, (pictures, pixels) = street(4, seed=1), street(8, seed=2, unknown="ball")
    road = [(pictures[:4], pixels[:4]), (pictures[4:], pixels[4:])]
    chosen = {"ignore_index": VOID, "ood_index": UNKNOWN}
    found = evaluate(classifier, [known], {"ball": road}, ["msp", "energy"], **chosen)
    assert found.accuracy is not None and found.accuracy > 0.9
    assert max(metrics["auroc"] for metrics in found.metrics["ball"].values()) > 0.9
    with torch.no_grad():
        values, predicted = energy(classifier(pictures)), classifier(known[0]).argmax(1)
    expected = ood_metrics(values[pixels < 3], values[pixels == UNKNOWN])
    for metric in METRICS:
        assert found.metrics["ball"]["energy"][metric] == pytest.approx(expected[metric], abs=1e-6)
    labelled = known[1] != VOID
    assert found.accuracy == pytest.approx((predicted == known[1])[labelled].double().mean().item())
    counted = evaluate(classifier, [known], {"ball": road}, ["msp", "energy"], keep=False, **chosen)
    assert counted.metrics == found.metrics and counted.accuracy == found.accuracy
    assert isinstance(counted.scores["ball"]["msp"], Histogram) and not counted.predictions and counted.labels is None


def test_what_is_void_changes_nothing_bit_for_bit() -> None:
    """In a network that looks at each pixel alone; others see what is around a pixel, void or not."""
    images, labels = street(8, seed=0, unknown="things")
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(5))
    other = torch.where((labels == VOID).unsqueeze(1), noise, images)
    assert not torch.equal(other, images)
    trained, found = [], []
    for pictures in (images, other):
        classifier = train(
            network(kernel=1), Mixup(), Objectosphere(), MixOE(), images=pictures, labels=labels, steps=5
        )
        trained.append(classifier.state_dict())
        chosen = {"ignore_index": VOID, "ood_index": UNKNOWN}
        found.append(evaluate(classifier, [(pictures, labels)], {"road": [(pictures, labels)]}, **chosen))
    for name, value in trained[0].items():
        assert torch.equal(value, trained[1][name]), name
    assert found[0].metrics == found[1].metrics and found[0].accuracy == found[1].accuracy
