"""Sources of rows: what a suite file may say of a set, and how its images, vectors or texts are read."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oodles.data import arrays, cifar, image_files, mapped, tables, texts
from oodles.data.datasets import read_dataset
from oodles.data.raw import RawImages
from oodles.data.texts import Texts
from oodles.importing import function_at, in_words
from oodles.spelling import suggestion

Source = str | Mapping[str, Any]
"""A path, or a table with the keys of one of the kinds."""

KINDS: dict[str, tuple[set[str], set[str]]] = {
    "path": ({"path"}, set()),
    "cifar": ({"cifar"}, {"part"}),
    "list": ({"list", "images"}, set()),
    "dataset": ({"dataset"}, set()),
    "images": ({"images"}, {"labels"}),
    "features": ({"features"}, {"labels", "label", "columns"}),
    "texts": ({"texts"}, {"text", "label", "key"}),
}
"""By the key that tells the kind: the keys it must have, and those it may have."""
EVERYWHERE = {"rows", "share"}
SEVERAL = ("cifar", "columns")
"""Keys whose value may be a list."""
COLUMNS, LINES = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json", ".txt")
"""How files with tables, and others with texts, end."""
PATHS = {"path", "list", "images", "labels", "cifar", "features", "texts"}
"""The keys that name files and folders."""

Words = Mapping[str, Any]
NOTHING_SAID: Words = {}
LABEL, TEXT = "label", "text"
"""What columns and keys are called, unless a suite says otherwise."""
Encode = Callable[[Texts], RawImages]
"""Makes vectors of texts."""
Locate = Callable[[str], Path]
"""Makes a path of a suite file absolute."""


def check_source(source: Any, place: str) -> None:
    """Refuse what is no source.

    Raises:
        ValueError: that says what ``place`` must hold.
    """
    if isinstance(source, str) and source:
        return
    if not isinstance(source, Mapping):
        raise ValueError(f"{place} must be a path or a table such as {{ path = … }}, got {source!r}.")
    known = set().union(EVERYWHERE, *(must | may for must, may in KINDS.values()))
    for key in source:
        if key not in known:
            raise ValueError(f"{place} has no key {key!r}{suggestion(key, sorted(known))}")
    kind = _kind(source, place)
    must, may = KINDS[kind]
    if missing := must - set(source):
        raise ValueError(f"{place} must say {missing.pop()} too, as its rows come from {kind!r}.")
    if strange := sorted(set(source) - must - may - EVERYWHERE):
        raise ValueError(f"{place} cannot say {strange[0]!r} of rows that come from {kind!r}: leave it out.")
    for key in sorted(set(source) - EVERYWHERE):
        values = source[key] if key in SEVERAL and isinstance(source[key], list) else [source[key]]
        if not values or not all(isinstance(value, str) and value for value in values):
            raise ValueError(f"{key} in {place} must be text, got {source[key]!r}.")
    if source.get("part", "train") not in cifar.PARTS:
        raise ValueError(f"part in {place} must be one of {', '.join(cifar.PARTS)}, got {source['part']!r}.")


def locate_source(source: Source, locate: Locate) -> Source:
    """Make every path of a source absolute."""
    if isinstance(source, str):
        return str(locate(source))
    located = dict(source)
    for key in PATHS & set(source):
        value = source[key]
        located[key] = str(locate(value)) if isinstance(value, str) else [str(locate(path)) for path in value]
    return located


def read_source(source: Source, encode: Encode | None = None, words: Words = NOTHING_SAID) -> RawImages:
    """Read the rows of a source whose paths are absolute.

    Args:
        source: what a suite file says.
        encode: what texts need.
        words: ``label``, ``text`` and ``columns`` of a table or of texts, where the source does not say them.

    Raises:
        FileNotFoundError: where nothing is at a path.
        ValueError: for what cannot be read so, and texts without an encoder.
    """
    for path in _paths(source):
        _check_kind(path)
    if isinstance(source, str):
        return read_path(Path(source), encode, words)
    kind = _kind(source, "a source")
    if kind == "path":
        return read_path(Path(source["path"]), encode, words)
    if kind == "cifar":
        return _read_cifar(source)
    if kind == "list":
        listed, images = Path(source["list"]), Path(source["images"])
        if images.is_dir():
            return image_files.read_list(listed, images)
        return _take_rows(read_path(images, encode, words), listed)
    if kind == "dataset":
        return _read_function(source["dataset"])
    path = Path(source[kind])
    if kind == "texts":
        return _read_texts(path, encode, {**words, **source})
    if kind == "features" and path.suffix.lower() in COLUMNS:
        return _read_table(path, {**words, **source})
    if strange := sorted({"label", "columns"} & set(source)):
        raise ValueError(f"{strange[0]} is said of tables, {' and '.join(COLUMNS)}, got {path}: leave it out.")
    labels = Path(source["labels"]) if "labels" in source else None
    if path.suffix.lower() == ".npz" and labels is None:
        return arrays.read_npz(path)
    if path.suffix.lower() == ".npy":
        return mapped.read_npy(path, labels)
    return arrays.read_idx(path, labels)


def files_of(source: Source) -> image_files.Files | None:
    """Return the image files of a source, where that is a folder or a list of files in one."""
    table = {"path": source} if isinstance(source, str) else source
    kind = _kind(table, "a source")
    place = Path(table.get("images" if kind == "list" else kind, ""))
    if kind not in ("path", "list") or not place.is_dir():
        return None
    files = read_source(source).images
    return files if isinstance(files, image_files.Files) else None


def holds_vectors(source: Source) -> bool:
    """Tell whether the rows of a source are feature vectors, without reading them."""
    table = {"path": source} if isinstance(source, str) else source
    kind = _kind(table, "a source")
    if kind not in ("path", "list", "images", "features"):
        return kind == "texts"
    path = Path(table["images" if kind == "list" else kind])
    ending = path.suffix.lower()
    if ending in (*COLUMNS, *LINES):
        return True
    return ending in (".npz", ".npy") and path.is_file() and arrays.are_vectors(path)


def read_path(path: Path, encode: Encode | None = None, words: Words = NOTHING_SAID) -> RawImages:
    """Read the images of a folder, or the rows of a file, whose kind its ending or its first bytes tell."""
    _check_kind(path)
    if path.is_dir():
        return image_files.read_folder(path)
    ending = path.suffix.lower()
    if ending in LINES or (ending in COLUMNS and encode is not None):
        return _read_texts(path, encode, words)
    if ending in COLUMNS:
        return _read_table(path, words)
    if ending == ".npz":
        return arrays.read_npz(path)
    if ending == ".npy":
        return mapped.read_npy(path)
    with path.open("rb") as file:
        start = file.read(4)
    return arrays.read_idx(path) if arrays.is_idx(start, path) else image_files.read_file(path)


def _take_rows(raw: RawImages, path: Path) -> RawImages:
    """Return the rows of a file that another lists by their numbers, one on each line."""
    lines = image_files.read_lines(path)
    for place, number in lines:
        if not re.fullmatch("[0-9]{1,18}", number) or int(number) >= len(raw.names):
            raise ValueError(
                f"{place} must be the number of a row of {raw.place}, 0 to {len(raw.names) - 1}, got {number!r}."
            )
    return raw.take(np.array([int(number) for _, number in lines], dtype=np.int64))


def _read_table(path: Path, words: Words) -> RawImages:
    columns = words.get("columns", ())
    return tables.read_table(path, words.get("label", LABEL), [columns] if isinstance(columns, str) else columns)


def _read_texts(path: Path, encode: Encode | None, words: Words) -> RawImages:
    if encode is None:
        raise ValueError(
            f'{path} holds texts, which become numbers by an encoder: say encoder = "package.module:function", '
            "or a folder of sentence-transformers, in a suite file."
        )
    return encode(texts.read_texts(path, words.get("text", TEXT), words.get("label", LABEL), words.get("key")))


def _paths(source: Source) -> list[Path]:
    if isinstance(source, str):
        return [Path(source)]
    values = [source[key] for key in PATHS if key in source]
    return [Path(path) for value in values for path in ([value] if isinstance(value, str) else value)]


def _check_kind(path: Path) -> None:
    """Refuse a path at which there is neither a file nor a folder; to read from a pipe is to wait for ever."""
    if not path.exists():
        raise FileNotFoundError(f"data must be at an existing path, but nothing is at {path}.")
    if not path.is_dir() and not path.is_file():
        raise ValueError(f"data must be in a folder or a regular file, which {path} is not.")


def _kind(source: Mapping[str, Any], place: str) -> str:
    """Return the key that tells the kind; ``images`` comes last, since a list has it too."""
    for kind in KINDS:
        if kind in source:
            return kind
    raise ValueError(f"{place} must say where its rows are: {', '.join(KINDS)}.")


def _read_function(name: str) -> RawImages:
    function = function_at(name, "dataset")
    try:
        dataset = function()
    except Exception as error:  # it is the user's, and may do anything
        raise ValueError(f"dataset {name!r} broke when called without arguments: {in_words(error)}.") from error
    return read_dataset(dataset, f"dataset {name!r}")


def _read_cifar(source: Mapping[str, Any]) -> RawImages:
    paths: Sequence[str] = source["cifar"] if isinstance(source["cifar"], list) else [source["cifar"]]
    if not Path(paths[0]).is_dir():
        return cifar.read_cifar([Path(path) for path in paths])
    if "part" not in source:
        raise ValueError(f'{paths[0]} is a folder: say part = "train" or part = "test" as well.')
    return cifar.read_cifar(*cifar.batch_files(Path(paths[0]), source["part"]))
