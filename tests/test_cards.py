"""The cards, read from source, against the classes, imported."""

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, get_origin, get_type_hints

import pytest

from oodles import Method, cards
from oodles.methods import METHODS, STEP_TIMES, method_class
from oodles.runs.recipe import Recipe, recipes
from oodles.scores import SCORES

ROOT = Path(__file__).parent.parent

ALL = [pytest.param(cards.card(name), method_class(name), id=name) for name in METHODS]


def hooks(cls: type) -> dict[str, object]:
    """The moments of training, by name."""
    return {name: value for name, value in vars(cls).items() if inspect.isfunction(value)}


@pytest.mark.parametrize(("card", "cls"), ALL)
def test_facts_are_those_of_the_class(card: cards.Card, cls: type[Method]) -> None:
    named = {name for name, kind in Method.__annotations__.items() if get_origin(kind) is ClassVar}
    facts = [name for name in named if name not in ("name", "paper") and not name.startswith("_")]
    assert "strength" in facts and "separate" in facts
    assert {name: getattr(card, name) for name in facts} == {name: getattr(cls, name) for name in facts}
    assert (card.name, card.class_name) == (cls.name, cls.__name__)
    assert card.paper == dataclasses.asdict(cls.paper)
    assert bool(card.suggests) == ("suggest" in vars(cls))
    assert set(card.suggests) <= {parameter.name for parameter in card.parameters}


@pytest.mark.parametrize(("card", "cls"), ALL)
def test_moments_are_the_hooks_that_the_class_overrides(card: cards.Card, cls: type[Method]) -> None:
    expected = [name for name, hook in hooks(Method).items() if getattr(cls, name) is not hook]
    assert list(card.moments) == expected and expected


@pytest.mark.parametrize(("card", "cls"), ALL)
def test_parameters_are_the_signature(card: cards.Card, cls: type[Method]) -> None:
    signature = inspect.signature(cls).parameters
    assert [parameter.name for parameter in card.parameters] == [name for name in signature if name not in cls.needs]
    hints = get_type_hints(cls.__init__)
    built = cls()
    for parameter in card.parameters:
        assert eval(parameter.type, vars(inspect.getmodule(cls))) == hints[parameter.name]
        assert parameter.default == signature[parameter.name].default == getattr(built, parameter.name)
        assert type(parameter.default) is type(signature[parameter.name].default)


@pytest.mark.parametrize(("card", "cls"), ALL)
def test_docstring_follows_the_template(card: cards.Card, cls: type[Method]) -> None:
    assert card.summary == " ".join(str(inspect.getdoc(cls)).split("\n\n")[0].split())
    for text in (card.summary, card.when_to_use, card.cost, card.caveat, card.source):
        assert text.endswith("."), "a whole sentence"
    assert all(parameter.help.endswith(".") for parameter in card.parameters), "every hyper-parameter is explained"
    assert all(str(card.paper[field]) for field in ("title", "authors", "venue", "link"))
    assert str(card.paper["link"]).startswith("https://")


def test_every_method_has_a_card_in_order() -> None:
    assert [card.name for card in cards.cards()] == list(METHODS)


def test_card_is_read_as_written() -> None:
    card = cards.card("energy-bounded")
    assert card.reference == "Liu et al., NeurIPS 2020"
    assert card.needs == ("outliers",) and card.moments == ("loss_terms",) and card.suggests
    assert card.parameters[1].flag == "--margin-in" and card.parameters[1].default == -25.0
    assert card.parameters[1].help == "m_in, the energy below which in-distribution rows are left alone."
    assert card.cost == "the outliers' rows in the forward pass."
    assert card.source.startswith("Liu et al., equation 8.") and card.source.endswith("learning rate of 0.001.")


