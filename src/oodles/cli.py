"""The command line: every command parses its arguments and calls one public function.

Results go to standard output, progress and errors to standard error. Exit codes: 0 success, 1 a failure, 2 a mistyped
command. Imports are inside the commands, so that help needs no torch.
"""

import functools
import inspect
import json as json_format
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, Suppress, UseAppendAction, arg

import oodles
from oodles.cards import card, cards, describe, overview
from oodles.memory import keep_freed_memory
from oodles.methods import METHODS, method_class
from oodles.remarks import CalibrationWarning, TrainingWarning
from oodles.runs.recipe import Recipe, merge_settings, recipes
from oodles.spelling import nearest, suggestion, visible

if TYPE_CHECKING:
    from oodles.runs.opened import Run


def _setting(name: str, metavar: str) -> object:
    """Describe a flag that changes one setting of a recipe; its help shows the default."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {getattr(Recipe, name)}, or the recipe's)")


def _repeatable(name: str, metavar: str) -> object:
    """Describe a flag that may be given several times for a setting that may be a list."""
    return arg(metavar=metavar, help_behavior_hint=f"(repeatable, default: {getattr(Recipe, name) or 'none'})")


def _truth(name: str) -> object:
    """Describe a flag for a setting that is on or off, which a recipe may have set either way."""
    return _setting(name, "{True,False}")


Truth = Literal["True", "False"]
Chain = tuple[tuple[str, dict[str, Any]], ...]
"""Methods with their settings, as the command line has them."""

Name = Annotated[str, arg(metavar="NAME")]
Folder = Annotated[Path, arg(metavar="FOLDER")]
File = Annotated[Path, arg(metavar="FILE")]
Count = Annotated[int, arg(metavar="COUNT")]
Schedule = Literal["cosine", "one-cycle", "steps", "constant"]
Precision = Literal["no", "bf16", "fp16", "auto"]
OptionalFraction = Annotated[float | None, arg(metavar="FRACTION", help_behavior_hint="")]
OptionalCount = Annotated[int | None, arg(metavar="COUNT", help_behavior_hint="")]
OptionalName = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Numbers = Annotated[UseAppendAction[tuple[float, ...]], arg(metavar="NUMBER", help_behavior_hint="(repeatable)")]
Folders = Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="FOLDER", help_behavior_hint="(repeatable)")]
Runs = Annotated[tuple[Path, ...], Positional, arg(metavar="RUN...", help_behavior_hint="")]


@dataclass(frozen=True)
class FineTuning:
    """What trains of a network, how fast, and which weights are kept.

    Args:
        train_layers: what trains, all, head, last-block, or the name of a layer that trains beside the head; the rest
            stays as it is, and what lies before runs once.
        batch_norm: of the layers that train, in training by each batch, or frozen by the means and variances they have.
        backbone_learning_rate: a multiple of the learning rate.
        head_learning_rate: a multiple of the learning rate.
        warm_up: epochs in which the learning rate rises, also parts of one.
        decay_exempt: leave biases and the parameters of norms out of weight decay.
        clip_gradients: the norm to which larger gradients are scaled; 0 leaves them as they are.
        ema: decay of a moving average of the weights, which is kept; 0 for none.
        keep: the weights of the last epoch, or of the best one on half of the validation rows.
        patience: epochs without a better one that end training; 0 for none.
        class_weights: balanced, or a positive number for each class.
        balanced_sampling: draw as many rows of each class in every epoch.
    """

    train_layers: Annotated[UseAppendAction[tuple[str, ...]], _repeatable("train_layers", "LAYER")] = ()
    batch_norm: Annotated[Literal["training", "frozen"] | None, _setting("batch_norm", "{training,frozen}")] = None
    backbone_learning_rate: Annotated[float | None, _setting("backbone_learning_rate", "NUMBER")] = None
    head_learning_rate: Annotated[float | None, _setting("head_learning_rate", "NUMBER")] = None
    warm_up: Annotated[float | None, _setting("warm_up", "NUMBER")] = None
    decay_exempt: Annotated[Truth | None, _truth("decay_exempt")] = None
    clip_gradients: Annotated[float | None, _setting("clip_gradients", "NUMBER")] = None
    ema: Annotated[float | None, _setting("ema", "NUMBER")] = None
    keep: Annotated[Literal["last", "best"] | None, _setting("keep", "{last,best}")] = None
    patience: Annotated[int | None, _setting("patience", "COUNT")] = None
    class_weights: Annotated[UseAppendAction[tuple[str, ...]], _repeatable("class_weights", "WEIGHT")] = ()
    balanced_sampling: Annotated[Truth | None, _truth("balanced_sampling")] = None


def demo(*, to: Folder = Path("oodles-demo"), seeds: Count = 5, jobs: OptionalCount = None) -> int:
    """Train methods with several seeds on real images, compare them and write a report; takes a minute or two.

    It is the benchmark demo, a part of the benchmark digits. Finished runs are kept: the same command resumes it.

    Args:
        to: folder for the runs and report.html.
        seeds: how many seeds for each method.
        jobs: processes side by side; as many as there are cores unless given.
    """
    return benchmark("demo", to=to, seeds=seeds, jobs=jobs)


def benchmark(
    file: Annotated[str, Positional, arg(metavar="FILE")],
    /,
    *,
    to: OptionalPath = None,
    seeds: OptionalCount = None,
    jobs: OptionalCount = None,
    root: Folders = (),
    engine: Literal["local", "ray"] = "local",
    address: OptionalName = None,
    json: bool = False,
) -> int:
    """Train recipes on suites with several seeds, many runs side by side, compare them and write a report.

    oodles benchmark digits

    oodles benchmark benchmark.toml --jobs 4

    Finished runs are kept: the same command resumes it. A run that fails does not stop the others.

    Args:
        file: a TOML file, or the name of a benchmark that comes with the package.
        to: folder for the runs, results.jsonl, results.md and report.html; oodles-NAME unless given.
        seeds: how many seeds, in place of the file's.
        jobs: runs side by side; one for each GPU unless given, or for each core without GPUs.
        root: where the files of the suites are, in place of what the file says.
        engine: this machine, or a Ray cluster.
        address: of a running Ray cluster.
        json: print one JSON document.
    """
    from oodles.benchmarking.running import benchmark as run_benchmark

    done = run_benchmark(file, to, seeds=seeds, jobs=jobs, root=root, engine=engine, address=address)
    if json:
        compared = done.comparison.as_dict() if done.comparison else {}
        _print_json({"folder": str(done.folder), "failed": done.failed, **compared})
    elif done.comparison:
        print(done.comparison.to_text(width=shutil.get_terminal_size((100, 24)).columns, color=sys.stdout.isatty()))
        _print(f"\nThe report with pictures: {done.folder / 'report.html'}")
    if done.failed:
        _say(done.failures)
    return 1 if done.failed else 0


def methods(
    name: Annotated[str, Positional, arg(metavar="[NAME]")] = "",
    /,
    *,
    for_: Annotated[Literal["images", "features", "text"], arg(name="for")] = "images",
    json: bool = False,
) -> None:
    """List the methods, or describe one: what it changes, when to use it, its paper and its flags.

    Args:
        name: of one method.
        for_: list those that take such rows.
        json: print one JSON document.
    """
    if name and name not in METHODS:
        _refuse(f"There is no method {name!r}{suggestion(name, METHODS)}")
    chosen = (card(name),) if name else tuple(method for method in cards() if for_ in method.takes)
    if json:
        _print_json([{**asdict(method), "takes": method.takes} for method in chosen])
    else:
        print(describe(*chosen) if name else overview(for_))


def train(
    *,
    chain: Annotated[Chain, Suppress] = (),
    data: Name = "digits",
    root: Folders = (),
    network: OptionalName = None,
    head: OptionalName = None,
    mean: Numbers = (),
    std: Numbers = (),
    recipe: OptionalName = None,
    epochs: Annotated[int | None, _setting("epochs", "COUNT")] = None,
    batch_size: Annotated[int | None, _setting("batch_size", "COUNT")] = None,
    outlier_batch_size: Annotated[int | None, _setting("outlier_batch_size", "COUNT")] = None,
    optimizer: Annotated[Literal["sgd", "adamw"] | None, _setting("optimizer", "{sgd,adamw}")] = None,
    learning_rate: Annotated[float | None, _setting("learning_rate", "NUMBER")] = None,
    momentum: Annotated[float | None, _setting("momentum", "NUMBER")] = None,
    nesterov: Annotated[Truth | None, _truth("nesterov")] = None,
    weight_decay: Annotated[float | None, _setting("weight_decay", "NUMBER")] = None,
    schedule: Annotated[Schedule | None, _setting("schedule", "{cosine,one-cycle,steps,constant}")] = None,
    milestones: Annotated[
        UseAppendAction[tuple[int, ...]], arg(metavar="EPOCH", help_behavior_hint="(repeatable)")
    ] = (),
    seed: Annotated[int | None, _setting("seed", "COUNT")] = None,
    weights: OptionalName = None,
    suggest: bool = False,
    no_suggest: bool = False,
    to: OptionalPath = None,
    mixed_precision: Annotated[Precision | None, _setting("mixed_precision", "{no,bf16,fp16,auto}")] = None,
    accumulate: Count = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    compile: bool = False,
    channels_last: bool = False,
    workers: Annotated[int | None, arg(metavar="COUNT", help_behavior_hint="")] = None,
    tracker: OptionalName = None,
    keep_frozen: bool = False,
    json: bool = False,
    fine_tuning: Annotated[FineTuning, OmitArgPrefixes] = FineTuning(),  # it cannot be changed
) -> int:
    """Train a classifier with one method or several, and keep everything in a run folder.

    oodles train mixup --alpha 0.2

    oodles train mixup --alpha 0.2 + outlier-exposure --weight 0.5 --data digits --seed 3

    oodles train --recipe openood --data cifar10 --root path/to/images --network resnet-18

    oodles train mixup --recipe fast --data cifar10 --root path/to/images --network resnet-18

    The same command resumes a run that was stopped. `oodles methods` lists the methods, `oodles train NAME --help` the
    flags of one.

    Args:
        data: a suite that `oodles suite list` names, a .toml file, or a folder with train, test, outliers, near/NAME
            and far/NAME.
        root: folder that holds the files of the suite.
        network: an embedded network, timm:NAME, torchvision:NAME, hf:FOLDER, or package.module:function; small-cnn
            unless given, and mlp for feature vectors.
        head: name of the last layer, for a network of your own; its last Linear unless given.
        mean: what the network's weights were trained with, once per channel; its library's, or the data's unless given.
        std: likewise.
        recipe: settings from a TOML file, or a bundled recipe; further flags change single ones, and methods take the
            place of plain cross-entropy.
        epochs: passes over the training rows.
        batch_size: in-distribution rows per batch.
        outlier_batch_size: outliers per batch.
        optimizer: SGD or AdamW.
        learning_rate: that the schedule starts from, or rises to.
        momentum: of SGD.
        nesterov: use Nesterov's momentum.
        weight_decay: of every parameter for which no method sets another.
        schedule: of the learning rate.
        milestones: with the schedule steps, an epoch after which the learning rate is divided by ten.
        seed: of every random number, and of the split of an embedded suite.
        weights: what training starts from, a file (.safetensors, .pt), the folder of another run, a bundled recipe, or
            the word network for the weights that the network brings.
        suggest: measure settings such as energy margins before training, also those that are given; unless said, those
            that neither the line nor the recipe gives.
        no_suggest: measure nothing, the papers' numbers stay.
        to: the run folder; runs/METHODS-DATA-SEED unless given.
        mixed_precision: fp16 needs a GPU, auto is bf16 where the hardware computes in it.
        accumulate: batches per step of the optimizer.
        device: where to train.
        compile: compile the training step.
        channels_last: a layout in memory that some hardware prefers.
        workers: processes that load data; images stay on the device, where they fit, unless given.
        tracker: also log to a tracker, such as tensorboard or wandb.
        keep_frozen: keep what the part that does not train has given, in the run folder.
        json: print one JSON document.
        fine_tuning: what trains of a network, how fast, and which weights are kept.
    """
    if not chain and not recipe:
        _refuse("Say what to train with, a method or --recipe FILE: oodles train mixup --alpha 0.2")
    if suggest and no_suggest:
        _refuse("Say either --suggest or --no-suggest.")
    from oodles.runs.training import train as train_recipe

    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "outlier_batch_size": outlier_batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "milestones": milestones or None,
        "seed": seed,
        "weights": weights,
        "suggest": True if suggest else False if no_suggest else None,
        "mixed_precision": mixed_precision,
        "methods": [{"name": name, **given} for name, given in chain] or None,
        **{setting.name: getattr(fine_tuning, setting.name) for setting in fields(fine_tuning)},
        "train_layers": fine_tuning.train_layers or None,
        "class_weights": [_number(word) for word in fine_tuning.class_weights] or None,
    }
    settings = {name: {"True": True, "False": False}.get(str(value), value) for name, value in settings.items()}
    begin = Recipe.load(recipe) if recipe else Recipe()
    if chain and not begin.is_plain:
        _refuse(
            f"The recipe {recipe} has methods of its own, {begin.label}: leave them or those of the command line out."
        )
    changes = {name: value for name, value in settings.items() if value is not None}
    base = begin.as_dict()
    if begin.suggest is None:  # it says nothing about the methods of the line
        del base["suggest"]
    run = train_recipe(
        Recipe.from_dict(merge_settings(base, changes)),
        data,
        root=root,
        folder=to,
        network=network,
        head=head,
        mean=mean,
        std=std,
        accumulate=accumulate,
        device=device,
        compile=compile,
        channels_last=channels_last,
        workers=workers,
        tracker=tracker,
        keep_frozen=keep_frozen,
    )
    return _ended(run, json=json)


def adopt(
    network: Annotated[str, Positional, arg(metavar="NETWORK")],
    /,
    *,
    weights: OptionalPath = None,
    data: Name = "digits",
    root: Folders = (),
    head: OptionalName = None,
    mean: Numbers = (),
    std: Numbers = (),
    seed: Count = 0,
    to: OptionalPath = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
) -> int:
    """Make a run of a classifier that has been trained elsewhere: tested and scored, without any training.

    oodles adopt timm:resnet18 --weights resnet18.pt --data photos.toml

    From there evaluate, compare, score, export and train --weights RUN work as for any run.

    Args:
        network: an embedded network, timm:NAME, torchvision:NAME, hf:FOLDER, FILE.onnx, or package.module:function.
        weights: a file (.safetensors, .pt); unless given, those that the network brings.
        data: with the classes of the network in its order; a suite, a .toml file or a folder.
        root: folder that holds the files of the suite.
        head: name of the last layer, for a network of your own; its last Linear unless given.
        mean: what the weights were trained with, once per channel; its library's, or the data's unless given.
        std: likewise.
        seed: of the split of an embedded suite.
        to: the run folder; runs/adopted-NETWORK-cross-entropy-DATA-SEED unless given.
        device: where to test.
        json: print one JSON document.
    """
    from oodles.runs.training import adopt as adopt_network

    run = adopt_network(
        network,
        weights=weights,
        data=data,
        root=root,
        seed=seed,
        folder=to,
        head=head,
        mean=mean,
        std=std,
        device=device,
    )
    return _ended(run, json=json)


def _ended(run: "Run", *, json: bool) -> int:
    """Print how a run has ended, and return the exit code."""
    if json:
        _print_json({"folder": str(run.folder), **run.result})
    elif run.status == "finished":
        from oodles.networks import is_own_code
        from oodles.runs.fits import size_of_fits
        from oodles.runs.folder import augment_in_words, frozen_in_words
        from oodles.runs.testing import figures

        accuracy, seconds = run.result.get("test_accuracy"), run.result.get("seconds")
        size = size_of_fits(run.folder)
        words = [] if accuracy is None else [f"test accuracy {accuracy:.2%}"]
        words += [] if seconds is None else [f"{seconds:.0f} s"]
        words += [f"fitted scores {size}"] if size else []
        augment = augment_in_words(run.record["suite"].get("augment", {}))
        trained = f"Layers that train: {frozen_in_words(run.record['frozen'])}.\n" if "frozen" in run.record else ""
        done = (
            f"{f'Training rows: {augment}.' if run.recipe.epochs else 'Nothing was trained.'}\n{trained}"
            f"{run.label} on {run.data}, seed {run.seed}: {', '.join(words) or 'finished'}\n{run.folder}"
        )
        network = run.arguments["network"]
        hint = f"oodles evaluate {run.folder}{f' --network {network}' if is_own_code(network) else ''}"
        _print("\n\n".join(filter(None, (done, figures(run), hint))))
    if run.status == "diverged":
        _say(run.reason)
        return 1
    return 0


def _number(word: str) -> float | str:
    """Return the number that a word is, or the word."""
    try:
        return float(word)
    except ValueError:
        return word


def evaluate(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    /,
    *,
    score: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME", help_behavior_hint="(repeatable)")] = (),
    ood: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=PATH", help_behavior_hint="(repeatable)")] = (),
    root: Folders = (),
    network: OptionalName = None,
    data: OptionalPath = None,
    json: bool = False,
) -> None:
    """Measure accuracy and out-of-distribution detection of a run, on its suite or on rows of your own.

    Args:
        run: a run folder.
        score: outlier scores; unless given, all that every run is tested with. By name alone, and kept in the run
            from then on, also vim, gen, react, odin, dice, she, kl-matching, cosine, and any score with settings, such
            as "knn(k=5)" or "mahalanobis(normalize=True)".
        ood: further out-of-distribution rows, a folder or file under a name of your choice.
        root: folder that holds the files of the suite, if they have moved.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        data: the run's suite file, if it names functions of your own, or has moved.
        json: print one JSON document.
    """
    further: dict[str, str] = {}
    for pair in ood:
        name, _, path = pair.partition("=")
        if not name or not path or name in further:
            _refuse(f"--ood must be NAME=PATH, got {pair!r}: each name once.")
        further[name] = path
    from oodles.runs.fits import size_of_fits
    from oodles.runs.opened import open_run
    from oodles.runs.testing import evaluate_run

    before = size_of_fits(run)
    evaluation = evaluate_run(open_run(run, network=network, data=data), scores=score or None, ood=further, root=root)
    if (size := size_of_fits(run)) != before:
        _say(f"{run} keeps what the scores have learnt, {size}")
    if json:
        warned = list(evaluation.warnings)
        _print_json({"accuracy": evaluation.accuracy, "metrics": evaluation.metrics, "warnings": warned})
    else:
        _print(evaluation)


def compare(
    runs: Runs,
    /,
    *,
    score: OptionalName = None,
    to: OptionalPath = None,
    json: bool = False,
) -> None:
    """Compare runs: mean and deviation over seeds, beside plain cross-entropy under the same score.

    Args:
        runs: run folders, folders of benchmarks, and files of recorded results (.jsonl).
        score: one outlier score for all; each method's own unless given.
        to: also write a report: .html, .md, .csv or .json.
        json: print one JSON document.
    """
    from oodles.comparing.comparison import compare as compare_runs

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
    to: OptionalPath = None,
    score: OptionalName = None,
    false_alarms: OptionalFraction = None,
    accept: OptionalFraction = None,
    fdr: OptionalFraction = None,
    per_class: bool = False,
    root: Folders = (),
    network: OptionalName = None,
    data: OptionalPath = None,
    encoder: OptionalName = None,
    json: bool = False,
) -> None:
    """Classify new inputs and accept or reject each: class, score, verdict and p-value in a CSV file.

    Args:
        run: a run folder, or the folder of a saved detector.
        inputs: an image, a folder of images, an .npz or .npy file, a table or texts, as the run was trained on.
        to: the CSV file; scores.csv unless given, and none with --json.
        score: outlier score, such as energy or "knn(k=5)"; "best" is the one that tells validation outliers best; the
            method's own unless given.
        false_alarms: share of known inputs that may be rejected; 0.05 unless given, or a saved detector's.
        accept: share of known inputs to accept, in place of --false-alarms.
        fdr: reject over all inputs together instead, so that at most this share of the rejected ones is known, in
            expectation.
        per_class: keep the share of false alarms for each predicted class by itself.
        root: folder that holds the files of the suite, if they have moved.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        data: the run's suite file, if it names functions of your own, or has moved.
        encoder: the run's, of texts, if it is package.module:function.
        json: print one JSON document.
    """
    from oodles.runs.deployment import score_inputs

    to = to or (None if json else Path("scores.csv"))
    verdicts = score_inputs(
        run,
        inputs,
        score=score,
        false_alarms=false_alarms,
        accept=accept,
        fdr=fdr,
        per_class=per_class,
        to=to,
        root=root,
        network=network,
        data=data,
        encoder=encoder,
    )
    if json:
        _print_json(verdicts.as_dict())
    else:
        _print(f"{verdicts}\n{to}")


def export(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    /,
    *,
    to: File = Path("model.onnx"),
    score: OptionalName = None,
    false_alarms: OptionalFraction = None,
    per_class: bool = False,
    root: Folders = (),
    network: OptionalName = None,
    data: OptionalPath = None,
    json: bool = False,
) -> None:
    """Write a trained run as one file for other programs: inputs to logits, score and verdict.

    A Python file beside it turns pictures into what it reads, with NumPy and Pillow alone.

    oodles export RUN --to model.onnx

    Args:
        run: a run folder, or the folder of a saved detector.
        to: the file, .onnx or .pt2.
        score: outlier score, such as energy or "knn(k=5)"; "best" is the one that tells validation outliers best; the
            method's own unless given.
        false_alarms: share of known inputs that may be rejected; 0.05 unless given, or a saved detector's.
        per_class: keep the share of false alarms for each predicted class by itself.
        root: folder that holds the files of the suite, if they have moved.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        data: the run's suite file, if it names functions of your own, or has moved.
        json: print one JSON document.
    """
    from oodles.runs.deployment import export as export_run

    exported = export_run(
        run,
        to,
        score=score,
        false_alarms=false_alarms,
        per_class=per_class,
        root=root,
        network=network,
        data=data,
    )
    if json:
        _print_json({"file": str(exported.path), "checked": exported.checked, **exported.about})
    else:
        _print(exported)


def suite_check(
    suite: Annotated[str, Positional, arg(metavar="SUITE")],
    /,
    *,
    root: Folders = (),
    to: OptionalPath = None,
    json: bool = False,
) -> int:
    """Read every row of a suite, count them by set and class, and find those that are in two sets.

    The exit code is 1 where a row is in two sets.

    Args:
        suite: a suite that `oodles suite list` names, a .toml file or a folder.
        root: folder that holds the files of the suite.
        to: also draw some images of every set, into a .png file.
        json: print one JSON document.
    """
    from oodles.data.suite_check import check_suite, write_sheet

    checked = check_suite(suite, root)
    if to is not None:
        write_sheet(checked.suite, to)
    if json:
        _print_json(checked.as_dict())
    else:
        _print(checked)
    return 1 if checked.overlaps else 0


def suite_list(*, root: Folders = (), json: bool = False) -> None:
    """List the suites that come with the package, and whether their files are there.

    Args:
        root: folder that holds files of suites.
        json: print one JSON document.
    """
    from oodles.data.suite_check import suite_list as list_suites

    suites = list_suites(root)
    if json:
        _print_json(suites)
    else:
        lines = (
            f"{suite['name']:21}{suite['holds']}\n{'':21}{suite['missing'] or 'All is there.'}" for suite in suites
        )
        _print("\n".join(lines))


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
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; a mistyped command raises ``SystemExit(2)``, help ``SystemExit(0)``."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help") or (command == "suite" and rest[:1] in ([], ["-h"], ["--help"])):
        print(_help())
        return 0
    if command == "--version":
        print(f"oodles {oodles.__version__}")
        return 0
    if command == "suite":
        command = f"suite {rest.pop(0)}"
    if command in METHODS:
        _refuse(f"{command} is a method and no command: oodles train {command}, or oodles methods {command}")
    if command not in COMMANDS:
        _refuse(f"There is no command {command!r}{suggestion(command, COMMANDS)}")
    run = _parse_train(rest) if command == "train" else _parse(COMMANDS[command], command, rest)
    keep_freed_memory()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]  # what is shown goes to standard error
            code = run() or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # a reader such as head has seen enough
        _close_output()
        return 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        if "OODLES_TRACEBACK" in os.environ:
            raise
        _say(_in_a_sentence(error))
        return 1
    except KeyboardInterrupt:
        _say("stopped; the same command resumes from the last saved state.")
        return 130


def _in_a_sentence(error: Exception) -> str:
    """Return what went wrong; what the system says of a file or of standard output needs a subject."""
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split("\n"))
    if error.filename is None:
        _close_output()
    what = "The output" if error.filename is None else error.filename
    return f"{what} cannot be read or written: {error.strerror[:1].lower()}{error.strerror[1:]}."


def _close_output() -> None:
    """Send what is left to print nowhere, or Python would fail once more when it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # it is no file
        return


