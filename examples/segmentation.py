"""Segmentation, with void pixels: the examples of docs/guides/segmentation.md, from which docs/scripts.py makes this file.

All that it writes goes into a new folder.
"""

import os
import shlex
import sys
import tempfile

os.chdir(tempfile.mkdtemp(prefix="oodles-"))
sys.path[0] = os.getcwd()  # modules are looked for there
print("In", os.getcwd())

from oodles.cli import main


def shell(command):
    """Run a command as in a shell, and stop where it fails."""
    print("$", command)
    if code := main(shlex.split(command)[1:]):
        sys.exit(code)


import torch
from torch import nn
from oodles import Classifier, OutlierExposure, TrainingStep, evaluate

SKY, BUILDING, ROAD, UNKNOWN, VOID = 0, 1, 2, 254, 255
COLOURS = torch.tensor([[0.3, 0.5, 0.9], [0.6, 0.4, 0.3], [0.35, 0.35, 0.35]])


def streets(pictures, *colours):
    labels = torch.full((pictures, 24, 24), SKY)
    for place, ids in enumerate(labels):
        ids[6 + place % 4 : 12, place % 9 : place % 9 + 9] = BUILDING
        ids[12:] = ROAD
    images = COLOURS[labels].movedim(-1, 1) + 0.05 * torch.randn(pictures, 3, 24, 24)
    labels[:, 1:][labels[:, 1:] != labels[:, :-1]] = VOID
    for place, (image, ids) in enumerate(zip(images, labels) if colours else ()):
        colour = torch.tensor(colours[place % len(colours)])[:, None, None]
        left = 3 * place % 13 + 2
        image[:, 15:21, left : left + 7] = colour + 0.05 * torch.randn(3, 6, 7)
        ids[14:22, left - 1 : left + 8] = VOID
        ids[15:21, left : left + 7] = UNKNOWN
    return images.clamp(0, 1).contiguous(), labels


torch.manual_seed(0)
vivid = [(0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.9, 0.9, 0.1), (0.9, 0.1, 0.9)]
images, labels = streets(32, *vivid)
known, road = streets(8), streets(8, (0.9, 0.2, 0.6))

backbone = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
classifier = Classifier(backbone, nn.Conv2d(16, 3, 1))
step = TrainingStep(classifier, OutlierExposure(), ignore_index=VOID, ood_index=UNKNOWN)
optimizer = torch.optim.Adam(step.parameter_groups(0.005))
for number in range(120):
    rows = torch.arange(4) + 4 * number % 32
    terms = step((images[rows], labels[rows]))
    optimizer.zero_grad()
    sum(terms.values()).backward()
    optimizer.step()

settings = {"ignore_index": VOID, "ood_index": UNKNOWN}
found = evaluate(classifier, [known], {"road": [road]}, ["msp", "energy"], **settings)
print(found)
for score, metrics in found.metrics["road"].items():
    print(f"{score:6} AUROC by pixel {metrics['auroc']:.1%}")

from oodles import EnergyGap, Mixup

pasted, pixels = streets(6, *vivid)
step = TrainingStep(classifier, Mixup(alpha=0.2), EnergyGap(), ignore_index=VOID)
terms = step((known[0], known[1]), (pasted, pixels == UNKNOWN))
print({name: round(float(term.detach()), 3) for name, term in terms.items()})

from oodles.metrics import metric_bounds

found = evaluate(classifier, [known], {"road": [road]}, ["energy"], keep=False, **settings)
sides = found.known["road"]["energy"], found.scores["road"]["energy"]
print({name: f"{low:.4f} to {high:.4f}" for name, (low, high) in metric_bounds(*sides).items()})

step = TrainingStep(classifier, OutlierExposure(), ignore_index=VOID, ood_index=UNKNOWN)
optimizer = torch.optim.Adam(step.parameter_groups(0.001))
for pictures, ids in [(images[:4], labels[:4])]:  # your loader: (N, 3, H, W) and (N, H, W)
    loss = sum(step((pictures, ids)).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(evaluate(classifier, [known], {"road": [road]}, ["msp"], ignore_index=VOID, ood_index=UNKNOWN))
