"""Outlier scores that compare features with those of training rows."""

import math
import warnings
from typing import Self

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from oodles.checks import check_flag, check_logits, check_share, check_whole
from oodles.heads import affine_map
from oodles.precision import at_least_float32
from oodles.scores.of_logits import energy
from oodles.scores.scatter import Scatter, directions_remark, in_float64, scatter_of, warn_of_rank
from oodles.scores.score import ComparingScore, Score, ScoreOfLastLayer, check_features, check_training_rows, class_ids

AT_ONCE = 2**22
"""So many numbers of stored rows are in float64 at once on a CPU, and so many distances."""
KEPT_BLOCKS = 8
"""So many blocks of stored rows stay in float64, 256 MB: what most data sets have, for one row scored at a time."""


class NearestNeighbours(ComparingScore):
    """Distance to the k-th nearest training row, of features scaled to unit length (Sun et al., ICML 2022).

    Args:
        k: the neighbour's number; the farthest row where there are fewer than k. Without a number it is chosen when
            training rows are seen: 50, but at most a twentieth of the median class, rounded up, and at most as many as
            the smallest class has, since farther neighbours are of other classes. Without labels, the predicted classes
            count.
        normalize: scale features to unit length, as the paper does.
        head: the further head whose outputs are compared in place of the features.
    """

    name = "knn"
    learns = ("rows", "k_used")
    k_used: int
    """The neighbour's number, once training rows have been seen."""

    def __init__(self, k: int | None = None, normalize: bool = True, head: str = ""):
        super().__init__(head)
        if k is not None:
            check_whole("k", k, low=1)
        self.k = k
        check_flag("normalize", normalize)
        self.normalize = normalize

    @property
    def remark(self) -> str:
        return f"k = {self.k_used}" if self.fitted and self.k is None else ""

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_features(features)
        check_training_rows(features=features)
        self.rows = at_least_float32(features)
        self.k_used = min(self.k or _neighbours(logits, labels), len(features))
        return self._learnt()

    def _learnt(self) -> Self:
        blocks = torch.split(self.rows, self._rows_at_once)
        sums = [in_float64(block, self.normalize).sum(0) for block in blocks]
        self._center = torch.stack(sums).sum(0) / len(self.rows)
        self._halves = self._center.new_empty(len(self.rows))
        kept = min(len(self.rows), KEPT_BLOCKS * self._rows_at_once)
        self._kept = self._center.new_empty(kept, self.rows.shape[1])
        for number, block in enumerate(blocks):
            first = number * self._rows_at_once
            rows = self._centred(block)
            self._halves[first : first + len(rows)] = rows.square().sum(1) / 2
            if number < KEPT_BLOCKS:
                self._kept[first : first + len(rows)] = rows
        return super()._learnt()

    @property
    def _at_once(self) -> int:
        """Return how many numbers are in float64 at once: what fits a cache, or keeps a GPU busy."""
        return 16 * AT_ONCE if self.rows.is_cuda else AT_ONCE

    @property
    def _rows_at_once(self) -> int:
        return max(1, self._at_once // self.rows.shape[1])

    def _centred(self, features: Tensor) -> Float64[Tensor, "n f"]:
        """Return features from the center of the training rows, or those of nearly one direction would cancel."""
        return in_float64(features, self.normalize) - self._center

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, self.rows.shape[1])
        queries = self._centred(features.to(self.rows.device))  # it may have been fitted elsewhere
        chunks = [queries]
        if not torch.compiler.is_compiling():  # a graph is for any number of rows
            chunks = list(torch.split(queries, max(1, self._at_once // min(self._rows_at_once, len(self.rows)))))
        nearest = [(chunk[:, :0], torch.empty_like(chunk[:, :0], dtype=torch.int64)) for chunk in chunks]
        for first in range(0, len(self.rows), self._rows_at_once):
            block = self._block(first)
            nearest = [self._nearer(chunk, *found, block, first) for chunk, found in zip(chunks, nearest, strict=True)]
        distances = [self._distance(chunk, *found) for chunk, found in zip(chunks, nearest, strict=True)]
        return torch.cat(distances).to(at_least_float32(features).dtype)

    def _block(self, first: int) -> Float64[Tensor, "n f"]:
        """Return the stored rows from ``first`` on, as many as are compared at once."""
        rows = slice(first, first + self._rows_at_once)
        return self._kept[rows] if first < len(self._kept) else self._centred(self.rows[rows])

    def _nearer(self, queries: Tensor, gaps: Tensor, places: Tensor, rows: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return the k nearest of the rows found so far and of a block, in no order: |q − r|² / 2, and their numbers.

        The half squares lack |q|² / 2, which changes no order.
        """
        halves = self._halves[first : first + len(rows)]
        own, numbers = _smallest(torch.addmm(halves, queries, rows.T, alpha=-1), self.k_used)
        gaps, best = _smallest(torch.cat([gaps, own], 1), self.k_used)
        return gaps, torch.cat([places, numbers + first], 1).gather(1, best)

    def _distance(self, queries: Tensor, gaps: Tensor, places: Tensor) -> Tensor:
        """Return the distance of the farthest of the k nearest rows, by differences: equal ones are ties then."""
        farthest = places.gather(1, gaps.argmax(1, keepdim=True)).flatten()
        all_kept = len(self._kept) == len(self.rows)  # then a graph need not hold the rows twice
        rows = self._kept[farthest] if all_kept else self._centred(self.rows[farthest])
        distances: Tensor = torch.linalg.vector_norm(queries - rows, dim=1)
        return distances


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return so many of the smallest values of each row, or all, and where they are, in no order."""
    least = values.topk(min(count, values.shape[1]), largest=False, sorted=False)  # faster than kthvalue on a CPU
    return least.values, least.indices


def _neighbours(logits: Tensor, labels: Tensor | None) -> int:
    """Choose k for classes of these sizes."""
    ids = labels
    if labels is None or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        ids = logits.argmax(1)
    sizes = torch.unique(ids, return_counts=True)[1].double()
    median = float(sizes.quantile(0.5))
    return min(50, math.ceil(median / 20), int(sizes.min()))


class CovarianceScore(ComparingScore):
    """A score that measures features in the directions in which training rows vary within their classes."""

    normalize: bool
    center: Float64[Tensor, " f"]
    whitening: Float64[Tensor, "f r"]
    means: Float64[Tensor, "c r"]
    """Of the classes, in the whitened directions."""
    varying: int
    """How many features vary at all."""

    @property
    def remark(self) -> str:
        return directions_remark(self.whitening.shape[1], self.varying) if hasattr(self, "varying") else ""

    def _scatter(self, features: Tensor, labels: Tensor | None) -> Scatter:
        """Return how training rows vary within their classes."""
        check_features(features)
        check_training_rows(features=features)
        return scatter_of(self.name, features, class_ids(self.name, features, labels), self.normalize)

    def _seen(self, scatter: Scatter) -> Self:
        """Be ready to score, and warn of directions in which no row varies."""
        self.varying = scatter.varying()
        warn_of_rank(self.name, scatter.rows, self.remark)
        return self._learnt()

    def _whitened(self, features: Tensor) -> Float64[Tensor, "n r"]:
        """Return features from the center of the training rows, in units of what these vary by."""
        self._check_fitted()
        check_features(features, len(self.center))
        rows = in_float64(features.to(self.means.device), self.normalize)  # it may have been fitted elsewhere
        return (rows - self.center) @ self.whitening


class Mahalanobis(CovarianceScore):
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    In float64. Directions in which training rows vary no more than their precision are left out, as a pseudo-inverse
    does: however small the deviations are, what counts is how exactly the features are known.
    Source: Lee et al., NeurIPS 2018, equations 1 and 2, on the last features.

    Args:
        normalize: scale features to unit length first.
        head: the further head whose outputs are compared in place of the features.

    Raises:
        ValueError: when it is fitted to no labels, or to one row of each class.
    """

    name = "mahalanobis"
    learns = ("center", "whitening", "means", "varying")

    def __init__(self, normalize: bool = False, head: str = ""):
        super().__init__(head)
        check_flag("normalize", normalize)
        self.normalize = normalize

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        scatter = self._scatter(features, labels)
        self.center = scatter.center
        self.whitening = scatter.whitening()
        self.means = (scatter.means - self.center) @ self.whitening
        return self._seen(scatter)

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return _least_square(self._whitened(features), self.means)


class RelativeMahalanobis(CovarianceScore):
    """The Mahalanobis distance less that to all training rows as a single class (Ren et al., 2021).

    Both distances are taken in the directions in which rows vary within their classes, and both covariances Σ are
    replaced by (1 − s)·Σ + s·(the mean variance)·I. The paper does neither. Without, the two distances differ most in
    the directions that are known worst: with fewer rows than features, they would span different spaces. Directions
    whose variance is far below a hundredth of the mean count little then; where these matter, take ``mahalanobis``.

    Args:
        shrinkage: s, in [0, 1); 0.01 is enough to steady the difference where there are about as many rows as features,
            and changes little where there are many.
        normalize: scale features to unit length first.
        head: the further head whose outputs are compared in place of the features.

    Raises:
        ValueError: when it is fitted to no labels, or to one row of each class.
    """

    name = "relative-mahalanobis"
    learns = ("center", "whitening", "means", "background", "varying")

    def __init__(self, shrinkage: float = 0.01, normalize: bool = False, head: str = ""):
        super().__init__(head)
        check_share("shrinkage", shrinkage)
        self.shrinkage = shrinkage
        check_flag("normalize", normalize)
        self.normalize = normalize

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        scatter = self._scatter(features, labels)
        deviations, directions = scatter.principal()
        if len(scatter.means) == 1:
            warnings.warn(f"{self.name}: of one class both distances are the same, and all scores 0.", stacklevel=2)
        scale = self._shrunk(torch.diag(deviations.square())).diagonal().sqrt()
        self.center = scatter.center
        self.whitening = directions / scale
        self.means = (scatter.means - self.center) @ self.whitening
        all_rows = scatter.of_all() @ directions
        total = self._shrunk(all_rows.T @ all_rows / scatter.rows)
        variances, axes = torch.linalg.eigh(total / scale / scale.unsqueeze(1))  # about 1: well conditioned
        self.background = axes / variances.sqrt()
        return self._seen(scatter)

    def _shrunk(self, covariance: Float64[Tensor, "r r"]) -> Float64[Tensor, "r r"]:
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        mean_variance = covariance.diagonal().sum() / max(1, len(covariance))
        return (1 - self.shrinkage) * covariance + self.shrinkage * mean_variance * identity

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        whitened = self._whitened(features)
        to_all: Tensor = (whitened @ self.background).square().sum(1)
        return _least_square(whitened, self.means) - to_all


class Cosine(ComparingScore):
    """1 − the largest cosine to the mean direction of a class: of its training rows, scaled to unit length, the mean.

    Mean directions are the prototypes of methods such as CIDER, when training has ended. A row of zeros has cosine 0.

    Args:
        head: the further head whose outputs are compared in place of the features.

    Raises:
        ValueError: when it is fitted to no labels.

    Source: the mean of unit vectors is the maximum-likelihood direction of a von Mises–Fisher distribution (Banerjee et
    al., JMLR 2005, equation 2.4).
    """

    name = "cosine"
    learns = ("directions",)

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_features(features)
        check_training_rows(features=features)
        classes, ids = torch.unique(class_ids(self.name, features, labels), return_inverse=True)
        sums = features.new_zeros(len(classes), features.shape[1], dtype=torch.float64)
        at_once = max(1, AT_ONCE // features.shape[1])
        for block, of_block in zip(torch.split(features, at_once), torch.split(ids, at_once), strict=True):
            sums.index_add_(0, of_block, in_float64(block, normalize=True))
        self.directions = in_float64(sums, normalize=True)
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, self.directions.shape[1])
        rows = in_float64(features.to(self.directions.device), normalize=True)  # it may have been fitted elsewhere
        return 1 - (rows @ self.directions.T).amax(1)


class VirtualLogit(ScoreOfLastLayer):
    """α·‖x⊥‖ − logsumexp z: a virtual logit of the part of the features that training rows have little of.

    x are the features from the origin −W⁺·b, x⊥ what is left without the D principal directions of the training rows,
    and α the mean of the largest logits over that of ‖x⊥‖, on training rows.
    Source: ViM, Wang et al., CVPR 2022, equations 5 to 9. As in the authors' code it is the logarithm of the odds of
    the virtual class, which orders rows as its probability does.

    Args:
        dim: D, below the number of directions in which training rows vary. Without a number it is the authors' choice:
            1000 where there are at least 2048 features, else 512 where there are at least 768, else half of them; and
            half of the directions in which training rows vary, where that is less.
    """

    name = "vim"
    needs_affine_head = True
    learns = ("origin", "principal", "alpha")

    def __init__(self, dim: int | None = None):
        if dim is not None:
            check_whole("dim", dim, low=1)
        self.dim = dim

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_features(features)
        check_training_rows(features=features)
        weight, bias = affine_map(classifier, self.name)
        self.origin = -torch.linalg.pinv(weight) @ bias
        one_class = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        _, directions = scatter_of(self.name, features, one_class, center=self.origin).principal()
        size, varying = directions.shape
        dim = self.dim or min(1000 if size >= 2048 else 512 if size >= 768 else size // 2, varying // 2)
        if not dim < varying:
            raise ValueError(
                f"dim of {self.name} must be below the number of directions in which training rows vary, {varying}, "
                f"got {dim}: choose fewer, or leave it out."
            )
        self.principal = directions[:, :dim]
        beside = torch.cat([self._beside(chunk) for chunk in torch.split(features, 4096)])
        self.alpha = float(logits.double().amax(1).mean() / beside.mean())
        return self._learnt()

    def _beside(self, features: Tensor) -> Tensor:
        rows = features.double() - self.origin
        length: Tensor = torch.linalg.vector_norm(rows - rows @ self.principal @ self.principal.T, dim=1)
        return length

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, len(self.origin))
        features = features.to(self.origin.device)  # it may have been fitted elsewhere
        virtual: Tensor = self.alpha * self._beside(features)
        return virtual + energy(logits.to(features.device).double())


class She(Score):
    """−h · S_k of the predicted class k, with S_k the mean of the features of its rightly classified training rows.

    Source: SHE, Zhang et al., ICLR 2023, equation 6. A class without such rows takes all its rows, and one without any
    the mean of all rows, of which the paper says nothing.
    """

    name = "she"
    needs_fit = True
    needs_vectors = True
    learns = ("patterns",)

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_features(features)
        check_logits("logits", logits)
        check_training_rows(features=features)
        ids, predicted = class_ids(self.name, features, labels), logits.argmax(1)
        patterns = features.double().mean(0).repeat(logits.shape[1], 1)
        for k in torch.unique(ids).tolist():
            own = ids == k
            right = own & (predicted == k)
            patterns[k] = features[right if bool(right.any()) else own].double().mean(0)
        self.patterns = patterns
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, self.patterns.shape[1])
        features = features.to(self.patterns.device).double()  # it may have been fitted elsewhere
        return -(features * self.patterns[logits.to(features.device).argmax(1)]).sum(1)


def _least_square(rows: Float64[Tensor, "n r"], points: Float64[Tensor, "c r"]) -> Float64[Tensor, " n"]:
    """Return the squared distance to the nearest point: found by products, and taken by differences."""
    nearest = (points.square().sum(1) / 2 - rows @ points.T).argmin(1)
    return (rows - points[nearest]).square().sum(1)
