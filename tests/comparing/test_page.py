"""The HTML report: whole without a network, escaped, and with the pictures of what was measured."""

import io
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from PIL import Image

from oodles.comparing import pictures
from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.ranking import ranking
from oodles.comparing.results import write_results
from oodles.comparing.words import judgements
from oodles.data import load_suite
from oodles.methods import METHOD_SCORES, score_named
from oodles.runs.opened import open_run
from oodles.scores import FURTHER_SCORES, SCORES
from tests.comparing.synthetic_runs import NAMES, SIZES, write_run

EVIL = "<script>alert('no')</script>"


class Page(HTMLParser):
    """Collects tags with their attributes, and what is said outside them."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def digits_sizes(seed: int) -> dict[str, int]:
    suite = load_suite("digits", seed)
    unknown = {f"near:{name}": len(rows) for name, rows in suite.near.items()}
    unknown |= {f"far:{name}": len(rows) for name, rows in suite.far.items()}
    return {"validation": len(suite.validation), "test": len(suite.test), "outliers": 50, **unknown}


def suite_of_texts(folder: Path, *unknown: str) -> Path:
    """Write a suite of texts of two intents, whose encoder counts signs, and unknown texts called kitchen."""
    (folder / "lengths.py").write_text("def encode(texts):\n    return [[len(text)] for text in texts]\n")
    for name in ("train", "test"):
        rows = [
            {"text": f"{name} {('block card', 'send money')[row % 2]} {row}", "label": row % 2} for row in range(20)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "kitchen.txt").write_text("\n".join(unknown))
    suite = folder / "suite.toml"
    suite.write_text("""