def test_a_reference_by_one_author_is_not_et_al() -> None:
    card = cards.card("mixup")
    assert card.reference == "Zhang et al., ICLR 2018"
    assert dataclasses.replace(card, paper={**card.paper, "authors": "Zhang"}).reference == "Zhang, ICLR 2018"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mixpu", "There is no method 'mixpu': did you mean 'mixup'?"),
        ("zzz", "There is no method 'zzz': expected one of cross-entropy, mixup, cutmix"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(name: str, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        cards.card(name)
    assert str(error.value).startswith(sentence)


def test_texts_say_what_the_cards_say() -> None:
    listed = [line.split() for line in cards.overview().splitlines()]
    for card in cards.cards():
        words = next(line for line in listed if line[:1] == [card.name])
        time = f"{card.step_time:.1f}" if card.step_time else "–"
        assert " ".join(words).startswith(f"{card.name} {card.reference} {time}")
        assert ("fine-tunes" in " ".join(words)) is card.fine_tunes
        assert " ".join(words).endswith(f"needs {', '.join(card.needs)}" if card.needs else ("×", "–", "fine-tunes"))
    text = cards.describe(cards.card("mixup"))
    assert "off at       --alpha 0" in text and "--per-sample bool (default False)" in text
    assert "https://arxiv.org/abs/1710.09412" in text and "class        oodles.Mixup" in text
    text = cards.describe(cards.card("outlier-exposure"))
    assert "step         2.0 times as long as a plain one" in text and "fine-tunes   a trained network" in text


def test_methods_are_told_apart_by_situation() -> None:
    found = {word: {card.name for card in cards.cards() if card.suits(word)} for word in cards.SITUATIONS}
    assert {"mixup", "cutmix", "generated-outliers"} <= found["no outliers"] and "woods" not in found["no outliers"]
    assert {"outlier-exposure", "dos"} <= found["outliers"] and not found["outliers"] & found["no outliers"]
    assert {"outlier-exposure", "energy-bounded", "mixoe", "woods"} <= found["pretrained"]
    assert not {"mixup", "isomax"} & found["pretrained"]
    assert {"isomax", "energy-bounded"} <= found["only logits"] and not {"cider", "rotation"} & found["only logits"]
    for word, names in found.items():
        advice, listing, _ = cards.overview(word).split("\n\n")
        assert advice.startswith(f"{word}: ")
        assert {line.split()[0] for line in listing.splitlines()[1:] if line[0] != " "} == names


def test_the_list_says_what_its_words_mean() -> None:
    assert {*cards.NEEDS} <= {need for card in cards.cards() for need in card.needs}
    told = " ".join(cards.overview("no outliers").split())
    assert "vectors: one feature vector and one label a row" in told and "teacher: a trained classifier" in told
    assert "wild:" not in told and "wild: rows without labels" in " ".join(cards.overview().split())


def test_a_schedule_fine_tunes_where_its_recipe_has_weights() -> None:
    for card in cards.cards():
        weights = Recipe.load(card.name).weights if card.name in recipes() else None
        assert card.fine_tunes is (weights is not None or "weights" in card.needs)


def test_scores_of_logits_are_those_of_the_module() -> None:
    of_logits = {name for name, cls in SCORES.items() if cls.__module__ == "oodles.scores.of_logits"}
    assert of_logits == {*cards.LOGIT_SCORES}


def test_step_times_are_the_recorded_ones() -> None:
    recorded = json.loads((ROOT / "benchmarks" / "results" / "steps.json").read_text(encoding="utf-8"))["steps"]
    times = {name: round(row["rows"] * row["ratio"], 1) for name, row in recorded.items()}
    assert times == STEP_TIMES, "oodles/methods/__init__.py: they are rows × ratio of benchmarks/results/steps.json"


def test_cards_need_no_torch() -> None:
    program = "import sys; from oodles.cards import cards; assert len(cards()) > 7; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"


def test_sections_and_entries_join_continued_lines() -> None:
    text = "One line.\n\nCost: much\nmore.\n\nArgs:\n    alpha: first\n        and on.\n    beta_gamma: second.\n\nEnd."
    sections = cards._sections(text)
    assert sections["Cost"] == "much more." and set(sections) == {"Cost", "Args"}
    assert cards._entries(sections["Args"]) == {"alpha": "first and on.", "beta_gamma": "second."}
