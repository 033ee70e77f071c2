"""Writes the generated blocks of README.md from the methods' facts and from recorded runs: python docs/readme.py

With --check it writes nothing and fails where a block is out of date.
"""

import json
import re
import sys
from pathlib import Path

from oodles.cards import markdown_table
from oodles.comparison import own_score
from oodles.figures import Figure, Seeds

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

DIGITS = """
`make demo`, in per cent: mean ± standard deviation over {seeds} seeds. Below it the difference to plain cross-entropy
under the same score, paired by seed, and on how many seeds the method is better; ▲ and ▼ mark differences whose 95 %
interval (Student's t) leaves out zero, with no correction for looking at many. The photograph is of the same kind as
the auxiliary outliers. {train} training and {test} test images at seed 0, {epochs} epochs; {tuned} are fine-tuned from
cross-entropy for {more} more. {diverged} diverged. torch {torch}, {device}.

Images so few and so small show that the machinery works; they say little about larger ones. How hard the suite is (its
share of training rows) was set so that plain cross-entropy leaves headroom on near-OOD, over seeds that include these.
Training settings were chosen on its validation accuracy, the network's width on cost and headroom too, and the schedule
of the fine-tunes by judgement."""


def recorded(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def speed() -> str:
    """The ratios of one recorded run each."""
    steps, imports, mixers = recorded("steps.json"), recorded("import_time.json"), recorded("mixers.json")
    lines = ["| method | a step, over a plain step with as many rows |", "|---|---|"]
    lines += [f"| `{name}` | {row['ratio']:.2f} |" for name, row in steps["steps"].items()]
    terms = [f"{name} {row['ratio']:.1f}" for name, row in steps["terms"].items() if name != "F.cross_entropy"]
    lines += ["", f"Loss terms, forward and backward, over `F.cross_entropy` on the same rows: {', '.join(terms)}", ""]
    lines[-2] += " (with its cross-entropy)."
    for kind, name in (("mixup", "Mixup"), ("cutmix", "CutMix")):
        ours = mixers[kind]["oodles per sample"]["ratio"]
        others = [f"{peer} {row['ratio']:.2f}" for peer, row in mixers[kind].items() if not peer.startswith("oodles")]
        lines.append(
            f"{name} of 256 × 3 × 32 × 32, over ours per batch: ours per sample {ours:.2f}, {', '.join(others)}."
        )
    added = (
        f"`import oodles` adds {imports['import_ms']:.0f} ms to torch's; the methods, {imports['methods_ms']:.0f} ms."
    )
    lines += ["", added]
    about = f"torch {steps['torch']} (mixers: {mixers['torch']}), {steps['device']}, one thread; medians of one run."
    return "\n".join([*lines, "", about])


def digits() -> str:
    """Accuracy and AUROC of the recorded runs, with the paired difference to cross-entropy under the same score."""
    rows = [json.loads(line) for line in (RESULTS / "digits.jsonl").read_text(encoding="utf-8").splitlines()]
    finished = [row for row in rows if row["status"] == "finished"]
    sets = list(finished[0]["metrics"])
    columns = [(None, "accuracy"), *((name, "auroc") for name in sets)]
    columns += [(sets[0], "fpr95_id_positive"), (sets[0], "fpr95_ood_positive")]
    names = {"auroc": "AUROC", "fpr95_id_positive": "FPR95 ID-positive", "fpr95_ood_positive": "FPR95 OOD-positive"}
    heads = [names[metric] + f", {name}" if name else metric for name, metric in columns]

    def seeds(label: str, score: str, ood_set: str | None, metric: str) -> Seeds:
        return Seeds(
            {
                row["seed"]: row["metrics"][ood_set][score][metric] if ood_set else row["accuracy"]
                for row in finished
                if row["label"] == label
            }
        )

    table = [f"| method | score | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    labels = list(dict.fromkeys(row["label"] for row in finished))
    by_score = sorted((own_score([label]), label != "cross-entropy", label) for label in labels)
    for score in dict.fromkeys(score for score, _, _ in by_score):
        for label in ["cross-entropy", *(name for own, other, name in by_score if other and own == score)]:
            cells = []
            for ood_set, metric in columns:
                value = seeds(label, score, ood_set, metric)
                plain = seeds("cross-entropy", score, ood_set, metric)
                difference = None if label == "cross-entropy" else value.minus(plain)
                figure = Figure(label, score, ood_set, metric, value, plain, score, difference)
                cells.append(f"{value}<br>{figure.against_plain}" if difference else str(value))
            table.append(f"| {label} | {score} | {' | '.join(cells)} |")
    tuned = [row for row in finished if row["initial_weights"] != "random"]
    about = DIGITS.format(
        seeds=len({row["seed"] for row in finished}),
        train=finished[0]["sizes"]["train"],
        test=finished[0]["sizes"]["test"],
        epochs=finished[0]["recipe"]["epochs"],
        tuned=" and ".join(sorted({row["label"] for row in tuned})),
        more=tuned[0]["recipe"]["epochs"],
        diverged=f"{len(rows) - len(finished)} of {len(rows)} runs",
        torch=finished[0]["environment"]["torch"],
        device=finished[0]["environment"]["device"],
    )
    return "\n".join([*table, about])


BLOCKS = {"methods": markdown_table, "digits": digits, "speed": speed}


def written(text: str) -> str:
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        block = f"{start}\n{make()}\n{end}"
        text, found = re.subn(
            f"{re.escape(start)}.*?{re.escape(end)}", lambda _, block=block: block, text, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"README.md must hold one block {name!r}, got {found}.")
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    now = readme.read_text(encoding="utf-8")
    if (new := written(now)) != now:
        if "--check" in sys.argv:
            raise SystemExit("README.md is out of date: run python docs/readme.py")
        readme.write_text(new, encoding="utf-8")
