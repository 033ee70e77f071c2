"""Draw the pictures of a report as data URIs: score histograms, ROC, training curves, differences, test rows.

Inputs that have no picture are named.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray
from PIL import Image

from oodles.comparing.ranking import Ranking
from oodles.comparing.tables import Table
from oodles.metrics import counts
from oodles.runs.opened import Run
from oodles.spelling import set_name

if TYPE_CHECKING:
    from oodles.data import ImageSet, Suite

HEIGHT = 2.9
"""Inches; all pictures are 3.8 wide, about the width of a phone."""
LEGEND = 22
"""Letters in a line of a legend, which has two columns."""
SAMPLES = 5
"""Rows of a strip, as many as fit side by side on a phone."""
KNOWN = "#7a8794"
INK = "#1f2933"
# Okabe and Ito's colours, which also differ for colour-blind readers.
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#3e4c59",
    "xtick.color": "#616e7c",
    "ytick.color": "#616e7c",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "oodles",
    "axes.unicode_minus": True,
    "text.parse_math": False,  # names may hold dollars
    "text.usetex": False,  # or settings in the current folder could have names run through LaTeX
}


@dataclass(frozen=True)
class Sample:
    """A test row, its outlier score, and the class predicted for it.

    Args:
        name: the text, or what else a row is called.
        picture: a data URI, empty for what is no image.
        score: its outlier score.
        taken_for: the predicted class.
        label: the right class, where that is another one.
    """

    name: str
    picture: str
    score: float
    taken_for: str
    label: str = ""


class Strip(NamedTuple):
    """Some rows of a set."""

    name: str
    about: str
    """How many rows of its set are like these, where that is known."""
    samples: list[Sample]


@rc_context(STYLE)
def differences(table: Table, ood_set: str) -> str:
    """Draw the differences of AUROC to plain cross-entropy: a dot per seed, the mean and its 95 % interval."""
    shown = [
        (figure, figure.difference)
        for score, plain_score, groups in table.blocks
        for group in groups
        if (figure := table.figure(group, ood_set, "auroc", score, plain_score)) and figure.difference
    ]
    if not shown:
        return ""
    canvas = _blank(0.7 + 0.36 * len(shown))
    axes = canvas.subplots()
    axes.axvline(0, color="#3e4c59", linewidth=1)
    for position, (figure, seeds) in enumerate(shown):
        color = {"better": COLORS[2], "worse": COLORS[0], "": KNOWN}[figure.verdict]
        values = [100 * value for value in seeds.by_seed.values()]
        axes.plot(
            values, [position + 0.24] * len(values), "o", color=color, alpha=0.55, markersize=3.5, markeredgewidth=0
        )
        if half := seeds.half_interval:
            axes.plot([100 * (seeds.mean - half), 100 * (seeds.mean + half)], [position] * 2, color=color, linewidth=2)
        axes.plot([100 * seeds.mean], [position], "D", color=color, markersize=5)
    axes.set_yticks(range(len(shown)), [f"{fill(figure.label, 24)}\n{figure.score}" for figure, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("AUROC, points")
    return _svg(canvas)


@rc_context(STYLE)
def ranks(ranking: Ranking) -> str:
    """Draw the rank of every method on every set, a dot each, and the average."""
    canvas = _blank(0.7 + 0.36 * len(ranking.methods))
    axes = canvas.subplots()
    for position, method in enumerate(ranking.methods):
        for rank in sorted(set(method.ranks)):
            often = method.ranks.count(rank)
            size = 3.5 * often**0.5  # the area says how often
            axes.plot([rank], [position], "o", color=KNOWN, alpha=0.6, markersize=size, markeredgewidth=0)
        axes.plot([method.average], [position], "D", color=COLORS[1], markersize=5)
    labels = [f"{fill(method.label, 24)}\n{method.score}" for method in ranking.methods]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0.5, len(labels) + 0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xticks(range(1, len(labels) + 1))
    axes.set_xlabel("rank by AUROC, 1 is best")
    return _svg(canvas)


@rc_context(STYLE)
def histogram(run: Run, score: str, ood_sets: Sequence[str]) -> str:
    """Draw the histograms of a score on test and OOD rows, and the threshold that accepts 95 % of validation rows."""
    values = {"test (in-distribution)": run.scores.get(f"test/{score}")}
    values |= {set_name(name): run.scores.get(f"{name}/{score}") for name in ood_sets}
    shown = {name: _finite(array) for name, array in values.items() if array is not None}
    shown = {name: array for name, array in shown.items() if array.size}
    if not shown:
        return ""
    logarithmic = _spans_decades(np.concatenate(list(shown.values())))
    low, high = (float(v) for v in np.quantile(np.concatenate(list(shown.values())), (0.005, 0.995)))
    if logarithmic:
        everything = np.concatenate(list(shown.values()))
        low = max(low, float(everything[everything > 0].min()))
        edges = np.geomspace(low, max(high, low * 1.01), 31)
    else:
        edges = np.linspace(low, high if high > low else low + 1, 31)
    canvas = _blank(HEIGHT)
    axes = canvas.subplots()
    for index, (name, array) in enumerate(shown.items()):
        heights = np.histogram(np.clip(array, edges[0], edges[-1]), edges)[0] / array.size
        if index == 0:
            axes.stairs(heights, edges, fill=True, color=KNOWN, alpha=0.45, label=name)
        else:
            axes.stairs(heights, edges, color=_color(index - 1), linewidth=1.6, label=name)
    limit = threshold(run, score)
    if not np.isnan(limit):
        axes.axvline(limit, color=INK, linewidth=1, linestyle="--", label="95 % accepted")
    if logarithmic:
        axes.set_xscale("log")
        _plain_powers(axes.xaxis)
    axes.set_xlabel(f"{score}, higher is more OOD")
    axes.set_ylabel("share of rows")
    _legend_above(axes)
    return _svg(canvas)


@rc_context(STYLE)
def roc(run: Run, score: str, plain: Run | None, plain_score: str, ood_sets: Sequence[str]) -> str:
    """Draw the share of OOD rows caught over that of test rows rejected, for each set; plain training's dotted."""
    canvas = _blank(HEIGHT)
    axes = canvas.subplots()
    for index, name in enumerate(ood_sets):
        for of, used, style in ((run, score, "-"), (plain, plain_score, ":")):
            known, unknown = (of.scores.get(f"{rows}/{used}") if of else None for rows in ("test", name))
            if known is None or unknown is None or np.isnan(known).any() or np.isnan(unknown).any():
                continue
            accepted = counts(known, unknown)
            rejected, caught = (1 - count / count[-1] for count in accepted)
            label = set_name(name) if style == "-" else None
            axes.plot(rejected, caught, style, color=_color(index), linewidth=1.6, label=label)
    if plain:
        axes.plot([], [], ":", color="#3e4c59", label="cross-entropy")
    axes.plot([0, 1], [0, 1], color="#cbd2d9", linewidth=0.8)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("in-distribution rejected")
    axes.set_ylabel("OOD caught")
    if axes.get_legend_handles_labels()[0]:
        _legend_above(axes)
    return _svg(canvas)


