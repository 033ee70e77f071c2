"""Wide ResNet with 40 layers, twice as wide (Zagoruyko and Komodakis, BMVC 2016): the network of many OOD papers."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import relu

from oodles.checks import check_sides

WIDTHS = (16, 32, 64, 128)
BLOCKS = 6  # per stage: 40 layers = 1 + 3 stages × 6 blocks × 2 convolutions + 2 projections + 1 head


class Block(nn.Module):
    """Batch norm and ReLU before each of two 3 × 3 convolutions, and the input added to what they give."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        before = relu(self.bn1(inputs))
        hidden = self.conv2(relu(self.bn2(self.conv1(before))))
        # a projection sees the normalised input, as in the authors' network
        total: Tensor = hidden + (inputs if self.shortcut is None else self.shortcut(before))
        return total


def wrn_40_2(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Build three stages of six blocks, 128 features averaged over the image; 2.2 million parameters, without dropout.

    Args:
        num_classes: how many logits the last layer, ``fc``, gives.
        input_shape: (C, H, W), sides of at least 8 pixels.

    Raises:
        ValueError: for smaller images.
    """
    channels = input_shape[0]
    check_sides("wrn-40-2", input_shape, 8)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False))
    for stage in (1, 2, 3):
        first = Block(WIDTHS[stage - 1], WIDTHS[stage], stride=1 if stage == 1 else 2)
        others = [Block(WIDTHS[stage], WIDTHS[stage], stride=1) for _ in range(BLOCKS - 1)]
        layers[f"stage{stage}"] = nn.Sequential(first, *others)
    layers |= {"bn": nn.BatchNorm2d(WIDTHS[-1]), "relu": nn.ReLU(), "average": nn.AdaptiveAvgPool2d(1)}
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(WIDTHS[-1], num_classes)}
    return nn.Sequential(layers)
