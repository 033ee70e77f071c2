"""A small convolutional network that trains on a CPU in seconds."""

from collections import OrderedDict

from torch import nn

from oodles.checks import check_sides

WIDTH = 16


def small_cnn(num_classes: int, input_shape: tuple[int, ...], width: int = WIDTH) -> nn.Module:
    """Build 3 × 3 convolutions with batch norm, halved by max pooling until a side is below 8, and a flattened head.

    Flattened features keep where strokes are, which averaged ones would lose.

    Args:
        num_classes: how many logits the last layer, ``fc``, gives.
        input_shape: (C, H, W), sides of at least 8 pixels.
        width: channels of the first layer; later ones have twice as many.

    Raises:
        ValueError: for smaller images.
    """
    check_sides("small-cnn", input_shape, 8)
    channels, height, width_in = input_shape
    layers = [*_block(channels, width)]
    inner = width
    while min(height, width_in) >= 8:
        layers += [*_block(inner, 2 * width), nn.MaxPool2d(2)]
        inner, height, width_in = 2 * width, height // 2, width_in // 2
    layers += [*_block(inner, 2 * width), nn.Flatten()]
    features = inner * height * width_in
    return nn.Sequential(OrderedDict(layers=nn.Sequential(*layers), fc=nn.Linear(features, num_classes)))


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()
