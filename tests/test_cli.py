"""The command line by its behaviour: exit codes, what goes where, suggestions, and what is imported."""

import inspect
import json
import subprocess
import sys

import pytest

import oodles
from oodles import cli
from oodles.cards import cards
from oodles.methods import METHODS


def run(*arguments: str) -> int | None:
    """The exit code of a command in this process."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
        assert code is None or isinstance(code, int)
        return code


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["--version"], ["methods"], ["methods", "mixup", "--json"], ["train", "mixup", "--alpah", "1"]]
    + [[command, "--help"] for command in cli.COMMANDS],
    ids=" ".join,
)
def test_needs_no_torch(arguments: list[str]) -> None:
    program = (
        "import sys; from oodles.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_is_a_module_and_a_script() -> None:
    for program in ([sys.executable, "-m", "oodles"], [f"{sys.prefix}/bin/oodles"]):
        done = subprocess.run([*program, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"oodles {oodles.__version__}\n", "")
        assert subprocess.run([*program, "trian"], capture_output=True).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "There is no command 'trian': did you mean 'train'?"),
        (["zzz"], "There is no command 'zzz': expected one of demo, methods, train, evaluate, compare, score."),
        (["methods", "mixpu"], "There is no method 'mixpu': did you mean 'mixup'?"),
        (["train", "mixpu"], "There is no method 'mixpu': did you mean 'mixup'?"),
        (["train", "mixup", "+", "regmixpu"], "There is no method 'regmixpu': did you mean 'regmixup'?"),
        (["train", "mixup", "--alpah", "1"], "mixup has no flag --alpah: did you mean '--alpha'?"),
        (["train", "mixup", "--alpah=1"], "mixup has no flag --alpah: did you mean '--alpha'?"),
        (["train", "mixup", "--sed", "1"], "mixup has no flag --sed: did you mean '--seed'?"),
        (["train", "--chain", "mixup"], "train has no flag --chain"),
        (["train", "mixup", "--alpha", "1", "+", "logit-norm", "--alpha", "1"], "logit-norm has no flag --alpha"),
        (["train", "mixup", "+"], "A method must stand on either side of '+'"),
        (["train", "--seed", "1", "+", "mixup"], "A method must stand on either side of '+'"),
        (["train"], "Say what to train with, a method or --recipe FILE"),
        (["train", "mixup", "--recipe", "x.toml"], "Say what to train with, a method or --recipe FILE"),
        (["train", "mixup", "--alpha", "-1"], "alpha must be a finite number >= 0, got -1.0"),
        (["train", "mixup", "--alpha", "x"], "could not convert string to float: 'x'"),
        (["train", "mixup", "--seed", "x"], "Error parsing --seed"),
        (["train", "mixup", "stray"], "Unrecognized options: stray"),
        (["train", "mixup", "--mixed-precision", "fp8"], "invalid choice 'fp8'"),
        (["compare", "a", "--scoer", "msp"], "--score"),
        (["evaluate"], "RUN"),
        (["score", "run"], "INPUTS"),
        (["evaluate", "run", "--ood", "svhn"], "--ood must be NAME=PATH, got 'svhn'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_command_exits_2(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert sentence in err and out == ""
    assert "Traceback" not in err


@pytest.mark.parametrize("name", METHODS)
def test_help_of_a_method_shows_its_signature(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", name, "--help") == 0
    out = capsys.readouterr().out
    card = next(card for card in cards() if card.name == name)
    assert card.summary in " ".join(out.split())
    for parameter in card.parameters:
        assert parameter.flag in out and f"(default: {parameter.default})" in " ".join(out.replace("│", "").split())


def test_no_method_has_a_flag_of_training() -> None:
    flags = set(inspect.signature(cli.train).parameters)
    for card in cards():
        assert not flags & {parameter.name for parameter in card.parameters}, card.name


def test_methods_lists_and_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in METHODS)
    assert run("methods", "mixup") == 0
    assert capsys.readouterr().out.startswith("mixup\n")
    assert run("methods", "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(METHODS)
    assert run("methods", "energy-bounded", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["paper"]["year"] == 2020 and one["parameters"][0]["name"] == "weight"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(cli.COMMANDS)