@rc_context(STYLE)
def curves(runs: Sequence[Run]) -> str:
    """Draw every named term of the loss and the validation accuracy, epoch by epoch; a line per seed, the mean bold."""
    logs = [run.log for run in runs if run.log]
    if not logs:
        return ""
    canvas = _blank(HEIGHT)
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    terms = list(dict.fromkeys(name for log in logs for entry in log for name in entry["terms"]))
    drawn = []
    for index, term in enumerate(terms):
        by_run = [_series(entry["terms"].get(term) for entry in log) for log in logs]
        drawn.append(_seeds_and_mean(above, by_run, _color(index), term))
    _seeds_and_mean(below, [_series(entry["validation_accuracy"] for entry in log) for log in logs], INK)
    if drawn and _spans_decades(np.concatenate(drawn)):
        above.set_yscale("log")
        _plain_powers(above.yaxis)
    above.set_ylabel("loss")
    below.set_ylabel("validation\naccuracy")
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    _legend_above(above)
    return _svg(canvas)


def misjudged(run: Run, score: str, ood_sets: Sequence[str], count: int = SAMPLES) -> list[Strip]:
    """Return the inputs of each set with the lowest outlier scores, read again from the run's suite.

    A suite that cannot be loaded any more gives none, nor does a set whose size has changed.
    """
    sets, limit = _sets(run), threshold(run, score)
    strips = []
    for name in ood_sets:
        if name in sets and (values := _values(run, name, score, len(sets[name]))) is not None:
            first = np.argsort(values, kind="stable")[:count]
            strips.append(Strip(name, _accepted(values, limit), _samples(run, name, score, first)))
    return strips


def judged(run: Run, score: str, count: int = SAMPLES) -> list[Strip]:
    """Return known test rows, read again from the run's suite: accepted ones from sure to unsure, and rejected ones.

    There are none where the suite cannot be loaded any more, or the test set's size has changed.
    """
    sets, limit = _sets(run), threshold(run, score)
    values = _values(run, "test", score, len(sets["test"])) if "test" in sets else None
    if values is None or np.isnan(limit):
        return []
    order = np.argsort(values, kind="stable")
    accepted, rejected = order[values[order] <= limit], order[values[order] > limit][::-1]
    evenly = np.unique(np.linspace(0, len(accepted) - 1, min(count, len(accepted))).round().astype(int))
    strips = [
        Strip("accepted", f"{len(accepted)} of {len(values)}", _samples(run, "test", score, accepted[evenly])),
        Strip("rejected", f"{len(rejected)} of {len(values)}", _samples(run, "test", score, rejected[:count])),
    ]
    return [strip for strip in strips if strip.samples]


