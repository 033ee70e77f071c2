"""A perceptron with a hidden layer, for feature vectors: tables, and texts that an encoder has read."""

import math
from collections import OrderedDict

from torch import nn

WIDTH = 512


def mlp(num_classes: int, input_shape: tuple[int, ...], width: int = WIDTH) -> nn.Module:
    """Build a network of one hidden layer with ReLU, which gives the features.

    Args:
        num_classes: C, the number of logits.
        input_shape: (F,), or that of rows which are taken apart into so many numbers.
        width: of the hidden layer, and the number of features.
    """
    hidden = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.ReLU())
    return nn.Sequential(OrderedDict(layers=hidden, fc=nn.Linear(width, num_classes)))
