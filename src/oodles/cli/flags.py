"""The kinds of values that flags and words of commands take, and groups of flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from oodles.runs.recipe import Recipe


def setting(name: str, metavar: str) -> object:
    """Describe a flag that changes one setting of a recipe; its help shows the default, where None is no limit."""
    default = getattr(Recipe, name)
    shown = "all" if default is None else default
    return arg(metavar=metavar, help_behavior_hint=f"(default: {shown}, or the recipe's)")


def repeatable(name: str, metavar: str) -> object:
    """Describe a flag that may be given several times for a setting that may be a list."""
    return arg(metavar=metavar, help_behavior_hint=f"(repeatable, default: {getattr(Recipe, name) or 'none'})")


def truth(name: str) -> object:
    """Describe a flag for a setting that is on or off, which a recipe may have set either way."""
    return setting(name, "{True,False}")


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

    train_layers: Annotated[UseAppendAction[tuple[str, ...]], repeatable("train_layers", "LAYER")] = ()
    batch_norm: Annotated[Literal["training", "frozen"] | None, setting("batch_norm", "{training,frozen}")] = None
    backbone_learning_rate: Annotated[float | None, setting("backbone_learning_rate", "NUMBER")] = None
    head_learning_rate: Annotated[float | None, setting("head_learning_rate", "NUMBER")] = None
    warm_up: Annotated[float | None, setting("warm_up", "NUMBER")] = None
    decay_exempt: Annotated[Truth | None, truth("decay_exempt")] = None
    clip_gradients: Annotated[float | None, setting("clip_gradients", "NUMBER")] = None
    ema: Annotated[float | None, setting("ema", "NUMBER")] = None
    keep: Annotated[Literal["last", "best"] | None, setting("keep", "{last,best}")] = None
    patience: Annotated[int | None, setting("patience", "COUNT")] = None
    class_weights: Annotated[UseAppendAction[tuple[str, ...]], repeatable("class_weights", "WEIGHT")] = ()
    balanced_sampling: Annotated[Truth | None, truth("balanced_sampling")] = None
