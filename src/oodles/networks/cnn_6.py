"""Six convolutions: a network for images of about 28 × 28 or 32 × 32 pixels that a CPU trains in a minute."""

from collections import OrderedDict

from torch import nn

from oodles.checks import check_sides

WIDTH = 16


def cnn_6(num_classes: int, input_shape: tuple[int, ...], width: int = WIDTH) -> nn.Module:
    """Build three stages of two 3 × 3 convolutions with batch norm, max pooling between them and a mean at the end.

    Args:
        num_classes: how many logits the last layer, ``fc``, gives.
        input_shape: (C, H, W), sides of at least 16 pixels.
        width: channels of the first stage; the others have twice and four times as many.

    Raises:
        ValueError: for smaller images.
    """
    channels = input_shape[0]
    check_sides("cnn-6", input_shape, 16, ": try small-cnn")
    layers = OrderedDict(
        stage1=_stage(channels, width),
        pool1=nn.MaxPool2d(2),
        stage2=_stage(width, 2 * width),
        pool2=nn.MaxPool2d(2),
        stage3=_stage(2 * width, 4 * width),
        average=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(4 * width, num_classes),
    )
    return nn.Sequential(layers)


def _stage(channels_in: int, channels_out: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        convolution = nn.Conv2d(channels, channels_out, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]
    return nn.Sequential(*layers)
