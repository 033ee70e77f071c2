"""Train from a recipe into a run folder: on one device or several, and resumable at any step."""

import atexit
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, InitProcessGroupKwargs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader

from oodles.checks import check_number
from oodles.classifier import Classifier, Inputs, Normalize, device_of, in_mode
from oodles.contract import Data
from oodles.data import Suite, as_batch, load_suite
from oodles.data.decoded import loader_workers
from oodles.data.image_set import InOrder, Rows
from oodles.data.overlaps import warn_of_overlaps
from oodles.detection.calibration import choosing_rows
from oodles.facts import check_composition
from oodles.files import sha256_of, write_arrays, write_json, write_lines, write_text
from oodles.files.forms import check_form
from oodles.inference import collect
from oodles.memory import hand_back_memory
from oodles.methods import build_methods, change_classifier_by
from oodles.metrics import accuracy, doubts, largest_share
from oodles.networks import Network, build_network, network_name, share_of_own_weights
from oodles.precision import at_least_float32
from oodles.randomness import FORWARD_PASS, INITIAL_WEIGHTS, random_seed
from oodles.remarks import hear, warn
from oodles.runs.batches import Batches
from oodles.runs.choice import choose_on
from oodles.runs.folder import (
    ADVICE,
    CHOICE,
    LOG,
    RECIPE,
    RESULT,
    RUN,
    SCORES,
    STATE,
    WEIGHTS,
    locked,
    metrics_of,
    read_log,
    read_run,
)
from oodles.runs.forms import counters_form
from oodles.runs.frozen_part import SETS, Cut, FrozenPart, Kept, discard, frozen_part, keep, kept
from oodles.runs.kept_weights import KeptWeights
from oodles.runs.opened import Run, open_run
from oodles.runs.preparation import (
    about_suite,
    about_weights,
    check_choice,
    check_same_data,
    check_unchanged,
    class_weights,
    data_name,
    default_network,
    earlier_run,
    folder_name,
    initial_weights,
    kept_entry,
    measure_settings,
    record,
    resumed,
    settle_recipe,
    warm_up,
)
from oodles.runs.recipe import OF_NETWORK, Recipe, check_needs, needs_teacher, recipes, roles_used
from oodles.runs.saved_state import fingerprint, load_state, load_weights, save_state, save_weights, weights_fit
from oodles.runs.teacher import load_teacher, teacher_name
from oodles.runs.testing import score_arrays
from oodles.spelling import visible
from oodles.step import TrainingStep

WARM = "warm-up"
"""The folder, inside a run's, of the short plain run on whose weights settings were measured."""
TRACKERS = ("tensorboard", "wandb")
LOOK_EVERY = 20
"""On a GPU, batches between two looks at the loss: reading a number waits for the device."""
RISE = 0.25
"""The share of a one-cycle training in which the learning rate rises."""
MOST = 0.5
"""A network with more than this share of its own weights was trained; its last layer may be new."""
NORMALISATION = "normalize.mean"
"""How a tensor's name ends in weights that have their own normalisation."""
SHOWN = 5
"""So many classes tell their order."""
LARGEST_LOGIT = 1e30
"""Beyond it, rows unlike the training rows might overflow and have scores that are NaN."""


