"""Training from a recipe into a run folder: on one device or several, and resumable at any step."""

import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import file_digest
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from torch.utils.data import DataLoader

from oodles.batches import FORWARD_PASS, INITIAL_WEIGHTS, Batches, Rows
from oodles.cards import card
from oodles.classifier import Classifier
from oodles.contract import TrainingStep
from oodles.data import Suite, as_batch, load_suite
from oodles.evaluation import collect
from oodles.methods import method_class
from oodles.metrics import accuracy
from oodles.networks import build_network
from oodles.randomness import random_seed
from oodles.recipe import Recipe, recipes
from oodles.run_evaluation import score_arrays
from oodles.run_folder import (
    LOG,
    RECIPE,
    RESULT,
    RUN,
    SCORES,
    STATE,
    WEIGHTS,
    Run,
    locked,
    open_run,
    write_arrays,
    write_json,
    write_lines,
    write_text,
)
from oodles.saved_state import load_state, load_weights, save_state, save_weights


def train(
    recipe: Recipe | str | Path,
    data: str | Path | Suite = "digits",
    *,
    seed: int | None = None,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    network: str = "small-cnn",
    head: str | None = None,
    mixed_precision: Literal["no", "bf16", "fp16"] = "no",
    accumulate: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    compile: bool = False,
    workers: int = 0,
    tracker: str | None = None,
    progress: bool = True,
    save_every: float = 10.0,
) -> Run:
    """Trains a classifier, tests it once, and leaves everything in a run folder.

    The same call goes on where an earlier one was stopped, by whatever means, and ends with the same weights as if it
    had never been stopped; of a run that has ended it gives the result at once. Under ``accelerate launch`` every
    process makes the same call. A loss that is no longer finite ends the run with the status ``diverged``.

    Args:
        recipe: what to train; or the name of a recipe that comes with the package, or the path of one.
        data: a suite, the name of an embedded one, or a folder of one's own, see :func:`oodles.data.load_suite`.
        seed: in place of the recipe's.
        weights: in place of the recipe's.
        folder: the run folder; ``runs/METHODS-DATA-SEED`` unless given.
        network: see :func:`oodles.networks.build_network`.
        head: likewise.
        mixed_precision: of the forward pass; losses are computed in float32 throughout.
        accumulate: batches per step of the optimizer.
        device: ``auto`` takes a GPU where there is one.
        compile: compile the training step.
        workers: processes that load data; the result does not depend on them.
        tracker: also log to a tracker that Accelerate knows, such as ``tensorboard`` or ``wandb``.
        progress: show a progress bar, where standard error is a terminal.
        save_every: seconds between two saved states, which is what a crash can cost.

    Raises:
        ValueError: for settings, data or weights that do not fit together, and for a folder that holds another run.
        FileNotFoundError: for a recipe or weights that are not there.
    """
    recipe = _resolved(recipe, seed, weights)
    data_name = data.name if isinstance(data, Suite) else _resolved_path(str(data))
    folder = Path(folder) if folder else Path("runs", _folder_name(recipe, data_name))
    chosen = {"data": data_name, "network": network, "head": head, "mixed_precision": mixed_precision}
    chosen |= {"accumulate": accumulate, "device": device, "compile": compile}

    with _accelerator(device, mixed_precision, accumulate, tracker, folder) as accelerator:
        main = accelerator.is_main_process
        with locked(folder) if main else nullcontext(), _own_randomness():
            accelerator.wait_for_everyone()
            earlier = _earlier(folder, recipe, chosen)
            trained = (folder / WEIGHTS).is_file()
            accelerator.wait_for_everyone()
            if earlier is not None and earlier.result:
                return earlier

            suite = data if isinstance(data, Suite) else load_suite(data, recipe.seed)
            _check_needs(recipe, suite)
            initial = None
            if recipe.weights in recipes():
                first = replace(Recipe.load(recipe.weights), seed=recipe.seed)
                initial = train(
                    first,
                    data,
                    folder=folder.parent / _folder_name(first, data_name),
                    network=network,
                    head=head,
                    mixed_precision=mixed_precision,
                    accumulate=accumulate,
                    device=device,
                    compile=compile,
                    workers=workers,
                    progress=progress,
                    save_every=save_every,
                )
            elif recipe.weights is not None and (Path(recipe.weights) / RUN).is_file():
                initial = open_run(recipe.weights)
            classifier = _network(recipe, suite, initial, network, head).to(accelerator.device)
            suggested = earlier.suggested if earlier else _suggested(recipe, classifier, suite)
            methods = [method_class(name)(**settings, **{}) for name, settings in _with(recipe, suggested)]
            step = TrainingStep(classifier, *methods, seed=recipe.seed)
            batches = Batches(
                suite,
                recipe,
                outliers=_wants_outliers(recipe),
                accumulate=accumulate,
                process=accelerator.process_index,
                processes=accelerator.num_processes,
            )
            ...
    return open_run(folder)
