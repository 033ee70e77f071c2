"""Classifiers: made from any model by naming its last layer, and given back."""

import copy
import math
from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, IsoMax, Normalize, T2FNorm, TrainingStep

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
        (
            Field,
            "top.fc",
            None,
            "must return a tensor of logits, got dict with 'logits', 'features': .* output='logits'",
        ),
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


class InTraining(Net):
    """Does something else in training mode."""

    def __init__(self, then: str):
        super().__init__()
        self.then = then

    def forward(self, x: Tensor) -> Any:
        features = self.stem(x)
        logits = self.top["fc"](features)
        if not self.training:
            return logits
        match self.then:
            case "softmax":
                return logits.softmax(1)
            case "dropout":
                return nn.functional.dropout(logits, 0.5)
            case "twice":
                return logits + self.top["fc"](features.flip(0))
            case "several":
                return logits, features
            case "fails":
                raise RuntimeError("targets are missing")
            case "noise before":
                return self.top["fc"](features + torch.randn_like(features))
        return logits


DIFFERS = "'top.fc' must be the last one, but its result differs from the model's logits in training mode"


@pytest.mark.parametrize(
    "then, sentence",
    [
        ("softmax", DIFFERS),
        ("dropout", DIFFERS),
        ("twice", DIFFERS),
        ("several", "a tensor of logits in training mode, got a tuple of 2: name the position"),
        ("fails", "must run on the example in training mode, a tensor of .*, but: targets are missing"),
    ],
)
def test_models_that_do_something_else_in_training_are_refused(then: str, sentence: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InTraining(then)
    head, were = model.top["fc"], modes(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=sentence) as refusal:
        Classifier.split(model, "top.fc", example=IMAGES)
    assert is_one_sentence(str(refusal.value))
    assert model.top["fc"] is head and modes(model) == were
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("rows", [1, 3])
def test_dropout_noise_and_batch_norm_before_the_head_are_split(rows: int) -> None:
    model = InTraining("")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    net = Classifier.split(model, "top.fc", example=IMAGES[:rows])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.join().state_dict().items())
    assert Classifier.split(InTraining("noise before"), "top.fc", example=IMAGES).num_classes == CLASSES


def test_a_model_is_split_once_at_a_time() -> None:
    model = made(Net)
    net = Classifier.split(model, "top.fc", example=IMAGES)
    for head in ("top.fc", "stem.0"):
        with pytest.raises(ValueError, match=r"has been split already, .* its layer 'top.fc': go on with") as refusal:
            Classifier.split(model, head, example=IMAGES)
        assert is_one_sentence(str(refusal.value))
    assert Classifier.split(net.join(), "top.fc", example=IMAGES).num_classes == CLASSES


