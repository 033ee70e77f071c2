"""The documentation says what is so: its examples run, its commands are understood, its generated pages are of runs."""

import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from oodles import cli
from oodles.benchmarking.description import Benchmark, benchmarks
from oodles.cards import card
from oodles.data import SUITES
from oodles.data.description import read_description
from oodles.facts import CHOICE, check_composition
from oodles.methods import METHOD_SCORES, METHODS, method_class
from oodles.metrics import METRICS
from oodles.networks import NETWORKS
from oodles.runs.recipe import recipes
from oodles.scores import FURTHER_SCORES, SCORES
from tests.docs_programs import docs_programs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MODULES = (
    *("recorded", "drawing", "examples", "pictures", "methods", "scripts", "guests"),
    *("protocols", "families", "published", "results", "compositions", "which_method", "learnt", "costs", "readme"),
)
FILES = [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("guides/*.md"))]
PAGES = {path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text(encoding="utf-8") for path in FILES}
WRITTEN = {**PAGES, "README": (ROOT / "README.md").read_text(encoding="utf-8")}
TRAINING = (
    *("first-detector", "command-line", "outliers", "comparing"),
    *("guides/no-outliers", "guides/segmentation", "writing"),
)
"""Pages that train."""


@pytest.fixture(scope="module")
def docs() -> Iterator[dict[str, ModuleType]]:
    with docs_programs(*MODULES) as programs:
        yield programs


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] * (p in TRAINING)) for p in PAGES])
def test_examples_run_as_shown(page: str, docs: dict[str, ModuleType]) -> None:
    if missing := docs["examples"].missing(page):
        pytest.skip(
            f"The page {page} needs {', '.join(missing)}: make guests, or pip install 'oodles[onnx,pretrained]'."
        )
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    ran = docs["examples"].run_examples(PAGES[page], page)
    shown = [code for language in ("python", "sh") for code in fenced(PAGES[page], language)]
    assert sorted(block.code for block, _ in ran if block.language in ("python", "sh")) == sorted(shown)
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)
    if page in TRAINING:
        assert any("±" in out or "AUROC" in out for _, out in ran), "it shows what came of it"


def test_an_example_that_breaks_is_noticed(docs: dict[str, ModuleType], tmp_path: Path) -> None:
    examples = docs["examples"]
    with pytest.raises(ZeroDivisionError):
        examples.run_examples("```python\nx = 1\n```\n\n```python\nx / 0\n```\n")
    with pytest.raises(RuntimeError, match="ends with the exit code 1"):
        examples.run_examples(f"```sh\noodles compare {tmp_path}  # no run\n```\n")
    page = "```python\nx = 2\n```\nand\n```python\nprint(x + 1)\n```\nend\n"
    shown = "```{code-block} text\n:class: output\n3\n```"
    assert examples.with_output(page, "page") == page.replace("1)\n```", f"1)\n```\n\n{shown}")


def test_commands_are_found_and_told_apart(docs: dict[str, ModuleType]) -> None:
    examples = docs["examples"]
    lines = [
        "ray start",
        "oodles train mixup \\",
        "  --seed 3   # with a seed",
        "oodles demo",
        "oodles score path/to/run x",
    ]
    (block,) = examples.blocks("\n".join(["```sh", *lines, "```", ""]))
    assert [shlex.split(command) for command in block.commands] == [
        ["oodles", "train", "mixup", "--seed", "3"],
        ["oodles", "demo"],
        ["oodles", "score", "path/to/run", "x"],
    ]
    assert [examples.can_run(command) for command in block.commands] == [True, False, False]


