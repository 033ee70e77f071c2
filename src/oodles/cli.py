"""The command line: every command parses its arguments and calls one public function.

Results go to standard output, progress and errors to standard error. Exit codes: 0 success, 1 a run or an input that
did not work out, 2 a mistyped command. Imports stay inside the commands, so that help needs no torch.
"""

import functools
import inspect
import json as json_format
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, Suppress, UseAppendAction, arg

import oodles
from oodles.cards import card, cards, describe, overview
from oodles.methods import METHODS
from oodles.recipe import Recipe
from oodles.spelling import suggestion


def _setting(name: str, metavar: str) -> object:
    """A flag that changes one setting of a recipe; its help shows the default."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {getattr(Recipe, name)}, or the recipe's)")


Chain = tuple[tuple[str, dict[str, Any]], ...]
"""Methods with their settings, in the order of the command line."""

Name = Annotated[str, arg(metavar="NAME")]
Folder = Annotated[Path, arg(metavar="FOLDER")]
File = Annotated[Path, arg(metavar="FILE")]
Fraction = Annotated[float, arg(metavar="FRACTION")]
Count = Annotated[int, arg(metavar="COUNT")]
OptionalName = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Runs = Annotated[tuple[Path, ...], Positional, arg(metavar="RUN...", help_behavior_hint="")]


def demo(
    *, to: Folder = Path("oodles-demo"), seeds: Count = 5, jobs: Annotated[int | None, arg(metavar="COUNT")] = None
) -> None:
    """Trains methods with several seeds on real images, compares them and writes a report; takes two minutes.

    Finished runs are kept: the same command goes on where it was stopped.

    Args:
        to: folder for the runs and report.html.
        seeds: how many seeds for each method.
        jobs: processes side by side; as many as there are cores unless given.
    """
    from oodles.demo import demo as run_demo

    run_demo(to, seeds=seeds, jobs=jobs)


def methods(name: Annotated[str, Positional, arg(metavar="[NAME]")] = "", /, *, json: bool = False) -> None:
    """Lists the methods, or describes one: what it changes, when to use it, its paper and its flags.

    Args:
        name: of one method.
        json: print one JSON document.
    """
    if name and name not in METHODS:
        _refuse(f"There is no method {name!r}{suggestion(name, METHODS)}")
    chosen = (card(name),) if name else cards()
    if json:
        _print_json([asdict(one) for one in chosen])
    else:
        print(describe(*chosen) if name else overview())


def train(
    *,
    chain: Annotated[Chain, Suppress] = (),
    data: Name = "digits",
    network: Name = "small-cnn",
    head: OptionalName = None,
    recipe: OptionalName = None,
    epochs: Annotated[int | None, _setting("epochs", "COUNT")] = None,
    batch_size: Annotated[int | None, _setting("batch_size", "COUNT")] = None,
    outlier_batch_size: Annotated[int | None, _setting("outlier_batch_size", "COUNT")] = None,
    optimizer: Annotated[Literal["sgd", "adamw"] | None, _setting("optimizer", "{sgd,adamw}")] = None,
    learning_rate: Annotated[float | None, _setting("learning_rate", "NUMBER")] = None,
    weight_decay: Annotated[float | None, _setting("weight_decay", "NUMBER")] = None,
    schedule: Annotated[Literal["cosine", "constant"] | None, _setting("schedule", "{cosine,constant}")] = None,
    seed: Annotated[int | None, _setting("seed", "COUNT")] = None,
    weights: OptionalName = None,
    suggest: bool = False,
    to: OptionalPath = None,
    mixed_precision: Literal["no", "bf16", "fp16"] = "no",
    accumulate: Count = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    compile: bool = False,
    workers: Count = 0,
    tracker: OptionalName = None,
    json: bool = False,
) -> int:
    """Trains a classifier with one method or several, and keeps everything in a run folder.

    oodles train mixup --alpha 0.2

    oodles train mixup --alpha 0.2 + outlier-exposure --weight 0.5 --data digits --seed 3

    oodles train --recipe recipe.toml

    The same command goes on where it was stopped. `oodles methods` lists the methods, `oodles train NAME --help` shows
    the flags of one.

    Args:
        data: an embedded suite, or a folder with train, test, outliers, near/NAME and far/NAME.
        network: an embedded network, or package.module:function.
        head: name of the last layer, for a network of your own; its last Linear unless given.
        recipe: methods and settings from a TOML file, or a bundled recipe; further flags change single settings.
        epochs: passes over the training rows.
        batch_size: in-distribution rows per batch.
        outlier_batch_size: outliers per batch.
        optimizer: takes the steps.
        learning_rate: at the start.
        weight_decay: of every parameter.
        schedule: of the learning rate.
        seed: of every random number, and of the split of an embedded suite.
        weights: what training starts from, a file, the folder of another run or a bundled recipe.
        suggest: measure settings such as energy margins on these weights first.
        to: the run folder; runs/METHODS-DATA-SEED unless given.
        mixed_precision: fp16 needs a GPU.
        accumulate: batches per step of the optimizer.
        device: where to train.
        compile: compile the training step.
        workers: processes that load data; the result does not depend on them.
        tracker: also log to a tracker, such as tensorboard or wandb.
        json: print one JSON document.
    """
    if chain and recipe:
        _refuse("Methods come from the command line or from --recipe, not from both: leave one out.")
    if not chain and not recipe:
        _refuse("Say what to train with, a method or --recipe FILE: oodles train mixup --alpha 0.2")
    from oodles.training import train as train_recipe

    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "outlier_batch_size": outlier_batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "seed": seed,
        "weights": weights,
        "suggest": suggest or None,
    }
    changes = {name: value for name, value in settings.items() if value is not None}
    run = train_recipe(
        replace(Recipe.load(recipe), **changes) if recipe else Recipe(methods=chain, **changes),
        data,
        folder=to,
        network=network,
        head=head,
        mixed_precision=mixed_precision,
        accumulate=accumulate,
        device=device,
        compile=compile,
        workers=workers,
        tracker=tracker,
    )
    if json:
        _print_json({"folder": str(run.folder), **run.result})
    elif run.status == "finished":
        _print(
            f"{run.label} on {run.data}, seed {run.seed}: test accuracy {run.result['test_accuracy']:.2%}, "
            f"{run.result['seconds']:.0f} s\n{run.folder}\n\noodles evaluate {run.folder}"
        )
    if run.status == "diverged":
        print(f"oodles: {run.reason}", file=sys.stderr)
        return 1
    return 0


def evaluate(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    /,
    *,
    score: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME", help_behavior_hint="(repeatable)")] = (),
    ood: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=PATH", help_behavior_hint="(repeatable)")] = (),
    json: bool = False,
) -> None:
    """Measures how well a trained classifier tells known from unknown, on its suite or on images of your own.

    Args:
        run: a run folder.
        score: outlier scores; all unless given.
        ood: further out-of-distribution images, a folder or .npz file under a name of your choice.
        json: print one JSON document.
    """
    further: dict[str, str] = {}
    for pair in ood:
        name, _, path = pair.partition("=")
        if not name or not path or name in further:
            _refuse(f"--ood must be NAME=PATH, got {pair!r}: each name once.")
        further[name] = path
    from oodles.run_evaluation import evaluate_run

    evaluation = evaluate_run(run, scores=score or None, ood=further)
    if json:
        _print_json({"accuracy": evaluation.accuracy, "metrics": evaluation.metrics})
    else:
        print(evaluation)


def compare(
    runs: Runs,
    /,
    *,
    score: OptionalName = None,
    to: OptionalPath = None,
    json: bool = False,
) -> None:
    """Compares runs: mean and deviation over seeds, with plain cross-entropy under the same score beside it.

    Args:
        runs: run folders.
        score: one outlier score for all; each method's own unless given.
        to: also write a report: .html, .md, .csv or .json.
        json: print one JSON document.
    """
    from oodles.comparison import compare as compare_runs

    comparison = compare_runs(runs, score)
    if to is not None:
        comparison.write(to)
    if json:
        _print_json(comparison.as_dict())
    else:
        print(comparison.to_text(width=shutil.get_terminal_size((100, 24)).columns, color=sys.stdout.isatty()))


def score(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    inputs: Annotated[Path, Positional, arg(metavar="INPUTS")],
    /,
    *,
    to: File = Path("scores.csv"),
    score: OptionalName = None,
    accept: Fraction = 0.95,
    json: bool = False,
) -> None:
    """Classifies new inputs and says of each whether to accept it: class, score and verdict in a CSV file.

    Args:
        run: a run folder.
        inputs: an image, a folder of images or an .npz file.
        to: the CSV file.
        score: outlier score; the method's own unless given.
        accept: share of the validation data that the threshold accepts.
        json: print one JSON document.
    """
    from oodles.deployment import score_inputs

    verdicts = score_inputs(run, inputs, score=score, accept=accept, to=to)
    if json:
        columns = (verdicts.names, verdicts.classes, verdicts.scores.tolist(), verdicts.accepted.tolist())
        rows = [
            dict(zip(("input", "class", "score", "accepted"), row, strict=True)) for row in zip(*columns, strict=True)
        ]
        _print_json({"score": verdicts.score, "threshold": verdicts.threshold, "inputs": rows})
    else:
        print(f"{verdicts}\n{to}")


COMMANDS: dict[str, Callable[..., int | None]] = {
    "demo": demo,
    "methods": methods,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "score": score,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit code; a mistyped command raises ``SystemExit(2)``, help ``SystemExit(0)``."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command == "--version":
        print(f"oodles {oodles.__version__}")
        return 0
    if command not in COMMANDS:
        _refuse(f"There is no command {command!r}{suggestion(command, COMMANDS)}")
    run = _parse_train(rest) if command == "train" else _parse(COMMANDS[command], f"oodles {command}", rest)
    try:
        code = run() or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # a reader such as head has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        if "OODLES_TRACEBACK" in os.environ:
            raise
        print(f"oodles: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("oodles: stopped; the same train or demo command goes on from the last saved state.", file=sys.stderr)
        return 130


def _parse(command: Callable[..., Any], program: str, arguments: Sequence[str]) -> Callable[..., int | None]:
    """The command with its arguments, not run yet: what it raises is no mistake of parsing."""

    @functools.wraps(command)
    def parsed(*given: Any, **flags: Any) -> Callable[..., int | None]:
        return functools.partial(command, *given, **flags)

    return tyro.cli(parsed, prog=program, args=arguments, config=(FlagCreatePairsOff,))


def _parse_train(arguments: Sequence[str]) -> Callable[[], int | None]:
    """Each segment between ``+`` is a method and its flags; what is left over are the flags of training."""
    chain: list[tuple[str, dict[str, Any]]] = []
    left_over: list[str] = []
    for segment in _split(arguments, "+"):
        name = segment[0] if segment and not segment[0].startswith("-") else None
        if name is None and segment != arguments:
            _refuse("A method must stand on either side of '+': oodles train mixup + outlier-exposure")
        if name is not None and name not in METHODS:
            _refuse(f"There is no method {name!r}{suggestion(name, METHODS)}")
        _check_flags(name, segment)
        if name is not None:
            settings, segment = _parse_method(name, segment[1:])
            chain.append((name, settings))
        left_over += segment
    return functools.partial(_parse(train, "oodles train", left_over), chain=tuple(chain))


def _parse_method(name: str, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of a method, which its class has checked, and the arguments that are not its own."""
    from oodles.methods import method_class

    one = card(name)
    method, left_over = tyro.cli(
        method_class(name),
        prog=f"oodles train {name}",
        description=f"{one.summary}\n\nFlags of training, such as --data and --seed: oodles train --help",
        args=arguments,
        return_unknown_args=True,
        config=(FlagCreatePairsOff,),
    )
    return {parameter.name: getattr(method, parameter.name) for parameter in one.parameters}, left_over


