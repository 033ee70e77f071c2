"""Outlier scores for any classifier: the higher, the more out-of-distribution.

Some are functions of the logits; some compare features with those of training rows and are fitted first. Those that
look at what a method has left in the classifier are in the method's file. Each has a :class:`Score` class, so that
evaluations treat all alike; ``SCORES`` holds these by name, ``oodles.methods.METHOD_SCORES`` the others.
"""

from abc import ABC, abstractmethod
from inspect import signature
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Integer
from torch import Tensor, nn

from oodles.checks import check_choice, check_number, check_share, check_whole, shapes_checked
from oodles.classifier import Classifier, Inputs
from oodles.precision import at_least_float32


@shapes_checked
def msp(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return 1 − the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017), in [0, 1).

    Computed as the sum of the other probabilities: 1 − p would round confident rows to zero.
    """
    _, weights = _below_the_top(logits)
    others = weights.sum(1)
    return others / (1 + others)


@shapes_checked
def max_logit(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return the negative maximum logit (Hendrycks et al., ICML 2022)."""
    return -at_least_float32(logits).amax(1)


@shapes_checked
def energy(logits: Float[Tensor, "n c *space"], temperature: float = 1.0) -> Float[Tensor, "n *space"]:
    """Return the energy −T · logsumexp(z / T) (Liu et al., NeurIPS 2020, equation 4)."""
    check_number("temperature", temperature, above=0)
    logits = at_least_float32(logits)
    return -logits.logsumexp(1) if temperature == 1 else -float(temperature) * (logits / temperature).logsumexp(1)


