"""Compare runs: gather their results, put them into tables, and write these in one of several forms."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oodles.comparing import markdown, numbers, terminal
from oodles.comparing.results import RESULTS, Result, folder_of_run, read_results, result_of, with_kept_score
from oodles.comparing.tables import Table, build_table
from oodles.files import write_text
from oodles.runs.folder import RUN, check_output
from oodles.runs.opened import Run, open_run


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs side by side, one table per suite; ``print`` shows it, ``write`` keeps it."""

    tables: tuple[Table, ...]

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Return aligned tables for a terminal of ``width`` columns, with escape codes if ``color``."""
        return terminal.render(self.tables, width=width, color=color)

    def to_markdown(self) -> str:
        """Return the same tables in Markdown."""
        return markdown.render(self.tables)

    def to_csv(self) -> str:
        """Return a line per suite, method, score, set, metric and seed; every score that the runs hold.

        The statistics of a difference over all seeds are repeated on each of its lines. The columns that begin with
        ``best`` are about the difference to plain cross-entropy under the score that is best on validation data.
        """
        return numbers.as_csv(self.tables)

    def to_json(self) -> str:
        """Return every figure as JSON, per seed and in summary, for every score that the runs hold."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the document that :meth:`to_json` writes."""
        return numbers.as_dict(self.tables)

    def to_html(self) -> str:
        """Return a report with pictures, in one file that needs no network."""
        from oodles.comparing import page

        return page.render(self.tables)

    def write(self, path: str | Path) -> Path:
        """Write .html, .md, .csv or .json, whichever ``path`` ends in.

        Raises:
            ValueError: for another ending, a folder, and a file of a run.
        """
        path = Path(path)
        check_output(path)
        forms = {".html": self.to_html, ".md": self.to_markdown, ".csv": self.to_csv, ".json": self.to_json}
        if path.suffix not in forms:
            raise ValueError(f"A comparison is written to .html, .md, .csv or .json, got {str(path)!r}.")
        content = forms[path.suffix]()
        write_text(path, content)
        return path


def compare(
    runs: Iterable[Run | Result | str | Path], score: str | None = None, *, data: str | Path | None = None
) -> Comparison:
    """Compare finished or diverged runs, by recipe and paired by seed; unfinished ones are left out and named.

    Args:
        runs: run folders, opened or not, results of runs, files of them (``.jsonl``), and folders of benchmarks, in
            any mixture. Runs of one recipe with different seeds become one row; a run that is given twice counts once,
            under the name of its row in a file.
        score: one score for all, also one that all runs have been evaluated with since, such as ``knn(k=5)``; by
            default every method is shown under the score that its paper uses.
        data: the suite file of all run folders, where that names functions of your own, or has moved: a report shows
            inputs of a suite that it can read.

    Raises:
        FileNotFoundError: for a folder that is no run, and a file that is not there.
        ValueError: for no runs that have ended, two runs of one recipe and seed, a damaged file, a score that the
            runs do not have, or data of another suite than a run's.
    """
    results = _gather(runs, data)
    if not results:
        raise ValueError("compare needs at least one run, got none.")
    ended = [run for run in results if run.status != "unfinished"]
    if not ended:
        raise ValueError(f"{results[0]} has not ended: repeat its command to resume it.")
    by_suite: dict[str, list[Result]] = {}
    for run in ended:
        by_suite.setdefault(run.data, []).append(with_kept_score(run, score) if score else run)
    first, *others = (build_table(suite, members, score) for suite, members in by_suite.items())
    if left_out := [run.folder.name if run.folder else str(run) for run in results if run.status == "unfinished"]:
        remark = f"Left out, since they have not ended: {', '.join(left_out)}."
        first = replace(first, remarks=(*first.remarks, remark))
    return Comparison((first, *others))


def _gather(runs: Iterable[Run | Result | str | Path], data: str | Path | None) -> list[Result]:
    """Return the result of every run once.

    A run that is given by its folder and by its line in a file keeps the name from the file, and its pictures.
    """
    named: list[Result] = []  # these come first, since files hold the names of rows
    opened: dict[Path, Result] = {}
    for run in runs:
        if isinstance(run, Result):
            named.append(run)
        elif not isinstance(run, Run) and Path(run).suffix == ".jsonl":
            named += read_results(run)
        elif not isinstance(run, Run) and (Path(run) / RESULTS).is_file() and not (Path(run) / RUN).exists():
            named += _read_benchmark(Path(run), data)
        elif (folder := (run.folder if isinstance(run, Run) else Path(run)).resolve()) not in opened:
            said = run.suite if isinstance(run, Run) else data
            opened[folder] = result_of(open_run(folder, data=said))
    once: dict[tuple[str, str, int], list[Result]] = {}
    for result in (*named, *opened.values()):
        kept = once.setdefault((result.data, json.dumps(result.settings, sort_keys=True, default=str), result.seed), [])
        place = next((place for place, other in enumerate(kept) if _same_run(other, result)), None)
        if place is not None:
            kept[place] = replace(kept[place], folder=kept[place].folder or result.folder)
            continue
        if other := next((other for other in kept if other.label == result.label), None):
            raise ValueError(f"{other.in_words} and {result.in_words} are the same recipe and seed: give one of them.")
        kept.append(result)
    return [result for kept in once.values() for result in kept]


def _read_benchmark(folder: Path, data: str | Path | None) -> Iterator[Result]:
    """Read the results in the folder of a benchmark, with the run folders that are still there."""
    for result in read_results(folder / RESULTS):
        run = folder_of_run(folder, result.data, result.label, result.seed)
        there = (run / RUN).is_file()
        yield replace(result, folder=run, suite=None if data is None else str(data)) if there else result


def _same_run(first: Result, second: Result) -> bool:
    """Say whether two results are of one run, whatever its row is called; ``seconds`` tell most runs apart."""
    if first.folder and second.folder and first.folder.resolve() != second.folder.resolve():
        return False
    return replace(first, label="", environment={}) == replace(second, label="", environment={})