encoder = "lengths:encode"
train = "train.jsonl"
test = "test.jsonl"
[far]
kitchen = "kitchen.txt"
""")
    return suite


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    folders = []
    for seed in range(3):
        about = {"seed": seed, "sizes": digits_sizes(seed), "notes": {"letters": f"a remark {EVIL}"}}
        folders.append(write_run(folder / f"plain-{seed}", "cross-entropy", **about))
        folders.append(write_run(folder / f"mixup-{seed}", "mixup", better=0.5, **about))
        broken = f"the loss was {EVIL}" if seed == 1 else ""
        folders.append(write_run(folder / f"logit-{seed}", "logit-norm", better=-0.5, diverged=broken, **about))
    return compare(folders)


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> Page:
    return Page(comparison.to_html())


def test_the_page_needs_no_network(page: Page) -> None:
    addresses = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert addresses and all(value and value.startswith(("data:image/", "#")) for value in addresses)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert "url(" not in page.words and "@import" not in page.words


def test_links_lead_to_sections_of_the_page(page: Page) -> None:
    places = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a"]
    assert len(places) == len(set(places)) and {link.removeprefix("#") for link in links} <= set(places)
    named = {"figures", "differences", "metrics", "methods", "method-1", "method-2", "method-3"}
    assert {"#suite-1", *(f"#suite-1-{name}" for name in named), "#ranks", "#words", "#score-msp"} <= set(links)


def test_what_comes_from_runs_is_escaped(page: Page, comparison: Comparison) -> None:
    assert page.words.count(EVIL) >= 2  # as words: the remark on a set, and why a run diverged
    assert EVIL not in comparison.to_html()


def test_figures_and_losers_are_on_the_page(page: Page, comparison: Comparison) -> None:
    (table,) = comparison.tables
    figures = table.figures()
    assert {figure.label for figure in figures} == {"cross-entropy", "mixup", "logit-norm"}
    for figure in figures:
        assert str(figure.value) in page.words and figure.against_plain in page.words
    assert "n = 2, diverged (1 of 3 seeds)" in page.words
    for words in (table.chance, table.sizes, "FPR95 ID-positive", "FPR95 OOD-positive"):
        assert words.replace(" ", "") in re.sub(r"\s", "", page.words)


def test_only_differences_beyond_the_noise_are_bold(page: Page, comparison: Comparison) -> None:
    shown = [attrs["class"] for tag, attrs in page.tags if tag == "span" and "difference" in str(attrs.get("class"))]
    expected = [
        f"difference {figure.verdict or 'noise'}" for figure in comparison.tables[0].figures() if figure.difference
    ]
    (table,) = comparison.tables
    auroc, right = (
        [
            f"difference {figure.verdict or 'noise'}"
            for figure in table.figures()
            if figure.difference and figure.metric == metric
        ]
        for metric in ("auroc", "accuracy")
    )
    tested = [
        f"difference {judgement.verdict or 'noise'}" for name in table.ood_sets for judgement in judgements(table, name)
    ]
    # AUROC stands in the overview and with all metrics, accuracy beside it, and the tests come below
    assert sorted(shown) == sorted(expected + auroc + len(table.ood_sets) * right + tested)
    style = comparison.to_html().partition("</style>")[0]
    bold = [rule for rule in style.splitlines() if rule.startswith(".difference") and "700" in rule]
    assert [rule.split(" {")[0] for rule in bold] == [".difference.better", ".difference.worse"]


def test_pictures_can_be_read(page: Page) -> None:
    pictured = [attrs for tag, attrs in page.tags if tag == "img"]
    vectors = [str(attrs["src"]) for attrs in pictured if str(attrs["src"]).startswith("data:image/svg+xml;base64,")]
    assert len(vectors) == 3 + 3 * 3 + 1  # differences on each set; histogram, ROC and curves of each method; ranks
    for vector in vectors:
        root = ElementTree.fromstring(b64decode(vector.partition(",")[2]))
        assert root.tag.endswith("svg") and len(list(root.iter())) > 50
    assert all(attrs["alt"] for attrs in pictured)


def test_pictures_of_rows_appear_where_the_run_folder_is_at_hand(comparison: Comparison, tmp_path: Path) -> None:
    (table,) = comparison.tables
    write_results(tmp_path / "runs.jsonl", [run for group in table.groups for run in group.runs])
    recorded = compare([tmp_path / "runs.jsonl"])
    page = Page(recorded.to_html())
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3 + 1  # differences and ranks
    assert "oodles train" not in page.words
    for figure in table.figures():
        assert str(figure.value) in page.words and figure.against_plain in page.words


def test_the_picture_of_ranks_orders_the_methods(comparison: Comparison) -> None:
    ranks = ranking(comparison.tables)
    assert ranks is not None and [method.label for method in ranks.methods] == ["mixup", "cross-entropy", "logit-norm"]
    svg = b64decode(pictures.ranks(ranks).partition(",")[2]).decode()
    places = [svg.index(f"<!-- {method.label} -->") for method in ranks.methods]
    assert places == sorted(places)


def test_the_most_confidently_misjudged_inputs(tmp_path: Path) -> None:
    sizes, suite = digits_sizes(2), load_suite("digits", 2)
    scores = np.linspace(1, 2, sizes["far:letters"])
    scores[[40, 7]] = 0.1, 0.2
    taken = np.zeros(sizes["far:letters"], dtype=np.int64)
    taken[[40, 7]] = 3, 5
    arrays = {"far:letters/msp": scores, "far:letters/predictions": taken}
    run = open_run(write_run(tmp_path / "run", "mixup", seed=2, sizes=sizes, arrays=arrays))
    found = pictures.misjudged(run, "msp", ["near:digits", "far:letters"], count=4)
    strips = {strip.name: strip.samples for strip in found}
    assert [image.taken_for for image in strips["far:letters"]] == ["3", "5", "0", "0"]
    assert len(strips["near:digits"]) == 4
    with Image.open(io.BytesIO(b64decode(strips["far:letters"][0].picture.partition(",")[2]))) as image:
        assert np.array_equal(np.asarray(image), np.rint(255 * suite.far["letters"].images[40, 0]).astype(np.uint8))


def test_known_rows_are_shown_accepted_from_sure_to_unsure_and_rejected(tmp_path: Path) -> None:
    sizes = digits_sizes(2)
    known, taken = np.full(sizes["test"], 0.5), np.zeros(sizes["test"], dtype=np.int64)
    known[[10, 20, 30, 40, 50]] = 0.0, 0.9, 1.0, 1.1, 2.0
    taken[[10, 40]] = 4, 2
    labels = taken.copy()
    labels[40] = 3
    arrays = {
        "validation/msp": np.linspace(0, 1, sizes["validation"]),
        **{"test/msp": known, "test/predictions": taken, "test/labels": labels},
    }
    run = open_run(write_run(tmp_path / "run", "mixup", seed=2, sizes=sizes, arrays=arrays))
    limit = pictures.threshold(run, "msp")
    assert 0.95 <= limit < 0.96
    accepted, rejected = pictures.judged(run, "msp", count=3)
    assert (accepted.name, accepted.about) == ("accepted", f"{sizes['test'] - 3} of {sizes['test']}")
    assert (rejected.name, rejected.about) == ("rejected", f"3 of {sizes['test']}")
    assert [row.score for row in accepted.samples] == [0.0, 0.5, 0.9]
    assert [(row.score, row.taken_for, row.label) for row in rejected.samples] == [
        (2.0, "0", ""),
        (1.1, "2", "3"),
        (1.0, "0", ""),
    ]
    with Image.open(io.BytesIO(b64decode(rejected.samples[0].picture.partition(",")[2]))) as image:
        expected = load_suite("digits", 2).test.images[50, 0]
        assert np.array_equal(np.asarray(image), np.rint(255 * expected).astype(np.uint8))
    assert "2, is 3" in compare([run]).to_html()


def test_the_setting_and_the_day_of_the_newest_run_are_told(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), "mixup", seed=seed, epochs=30 + seed // 2) for seed in range(3)]
    for folder, day in zip(folders, ("2026-01-05", "2026-03-01", "2025-12-31"), strict=True):
        record = json.loads((folder / "run.json").read_text())
        record["environment"] = {"started": f"{day}T10:00:00+00:00", "device": "cpu", "torch": "2.13.0"}
        (folder / "run.json").write_text(json.dumps(record))
    words = Page(compare(folders).to_html()).words
    for told in (
        "network\nsmall-cnn",
        "epochs\n30 (mixup (epochs 30)); 31 (mixup (epochs 31))",
        "seeds\n0, 1 (mixup (epochs 30)); 2 (mixup (epochs 31))",
        "machine\ncpu",
        "versions\ntorch 2.13.0",
        "newest run\n2026-03-01",
    ):
        assert told.replace("\n", "") in words, told
    write_results(tmp_path / "runs.jsonl", [run for group in compare(folders).tables[0].groups for run in group.runs])
    recorded = Page(compare([tmp_path / "runs.jsonl"]).to_html()).words
    assert "versions" in recorded and "newest run" not in recorded


def test_a_score_is_explained_once(comparison: Comparison, tmp_path: Path) -> None:
    summary = score_named("msp").summary
    assert summary and Page(comparison.to_html()).words.count(summary) == 1
    own = compare([write_run(tmp_path / "run", "mixup", scores=("msp", "of-my-own"))], "of-my-own").to_html()
    assert "of-my-own" in own and 'href="#score-of-my-own"' not in own


@pytest.mark.parametrize("name", [*SCORES, *FURTHER_SCORES, *METHOD_SCORES])
def test_every_score_says_in_a_sentence_what_it_is(name: str) -> None:
    summary = score_named(name).summary
    assert summary.endswith((".", ").")) and not set("`\n") & set(summary)


def test_misjudged_texts_are_shown_with_score_and_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    data = suite_of_texts(tmp_path, "A & B <i>why</i>?", "boil eggs", "cook rice")
    sizes = {"validation": 4, "test": 4, "far:kitchen": 3}
    arrays = {"far:kitchen/msp": np.array([0.25, 0.5, 0.125]), "far:kitchen/predictions": np.array([1, 0, 1])}
    arrays["validation/msp"] = np.array([0.0, 0.1, 0.2, 0.3])
    folders = [
        write_run(tmp_path / name, name, data=str(data), sizes=sizes, arrays=arrays) for name in ("mixup", "mixoe")
    ]
    run = open_run(folders[0], data=data)
    ((name, accepted, inputs),) = pictures.misjudged(run, "msp", ["far:kitchen", "near:none"], count=2)
    assert name == "far:kitchen" and accepted == "2 of 3 accepted"
    assert inputs == [
        pictures.Sample(name="cook rice", picture="", score=0.125, taken_for="1"),
        pictures.Sample(name="A & B <i>why</i>?", picture="", score=0.25, taken_for="1"),
    ]
    with_data = [open_run(folder, data=data) for folder in folders]
    html = compare(with_data).to_html()
    assert '<p>cook rice <span class="soft">1, msp 0.125</span></p>' in html
    assert '<p>A &amp; B &lt;i&gt;why&lt;/i&gt;? <span class="soft">1, msp 0.25</span></p>' in html
    assert '<p>boil eggs <span class="soft">0, msp 0.5</span></p>' in html
    assert "cook rice" not in compare(folders).to_html()  # the encoder is code, and nobody has named the data
    assert compare(folders, data=data).to_html() == html
    with pytest.raises(ValueError, match="data"):
        compare(folders, data=tmp_path / "other.toml")


def test_misjudged_rows_of_a_table_are_named_by_their_lines(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("test", 20)):
        known = "".join(f"{value},{value % 2}\n" for value in range(first, first + 20))
        (tmp_path / f"{name}.csv").write_text(f"x,label\n{known}")
    (tmp_path / "far.csv").write_text("x\n100\n\n200\n300\n")
    data = tmp_path / "suite.toml"
    data.write_text('train = "train.csv"\ntest = "test.csv"\n[far]\nlarge = "far.csv"\n')
    sizes = {"validation": 2, "test": 20, "far:large": 3}
    arrays = {"far:large/msp": np.array([3.0, 1.0, 2.0]), "far:large/predictions": np.array([1, 0, 1])}
    run = open_run(write_run(tmp_path / "run", "mixup", data=str(data), sizes=sizes, arrays=arrays))
    ((*_, inputs),) = pictures.misjudged(run, "msp", ["far:large"])
    assert [(row.name, row.picture, row.score) for row in inputs] == [
        ("row 4", "", 1.0),
        ("row 5", "", 2.0),
        ("row 2", "", 3.0),
    ]


@pytest.mark.parametrize("data", ["digits", "/nowhere/at/all"])
def test_no_pictures_of_inputs_where_the_suite_is_another_one(tmp_path: Path, data: str) -> None:
    run = open_run(write_run(tmp_path / "run", "mixup", data=data))
    assert pictures.misjudged(run, "msp", ["near:digits", "far:letters"]) == []
    assert pictures.judged(run, "msp") == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (2, 8, 8)])
def test_images_of_any_number_of_channels(shape: tuple[int, int, int]) -> None:
    picture = pictures.as_png(np.full(shape, 0.2, dtype=np.float32))
    with Image.open(io.BytesIO(b64decode(picture.partition(",")[2]))) as image:
        assert np.unique(np.asarray(image)).tolist() == [51]


def test_names_with_dollars_are_no_mathematics(tmp_path: Path) -> None:
    name, term = r"far:$\frac{x$ $_$", "$cross$ ^{"
    sizes = {**SIZES, name: 30}
    folders = [write_run(tmp_path / str(seed), "mixup", seed=seed, sizes=sizes, terms=[term]) for seed in range(3)]
    runs = [open_run(folder) for folder in folders]
    drawn = {
        pictures.histogram(runs[0], "msp", [name]): r"far-OOD $\frac{x$ $_$",
        pictures.roc(runs[0], "msp", None, "msp", [name]): r"far-OOD $\frac{x$ $_$",
        pictures.curves(runs): term,
    }
    for picture, words in drawn.items():
        assert f"<!-- {words} -->" in b64decode(picture.partition(",")[2]).decode(), words
    assert r"$\frac{x$" in compare(folders).to_html()


def test_powers_of_ten_are_written_without_mathematics(tmp_path: Path) -> None:
    spread = {f"{name}/msp": np.geomspace(1e-6, 1, size) for name, size in SIZES.items()}
    run = open_run(write_run(tmp_path / "run", "mixup", arrays=spread))
    svg = b64decode(pictures.histogram(run, "msp", ["far:letters"]).partition(",")[2]).decode()
    assert "<!-- 0.0001 -->" in svg and "<!-- 0.01 -->" in svg and "mathdefault" not in svg


def test_extreme_scores_can_be_drawn(tmp_path: Path) -> None:
    arrays = {f"{name}/msp": np.full(size, -300.0) for name, size in SIZES.items()}
    arrays |= {f"{name}/energy": np.full(size, np.inf) for name, size in SIZES.items()}
    arrays |= {f"{name}/knn": np.full(size, np.nan) for name, size in SIZES.items()}
    run = open_run(write_run(tmp_path / "run", "mixup", arrays=arrays))
    sets = ["near:digits", "far:letters"]
    assert pictures.histogram(run, "msp", sets) and not pictures.histogram(run, "energy", sets)
    assert not pictures.histogram(run, "no such score", sets)
    assert all(pictures.roc(run, score, run, score, sets) for score in (*NAMES, "no such score"))


def test_a_suite_without_ood_sets_has_no_empty_sections(tmp_path: Path, comparison: Comparison) -> None:
    sizes = {"validation": 60, "test": 80}
    html = compare([write_run(tmp_path / name, name, sizes=sizes) for name in ("cross-entropy", "mixup")]).to_html()
    for words in ("AUROC against plain cross-entropy under the same score:", ">All metrics</h3>"):
        assert words in comparison.to_html() and words not in html
    assert ">Accuracy and AUROC</h3>" in html


def test_a_run_that_diverged_at_once(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), "mixup", seed=seed, diverged="inf") for seed in range(2)]
    for folder in folders:
        (folder / "log.jsonl").unlink()
    html = compare(folders).to_html()
    assert "diverged (2 of 2 seeds)" in html and "No run has finished." in html


def test_curves_hold_every_term_and_stop_where_training_did(tmp_path: Path) -> None:
    terms = ("cross-entropy", "outlier exposure")
    folders = [write_run(tmp_path / "0", "outlier-exposure", terms=terms, epochs=12)]
    folders.append(write_run(tmp_path / "1", "outlier-exposure", terms=terms, epochs=12, seed=1, diverged="nan"))
    runs = [open_run(folder) for folder in folders]
    svg = b64decode(pictures.curves(runs).partition(",")[2]).decode()
    assert all(f"<!-- {words} -->" in svg for words in (*terms, "loss", "epoch"))
    values = [entry["terms"][terms[1]] for entry in runs[0].log]
    axes = Canvas().subplots()
    drawn = pictures._seeds_and_mean(axes, [pictures._series(values), pictures._series([1.0, None])], "k")
    mean = np.asarray(axes.lines[-1].get_ydata(), dtype=np.float64)
    assert mean == pytest.approx(np.array([(values[0] + 1) / 2, *values[1:]]))
    assert drawn.reshape(2, -1)[1, 0] == 1 and np.isnan(drawn.reshape(2, -1)[1, 1:]).all()
