"""Run folders: files appear whole, mistakes get a sentence, nothing is unpickled."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from oodles.files import in_one_piece, write_arrays, write_json
from oodles.runs.folder import check_output, locked, open_run
from oodles.runs.saved_state import load_state, load_weights, save_state, save_weights


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"old": 1})
    old = path.read_bytes()
    with pytest.raises(RuntimeError), in_one_piece(path) as file:
        file.write(b"half of it")
        file.flush()
        assert path.read_bytes() == old
        raise RuntimeError
    assert path.read_bytes() == old
    write_json(path, {"new": 2})
    assert path.read_text(encoding="utf-8") == '{\n "new": 2\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def _try_to_lock(folder: Path, answers: "multiprocessing.Queue[str]") -> None:
    try:
        with locked(folder):
            answers.put("locked")
    except ValueError as error:
        answers.put(str(error))


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def other() -> str:
        process = context.Process(target=_try_to_lock, args=(tmp_path, answers))
        process.start()
        process.join()
        return str(answers.get(timeout=5))

    with locked(tmp_path):
        assert "is in use by another process" in other()
    assert other() == "locked"


def test_folders_that_are_no_runs_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no run folder, it has no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json is not JSON"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="does not describe a run"):
        open_run(tmp_path)


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


def test_a_file_that_could_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for path, sentence in (
        (tmp_path, "must be a file to write, and it is a folder"),
        (tmp_path / "run.json" / "x.csv", "run.json is a file: choose another place"),
        (tmp_path / "weights.safetensors", "weights.safetensors belongs to a run: choose another name"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_output(path)
    check_output(tmp_path / "scores.csv")
    with pytest.raises(ZeroDivisionError), in_one_piece(tmp_path / "scores.csv"):
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[type[BaseException], tuple[str]]:
            return SystemExit, ("unpickled",)

    (tmp_path / "weights").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match="must be a safetensors file"):
        load_weights(nn.Linear(2, 2), tmp_path / "weights")
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "scores.npz", {"a": np.array([Attack()], dtype=object)})