def train(
    recipe: Recipe | str | Path,
    data: str | Path | Suite = "digits",
    *,
    root: str | Path | Sequence[str | Path] = (),
    seed: int | None = None,
    weights: str | Path | None = None,
    teacher: Network | Path | None = None,
    folder: str | Path | None = None,
    network: Network | None = None,
    head: str | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    accumulate: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    compile: bool = False,
    channels_last: bool = False,
    workers: int | None = None,
    tracker: str | None = None,
    progress: bool = True,
    save_every: float = 10.0,
    keep_frozen: bool = False,
) -> Run:
    """Train a classifier, test it once, and keep everything in a run folder.

    The same call resumes a run that was stopped, by whatever means, and ends with the weights of an uninterrupted one
    (on a GPU up to the order in which it adds numbers); for a run that has ended it returns the result at once. Under
    ``accelerate launch`` every process makes the same call. A loss that is no longer finite ends the run with the
    status ``diverged``.

    Settings that depend on the data, such as energy margins, are measured where the recipe does not give them,
    see ``suggest`` of :class:`~oodles.Recipe`. What will hardly give what is wanted is said by a
    :class:`~oodles.TrainingWarning` and kept in ``result.json``: a term of more than fifty times the cross-entropy, one
    class predicted for all validation or test rows, an accuracy at chance, a resume on another machine.

    Args:
        recipe: a recipe, the name of one that comes with the package, or the path of its TOML file.
        data: a suite, its name, or its TOML file or folder, see :func:`oodles.data.load_suite`.
        root: folders that hold the suite's files.
        seed: in place of the recipe's.
        weights: in place of the recipe's; ``network`` for those that the network brings.
        teacher: in place of the recipe's: the folder of a finished run on the same classes and inputs; a file of
            weights of ``network``; or a network that brings all of its weights, such as a module, a file of ONNX, or
            ``package.module:function``.
        folder: the run folder; ``runs/METHODS-DATA-SEED`` unless given.
        network: see :func:`oodles.networks.build_network`; ``small-cnn`` unless given, and ``mlp`` for feature vectors,
            whose data are then read first. A module counts as trained: a copy of it starts from its own
            weights, unless ``weights`` says others; for new weights, give a function. A run of a module, or of a
            function inside another, needs it again to be opened.
        head: the name of the last layer, see there.
        mean: with ``std``, what the network's weights were trained with, per channel of images in [0, 1]; unless given,
            what its library says, or that of the training images.
        std: see ``mean``.
        accumulate: batches per step of the optimizer.
        device: ``auto`` takes a GPU where there is one.
        compile: compile the training step.
        channels_last: lay out images and convolutions as (N, H, W, C) in memory, which some hardware prefers.
        workers: processes that load data; the result does not depend on them. Unless given, images stay on the device,
            as they are stored, where all of them fit there.
        tracker: also log to ``tensorboard`` or ``wandb``, which have to be installed.
        progress: show a progress bar, where standard error is a terminal.
        save_every: seconds between two saved states, which is what a crash can cost.
        keep_frozen: keep what the part of the network that does not train has given, in the folder ``frozen`` of the
            run's, when it has finished.

    Raises:
        ValueError: for settings, data or weights that do not fit together, and for a folder that holds another run.
        FileNotFoundError: for a recipe, weights or a teacher that are not there.
    """
    network = default_network(data, root) if network is None else network
    recipe = settle_recipe(recipe, seed, weights, network)
    taught_by = recipe.teacher if teacher is None else teacher
    recipe = replace(recipe, teacher=None if taught_by is None else teacher_name(taught_by))
    if bool(mean) != bool(std):
        raise ValueError(f"mean and std must be given together, got {tuple(mean)} and {tuple(std)}.")
    check_composition(build_methods(recipe.methods))
    if workers is not None:
        check_number("workers", workers, low=0)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = available_precision(recipe.mixed_precision, device)
    name = data_name(data)
    folder = Path(folder) if folder else Path("runs", folder_name(recipe, name))
    options: dict[str, Any] = {
        "network": network_name(network),
        "head": head,
        **({"mean": list(map(float, mean)), "std": list(map(float, std))} if mean else {}),
        "accumulate": accumulate,
        "device": device,
        "compile": compile,
        "channels_last": channels_last,
        "root": [str(Path(place).resolve()) for place in ([root] if isinstance(root, str | Path) else root)],
    }
    arguments = {"data": name, **options}
    said = None if isinstance(data, Suite) else name
    running: dict[str, Any] = {
        "network": network,
        "workers": workers,
        "tracker": tracker,
        "progress": progress,
        "save_every": save_every,
        "keep_frozen": keep_frozen,
    }

    with _accelerator(device, precision, accumulate, tracker, folder) as accelerator:
        main = accelerator.is_main_process
        with _own_randomness(accelerator.device), locked(folder) if main else nullcontext(), hear() as warned:
            accelerator.wait_for_everyone()
            earlier = earlier_run(folder, recipe, arguments)
            trained = (folder / WEIGHTS).is_file()
            accelerator.wait_for_everyone()  # nobody writes before all have read
            suite = data if isinstance(data, Suite) else load_suite(data, recipe.seed, root=options["root"])
            contents = about_suite(suite)
            if earlier is not None:
                check_same_data(earlier, contents)
                if earlier.result:
                    return replace(earlier, network=network, suite=said)
            check_needs(recipe, suite.name, roles=suite.others, vectors=suite.vectors)
            check_choice(recipe, suite)
            if main:
                warn_of_overlaps(suite)
            batches = (
                None
                if recipe.epochs == 0
                else Batches(
                    suite,
                    recipe,
                    roles=roles_used(recipe),
                    accumulate=accumulate,
                    process=accelerator.process_index,
                    processes=accelerator.num_processes,
                )
            )

            master, taught = None, None
            if taught_by is not None and needs_teacher(recipe.methods):
                build = partial(_classifier, network, head, suite, mean, std)
                master, taught = load_teacher(taught_by, suite, contents, name, network, build)
            first = _train_first(recipe, data, suite, folder, {**options, **running})
            initial = initial_weights(recipe, name, contents, first)
            torch.manual_seed(random_seed(recipe.seed, INITIAL_WEIGHTS))
            classifier = _classifier(network, head, suite, mean, std)
            if recipe.weights == OF_NETWORK:
                if earlier is None:
                    _check_own_weights(network, suite, recipe)
                initial = {**initial, "sha256": fingerprint(classifier.state_dict(), {})}
            own = recipe.weights != OF_NETWORK
            if initial["file"] and not trained:
                own = _start_from(Path(initial["file"]), classifier, recipe, stated=bool(mean))
            _check_finite(
                classifier,
                f"The weights {initial['file']}" if initial["file"] else f"The network {network_name(network)}",
            )
            if recipe.epochs:
                _check_trainable(classifier, network_name(network))
            if not (own or mean or trained):
                _warn_of_normalisation(classifier, suite)
            classifier.to(accelerator.device)
            if channels_last:  # the first convolution brings its inputs along
                classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
            warm = None if earlier else _warm_up(recipe, data, folder, {**options, **running})
            measured_on = warm.classifier(device) if warm else classifier
            suggested = earlier.suggested if earlier else measure_settings(recipe, measured_on, suite)
            part = frozen_part(classifier, recipe, suite, compiled=compile)
            step = TrainingStep(
                classifier,
                *build_methods(recipe.methods, suggested, master),
                seed=recipe.seed,
                class_weights=class_weights(recipe, suite),
            )
            if trained:
                load_weights(classifier, folder / WEIGHTS, advice=ADVICE[WEIGHTS])
            if compile:
                step.compile()

            warmed = None if warm is None else about_weights(warm.folder / WEIGHTS, warm.label)
            about = record(
                folder, recipe, arguments, contents, initial, taught, suggested, warmed, accelerator, precision
            )
            about["warnings"] = list(warned)
            if part is not None:
                about["frozen"] = part.as_dict()
            if earlier is not None:
                warned[:0] = earlier.record.get("warnings", ())
                check_unchanged(earlier, about)
                about = resumed(earlier, about)
            if main and (earlier is None or about != earlier.record):
                write_text(folder / RECIPE, recipe.to_toml())
                write_json(folder / RUN, about)
            diverged = ""
            if not trained and batches is not None:
                diverged = _fit(accelerator, step, batches, suite, part, folder, workers, progress, save_every, warned)
            if main:
                if not trained and not diverged:
                    save_weights(classifier, folder / WEIGHTS)
                _finish(folder, classifier, suite, recipe, diverged, warned)
                if not keep_frozen:
                    discard(folder)
            accelerator.wait_for_everyone()
    return replace(open_run(folder), network=network, suite=said)


