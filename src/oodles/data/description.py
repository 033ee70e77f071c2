"""Descriptions of suites, before any image is read: TOML files, or the content of a folder."""

import math
import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

from oodles.data.augment import SETTINGS, Augment
from oodles.data.image_files import UNSEEN
from oodles.data.names import composed, find, shown, some
from oodles.data.sources import Source, check_source, locate_source
from oodles.data.texts import ENCODERS
from oodles.remarks import warn
from oodles.spelling import suggestion

Description = Mapping[str, Any]

SETS = ("train", "test", "validation", "outliers", "validation_outliers", "wild")
LISTS = ("outliers", "validation_outliers")
"""Sets that may have several sources."""
MIXTURE = ("known", "unknown", "share")
"""What is said of wild rows that are mixed for a benchmark."""
TABLES = ("near", "far")
KEYS = (
    *(
        "name",
        *SETS,
        *TABLES,
        "classes",
        "input_shape",
        "resize",
        "draft",
        "cache",
        "encoder",
        "mean",
        "std",
        "augment",
        "imbalance",
    ),
    *("about", "notes", "root", "get"),
)
PARTS = ("train", "validation", "test", "outliers", "validation_outliers", "wild", *TABLES)
"""Parts that a folder may hold."""
OTHER_WORDS = {
    "train": ("training", "id", "in", "in_distribution"),
    "validation": ("val", "valid", "dev", "eval", "validate"),
    "test": ("testing", "id_test", "test_id"),
    "far/ood": ("ood", "out", "ood_test", "test_ood", "unknown", "out_of_distribution"),
    "outliers": ("auxiliary", "aux", "ood_train", "train_ood", "oe"),
    "wild": ("unlabelled", "unlabeled", "mixture"),
}
"""What others call the parts."""
VARIABLE = "OODLES_DATA"
SIDE = 4096
"""Pixels that a side of an image may be asked to have."""