COMMANDS = [
    (page, command)
    for page, text in WRITTEN.items()
    for code in fenced(text, "sh")
    for line in code.replace("\\\n", " ").splitlines()
    for command in re.findall(r"(?:^|-m )(oodles [^#…]*)(?:#.*)?$", line)
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_are_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without running them: what they name may be on a reader's machine alone."""

    def instead_of(function: Any) -> Any:
        return functools.wraps(function)(lambda *given, **flags: 0)

    for name, function in cli.COMMANDS.items():
        monkeypatch.setitem(cli.COMMANDS, name, instead_of(function))
    monkeypatch.setattr(cli, "train", cli.COMMANDS["train"])
    arguments = shlex.split(command)[1:]
    assert cli.main(arguments) == 0
    for flag, known in (("--recipe", recipes()), ("--network", NETWORKS), ("--data", SUITES)):
        if flag in arguments and not set("/:.") & set(named := arguments[arguments.index(flag) + 1]):
            assert named in known
    if arguments[0] == "benchmark" and not arguments[1].endswith(".toml"):
        assert arguments[1] in benchmarks()


def test_commands_are_shown_at_all() -> None:
    assert len(COMMANDS) > 20 and {"comparing", "scaling", "suites", "command-line", "README"} <= {
        page for page, _ in COMMANDS
    }


def test_lines_that_matter_come_first_and_run_last(docs: dict[str, ModuleType]) -> None:
    examples = docs["examples"]
    page = (
        "<!-- last -->\n```python\nprint(x)\n```\n```python\nx = 2\nprint(x + 1)\n```\n```python\nprint(x + 2)\n```\n"
    )
    ran = examples.run_examples(page)
    assert [(block.last, out) for block, out in ran] == [(False, "3\n"), (False, "4\n"), (True, "2\n")]
    shown = examples.with_output(page, "page")
    assert re.findall(
        r"```python\n[^`]*?print\((.*?)\)\n```\n\n```{code-block} text\n:class: output\n(\d)\n```", shown
    ) == [
        ("x", "2"),
        ("x + 1", "3"),
        ("x + 2", "4"),
    ]


def test_a_page_that_lacks_packages_is_shown_as_it_is(
    docs: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = docs["examples"]
    monkeypatch.setitem(examples.WANTED, "page", ("torch", "no_such_package"))
    assert examples.missing("page") == ["no_such_package"] and examples.missing("another page") == []
    page = "```python\nimport no_such_package\n```\n"
    assert examples.with_output(page, "page") == page


def test_the_guides_to_other_libraries_are_all_run(docs: dict[str, ModuleType]) -> None:
    pinned = {line.partition("==")[0] for line in (DOCS / "guests.txt").read_text(encoding="utf-8").splitlines()}
    guests = docs["guests"]
    named = [page for page, text in PAGES.items() if "literalinclude} ../guests.txt" in text]
    assert [*guests.PAGES] == named and {"torch", "torchvision"} <= pinned
    assert {package for page in named for package in docs["examples"].WANTED[page]} <= pinned
    assert all("make guests" in PAGES[page] for page in named)


def test_the_scripts_are_made_of_the_guides(docs: dict[str, ModuleType]) -> None:
    scripts = docs["scripts"].scripts()
    there = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}
    assert there == scripts, "python docs/scripts.py writes them anew"
    for page in (page for page in PAGES if page.startswith("guides/")):
        script = scripts[page.removeprefix("guides/").replace("-", "_") + ".py"]
        compile(script, page, "exec")
        assert not re.search(r"^(shell|main|os|sys) = ", script, flags=re.MULTILINE), "names of the first lines"
        assert all(code.rstrip() in script for code in fenced(PAGES[page], "python"))


def test_a_script_runs_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", ROOT / "examples" / "tables.py"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of known wines are accepted" in done.stdout
    assert (next(tmp_path.glob("oodles-*")) / "verdicts.csv").is_file()


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if fenced(text, "toml")])
def test_toml_examples_are_what_they_are_shown_as(page: str, tmp_path: Path) -> None:
    for text in fenced(PAGES[page], "toml"):
        if "suites" in tomllib.loads(text):
            shown = Benchmark.from_dict(tomllib.loads(text), name="shown", at=tmp_path)
            assert len(shown.tasks(tmp_path)) == len(shown.rows) * len(shown.suites) * len(shown.seeds) > 0
        else:
            path = tmp_path / f"{tomllib.loads(text).get('name', 'shown')}.toml"  # a benchmark may name it further down
            path.write_text(text, encoding="utf-8")
            assert {"train", "test"} <= set(read_description(path))


def test_the_first_detector_is_twenty_lines() -> None:
    first, *_ = fenced(PAGES["first-detector"], "python")
    assert len([line for line in first.splitlines() if line.strip()]) == 20


def test_the_pages_come_in_order() -> None:
    listed = re.findall(r"^[\w/-]+$", " ".join(PAGES["index"].split("```")).replace(" ", "\n"), flags=re.MULTILINE)
    order = ["first-detector", "which-method", "guides/timm", "timeline", "methods/index", "scores", "outliers"]
    order += ["comparing", "writing", "results/index", "costs", "api"]
    assert [name for name in listed if name in order] == order
    assert set(PAGES) - {"index"} <= {*listed}, "every page is in the index"


