"""Layers by name: the last block, and what a classifier trains."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from oodles import Classifier, Normalize, TrainingStep
from oodles.layers import chain, last_block, layers_that_stay
from oodles.networks import build_network


def _network(name: str) -> Classifier:
    return build_network(name, num_classes=3, input_shape=(3, 16, 16), mean=(0.5,) * 3, std=(0.2,) * 3)


def _trains(classifier: Classifier) -> set[str]:
    return {name.rpartition(".")[0] for name, value in classifier.named_parameters() if value.requires_grad}


@pytest.mark.parametrize(
    ("name", "block", "more"),
    [
        ("small-cnn", "layers.11", {"layers.12"}),
        ("cnn-6", "stage3.3", {"stage3.4"}),
        ("resnet-18", "stage4.1", set()),
        ("wrn-40-2", "stage3.5", {"bn"}),
    ],
)
def test_the_last_block_of_the_embedded_networks(name: str, block: str, more: set[str]) -> None:
    classifier = _network(name).train_only("last-block")
    trained = {layer.removeprefix("backbone.network.") for layer in _trains(classifier)} - {"head"}
    assert more < trained
    assert trained - more == {layer for layer in trained if layer == block or layer.startswith(f"{block}.")} != set()


def test_a_chain_goes_into_containers_and_into_the_only_child_that_learns() -> None:
    block = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), norm=nn.BatchNorm2d(3)))
    network = nn.Sequential(nn.Identity(), nn.Sequential(nn.ModuleList([block, nn.Conv2d(3, 3, 1)]), nn.Linear(3, 3)))
    assert [name for name, _ in chain(network)] == ["1.0.0.conv", "1.0.0.norm", "1.0.1", "1.1"]
    assert last_block(network) == ["1.1"]
    assert last_block(nn.Sequential(nn.ReLU())) == []


def test_a_block_comes_before_single_layers_behind_it() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    assert last_block(nn.Sequential(nn.Linear(3, 3), Block(), nn.Linear(3, 3), nn.BatchNorm1d(3))) == ["1", "2", "3"]
    assert last_block(nn.Sequential(Block(), Block(), nn.ReLU())) == ["1", "2"]


def test_layers_in_a_list_stay_one_by_one() -> None:
    network = nn.ModuleDict(
        {"rest": nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.ReLU())]), "last": nn.Linear(3, 3)}
    )
    assert layers_that_stay(network, ["last"]) == (["rest.0", "rest.1"], ["rest.0", "rest.1"])
    assert layers_that_stay(network, ["rest.0"]) == (["last"], [])


def test_frozen_layers_stay_in_eval_mode_whatever_is_said() -> None:
    classifier = _network("resnet-18").train_only("last-block")
    step = TrainingStep(classifier)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimizer = torch.optim.SGD(step.parameter_groups(0.1), weight_decay=0.1)
    for _ in range(2):
        step.train()
        terms = step((torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        step.eval()
    moved = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.removeprefix("backbone.network.")[:8] for name in moved} == {"stage4.1", "head.wei", "head.bia"}
    assert "backbone.network.stage4.1.bn1.running_mean" in moved
    classifier.train()
    modes = {name: layer.training for name, layer in classifier.backbone.named_modules()}
    assert modes["network.stage4.1.bn1"] and modes["network.average"] and not modes["network.stage4.0.bn1"]


def test_dropout_before_the_head_acts_unless_all_before_it_is_frozen() -> None:
    backbone = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4), nn.Dropout())
    classifier = Classifier(backbone, nn.Linear(4, 3))
    assert [layer.training for layer in classifier.train_only("last-block").train().backbone] == [
        False,
        False,
        True,
        True,
    ]
    assert not any(layer.training for layer in classifier.train_only("head").train().backbone)
    assert all(layer.training for layer in classifier.train_only("all").train().backbone)


def test_a_further_wish_begins_anew_and_leaves_what_the_caller_froze() -> None:
    backbone = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    backbone[0].weight.requires_grad_(False)
    classifier = Classifier(backbone, nn.Linear(4, 3)).train_only("head")
    assert _trains(classifier) == {"head"}
    classifier.train_only("all")
    assert [value.requires_grad for value in backbone.parameters()] == [False, True, True, True, True, True]
    with pytest.raises(ValueError, match="train_layers leaves nothing to train, since '3' has no parameters"):
        backbone.append(nn.ReLU())
        classifier.train_only(["3"])
    assert _trains(classifier) == {"backbone.0", "backbone.1", "backbone.2", "head"}, "as it was"


def test_layers_behind_one_that_normalises_are_named_without_it() -> None:
    network = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 3, 1), body=nn.Conv2d(3, 3, 1)))
    normalize = Normalize([0.5] * 3, [0.2] * 3)
    behind = Classifier(nn.Sequential(normalize, network), nn.Conv2d(3, 2, 1))
    assert behind.layer_names() == {"stem": "1.stem", "body": "1.body"}
    among = Classifier(nn.Sequential(normalize, *network), nn.Conv2d(3, 2, 1))
    assert among.layer_names() == {"0": "0", "1": "1", "2": "2"}


@pytest.mark.parametrize("output", [None, "logits"])
def test_layers_are_named_as_the_network_names_them(output: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, rows: torch.Tensor) -> Any:
            logits = self.fc(self.body(self.stem(rows)))
            return logits if output is None else {output: logits}

    classifier = Classifier.split(Model(), "fc", example=torch.rand(2, 4), output=output)
    prefix = "backbone." if output is None else "backbone.model."
    assert _trains(classifier.train_only(["body"])) == {f"{prefix}body", "head"}
    with pytest.raises(ValueError, match=r"got 'rump': there are stem, body\."):
        classifier.train_only("rump")
