"""From words of the command line to a command with its arguments; what is mistyped is named in one sentence."""

import functools
import inspect
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff

from oodles.cards import card
from oodles.cli.shown import refuse
from oodles.methods import METHODS, method_class
from oodles.runs.recipe import recipes
from oodles.spelling import nearest, suggestion


@dataclass(frozen=True)
class Flag:
    """What may stand after a flag."""

    takes: type | tuple[str, ...] | None
    """The type of a value, or the values there are; a switch has none."""
    repeatable: bool = False
    together: bool = False
    """It takes any number of values."""

    def fault(self, value: str) -> str:
        """Say what a value must be, if it is something else."""
        if isinstance(self.takes, tuple):
            return "" if value in self.takes else f"one of {', '.join(self.takes)}"
        if self.takes in (int, float):
            try:
                self.takes(value)
            except ValueError:
                return "a whole number" if self.takes is int else "a number"
        return "" if value else "some text"


def parse(command: Callable[..., Any], name: str, arguments: Sequence[str]) -> Callable[..., int | None]:
    """Return the command with its arguments, not yet run: what it raises is no parsing error."""
    if not {"-h", "--help"} & set(arguments):
        flags, positionals = flags_of(command), _positionals(command)
        more = f"oodles {name} --help"
        strays = _check_flags(name, arguments, flags, more, words_between=name != "train")
        if "" in strays:
            refuse(f"{positionals[0][0] if positionals else 'A word'} must be some text, got '': {more}")
        missing = [metavar for metavar, many in positionals[len(strays) :] if metavar[0] != "[" and not many]
        if missing:
            refuse(f"oodles {name} needs {' and '.join(missing)}: {more}")
        if len(strays) > len(positionals) and not any(many for _, many in positionals):
            wanted = f"one {positionals[0][0]}" if len(positionals) == 1 else " and ".join(m for m, _ in positionals)
            refuse(f"oodles {name} takes {wanted or 'flags alone'}, got {', '.join(strays)}: leave the others out.")

    @functools.wraps(command)
    def parsed(*given: Any, **flags: Any) -> Callable[..., int | None]:
        return functools.partial(command, *given, **flags)

    return tyro.cli(parsed, prog=f"oodles {name}", args=arguments, config=(FlagCreatePairsOff,))


def parse_train(train: Callable[..., int | None], arguments: Sequence[str]) -> Callable[[], int | None]:
    """Parse the segments between ``+``, each a method with its flags; those left over are flags of training."""
    segments = _split(arguments, "+")
    names = [segment[0] if segment and not segment[0].startswith("-") else None for segment in segments]
    training = flags_of(train)
    seen: dict[str, str] = {}
    for name in names:
        if name is None and len(segments) > 1:
            refuse("A method must stand on either side of '+': oodles train mixup + outlier-exposure")
        if name is not None and name not in METHODS:
            refuse(_no_method(name))
        if names.count(name) > 1:
            refuse(f"{name} stands there twice: once is enough, with all its flags.")
    if not {"-h", "--help"} & set(arguments):
        for name, segment in zip(names, segments, strict=True):
            _check_segment(name, segment[name is not None :], [one for one in names if one], training, seen)
    chain: list[tuple[str, dict[str, Any]]] = []
    left_over: list[str] = []
    for name, segment in zip(names, segments, strict=True):
        if name is not None:
            settings, segment = _parse_method(name, segment[1:])
            chain.append((name, settings))
        left_over += segment
    return functools.partial(parse(train, "train", left_over), chain=tuple(chain))


def _no_method(name: str) -> str:
    """Say that a word is no method, and what was probably meant."""
    words = [word for word in name.replace("+", " ").replace(",", " ").split() if word]
    if len(words) > 1 and all(word in METHODS for word in words):
        return f"There is no method {name!r}: write oodles train {' + '.join(words)}"
    if name in recipes() or name.endswith(".toml"):
        return f"There is no method {name!r}, but a recipe: write oodles train --recipe {name}"
    return f"There is no method {name!r}{suggestion(name, METHODS)}"


def _check_segment(
    name: str | None, words: Sequence[str], chain: Sequence[str], training: dict[str, Flag], seen: dict[str, str]
) -> None:
    """Refuse what neither a method nor training takes, before anything slow is imported."""
    own = _method_flags(name) if name else {}
    others = {flag: other for other in chain if other != name for flag in _method_flags(other)}
    who, more = (name, f"oodles train {name} --help") if name else ("train", "oodles train --help")
    strays = _check_flags(who, words, {**training, **own}, more, others, seen, own)
    if methods := [word for word in strays if word in METHODS]:
        if name is None:
            refuse(f"A method stands before all flags, got {methods[0]!r} behind them: oodles train {methods[0]} …")
        before = [*chain[: chain.index(name) + 1], *methods]
        refuse(f"Methods are joined by '+', got {methods[0]!r} without one: oodles train {' + '.join(before)}")
    if strays:
        hint = f"write --recipe {strays[0]}" if strays[0] in recipes() else f"see {more}"
        refuse(f"{who} takes flags alone, got {strays[0]!r}: {hint}")


