"""Losses against those of pytorch-ood, where it is installed: python benchmarks/losses.py

Forward and backward, from logits and features to their gradients, on the same rows with the same settings.
"""

import torch
from mixers import Functions, import_peer
from timing import keep_freed_memory, ratios, record, show
from torch import Tensor

from oodles import CAC, ConfidenceBranch, EnergyBounded, EntropicOpenSet, Objectosphere, OutlierExposureLoss
from oodles.targets import cross_entropy

ROWS, OUTLIERS, CLASSES, FEATURES = 128, 256, 100, 512


def pairs() -> dict[str, Functions]:
    """Return each loss with its cross-entropy, ours first; 128 in-distribution rows, 256 outliers and 100 classes."""
    torch.manual_seed(0)
    y = torch.arange(ROWS) % CLASSES
    labels = torch.cat([y, torch.full((OUTLIERS,), -1)])
    logits_in, logits_out, features_in, features_out, confidence = (
        torch.randn(*size, requires_grad=True)
        for size in ((ROWS, CLASSES), (OUTLIERS, CLASSES), (ROWS, FEATURES), (OUTLIERS, FEATURES), (ROWS, 1))
    )
    oe, bounded = OutlierExposureLoss(), EnergyBounded()
    entropic, sphere, cac, branch = EntropicOpenSet(), Objectosphere(), CAC(), ConfidenceBranch()

    def both(values: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat(values)

    logits, features = (logits_in, logits_out), (features_in, features_out)
    losses: dict[str, Functions] = {
        "Outlier Exposure": {"oodles": lambda: oe(logits_in, y, logits_out).backward()},
        "energy": {"oodles": lambda: (cross_entropy(logits_in, y) + bounded(*logits)).backward()},
        "entropic": {"oodles": lambda: (cross_entropy(logits_in, y) + entropic(logits_out)).backward()},
        "objectosphere": {
            "oodles": lambda: (cross_entropy(logits_in, y) + entropic(logits_out) + sphere(*features)).backward()
        },
        "CAC": {"oodles": lambda: cac(logits_in, y).backward()},
        "confidence": {"oodles": lambda: branch(logits_in, confidence, y).backward()},
    }
    if peers := import_peer("pytorch_ood.loss"):
        peer_oe, peer_energy, peer_entropic = (
            peers.OutlierExposureLoss(),
            peers.EnergyRegularizedLoss(),
            peers.EntropicOpenSetLoss(),
        )
        peer_sphere = peers.ObjectosphereLoss(alpha=1e-4, xi=50.0)
        peer_cac, peer_confidence = peers.CACLoss(CLASSES, magnitude=10.0, alpha=0.1), peers.ConfidenceLoss(alpha=0.1)
        losses["Outlier Exposure"]["pytorch-ood"] = lambda: peer_oe(both(logits), labels).backward()
        losses["energy"]["pytorch-ood"] = lambda: peer_energy(both(logits), labels).backward()
        losses["entropic"]["pytorch-ood"] = lambda: peer_entropic(both(logits), labels).backward()
        losses["objectosphere"]["pytorch-ood"] = lambda: peer_sphere(both(logits), both(features), labels).backward()
        losses["CAC"]["pytorch-ood"] = lambda: peer_cac(peer_cac.distance(logits_in), y).backward()
        losses["confidence"]["pytorch-ood"] = lambda: peer_confidence(
            logits_in, torch.sigmoid(confidence), y
        ).backward()
    return losses


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)
    tables = {name: ratios(functions, "oodles", repeats=20) for name, functions in pairs().items()}
    for name, table in tables.items():
        show(f"{name}, {ROWS} + {OUTLIERS} rows of {CLASSES} classes", "oodles", table)
    record("losses", tables)
