"""Saved weights and states come back exactly, and those of something else get a sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from oodles import Classifier, Normalize
from oodles.runs.saved_state import load_state, load_weights, save_state, save_weights, weights_fit
from tests.contract.steps import is_one_sentence


def _trained(
    optimizer_class: type[torch.optim.Optimizer], **settings: float
) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = optimizer_class(module.parameters(), lr=0.1, **settings)  # type: ignore[call-arg]
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
    return module, optimizer


@pytest.mark.parametrize("kind", [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {}), (torch.optim.AdamW, {})])
def test_saved_state_comes_back_exactly(
    kind: tuple[type[torch.optim.Optimizer], dict[str, float]], tmp_path: Path
) -> None:
    module, optimizer = _trained(kind[0], **kind[1])
    save_state(tmp_path / "state", module, optimizer, {"position": 3, "sums": {"a": 0.1}})
    other = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    other_optimizer = kind[0](other.parameters(), lr=0.1, **kind[1])  # type: ignore[call-arg]
    assert load_state(tmp_path / "state", other, other_optimizer) == {"position": 3, "sums": {"a": 0.1}}
    rows = torch.rand(4, 3)
    for network, its_optimizer in ((module, optimizer), (other, other_optimizer)):
        its_optimizer.zero_grad()
        network(rows).square().sum().backward()
        its_optimizer.step()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    first = nn.Linear(2, 2)
    tied = nn.Sequential(first, first)
    save_weights(tied, tmp_path / "w")
    before = first.weight.detach().clone()
    nn.init.zeros_(first.weight)
    load_weights(tied, tmp_path / "w")
    torch.testing.assert_close(first.weight.detach(), before, rtol=0, atol=0)


def test_weights_of_another_network_get_a_sentence(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 2), tmp_path / "w")
    for other, sentence in (
        (nn.Linear(3, 2), r"'weight' has shape \(2, 2\) there and \(2, 3\) here"),
        (nn.Linear(2, 2, bias=False), "it holds 'bias' besides, so start from weights of the same network and methods"),
        (
            nn.BatchNorm1d(2),
            "it lacks 'num_batches_tracked', 'running_mean', 'running_var', so start from weights",
        ),
    ):
        with pytest.raises(ValueError, match=rf"w does not fit this network: {sentence}"):
            load_weights(other, tmp_path / "w")


def split(last: int = 3) -> Classifier:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, last, 1), nn.Flatten())
    net = Classifier.split(model, "2", example=torch.rand(2, 1, 4, 4))
    return net.normalized_by(Normalize([0.5], [0.25]))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "net."])
def test_tensors_by_the_names_of_the_network_itself_are_found(tmp_path: Path, prefix: str) -> None:
    saved, net = split(), split()
    x = torch.rand(3, 1, 4, 4)
    expected = saved(x)
    own = saved.join().get_submodule("network").state_dict()
    assert list(own) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    save_file({f"{prefix}{name}": value.contiguous() for name, value in own.items()}, tmp_path / "own.safetensors")
    assert weights_fit(net, tmp_path / "own.safetensors") and not weights_fit(split(4), tmp_path / "own.safetensors")
    load_weights(net, tmp_path / "own.safetensors")
    torch.testing.assert_close(net(x), expected)
    with pytest.raises(
        ValueError, match=r"'2.weight' has shape \(3, 2, 1, 1\) there and \(4, 2\) here, .* other classes"
    ):
        load_weights(split(4), tmp_path / "own.safetensors")
    save_file({"0.weight": own["0.weight"]}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"it lacks '0.bias', '2.bias', '2.weight', so start from weights of the same"):
        load_weights(net, tmp_path / "part.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("under", [(), ("state_dict",), ("model",), ("model_state_dict",), ("model", "state_dict")])
def test_a_state_dict_that_torch_wrote_is_read(tmp_path: Path, zipped: bool, under: tuple[str, ...]) -> None:
    path, module, other = tmp_path / "mine.pt", nn.Linear(2, 2), nn.Linear(2, 2)
    content: dict[str, Any] = {f"module.{name}": value for name, value in module.state_dict().items()}
    average = {name: value + 1 for name, value in content.items()}
    for name in reversed(under):
        content = {"epoch": 3, "state_dict_ema": average, name: content}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    load_weights(other, path)
    assert torch.equal(other.weight, module.weight) and torch.equal(other.bias, module.bias)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="must be a safetensors file, but: "):
        load_weights(other, path)


def programs(folder: Path) -> Iterator[Path]:
    module = nn.Linear(2, 2)
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 2)), str(folder / "script.pt"))
    yield folder / "script.pt"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 2),)), folder / "exported.pt2")
    yield folder / "exported.pt2"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_programs_are_not_opened_as_weights(tmp_path: Path) -> None:
    for path in programs(tmp_path):
        with pytest.raises(ValueError, match=r"it is a program .*--network package.module:function"):
            load_weights(nn.Linear(2, 2), path)


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    for content, sentence in (
        (nn.Linear(2, 2), "it asks for torch.nn.modules.linear.Linear, which may be any code: save a state_dict"),
        (
            {"epoch": 3, "ema": {"weight": torch.zeros(2)}},
            "must hold a state_dict, .* dictionary of 'epoch', 'ema'",
        ),
        (torch.zeros(2), "must hold a state_dict, .* got Tensor: save one, with"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=sentence) as refusal:
            load_weights(nn.Linear(2, 2), path)
        assert is_one_sentence(str(refusal.value).replace(str(path), "it").replace("whole.pt", "it"))
    torch.save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="it cannot be read as such: save a state_dict"):
        load_weights(nn.Linear(2, 2), path)
