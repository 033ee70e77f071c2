"""The facts of every method, read from its file without importing torch.

Facts are literals in the class body (see :class:`oodles.contract.Method`); the command line and the documentation take
them from here.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from textwrap import fill
from typing import Any

from oodles.facts import DERIVED, FACTS, HOOKS, ROLES, roles_read, things_replaced
from oodles.methods import METHODS, STEP_TIMES, scores_of
from oodles.spelling import suggestion

_HERE = Path(__file__).parent
_SECTIONS = ("When to use", "Cost", "Caveat", "Args", "Raises", "Source", "Example")
_HEADER = re.compile(rf"^({'|'.join(_SECTIONS)}):\s*(.*)$")


KINDS = ("images", "features", "text")
"""What rows may be: an encoder makes features of texts."""
SITUATIONS = {
    "no outliers": "train cross-entropy and choose the score; where you train anew, regmixup costs no accuracy.",
    "outliers": "outlier-exposure from scratch, with outliers of the sort that you will meet; others bring nothing.",
    "pretrained": "fine-tune with generated-outliers + outlier-exposure, with outliers of the sort that you will meet; "
    "without any, oodles adopt.",
    "only logits": "isomax, or with outliers of the sort that you will meet energy-bounded.",
}
"""What somebody may have to work with, and what to do then; recorded runs bear it out."""
NEEDS = {
    "vectors": "one feature vector and one label a row, as classifiers of whole images, tables and texts have",
    "linear-head": "a linear last layer",
    "unit-range": "inputs in [0, 1]",
    "weights": "a trained classifier to start from",
    "teacher": "a trained classifier to learn from",
    "wild": "rows without labels, of known and unknown kinds",
}
"""What a method may need, where the word alone does not say it."""
LOGIT_SCORES = ("msp", "max-logit", "energy", "entropy")
"""Scores that need neither features nor training rows."""


@dataclass(frozen=True)
class Parameter:
    """A hyper-parameter: its annotation as written, its default and what the docstring says about it."""

    name: str
    type: str
    default: object
    help: str

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Card:
    """The facts of one method; :class:`oodles.contract.Method` says what each of them means."""

    name: str
    class_name: str
    summary: str
    when_to_use: str
    cost: str
    caveat: str
    source: str
    paper: Mapping[str, str | int]
    score: str
    brings: tuple[str, ...]
    strength: str | None
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    adds: tuple[str, ...]
    shares: tuple[str, ...]
    views: tuple[str, ...]
    consumes: tuple[str, ...]
    terms: tuple[str, ...]
    measures: tuple[str, ...]
    heads: tuple[str, ...]
    replaces: tuple[str, ...]
    separate: tuple[str, ...]
    as_tested: tuple[str, ...]
    differentiates: tuple[str, ...]
    trains_away: tuple[str, ...]
    suggests: tuple[str, ...]
    measured_on: tuple[str, ...]
    moments: tuple[str, ...]
    step_time: float | None
    """The time of a training step over a plain one, where it was measured."""
    fine_tunes: bool
    """Whether its published schedule starts from a trained network."""
    parameters: tuple[Parameter, ...]
    """Without a teacher, which is no setting: it is among what the method needs."""

    def acts(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether a method with these settings does anything: at strength zero it does not."""
        return self.strength is None or settings.get(self.strength) != 0

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the kinds of rows that the method takes, of :data:`KINDS`: without need of pixels, all of them."""
        return ("images",) if {"images", "unit-range"} & set(self.needs) else KINDS

    def suits(self, what: str) -> bool:
        """Tell whether the method is for a kind of rows, or for a situation of :data:`SITUATIONS`."""
        return what in (
            *self.takes,
            "outliers" if "outliers" in self.needs else "no outliers" if not set(ROLES) & set(self.needs) else "",
            "pretrained" if self.fine_tunes else "",
            "only logits" if self.score in LOGIT_SCORES else "",
        )

    @property
    def reference(self) -> str:
        """Authors, venue and year in a few words."""
        first, *others = str(self.paper["authors"]).split(", ")
        return f"{first}{' et al.' if others else ''}, {self.paper['venue']} {self.paper['year']}"


@cache
def card(name: str) -> Card:
    """Read the card of the method with this command-line name.

    Raises:
        ValueError: for a name that no method has; the sentence suggests the nearest method.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method {name!r}{suggestion(name, METHODS)}")
    body = _class_body(_HERE / "methods" / f"{name.replace('-', '_')}.py", METHODS[name])
    contract = _class_body(_HERE / "contract.py", "Method")
    functions = _functions(body)
    text = cleandoc(_docstring(body)).replace("``", "`")
    sections = _sections(text)
    literals = {**_assignments(contract), **_assignments(body)}
    facts = {name: value for name, value in literals.items() if name in (*FACTS, *DERIVED)}
    moments = tuple(hook for hook in HOOKS if hook in functions)
    facts |= {
        "reads": roles_read(facts["needs"], facts["adds"], facts["consumes"]),
        "replaces": things_replaced(facts["replaces"], moments),
        "moments": moments,
    }
    return Card(
        brings=scores_of(name),
        class_name=METHODS[name],
        summary=" ".join(text.split("\n\n")[0].split()),
        when_to_use=sections.get("When to use", ""),
        cost=sections.get("Cost", ""),
        caveat=sections.get("Caveat", ""),
        source=sections.get("Source", ""),
        step_time=STEP_TIMES.get(name),
        fine_tunes="weights" in facts["needs"] or "weights" in _recipe(name),
        parameters=tuple(
            parameter
            for parameter in _parameters(functions.get("__init__"), _entries(sections.get("Args", "")))
            if parameter.name not in facts["needs"]
        ),
        **facts,
    )


