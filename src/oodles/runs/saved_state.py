"""Save weights and the state of a training run as safetensors: nothing is pickled, and of pickles tensors are read."""

import json
from collections.abc import Mapping
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from oodles.files import in_one_piece, sha256_of
from oodles.networks.weights import is_pickled, mismatch, named_as_here, read_pickled

AGAIN = "take another file"
FINGERPRINT = "sha256"
"""Among the counters: the fingerprint of what a file holds, which tells damage."""


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the parameters and buffers of a module."""
    _write(path, module.state_dict(), {})


def load_weights(module: nn.Module, path: Path, sha256: str | None = None, advice: str = AGAIN) -> frozenset[str]:
    """Read parameters and buffers into a module, and return the names that they have in the file.

    Of a classifier that was split, tensors may have the names that they have in the model itself.

    Args:
        module: takes them.
        path: of a safetensors file, or of a ``state_dict`` that ``torch.save`` wrote.
        sha256: the file's fingerprint, where it is known.
        advice: what to do about a damaged file, the end of a sentence.

    Raises:
        ValueError: for a file that holds no weights or was changed, and weights of another network.
    """
    tensors = _read_tensors(path, sha256, advice)
    _load(module, tensors, path)
    return frozenset(tensors)


def weights_fit(module: nn.Module, path: Path) -> bool:
    """Say whether a file holds tensors of a module's names and shapes."""
    tensors = named_as_here(module, _read_tensors(path, None, AGAIN))
    return {name: value.shape for name, value in tensors.items()} == {
        name: value.shape for name, value in module.state_dict().items()
    }


def save_state(
    path: Path,
    step: nn.Module,
    optimizer: torch.optim.Optimizer,
    counters: Mapping[str, Any],
    kept: nn.Module | None = None,
) -> None:
    """Write all that resuming needs: the step's tensors, the optimizer's, plain counters, and weights kept besides."""
    tensors = {f"step/{name}": value for name, value in step.state_dict().items()}
    tensors |= {f"kept/{name}": value for name, value in (kept.state_dict() if kept else {}).items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in values.items() if value is not None}
    _write(path, tensors, counters)


def load_state(
    path: Path,
    step: nn.Module,
    optimizer: torch.optim.Optimizer,
    advice: str = AGAIN,
    kept: nn.Module | None = None,
) -> dict[str, Any]:
    """Read the step, the optimizer and weights kept besides back, and return the counters.

    Raises:
        ValueError: for a file that is no saved state or was damaged, or the state of something else.
    """
    tensors, counters = _read(path, None, advice)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for start, module in (("step/", step), ("kept/", kept)):
        if module is not None:
            own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
            _load(module, own, path)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, number, name = [*key.split("/"), "", ""][:3]
            place = int(number) if number.isdecimal() else len(parameters)
            if place >= len(parameters) or value.shape not in (parameters[place].shape, torch.Size()):
                raise ValueError(f"{path} does not fit this training: it holds {key!r}; {advice}.")
            moments.setdefault(place, {})[name] = value
    learnt = {f"step/{name}" for name, _ in step.named_parameters()}
    learnt |= {f"kept/{name}" for name, _ in (kept.named_parameters() if kept else ())}
    for key, value in tensors.items():
        if (key in learnt or key.startswith("optimizer/")) and not bool(value.isfinite().all()):
            raise ValueError(f"{path} holds values in {key!r} that are not finite; {advice}.")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    for parameter, values in optimizer.state.items():  # laid out in memory as the parameter is
        values |= {k: torch.empty_like(parameter).copy_(v) for k, v in values.items() if v.shape == parameter.shape}
    return counters


def _load(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(named_as_here(module, tensors))
    except (RuntimeError, ValueError, TypeError) as error:
        said = str(error).rstrip(".") if isinstance(error, ValueError) else mismatch(module, tensors)
        raise ValueError(f"{path} does not fit this network: {said}.") from error


def _write(path: Path, values: Mapping[str, Any], counters: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"Only tensors can be saved, got {type(value).__name__} for {name!r}: make it a buffer.")
    # copies, since tied weights would share memory
    tensors = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in values.items()
    }
    with in_one_piece(path) as file:
        # one key, since those of metadata have no order, and equal files shall have equal bytes
        file.write(save(tensors, {"counters": json.dumps({**counters, FINGERPRINT: fingerprint(tensors, counters)})}))


def _read_tensors(path: Path, sha256: str | None, advice: str) -> Mapping[str, Tensor]:
    """Read the tensors of a file of weights, also of one that ``torch.save`` wrote, if no fingerprint is known."""
    return read_pickled(path) if sha256 is None and is_pickled(path) else _read(path, sha256, advice)[0]


def _read(path: Path, sha256: str | None, advice: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and counters, and compare the fingerprints: of the whole file where it is given, and its own."""
    if sha256 and sha256_of(path) != sha256:
        raise ValueError(f"{path} is not the file that training wrote, but a changed or damaged one; {advice}.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
            counters = dict(json.loads((file.metadata() or {}).get("counters", "{}")))
    except OSError:
        raise
    except Exception as error:  # headers that are damaged fail in many ways
        raise ValueError(f"{path} must be a safetensors file, but: {error}; {advice}.") from error
    written = counters.pop(FINGERPRINT, None)  # earlier versions wrote none
    if written is not None and written != fingerprint(tensors, counters):
        raise ValueError(f"{path} does not hold what training wrote: it was damaged; {advice}.")
    return tensors, counters


def fingerprint(tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> str:
    """Return the fingerprint of what a file holds."""
    digest = new_sha256(json.dumps(counters).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
