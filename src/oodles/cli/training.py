"""From data to a run: ``oodles train`` and ``oodles adopt``."""

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, Suppress, UseAppendAction, arg

from oodles.cli.flags import (
    Chain,
    Count,
    FineTuning,
    Folders,
    Name,
    Numbers,
    OptionalName,
    OptionalPath,
    Precision,
    Schedule,
    Truth,
    setting,
    truth,
)
from oodles.cli.shown import print_json, print_result, refuse, say
from oodles.runs.recipe import Recipe, merge_settings

if TYPE_CHECKING:
    from oodles.runs.opened import Run


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
    epochs: Annotated[int | None, setting("epochs", "COUNT")] = None,
    batch_size: Annotated[int | None, setting("batch_size", "COUNT")] = None,
    outlier_batch_size: Annotated[int | None, setting("outlier_batch_size", "COUNT")] = None,
    max_outliers: Annotated[int | None, setting("max_outliers", "COUNT")] = None,
    wild_batch_size: Annotated[int | None, setting("wild_batch_size", "COUNT")] = None,
    optimizer: Annotated[Literal["sgd", "adamw"] | None, setting("optimizer", "{sgd,adamw}")] = None,
    learning_rate: Annotated[float | None, setting("learning_rate", "NUMBER")] = None,
    momentum: Annotated[float | None, setting("momentum", "NUMBER")] = None,
    nesterov: Annotated[Truth | None, truth("nesterov")] = None,
    weight_decay: Annotated[float | None, setting("weight_decay", "NUMBER")] = None,
    schedule: Annotated[Schedule | None, setting("schedule", "{cosine,one-cycle,steps,constant}")] = None,
    milestones: Annotated[
        UseAppendAction[tuple[int, ...]], arg(metavar="EPOCH", help_behavior_hint="(repeatable)")
    ] = (),
    seed: Annotated[int | None, setting("seed", "COUNT")] = None,
    weights: OptionalName = None,
    teacher: OptionalName = None,
    suggest: bool = False,
    no_suggest: bool = False,
    to: OptionalPath = None,
    mixed_precision: Annotated[Precision | None, setting("mixed_precision", "{no,bf16,fp16,auto}")] = None,
    accumulate: Count = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    compile: bool = False,
    channels_last: bool = False,
    workers: Annotated[int | None, arg(metavar="COUNT", help_behavior_hint="")] = None,
    tracker: OptionalName = None,
    keep_frozen: bool = False,
    json: bool = False,
    fine_tuning: Annotated[FineTuning, OmitArgPrefixes] = FineTuning(),  # noqa: B008  # it cannot be changed
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
        max_outliers: train on so many of the data's outliers, drawn by the seed; 0 for none of them.
        wild_batch_size: wild rows per batch.
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
        teacher: what distillation learns from, the folder of a run, a file of weights of the same network, or a network
            that brings its weights.
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
        refuse("Say what to train with, a method or --recipe FILE: oodles train mixup --alpha 0.2")
    if suggest and no_suggest:
        refuse("Say either --suggest or --no-suggest.")
    from oodles.runs.training import train as train_recipe

    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "outlier_batch_size": outlier_batch_size,
        "max_outliers": max_outliers,
        "wild_batch_size": wild_batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "milestones": milestones or None,
        "seed": seed,
        "weights": weights,
        "teacher": teacher,
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
        refuse(
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
        print_json({"folder": str(run.folder), **run.result})
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
        print_result("\n\n".join(filter(None, (done, figures(run), hint))))
    if run.status == "diverged":
        say(run.reason)
        return 1
    return 0


def _number(word: str) -> float | str:
    """Return the number that a word is, or the word."""
    try:
        return float(word)
    except ValueError:
        return word
