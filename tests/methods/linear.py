"""What tests of last layers share: features of three classes, a classifier that has nothing but its last layer."""

import torch
from torch import Tensor, nn

from oodles import Classifier

WEIGHT = [[0.5, -1.0, 2.0, 0.3, -0.2], [1.5, 0.25, -0.75, 0.1, 0.4], [-0.5, 0.6, 0.2, -1.1, 0.9]]
BIAS = [0.1, -0.2, 0.3]
IDS = torch.tensor([0, 2, 1, 2])
PROBABILITIES = [[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]]
TARGETS = {"class ids": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "soft": PROBABILITIES}
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def features(rows: int = 4, *, seed: int = 0, dtype: torch.dtype = torch.float64, signed: bool = False) -> Tensor:
    """Features of at least 0, as behind a ReLU, or of both signs."""
    drawn = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn if signed else drawn.abs()).to(dtype)


def targets(kind: str, dtype: torch.dtype = torch.float64) -> Tensor:
    return IDS if kind == "class ids" else torch.tensor(PROBABILITIES, dtype=dtype)


def classifier(dtype: torch.dtype = torch.float64) -> Classifier:
    head = nn.Linear(5, 3, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(WEIGHT, dtype=torch.float64))
        head.bias.copy_(torch.tensor(BIAS, dtype=torch.float64))
    return Classifier(nn.Identity(), head).to(dtype)
