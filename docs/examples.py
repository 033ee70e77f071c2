"""The examples of the pages: found, run in an empty folder, and shown with what they print.

Python blocks of a page share one namespace. In shell blocks, a line that begins with ``oodles`` goes through the
command line where all that it names is there and it is quick; other lines are for a reader's machine.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from glob import glob
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

import torch

from oodles.cli import main

THEIRS = ("path/to", "/shared", "mine.toml", "FIRST", "…")
"""What stands for something that only a reader has."""
SLOW = ("oodles demo", "oodles benchmark")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code in a page, and where it ends there."""

    language: str
    code: str
    end: int

    @property
    def commands(self) -> list[str]:
        """The calls of our own command line, without remarks; continued lines in one."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        found = (re.sub(r"\s+#\s.*$", "", line) for line in lines)
        return [line for line in found if line.startswith("oodles ")]


def blocks(text: str) -> list[Block]:
    """The blocks of code in a page, in order."""
    return [Block(found[1], found[2], found.end()) for found in _BLOCK.finditer(text)]


def can_run(command: str) -> bool:
    """Whether a command needs nothing that is not here, and is quick."""
    return not command.startswith(SLOW) and not any(sign in command for sign in THEIRS)


def printed(text: str, page: str = "a page") -> list[tuple[Block, str]]:
    """Runs the examples of a page, and gives what each has printed.

    Raises:
        Exception: whatever an example raises.
    """
    names: dict[str, Any] = {"__name__": "page"}
    found = []
    with _elsewhere():
        for number, block in enumerate(blocks(text), 1):
            out = StringIO()
            with redirect_stdout(out):
                if block.language == "python":
                    exec(compile(block.code, f"{page}, example {number}", "exec"), names)
                for command in filter(can_run, block.commands):
                    _run(command)
            found.append((block, out.getvalue()))
    return found


def with_output(text: str, page: str) -> str:
    """A page in which what an example prints stands below it."""
    if not any(block.language in ("python", "sh") for block in blocks(text)):
        return text
    for block, out in reversed(printed(text, page)):
        if out.strip():
            shown = f"```{{code-block}} text\n:class: output\n{out.rstrip()}\n```"
            text = f"{text[: block.end]}\n\n{shown}{text[block.end :]}"
    return text


def _run(command: str) -> None:
    arguments = shlex.split(command)[1:]
    arguments = [each for one in arguments for each in (sorted(glob(one)) if "*" in one else [one])]
    if code := main(arguments):
        raise RuntimeError(f"{command!r} ends with the exit code {code}.")


@contextmanager
def _elsewhere() -> Iterator[None]:
    """An empty folder, a terminal of 90 columns, one thread; afterwards all is as it was."""
    columns, threads = os.environ.get("COLUMNS"), torch.get_num_threads()
    with TemporaryDirectory() as folder, chdir(folder), torch.random.fork_rng(devices=[]):
        os.environ["COLUMNS"] = "90"
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
