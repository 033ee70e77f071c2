"""Write the generated blocks of README.md from the methods' facts and from recorded runs: python docs/readme.py

With --check it writes nothing and fails where a block is out of date.
"""

import json
import re
import sys
from pathlib import Path

from oodles.cards import markdown_table
from oodles.comparing.comparison import compare
from oodles.comparing.figures import METRICS, Figure, in_points
from oodles.comparing.markdown import grid
from oodles.comparing.results import Result
from oodles.comparing.tables import Table
from oodles.comparing.words import overview
from oodles.spelling import set_name

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

READING = """
What a method changes, in points: the mean difference to plain cross-entropy over seeds, paired by seed, in accuracy and
in AUROC under the score of the method's paper, for plain training too. Where plain training cannot give that score, it
has the one in brackets, its best on validation data. ▲ and ▼ mark differences whose 95 % interval
(Student's t) excludes zero, with no correction for multiple comparisons, and ▲▲ and ▼▼ those that hold with Holm's, for
all differences in one metric of a suite. Fine-tuned methods are compared with plain
training that was fine-tuned as long. `docs/results.md` has the figures themselves with their spread, all metrics (both
FPR95s too), all scores, a further protocol, CIFAR-10, a list of what got worse, and published numbers beside ours."""

PROTOCOLS = {
    "digits": """
Handwritten digits of 8 × 8 pixels (`oodles benchmark digits`; `make demo` trains some of these methods with 5 seeds).
{common}
The photograph is of the same kind as the auxiliary outliers. How hard the suite is (its share of training rows) was set
so that plain cross-entropy leaves headroom on near-OOD, over seeds that include these. Training settings were chosen on
its validation accuracy, the network's width on cost and headroom too, and the fine-tunes' schedule by judgement.""",
    "fashion-12k": """
Fashion-MNIST (`oodles benchmark fashion-12k`).
{common}
Learning rate and batch size were chosen on plain cross-entropy's accuracy on held-out training rows, the fine-tunes'
schedule by judgement.""",
}
"""Recorded benchmarks, and what must be known about each."""