@shapes_checked
def entropy(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return the entropy of the softmax, in nats.

    With d = z − max z it is log Σ exp(d) − Σ p·d; the top class is left out of both sums, so that nothing cancels.
    """
    below, weights = _below_the_top(logits)
    others = weights.sum(1)
    return others.log1p() - (weights * below).sum(1) / (1 + others)


def _below_the_top(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return d = z − max z, and exp(d) with a zero in the top class's place."""
    logits = at_least_float32(logits)
    top, index = logits.max(1, keepdim=True)
    below = (logits - top).clamp(min=torch.finfo(torch.float32).min)  # a class at −inf: 0 · d has to be 0
    return below, below.exp().scatter(1, index, 0.0)


class Score(ABC):
    """An outlier score of rows, from their features and logits.

    A score that compares with training rows sets ``needs_fit`` and overrides :meth:`fit`; one that looks at further
    heads, or at other inputs than the given ones, overrides :meth:`of` and :meth:`check`.
    """

    name: str
    """The key of its results; one with settings adds those that are not the default, see :meth:`show_settings`."""
    needs_fit: ClassVar[bool] = False
    """True where it has to see training rows first."""
    needs_features: ClassVar[bool] = False
    """True where it reads features, which a model that gives logits alone does not have."""
    needs_vectors: ClassVar[bool] = False
    """True where features have to be vectors, (N, F)."""
    needs_heads: ClassVar[tuple[str, ...]] = ()
    """Further heads of the classifier whose outputs it reads."""
    differentiates: ClassVar[bool] = False
    """True where it needs a gradient in the inputs, which an exported classifier cannot give."""
    fitted: bool = False
    """True once it has seen training rows."""

    def show_settings(self) -> None:
        """Add to the name the settings that differ from their defaults: call it at the end of ``__init__``.

        Settings are arguments of ``__init__`` that are kept as attributes of the same name.
        """
        shown = []
        for name, setting in signature(type(self)).parameters.items():
            value = getattr(self, name, setting.default)
            if value != setting.default:
                shown.append(f"{name}={value:g}" if isinstance(setting.default, float) else f"{name}={value}")
        if shown:
            self.name = f"{self.name}({', '.join(shown)})"

    def check(self, classifier: nn.Module) -> None:
        """Refuse a classifier whose rows this score cannot score."""
        reads_features = self.needs_fit or self.needs_features or self.needs_vectors or self.needs_heads
        if reads_features and not isinstance(classifier, Classifier):
            raise ValueError(
                f"{self.name} needs features and {type(classifier).__name__} gives logits alone: "
                "make a classifier with Classifier.split(model, 'name.of.last.layer', example=inputs)."
            )
        for head in self.needs_heads:
            if isinstance(classifier, Classifier) and head not in classifier.heads:
                raise ValueError(
                    f"{self.name} looks at a head {head!r} that this classifier lacks: "
                    "train it with a method that brings this score."
                )

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("fit", "__call__"):  # as they are annotated below, whatever a score's own annotations say
            if name in vars(cls):
                setattr(cls, name, shapes_checked(vars(cls)[name], as_in=getattr(cls.__base__, name)))

    def fit(
        self,
        features: Float[Tensor, "n *features"],
        logits: Float[Tensor, "n c *space"],
        labels: Integer[Tensor, " n *space"] | None,
    ) -> Self:
        """Learn from training rows: features (N, F), logits (N, C) and class ids (N,); return the score itself."""
        return self

    @abstractmethod
    def __call__(self, features: Float[Tensor, "n *features"], logits: Float[Tensor, "n c *space"]) -> Tensor:
        """Return one number per row, (N,), or per pixel, (N, H, W); higher is more out-of-distribution."""

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        """Score a batch of inputs, whose features and logits are there already."""
        return self(features, logits)

    def _check_fitted(self) -> None:
        """Refuse to score before training rows have been seen."""
        if not self.fitted:
            raise ValueError(f"{self.name} compares with training rows but has seen none: call fit(…) first.")


class HeadScore(Score):
    """An outlier score of logits and of the outputs of the classifier's further heads, see ``needs_heads``."""

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        read = features.to(next(classifier.parameters()).dtype)
        return self(features, logits, *(at_least_float32(classifier.heads[head](read)) for head in self.needs_heads))

    @abstractmethod
    def __call__(
        self,
        features: Float[Tensor, "n *features"],
        logits: Float[Tensor, "n c *space"],
        *heads: Float[Tensor, "n _ *space"],
    ) -> Tensor:
        """Return one number per row, higher is more out-of-distribution, from outputs (N, K) of each head too."""


class Msp(Score):
    """:func:`msp`."""

    name = "msp"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return msp(logits)


class MaxLogit(Score):
    """:func:`max_logit`."""

    name = "max-logit"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return max_logit(logits)


class Energy(Score):
    """:func:`energy` at a temperature above 0."""

    name = "energy"

    def __init__(self, temperature: float = 1.0):
        check_number("temperature", temperature, above=0)
        self.temperature = temperature
        self.show_settings()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return energy(logits, self.temperature)


class Entropy(Score):
    """:func:`entropy`."""

    name = "entropy"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return entropy(logits)


class FeatureNorm(Score):
    """−‖relu(h)‖₂, since features of unknown rows are short (Yu et al., CVPR 2023, here of the last features)."""

    name = "feature-norm"
    needs_vectors = True

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        _check_features(features)
        length: Tensor = torch.linalg.vector_norm(at_least_float32(features).relu(), dim=1)
        return -length


def largest(features: Float[Tensor, "n f"], percentile: float) -> tuple[Bool[Tensor, "n f"], Float[Tensor, "n 1"]]:
    """Find the features of each row but for the smallest, a share ``percentile``; return where they are and r.

    r = Σ|h| / Σ|these h|. The papers take features of at least 0. With others "small" means small in magnitude, and
    signs stay, so that r is in [1, F / number kept], or 0 for a row of zeros. It is 50 at most: e^r has to be finite.
    """
    sizes = features.abs()
    count = features.shape[1]
    top = sizes.topk(max(1, count - round(count * percentile)), dim=1)
    kept = torch.zeros_like(features, dtype=torch.bool).scatter(1, top.indices, True)
    total = top.values.sum(1, keepdim=True)
    ratio = sizes.sum(1, keepdim=True) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return kept, ratio.clamp(max=50.0)


class ShapedScore(Score):
    """The energy of the logits that the classifier's head gives for changed features."""

    needs_vectors = True

    @abstractmethod
    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Return the features that the head reads instead."""

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        raise ValueError(
            f"{self.name} reads the classifier's head, and features and logits are not enough: "
            "call of(classifier, inputs, features, logits)."
        )

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        _check_features(features)
        shaped = self.shaped(at_least_float32(features))
        return energy(classifier.head(shaped.to(next(classifier.parameters()).dtype)))


class Scale(ShapedScore):
    """The energy after all features of a row are multiplied by e^r, r = Σ h / Σ (the largest h).

    See :func:`largest` for features below 0.
    Source: SCALE, Xu et al., ICLR 2024; 0.85 is what the authors' configuration says.

    Args:
        percentile: the share of features, the smallest ones, that the second sum leaves out, in [0, 1).
    """

    name = "scale"

    def __init__(self, percentile: float = 0.85):
        check_share("percentile", percentile)
        self.percentile = percentile
        self.show_settings()

    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        _, ratio = largest(features, self.percentile)
        return features * ratio.exp()


class Ash(ShapedScore):
    """The energy after the smallest features of each row are set to zero, and the others made larger.

    See :func:`largest` for features below 0.
    Source: ASH, Djurisic et al., ICLR 2023; S at 0.9 is what the authors use with ResNet-50 on ImageNet, on CIFAR S at
    0.95.

    Args:
        form: ``S`` multiplies what is left by e^r, r = Σ h / Σ (what is left); ``B`` sets it to one value, so that the
            sum stays; ``P`` leaves it as it is.
        percentile: the share of features that is set to zero, in [0, 1).
    """

    name = "ash"

    def __init__(self, form: str = "S", percentile: float = 0.9):
        check_choice("form", form, ("S", "B", "P"))
        check_share("percentile", percentile)
        self.form = form
        self.percentile = percentile
        self.show_settings()

    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        kept, ratio = largest(features, self.percentile)
        if self.form == "B":
            even = features.abs().sum(1, keepdim=True) / kept.sum(1, keepdim=True)
            features = torch.where(features < 0, -even, even)
        left = features * kept
        return left * ratio.exp() if self.form == "S" else left


class NearestNeighbours(Score):
    """Distance to the k-th nearest training row, of features scaled to unit length (Sun et al., ICML 2022).

    Args:
        k: the neighbour's number; the farthest row where there are fewer than k.
    """

    name = "knn"
    needs_fit = True
    needs_vectors = True

    def __init__(self, k: int = 50):
        check_whole("k", k, low=1)
        self.k = k
        self.show_settings()

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        _check_training_features(features)
        features = at_least_float32(features)
        self._rows = F.normalize(features.double())
        self._opposite = -self._rows.T.to(features.dtype)
        self._halves = self._rows.square().sum(1).to(features.dtype) / 2  # 1/2, and 0 for a row of zeros
        self.fitted = True
        return self

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        _check_features(features, self._rows.shape[1])
        features = features.to(self._rows.device)  # it may have been fitted elsewhere
        distances = 2**26 if features.is_cuda else 2**22  # at once: what fits a cache, or keeps a GPU busy
        k, rows_at_once = min(self.k, len(self._rows)), max(1, distances // len(self._rows))
        if torch.compiler.is_compiling():  # a graph is for any number of rows
            return self._distance(features, k)
        return torch.cat([self._distance(chunk, k) for chunk in torch.split(features, rows_at_once)])

    def _distance(self, features: Tensor, k: int) -> Tensor:
        """Find the k-th neighbour in the features' own precision, and return its distance as float64 gives it.

        In float64 close neighbours do not cancel; rounded back, equal distances to different neighbours are ties.
        """
        queries = F.normalize(features.double())
        # |q − r|² / 2 but for |q|² / 2, which changes no order
        gaps = torch.addmm(self._halves, queries.to(self._opposite.dtype), self._opposite)
        smallest = gaps.topk(k, largest=False, sorted=False)  # on a CPU several times faster than kthvalue
        nearest = smallest.indices.gather(1, smallest.values.argmax(1, keepdim=True)).flatten()
        distances: Tensor = torch.linalg.vector_norm(queries - self._rows[nearest], dim=1)
        return distances.to(self._opposite.dtype)


class Mahalanobis(Score):
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    In float64. Directions in which training rows do not vary are left out, as a pseudo-inverse does.
    Source: Lee et al., NeurIPS 2018, equations 1 and 2, on the last features.
    """

    name = "mahalanobis"
    needs_fit = True
    needs_vectors = True

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        _check_training_features(features)
        if labels is None or labels.ndim != 1 or labels.is_floating_point():
            got = "none" if labels is None else f"{labels.dtype} of shape {tuple(labels.shape)}"
            raise ValueError(f"{self.name} needs the class ids (N,) of training rows, got {got}.")
        rows = features.double()
        classes, ids = torch.unique(labels.to(rows.device), return_inverse=True)
        sums = rows.new_zeros(len(classes), rows.shape[1]).index_add(0, ids, rows)
        means = sums / ids.bincount().unsqueeze(1)
        self._whitening = _whitening(rows - means[ids])
        self._means = means @ self._whitening
        self.fitted = True
        return self

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        _check_features(features, len(self._whitening))
        rows = features.to(self._means.device).double()  # it may have been fitted elsewhere
        return torch.cdist(rows @ self._whitening, self._means).square().amin(1)


class RelativeMahalanobis(Score):
    """The Mahalanobis distance less that to all training rows as a single class (Ren et al., 2021)."""

    name = "relative-mahalanobis"
    needs_fit = True
    needs_vectors = True

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        self._to_classes = Mahalanobis().fit(features, logits, labels)
        one_class = torch.zeros(len(features), dtype=torch.int64)
        self._to_all = Mahalanobis().fit(features, logits, one_class)
        self.fitted = True
        return self

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        _check_features(features)
        return self._to_classes(features, logits) - self._to_all(features, logits)


SCORES: dict[str, type[Score]] = {
    "msp": Msp,
    "max-logit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "feature-norm": FeatureNorm,
    "scale": Scale,
    "ash": Ash,
    "knn": NearestNeighbours,
    "mahalanobis": Mahalanobis,
    "relative-mahalanobis": RelativeMahalanobis,
}
"""The scores by name, with their default settings."""


def _whitening(centered: Float64[Tensor, "n f"]) -> Float64[Tensor, "f r"]:
    """Return a matrix that makes the rows' covariance the identity, and their squared lengths the distances."""
    varying = centered.square().sum(0) > 0  # with many constant features the eigenvalues may not be found
    rows = centered[:, varying]
    variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    kept = variances > torch.finfo(torch.float32).eps * variances.amax() if len(variances) else variances > 0
    whitening = centered.new_zeros(centered.shape[1], int(kept.sum()))
    whitening[varying] = directions[:, kept] / variances[kept].sqrt()
    return whitening


def _check_features(features: Tensor, fitted: int | None = None) -> None:
    if fitted is not None and features.shape[1:] != (fitted,) and features.ndim == 2 and features.shape[1]:
        raise ValueError(f"features must be {fitted} for each row, as of the training rows, got {features.shape[1]}.")
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(
            f"features must have shape (N, F), got {tuple(features.shape)}: "
            "make the classifier with Classifier.split(model, …) at a last layer that reads vectors."
        )


def _check_training_features(features: Tensor) -> None:
    _check_features(features)
    if not len(features):
        raise ValueError("features of training rows must have at least one row, got none.")
    if not bool(features.isfinite().all()):
        raise ValueError("features of training rows must be finite, got NaN or inf: did training diverge?")
