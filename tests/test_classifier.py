"""Classifiers: made from any model by naming its last layer, and given back."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, Normalize

from .contract.networks import CLASSES, KINDS, TokenNet, classifier, inputs
from .contract.steps import is_one_sentence

IMAGES = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A network as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))
        self.top = nn.ModuleDict({"fc": nn.Linear(108, CLASSES)})

    def forward(self, x: Tensor) -> Any:
        return self.top["fc"](self.stem(x))


class Softmax(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).softmax(1)


class Twice(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) + super().forward(x.flip(-1))


class Unused(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(108, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.other(self.stem(x))


class Field(Net):
    def forward(self, x: Tensor) -> Any:
        features = self.stem(x)
        return {"logits": self.top["fc"](features), "features": features}


class Attribute(Net):
    def forward(self, x: Tensor) -> Any:
        class Output:
            logits = self.top["fc"](self.stem(x))
            features = None

        return Output()


class Fails(Net):
    def forward(self, x: Tensor) -> Any:
        if isinstance(self.top["fc"], nn.Identity):
            raise RuntimeError("no head")
        return super().forward(x)


def made(cls: type[Net]) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls().train()


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_head_of_the_features(kind: str) -> None:
    net, x = classifier(kind).eval(), inputs(kind, 3)
    assert net.num_classes == CLASSES
    assert torch.equal(net(x), net.head(net.features(x)))
    assert net(x).shape[:2] == (3, CLASSES)


def test_splitting_gives_the_same_logits_and_joining_the_model_back() -> None:
    model = made(Net)
    head = model.top["fc"]
    model.eval()
    expected = model(IMAGES)
    model.train()
    before, were = {name: value.clone() for name, value in model.state_dict().items()}, modes(model)
    state = torch.get_rng_state()
    net = Classifier.split(model, "top.fc", example=IMAGES)
    assert torch.equal(torch.get_rng_state(), state), "no random numbers drawn"
    assert net.num_classes == CLASSES and net.head is head and net.backbone is model
    assert isinstance(model.top["fc"], nn.Identity), "it takes the model over"
    torch.testing.assert_close(net.eval()(IMAGES), expected)
    assert net.features(IMAGES).shape == (3, 108)
    net.train()
    with torch.no_grad():
        net.head.weight.mul_(2)
    joined = net.join()
    assert joined is model and model.top["fc"] is head
    after = model.state_dict()
    assert after.keys() == before.keys() and modes(model) == were
    for name, value in before.items():
        assert torch.equal(after[name], value * 2 if name == "top.fc.weight" else value), name


def test_training_after_a_split_trains_the_model() -> None:
    model = made(Net)
    net = Classifier.split(model, "top.fc", example=IMAGES)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(IMAGES).logsumexp(1).sum().backward()
    optimizer.step()
    trained = net.eval()(IMAGES)
    assert torch.equal(net.join()(IMAGES), trained)


@pytest.mark.parametrize("cls", [Field, Attribute])
def test_a_field_of_what_the_model_returns(cls: type[Net]) -> None:
    model = made(cls).eval()
    result = model(IMAGES)
    expected = result["logits"] if isinstance(result, dict) else result.logits
    net = Classifier.split(model, "top.fc", example=IMAGES, output="logits")
    torch.testing.assert_close(net(IMAGES), expected)
    assert net.features(IMAGES).shape == (3, 108)
    assert net.join() is model and isinstance(model.top["fc"], nn.Linear)


@pytest.mark.parametrize(
    "cls, head, output, sentence",
    [
        (Softmax, "top.fc", None, "'top.fc' must be the last one, but its result differs from the model's logits"),
        (Twice, "top.fc", None, "'top.fc' must run once in a forward pass, it ran 2 times"),
        (Unused, "top.fc", None, "'top.fc' must run once in a forward pass, it ran 0 times"),
        (Net, "fc", None, "head must name a layer of the model, got 'fc': its last ones are"),
        (Net, "", None, "head must name a layer of the model, got ''"),
        (Net, "stem.0", None, "'stem.0' must be the last one, but the model does not run without it"),
        (Net, "stem.2", None, "'stem.2' must have weights to be a head, and ReLU has none: name the last one"),
        (Net, "stem.1", None, "'stem.1' must be the last one, but its result differs from the model's logits"),
        (Net, "stem", None, "'stem' must be the last one, but the model does not run without it"),
        (Fails, "top.fc", None, "'top.fc' must be the last one, but the model does not run without it"),
        (Field, "top.fc", None, "must return a tensor of logits, got dict with 'logits', 'features': .* output='logits'"),
        (Field, "top.fc", "features", "must be the last one, but its result differs from the model's logits"),
        (Field, "top.fc", "scores", "output must name a field of what the model returns, got 'scores'"),
        (Attribute, "top.fc", "scores", "output must name a field of what the model returns, got 'scores'"),
    ],
)
def test_models_that_cannot_be_split_are_handed_back_unchanged(
    cls: type[Net], head: str, output: str | None, sentence: str
) -> None:
    model = made(cls)
    model.stem[1].eval()
    layers, were = dict(model.named_modules()), modes(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=sentence) as refusal:
        Classifier.split(model, head, example=IMAGES, output=output)
    assert is_one_sentence(str(refusal.value))
    assert dict(model.named_modules()) == layers and modes(model) == were
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_an_example_of_the_wrong_shape_leaves_the_model_alone() -> None:
    model = made(Net)
    head, were = model.top["fc"], modes(model)
    with pytest.raises(ValueError, match=r"must run on the example, a tensor of shape \(3, 5\) .*, but: Expected"):
        Classifier.split(model, "top.fc", example=torch.rand(3, 5))
    assert model.top["fc"] is head and modes(model) == were and not head._forward_hooks


def test_tokens_and_dense_predictions_are_split_too() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.fc = TokenNet(), nn.Linear(7, CLASSES)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.net(ids, mask))
            return logits

    example = inputs("tokens", 3)
    assert isinstance(example, dict)
    model = Tokens()
    expected = model(**example)
    net = Classifier.split(model, "fc", example=example)
    torch.testing.assert_close(net(example), expected)
    dense = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, CLASSES, 1))
    expected = dense(IMAGES)
    net = Classifier.split(dense, "1", example=IMAGES)
    assert net.num_classes == CLASSES
    torch.testing.assert_close(net(IMAGES), expected)


@pytest.mark.parametrize("split", [False, True])
def test_copies_share_nothing_and_states_travel(split: bool) -> None:
    net = Classifier.split(made(Net), "top.fc", example=IMAGES) if split else classifier("images")
    copied = copy.deepcopy(net).eval()
    expected = copied(IMAGES)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert torch.equal(copied(IMAGES), expected)
    other = Classifier.split(made(Net), "top.fc", example=IMAGES) if split else classifier("images", seed=4)
    other.load_state_dict(copied.state_dict())
    assert torch.equal(other.eval()(IMAGES), expected)
    if split:
        assert torch.equal(copied.join()(IMAGES), expected)


def test_compiled_and_exported_classifiers_give_the_same_logits() -> None:
    torch._dynamo.reset()
    net = Classifier(nn.Sequential(Normalize([0.5, 0.4], [0.2, 0.3]), made(Net).stem), nn.Linear(108, CLASSES)).eval()
    expected = net(IMAGES)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(IMAGES), expected)
    torch.testing.assert_close(torch.export.export(net, (IMAGES,)).module()(IMAGES), expected)


def test_only_a_split_classifier_is_joined() -> None:
    with pytest.raises(ValueError, match=r"Only a classifier made by Classifier.split can be joined") as refusal:
        classifier("images").join()
    assert is_one_sentence(str(refusal.value))


def test_the_number_of_classes() -> None:
    assert Classifier(nn.Flatten(), nn.Conv2d(3, 9, 1)).num_classes == 9
    assert Classifier(nn.Flatten(), nn.Sequential(nn.Linear(2, 3)), num_classes=3).num_classes == 3
    for head, given in ((nn.Sequential(nn.Linear(2, 3)), None), (nn.Linear(2, 3), 0), (nn.Identity(), -1)):
        with pytest.raises(ValueError, match="num_classes must be a whole number of at least 1, got") as refusal:
            Classifier(nn.Flatten(), head, num_classes=given)
        assert is_one_sentence(str(refusal.value))


def test_normalisation() -> None:
    layer = Normalize([0.5, 0.25], [0.5, 2.0])
    x = torch.stack([torch.full((2, 3), 1.0), torch.full((2, 3), 0.0)])[None]
    assert torch.equal(layer(x)[0, :, 0, 0], torch.tensor([1.0, -0.125]))
    assert set(layer.state_dict()) == {"mean", "std"} and not list(layer.parameters())
    assert layer.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "mean, std",
    [([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([0.5], [-1.0]), ([0.5], [float("nan")]), ([float("nan")], [0.5])],
)
def test_wrong_normalisations_are_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="mean and std must be") as refusal:
        Normalize(mean, std)
    assert is_one_sentence(str(refusal.value))


def test_dropout_after_the_head_is_refused_and_handed_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Dropout(0.5))
    layer = model[1]
    with pytest.raises(ValueError, match="'1' must be the last one, but dropout '2' follows"):
        Classifier.split(model, "1", example=torch.rand(2, 1, 4, 4))
    assert model[1] is layer