def cards() -> tuple[Card, ...]:
    """Return the cards of all methods, in the order of :data:`oodles.methods.METHODS`."""
    return tuple(card(name) for name in METHODS)


def overview(what: str = "images") -> str:
    """List the methods for a kind of rows or a situation, two lines each, for a terminal; and what to do in it."""
    listed = [method for method in cards() if method.suits(what)]
    name, paper = (max(map(len, column)) for column in zip(*((m.name, m.reference) for m in listed), strict=True))
    advised = [what] if what in SITUATIONS else ["no outliers", "outliers"]
    lines = [fill(f"{situation}: {SITUATIONS[situation]}", 100, subsequent_indent="  ") for situation in advised]
    lines += ["", f"{'method':{name}}  {'paper':{paper}}  step over a plain one"]
    for method in listed:
        time = f"{method.step_time:4.1f} ×" if method.step_time else "     –"
        about = ["fine-tunes"] * method.fine_tunes + [f"needs {', '.join(method.needs)}"] * bool(method.needs)
        lines.append(f"{method.name:{name}}  {method.reference:{paper}}  {time}  {', '.join(about)}".rstrip())
        lines.append(_wrapped(method.summary))
    needed = {need for method in listed for need in method.needs}
    words = "; ".join(f"{need}: {meaning}" for need, meaning in NEEDS.items() if need in needed)
    lines += ["", *([fill(f"{words}.", 100, subsequent_indent="  ")] if words else [])]
    return "\n".join([*lines, "oodles methods NAME tells more; oodles train NAME trains with it."])


def describe(method: Card) -> str:
    """Describe one method, for a terminal."""
    paper = method.paper
    facts = {
        "when to use": method.when_to_use,
        "cost": method.cost,
        "caveat": method.caveat,
        "source": method.source,
        "step": f"{method.step_time:.1f} times as long as a plain one" if method.step_time else "",
        "fine-tunes": "a trained network, in the published schedule" if method.fine_tunes else "",
        "needs": ", ".join(method.needs),
        "terms": ", ".join(method.terms),
        "moments": ", ".join(method.moments),
        "score": method.score,
        "off at": f"--{method.strength.replace('_', '-')} 0" if method.strength else "",
        "class": f"oodles.{method.class_name}",
        "paper": f"{paper['title']}. {paper['authors']}. {paper['venue']} {paper['year']}. {paper['link']}",
        "code": str(paper["code"]),
    }
    return "\n".join(
        [
            method.name,
            _wrapped(method.summary),
            "",
            *(
                fill(
                    value,
                    100,
                    initial_indent=f"  {key:13}",
                    subsequent_indent=" " * 15,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                for key, value in facts.items()
                if value
            ),
            "",
            *(_wrapped(f"{p.flag} {p.type} (default {p.default}): {p.help}") for p in method.parameters),
        ]
    ).rstrip()


def _wrapped(text: str) -> str:
    return fill(text, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _recipe(name: str) -> Mapping[str, Any]:
    """Return the recipe of a method's name as it is written; nothing where there is none."""
    path = _HERE / "recipes" / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _class_body(path: Path, class_name: str) -> list[ast.stmt]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)


def _docstring(body: list[ast.stmt]) -> str:
    match body[0]:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return ""


def _functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def _assignments(body: list[ast.stmt]) -> dict[str, Any]:
    """Return the literals of a class body by name; ``Paper(…)`` becomes a dictionary of its fields."""
    literals: dict[str, Any] = {}
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                literals[name] = _literal(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                literals[name] = _literal(value)
    return literals


def _literal(value: ast.expr) -> object:
    if isinstance(value, ast.Call):
        fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in value.keywords if keyword.arg}
        return {"code": "", **fields}
    return ast.literal_eval(value)


def _parameters(init: ast.FunctionDef | None, helps: Mapping[str, str]) -> Iterator[Parameter]:
    if init is None:
        return
    given = [*init.args.args[1:], *init.args.kwonlyargs]
    defaults = [*init.args.defaults, *init.args.kw_defaults]
    for argument, default in zip(given, defaults, strict=True):
        if argument.annotation is not None and default is not None:
            value = ast.literal_eval(default)
            yield Parameter(argument.arg, ast.unparse(argument.annotation), value, helps.get(argument.arg, ""))


def _sections(text: str) -> dict[str, str]:
    """Return the parts of a docstring that begin with one of the known words, up to the next one or a blank line."""
    sections: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[1]
            sections[name] = [header[2]] if header[2] else []
        elif name is not None and line.strip():
            sections[name].append(line)
        else:
            name = None
    return {name: ("\n" if name == "Args" else " ").join(map(str.rstrip, lines)) for name, lines in sections.items()}


def _entries(arguments: str) -> dict[str, str]:
    """Return the ``name: text`` entries of a docstring's ``Args``, continuation lines joined."""
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