@dataclass(frozen=True)
class Flag:
    """What may stand after a flag."""

    takes: type | tuple[str, ...] | None
    """The type of a value, or the values there are; a switch has none."""
    repeatable: bool = False
    together: bool = False
    """It takes any number of values."""

    def fault(self, value: str) -> str:
        """Say what a value must be, if it is something else."""
        if isinstance(self.takes, tuple):
            return "" if value in self.takes else f"one of {', '.join(self.takes)}"
        if self.takes in (int, float):
            try:
                self.takes(value)
            except ValueError:
                return "a whole number" if self.takes is int else "a number"
        return "" if value else "some text"


def _parse(command: Callable[..., Any], name: str, arguments: Sequence[str]) -> Callable[..., int | None]:
    """Return the command with its arguments, not yet run: what it raises is no parsing error."""
    if not {"-h", "--help"} & set(arguments):
        flags, positionals = _flags(command), _positionals(command)
        more = f"oodles {name} --help"
        strays = _check_flags(name, arguments, flags, more)
        if "" in strays:
            _refuse(f"{positionals[0][0] if positionals else 'A word'} must be some text, got '': {more}")
        missing = [metavar for metavar, many in positionals[len(strays) :] if metavar[0] != "[" and not many]
        if missing:
            _refuse(f"oodles {name} needs {' and '.join(missing)}: {more}")
        if len(strays) > len(positionals) and not any(many for _, many in positionals):
            wanted = f"one {positionals[0][0]}" if len(positionals) == 1 else " and ".join(m for m, _ in positionals)
            _refuse(f"oodles {name} takes {wanted or 'flags alone'}, got {', '.join(strays)}: leave the others out.")

    @functools.wraps(command)
    def parsed(*given: Any, **flags: Any) -> Callable[..., int | None]:
        return functools.partial(command, *given, **flags)

    return tyro.cli(parsed, prog=f"oodles {name}", args=arguments, config=(FlagCreatePairsOff,))


