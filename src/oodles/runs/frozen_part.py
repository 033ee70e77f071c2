"""The part of a network that does not train: run once for each image where nothing changes its inputs.

What it gives is kept on disk, a few rows at a time, so that it need not fit into memory.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oodles.classifier import Classifier, device_of, frozen, in_mode
from oodles.data import ImageSet, Suite
from oodles.data.augment import PLAIN
from oodles.data.image_set import Rows
from oodles.files import UNFINISHED, in_one_piece, sha256_of, write_json
from oodles.precision import at_least_float32
from oodles.runs.folder import FROZEN
from oodles.runs.recipe import Recipe, changes_inputs, needs_teacher, roles_used

ABOUT = "about.json"
"""Says what the kept results belong to; written last."""
ROUNDING = 1e-3
"""So much of the largest number may a row differ that runs alone, since sums then have another order."""
SETS = ("train", "validation", "outliers", "wild")
FEW = 4
"""So many rows show whether the network can be divided."""


class Cut:
    """A network divided before the first of its layers that trains.

    Args:
        classifier: of which :meth:`~oodles.Classifier.train_only` has frozen a part.
    """

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self.before = classifier.before
        self.first = classifier.backbone.get_submodule(classifier.trains[0]) if classifier.trains else None
        """The first layer of the backbone that trains; where there is none, features are kept."""
        self._maps: list[Any] = []

    def maps(self, inputs: Tensor) -> Tensor:
        """Run the frozen part alone: return what the first layer that trains would get."""
        if self.first is None:
            return self.classifier.features(inputs)
        seen: list[Any] = []

        def stop(_: nn.Module, args: Any) -> None:
            seen.append(args[0] if args else None)
            raise _ReachedError

        hook = self.first.register_forward_pre_hook(stop)
        try:
            with suppress(_ReachedError):
                self.classifier.features(inputs)
        finally:
            hook.remove()
        (maps,) = seen
        if not isinstance(maps, Tensor) or not maps.is_floating_point():
            raise TypeError(
                f"The first layer that trains must read a floating-point tensor, got {type(maps).__name__}."
            )
        return maps

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Let the classifier take, inside, what :meth:`maps` gave in the place of inputs."""
        backbone = self.classifier.backbone
        with ExitStack() as stack:
            if self.first is None:
                self.classifier.backbone = _Passed()
                stack.callback(setattr, self.classifier, "backbone", backbone)
            else:
                for name in self.before:
                    parent, _, own = name.rpartition(".")
                    around = backbone.get_submodule(parent)
                    stack.callback(around._modules.__setitem__, own, around._modules[own])
                    around._modules[own] = _Passed()
                stack.callback(self._maps.clear)
                stack.callback(backbone.register_forward_pre_hook(self._take).remove)
                stack.callback(self.first.register_forward_pre_hook(self._give).remove)
            yield

    def _take(self, _: nn.Module, args: Any) -> None:
        self._maps[:] = args[:1]

    def _give(self, _: nn.Module, args: Any) -> Any:
        # functions of the network between layers, such as an activation, have changed what came here
        return (self._maps[0], *args[1:])


class _Passed(nn.Module):
    """Gives on what it gets, in the place of a layer that has run already."""

    def forward(self, inputs: Tensor, *args: Any, **named: Any) -> Tensor:
        return inputs


class _ReachedError(Exception):
    """The first layer that trains is reached."""


@dataclass(frozen=True)
class FrozenPart:
    """What does not train in a run, and how often it runs."""

    layers: tuple[str, ...]
    """The layers that train, by their names in the network."""
    cut: Cut | None
    because: str
    """The reason for which it runs in every step, the end of a sentence; empty where it runs once."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as a run records it."""
        reason = {"because": self.because} if self.because else {}
        return {"layers": list(self.layers), "runs": "once" if self.cut else "in every step", **reason}

    def behind(self) -> AbstractContextManager[None]:
        """Return the context in which a step takes what was kept."""
        return nullcontext() if self.cut is None else self.cut.behind()