def threshold(run: Run, score: str) -> float:
    """Return the score up to which 95 % of the validation rows are accepted; NaN without such rows."""
    values = run.scores.get(f"validation/{score}")
    if values is None or not (kept := _finite(values)).size:
        return float("nan")
    return float(np.quantile(kept, 0.95, method="higher"))


def _values(run: Run, name: str, score: str, size: int) -> NDArray[np.float64] | None:
    """Return the scores of a set; nothing where it has none, no predictions, or another size by now."""
    values = run.scores.get(f"{name}/{score}")
    if values is None or len(values) != size or f"{name}/predictions" not in run.scores:
        return None
    return values


def _accepted(values: NDArray[np.float64], limit: float) -> str:
    """Say how many rows of a set are accepted, where there is a limit."""
    return "" if np.isnan(limit) else f"{(values <= limit).sum()} of {len(values)} accepted"


def _samples(run: Run, name: str, score: str, numbers: NDArray[np.intp]) -> list[Sample]:
    """Read some rows of a set."""
    rows, kind = _sets(run)[name], _suite(run).kind
    names = rows.names or range(len(rows))
    predictions, labels = run.scores[f"{name}/predictions"], run.scores.get(f"{name}/labels")
    samples = []
    for row in numbers.tolist():
        taken_for = run.classes[int(predictions[row])]
        label = taken_for if labels is None else run.classes[int(labels[row])]
        samples.append(
            Sample(
                name=f"row {names[row]}" if kind == "features" else str(names[row]),
                picture="" if kind != "images" else as_png(rows.images[row]),
                score=float(run.scores[f"{name}/{score}"][row]),
                taken_for=taken_for,
                label="" if label == taken_for else label,
            )
        )
    return samples


def _sets(run: Run) -> "Mapping[str, ImageSet]":
    """Return the sets that a run was tested on, of its suite; none where that cannot be loaded any more."""
    try:
        suite = _suite(run)
    except (OSError, ValueError):
        return {}
    return {"test": suite.test, **suite.ood_sets()}


_SUITES: dict[tuple[object, ...], "Suite"] = {}
"""The suite that was read last."""


def _suite(run: Run) -> "Suite":
    """Read a run's suite, unless it is that of the run before."""
    from oodles.runs.testing import suite_of

    key = (run.data, run.suite, run.seed, *run.arguments.get("root", ()))
    if key not in _SUITES:
        suite = suite_of(run)
        _SUITES.clear()
        _SUITES[key] = suite
    return _SUITES[key]


def as_png(image: NDArray[Any]) -> str:
    """Encode one image (C, H, W), uint8 or in [0, 1]; three channels in colour, others by their mean."""
    pixels = image if image.dtype == np.uint8 else np.rint(255 * image).astype(np.uint8)
    pixels = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(0).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, format="png")
    return f"data:image/png;base64,{b64encode(out.getvalue()).decode()}"


def _svg(canvas: Canvas) -> str:
    out = BytesIO()
    canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{b64encode(out.getvalue()).decode()}"


def _blank(height: float) -> Canvas:
    return Canvas(figsize=(3.8, height), layout="constrained")


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = values[np.isfinite(values)].astype(np.float64)
    return kept


def _spans_decades(values: NDArray[np.float64]) -> bool:
    """Say whether the values are better seen on a logarithmic axis."""
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size < 0.9 * np.isfinite(values).sum() or not positive.size or np.nanmin(values) < 0:
        return False
    low, high = np.quantile(positive, (0.05, 0.95))
    return bool(high > 100 * low)


def _series(values: Iterable[float | None]) -> NDArray[np.float64]:
    """Return one value per epoch; missing ones are NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _seeds_and_mean(
    axes: Axes, series: Sequence[NDArray[np.float64]], color: str, label: str = ""
) -> NDArray[np.float64]:
    """Draw a thin line per seed, a thick one for the mean of those that got that far; return the values drawn."""
    length = max(len(values) for values in series)
    padded = np.array([np.pad(values, (0, length - len(values)), constant_values=np.nan) for values in series])
    padded[~np.isfinite(padded)] = np.nan
    epochs = np.arange(1, length + 1)
    for values in padded:
        axes.plot(epochs, values, color=color, linewidth=0.7, alpha=0.35)
    known = np.isfinite(padded)
    mean = np.divide(np.nansum(padded, 0), known.sum(0), where=known.any(0), out=np.full(length, np.nan))
    axes.plot(epochs, mean, color=color, linewidth=1.8, label=label)
    return padded.ravel()


def _plain_powers(axis: Axis) -> None:
    """Label the powers of ten of a logarithmic axis without mathematics."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _legend_above(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    wrapped = [fill(label, LEGEND) for label in labels]
    axes.legend(
        handles, wrapped, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.6
    )