def convolutional(kind: str) -> nn.Module:
    """Build a network whose last layer is a convolution; it makes rows of the result."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem, last = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU()), nn.Conv2d(5, CLASSES, 1, bias=kind != "no bias")
        pool = nn.AdaptiveAvgPool2d(1)
        match kind:
            case "pooled after":
                return nn.Sequential(stem, last, pool, nn.Flatten())
            case "weight norm":
                return nn.Sequential(stem, pool, nn.utils.parametrizations.weight_norm(last), nn.Flatten())
            case "max":
                return nn.Sequential(stem, last, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        return nn.Sequential(stem, pool, last, nn.Flatten())


@pytest.mark.parametrize("kind", ["pooled before", "no bias", "pooled after", "weight norm"])
def test_convolutions_that_give_rows_are_heads_of_vectors(kind: str) -> None:
    model = convolutional(kind)
    at = "1" if kind == "pooled after" else "2"
    layer = model.get_submodule(at)
    layer.eval().requires_grad_(kind == "no bias")
    expected = model(IMAGES)
    net = Classifier.split(model, at, example=IMAGES)
    assert (net.num_features, net.num_classes, net.dense) == (5, CLASSES, False)
    assert net.features(IMAGES).shape == (3, 5)
    torch.testing.assert_close(net(IMAGES), expected)
    with torch.no_grad():
        for parameter in net.head.parameters():
            assert parameter.requires_grad == (kind == "no bias")
            parameter.mul_(-2)
    net.double()
    trained = net(IMAGES.double())
    joined = net.join()
    assert joined is model and joined.get_submodule(at) is layer and not layer.training
    torch.testing.assert_close(joined(IMAGES.double()), trained)
    if kind != "weight norm":
        torch.testing.assert_close(trained, -2 * expected.double(), rtol=1e-4, atol=1e-5)
        assert {parameter.requires_grad for parameter in layer.parameters()} == {kind == "no bias"}


@pytest.mark.parametrize("kind, at", [("pooled before", "2"), ("pooled after", "1")])
def test_the_head_of_a_method_is_joined_in_the_place_of_a_convolution(kind: str, at: str) -> None:
    net = Classifier.split(convolutional(kind), at, example=IMAGES)
    TrainingStep(net, T2FNorm())
    expected = net(IMAGES)
    joined = net.join()
    torch.testing.assert_close(joined(IMAGES), expected)
    assert Classifier.split(joined, at, example=IMAGES).num_features == 5
    net = Classifier.split(convolutional(kind), at, example=IMAGES)
    TrainingStep(net, IsoMax())
    expected = net(IMAGES)
    if kind == "pooled before":
        torch.testing.assert_close(net.join()(IMAGES), expected)
    else:
        with pytest.raises(
            ValueError, match="pools what its last layer gives at 36 places, and DistanceHead"
        ) as refusal:
            net.join()
        assert is_one_sentence(str(refusal.value))


def test_a_convolution_under_a_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="'1' must be the last one, but its result differs"):
        Classifier.split(convolutional("max"), "1", example=IMAGES)


@pytest.mark.parametrize("then", [nn.ReLU(), nn.Hardtanh(-1e-9, 1e-9)])
def test_a_head_of_zeros_hides_nothing_that_follows(then: nn.Module) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3), then)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with pytest.raises(ValueError, match="'1' must be the last one, but its result differs"):
        Classifier.split(model, "1", example=IMAGES)
    assert not any(bool(parameter.any()) for parameter in model.parameters())
    net = Classifier.split(model[:2], "1", example=IMAGES)
    assert not any(bool(parameter.any()) for parameter in net.parameters())


Pair = namedtuple("Pair", ["features", "scores"])


@dataclass
class Result:
    scores: Tensor
    note: str = ""


class Several(Net):
    def __init__(self, form: str):
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Any:
        features = self.stem(x)
        scores = self.top["fc"](features)
        return {
            "tuple": (features, scores),
            "list": [features, scores],
            "pair": Pair(features, scores),
            "mapping": UserDict(features=features, scores=scores),
            "object": Result(scores),
            "none": None,
            "row": scores[:, 0],
        }[self.form]


@pytest.mark.parametrize(
    "form, output, got",
    [
        ("tuple", 1, "a tuple of 2: name the position of the logits, as in output=0"),
        ("list", -1, "a list of 2: name the position of the logits, as in output=0"),
        ("pair", "scores", "Pair with 'features', 'scores': name the one that holds logits, as in output='features'"),
        ("pair", 1, "Pair with 'features', 'scores'"),
        ("mapping", "scores", "UserDict with 'features', 'scores'"),
        ("object", "scores", "Result with 'scores': name the one that holds logits, as in output='scores'"),
    ],
)
def test_models_that_return_several_things(form: str, output: str | int, got: str) -> None:
    with pytest.raises(ValueError, match=f"must return a tensor of logits, got {got}") as refusal:
        Classifier.split(Several(form), "top.fc", example=IMAGES)
    assert is_one_sentence(str(refusal.value))
    for wrong in (5, "nothing"):
        with pytest.raises(ValueError, match=f"output must name a field of what the model returns, got {wrong!r}, and"):
            Classifier.split(Several(form), "top.fc", example=IMAGES, output=wrong)
    net = Classifier.split(Several(form), "top.fc", example=IMAGES, output=output)
    assert net.num_classes == CLASSES and net.features(IMAGES).shape == (3, 108)


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(128, 3)))  # type: ignore[no-any-return]


def flat(*then: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 3), *then)


def with_nan() -> nn.Module:
    model = flat()
    nn.init.constant_(model[1].bias, math.nan)
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "make, head, example, sentence",
    [
        (scripted, "1", IMAGES, "model must be an ordinary module, got TorchScript"),
        (
            lambda: nn.DataParallel(flat()),
            "module.1",
            IMAGES,
            "the network itself, got DataParallel: split model.module",
        ),
        (lambda: torch.compile(flat()), "1", IMAGES, "the network itself, got what torch.compile made of it"),
        (lambda: len, "1", IMAGES, "model must be a torch.nn.Module, got builtin"),
        (lambda: flat(nn.Softmax(1)), "2", IMAGES, "'2' must have weights to be a head, and Softmax has none"),
        (flat, "1", IMAGES.numpy(), "example must be a tensor of inputs, or a dictionary of them, got ndarray"),
        (flat, "1", [IMAGES], "example must be a tensor of inputs, or a dictionary of them, got list"),
        (
            flat,
            "1",
            IMAGES[0],
            r"must run on the example, .* \(a single image needs another dimension, example\[None\]\), but",
        ),
        (lambda: flat()[1:], "1", torch.rand(128), r"logits of shape .* got \(3,\) for a tensor of shape \(128,\)"),
        (lambda: Several("row"), "top.fc", IMAGES, r"logits of shape .* got \(3,\) for a tensor of shape"),
        (lambda: Several("none"), "top.fc", IMAGES, "must return a tensor of logits, got NoneType"),
        (with_nan, "1", IMAGES, "logits must be finite, got NaN or infinity: its weight '1.bias' holds such"),
        (flat, "1", IMAGES * math.nan, "logits must be finite, got NaN or infinity: the example holds such"),
    ],
)
def test_what_cannot_be_split_is_told(make: Any, head: str, example: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence) as refusal:
        Classifier.split(make(), head, example=example)
    assert is_one_sentence(str(refusal.value))


class Tied(nn.Module):
    """Predicts a word by the embedding that it reads words with."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(7, 5), nn.Linear(5, 7, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.last(self.embedding(ids).mean(1))
        return logits


