"""Mixers against other libraries, where they are installed: python benchmarks/mixers.py

timm and torchvision need a torch build that they import with, so this usually runs in an environment of its own.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import torch
from timing import keep_freed_memory, ratios, record, show

from oodles.methods.cutmix import cutmix_data
from oodles.methods.mixup import mixup_data
from oodles.targets import soft_targets

Functions = dict[str, Callable[[], object]]


def import_peer(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError) as reason:
        print(f"{name} is left out: {reason}")
        return None


def mixers(kind: str, x: torch.Tensor, y: torch.Tensor) -> Functions:
    """Return per-batch and per-row mixing, each with soft targets, as a training loop needs them."""
    mix = mixup_data if kind == "mixup" else cutmix_data

    def ours(per_sample: bool) -> object:
        mixed, y_a, y_b, lam = mix(x, y, 1.0, per_sample=per_sample)
        return mixed, soft_targets(y_a, y_b, lam, 10)

    functions: Functions = {"oodles": lambda: ours(False), "oodles per sample": lambda: ours(True)}
    if timm := import_peer("timm.data.mixup"):
        alphas = (
            {"mixup_alpha": 1.0, "cutmix_alpha": 0.0} if kind == "mixup" else {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}
        )
        for mode in ("batch", "pair", "elem"):
            peer = timm.Mixup(**alphas, mode=mode, num_classes=10, label_smoothing=0.0)
            # timm writes into its argument; the time does not depend on the values in x
            functions[f"timm {mode}"] = lambda peer=peer: peer(x, y.clone())
    if vision := import_peer("torchvision.transforms.v2"):
        peer = (vision.MixUp if kind == "mixup" else vision.CutMix)(alpha=1.0, num_classes=10)
        functions["torchvision"] = lambda: peer(x, y)
    if incerto := import_peer("incerto.ood.training"):
        peer_cutmix = incerto.CutMix(alpha=1.0)
        functions["incerto"] = lambda: incerto.mixup_data(x, y, 1.0) if kind == "mixup" else peer_cutmix(x, y)
    return functions


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)
    tables = {}
    for kind in ("mixup", "cutmix"):
        x, y = torch.rand(256, 3, 32, 32), torch.arange(256) % 10
        tables[kind] = ratios(mixers(kind, x, y), "oodles", rounds=20, repeats=20)
        show(f"{kind}, 256 × 3 × 32 × 32, one thread", "oodles", tables[kind])
    record("mixers", tables)
