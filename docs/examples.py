"""Run the examples of the pages in an empty folder, and show what they print.

Python blocks of a page share one namespace. In shell blocks, lines that begin with ``oodles`` are run, unless they are
slow or name something that only a reader has; other lines are not run. Blocks below a comment ``last`` run after all
others: a guide begins with the lines that matter, which use what the rest of the page makes.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from glob import glob
from importlib.util import find_spec
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

import torch

from oodles.cli import main
from oodles.networks.efficientnet_lite0 import PACKAGES

THEIRS = ("path/to", "/shared", "mine.toml", "FIRST", "…", "RUN", "mine.pt", "flowers.toml", "benchmarks/results/")
"""Signs of something that only a reader has."""
SLOW = ("oodles demo", "oodles benchmark")
ONNX = ("onnx", "onnxscript", "onnxruntime")
WANTED = {
    "guides/your-own-model": ONNX,
    "guides/pretrained-network": (*ONNX, *PACKAGES),
    "guides/deploy-and-watch": ONNX,
    "guides/hugging-face-trainer": ("transformers",),
    "guides/lightning": ("lightning",),
    "guides/timm": ("timm",),
}
"""Packages that pages need besides."""
_BLOCK = re.compile(r"^(<!-- last -->\n)?```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code in a page, where it ends there, and whether it runs after all others."""

    language: str
    code: str
    end: int
    last: bool = False

    @property
    def commands(self) -> list[str]:
        """Return the calls of our own command line, without comments, continued lines joined."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        commands = (re.sub(r"\s+#\s.*$", "", line) for line in lines)
        return [command for command in commands if command.startswith("oodles ")]


def blocks(text: str) -> list[Block]:
    """Return the blocks of code in a page, in order."""
    return [Block(match[2], match[3], match.end(), bool(match[1])) for match in _BLOCK.finditer(text)]


def in_turn(text: str) -> list[Block]:
    """Return the blocks of code in a page as they are run."""
    return sorted(blocks(text), key=lambda block: block.last)


def missing(page: str) -> list[str]:
    """Return the packages that a page needs and that are not installed."""
    return [package for package in WANTED.get(page, ()) if find_spec(package) is None]


def can_run(command: str) -> bool:
    """Say whether a command is quick and names nothing that only a reader has."""
    return not command.startswith(SLOW) and not any(sign in command for sign in THEIRS)


def run_examples(text: str, page: str = "a page") -> list[tuple[Block, str]]:
    """Run the examples of a page, and return what each has printed.

    Raises:
        Exception: whatever an example raises.
    """
    names: dict[str, Any] = {"__name__": "page"}
    outputs = []
    with _empty_folder():
        for number, block in enumerate(in_turn(text), 1):
            out = StringIO()
            with redirect_stdout(out):
                if block.language == "python":
                    exec(compile(block.code, f"{page}, example {number}", "exec"), names)
                for command in filter(can_run, block.commands):
                    _run(command)
            outputs.append((block, out.getvalue()))
    return outputs


def with_output(text: str, page: str) -> str:
    """Return a page in which each example is followed by what it prints; as it is, where it lacks packages."""
    if missing(page) or not any(block.language in ("python", "sh") for block in blocks(text)):
        return text
    for block, out in sorted(run_examples(text, page), key=lambda ran: -ran[0].end):
        if out.strip():
            shown = f"```{{code-block}} text\n:class: output\n{out.rstrip()}\n```"
            text = f"{text[: block.end]}\n\n{shown}{text[block.end :]}"
    return text


def _run(command: str) -> None:
    words = shlex.split(command)[1:]
    arguments = [path for word in words for path in (sorted(glob(word)) if "*" in word else [word])]
    if code := main(arguments):
        raise RuntimeError(f"{command!r} ends with the exit code {code}.")


@contextmanager
def _empty_folder() -> Iterator[None]:
    """Work in an empty folder, with a terminal of 90 columns and one thread; restore everything afterwards.

    Modules in the folder can be imported, as in an interpreter that was started there.
    """
    columns, threads = os.environ.get("COLUMNS"), torch.get_num_threads()
    path, modules = [*sys.path], {*sys.modules}
    with TemporaryDirectory() as folder, chdir(folder), torch.random.fork_rng(devices=[]):
        os.environ["COLUMNS"] = "90"
        sys.path.insert(0, folder)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            sys.path[:] = path
            for name in {*sys.modules} - modules:
                if str(getattr(sys.modules[name], "__file__", None)).startswith(folder):
                    del sys.modules[name]
            os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
