"""Manifold mixup: which layers it takes, what is mixed there, and that nothing else is."""

from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import Classifier, ManifoldMixup, OutlierExposure, TrainingStep
from oodles.methods.manifold_mixup import first_blocks, mixed
from oodles.networks import build_network

from ..contract.steps import is_one_sentence, total
from ..references.manifold_mixup import Layer, loss

CLASSES = 3
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def rows(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def labels(count: int, kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, np.ndarray]:
    """Targets, and the same as distributions."""
    ids = torch.arange(count) % CLASSES
    if kind == "class ids":
        return ids, F.one_hot(ids, CLASSES).double().numpy()
    soft = torch.rand(count, CLASSES, generator=torch.Generator().manual_seed(9), dtype=torch.float64).softmax(1)
    return soft.to(dtype), soft.numpy()


def network(dtype: torch.dtype = torch.float64) -> tuple[Classifier, list[Layer]]:
    """Two layers and a last one, and their weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
        net = Classifier(backbone, nn.Linear(5, CLASSES)).double()
    layers = [
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in (backbone[0], backbone[2], net.head)
    ]
    return net.to(dtype), layers


def place_of(step: TrainingStep, prepared, x: Tensor) -> tuple[int, float]:  # type: ignore[no-untyped-def]
    """Where a prepared batch is to be mixed, and the share; 0 is the input."""
    shares = [prepared.draws[f"manifold_mixup at {name}"].item() for name in ("1", "3")]
    places = [index for index, share in enumerate(shares, start=1) if share != 1]
    assert len(places) <= 1
    if places:
        assert torch.equal(prepared["id"].inputs, x), "mixed once"
        return places[0], shares[places[0] - 1]
    order = prepared.draws["manifold_mixup_keys"].argsort()
    share = ((prepared["id"].inputs - x[order]) / (x - x[order])).nanmedian()
    return 0, float(share)


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
def test_the_loss_at_every_place(dtype: torch.dtype, accuracy: float, kind: str) -> None:
    (net, layers), (y, as_rows), x = network(dtype), labels(5, kind, dtype), rows(5, dtype=dtype)
    step = TrainingStep(net, ManifoldMixup(), seed=1)
    seen = set()
    for _ in range(12):
        prepared = step.prepare((x, y))
        place, lam = place_of(step, prepared, x)
        seen.add(place)
        partners = prepared.draws["manifold_mixup_keys"].argsort().tolist()
        found = total(step.losses(prepared)).item()
        expected = loss(rows(5).numpy(), as_rows, layers, place, partners, lam)
        # the share of the input is found from float32 numbers, and class ids are mixed in float32
        loose = 1e-4 if place == 0 or kind == "class ids" else accuracy
        assert found == pytest.approx(expected, rel=max(accuracy, loose if dtype == torch.float32 else 1e-6))
    assert seen == {0, 1, 2}


def test_places_are_drawn_evenly_and_shares_symmetrically() -> None:
    step, x, y = TrainingStep(network()[0], ManifoldMixup(alpha=2.0)), rows(9), labels(9, "class ids")[0]
    found = [place_of(step, step.prepare((x, y)), x) for _ in range(900)]
    counts = Counter(place for place, _ in found)
    assert sorted(counts) == [0, 1, 2] and all(abs(count - 300) < 60 for count in counts.values())
    shares = np.array([share for _, share in found])
    assert shares.mean() == pytest.approx(0.5, abs=0.03) and shares.var() == pytest.approx(1 / 20, rel=0.15)


def test_outliers_are_never_mixed() -> None:
    net, _ = network()
    step = TrainingStep(net, ManifoldMixup(), OutlierExposure())
    x, o, y = rows(5), rows(7, seed=1), labels(5, "class ids")[0]
    expected = OutlierExposure()(net(o)).item()
    losses = {total(step.losses(prepared)).item() for prepared in (step.prepare((x, y), outliers=o) for _ in range(8))}
    assert len(losses) == 8
    for _ in range(8):
        assert step((x, y), outliers=o)["outlier_exposure"].item() == pytest.approx(expected, rel=1e-12)


def test_a_share_of_one_changes_no_bit() -> None:
    hidden, order = torch.randn(5, 3), torch.tensor([4, 0, 1, 2, 3])
    assert torch.equal(mixed(hidden, order, torch.tensor(1.0)), hidden)
    assert torch.equal(mixed(hidden, order, torch.tensor(0.0)), hidden[order])


def test_only_training_steps_mix() -> None:
    net, _ = network()
    before = net(rows(5))
    step = TrainingStep(net, ManifoldMixup())
    step((rows(5), labels(5, "class ids")[0]))
    assert torch.equal(net(rows(5)), before), "the classifier as it is used afterwards"


EXPECTED = {
    "small-cnn": ("network.layers.2", "network.layers.6"),
    "cnn-6": ("network.pool1", "network.pool2"),
    "resnet-18": ("network.stage1", "network.stage2"),
    "wrn-40-2": ("network.stage1", "network.stage2"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_first_two_blocks_of_embedded_networks(name: str) -> None:
    net = build_network(name, num_classes=4, input_shape=(3, 32, 32), mean=[0.5] * 3, std=[0.5] * 3)
    assert ManifoldMixup().layers(net) == EXPECTED[name]
    if name != "wrn-40-2":  # which takes long
        step = TrainingStep(net, ManifoldMixup())
        assert total(step((torch.rand(4, 3, 32, 32), torch.arange(4)))).isfinite()


class Named(nn.Module):
    """Like the residual networks of other libraries: its parts are attributes, and called in ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(nn.Conv2d(2, 2, 1)) for _ in range(3))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2, self.fc1 = (
            nn.Conv2d(1, 2, 3),
            nn.MaxPool2d(2),
            nn.Conv2d(2, 2, 1),
            nn.Linear(8, 3),
        )


