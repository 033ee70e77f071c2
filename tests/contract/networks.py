"""Tiny classifiers and inputs of every kind that a step works on: vectors, images, tokens with a mask, dense labels."""

import torch
from torch import Tensor, nn

from oodles import Batch, Classifier, Part

CLASSES = 4
KINDS = ("vectors", "images", "tokens", "dense")
ID_ROWS, OUTLIER_ROWS, WILD_ROWS = 6, 10, 8


class TokenNet(nn.Module):
    """A masked mean of embeddings, then a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 5)
        self.linear = nn.Linear(5, 7)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        weights = mask.to(self.embedding.weight.dtype)[:, :, None]
        mean = (self.embedding(ids) * weights).sum(1) / weights.sum(1)
        return torch.tanh(self.linear(mean))


class Teacher(nn.Module):
    """Gives logits of rows of any kind, which differ from those of the classifiers."""

    def __init__(self, classes: int = CLASSES):
        super().__init__()
        self.classes = classes

    def forward(self, rows: Tensor | None = None, **named: Tensor) -> Tensor:
        given = named["ids"].float() if rows is None else rows
        angles = given.flatten(1).mean(1, keepdim=True) * torch.arange(1, self.classes + 1, device=given.device)
        return 3 * torch.cos(5 * angles)


def classifier(
    kind: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, classes: int = CLASSES, noisy: bool = False
) -> Classifier:
    """Build a smooth network for one kind, the same for the same seed; ``noisy`` adds batch norm and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone: nn.Module
        head: nn.Module = nn.Linear(7, classes)
        if kind == "vectors":
            extra = [nn.BatchNorm1d(7), nn.Dropout(0.3)] if noisy else []
            backbone = nn.Sequential(nn.Linear(6, 7), *extra, nn.Tanh())
        elif kind == "images":
            extra = [nn.BatchNorm2d(3), nn.Dropout(0.3)] if noisy else []
            pool = nn.AdaptiveAvgPool2d(2)  # images of other sizes pass as well
            backbone = nn.Sequential(
                nn.Conv2d(2, 3, 3), *extra, nn.Tanh(), pool, nn.Flatten(), nn.Linear(12, 7), nn.Tanh()
            )
        elif kind == "tokens":
            backbone = TokenNet()
        elif kind == "dense":
            extra = [nn.BatchNorm2d(7), nn.Dropout(0.3)] if noisy else []
            backbone = nn.Sequential(nn.Conv2d(2, 7, 3, padding=1), *extra, nn.Tanh())
            head = nn.Conv2d(7, classes, 1)
        else:
            raise ValueError(kind)
        made = Classifier(backbone, head)
        return made if dtype == torch.float32 else made.to(dtype)


def inputs(kind: str, rows: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor | dict[str, Tensor]:
    """Draw inputs in [0, 1], or tokens with a mask that leaves some out."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "tokens":
        ids = torch.randint(12, (rows, 5), generator=generator)
        mask = torch.rand(rows, 5, generator=generator) < 0.7
        mask[:, 0] = True
        return {"ids": ids, "mask": mask}
    shape = (6,) if kind == "vectors" else (2, 8, 8)
    return torch.rand(rows, *shape, generator=generator, dtype=torch.float64).to(dtype)


def labels(kind: str, rows: int, *, seed: int = 0, classes: int = CLASSES) -> Tensor:
    """Draw class ids, one per row or one per pixel."""
    generator = torch.Generator().manual_seed(seed + 1000)
    shape = (rows, 8, 8) if kind == "dense" else (rows,)
    return torch.randint(classes, shape, generator=generator)


def probabilities(kind: str, rows: int, *, seed: int = 0, classes: int = CLASSES) -> Tensor:
    """Draw distributions over classes in float64, one per row or one per pixel."""
    generator = torch.Generator().manual_seed(seed + 2000)
    shape = (rows, classes, 8, 8) if kind == "dense" else (rows, classes)
    return torch.rand(shape, generator=generator, dtype=torch.float64).add(0.1).softmax(1)


def batch(kind: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, rows: int = ID_ROWS) -> Batch:
    """Draw a batch of in-distribution rows and of more outliers and wild rows than those."""
    outliers = inputs(kind, OUTLIER_ROWS * rows // ID_ROWS, seed=seed + 1, dtype=dtype)
    wild = inputs(kind, WILD_ROWS * rows // ID_ROWS, seed=seed + 2, dtype=dtype)
    whole = {"id": Part(inputs(kind, rows, seed=seed, dtype=dtype), labels(kind, rows, seed=seed))}
    return Batch({**whole, "outliers": Part(outliers), "wild": Part(wild)})


def tensors(value: Tensor | dict[str, Tensor]) -> list[Tensor]:
    """Return the tensors of inputs."""
    return list(value.values()) if isinstance(value, dict) else [value]
