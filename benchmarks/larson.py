"""Decide in-scope and out-of-scope as Larson et al. (EMNLP 2019) do: python benchmarks/larson.py FOLDER

FOLDER is that of `oodles benchmark clinc150`. The threshold of a score is the one under which most validation rows are
decided rightly, those out of scope included; the figures of test rows go to results/clinc150-larson.json. Scores
that a run has not been tested with have none.
"""

import json
import sys
from pathlib import Path

from timing import RESULTS

from oodles.comparing.comparison import compare
from oodles.metrics import Decided, best_threshold, decided
from oodles.runs.opened import Run, open_run

OUT_OF_SCOPE = ("validation-outliers", "far:out-of-scope")
"""Sets of queries that have none of the intents: of validation, and of testing."""


def figures(run: Run) -> dict[str, Decided]:
    """Return the figures of test rows by score."""
    scores, (chosen_on, tested) = run.scores, OUT_OF_SCOPE
    right = {name: scores[f"{name}/predictions"] == scores[f"{name}/labels"] for name in ("validation", "test")}
    names = [key.removeprefix(f"{tested}/") for key in scores if key.startswith(f"{tested}/")]
    found = {}
    for name in names:
        if name != "predictions":
            validation, unknown = scores[f"validation/{name}"], scores[f"{chosen_on}/{name}"]
            threshold = best_threshold(validation, right["validation"], unknown)
            found[name] = decided(threshold, scores[f"test/{name}"], right["test"], scores[f"{tested}/{name}"])
    return found


def main(folder: Path) -> None:
    rows = []
    for group in compare([folder]).tables[0].groups:
        for result in group.finished:
            if result.folder is None:
                sys.exit(f"{folder} must hold the runs themselves, but has none of {group.label}.")
            for score, (accuracy, recall) in figures(open_run(result.folder)).items():
                row = {"label": group.label, "seed": result.seed, "score": score, "own": score == group.own_score}
                rows.append({**row, "accuracy": accuracy, "recall": recall})
    lines = ",\n".join(json.dumps(row) for row in rows)
    (RESULTS / "clinc150-larson.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