def _parse_train(arguments: Sequence[str]) -> Callable[[], int | None]:
    """Parse the segments between ``+``, each a method with its flags; those left over are flags of training."""
    segments = _split(arguments, "+")
    names = [segment[0] if segment and not segment[0].startswith("-") else None for segment in segments]
    training = _flags(train)
    seen: dict[str, str] = {}
    for name in names:
        if name is None and len(segments) > 1:
            _refuse("A method must stand on either side of '+': oodles train mixup + outlier-exposure")
        if name is not None and name not in METHODS:
            _refuse(_no_method(name))
        if names.count(name) > 1:
            _refuse(f"{name} stands there twice: once is enough, with all its flags.")
    if not {"-h", "--help"} & set(arguments):
        for name, segment in zip(names, segments, strict=True):
            _check_segment(name, segment[name is not None :], [one for one in names if one], training, seen)
    chain: list[tuple[str, dict[str, Any]]] = []
    left_over: list[str] = []
    for name, segment in zip(names, segments, strict=True):
        if name is not None:
            settings, segment = _parse_method(name, segment[1:])
            chain.append((name, settings))
        left_over += segment
    return functools.partial(_parse(train, "train", left_over), chain=tuple(chain))


def _no_method(name: str) -> str:
    """Say that a word is no method, and what was probably meant."""
    words = [word for word in name.replace("+", " ").replace(",", " ").split() if word]
    if len(words) > 1 and all(word in METHODS for word in words):
        return f"There is no method {name!r}: write oodles train {' + '.join(words)}"
    if name in recipes() or name.endswith(".toml"):
        return f"There is no method {name!r}, but a recipe: write oodles train --recipe {name}"
    return f"There is no method {name!r}{suggestion(name, METHODS)}"