def frozen_part(classifier: Classifier, recipe: Recipe, suite: Suite, *, compiled: bool) -> FrozenPart | None:
    """Freeze what a recipe does not train, and say whether it can run once; return none where all trains."""
    classifier.train_only(recipe.train_layers, batch_norm=recipe.batch_norm)
    if recipe.train_layers == "all":
        return None
    names = {own: name for name, own in classifier.layer_names().items()}
    learning = _learned(classifier, classifier.trains)
    layers = (*(names.get(name, name) for name in learning), "head")
    because = _changed_inputs(recipe, suite)
    if compiled:
        because = "the step is compiled as a whole"
    elif not _learned(classifier, classifier.before):
        because = "none of it lies before the first layer that trains"
    if because:
        return FrozenPart(layers, None, because)
    images, _ = suite.train.evenly(FEW).__getitems__(range(min(FEW, len(suite.train))))
    cut = exact_cut(classifier, images.to(device_of(classifier)))
    first = learning[0] if learning else "head"
    because = "" if cut else f"the network cannot be divided exactly before {names.get(first, first)}"
    return FrozenPart(layers, cut, because)


def _learned(classifier: Classifier, names: list[str]) -> list[str]:
    """Return those of some layers of the backbone that have parameters."""
    layers = {name: classifier.backbone.get_submodule(name) for name in names}
    return [name for name, layer in layers.items() if next(layer.parameters(), None) is not None]


def _changed_inputs(recipe: Recipe, suite: Suite) -> str:
    """Say what changes a network's inputs from step to step, or sees them, the end of a sentence; nothing where nothing
    does.
    """
    if (name := changes_inputs(recipe.methods)) is not None:
        return f"{name} changes or makes inputs"
    if needs_teacher(recipe.methods):
        return "a teacher sees the inputs, too"
    used = roles_used(recipe)
    called = {"outliers": "outliers", "wild": "wild rows"}
    others = {called[role]: images for role, images in suite.others.items() if role in used}
    sets = {"training rows": suite.train, **others}
    changed = next((name for name, images in sets.items() if images.augment != PLAIN), None)
    return f"{changed} are changed at random" if changed else ""


def exact_cut(classifier: Classifier, example: Tensor) -> Cut | None:
    """Return the classifier divided before its first layer that trains, if the two parts give the same features.

    Compared are features in eval and in training mode, and the frozen part of two rows with that of several, which
    differ where a row depends on the others.
    """
    cut = Cut(classifier)
    with frozen(classifier), torch.no_grad():
        try:
            maps = cut.maps(example).contiguous()
            alone = cut.maps(example[:2])
        except Exception:  # the first layer does not run, or reads something else
            return None
    if float((alone - maps[:2]).abs().max()) > ROUNDING * float(alone.abs().max()):
        return None
    for training in (False, True):
        whole = _features(classifier, example, training=training)
        try:
            with cut.behind():
                divided = _features(classifier, maps, training=training)
        except Exception:  # a network may need its inputs further on
            return None
        if whole.shape != divided.shape or not torch.equal(whole, divided):
            return None
    return cut


def _features(classifier: Classifier, inputs: Tensor, *, training: bool) -> Tensor:
    """Return features, with the same random numbers every time; the classifier stays as it was."""
    buffers = [(buffer, buffer.clone()) for buffer in classifier.buffers()]
    device = device_of(classifier)
    devices = [device] if device.type == "cuda" else []
    with in_mode(classifier, training=training), torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        features = classifier.features(inputs)
        for buffer, before in buffers:
            buffer.copy_(before)
    return features


