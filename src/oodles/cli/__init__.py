"""The command line: every command parses its arguments and calls one public function.

Results go to standard output, progress and errors to standard error. Exit codes: 0 success, 1 a failure, 2 a mistyped
command. Imports are inside the commands, so that help needs no torch.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence

import oodles
from oodles.cli.benchmarks import benchmark, demo
from oodles.cli.catalogue import methods
from oodles.cli.deploying import export, score
from oodles.cli.measuring import compare, evaluate
from oodles.cli.parsing import parse, parse_train
from oodles.cli.pools import outliers_check
from oodles.cli.shown import close_output, in_a_sentence, refuse, say, show_warning
from oodles.cli.suites import suite_check, suite_list
from oodles.cli.training import adopt, train
from oodles.memory import keep_freed_memory
from oodles.methods import METHODS
from oodles.spelling import suggestion

COMMANDS: dict[str, Callable[..., int | None]] = {
    "demo": demo,
    "benchmark": benchmark,
    "methods": methods,
    "train": train,
    "adopt": adopt,
    "evaluate": evaluate,
    "compare": compare,
    "score": score,
    "export": export,
    "suite check": suite_check,
    "suite list": suite_list,
    "outliers check": outliers_check,
}
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
"""Words that begin several commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; a mistyped command raises ``SystemExit(2)``, help ``SystemExit(0)``."""
    try:
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments) or ["--help"])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # a reader such as head has seen enough
        close_output()
        return 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        if "OODLES_TRACEBACK" in os.environ:
            raise
        say(in_a_sentence(error))
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command resumes from the last saved state.")
        return 130


def _run(arguments: Sequence[str]) -> int:
    command, *rest = arguments
    if command in ("-h", "--help") or (command in GROUPS and rest[:1] in ([], ["-h"], ["--help"])):
        print(_help())
        return 0
    if command == "--version":
        print(f"oodles {oodles.__version__}")
        return 0
    if command in GROUPS:
        command = f"{command} {rest.pop(0)}"
    if command in METHODS:
        refuse(f"{command} is a method and no command: oodles train {command}, or oodles methods {command}")
    if command not in COMMANDS:
        refuse(f"There is no command {command!r}{suggestion(command, COMMANDS)}")
    run = parse_train(train, rest) if command == "train" else parse(COMMANDS[command], command, rest)
    keep_freed_memory()
    with warnings.catch_warnings():
        warnings.showwarning = show_warning  # type: ignore[assignment]  # what is shown goes to standard error
        return run() or 0


def _help() -> str:
    lines = ["usage: oodles COMMAND", "", str(oodles.__doc__).splitlines()[0], ""]
    lines += [f"  {name:16}{str(command.__doc__).splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "oodles COMMAND --help tells more; oodles --version tells the version."])
