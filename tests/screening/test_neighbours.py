"""The nearest training rows are those of a sort of all of them, however they are read."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from oodles import Classifier
from oodles.data import ImageSet
from oodles.screening.neighbours import nearest


def rows(count: int) -> ImageSet:
    return ImageSet(np.random.default_rng(count).random((count, 1, 4, 4), dtype=np.float32), np.arange(count) % 3)


@pytest.mark.parametrize("whole", [False, True], ids=["features", "logits"])
def test_neighbours_are_the_nearest_by_the_angle_of_features(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodles.screening.neighbours.ROWS", 7)
    torch.manual_seed(0)
    backbone, head = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), nn.Linear(5, 3)
    classifier = nn.Sequential(backbone, head) if whole else Classifier(backbone, head)
    train, queries = rows(40), torch.from_numpy(rows(6).images)
    of = classifier if whole else backbone
    with torch.no_grad():
        alike = normalize(of(queries)) @ normalize(of(torch.from_numpy(train.images))).T
    expected = alike.argsort(1, descending=True)[:, :5]
    assert nearest(classifier, queries, train, 5).tolist() == expected.tolist()
    assert (
        nearest(classifier, queries, rows(3), 5).shape == (6, 3)
        and nearest(classifier, queries[:0], train, 5).size == 0
    )
