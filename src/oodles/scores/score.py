"""What an outlier score is: one number per row, from features and logits, and what it has learnt of training rows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from oodles.checks import shapes_checked
from oodles.classifier import Classifier, Inputs, frozen
from oodles.heads import affine_map
from oodles.precision import at_least_float32
from oodles.spelling import shown

ROWS = 1024
"""So many training rows go through a further head at once."""


class _Name:
    """The name of a score: a class's own, and an object's with the settings that are not the default."""

    def __init__(self, plain: str):
        self.plain = plain

    def __get__(self, score: "Score | None", cls: "type[Score]") -> str:
        if score is None:
            return self.plain
        settings = [(name, getattr(score, name, default), default) for name, default in settings_of(cls).items()]
        shown = [f"{name}={_shown(value)}" for name, value, default in settings if value != default]
        return f"{self.plain}({', '.join(shown)})" if shown else self.plain


def settings_of(cls: "type[Score]") -> dict[str, Any]:
    """Return the settings of a score's class, with their defaults."""
    return {name: setting.default for name, setting in signature(cls).parameters.items()}


def _shown(value: object) -> str:
    """Write a setting so that it is read back as the same value."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


class Score(ABC):
    """An outlier score of rows, from their features and logits.

    Arguments of ``__init__`` are kept as attributes of the same name. A score that compares with training rows sets
    ``needs_fit`` and ``learns`` and overrides :meth:`fit`; one that looks at further heads, or at other inputs than the
    given ones, overrides :meth:`of` and :meth:`check`.
    """

    name: str
    """The key of its results. An object's name shows the settings that are not the default: ``knn(k=5)``."""
    needs_fit: ClassVar[bool] = False
    """True where it has to see training rows first."""
    learns: ClassVar[tuple[str, ...]] = ()
    """The attributes that :meth:`fit` sets, tensors and numbers: with them it is as good as fitted."""
    needs_features: ClassVar[bool] = False
    """True where it reads features, which a model that gives logits alone does not have."""
    needs_vectors: ClassVar[bool] = False
    """True where features have to be vectors, (N, F)."""
    needs_affine_head: ClassVar[bool] = False
    """True where it reads W and b of a last layer that gives W·h + b."""
    needs_heads: tuple[str, ...] = ()
    """Further heads of the classifier whose outputs it reads; where a setting names one, an object's own."""
    differentiates: ClassVar[bool] = False
    """True where it needs a gradient in the inputs, which an exported classifier cannot give."""
    fitted: bool = False
    """True once it has seen training rows."""

    def __init_subclass__(cls) -> None:
        if isinstance(plain := vars(cls).get("name"), str):
            cls.name = _Name(plain)  # type: ignore[assignment]  # read as a string from classes and objects
        for hook in ("fit", "__call__"):  # as they are annotated below, whatever a score's own annotations say
            if hook in vars(cls):
                setattr(cls, hook, shapes_checked(vars(cls)[hook], as_in=getattr(cls.__base__, hook)))

    @property
    def summary(self) -> str:
        """Return what it is in a sentence, the first of its class's docstring; empty without one."""
        return " ".join((type(self).__doc__ or "").partition("\n\n")[0].split())

    @property
    def remark(self) -> str:
        """Say what it has chosen when it was fitted, for the results; empty where there is nothing to say."""
        return ""

    def check(self, classifier: nn.Module) -> None:
        """Refuse a classifier whose rows this score cannot score."""
        reads_features = self.needs_features or self.needs_vectors or self.needs_affine_head or self.needs_heads
        if reads_features and not isinstance(classifier, Classifier):
            raise ValueError(
                f"{self.name} needs features and {type(classifier).__name__} gives logits alone: "
                "make a classifier with Classifier.split(model, 'name.of.last.layer', example=inputs)."
            )
        if self.needs_affine_head and isinstance(classifier, Classifier):
            affine_map(classifier, self.name)
        for head in self.needs_heads:
            if isinstance(classifier, Classifier) and head not in classifier.heads:
                raise ValueError(
                    f"{self.name} looks at a head {head!r} that this classifier lacks: "
                    "train it with a method that adds this head."
                )

    def fit(
        self,
        features: Float[Tensor, "n *features"],
        logits: Float[Tensor, "n c *space"],
        labels: Shaped[Tensor, " n *labels"] | None,
    ) -> Self:
        """Learn from training rows: features (N, F), logits (N, C) and class ids (N,); return the score itself."""
        return self

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        """Learn from a classifier and its training rows, whose features and logits are there already."""
        return self.fit(features, logits, labels)

    def state(self) -> dict[str, Tensor]:
        """Return what it has learnt, as tensors by name.

        Raises:
            ValueError: where it has seen no training rows.
        """
        self._check_fitted()
        values = {name: getattr(self, name) for name in self.learns}
        return {
            name: value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
            for name, value in values.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Take over what another score of the same settings has learnt; return the score itself.

        Raises:
            ValueError: for the state of another score.
        """
        if set(state) != set(self.learns):
            there = ", ".join(sorted(state)) or "nothing"
            raise ValueError(f"{self.name} learns {', '.join(self.learns) or 'nothing'}, got {there}: fit it again.")
        for name, value in state.items():
            setattr(self, name, value if value.ndim else value.item())
        return self._learnt()

    def _learnt(self) -> Self:
        """Be ready to score, with all attributes that ``learns`` names: the end of :meth:`fit`."""
        self.fitted = True
        return self

    @abstractmethod
    def __call__(self, features: Float[Tensor, "n *features"], logits: Float[Tensor, "n c *space"]) -> Tensor:
        """Return one number per row, (N,), or per pixel, (N, H, W); higher is more out-of-distribution."""

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        """Score a batch of inputs, whose features and logits are there already."""
        return self(features, logits)

    def _check_fitted(self) -> None:
        """Refuse to score before training rows have been seen."""
        if self.needs_fit and not self.fitted:
            raise ValueError(f"{self.name} compares with training rows but has seen none: call fit(…) first.")


class HeadScore(Score):
    """An outlier score of logits and of the outputs of the classifier's further heads, see ``needs_heads``."""

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        return self(features, logits, *(_outputs(classifier, head, features) for head in self.needs_heads))

    @abstractmethod
    def __call__(
        self,
        features: Float[Tensor, "n *features"],
        logits: Float[Tensor, "n c *space"],
        *heads: Float[Tensor, "n _ *space"],
    ) -> Tensor:
        """Return one number per row, higher is more out-of-distribution, from outputs (N, K) of each head too."""


class ComparingScore(Score):
    """An outlier score that compares features with those of training rows, or what a further head makes of them.

    Args:
        head: the further head whose outputs are compared in place of the features.
    """

    needs_fit = True
    needs_vectors = True

    def __init__(self, head: str = ""):
        if not isinstance(head, str):
            raise TypeError(f"head must be the name of a further head of the classifier, got {shown(head)}.")
        self.head = head
        self.needs_heads = (head,) if head else ()

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        self.check(classifier)
        if self.head and isinstance(classifier, Classifier):
            with frozen(classifier), torch.no_grad():
                pieces = [_outputs(classifier, self.head, piece) for piece in torch.split(features, ROWS)]
            features = torch.cat(pieces)
        return self.fit(features, logits, labels)

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        return self(_outputs(classifier, self.head, features) if self.head else features, logits)


class ScoreOfLastLayer(Score):
    """An outlier score that reads the classifier's last layer when it sees training rows: by ``fit_of`` alone."""

    needs_fit = True
    needs_vectors = True

    def fit(
        self,
        features: Float[Tensor, "n *features"],
        logits: Float[Tensor, "n c *space"],
        labels: Shaped[Tensor, " n *labels"] | None,
    ) -> Self:
        raise ValueError(f"{self.name} reads the classifier's head: call fit_of(classifier, features, logits, labels).")

    @abstractmethod
    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        """Learn from a classifier and its training rows, whose features and logits are there already."""


def _outputs(classifier: Classifier, head: str, features: Tensor) -> Tensor:
    """Return the outputs of a further head, in float32 at least."""
    return at_least_float32(classifier.heads[head](features.to(next(classifier.parameters()).dtype)))


def check_features(features: Tensor, fitted: int | None = None) -> None:
    """Refuse features that are no vectors, or of another width than those of the training rows."""
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(
            f"features must have shape (N, F), got {tuple(features.shape)}: "
            "make the classifier with Classifier.split(model, …) at a last layer that reads vectors."
        )
    if fitted is not None and features.shape[1] != fitted:
        raise ValueError(f"features must be {fitted} for each row, as of the training rows, got {features.shape[1]}.")


def check_training_rows(**values: Tensor) -> None:
    """Refuse features or logits of training rows that are empty or not finite."""
    for name, rows in values.items():
        if not len(rows):
            raise ValueError(f"{name} of training rows must have at least one row, got none.")
        blocks = torch.split(rows, max(1, 2**22 // max(1, rows[0].numel())))
        if not all(bool(block.isfinite().all()) for block in blocks):
            raise ValueError(f"{name} of training rows must be finite, got NaN or inf: did training diverge?")


def class_ids(score: str, rows: Tensor, labels: Tensor | None) -> Tensor:
    """Return the class ids of training rows, on their device; refuse what is none.

    Raises:
        ValueError: for no labels, others than class ids, and others than one per row.
    """
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        got = "none" if labels is None else f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"{score} needs the class ids (N,) of training rows, got {got}.")
    return labels.to(rows.device)