def test_every_score_and_metric_is_explained() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", PAGES["scores"], flags=re.MULTILINE)
    assert sorted(rows) == sorted([*SCORES, *FURTHER_SCORES, *METRICS])


def test_every_moment_has_a_place_in_the_timeline(docs: dict[str, ModuleType]) -> None:
    pictures = docs["pictures"]
    assert list(pictures.moments()) == list(pictures.PHASES)
    drawn = pictures.timeline()
    assert all(f">{name}</text>" in drawn for name in pictures.PHASES)
    assert "Replace the head, add heads" in drawn and ":meth:" not in drawn and "``" not in drawn


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_shown_at_work(name: str, docs: dict[str, ModuleType]) -> None:
    pictures, facts = docs["pictures"], card(name)
    work = pictures.at_work(name)
    assert set(facts.adds) <= set(work.changed)
    named = {term for other in pictures.beside(facts) for term in card(other).terms}
    assert set(work.terms) <= {"cross_entropy", *facts.terms, *named}
    assert ("cross_entropy" in work.terms) is ("cross-entropy" not in facts.replaces)
    drawn, sheet = pictures.diagram(work), pictures.sheet(work)
    assert all(f">{term}</text>" in drawn for term in work.terms)
    assert all(pictures.shorten(role, 163)[:8] in drawn for role in work.prepared.parts)
    assert sheet.count("<image") == 0 or all(role in sheet for role in work.changed)
    assert len(drawn) + len(sheet) < 40_000


def test_pictures_are_the_same_every_time(docs: dict[str, ModuleType]) -> None:
    pictures = docs["pictures"]
    state = torch.get_rng_state()
    for name in ("cutmix", "ascood"):
        first = pictures.at_work(name)
        pictures.at_work.cache_clear()
        second = pictures.at_work(name)
        assert pictures.diagram(first) == pictures.diagram(second) and pictures.sheet(first) == pictures.sheet(second)
    assert torch.equal(torch.get_rng_state(), state)


def test_pictures_show_what_a_method_does(docs: dict[str, ModuleType]) -> None:
    pictures = docs["pictures"]

    def drawn(name: str) -> str:
        return str(pictures.diagram(pictures.at_work(name)))

    assert "changed" not in drawn("cross-entropy").replace("unchanged", "")
    assert ">64 rows, changed</text>" in drawn("mixup") and ">64 rows, added</text>" in drawn("regmixup")
    assert ">change_outputs</text>" in drawn("logit-norm") and "change_outputs" not in drawn("mixup")
    assert ">Linear, 1 output, added</text>" in drawn("background-class")
    assert pictures.sheet(pictures.at_work("energy-gap")) == ""
    mixed = pictures.at_work("mixup").prepared["id"]
    shares, classes = mixed.targets[2].sort(descending=True)
    named = pictures.at_work("mixup").classes[int(classes[0])]
    assert f">{named}: {float(shares[0]):.2f}</text>" in pictures.sheet(pictures.at_work("mixup"))