class Kept:
    """What the frozen part gave for the rows of a set, in a file that is read where it is needed.

    Args:
        maps: (N, …), by row.
        labels: class ids (N,).
        dtype: the precision in which the frozen part runs; files have no bfloat16.
    """

    def __init__(self, maps: NDArray[Any], labels: NDArray[np.int64], dtype: torch.dtype):
        self.maps = maps
        self.labels = labels
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.maps)

    def batch(self, epochs: NDArray[np.int64], rows: NDArray[np.int64]) -> Rows:
        """Return rows as one batch, in the place of images; they are the same in every epoch."""
        return torch.from_numpy(self.maps[rows]).to(self.dtype), torch.from_numpy(self.labels[rows])

    def in_order(self, batch_size: int = 500) -> Iterator[Rows]:
        """Give batches of all rows."""
        for rows in np.array_split(np.arange(len(self)), range(batch_size, len(self), batch_size)):
            yield torch.from_numpy(self.maps[rows]), torch.from_numpy(self.labels[rows])


def keep(
    cut: Cut, sets: Mapping[str, ImageSet], folder: Path, rows: int, autocast: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Run the frozen part over sets of images and keep what it gives, unless the folder has it already.

    Args:
        cut: the divided network.
        sets: by name.
        folder: of the run.
        rows: how many at once.
        autocast: the context of the forward pass.
    """
    there = folder / FROZEN
    key = _key(cut, sets)
    about = _about(there)
    if about.get("key") == key and all(about["sha256"].get(file) == _found(there / file) for file in _files(sets)):
        return
    discard(folder)
    dtypes = []
    for name, images in sets.items():
        # validation rows are not seen by a step
        with nullcontext() if name == "validation" else autocast():
            dtypes += [_write(cut, images, path, rows) for path in (there / file for file in _files([name]))]
    write_json(
        there / ABOUT, {"key": key, "dtype": dtypes[0], "sha256": {f: sha256_of(there / f) for f in _files(sets)}}
    )


def kept(sets: Mapping[str, ImageSet], folder: Path) -> dict[str, Kept]:
    """Open what :func:`keep` has kept of sets."""
    there = folder / FROZEN
    dtype = getattr(torch, _about(there)["dtype"])
    return {
        name: Kept(np.load(there / file, mmap_mode="r"), images.labels, dtype)
        for (name, images), file in zip(sets.items(), _files(sets), strict=True)
    }


def discard(folder: Path) -> None:
    """Delete what was kept, and nothing else."""
    there = folder / FROZEN
    files = [ABOUT, *_files(SETS)]
    for path in (*(there / file for file in files), *there.glob(f".*{UNFINISHED}")):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or somebody else keeps something in it
        there.rmdir()


def _files(sets: Any) -> list[str]:
    return [f"{name}.npy" for name in sets]


def _about(there: Path) -> dict[str, Any]:
    """Read what the kept results belong to; nothing where that cannot be told."""
    try:
        about = json.loads((there / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(about, dict) and isinstance(about.get("sha256"), dict)
    return about if known and about.get("dtype") in ("float32", "float16", "bfloat16", "float64") else {}


def _found(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() and not path.is_symlink() else None


def _key(cut: Cut, sets: Mapping[str, ImageSet]) -> str:
    """Return the fingerprint of what the results depend on: layers, their weights, and images."""
    digest = sha256(json.dumps([cut.before, {name: images.fingerprint() for name, images in sets.items()}]).encode())
    for name, value in cut.classifier.backbone.state_dict().items():
        if any(name.startswith(f"{layer}." if layer else "") for layer in cut.before):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(cut: Cut, images: ImageSet, path: Path, rows: int) -> str:
    """Write what the frozen part gives for a set, as ``.npy``, a few rows at a time; return its precision."""
    dtype, begun = "float32", False
    with in_one_piece(path) as file, frozen(cut.classifier), torch.no_grad():
        for batch, _ in images.in_order(device_of(cut.classifier), batch_size=rows):
            maps = cut.maps(batch)
            values = at_least_float32(maps).cpu().numpy()  # which also knows no bfloat16
            if not begun:
                dtype, begun = str(maps.dtype).removeprefix("torch."), True
                about = {"descr": values.dtype.str, "fortran_order": False, "shape": (len(images), *values.shape[1:])}
                np.lib.format.write_array_header_2_0(file, about)
            file.write(np.ascontiguousarray(values).data)
    return dtype
