"""What the scores of a run have learnt of its training rows, kept in its folder, so that scoring needs no data.

``fits.safetensors`` holds ``SCORE/fit/NAME``, what a score has learnt, and ``SCORE/values/SET``, the values of scores
that ``scores.npz`` has not: of validation and test rows and of every out-of-distribution set. Its metadata holds a
SHA-256 of each score's tensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from oodles.files import in_one_piece
from oodles.runs.folder import FITS

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """What is kept of one score."""

    state: Mapping[str, Tensor]
    """What it has learnt, see :meth:`oodles.scores.Score.state`."""
    values: Mapping[str, NDArray] = field(default_factory=dict)  # type: ignore[type-arg]
    """Its values by set, or none."""


def write_fits(folder: Path, fits: Mapping[str, Fit]) -> None:
    """Write what is kept of these scores in place of what was there."""
    _write(folder / FITS, {name: _as_tensors(fit) for name, fit in fits.items()})


def keep_fits(folder: Path, fits: Mapping[str, Fit]) -> None:
    """Keep these scores beside those that are kept already.

    Raises:
        ValueError: for a damaged file.
    """
    there = {name: _read(folder / FITS, name) for name in _digests(folder / FITS)}
    _write(folder / FITS, {**there, **{name: _as_tensors(fit) for name, fit in fits.items()}})


def kept_fit(folder: Path, score: str) -> Fit | None:
    """Read what is kept of a score; return none where nothing is.

    Raises:
        ValueError: for a damaged file.
    """
    if score not in _digests(folder / FITS):
        return None
    parts: dict[str, Tensors] = {"fit": {}, "values": {}}
    for key, value in _read(folder / FITS, score).items():
        kind, _, name = key.partition("/")
        parts[kind][name] = value
    return Fit(parts["fit"], {name: value.numpy() for name, value in parts["values"].items()})


def size_of_fits(folder: Path) -> str:
    """Say how much room the kept fits take; nothing where there are none."""
    size = (folder / FITS).stat().st_size if (folder / FITS).is_file() else 0
    return f"{size / 1e6:.3g} MB" if size else ""


def _as_tensors(fit: Fit) -> Tensors:
    values = {f"values/{name}": torch.from_numpy(value) for name, value in fit.values.items()}
    return {**{f"fit/{name}": value.cpu().contiguous() for name, value in fit.state.items()}, **values}


def _write(path: Path, scores: Mapping[str, Tensors]) -> None:
    tensors: Tensors = {}
    places: set[int] = set()
    for name, value in ((f"{score}/{key}", value) for score, parts in scores.items() for key, value in parts.items()):
        place = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if place in places else value  # the format refuses rows that two scores share
        places.add(place)
    digests = {score: _digest(parts) for score, parts in scores.items()}
    with in_one_piece(path) as file:
        file.write(save(tensors, {"sha256": json.dumps(digests)}))


def _digests(path: Path) -> dict[str, str]:
    """Return the scores that a file keeps, with their digests."""
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            digests = json.loads((file.metadata() or {})["sha256"])
        return {str(score): str(digest) for score, digest in digests.items()}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(_damaged(path)) from error


def _read(path: Path, score: str) -> Tensors:
    """Read the tensors of one score, and compare them with its digest."""
    digest = _digests(path)[score]
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(f"{score}/")]  # noqa: SIM118  # it is no dictionary
            parts = {key.removeprefix(f"{score}/"): file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(_damaged(path)) from error
    if _digest(parts) != digest:
        raise ValueError(_damaged(path))
    return parts


def _digest(parts: Tensors) -> str:
    found = sha256()
    for key, value in sorted(parts.items()):
        found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()


def _damaged(path: Path) -> str:
    return f"{path} is damaged: delete it, and scores are fitted to the training data again."