def _check_segment(
    name: str | None, words: Sequence[str], chain: Sequence[str], training: dict[str, Flag], seen: dict[str, str]
) -> None:
    """Refuse what neither a method nor training takes, before anything slow is imported."""
    own = _method_flags(name) if name else {}
    others = {flag: other for other in chain if other != name for flag in _method_flags(other)}
    who, more = (name, f"oodles train {name} --help") if name else ("train", "oodles train --help")
    strays = _check_flags(who, words, {**training, **own}, more, others, seen, own)
    if methods := [word for word in strays if word in METHODS]:
        if name is None:
            _refuse(f"A method stands before all flags, got {methods[0]!r} behind them: oodles train {methods[0]} …")
        before = [*chain[: chain.index(name) + 1], *methods]
        _refuse(f"Methods are joined by '+', got {methods[0]!r} without one: oodles train {' + '.join(before)}")
    if strays:
        hint = f"write --recipe {strays[0]}" if strays[0] in recipes() else f"see {more}"
        _refuse(f"{who} takes flags alone, got {strays[0]!r}: {hint}")


def _parse_method(name: str, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a method that are given, checked by its class, and the arguments that are not its own."""
    facts = card(name)
    method, left_over = tyro.cli(
        method_class(name),
        prog=f"oodles train {name}",
        description=f"{facts.summary}\n\nFlags of training, such as --data and --seed: oodles train --help",
        args=arguments,
        return_unknown_args=True,
        config=(FlagCreatePairsOff,),
    )
    flags = {word.split("=")[0].replace("_", "-") for word in arguments}
    given = [parameter.name for parameter in facts.parameters if parameter.flag in flags]
    return {name: getattr(method, name) for name in given}, left_over


def _check_flags(
    who: str,
    words: Sequence[str],
    flags: dict[str, Flag],
    more: str,
    others: dict[str, str] | None = None,
    seen: dict[str, str] | None = None,
    own: Container[str] = (),
) -> list[str]:
    """Refuse unknown flags, values that are missing, of another type or one too many; return words of no flag.

    Args:
        who: the command or the method, for sentences.
        words: of the command line.
        flags: those that may be given.
        more: the command that tells more.
        others: flags that belong to another method of the line, and to which.
        seen: values of flags that were given before, which it adds to.
        own: flags that may be given once for each method.
    """
    seen = {} if seen is None else seen
    mine: dict[str, str] = {}
    strays: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not _is_flag(word):
            strays.append(word)
            continue
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in flags:
            _refuse(f"{who} has no flag {name}{_flag_hint(name, flags, others or {}, more)}")
        flag = flags[name]
        if flag.takes is None:
            if equals:
                _refuse(f"{name} takes no value, got {value!r}: write {name} alone, or leave it out.")
            continue
        values = [value] if equals else []
        while not equals and left and not _is_flag(left[0]) and (flag.together or not values):
            values.append(left.pop(0))
        if not values and not flag.together:
            _refuse(f"{name} must have a value, got none: {more}")
        for value in values:
            if fault := flag.fault(value):
                _refuse(f"{name} must be {fault}, got {value!r}.")
        given = mine if name in own else seen
        if name in given and not flag.repeatable:
            _refuse(f"{name} is given twice, {given[name]} and {' '.join(values)}: give it once.")
        given[name] = " ".join(values)
        if who not in COMMANDS or who == "train":  # other commands take words, anywhere
            for extra in left[:1]:
                if not flag.together and not _is_flag(extra) and extra not in METHODS:
                    _refuse(f"{name} takes one value, got {values[0]!r} and {extra!r}.")
    return strays


def _is_flag(word: str) -> bool:
    """Tell flags from values, among which are negative numbers."""
    try:
        float(word)
    except ValueError:
        return word.startswith("-") and word != "-"
    return False


def _flag_hint(name: str, flags: dict[str, Flag], others: dict[str, str], more: str) -> str:
    """End a sentence about an unknown flag."""
    if name in others:
        return f": write it behind {others[name]}, whose flag it is."
    known = [flag.removeprefix("--") for flag in flags]
    word = name.lstrip("-")
    starts = [flag for flag in known if word and flag.startswith(word)]
    near = starts[0] if len(starts) == 1 else nearest(word, known, cutoff=0.7)
    return f": did you mean '--{near}'?" if near else f": {more} lists those there are."


def _flags(command: Callable[..., Any]) -> dict[str, Flag]:
    """Return the flags of a command, from its signature."""
    flags: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        if is_dataclass(group := parameter.default):  # flags that stand together in help
            flags |= {field.name: field.type for field in fields(group)}
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "chain":
            flags[parameter.name] = parameter.annotation
    # for_ stands for a word that Python keeps for itself
    return {f"--{name.rstrip('_').replace('_', '-')}": _flag(annotation) for name, annotation in flags.items()}


def _flag(annotation: Any) -> Flag:
    marked: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        marked += more
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is tuple:
        return Flag(get_args(annotation)[0], repeatable=True)
    if get_origin(annotation) is Literal:
        return Flag(get_args(annotation))
    return Flag(None if annotation is bool else annotation)


def _method_flags(name: str) -> dict[str, Flag]:
    """Return the flags of a method, from its card."""
    kinds: dict[str, type | None] = {"float": float, "int": int, "bool": None}
    flags = {}
    for parameter in card(name).parameters:
        together = parameter.type.startswith("tuple[")
        kind = parameter.type.removeprefix("tuple[").partition(",")[0]
        flags[parameter.flag] = Flag(kinds.get(kind, str), together=together)
    return flags


def _positionals(command: Callable[..., Any]) -> list[tuple[str, bool]]:
    """Return what a command takes besides flags: its name in help, and whether there may be many."""
    found = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            kind, *marked = get_args(parameter.annotation)
            found.append((next(m.metavar for m in marked if getattr(m, "metavar", None)), get_origin(kind) is tuple))
    return found


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
    lines += [f"  {name:13}{str(command.__doc__).splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "oodles COMMAND --help tells more; oodles --version tells the version."])


def _show_warning(message: Warning | str, category: type[Warning], filename: str, line: int, *others: Any) -> None:
    """Show a warning of our own as one sentence, others as Python does."""
    if issubclass(category, (TrainingWarning, CalibrationWarning)):
        if os.environ.get("RANK", "0") == "0":
            _say(str(message))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, line))


def _refuse(sentence: str) -> NoReturn:
    _say(sentence)
    raise SystemExit(2)


def _say(sentence: str) -> None:
    """Print a sentence on standard error; what files hold cannot control the terminal."""
    print(visible(f"oodles: {sentence}", keep="\n"), file=sys.stderr)


def _print(result: object) -> None:
    """Print a result, from the first process alone, under ``accelerate launch`` too; see :func:`_say`."""
    if os.environ.get("RANK", "0") == "0":
        print(visible(str(result), keep="\n"))


def _print_json(document: object) -> None:
    _print(json_format.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