def adopt(
    network: Network,
    *,
    weights: str | Path | None = None,
    data: str | Path | Suite = "digits",
    root: str | Path | Sequence[str | Path] = (),
    seed: int = 0,
    folder: str | Path | None = None,
    head: str | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Run:
    """Make a run of a classifier that has been trained elsewhere: tested and scored, and without any training.

    It counts as plain cross-entropy training. From there everything works as for a run that :func:`train` has made.

    Args:
        network: see :func:`train`.
        weights: their file; unless given, those that the network brings.
        data: with the classes of the network, in its order; its training rows are what scores are fitted to.
        root: folders that hold the suite's files.
        seed: of the split of an embedded suite.
        folder: the run folder; ``runs/adopted-NETWORK-cross-entropy-DATA-SEED`` unless given.
        head: the name of the last layer.
        mean: what the weights were trained with, see :func:`train`.
        std: see ``mean``.
        device: ``auto`` takes a GPU where there is one.

    Raises:
        ValueError: for weights of another network or of other classes, and for a folder that holds another run.
        FileNotFoundError: for weights that are not there.

    Example:
        >>> run = adopt("timm:resnet18", weights="resnet18.pt", data="photos.toml")  # doctest: +SKIP
        >>> verdicts = run.detector()("new-photos")  # doctest: +SKIP
    """
    recipe = Recipe(epochs=0, weights=OF_NETWORK if weights is None else str(weights), seed=seed)
    name = re.sub(r"[^\w.-]+", "-", f"adopted-{network_name(network)}-{folder_name(recipe, data_name(data))}")
    return train(
        recipe,
        data,
        root=root,
        folder=folder or Path("runs", name),
        network=network,
        head=head,
        mean=mean,
        std=std,
        device=device,
        progress=False,
    )


def available_precision(wanted: str, device: str) -> str:
    """Return the precision on ``cpu`` or ``cuda``: ``auto`` is ``bf16`` where hardware computes in it, else ``no``."""
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
    return "bf16" if capabilities.get("amx_bf16") else "no"


def _train_first(
    recipe: Recipe, data: str | Path | Suite, suite: Suite, folder: Path, arguments: Mapping[str, Any]
) -> Run | None:
    """Train the recipe that this one starts from, beside its folder; return none if it starts from no recipe."""
    if recipe.weights not in recipes():
        return None
    network = arguments["network"]
    if _own_weights(network, suite) > MOST:
        warn(
            f"The recipe {recipe.weights} is trained first, from the weights that {network_name(network)} brings: if "
            f"they are trained for these classes, say weights={OF_NETWORK!r} to start from them."
        )
    start = replace(Recipe.load(recipe.weights), seed=recipe.seed)
    try:
        return train(start, data, folder=folder.parent / folder_name(start, data_name(data)), **arguments)
    except ValueError as error:
        raise ValueError(
            f"Training starts from the recipe {recipe.weights!r}, but: {error} "
            "Or start from a run of your own, with weights=…."
        ) from error


def _warm_up(recipe: Recipe, data: str | Path | Suite, folder: Path, arguments: Mapping[str, Any]) -> Run | None:
    """Train plainly, inside the folder, where settings have to be measured and the initial weights are random."""
    short = warm_up(recipe)
    if short is None:
        return None
    run = train(short, data, folder=folder / WARM, **arguments)
    if run.status == "diverged":
        raise ValueError(
            f"Settings of {recipe.label} are measured after a plain warm-up, and it diverged: {run.reason} "
            "Or give the settings themselves."
        )
    return run


def unused_parameters(classifier: Classifier, inputs: Inputs) -> list[str]:
    """Return the names of parameters on which no output of a network depends, and for which processes need not wait."""
    parameters = {name: value for name, value in classifier.named_parameters() if value.requires_grad}
    buffers = {name: value.clone() for name, value in classifier.named_buffers()}
    device = device_of(classifier)
    with in_mode(classifier, training=True), _own_randomness(device), torch.enable_grad():
        outputs = functional_call(
            _AllHeads(classifier), {f"classifier.{name}": b for name, b in buffers.items()}, inputs
        )
        slopes = torch.autograd.grad(outputs.sum(), list(parameters.values()), allow_unused=True)
    return [name for name, slope in zip(parameters, slopes, strict=True) if slope is None]


class _AllHeads(nn.Module):
    """All outputs of a classifier for each row, one behind another."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, inputs: Inputs) -> Tensor:
        features = self.classifier.features(inputs)
        heads = [self.classifier.head, *self.classifier.heads.values()]
        return torch.cat([at_least_float32(head(features)).flatten(1) for head in heads], dim=1)


def _classifier(
    network: Network, head: str | None, suite: Suite, mean: Sequence[float], std: Sequence[float]
) -> Classifier:
    """Build a classifier for a suite's images and classes; new weights are drawn by torch's seed."""
    return build_network(
        network,
        num_classes=len(suite.classes),
        input_shape=suite.input_shape,
        mean=mean or suite.mean,
        std=std or suite.std,
        head=head,
        stated=bool(mean),
    )


def _start_from(weights: Path, classifier: Classifier, recipe: Recipe, *, stated: bool) -> bool:
    """Load initial weights: those of a plain classifier, or of one that the recipe's methods have changed.

    Return whether they have a normalisation of their own.

    Raises:
        ValueError: for weights of another network, and a normalisation in them where one is stated besides.
    """
    if not weights_fit(classifier, weights):
        change_classifier_by(build_methods(recipe.methods), classifier)
    own = any(name.endswith(NORMALISATION) for name in load_weights(classifier, weights))
    if own and stated:
        raise ValueError(
            f"{weights} holds the normalisation that its weights were trained with, and another one is given besides: "
            "leave out mean and std."
        )
    return own


def _warn_of_normalisation(classifier: Classifier, suite: Suite) -> None:
    """Warn where weights from elsewhere see images normalised by the data at hand, since nothing says by what."""
    for layer in classifier.modules():
        if isinstance(layer, Normalize) and layer.mean.flatten().tolist() == torch.tensor(suite.mean).tolist():
            warn(
                "Nothing says how inputs were normalised when these weights were trained, so the data's own mean and "
                "std are taken: state mean and std if they were others."
            )
            return


def _own_weights(network: Network, suite: Suite) -> float:
    """Return which share of a network's weights is its own, for the classes and images of a suite."""
    return share_of_own_weights(network, num_classes=len(suite.classes), input_shape=suite.input_shape)


def _check_own_weights(network: Network, suite: Suite, recipe: Recipe) -> None:
    """Refuse to take new weights for trained ones; those of a last layer may be new if it is trained."""
    share = _own_weights(network, suite)
    if share <= MOST:
        raise ValueError(
            f"weights={OF_NETWORK!r} needs a network that brings trained weights, and {network_name(network)} is built "
            "with random ones: give a file of weights."
        )
    if share < 1 and not recipe.epochs:
        raise ValueError(
            f"{network_name(network)} must bring all of its weights to be adopted, and some are new for these "
            f"{len(suite.classes)} classes: train its last layer first, or give data with its own classes."
        )


def _check_trainable(classifier: Classifier, network: str) -> None:
    """Refuse to train a network without a parameter that takes a gradient, such as an ONNX file."""
    if not any(parameter.requires_grad for parameter in classifier.parameters()):
        raise ValueError(
            f"{network} has no parameters to train: oodles adopt makes a run of it as it is, without training."
        )


def _check_finite(classifier: Classifier, what: str) -> None:
    """Refuse to start from weights that are not finite, from which nothing can be learned."""
    parameters = dict(classifier.named_parameters(remove_duplicate=False))
    for name, value in classifier.state_dict().items():
        wrong = ~value.isfinite() if name in parameters else value.isnan()  # a mask may hold infinity
        if bool(wrong.any()):
            raise ValueError(f"{what} must hold finite numbers, got NaN or infinity in {name!r}: start from others.")


def learning_rate(recipe: Recipe, update: int, updates: int) -> float:
    """Return the learning rate of one step of the optimizer, counted from 0: none is zero."""
    done = update / updates
    rise = recipe.warm_up / recipe.epochs
    match recipe.schedule:
        case "cosine":
            factor = (1 + math.cos(math.pi * done)) / 2
        case "one-cycle":
            rise = rise or RISE
            factor = min((1 - done) / (1 - rise), 1.0)
        case "steps":
            factor = 0.1 ** sum(done * recipe.epochs >= milestone for milestone in recipe.milestones)
        case _:
            factor = 1.0
    if rise:
        factor *= min((update + 1) / (rise * updates), 1.0)
    return recipe.learning_rate * factor


def _fit(
    accelerator: Accelerator,
    step: TrainingStep,
    batches: Batches,
    suite: Suite,
    part: FrozenPart | None,
    folder: Path,
    workers: int | None,
    progress: bool,
    save_every: float,
    warned: list[str],
) -> str:
    """Train to the end, from the saved state where there is one; return the reason if it had to stop early."""
    recipe, accumulate, main = batches.recipe, batches.accumulate, accelerator.is_main_process
    optimizer = _optimizer(recipe, step)
    multiples = [group["lr"] / recipe.learning_rate for group in optimizer.param_groups]
    few = suite.train.in_order(accelerator.device, batch_size=2)
    if accelerator.num_processes > 1 and unused_parameters(step.classifier, next(few)[0]):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    model, stepper = accelerator.prepare(step, optimizer)
    weights = KeptWeights(step.classifier, recipe)
    position, seconds, sums = 0, 0.0, {}
    if (folder / STATE).is_file():
        counters = load_state(folder / STATE, step, optimizer, ADVICE[STATE], weights)
        check_form(counters, counters_form(len(batches), accumulate), str(folder / STATE), ADVICE[STATE])
        if step.steps != counters["position"]:
            raise ValueError(f"{folder / STATE} has counters that contradict each other; {ADVICE[STATE]}.")
        position, seconds, sums = counters["position"], counters["seconds"], counters["sums"]
        warned[:] = dict.fromkeys([*counters.get("warnings", ()), *warned])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(counters["scaler"])
    log = [entry for entry in read_log(folder) if entry["epoch"] < position // batches.per_epoch]
    accelerator.wait_for_everyone()

    def save() -> None:
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
        totals = {name: float(total) for name, total in sums.items()}
        counters = {"position": position, "seconds": time.monotonic() - began, "sums": totals, "scaler": scaler}
        counters["warnings"] = warned
        save_state(folder / STATE, step, optimizer, counters, weights)

    ended = position % batches.per_epoch == 0 and weights.exhausted(position // batches.per_epoch)
    positions = range(position, position if ended else len(batches))
    first = position
    saved = time.monotonic()
    began = saved - seconds
    if part is not None and part.cut is not None:
        there = _kept_sets(part.cut, batches, folder, accelerator)
        behind = batches.behind(there)
        loader: Iterable[Any] = (behind[position] for position in positions)
    else:
        there, loader = {}, _loader(batches, positions, accelerator.device, workers)
    sets = {"train": suite.train, **suite.others}
    data = Data(**{name: InOrder(images, accelerator.device) for name, images in sets.items()})
    with _progress_bar(recipe, len(batches), shown=progress and main) as show:
        for known, others in loader:
            if position == first or position % batches.per_epoch == 0:
                step.start_epoch(position // batches.per_epoch, recipe.epochs, data)
            rate = learning_rate(recipe, position // accumulate, len(batches) // accumulate)
            for group, multiple in zip(optimizer.param_groups, multiples, strict=True):
                group["lr"] = rate * multiple
            torch.manual_seed(random_seed(recipe.seed, position, accelerator.process_index, FORWARD_PASS))
            with accelerator.accumulate(model):
                with nullcontext() if part is None else part.behind():
                    rows = {role: _move(given, accelerator.device) for role, given in others.items()}
                    terms = model(_move(known, accelerator.device), **rows)
                accelerator.backward(torch.stack(list(terms.values())).sum())
                if recipe.clip_gradients and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), recipe.clip_gradients)
                stepper.step()
                stepper.zero_grad()
            step.after_update()
            if accelerator.sync_gradients:
                weights.follow(step.classifier, position // accumulate)
            for name, value in {**terms, **step.measures}.items():
                sums[name] = sums.get(name, 0.0) + accelerator.reduce(value.detach().double(), "mean")
            position += 1

            epoch_ends = position % batches.per_epoch == 0
            if accelerator.device.type == "cuda" and position % LOOK_EVERY and not epoch_ends:
                continue
            count = position - step.epoch * batches.per_epoch
            means = {name: float(total) / count for name, total in sums.items()}
            if bad := [name for name in terms if not math.isfinite(means[name])]:
                return f"the loss term {bad[0]!r} was not finite in epoch {step.epoch + 1}{_ADVICE}"
            show(position, means)
            if epoch_ends:
                measured, chosen_by = _validation_accuracy(
                    accelerator, weights.current(step.classifier), suite, there.get("validation")
                )
                if math.isnan(measured):
                    where = f"after epoch {step.epoch + 1}"
                    return f"logits of validation rows were beyond {LARGEST_LOGIT:.0e} {where}{_ADVICE}"
                entry = {
                    "epoch": step.epoch,
                    "step": position // accumulate,
                    "learning_rate": rate,
                    "terms": {name: means[name] for name in terms},
                    **({"measures": {name: means[name] for name in step.measures}} if step.measures else {}),
                    "validation_accuracy": measured,
                    **({"choosing_accuracy": chosen_by} if recipe.chooses_epoch else {}),
                    "seconds": time.monotonic() - began,
                }
                log.append(entry)
                weights.judge(step.classifier, step.epoch, chosen_by)
                sums = {}
                if main:
                    write_lines(folder / LOG, log)
                accelerator.log({**means, "learning_rate": rate, "validation_accuracy": measured}, step=entry["step"])
            if main and position % accumulate == 0 and time.monotonic() - saved >= save_every:
                save()
                saved = time.monotonic()
            if epoch_ends and weights.exhausted(step.epoch + 1):
                break
    if main:
        save()
    weights.hand_over(step.classifier)
    return ""


def _loader(batches: Batches, positions: range, device: torch.device, workers: int | None) -> Iterable[Any]:
    """Load the batches at these positions: made on the device that holds the images, or streamed to it."""
    if workers is None and _fit_on(device, batches.suite):
        resident = batches.resident(device)
        return (resident[position] for position in positions)
    processes = loader_workers() if workers is None else workers
    return DataLoader(
        batches,
        batch_size=None,
        sampler=positions,
        collate_fn=as_batch,
        num_workers=processes,
        worker_init_fn=hand_back_memory,
        # forked workers notice that their parent has gone, those of a fork server outlive it
        multiprocessing_context="fork" if processes and sys.platform == "linux" else None,
        pin_memory=device.type == "cuda",
    )


def _kept_sets(cut: Cut, batches: Batches, folder: Path, accelerator: Accelerator) -> Mapping[str, Kept]:
    """Return what the frozen part gives for each set that training uses; it runs now unless it has before."""
    used = {name: images for name in SETS if (images := getattr(batches.suite, name)) is not None}
    if accelerator.is_main_process:
        keep(cut, used, folder, batches.recipe.batch_size, accelerator.autocast)
    accelerator.wait_for_everyone()
    return kept(used, folder)


def _fit_on(device: torch.device, suite: Suite) -> bool:
    """Say whether all training images can stay there, and on a GPU take at most a quarter of what is free there."""
    sets = [suite.train, *suite.others.values()]
    if not all(part.can_stay for part in sets):
        return False
    if device.type != "cuda":
        return True
    return 4 * sum(part.images.nbytes for part in sets) <= torch.cuda.mem_get_info(device)[0]


_ADVICE = ": lower the learning rate, or check the method's settings."


def _optimizer(recipe: Recipe, step: TrainingStep) -> torch.optim.Optimizer:
    groups = step.parameter_groups(
        recipe.learning_rate,
        backbone=recipe.backbone_learning_rate,
        head=recipe.head_learning_rate,
        decay_exempt=recipe.decay_exempt,
    )
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        groups,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )


def _move(rows: Rows, device: torch.device) -> Rows:
    return rows[0].to(device, non_blocking=True), rows[1].to(device, non_blocking=True)


def _validation_accuracy(
    accelerator: Accelerator, classifier: Classifier, suite: Suite, behind: Kept | None
) -> tuple[float, float]:
    """Measure the accuracy on all validation rows, and on those that may choose: in the first process, which tells all.

    It is NaN where a logit has grown too large.
    """
    measured = [0.0, 0.0]
    if accelerator.is_main_process:
        rows = suite.validation.in_order(accelerator.device) if behind is None else behind.in_order()
        with nullcontext() if behind is None else Cut(classifier).behind():
            logits = collect(classifier, rows).logits
        measured = [math.nan, math.nan]
        if bool((logits.abs() < LARGEST_LOGIT).all()):
            labels, choose = suite.validation.labels, choosing_rows(len(logits))
            few = accuracy(logits[choose], labels[choose]) if choose.any() else 0.0
            measured = [accuracy(logits, labels), few]
    told = accelerator.reduce(torch.tensor(measured, dtype=torch.float64, device=accelerator.device), "sum")
    return float(told[0]), float(told[1])


def _finish(
    folder: Path, classifier: Classifier, suite: Suite, recipe: Recipe, diverged: str, warned: Sequence[str]
) -> None:
    """Write the last two files: the scores, and how the run ended."""
    if diverged:
        write_json(folder / RESULT, {"status": "diverged", "reason": diverged, "warnings": list(warned)})
        return
    arrays, remarks, scores = score_arrays(classifier, suite, recipe, folder)
    write_arrays(folder / SCORES, arrays)
    choice = choose_on(read_run(folder), classifier, suite, scores, arrays)
    write_json(folder / CHOICE, choice.as_dict())
    for name in ("validation", "test"):
        named, labels = arrays[f"{name}/predictions"], arrays[f"{name}/labels"]
        found = doubts(np.bincount(named), np.bincount(labels), accuracy(named, labels), f"{name} rows")
        for doubt in found:
            warn(doubt)
        if found and not recipe.epochs and name == "test":
            warn(
                "The classes of the weights may be in another order than those of the data, "
                f"{', '.join(map(visible, suite.classes[:SHOWN]))}{', …' if len(suite.classes) > SHOWN else ''}."
            )
    log = read_log(folder)
    tested = kept_entry(log, recipe)
    validation = (arrays["validation/predictions"], arrays["validation/labels"])
    write_json(
        folder / RESULT,
        {
            "status": "finished",
            "warnings": list(warned),
            "test_accuracy": accuracy(arrays["test/predictions"], arrays["test/labels"]),
            "chance": largest_share(arrays["test/labels"]),
            "validation_accuracy": tested["validation_accuracy"] if tested else accuracy(*validation),
            **({"epoch": tested["epoch"]} if tested and recipe.chooses_epoch else {}),
            "seconds": log[-1]["seconds"] if log else 0.0,
            "metrics": metrics_of(arrays),
            "remarks": remarks,
            "sha256": {WEIGHTS: sha256_of(folder / WEIGHTS)},
        },
    )


@contextmanager
def _accelerator(
    device: str, mixed_precision: str, accumulate: int, tracker: str | None, folder: Path
) -> Iterator[Accelerator]:
    """Open an accelerator and restore the caller's own afterwards: Accelerate keeps one state per process."""
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate}.")
    gpu = torch.cuda.is_available() and device != "cpu"
    if device == "cuda" and not gpu:
        raise ValueError("device must be one that torch can use, got 'cuda', and torch sees no GPU: say 'cpu'.")
    if mixed_precision == "fp16" and not gpu:
        raise ValueError("mixed_precision must be 'no' or 'bf16' on a CPU, got 'fp16', which needs a GPU.")
    if tracker is not None and (tracker not in TRACKERS or find_spec(tracker) is None):
        raise ValueError(
            f"tracker must be one of {', '.join(TRACKERS)} and installed, got {tracker!r}: "
            f"try pip install 'oodles[{tracker if tracker in TRACKERS else TRACKERS[0]}]'."
        )
    shared = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    ours = not dist.is_initialized()
    for state in shared:
        state.clear()
    try:
        accelerator = Accelerator(
            cpu=not gpu,
            mixed_precision=mixed_precision,
            gradient_accumulation_plugin=GradientAccumulationPlugin(accumulate, sync_with_dataloader=False),
            log_with=tracker,
            project_dir=str(folder),
            # the first process tests alone in the end, which may take longer than others usually wait
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))],
        )
        if ours and dist.is_initialized():
            atexit.register(_leave_process_group)  # not earlier: a second group in one process may hang
        accelerator.init_trackers("oodles")
        yield accelerator
        for running in accelerator.trackers:
            running.finish()
    finally:
        for state, content in zip(shared, before, strict=True):
            state.clear()
            state.update(content)


def _leave_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave the caller's global random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _progress_bar(recipe: Recipe, total: int, *, shown: bool) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Open a function that shows the position and every term's mean on standard error, where that is a terminal."""
    if not (shown and sys.stderr.isatty()):
        yield lambda position, means: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[terms]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{recipe.label}, seed {recipe.seed}", total=total, terms="")

        def show(position: int, means: Mapping[str, float]) -> None:
            terms = "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())
            bar.update(task, completed=position, terms=f"epoch {1 + (position - 1) * recipe.epochs // total}  {terms}")

        yield show
