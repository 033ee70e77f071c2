"""Saved weights and states come back exactly, and those of something else get a sentence."""

from pathlib import Path

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
        (nn.BatchNorm1d(2), "it lacks 'num_batches_tracked', so start from weights of the same network and methods"),
    ):
        with pytest.raises(ValueError, match=rf"w does not fit this network: {sentence}"):
            load_weights(other, tmp_path / "w")


def split(last: int = 3) -> Classifier:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, last, 1), nn.Flatten())
    net = Classifier.split(model, "2", example=torch.rand(2, 1, 4, 4))
    return net.normalized_by(Normalize([0.5], [0.25]))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
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
    with pytest.raises(ValueError, match=r"'head.weight' has shape \(3, 2(, 1, 1)?\) there and \(4, 2\) here"):
        load_weights(split(4), tmp_path / "own.safetensors")
    save_file({"0.weight": own["0.weight"]}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"holds '0.weight' besides, so start from weights of the same network"):
        load_weights(net, tmp_path / "part.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_are_to_be_converted(tmp_path: Path, zipped: bool) -> None:
    path, module = tmp_path / "mine.pt", nn.Linear(2, 2)
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"torch.save wrote it: .*torch.load\('mine.pt', weights_only=True\)"
    ) as refusal:
        load_weights(nn.Linear(2, 2), path)
    assert is_one_sentence(str(refusal.value).replace(str(path), "it"))
    save_file(torch.load(path, weights_only=True), tmp_path / "mine.safetensors")
    other = nn.Linear(2, 2)
    load_weights(other, tmp_path / "mine.safetensors")
    assert torch.equal(other.weight, module.weight)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="must be a safetensors file, but: "):
        load_weights(other, path)
