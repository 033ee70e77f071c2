"""Weights from anywhere: files of ``torch.save``, and tensors by the names that they have in a model of one's own."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oodles.classifier import Classifier
from oodles.spelling import shown

UNDER = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep their state_dict; moving averages, which lie under other names, are left alone."""
COUNTERS = "num_batches_tracked"
"""The end of names of counters in batch norms, which old files do not have and torch begins anew."""
FEW = 3
"""So many names tell which network a file is of."""


def is_pickled(path: Path) -> bool:
    """Tell whether a file begins as those of ``torch.save`` do, an archive or in their older form a pickle."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[:2] == b"PK" or (start[:1] == b"\x80" and start[8:] != b"{")  # the header of safetensors is JSON


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict`` that ``torch.save`` wrote; nothing but tensors is unpickled.

    Raises:
        ValueError: for a compiled program, a file that holds more than plain values and tensors, and one without a
            ``state_dict``.
    """
    if _is_program(path):
        raise ValueError(
            f"{path} must hold weights, and it is a program (TorchScript or ExportedProgram), which may run any code "
            "when it is opened: save the state_dict() of the model, and name the function that builds it, as in "
            "--network package.module:function."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # pickles that are damaged or refused fail in many ways
        asked = re.search(r"GLOBAL (\S+)", str(error))
        fault = f"it asks for {asked[1]}, which may be any code" if asked else "it cannot be read as such"
        raise ValueError(
            f"{path} must hold tensors alone, and {fault}: save a state_dict, with "
            f"torch.save(model.state_dict(), {path.name!r})."
        ) from None
    while not _is_state_dict(content):
        table = content if isinstance(content, Mapping) else {}
        inside = [table[name] for name in UNDER if isinstance(table.get(name), Mapping)]
        if not inside:
            kind = f"a dictionary of {_few(map(str, table))}" if table else type(content).__name__
            raise ValueError(
                f"{path} must hold a state_dict, by itself or under {', '.join(UNDER)}, got {kind}: save one, with "
                f"torch.save(model.state_dict(), {path.name!r})."
            )
        content = inside[0]
    return dict(content)


def _is_program(path: Path) -> bool:
    """Tell whether a file is an archive with code in it, or none that ``torch.save`` has written."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return not any(name.endswith("/data.pkl") for name in names) or any("/code/" in name for name in names)


def _is_state_dict(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


class Naming(NamedTuple):
    """How the tensors of a module are called in a file, and the tensors that it has under those names."""

    names: Mapping[str, str]
    """Of the module's tensors that a file must have, by their names in the module."""
    tensors: Mapping[str, Tensor]

    @property
    def lacking(self) -> list[str]:
        return sorted(set(self.names.values()) - set(self.tensors))

    @property
    def besides(self) -> list[str]:
        return sorted(set(self.tensors) - set(self.names.values()))

    @property
    def fits(self) -> bool:
        """Say whether the names are the same."""
        return not self.besides and all(name.endswith(COUNTERS) for name in self.lacking)


def naming(module: nn.Module, tensors: Mapping[str, Tensor]) -> Naming:
    """Find how a module's tensors are called in a file: the way in which most of its names are known.

    Of a classifier that was split, they may have the names that they have in the model itself. Words that all names
    begin with, such as ``module.`` or ``_orig_mod.``, may be left out.
    """
    ways = [{name: name for name in module.state_dict()}]
    if isinstance(module, Classifier) and (own := module.own_names()):
        ways.append(own)
    readings = [Naming(names, file) for file in _unwrapped(tensors) for names in ways]
    return max(readings, key=lambda one: (one.fits, len(set(one.names.values()) & set(one.tensors))))


def _unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Give the tensors as they are called, then without the first word of their names, as long as all share it."""
    while True:
        yield tensors
        words = {name.partition(".")[0] for name in tensors}
        if len(words) != 1 or not all("." in name for name in tensors):
            return
        tensors = {name.partition(".")[2]: value for name, value in tensors.items()}


def named_as_here(module: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a file's tensors by their names in a module; of what a file need not have, those of the module.

    Where they are those of another network, they are called as in the file.
    """
    reading = naming(module, tensors)
    if not reading.fits:
        return tensors
    here = module.state_dict()  # with the versions of its modules, which some look for
    there = {name: reading.tensors[its] for name, its in reading.names.items() if its in reading.tensors}
    here.update({name: _shaped(value, here[name]) for name, value in there.items()})
    return here


def _shaped(value: Tensor, like: Tensor) -> Tensor:
    """Return the weight of a 1×1 convolution as that of the linear layer that it is; others as they are."""
    convolved = value.ndim > like.ndim and value.shape[: like.ndim] == like.shape and value.numel() == like.numel()
    return value.flatten(like.ndim - 1) if convolved else value


def mismatch(module: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """Say how a file's tensors differ from those of a module, in names or in shapes."""
    reading = naming(module, tensors)
    advice = "so start from weights of the same network and methods"
    if not reading.fits:
        besides, lacking = _few(reading.besides), _few(reading.lacking)
        words = [f"it holds {besides} besides"] * bool(besides) + [f"it lacks {lacking}"] * bool(lacking)
        return f"{' and '.join(words)}, {advice}"
    here = module.state_dict()
    shapes = {
        name: (its, tuple(_shaped(reading.tensors[its], here[name]).shape), tuple(here[name].shape))
        for name, its in reading.names.items()
        if its in reading.tensors
    }
    other = {name: words for name, words in shapes.items() if words[1] != words[2]}
    if not other:
        return "it holds other values than training writes"
    first = list(other.values())[:FEW]
    differing = ", ".join(f"{its!r} has shape {there} there and {ours} here" for its, there, ours in first)
    if isinstance(module, Classifier) and all(name.startswith("head.") for name in other):
        return (
            f"{differing}, since its last layer is one of other classes: give data with the classes of the file, or "
            "load the layers before it in a function of your own, and say weights='network'"
        )
    return differing


def _few(names: Iterable[str]) -> str:
    """Name the first few, and how many there are besides."""
    names = list(names)
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(shown(name) for name in names[:FEW]) + more