def test_other_models_that_are_split() -> None:
    ids = torch.arange(6).reshape(2, 3)
    net = Classifier.split(Tied(), "last", example=UserDict(ids=ids))
    TrainingStep(net, T2FNorm())
    assert net.head.weight is net.backbone.embedding.weight and len(list(net.parameters())) == 1
    lazy = Classifier.split(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "1", example=IMAGES)
    assert (lazy.num_features, lazy.num_classes) == (128, 3)
    for dtype in (torch.float16, torch.bfloat16):
        assert Classifier.split(flat().to(dtype), "1", example=IMAGES.to(dtype)).num_classes == 3
    assert Classifier.split(flat().to("meta"), "1", example=IMAGES.to("meta")).num_features == 128
    traced = Classifier.split(torch.fx.symbolic_trace(flat()), "1", example=IMAGES)
    assert traced.features(IMAGES).shape == (3, 128)
    deep = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Dropout(0.5), nn.Linear(128, 6), nn.ReLU(), nn.Linear(6, 3)))
    assert Classifier.split(deep, "1", example=IMAGES).num_features == 128


def test_names_in_a_model_that_returns_several_things() -> None:
    """With and without a layer before it, they are those of the model's own state."""
    for before in (None, Normalize([0.5, 0.5], [0.25, 0.25])):
        model = _Both()
        names = set(model.state_dict())
        net = Classifier.split(model, "model.fc", example=IMAGES, output="logits")
        net = net if before is None else net.normalized_by(before)
        assert (
            set(net.own_names().values()) == names == {"model.fc.weight", "model.fc.bias", "first.weight", "first.bias"}
        )


class _Both(nn.Module):
    """Returns a dictionary, and has a part of the name that stands before its parts' names in a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.model = nn.Linear(128, 5), nn.ModuleDict({"fc": nn.Linear(5, 3)})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.first(images.flatten(1))
        return {"features": features, "logits": self.model["fc"](features)}


def test_frozen_batch_norms_leave_all_other_layers_as_they_are() -> None:
    norm, batchwise, dropout = nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False), nn.Dropout()
    backbone = nn.Sequential(nn.Linear(4, 4), nn.Sequential(norm, batchwise, nn.LayerNorm(4)), dropout)
    classifier = Classifier(backbone, nn.Linear(4, 2)).train_only("head")
    assert [name for name, parameter in classifier.named_parameters() if parameter.requires_grad] == [
        "head.weight",
        "head.bias",
    ]
    classifier.train_only("all", batch_norm="frozen")
    assert [layer for layer in backbone.modules() if not layer.training] == [norm]
    assert not any(layer.training for layer in classifier.eval().modules())
    classifier.train_only("all")
    assert not classifier.training and classifier.train() is classifier
    assert all(layer.training for layer in classifier.modules())
    assert all(parameter.requires_grad for parameter in classifier.parameters())
