"""Time scores and metrics of 100,000 test rows over their forward passes: python benchmarks/scoring.py

Forward passes of ResNet-18 are timed on fewer rows and extrapolated; scores compare with 45,000 training rows.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from timing import record
from torch import nn

from oodles.classifier import Classifier
from oodles.evaluation import score_named
from oodles.metrics import ood_metrics
from oodles.networks import build_network
from oodles.scores import SCORES

ROWS, KNOWN, TRAIN, CLASSES = 100_000, 10_000, 45_000, 10


def seconds(function: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def forward_seconds(device: torch.device) -> float:
    rows = 20_000 if device.type == "cuda" else 1_000
    statistics = [0.5] * 3
    network = build_network("resnet-18", num_classes=10, input_shape=(3, 32, 32), mean=statistics, std=statistics)
    network.to(device).eval()
    images = torch.rand(500, 3, 32, 32, device=device)

    @torch.no_grad()
    def forward() -> None:
        for _ in range(rows // 500):
            network(images)

    forward()
    return seconds(forward) * ROWS / rows


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    forward = forward_seconds(device)
    features = torch.randn(ROWS + TRAIN, 512, device=device).relu()
    classifier = Classifier(nn.Identity(), nn.Linear(512, CLASSES)).to(device).requires_grad_(False)
    train, test = features[:TRAIN], features[TRAIN:]
    table = {}
    for name in SCORES:
        score = score_named(name)
        fitting = seconds(lambda score=score: score.fit(train, classifier.head(train), torch.arange(TRAIN) % CLASSES))
        values: list[torch.Tensor] = []
        of = partial(score.of, classifier, test, test)
        taken = fitting + seconds(lambda of=of, values=values: values.append(of(classifier.head(test)).cpu()))
        scores = values[0].numpy()
        taken += seconds(lambda scores=scores: ood_metrics(scores[:KNOWN], scores[KNOWN:]))
        table[name] = {"seconds": round(taken, 2), "over forward passes": round(taken / forward, 4)}
        print(name, table[name], flush=True)
    record(
        f"scoring-{device.type}",
        {
            "rows": ROWS,
            "training rows": TRAIN,
            "network": "resnet-18",
            "forward seconds": round(forward, 1),
            "scores": table,
            "all over forward passes": round(sum(cost["seconds"] for cost in table.values()) / forward, 4),
        },
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
