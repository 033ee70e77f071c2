"""What there is to train with: ``oodles methods``."""

from dataclasses import asdict
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from oodles.cards import card, cards, describe, overview
from oodles.cli.shown import print_json, refuse
from oodles.methods import METHODS
from oodles.spelling import suggestion


def methods(
    name: Annotated[str, Positional, arg(metavar="[NAME]")] = "",
    /,
    *,
    for_: Annotated[
        Literal["images", "features", "text", "no outliers", "outliers", "pretrained", "only logits"], arg(name="for")
    ] = "images",
    json: bool = False,
) -> None:
    """List the methods, or describe one: what it changes, when to use it, its paper and its flags.

    Args:
        name: of one method.
        for_: list those that take such rows, or are for such a situation: no outliers or some at hand, a pretrained
            network to fine-tune, only logits in production.
        json: print one JSON document.
    """
    if name and name not in METHODS:
        refuse(f"There is no method {name!r}{suggestion(name, METHODS)}")
    chosen = (card(name),) if name else tuple(method for method in cards() if method.suits(for_))
    if json:
        print_json([{**asdict(method), "takes": method.takes} for method in chosen])
    else:
        print(describe(*chosen) if name else overview(for_))