def assert_tables_are_whole(page: str) -> None:
    """Check that every row of a table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n?)+", page, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


@pytest.mark.parametrize("name", METHODS)
def test_pages_of_methods_say_what_the_cards_say(name: str, docs: dict[str, ModuleType]) -> None:
    methods, facts = docs["methods"], card(name)
    page = methods.page(facts)
    for text in (facts.summary, facts.when_to_use, facts.cost, facts.caveat, facts.source):
        assert methods.prose(text) in page
    assert all(f"| `{parameter.name}` | `{parameter.flag}` |" in page for parameter in facts.parameters)
    assert str(facts.paper["link"]) in page and f"year = {{{facts.paper['year']}}}" in page
    assert_tables_are_whole(page)
    names: dict[str, Any] = {}
    (example,) = fenced(page, "python")
    exec(example, names)
    built = names["method"]
    assert type(built) is method_class(name)
    assert all(getattr(built, parameter.name) == parameter.default for parameter in facts.parameters)
    (command,) = fenced(page, "sh")
    start = ["--recipe", name] if "weights" in facts.needs else [name]
    teacher = ["--teacher", "path/to/run"] if "teacher" in facts.needs else []
    handed = {"teacher": torch.nn.Identity()} if "teacher" in facts.needs else {}
    try:
        check_composition([method_class(name)(**handed)])
        beside = []
    except ValueError:  # it only prepares outliers
        beside = ["+", "outlier-exposure"]
    chooses = CHOICE in facts.replaces  # of four times as many as it keeps
    size = ["--outlier-batch-size", str(4 * built.kept)] if chooses else []
    data = "digits-wild" if "wild" in facts.needs else "digits"
    assert shlex.split(command) == ["oodles", "train", *start, *beside, *size, "--data", data, *teacher]


def test_recorded_rows_stand_beside_cross_entropy_under_the_same_score(docs: dict[str, ModuleType]) -> None:
    methods = docs["methods"]
    table = docs["recorded"].recorded_table("digits")
    shown = methods.with_plain(table, "energy-gap")
    assert [(score, [group.label for group in groups]) for score, _, groups in shown.blocks] == [
        (score, ["cross-entropy-fine-tuned", "energy-gap"]) for score in ("chosen", "energy")
    ]
    (mine,) = [group for group in table.groups if group.label == "energy-gap"]
    figure = table.figure(mine, "near:digits", "auroc", "energy", "energy")
    text = methods.results("energy-gap")
    assert str(figure.value) in text and figure.against_plain in text and f"n = {mine.seeds}" in text
    assert methods.with_plain(table, "nothing") is None
    plain = methods.with_plain(table, "cross-entropy")
    labels = ["cross-entropy", "cross-entropy-fine-tuned", "cross-entropy-clipped"]
    assert [group.label for group in plain.groups] == labels


def test_the_gallery_shows_what_methods_make_of_images(docs: dict[str, ModuleType]) -> None:
    pictures, drawn = docs["pictures"], docs["methods"].gallery()
    shown = re.findall(r'<a href="methods/([\w-]+)\.html">', drawn)
    assert {"mixup", "cutmix", "pixmix", "generated-outliers"} <= set(shown) and set(shown) <= set(METHODS)
    assert not {"cross-entropy", "logit-norm", "odnl", "manifold-mixup"} & set(shown), "they leave images as they are"
    assert len(shown) == len(set(shown)) > drawn.count("<svg"), "a second view looks the same whoever makes it"
    (views,) = [line for line in re.findall(r"<div>.*?</div>", drawn, flags=re.DOTALL) if "methods/supcon" in line]
    assert views.count("<svg") == 1 and {"cider", "palm"} <= set(re.findall(r"<code>([\w-]+)</code>", views))
    first = pictures.at_work("cutmix").prepared["id"].inputs[0]
    tile = pictures.tile(pictures.at_work("cutmix"))
    assert tile in drawn and tile.count("<image") == pictures.TILE
    assert importlib.import_module("drawing").png(first.numpy()) in tile


def test_words_of_docstrings_mean_nothing_to_markdown(docs: dict[str, ModuleType]) -> None:
    prose, page = docs["recorded"].prose, docs["methods"].index()
    assert prose("|a| * b_c <x> [1] `p | q` :func:`mix`") == r"\|a\| \* b\_c \<x> \[1] `p \| q` `mix`"
    for name in METHODS:
        assert page.count(f"| [`{name}`]({name}.md) |") == 2
    scores = docs["methods"].method_scores()
    for table in (
        page,
        scores,
        docs["methods"].outlier_methods(),
        docs["methods"].methods_without_outliers(),
        *PAGES.values(),
    ):
        assert_tables_are_whole(table)
    assert all(f"| `{name}` |" in scores for name in METHOD_SCORES)


def test_the_api_page_has_every_public_name(docs: dict[str, ModuleType]) -> None:
    import oodles

    api = docs["methods"].api()
    asked = re.findall(r"^\.\. auto\w+:: ([\w.]+)$", api, flags=re.MULTILINE)
    assert {f"oodles.{name}" for name in oodles.__all__} <= set(asked) and len(asked) == len(set(asked))
    assert {f"oodles.scores.{score.__name__}" for score in {**SCORES, **FURTHER_SCORES}.values()} <= set(asked)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    missing = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
    if missing:
        pytest.skip(f"The site needs {', '.join(missing)}: pip install -c constraints.txt -e '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "run_examples=0", DOCS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (*PAGES, "methods/index", *(f"methods/{name}" for name in METHODS)):
        html = (tmp_path / f"{page}.html").read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*src="(http[^"]*)"', html)
        fetched += re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(http[^"]*)"', html)
        assert not fetched, "a page needs no network to be read"
    assert "<svg" in (tmp_path / "methods" / "mixup.html").read_text(encoding="utf-8")
