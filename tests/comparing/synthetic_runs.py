"""Run folders without training: scores drawn from normal distributions, in the layout that training writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.files import write_arrays, write_json, write_lines
from oodles.runs.folder import LOG, RESULT, RUN, SCORES
from oodles.runs.recipe import Recipe

SIZES = {"validation": 60, "test": 80, "outliers": 50, "near:digits": 70, "far:letters": 90}
NAMES = ("msp", "energy", "knn")


def write_run(
    folder: Path,
    *methods: str | tuple[str, Mapping[str, Any]],
    seed: int = 0,
    better: float = 0.0,
    diverged: str = "",
    scores: Sequence[str] = NAMES,
    sizes: Mapping[str, int] = SIZES,
    data: str = "digits",
    network: str = "small-cnn",
    initial: str = "random",
    notes: Mapping[str, str] | None = None,
    arrays: Mapping[str, NDArray[Any]] | None = None,
    ended: bool = True,
    sha256: Mapping[str, str] | None = None,
    outcome: Mapping[str, Any] | None = None,
    terms: Sequence[str] = ("cross-entropy",),
    classes: Sequence[str] = tuple("012345"),
    **settings: Any,
) -> Path:
    """Write one run; ``better`` moves its OOD scores away from the others, ``arrays`` replace those of scores.npz.

    ``outcome`` is added to result.json, and ``sha256`` are the fingerprints of the sets.
    """
    given = tuple(m if isinstance(m, tuple) else (m, {}) for m in methods)
    recipe = Recipe(methods=given, seed=seed, **settings)
    folder.mkdir(parents=True, exist_ok=True)
    suite = {"classes": list(classes), "sizes": dict(sizes), "notes": dict(notes or {}), "sha256": dict(sha256 or {})}
    record = {
        "recipe": recipe.as_dict(),
        "arguments": {"data": data, "network": network, "head": None},
        "suite": suite,
        "initial": {"label": initial},
        "suggested": {},
        "command": f"oodles train {recipe.label} --seed {seed}",
    }
    write_json(folder / RUN, record)
    entries = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "learning_rate": 0.1,
            "terms": {term: float(np.exp(-epoch / 8 - place)) for place, term in enumerate(terms)},
            "validation_accuracy": 1 - 0.6 * float(np.exp(-epoch / 4)),
            "seconds": 0.1 * epoch,
        }
        for epoch in range(4 if diverged else 12)
    ]
    write_lines(folder / LOG, entries)
    if not ended:
        return folder
    result = {"status": "diverged" if diverged else "finished", "reason": diverged, **(outcome or {})}
    write_json(folder / RESULT, result)
    if not diverged:
        write_arrays(folder / SCORES, {**draw_arrays(seed, better, scores, sizes, recipe.label), **(arrays or {})})
    return folder


def runs_of(folder: Path, *methods: str, seeds: int = 3, **settings: object) -> list[Path]:
    """Write one run per method and seed; ``mixup`` is better than plain training and ``cutmix`` worse."""
    better = {"mixup": 0.5, "cutmix": -0.5}
    return [
        write_run(folder / f"{name}-{seed}", name, seed=seed, better=better.get(name, 0.0), **settings)
        for name in methods
        for seed in range(seeds)
    ]


def knn_is_best_on_validation(folder: Path, known: str = "outliers") -> list[Path]:
    """Write three seeds of two methods; for plain training, kNN is perfect on validation data and nowhere else."""
    best = {f"{known}/knn": np.full(SIZES["outliers"], 99.0), f"{known}/msp": np.zeros(SIZES["outliers"])}
    plain = [write_run(folder / f"p{seed}", "cross-entropy", seed=seed, arrays=best) for seed in range(3)]
    return [*plain, *(write_run(folder / f"m{seed}", "mixup", seed=seed, better=0.5) for seed in range(3))]


def draw_arrays(
    seed: int, better: float, scores: Sequence[str], sizes: Mapping[str, int], label: str
) -> dict[str, NDArray[Any]]:
    """Draw scores, predictions and labels of one run; the rows of a seed are equally hard for every method."""
    rows, own = np.random.default_rng(seed), np.random.default_rng([seed, *label.encode()])
    arrays: dict[str, NDArray[Any]] = {}
    for name, size in sizes.items():
        unknown = name not in ("validation", "test")
        hard = rows.normal(1.5 if unknown else 0, 1, size)
        for score in scores:
            values = hard + (better if unknown else 0) + own.normal(0, 0.2, size)
            arrays[f"{name}/{score}"] = values if score != "msp" else 1 / (1 + np.exp(-3 * (values - 2)))
        labels = rows.integers(0, 6, size)
        arrays[f"{name}/predictions"] = np.where(own.random(size) < 0.05, own.integers(0, 6, size), labels)
        if not unknown:
            arrays[f"{name}/labels"] = labels
    return arrays
