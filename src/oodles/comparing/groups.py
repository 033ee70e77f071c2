"""The runs of one recipe, and plain cross-entropy beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from oodles.comparing.figures import Seeds
from oodles.comparing.results import CHOSEN, Result
from oodles.runs.recipe import are_plain

SHARED_SCORES = ("msp", "energy", "knn")
"""Where plain training cannot give a method's own score, both are shown under these."""


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one recipe, one per seed."""

    label: str
    runs: tuple[Result, ...]
    own_score: str
    plain: "Group | None" = None
    """The plain cross-entropy runs to compare with, if any; a plain group has none."""

    @property
    def is_plain(self) -> bool:
        return are_plain(self.runs[0].methods)

    @cached_property
    def finished(self) -> tuple[Result, ...]:
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def seeds(self) -> str:
        """Say how many seeds stand behind the figures, and how many diverged."""
        finished, diverged = len(self.finished), len(self.runs) - len(self.finished)
        words = [f"{finished}"] if finished else []
        if diverged:
            words.append(f"diverged ({diverged} of {len(self.runs)} seeds)")
        return ", ".join(words)

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """Return the scores that every finished run has."""
        first, *others = [run.scores for run in self.finished] or [()]
        return tuple(score for score in first if all(score in other for other in others))

    @property
    def deployed_score(self) -> str:
        """Return the score that its runs are exported with: the chosen one, or its own where none was chosen."""
        return CHOSEN if CHOSEN in self.scores else self.own_score

    @cached_property
    def versus(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of scores under which it is compared with plain cross-entropy, its own score last.

        Before come those that were chosen for both. A score that plain training cannot give is compared with the
        one that is best for plain training on validation data, and both are also compared under scores that they share.
        """
        if self.plain is None or not self.finished:
            return ((self.own_score, self.own_score),)
        shared = [s for s in (CHOSEN, *SHARED_SCORES) if s in self.scores and s in self.plain.scores]
        if self.own_score in self.plain.scores:
            return tuple(dict.fromkeys((s, s) for s in (*(s for s in shared if s == CHOSEN), self.own_score)))
        return (*((s, s) for s in shared), (self.own_score, self.plain.best_on_validation or self.own_score))

    @cached_property
    def best_on_validation(self) -> str | None:
        """Return the score with the best AUROC of validation rows against outliers; test sets have no say."""
        aurocs = {score: self.on_outliers(score) for score in self.scores if score != CHOSEN}
        means = {score: seeds.mean for score, seeds in aurocs.items() if seeds}
        return max(means, key=lambda score: means[score]) if means else None

    def on_outliers(self, score: str) -> Seeds | None:
        """Return the AUROC of validation rows against outliers per seed."""
        return self._seeds(partial(_on_validation, score=score))

    def measured(self, ood_set: str | None, score: str, metric: str) -> Seeds | None:
        """Return a metric per seed, of the finished runs that have it; accuracy belongs to no set."""
        if ood_set is None:
            return self._seeds(lambda run: run.accuracy)
        return self._seeds(lambda run: run.figures("test", ood_set, score).get(metric))

    def _seeds(self, measure: Callable[[Result], float | None]) -> Seeds | None:
        by_seed = {run.seed: value for run in self.finished if (value := measure(run)) is not None}
        return Seeds(by_seed) if by_seed else None


def _on_validation(run: Result, score: str) -> float | None:
    """Return the AUROC of validation rows against outliers."""
    aurocs = (run.figures("validation", name, score).get("auroc") for name in run.metrics.get("validation", {}))
    return next((auroc for auroc in aurocs if auroc is not None), None)
