"""Records the demonstration, one JSON line per run: python benchmarks/digits.py FOLDER

FOLDER keeps the runs; what has finished there is not repeated.
"""

import json
import sys
from pathlib import Path

from timing import RESULTS

from oodles.demo import demo
from oodles.metrics import accuracy, ood_metrics
from oodles.run_folder import Run
from oodles.scores import SCORES


def row(run: Run) -> dict[str, object]:
    """Settings, versions and every metric of one run."""
    if run.status != "finished":
        return {"label": run.label, "seed": run.seed, "status": run.status, "reason": run.reason}
    arrays = run.scores
    metrics = {
        name: {score: ood_metrics(arrays[f"test/{score}"], arrays[f"{name}/{score}"]) for score in SCORES}
        for name in run.ood_sets
    }
    return {
        "label": run.label,
        "seed": run.seed,
        "status": run.status,
        "initial_weights": run.initial_weights,
        "suggested": run.suggested,
        "recipe": {key: value for key, value in run.recipe.as_dict().items() if key != "weights"},
        "environment": {key: value for key, value in run.record["environment"].items() if key != "started"},
        "sizes": run.record["suite"]["sizes"],
        "accuracy": accuracy(arrays["test/predictions"], arrays["test/labels"]),
        "metrics": metrics,
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    comparison = demo(Path(sys.argv[1]))
    rows = [row(run) for table in comparison.tables for group in table.groups for run in group.runs]
    RESULTS.mkdir(exist_ok=True)
    lines = "".join(json.dumps(each) + "\n" for each in rows)
    (RESULTS / "digits.jsonl").write_text(lines, encoding="utf-8")