def _check_flags(method: str | None, arguments: Sequence[str]) -> None:
    """Refuses a flag that neither the method nor training has, before anything slow is imported."""
    own = [parameter.flag for parameter in card(method).parameters] if method else []
    training = [f"--{name.replace('_', '-')}" for name in inspect.signature(train).parameters if name != "chain"]
    known = [*own, *training, "--help"]
    for argument in arguments:
        flag = argument.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            _refuse(f"{method or 'train'} has no flag {flag}{suggestion(flag, known)}")


def _split(arguments: Sequence[str], separator: str) -> list[list[str]]:
    segments: list[list[str]] = [[]]
    for argument in arguments:
        if argument == separator:
            segments.append([])
        else:
            segments[-1].append(argument)
    return segments


def _help() -> str:
    lines = ["usage: oodles COMMAND", "", str(oodles.__doc__).splitlines()[0], ""]
    lines += [f"  {name:10}{str(command.__doc__).splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "oodles COMMAND --help tells more; oodles --version tells the version."])


def _refuse(sentence: str) -> NoReturn:
    print(f"oodles: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def _print(result: object) -> None:
    """Results come from the first process alone, under ``accelerate launch`` too."""
    if os.environ.get("RANK", "0") == "0":
        print(result)


def _print_json(document: object) -> None:
    _print(json_format.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
