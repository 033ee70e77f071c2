"""Networks of other libraries, where these are installed: by name with new weights, or from files with their own."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from oodles.networks.onnx_file import onnx_network
from oodles.spelling import suggestion


class Guest(NamedTuple):
    """A network of another library."""

    model: nn.Module
    output: str | None = None
    """The field of what it returns that holds logits."""
    mean: Sequence[float] | None = None
    """Per channel: what its weights, here or elsewhere, were trained with."""
    std: Sequence[float] | None = None


def library_of(network: str) -> str | None:
    """Return the word for the library that a network's name is of, ``onnx`` for a file of that form, or none."""
    word = "onnx" if network.endswith(".onnx") else network.partition(":")[0]
    return word if word in GUESTS else None


def build_guest(network: str, num_classes: int, input_shape: tuple[int, ...]) -> Guest:
    """Build a network by ``timm:NAME``, ``torchvision:NAME``, ``hf:FOLDER`` or ``FILE.onnx``; nothing is downloaded.

    Raises:
        ImportError: where the library is not installed.
        FileNotFoundError: for a folder or file that is not there.
        ValueError: for a name that it does not have, and what it refuses to build.
    """
    library = library_of(network) or ""
    packages, extra, build = GUESTS[library]
    try:
        modules = [import_module(package) for package in packages]
    except ImportError as error:
        raise ImportError(f"{network} needs {' and '.join(packages)}: pip install 'oodles[{extra}]'.") from error
    return build(*modules, network.removeprefix(f"{library}:"), num_classes, input_shape)


def _timm(timm: Any, name: str, num_classes: int, input_shape: tuple[int, ...]) -> Guest:
    if not timm.is_model(name.partition(".")[0]):  # other names would be looked up elsewhere
        raise ValueError(f"timm has no network {name!r}{suggestion(name, timm.list_models())}")
    channels, *sides = input_shape
    about = timm.get_pretrained_cfg(name)
    size = {"img_size": tuple(sides)} if about is not None and about.fixed_input_size else {}
    model = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels, **size)
    return Guest(model, mean=model.pretrained_cfg.get("mean"), std=model.pretrained_cfg.get("std"))


def _torchvision(torchvision: Any, name: str, num_classes: int, input_shape: tuple[int, ...]) -> Guest:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ValueError(f"torchvision has no network {name!r}{suggestion(name, names)}")
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()  # of weights that are not read
    return Guest(model, mean=transforms.mean, std=transforms.std)


def _hugging_face(transformers: Any, folder: str, num_classes: int, input_shape: tuple[int, ...]) -> Guest:
    place = Path(folder)
    if not (place / "config.json").is_file() or not any(place.glob("*.safetensors")):
        raise FileNotFoundError(f"hf:{folder} must be a folder with config.json and weights as .safetensors.")
    model = transformers.AutoModelForImageClassification.from_pretrained(
        place,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        num_labels=num_classes,
        ignore_mismatched_sizes=True,  # of a last layer for other classes, which is drawn anew
    )
    images = place / "preprocessor_config.json"
    about = json.loads(images.read_text(encoding="utf-8")) if images.is_file() else {}
    return Guest(model.float(), output="logits", mean=about.get("image_mean"), std=about.get("image_std"))


def _onnx(onnx: Any, runtime: Any, path: str, num_classes: int, input_shape: tuple[int, ...]) -> Guest:
    return Guest(onnx_network(onnx, runtime, Path(path), input_shape))


GUESTS: dict[str, tuple[Sequence[str], str, Callable[..., Guest]]] = {
    "timm": (("timm",), "timm", _timm),
    "torchvision": (("torchvision",), "vision", _torchvision),
    "hf": (("transformers",), "hf", _hugging_face),
    "onnx": (("onnx", "onnxruntime"), "onnx", _onnx),
}
"""By the word for a library: its packages, the extra that brings them, and what builds a network."""
