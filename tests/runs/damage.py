"""Damage the files of run folders and call every command: it works, or says in one sentence which file is at fault.

``python -m tests.runs.damage 1000`` does so a thousand times at random and prints what happened.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exception

import numpy as np

from oodles.cli import main
from oodles.runs.folder import CHOICE, FILES, FITS, LOG, RESULT, RUN, SCORES, WEIGHTS
from tests.runs.small import small_suite, write_sets

OTHER_VALUES = (None, True, -1, 0.5, 10**30, float("nan"), "", "text", "\x1b[2J$\\frac$", [], {}, [[1]], {"a": 1})
"""What may stand in the place of a value of another type."""


@dataclass(frozen=True)
class Place:
    """Where runs are damaged: whole ones to begin with, and what commands need besides."""

    folder: Path
    data: Path
    inputs: Path

    @property
    def finished(self) -> Path:
        return self.folder / "finished"

    @property
    def unfinished(self) -> Path:
        return self.folder / "unfinished"

    def train(self, run: Path) -> list[str]:
        """Return the words of the command that trains, and resumes, a run."""
        words = ["train", "outlier-exposure", "--data", str(self.data), "--epochs", "2", "--batch-size", "20"]
        return [*words, "--network", "tests.runs.small:linear", "--device", "cpu", "--to", str(run)]


def prepare(folder: Path) -> Place:
    """Write a suite, train a run to its end, and copy it as it was when training had ended and tests had not begun."""
    suite, place = small_suite(rows=60), Place(folder, folder / "data", folder / "inputs.npz")
    write_sets(place.data, **{name.replace(":", "/"): images for name, images in suite.sets().items()})
    np.savez(place.inputs, images=suite.test.images[:5])
    assert call(place.train(place.finished)).code == 0
    shutil.copytree(place.finished, place.unfinished)
    for name in (WEIGHTS, SCORES, RESULT):
        (place.unfinished / name).unlink()
    return place


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def call(words: list[str]) -> Answer:
    """Call a command in this process; what it does not catch is said like an error."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except Exception as error:  # what the command should have caught
            err.write("".join(format_exception(error)))
            code = -1
    return Answer(code, out.getvalue(), err.getvalue())


def commands(place: Place, run: Path, to: Path) -> dict[str, list[str]]:
    """Return the words of every command that reads a run, and of the one that resumes it."""
    own = ["--network", "tests.runs.small:linear"]
    enough = ["--false-alarms", "0.3"]  # a rate for which the few rows are enough without a warning
    return {
        "evaluate": ["evaluate", str(run), "--score", "msp", *own],
        "compare": ["compare", str(run)],
        "report": ["compare", str(run), "--to", str(to / "report.html")],
        "score": ["score", str(run), str(place.inputs), "--to", str(to / "scores.csv"), *enough, *own],
        "export": ["export", str(run), "--to", str(to / "model.pt2"), *enough, *own],
        "train": place.train(run),
    }


Damage = Callable[[Path, np.random.Generator], None]


def emptied(path: Path, random: np.random.Generator) -> None:
    path.write_bytes(b"")


def cut(path: Path, random: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(random.integers(len(content)))])


def flipped(path: Path, random: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


def random_bytes(path: Path, random: np.random.Generator) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 2000))))


def another_kind(path: Path, random: np.random.Generator) -> None:
    """Write a wrong type at a random key of JSON, and the content of another file otherwise."""
    if path.name in (RUN, RESULT, LOG):
        lines = (
            path.read_text(encoding="utf-8").splitlines() if path.name == LOG else [path.read_text(encoding="utf-8")]
        )
        line = int(random.integers(len(lines)))
        document = json.loads(lines[line])
        places = list(_places(document))
        inside, key = places[int(random.integers(len(places)))]
        if random.random() < 0.3:
            del inside[key]
        else:
            inside[key] = OTHER_VALUES[int(random.integers(len(OTHER_VALUES)))]
        lines[line] = json.dumps(document)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    others = [other for other in path.parent.iterdir() if other.name in FILES and other.name != path.name]
    shutil.copyfile(others[int(random.integers(len(others)))], path)


def _places(document: dict | list) -> Iterator[tuple[dict | list, str | int]]:  # type: ignore[type-arg]
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


def removed(path: Path, random: np.random.Generator) -> None:
    path.unlink()


def made_a_folder(path: Path, random: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Damage, ...] = (emptied, cut, flipped, random_bytes, another_kind, removed, made_a_folder)


def contents(folder: Path) -> Mapping[str, bytes]:
    """Return what is in the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


def faults(place: Place, run: Path, file: str, to: Path, left_out: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Call every command on a damaged run; yield for each what is wrong with its answer, or how it ended."""
    trained = (place.finished / WEIGHTS).read_bytes()
    for name, words in commands(place, run, to).items():
        if name in left_out:
            continue
        before = contents(run)
        answer = call(words)
        after = contents(run)
        said = answer.err.strip()
        told = any(words in said for words in ("keeps what the scores have learnt", "The run was resumed with"))
        if answer.code == 0 and (not said or told):
            fault = "works"
        elif answer.code == 1 and said.count("\n") == 0 and said.startswith("oodles: ") and str(run) in said:
            fault = "refused"
        else:
            fault = f"WRONG: exit code {answer.code}, it said {said or 'nothing'}"
        if not (answer.out + answer.err).replace("\n", "").isprintable():
            fault = "WRONG: it wrote control characters"
        kept = (
            {CHOICE, FITS, CHOICE} if answer.code == 0 else set()
        )  # what scores have learnt is kept, whoever asked for it
        changed = sorted(one for one in {*before, *after} - kept if before.get(one) != after.get(one))
        if changed and (name != "train" or answer.code):
            fault = f"WRONG: it changed {changed}"
        elif name == "train" and fault == "works" and file != WEIGHTS and after.get(WEIGHTS) != trained:
            fault = "WRONG: the weights are others than without damage"
        yield name, fault


def damaged(place: Place, whole: Path, file: str, damage: Damage, random: np.random.Generator, work: Path) -> Path:
    """Copy a run and damage one of its files."""
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run)
    damage(run / file, random)
    return run


def thousand(count: int) -> int:
    """Damage so many folders at random and print how commands answered; return how many answers were wrong."""
    answers: Counter[tuple[str, str]] = Counter()
    wrong = 0
    with TemporaryDirectory() as folder:
        place = prepare(Path(folder, "whole"))
        work = Path(folder, "work")
        work.mkdir()
        for number in range(count):
            random = np.random.default_rng(number)
            whole = place.finished if number % 2 else place.unfinished
            names = [name for name in FILES if (whole / name).exists()]
            file, damage = names[int(random.integers(len(names)))], DAMAGES[int(random.integers(len(DAMAGES)))]
            run = damaged(place, whole, file, damage, random, work)
            left_out = () if number % 10 == 1 else ("export",)
            for command, answer in faults(place, run, file, work, left_out):
                answers[command, answer.partition(":")[0]] += 1
                if answer.startswith("WRONG"):
                    wrong += 1
                    print(f"{number}: {whole.name}, {file} {damage.__name__}, {command}: {answer}\n", flush=True)
    for (command, answer), times in sorted(answers.items()):
        print(f"{command:10}{answer:10}{times:6}")
    print(f"{count} damaged folders, {sum(answers.values())} commands, {wrong} wrong answers")
    return wrong


if __name__ == "__main__":
    sys.exit(thousand(int(sys.argv[1])) > 0)