def read_record(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def speed() -> str:
    """Write the recorded ratios, each from one run."""
    steps, imports, mixers = read_record("steps.json"), read_record("import_time.json"), read_record("mixers.json")
    lines = [steps_of_all(steps["steps"]), ""]
    terms = [f"{name} {row['ratio']:.1f}" for name, row in steps["terms"].items() if name != "F.cross_entropy"]
    lines += [
        f"Time of loss terms, forward and backward, over `F.cross_entropy` on the same rows: {', '.join(terms)}",
        "",
    ]
    lines[-2] += " (with its cross-entropy)."
    for kind, name in (("mixup", "Mixup"), ("cutmix", "CutMix")):
        ours = mixers[kind]["oodles per sample"]["ratio"]
        others = [f"{peer} {row['ratio']:.2f}" for peer, row in mixers[kind].items() if not peer.startswith("oodles")]
        lines.append(
            f"Time of {name}, 256 × 3 × 32 × 32, over ours per batch: ours per sample {ours:.2f}, {', '.join(others)}."
        )
    lines += ["", losses(), "", *(training(name) for name in ("resnet-18", "cnn-6")), "", decoding()]
    lines += ["", scoring()]
    added = (
        f"`import oodles` adds {imports['import_ms']:.0f} ms to torch's; the methods, {imports['methods_ms']:.0f} ms."
    )
    lines += ["", added]
    about = f"torch {steps['torch']} (mixers: {mixers['torch']}), {steps['device']}, one thread; medians of one run."
    return "\n".join([*lines, "", about])


def steps_of_all(rows: dict[str, dict[str, float]]) -> str:
    """Say how much slower steps are than plain ones with as many rows."""
    ratios = {name: row["ratio"] for name, row in rows.items()}
    slow = ", ".join(f"`{name}` {ratio:.2f}" for name, ratio in ratios.items() if ratio > 1.05)
    fast = ", ".join(f"`{name}` {ratio:.2f}" for name, ratio in ratios.items() if ratio < 0.95)
    return (
        f"Time of a step with each of the {len(ratios)} methods, over a plain step with as many rows as the method "
        f"forwards, also while it prepares the batch: {min(ratios.values()):.2f} to {max(ratios.values()):.2f}.\n"
        f"Above 1.05: {slow or 'none'}. Below 0.95, where passes need no gradient of weights: {fast or 'none'}."
    )


def losses() -> str:
    """Compare the losses of another library with ours."""
    tables = {name: table for name, table in read_record("losses.json").items() if isinstance(table, dict)}
    ratios = ", ".join(f"{name} {table['pytorch-ood']['ratio']:.2f}" for name, table in tables.items())
    return (
        f"Time of pytorch-ood's losses over ours, with their cross-entropy, forward and backward: {ratios}\n"
        "(its confidence loss gives no hints)."
    )


def training(network: str) -> str:
    """Compare images per second with those of the bare loop."""
    run = read_record(f"training-{network}-cpu.json")
    plain, exposed = (run["epochs"][name]["over bare"] for name in ("oodles", "outlier-exposure"))
    return (
        f"Training {network} on {run['suite']} with plain cross-entropy: {plain:.2f} times the images per second of a "
        f"bare hand-written loop;\nwith Outlier Exposure, which forwards twice the rows, {exposed:.2f} times "
        f"(recipe {run['recipe']}, {run['rows']:,} rows an epoch, the median of single epochs in turn)."
    )


def decoding() -> str:
    """Compare images per second from JPEG files with torchvision's."""
    run = read_record("decoding.json")
    lines = []
    for title, rows in run.items():
        if isinstance(rows, dict) and "oodles" in rows:
            peer = next(row["ms"] for name, row in rows.items() if name.endswith("floats"))
            whole, draft = (peer / rows[name]["ms"] for name in ("oodles", "oodles, draft"))
            lines.append(f"{title.replace('x', '×')} {whole:.2f}, with `draft` {draft:.2f}")
    return (
        f"JPEG files a second, brought to 128 pixels by {run['threads']} threads, over torchvision's `ImageFolder` and "
        f"`DataLoader` of as many processes:\n{'; '.join(lines)}."
    )


def scoring() -> str:
    """Say what scores and metrics cost over the forward passes."""
    run = read_record("scoring-cpu.json")
    neighbours = run["scores"]["knn"]["over forward passes"]
    others = run["all over forward passes"] - neighbours
    return (
        f"Scores and metrics of {run['rows']:,} test rows, over the time of their forward passes through "
        f"{run['network']}: {100 * others:.2f} % for all\nscores but nearest neighbours, and "
        f"{100 * neighbours:.1f} % for these ({run['training rows']:,} training rows)."
    )


def results() -> str:
    """Write what each method changes in the recorded runs."""
    tables = {name: compare([RESULTS / f"{name}.jsonl"]).tables[0] for name in PROTOCOLS}
    heads = ["method", "score"]
    for name, table in tables.items():
        heads += [f"{name}: {set_name(ood_set) if ood_set else 'accuracy'}" for ood_set, _ in overview(table)]
    lines = {}
    for table in tables.values():
        for group in table.groups:
            if not group.is_plain:
                lines.setdefault(group.label, changes(group.label, tables))
    lines = [
        READING.strip(),
        "",
        *grid(heads, list(lines.values()), words=2),
        "",
    ]
    for name, about in PROTOCOLS.items():
        runs = [run for group in tables[name].groups for run in group.runs]
        lines += [about.strip().format(seeds=len({run.seed for run in runs}), common=common(runs)), ""]
        lines += [f"There, {plain(tables[name])}.", ""]
    return "\n".join(lines).rstrip()


def changes(label: str, tables: dict[str, Table]) -> list[str]:
    """Write the row of one method: its score, and the difference it makes on every set of every protocol."""
    cells, scores = [], {}
    for table in tables.values():
        group = next((group for group in table.groups if group.label == label), None)
        if group is None:
            cells += ["–"] * len(overview(table))
            continue
        score, beside = group.versus[-1]
        words = score if score == beside else f"{score} ({beside})"
        scores[f"{words}, {group.seeds}" if "diverged" in group.seeds else words] = None
        for ood_set, metric in overview(table):
            figure = table.figure(group, ood_set, metric, score, beside)
            cells.append(_change(figure))
    return [label, " or ".join(scores), *cells]


def _change(figure: Figure | None) -> str:
    if figure is None or figure.difference is None:
        return "–"
    return f"{in_points(figure.difference.mean)} {figure.mark}".rstrip()


def plain(table: Table) -> str:
    """State the figures of plain training under the maximum softmax probability."""
    group = next(group for group in table.groups if group.is_plain)
    figures = [
        f"{set_name(ood_set) + ' ' if ood_set else ''}{METRICS[metric].heading} "
        f"{table.figure(group, ood_set, metric, 'msp', 'msp').value}"
        for ood_set, metric in overview(table)
    ]
    return f"plain cross-entropy has, in per cent and by the maximum softmax probability: {', '.join(figures)}"


def common(runs: list[Result]) -> str:
    """State rows, network, epochs, diverged runs and versions of a protocol."""
    plain, *_ = runs
    tuned = sorted({str(run.settings["epochs"]) for run in runs if run.initial_weights != "random"})
    diverged = sum(run.status == "diverged" for run in runs)
    return (
        f"{plain.sizes['train']:,} training and {plain.sizes['test']:,} test images (seed {plain.seed}), "
        f"{plain.settings['network']}, {plain.settings['epochs']} epochs, fine-tunes {' or '.join(tuned)} more;\n"
        f"{diverged} of {len(runs)} runs diverged. torch {plain.environment['torch']}, {plain.environment['device']}."
    )


BLOCKS = {"methods": markdown_table, "results": results, "speed": speed}


def fill_blocks(text: str) -> str:
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        block = f"{start}\n{make()}\n{end}"
        text, count = re.subn(
            f"{re.escape(start)}.*?{re.escape(end)}", lambda _, block=block: block, text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"README.md must hold one block {name!r}, got {count}.")
    return text


def keep(path: Path, new: str) -> None:
    """Write the file if it has changed; with --check fail instead."""
    if (path.read_text(encoding="utf-8") if path.is_file() else "") != new:
        if "--check" in sys.argv:
            raise SystemExit(f"{path.name} is out of date: run python docs/{Path(sys.argv[0]).name}")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    readme = ROOT / "README.md"
    keep(readme, fill_blocks(readme.read_text(encoding="utf-8")))
