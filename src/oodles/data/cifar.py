"""CIFAR's own python batches, read by an unpickler that makes arrays and plain containers alone."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oodles.data.arrays import from_arrays
from oodles.data.names import composed
from oodles.data.raw import RawImages

PARTS = {
    "train": (*(f"data_batch_{number}" for number in range(1, 6)), "train"),
    "test": ("test_batch", "test"),
}
META = {"batches.meta": "label_names", "meta": "fine_label_names"}
LABELS = ("labels", "fine_labels")
NUMBERS = {"u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f4", "f8"}


def read_cifar(paths: Sequence[Path], meta: Path | None = None) -> RawImages:
    """Read the batches of CIFAR-10 or CIFAR-100 (whose fine labels count), one after the other.

    Raises:
        ValueError: for files that hold anything else.
    """
    batches = [_batch(path) for path in paths]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return from_arrays(", ".join(map(str, paths)), images, labels, _class_names(meta) if meta else ())


def batch_files(folder: Path, part: str) -> tuple[list[Path], Path | None]:
    """Find the batches of a part in a folder, and the file that names the classes."""
    *parts, whole = PARTS[part]
    there = [name for name in PARTS[part] if (folder / name).is_file()]
    if not there:
        raise FileNotFoundError(f"{folder} must hold {' or '.join(PARTS[part])}, but has none of them.")
    batches = [whole] if there == [whole] else parts
    if there != batches:
        raise ValueError(f"{folder} must hold {', '.join(parts)}, or {whole} alone, but holds {', '.join(there)}.")
    paths = [folder / name for name in batches]
    return paths, next((folder / name for name in META if (folder / name).is_file()), None)


def _batch(path: Path) -> tuple[Any, Any]:
    content = _unpickled(path)
    pixels, labels = content.get("data"), next((content[key] for key in LABELS if key in content), None)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise ValueError(f"{path} must hold data of shape (N, 3072) in bytes, as the batches of CIFAR do.")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels) or len(labels) != len(pixels):
        raise ValueError(f"{path} must hold {len(pixels)} labels or fine_labels, as the batches of CIFAR do.")
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


def _class_names(path: Path) -> tuple[str, ...]:
    names = _unpickled(path).get(META[path.name])
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ValueError(f"{path} must hold {META[path.name]}, as CIFAR's does.")
    return tuple(composed(_text(name)) for name in names)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in content.items()}
    except Exception as error:  # damaged pickles fail in many ways
        raise ValueError(f"{path} cannot be read as a batch of CIFAR: {error}.") from error


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


class _Number:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def dtype(self) -> np.dtype[Any]:
        if self.code not in NUMBERS or self.order not in ("|", "<", ">"):
            raise ValueError(f"its array holds {self.code}, and only numbers are let in")
        return np.dtype(f"{self.order}{self.code}")


class _Array:
    """Stands in for ``numpy.ndarray``."""

    state: tuple[Any, Any, Any, Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, number, by_column, content = state
        self.state = (shape, number, by_column, content)

    def array(self) -> np.ndarray[Any, Any]:
        shape, number, by_column, content = self.state
        if not isinstance(number, _Number) or not isinstance(content, bytes | bytearray):
            raise ValueError("its array is none of numbers")
        return np.frombuffer(content, number.dtype()).reshape(shape, order="F" if by_column else "C")


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _from_buffer(content: Any, number: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.state = (shape, number, _text(order) == "F", content)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Return bytes as Python 3 writes them for Python 2."""
    return bytes(text, "latin1")


STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Number,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}
"""All that a batch may ask for: none of it is NumPy's own, and all of it only keeps its arguments."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        wanted = (module.replace("numpy._core", "numpy.core"), name)
        if wanted not in STAND_INS:
            raise ValueError(f"it asks for {module}.{name}, and only arrays and plain containers are let in")
        return STAND_INS[wanted]