def read_description(path: Path) -> Description:
    """Read a suite file.

    Raises:
        ValueError: for a file that is no TOML, unknown keys and wrong values.
    """
    try:
        content = tomllib.loads(composed(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}.") from error
    for key in content:
        if key not in KEYS:
            raise ValueError(f"{path} has a key {key!r} that suites do not have{suggestion(key, KEYS)}")
    for key in ("train", "test"):
        if key not in content:
            raise ValueError(f"{path} must say where {key} is.")
    _check_sets(content, path)
    _check_settings(content, path)
    kept = {"cache": f"{path.stem}.cache"} if "encoder" in content else {}
    return {"name": path.stem, **kept, **content}


def describe_folder(folder: Path) -> Description:
    """Describe a folder as a suite: its parts are the sets.

    Raises:
        FileNotFoundError: where ``train`` or ``test`` is missing.
        ValueError: for anything else that it holds.
    """
    paths = _sets_in(folder, called={*PARTS, *chain.from_iterable(OTHER_WORDS.values())})
    faults = [
        f"got {shown(path.name)!r}{_meant(part)}"
        for part, path in paths.items()
        if part not in PARTS or (part in TABLES and not path.is_dir())
    ]
    strange = bool(faults)
    faults += [
        f"must hold {part}.npz or a folder {part}, but has neither." for part in ("train", "test") if part not in paths
    ]
    if strange:
        raise ValueError(f"{folder} may hold {', '.join(PARTS)}, {' And '.join(faults)}")
    if faults:
        raise FileNotFoundError(f"{folder} {' And '.join(faults)}")
    description: dict[str, Any] = {"name": shown(folder.resolve().name)}
    for part, path in paths.items():
        if part in TABLES:
            inside = _sets_in(path)
            if not inside:
                raise ValueError(f"{path} must hold one .npz file or one folder per set, but has none.")
            description[part] = {name: str(inner.absolute()) for name, inner in inside.items()}
        else:
            description[part] = str(path.absolute())
    return description


def folders_of(description: Description, root: str | Path | Sequence[str | Path], own: Path | None) -> list[Path]:
    """List the folders that relative paths are looked up in: ``root``, of the environment, the description, ``own``."""
    given = [root] if isinstance(root, str | Path) else list(root)
    folders = [*given, *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    stated = description.get("root", [])
    for folder in [stated] if isinstance(stated, str) else stated:
        folders.append(Path(folder).expanduser() if own is None else own / Path(folder).expanduser())
    if own is not None:
        folders.append(own)
    return list(dict.fromkeys(Path(folder).expanduser().absolute() for folder in folders))


def resolve_paths(description: Description, folders: Sequence[Path]) -> Description:
    """Make every path of a description absolute.

    Raises:
        FileNotFoundError: for the first path at which nothing is.
    """

    def locate(path: str) -> Path:
        wanted = Path(path).expanduser()
        for place in [wanted] if wanted.is_absolute() else [folder / wanted for folder in folders]:
            for candidate in (place, place.with_name(place.name.removesuffix(".gz"))):
                if found := find(candidate):
                    return found.absolute()
        raise FileNotFoundError(_missing(description, path, folders))

    resolved = {key: description[key] for key in description if key not in (*SETS, *TABLES)}
    encoder = description.get("encoder", ":")
    if ":" not in encoder and encoder not in ENCODERS:
        resolved["encoder"] = str(locate(encoder))
    for key in SETS:
        if isinstance(description.get(key), list):
            resolved[key] = [locate_source(source, locate) for source in description[key]]
        elif is_mixture(description.get(key)):
            resolved[key] = {**description[key], "unknown": locate_source(description[key]["unknown"], locate)}
        elif is_source(description.get(key)):
            resolved[key] = locate_source(description[key], locate)
        elif key in description:
            resolved[key] = description[key]
    for table in TABLES:
        check_names(description.get(table, {}), table)
        resolved[table] = {name: locate_source(source, locate) for name, source in description.get(table, {}).items()}
    return resolved


def is_source(value: Any) -> bool:
    """Tell whether a set has images of its own, and is no number of another's rows."""
    return isinstance(value, str | Mapping | list)


def is_mixture(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether a set is mixed of known and unknown rows, and has no source of its own."""
    return isinstance(value, Mapping) and not {"known", "unknown"}.isdisjoint(value)


def listed(value: Source | Sequence[Source]) -> list[Source]:
    """Return the sources of a set: one, or those of a list."""
    return [value] if isinstance(value, str | Mapping) else list(value)


def share_of(source: Source) -> float | None:
    """Return the share of every pass over the outliers that a source is to have, where it has one."""
    return None if isinstance(source, str) else source.get("share")


def sources(description: Description) -> Iterator[tuple[str, Source]]:
    """Give every source of a description, with the name of its set."""
    for key in SETS:
        value = description.get(key)
        if is_mixture(value):
            yield key, value["unknown"]
        elif is_source(value):
            yield from ((key.replace("_", "-"), source) for source in listed(description[key]))
    for table in TABLES:
        yield from ((f"{table}:{name}", source) for name, source in description.get(table, {}).items())


def functions(description: Description) -> Iterator[tuple[str, str]]:
    """Give every function of a user's own that a description names, with what it is for."""
    for name, source in sources(description):
        if isinstance(source, Mapping) and "dataset" in source:
            yield name, source["dataset"]
    if ":" in description.get("encoder", ""):
        yield "encoder", description["encoder"]
    if transforms := description.get("augment", {}).get("transforms"):
        yield "transforms", transforms


def rows_wanted(value: float, rows: int, most: int, place: str, taken: str = "") -> int:
    """Return how many of ``rows`` a whole number or a share below 1 means; ``taken`` says why ``most`` is less.

    Raises:
        ValueError: for more than ``most``.
    """
    count = max(1, round(value * rows)) if isinstance(value, float) else value
    if count > most:
        raise ValueError(f"{place} must be at most {most}, as there are {rows} rows{taken}, got {value}.")
    return count


def check_rows(value: Any, place: str) -> None:
    """Refuse what is neither a whole number of rows nor a share of them."""
    share = isinstance(value, float) and 0 < value < 1
    if not share and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{place} must be a number of rows or a share between 0 and 1, got {value!r}.")


def check_names(names: Iterable[str], place: str) -> None:
    """Refuse names of sets that would make keys such as ``near:NAME/SCORE`` ambiguous."""
    for name in names:
        if not name.strip() or "/" in name or ":" in name:
            raise ValueError(f"names of {place} sets must be some text without '/' and ':', got {name!r}.")


def augment_of(description: Description) -> Augment | None:
    """Return the random changes that a description states, if it does."""
    stated = description.get("augment")
    return None if stated is None else Augment(**stated)


def _missing(description: Description, path: str, folders: Sequence[Path]) -> str:
    """Say that nothing is at a path, and what to do."""
    get = description.get("get", "").strip().rstrip(".")
    if Path(path).expanduser().is_absolute():
        sentence = f"The data {description['name']!r} needs {path}, but nothing is there"
    else:
        where = f"which is in none of {', '.join(map(str, folders))}" if folders else "and nothing says where it is"
        how = f"name its folder with --root (root=) or {VARIABLE}"
        sentence = f"The data {description['name']!r} needs {path}, {where}: {how}"
    if not get:
        return f"{sentence}."
    return f"{sentence}{'.' if get[0].isupper() else ';'} {get}."


def _check_sets(content: Description, path: Path) -> None:
    for key in SETS:
        value = content.get(key)
        if key in ("validation", "validation_outliers") and isinstance(value, int | float):
            check_rows(value, f"{key} in {path}")
        elif isinstance(value, list) and value and key in LISTS:
            for number, source in enumerate(value, start=1):
                check_source(source, f"source {number} of {key} in {path}")
        elif key == "wild" and is_mixture(value):
            _check_mixture(value, path)
        elif value is not None:
            check_source(value, f"{key} in {path}")
    if isinstance(content.get("validation_outliers"), int | float) and "outliers" not in content:
        raise ValueError(f"validation_outliers in {path} can be a number only where there are outliers.")
    for table in TABLES:
        if not isinstance(content.get(table, {}), Mapping):
            raise ValueError(f"{table} in {path} must be a table with a source for every set, got {content[table]!r}.")
        for name, source in content.get(table, {}).items():
            check_source(source, f"{table}.{name} in {path}")
    for name, source in sources(content):
        if isinstance(source, Mapping) and "rows" in source:
            check_rows(source["rows"], f"rows of {name} in {path}")
        if share_of(source) is not None and (name != "outliers" or not isinstance(content["outliers"], list)):
            raise ValueError(f"share in {path} can be said only of sources in a list of outliers, not of {name}.")
    _check_shares(content, path)


def _check_mixture(wild: Mapping[str, Any], path: Path) -> None:
    """Refuse wild rows that are no mixture of known and unknown ones."""
    for key in wild:
        if key not in MIXTURE:
            raise ValueError(f"wild in {path} has no key {key!r}{suggestion(key, MIXTURE)}")
    for key in MIXTURE:
        if key not in wild:
            raise ValueError(
                f"wild in {path} must say {key} too: rows of train as known, where unknown ones are, and their share."
            )
    check_rows(wild["known"], f"known of wild in {path}")
    check_source(wild["unknown"], f"unknown of wild in {path}")
    share = wild["share"]
    if not isinstance(share, float) or not 0 < share < 1:
        raise ValueError(
            f"share of wild in {path} must be a number between 0 and 1, that of the unknown rows, got {share!r}."
        )


def _check_shares(content: Description, path: Path) -> None:
    """Refuse shares of outliers that do not add up."""
    shares = [share_of(source) for source in listed(content.get("outliers", []))]
    stated = [share for share in shares if share is not None]
    for share in stated:
        if not isinstance(share, float) or not 0 < share < 1:
            raise ValueError(f"share of outliers in {path} must be a number between 0 and 1, got {share!r}.")
    total = sum(stated)
    if len(stated) == len(shares) and stated and abs(total - 1) > 1e-6:
        raise ValueError(f"shares of outliers in {path} must add up to 1, got {total:g}: or leave one of them out.")
    if len(stated) < len(shares) and total > 1 - 1e-6:
        raise ValueError(
            f"shares of outliers in {path} must add up to less than 1, as other sources have none, got {total:g}."
        )
    if isinstance(content.get("outliers"), list) and isinstance(content.get("validation_outliers"), int):
        raise ValueError(
            f"validation_outliers in {path} must be a share below 1 where outliers are a list, "
            f"got {content['validation_outliers']}."
        )


def _check_settings(content: Description, path: Path) -> None:
    for key in ("name", "about", "get", "cache", "encoder"):
        if not isinstance(content.get(key, "text"), str):
            raise ValueError(f"{key} in {path} must be text, got {content[key]!r}.")
    roots = content.get("root", [])
    if not isinstance(roots, str) and not _all(roots, str):
        raise ValueError(f"root in {path} must be a folder or a list of them, got {roots!r}.")
    classes = content.get("classes", ["one", "two"])
    if not _all(classes, str) or len(set(classes)) < max(2, len(classes)):
        raise ValueError(f"classes in {path} must be a list of at least 2 different names, got {classes!r}.")
    shape = content.get("input_shape", [1, 1, 1])
    if not _all(shape, int) or len(shape) != 3 or not 1 <= min(shape) <= max(shape) <= SIDE:
        raise ValueError(
            f"input_shape in {path} must be [channels, height, width] with at most {SIDE} pixels a side, got {shape!r}."
        )
    resize = content.get("resize", max(shape[1:]))
    if isinstance(resize, bool) or not isinstance(resize, int) or not max(shape[1:]) <= resize <= SIDE:
        raise ValueError(
            f"resize in {path} must be a number of pixels no smaller than input_shape's and at most {SIDE}, "
            f"got {resize!r}."
        )
    if not isinstance(content.get("draft", False), bool):
        raise ValueError(f"draft in {path} must be true or false, got {content['draft']!r}.")
    if content.get("draft") and "input_shape" not in content:
        raise ValueError(f"draft in {path} needs input_shape: say what size is wanted.")
    if "resize" in content and "input_shape" not in content:
        raise ValueError(f"resize in {path} needs input_shape: say to what size the centre is cropped.")
    for key in ("mean", "std"):
        values = content.get(key, [1.0] * shape[0])
        right = _all(values, int | float) and (len(values) == shape[0] or "input_shape" not in content)
        if not right or not values:
            raise ValueError(f"{key} in {path} must be one number per channel, got {values!r}.")
        if not all(0 <= value <= 1 for value in values) or (key == "std" and 0 in values):
            least, hint = "above" if key == "std" else "at least", ": divide by 255" if max(values) > 1 else ""
            raise ValueError(
                f"{key} in {path} must be per channel, of images in [0, 1], so {least} 0 and at most 1, "
                f"got {values!r}{hint}."
            )
    if ("mean" in content) != ("std" in content):
        one, other = ("mean", "std") if "mean" in content else ("std", "mean")
        raise ValueError(f"{one} in {path} needs {other}: give both, or neither and they are measured.")
    imbalance = content.get("imbalance", 1)
    if isinstance(imbalance, bool) or not isinstance(imbalance, int | float) or not 1 <= imbalance < math.inf:
        raise ValueError(
            f"imbalance in {path} must be a finite number of at least 1, how many times as many rows the first class "
            f"has as the last, got {imbalance!r}."
        )
    _check_augment(content.get("augment", {}), path)
    _check_notes(content, path)


def _check_augment(augment: Any, path: Path) -> None:
    if not isinstance(augment, Mapping):
        raise ValueError(f"augment in {path} must be a table such as {{ shift = 4, flip = true }}, got {augment!r}.")
    for key, value in augment.items():
        if key not in SETTINGS:
            raise ValueError(f"augment in {path} has no key {key!r}{suggestion(key, SETTINGS)}")
        if key == "flip" and not isinstance(value, bool):
            raise ValueError(f"flip in {path} must be true or false, got {value!r}.")
    try:
        Augment(**augment)
    except (TypeError, ValueError) as error:
        raise ValueError(f"augment in {path} cannot be used: {error}") from error


def _check_notes(content: Description, path: Path) -> None:
    notes = content.get("notes", {})
    if not isinstance(notes, Mapping) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError(f"notes in {path} must be a table of remarks, got {notes!r}.")
    known = [name.removeprefix("near:").removeprefix("far:") for name, _ in sources(content)]
    for name in notes:
        if name not in known:
            raise ValueError(f"notes in {path} speak of {name!r}, which is no set of it{suggestion(name, known)}")


def _all(values: Any, kind: Any) -> bool:
    """Tell whether something is a list of one kind; booleans are no numbers."""
    return isinstance(values, list) and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _meant(name: str) -> str:
    """End a sentence about a part that suites do not have."""
    word = name.lower().replace("-", "_")
    meant = next((part for part, words in OTHER_WORDS.items() if word in words), "")
    return f": did you mean {meant!r}?" if meant else suggestion(name, PARTS, "move it elsewhere.")


def _sets_in(folder: Path, called: Collection[str] = ()) -> dict[str, Path]:
    """Find the ``.npz`` files and folders in a folder, by name; warn of all others, or of those ``called`` so."""
    sets: dict[str, Path] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.casefold() in UNSEEN:
            continue
        if not (path.is_dir() or path.suffix.lower() == ".npz"):
            if not called or path.name.partition(".")[0] in called:
                others.append(shown(path.name) if path.exists() else f"{shown(path.name)} (a link to nothing)")
            continue
        name = shown(composed(path.stem if path.suffix.lower() == ".npz" else path.name))
        if name in sets:
            raise ValueError(f"{folder} must hold {name}.npz or a folder {name}, but has both: keep one.")
        sets[name] = path
    if others:
        warn(f"{folder} holds more than sets, and this is left out: {some(others)}.")
    return sets
