"""Write docs/costs.md from the recorded ratios: python docs/costs.py

With --check it writes nothing and fails where the page is out of date.
"""

from recorded import ROOT, as_table, keep, prose, read_record

from oodles.cards import cards

PAGE = """# What things cost

Ratios of times, each measured in one run on one machine: `benchmarks/` has the programs, and `benchmarks/results/` what
they gave. [Which method](which-method.md) says what to take.

## A step with each method

A step over a plain one with as many in-distribution rows, and over a plain one with as many rows as the method
forwards: what is left there is the method's own arithmetic. Choosing a score takes no training.

{table}

## Other measurements

{speed}
"""


def page() -> str:
    """Write the page."""
    steps = read_record("steps.json")["steps"]
    lines = []
    for method in cards():
        row = steps.get(method.name)
        times = (f"{row['rows'] * row['ratio']:.1f}", f"{row['ratio']:.2f}") if row else ("–", "–")
        schedule = "fine-tunes" if method.fine_tunes else "trains anew"
        lines.append([f"[`{method.name}`](methods/{method.name}.md)", *times, schedule, prose(method.cost)])
    heads = ["method", "over a plain step", "with as many rows", "published schedule", "what it does besides"]
    return PAGE.format(speed=speed(), table="\n".join(as_table(heads, lines)))


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


if __name__ == "__main__":
    keep(ROOT / "docs" / "costs.md", page())
