"""The description of a benchmark, read from TOML and checked before anything trains."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from oodles.comparing.results import folder_of_run
from oodles.data import SUITES, describe_suite
from oodles.data.description import read_description
from oodles.facts import ROLES, check_composition
from oodles.methods import build_methods
from oodles.networks import NETWORKS
from oodles.runs.recipe import OF_NETWORK, Recipe, check_needs, check_teacher, check_weights, merge_settings, recipes
from oodles.spelling import suggestion

OPTIONS = {
    "network": None,
    "head": None,
    "device": "auto",
    "compile": False,
    "channels_last": False,
    "accumulate": 1,
}
"""Arguments of :func:`oodles.train` that hold for all runs, and their defaults."""
_KINDS: Mapping[str, tuple[type, str]] = {
    "compile": (bool, "true or false"),
    "channels_last": (bool, "true or false"),
    "accumulate": (int, "a whole number"),
}
DEVICES = ("auto", "cpu", "cuda")
_KEYS = ("suites", "seeds", *OPTIONS, "root", "settings", "recipes")
_SETTINGS = tuple(setting.name for setting in fields(Recipe))
_OF_A_ROW = ("name", "recipe", *_SETTINGS)


@dataclass(frozen=True)
class Row:
    """One recipe of a benchmark, under the name that tables give it."""

    name: str
    recipe: Recipe
    """With paths as ``weights`` and ``teacher``, or the names of the rows that it starts and learns from."""
    after: str | None = None
    """The row that it starts from."""
    taught_by: str | None = None
    """The row that it learns from."""


@dataclass(frozen=True, eq=False)
class Task:
    """One run of a benchmark, ready to be trained on any machine that sees the folder."""

    row: str
    suite: str
    seed: int
    recipe: Recipe
    data: str
    folder: Path
    options: Mapping[str, Any]
    """Arguments of :func:`oodles.train` that are not at their defaults."""
    after: Path | None
    """The folder of the run that it starts from."""
    taught_by: Path | None
    """The folder of the run that it learns from."""

    def __str__(self) -> str:
        return f"{self.row}, {self.suite}, seed {self.seed}"


@dataclass(frozen=True)
class Benchmark:
    """Rows × suites × seeds, checked: see :meth:`load`."""

    name: str
    rows: tuple[Row, ...]
    suites: Mapping[str, str]
    """The suites as :func:`oodles.data.load_suite` takes them, by name."""
    seeds: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of :func:`oodles.train` that are not at their defaults."""
    root: tuple[str, ...] = ()
    """Where the files of the suites are."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Benchmark":
        """Read a benchmark that comes with the package, by name, or one of your own, by the path of its TOML file.

        Raises:
            ValueError: for an unknown name, or a file with a mistake; the sentence says which.
            FileNotFoundError: for a path where there is no file.
        """
        given, shipped = str(name_or_path), resources.files("oodles").joinpath("benchmarks")
        path = Path(given)
        if given in benchmarks():
            text, folder = shipped.joinpath(f"{given}.toml").read_text(encoding="utf-8"), Path()
        elif path.suffix != ".toml":
            raise ValueError(f"There is no benchmark {given!r}{suggestion(given, benchmarks())}")
        elif not path.is_file():
            raise FileNotFoundError(f"There is no benchmark at {given}: give the path of a TOML file.")
        else:
            text, folder = path.read_text(encoding="utf-8", errors="replace"), path.parent
        try:
            return cls.from_dict(tomllib.loads(text), name=path.stem if path.suffix == ".toml" else given, at=folder)
        except (ValueError, TypeError, RecursionError) as error:  # a mistake in TOML itself is a ValueError too
            raise ValueError(f"{given} is no benchmark: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, name: str, at: str | Path = ".") -> "Benchmark":
        """Build a benchmark from the content of its TOML file.

        Args:
            values: the file's keys: ``suites`` and ``recipes``, and where wanted ``seeds``, ``settings``, ``root``,
                ``network``, ``head``, ``device``, ``compile``, ``channels_last`` and ``accumulate``.
            name: of the benchmark.
            at: the folder that its paths are relative to.

        Raises:
            ValueError: for anything that could not be trained as it is written.
        """
        for key in values:
            if key not in _KEYS:
                raise ValueError(f"it has an unknown {key!r}{suggestion(key, _KEYS)}")
        for key in ("suites", "recipes"):
            if not isinstance(values.get(key), list) or not values[key]:
                raise ValueError(f"{key} must be a list of one or more, got {values.get(key)!r}.")
        at = Path(at)
        return cls(
            name,
            _rows(values["recipes"], _settings(values.get("settings", {})), at),
            _suites(values["suites"], at),
            list_seeds(values.get("seeds", 1)),
            _options(values),
            _folders(values.get("root", []), at),
        )

    def tasks(self, folder: Path) -> tuple[Task, ...]:
        """List every run, after those that it starts and learns from; runs of a row lie side by side in ``folder``."""
        return tuple(
            Task(
                row=row.name,
                suite=suite,
                seed=seed,
                recipe=replace(
                    row.recipe,
                    seed=seed,
                    weights=str(after) if after else row.recipe.weights,
                    teacher=str(taught_by) if taught_by else row.recipe.teacher,
                ),
                data=data,
                folder=folder_of_run(folder, suite, row.name, seed),
                options={**self.options, **({"root": list(self.root)} if self.root else {})},
                after=after,
                taught_by=taught_by,
            )
            for row in self.rows
            for suite, data in self.suites.items()
            for seed in self.seeds
            for after, taught_by in [
                [folder_of_run(folder, suite, name, seed) if name else None for name in (row.after, row.taught_by)]
            ]
        )


def benchmarks() -> tuple[str, ...]:
    """Return the names of the benchmarks that come with the package."""
    files = resources.files("oodles").joinpath("benchmarks").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def list_seeds(given: Any) -> tuple[int, ...]:
    """List the seeds from how many there are, counted from 0, or from the list of them.

    Raises:
        ValueError: for anything else.
    """
    if type(given) is int and given >= 1:
        return tuple(range(given))
    is_list = isinstance(given, list | tuple) and len(given) > 0
    if not is_list or not all(type(seed) is int and seed >= 0 for seed in given) or len(set(given)) < len(given):
        raise ValueError(f"seeds must be how many, at least 1, or a list of different whole numbers, got {given!r}.")
    return tuple(given)


def _suites(given: Sequence[Any], at: Path) -> dict[str, str]:
    suites: dict[str, str] = {}
    for suite in given:
        if not isinstance(suite, str):
            raise ValueError(f"suites must be names, TOML files or folders, got {suite!r}.")
        known = suite in SUITES
        if not known and not (at / suite).exists():
            hint = suggestion(suite, SUITES, f"give a TOML file, a folder, or one of {', '.join(SUITES)}.")
            raise ValueError(f"there is no suite {suite!r}{hint}")
        data = suite if known else str((at / suite).resolve())
        name = _suite_name(data)
        if not _can_name_a_folder(name):
            raise ValueError(f"the suite {suite!r} must have a name that a folder can have, got {name!r}.")
        if name in suites:
            raise ValueError(f"two suites are called {name!r}: give one of them another name.")
        suites[name] = data
    return suites


def _suite_name(data: str) -> str:
    """Return the name of a suite, which tables and folders bear."""
    path = Path(SUITES.get(data, data))
    if path.suffix != ".toml" or path.is_dir():  # a function, or a folder
        return path.name if data not in SUITES else data
    return str(read_description(path)["name"])


def _can_name_a_folder(name: Any) -> bool:
    return isinstance(name, str) and name[:1] not in ("", ".") and not any(sign in name for sign in "/\\\n")


def check_data(tasks: Sequence[Task]) -> None:
    """Check once that the files of every suite are there, and outliers and wild rows where methods need them.

    Raises:
        FileNotFoundError: for files that are not there.
        ValueError: for a suite with a mistake, or one without the outliers or wild rows that a row needs.
    """
    roots = {task.data: task.options.get("root", ()) for task in tasks if not isinstance(SUITES.get(task.data), str)}
    sets = {data: describe_suite(data, root) for data, root in roots.items()}
    for task in tasks:
        try:  # the sets of a suite that a function makes are known only when it is made
            check_needs(task.recipe, task.suite, roles=sets.get(task.data, ROLES))
        except ValueError as error:
            raise ValueError(f"The row {task.row!r} cannot be trained on {task.suite!r}: {error}") from error


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: values[key] for key in OPTIONS if key in values}
    for key, value in given.items():
        kind, words = _KINDS.get(key, (str, "text"))
        if type(value) is not kind:
            raise ValueError(f"{key} must be {words}, got {value!r}.")
    if given.get("accumulate", 1) < 1:
        raise ValueError(f"accumulate must be at least 1, got {given['accumulate']}.")
    if given.get("device", "auto") not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {given['device']!r}.")
    network = given.get("network", "")
    if network and ":" not in network and network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}{suggestion(network, NETWORKS)}")
    return {key: value for key, value in given.items() if value != OPTIONS[key]}


def _folders(given: Any, at: Path) -> tuple[str, ...]:
    folders = [given] if isinstance(given, str) else given
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ValueError(f"root must be a folder or a list of folders, got {given!r}.")
    return tuple(str((at / folder).resolve()) for folder in folders)


def _settings(given: Any) -> dict[str, Any]:
    """Return the settings that all rows share; refuse keys that are none."""
    if not isinstance(given, dict):
        raise ValueError(f"settings must be a [settings] table, got {given!r}.")
    known = [name for name in ("recipe", *_SETTINGS) if name not in ("methods", "weights", "teacher", "seed")]
    for key in given:
        if key in _KEYS:
            raise ValueError(f"{key} is no setting of a recipe: write it above [settings].")
        if key in ("methods", "weights", "teacher"):
            raise ValueError(f"{key} cannot be settings of all rows: give them to one of the [[recipes]].")
        if key not in known:
            raise ValueError(f"settings have no {key!r}{suggestion(key, known)}")
    return given


def _rows(given: Sequence[Any], settings: Mapping[str, Any], at: Path) -> tuple[Row, ...]:
    """Build the rows, and those that they start from, which come first."""
    rows: dict[str, Row] = {}
    for number, entry in enumerate(given, 1):
        row = _row({"recipe": entry} if isinstance(entry, str) else entry, f"recipe {number}", settings, at)
        if row.name.replace(" ", "") in [name.replace(" ", "") for name in rows]:  # as folders are called
            raise ValueError(f"two recipes are called {row.name!r}: give one of them another name = ….")
        rows[row.name] = row
    for row in (waiting := list(rows.values())):
        name = row.recipe.weights
        if name in (None, OF_NETWORK):
            continue
        if name not in rows and name in recipes():
            rows[name] = _row({"recipe": name}, f"recipe {name!r}", settings, at)
            waiting.append(rows[name])
        if name in rows:
            rows[row.name] = replace(row, after=name)
        elif (at / name).exists():
            rows[row.name] = replace(row, recipe=replace(row.recipe, weights=str((at / name).resolve())))
        else:
            known = dict.fromkeys([*(other for other in rows if other != row.name), *recipes()])
            raise ValueError(
                f"{row.name!r} starts from {name!r}, which is no row, recipe or path{suggestion(name, known)}"
            )
    for name, row in rows.items():
        if (teacher := row.recipe.teacher) in rows:
            rows[name] = replace(row, taught_by=teacher)
        elif teacher and teacher not in NETWORKS and (at / teacher).exists():
            rows[name] = replace(row, recipe=replace(row.recipe, teacher=str((at / teacher).resolve())))
    return tuple(_in_order(rows))


def _in_order(rows: Mapping[str, Row]) -> Iterator[Row]:
    """Yield each row after those that it starts and learns from."""
    done: set[str] = set()

    def with_those_before(row: Row, chain: Sequence[str]) -> Iterator[Row]:
        if row.name in chain:
            circle = " from ".join(map(repr, [*chain[chain.index(row.name) :], row.name]))
            raise ValueError(f"{circle}: rows cannot start or learn from one another in a circle.")
        for name in (row.after, row.taught_by):
            if name is not None:
                yield from with_those_before(rows[name], [*chain, row.name])
        if row.name not in done:
            done.add(row.name)
            yield row

    for row in rows.values():
        yield from with_those_before(row, [])


def _row(given: Any, where: str, settings: Mapping[str, Any], at: Path) -> Row:
    """Build one row: its own settings win over those that rows share, and these over its recipe's."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be a [[recipes]] table or the name of a recipe, got {given!r}.")
    for key in given:
        if key == "seed":
            raise ValueError(f"{where} has a seed of its own: seeds = … above [settings] hold for all rows.")
        if key not in _OF_A_ROW:
            raise ValueError(f"{where} has an unknown {key!r}{suggestion(key, _OF_A_ROW)}")
    own = {key: value for key, value in given.items() if key not in ("name", "recipe")}
    if "methods" in own:
        own["methods"] = _methods(own["methods"], where)
    source = given.get("recipe", settings.get("recipe"))
    if source is not None and not isinstance(source, str):
        raise ValueError(f"{where}: recipe must be the name of one or a TOML file, got {source!r}.")
    shared = {key: value for key, value in settings.items() if key != "recipe"}
    try:
        base = _recipe(source, at) if source else {}
        # a row that says nothing about it measures nothing, as in the recorded ones
        recipe = Recipe.from_dict(merge_settings({"suggest": False}, base, shared, own))
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{where}: {error}") from error
    whole = "recipe" in given and "methods" not in given
    name = given.get("name", Path(given["recipe"]).name.removesuffix(".toml") if whole else recipe.label)
    if not _can_name_a_folder(name):
        raise ValueError(f"{where}: name must be one that a folder can have, got {name!r}.")
    _check_methods(recipe, name)
    return Row(name, recipe)


def _check_methods(recipe: Recipe, name: str) -> None:
    """Build the methods as training does: each checks its own settings."""
    try:
        check_composition(build_methods(recipe.methods))
        check_weights(recipe)
        check_teacher(recipe)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name!r} cannot be trained: {error}") from error


def _recipe(source: str, at: Path) -> dict[str, Any]:
    """Return a recipe's settings; the weights and the teacher of a recipe in a file are relative to that file."""
    if not source.endswith(".toml"):
        return Recipe.load(source).as_dict()
    values = Recipe.load(at / source).as_dict()
    for key in ("weights", "teacher"):
        path = values[key]
        if path and path not in (OF_NETWORK, *recipes(), *NETWORKS) and ((at / source).parent / path).exists():
            values[key] = str(((at / source).parent / path).resolve())
    return values


def _methods(given: Any, where: str) -> list[dict[str, Any]]:
    """Return methods as a recipe has them; a name alone stands for the method at its defaults."""
    given_list = given if isinstance(given, list) else []
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in given_list]
    if not entries or not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries):
        raise ValueError(f"{where}: methods must be a list of names or of tables with a name, got {given!r}.")
    return entries