BACKBONES = {
    "no weights": (nn.Flatten(), ()),
    "one layer": (nn.Linear(4, 3), ()),
    "a layer and its activation": (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), ("1",)),
    "three layers": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3)), ("1", "2")),
    "normalised inside": (nn.Sequential(nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 3), nn.Tanh())), ("1.1",)),
    "named stages": (Named(), ("layer1", "layer2")),
    "named layers": (Flat(), ("conv1", "conv2")),
    "wrapped": (
        nn.Sequential(OrderedDict(inner=nn.Sequential(OrderedDict(net=Named())))),
        ("inner.net.layer1", "inner.net.layer2"),
    ),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_first_two_blocks_of_others(name: str) -> None:
    backbone, expected = BACKBONES[name]
    assert first_blocks(backbone) == expected


def test_without_hidden_layers_it_is_mixup_of_the_input() -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(4, CLASSES)), ManifoldMixup())
    x, y = rows(5, dtype=torch.float32), labels(5, "class ids")[0]
    assert not any(torch.equal(step.prepare((x, y))["id"].inputs, x) for _ in range(5))


def test_layers_that_are_named() -> None:
    net, _ = network()
    step = TrainingStep(net, ManifoldMixup(at=("2",)))
    prepared = step.prepare((rows(5), labels(5, "class ids")[0]))
    assert set(prepared.draws) == {"manifold_mixup_keys", "manifold_mixup at 2"}
    with pytest.raises(
        ValueError, match="at must name layers of the backbone, got 'stage9': its first ones are 0, 1"
    ) as refusal:
        TrainingStep(net, ManifoldMixup(at=("stage9",)))
    assert is_one_sentence(str(refusal.value))


class Twisted(nn.Module):
    def __init__(self, as_tuple: bool):
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, x: Tensor) -> object:
        return (x, x) if self.as_tuple else x.T


class Straight(nn.Module):
    def forward(self, x: object) -> Tensor:
        return x[0] if isinstance(x, tuple) else x.T  # type: ignore[attr-defined]


@pytest.mark.parametrize(("as_tuple", "got"), [(True, "tuple"), (False, r"\(4, 5\)")])
def test_results_without_a_row_for_each_input_are_refused(as_tuple: bool, got: str) -> None:
    backbone = nn.Sequential(Twisted(as_tuple), Straight())
    step = TrainingStep(Classifier(backbone, nn.Linear(4, CLASSES)), ManifoldMixup(at=("0",)))
    with pytest.raises(TypeError, match=f"a row for each input, and '0' gives {got}: name others") as refusal:
        step((rows(5, dtype=torch.float32), labels(5, "class ids")[0]))
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("count", [0, 1, 2, 65])
def test_any_batch_size(count: int) -> None:
    step = TrainingStep(network()[0], ManifoldMixup())
    for _ in range(3):
        terms = step((rows(count), labels(count, "class ids")[0]))
        assert terms["cross_entropy"].isfinite()


def test_one_row_mixed_with_itself_is_itself() -> None:
    net, _ = network()
    plain = total(TrainingStep(net)((rows(1), labels(1, "class ids")[0]))).item()
    step = TrainingStep(net, ManifoldMixup())
    for _ in range(4):
        assert total(step((rows(1), labels(1, "class ids")[0]))).item() == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("at", [("",), (1,), "stage1", ("a", "a")])
def test_wrong_names(at: object) -> None:
    with pytest.raises(ValueError, match="at must") as refusal:
        ManifoldMixup(at=at)  # type: ignore[arg-type]
    assert is_one_sentence(str(refusal.value))


def test_a_backbone_that_is_a_single_layer_has_no_names() -> None:
    net = Classifier(nn.Flatten(), nn.Linear(4, CLASSES))
    with pytest.raises(ValueError, match="got 'first': it has no layers with names") as refusal:
        TrainingStep(net, ManifoldMixup(at=("first",)))
    assert is_one_sentence(str(refusal.value))
