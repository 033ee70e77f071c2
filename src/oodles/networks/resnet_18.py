"""ResNet-18 in the form that small images take (He et al., CVPR 2016): no stride and no pooling at the entrance."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import relu

from oodles.checks import check_sides

WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """Two 3 × 3 convolutions, and the input added to what they give."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            projection = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels_out))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = relu(self.bn1(self.conv1(inputs)))
        return relu(self.bn2(self.conv2(hidden)) + self.shortcut(inputs))


def resnet_18(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Build four stages of two blocks, 512 features averaged over the image; 11.2 million parameters.

    It opens with a 3 × 3 convolution without stride, as in the CIFAR programs of this field; images of 64 pixels and
    more are first halved twice (a 7 × 7 convolution with stride 2 and max pooling), as in the paper.

    Args:
        num_classes: how many logits the last layer, ``fc``, gives.
        input_shape: (C, H, W), sides of at least 8 pixels.

    Raises:
        ValueError: for smaller images.
    """
    channels, *sides = input_shape
    check_sides("resnet-18", input_shape, 8)
    large = min(sides) >= 64
    kernel = 7 if large else 3
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, WIDTHS[0], kernel, stride=2 if large else 1, padding=kernel // 2, bias=False),
        bn=nn.BatchNorm2d(WIDTHS[0]),
        relu=nn.ReLU(),
    )
    if large:
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    for stage, (channels_in, channels_out) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)):
        first = Block(channels_in, channels_out, stride=2 if stage else 1)
        layers[f"stage{stage + 1}"] = nn.Sequential(first, Block(channels_out, channels_out, stride=1))
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(WIDTHS[-1], num_classes)}
    return nn.Sequential(layers)