def _parse_method(name: str, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a method that are given, checked by its class, and the arguments that are not its own."""
    facts = card(name)
    try:
        method, left_over = tyro.cli(
            _with_settings_alone(name),
            prog=f"oodles train {name}",
            description=f"{facts.summary}\n\nFlags of training, such as --data and --seed: oodles train --help",
            args=arguments,
            return_unknown_args=True,
            config=(FlagCreatePairsOff,),
        )
    except (TypeError, ValueError) as error:  # of functions: tyro shows those of classes itself
        refuse(str(error))
    flags = {word.split("=")[0].replace("_", "-") for word in arguments}
    given = [parameter.name for parameter in facts.parameters if parameter.flag in flags]
    return {name: getattr(method, name) for name in given}, left_over


def _with_settings_alone(name: str) -> Callable[..., Any]:
    """Return a method's class, or a function where it takes what no line can say: an argument that is no setting, or
    functions among its settings; or no settings at all, since tyro parses no class that takes nothing.
    """
    cls, settings = method_class(name), [parameter.name for parameter in card(name).parameters]
    signature, given = inspect.signature(cls), get_type_hints(cls.__init__)
    written = {key: _written(given[key]) for key in settings}
    if settings and list(signature.parameters) == settings and all(given[key] == written[key] for key in settings):
        return cls

    def build(**given: Any) -> Any:
        return cls(**given)

    hints: Any = build
    hints.__doc__, hints.__annotations__ = cls.__doc__, written
    hints.__signature__ = signature.replace(parameters=[signature.parameters[key] for key in settings])
    return build


def _written(hint: Any) -> Any:
    """Return the type of a setting on a line: of values in a tuple that may be names or functions, names."""
    first = next(iter(get_args(hint)), None)
    return tuple[str, ...] if get_origin(hint) is tuple and str in get_args(first) else hint


def _check_flags(
    who: str,
    words: Sequence[str],
    flags: dict[str, Flag],
    more: str,
    others: dict[str, str] | None = None,
    seen: dict[str, str] | None = None,
    own: Container[str] = (),
    *,
    words_between: bool = False,
) -> list[str]:
    """Refuse unknown flags, values that are missing, of another type or one too many; return words of no flag.

    Args:
        who: the command or the method, for sentences.
        words: of the command line.
        flags: those that may be given.
        more: the command that tells more.
        others: flags that belong to another method of the line, and to which.
        seen: values of flags that were given before, which it adds to.
        own: flags that may be given once for each method.
        words_between: words of no flag may stand anywhere, also behind a flag's value.
    """
    seen = {} if seen is None else seen
    mine: dict[str, str] = {}
    strays: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not _is_flag(word):
            strays.append(word)
            continue
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in flags:
            refuse(f"{who} has no flag {name}{_flag_hint(name, flags, others or {}, more)}")
        flag = flags[name]
        if flag.takes is None:
            if equals:
                refuse(f"{name} takes no value, got {value!r}: write {name} alone, or leave it out.")
            continue
        values = [value] if equals else []
        while not equals and left and not _is_flag(left[0]) and (flag.together or not values):
            values.append(left.pop(0))
        if not values and not flag.together:
            refuse(f"{name} must have a value, got none: {more}")
        for value in values:
            if fault := flag.fault(value):
                refuse(f"{name} must be {fault}, got {value!r}.")
        given = mine if name in own else seen
        if name in given and not flag.repeatable:
            refuse(f"{name} is given twice, {given[name]} and {' '.join(values)}: give it once.")
        given[name] = " ".join(values)
        if not words_between:
            for extra in left[:1]:
                if not flag.together and not _is_flag(extra) and extra not in METHODS:
                    refuse(f"{name} takes one value, got {values[0]!r} and {extra!r}.")
    return strays


def _is_flag(word: str) -> bool:
    """Tell flags from values, among which are negative numbers."""
    try:
        float(word)
    except ValueError:
        return word.startswith("-") and word != "-"
    return False


def _flag_hint(name: str, flags: dict[str, Flag], others: dict[str, str], more: str) -> str:
    """End a sentence about an unknown flag."""
    if name in others:
        return f": write it behind {others[name]}, whose flag it is."
    known = [flag.removeprefix("--") for flag in flags]
    word = name.lstrip("-")
    starts = [flag for flag in known if word and flag.startswith(word)]
    near = starts[0] if len(starts) == 1 else nearest(word, known, cutoff=0.7)
    return f": did you mean '--{near}'?" if near else f": {more} lists those there are."


def flags_of(command: Callable[..., Any]) -> dict[str, Flag]:
    """Return the flags of a command, from its signature."""
    flags: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        if is_dataclass(group := parameter.default):  # flags that stand together in help
            flags |= {field.name: field.type for field in fields(group)}
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "chain":
            flags[parameter.name] = parameter.annotation
    # for_ stands for a word that Python keeps for itself
    return {f"--{name.rstrip('_').replace('_', '-')}": _flag(annotation) for name, annotation in flags.items()}


def _flag(annotation: Any) -> Flag:
    marked: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        marked += more
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is tuple:
        return Flag(get_args(annotation)[0], repeatable=True)
    if get_origin(annotation) is Literal:
        return Flag(get_args(annotation))
    return Flag(None if annotation is bool else annotation)


def _method_flags(name: str) -> dict[str, Flag]:
    """Return the flags of a method, from its card."""
    kinds: dict[str, type | None] = {"float": float, "int": int, "bool": None}
    flags = {}
    for parameter in card(name).parameters:
        together = parameter.type.startswith("tuple[")
        kind = parameter.type.removeprefix("tuple[").partition(",")[0]
        flags[parameter.flag] = Flag(kinds.get(kind, str), together=together)
    return flags


def _positionals(command: Callable[..., Any]) -> list[tuple[str, bool]]:
    """Return what a command takes besides flags: its name in help, and whether there may be many."""
    found = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            kind, *marked = get_args(parameter.annotation)
            found.append((next(m.metavar for m in marked if getattr(m, "metavar", None)), get_origin(kind) is tuple))
    return found


def _split(arguments: Sequence[str], separator: str) -> list[list[str]]:
    segments: list[list[str]] = [[]]
    for argument in arguments:
        if argument == separator:
            segments.append([])
        else:
            segments[-1].append(argument)
    return segments
