"""Arguments are what their annotations say: one check for every function whose annotations give types and shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from numbers import Integral
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from torch import Generator, Tensor, nn

from oodles.spelling import shown

P = ParamSpec("P")
R = TypeVar("R")

NEVER_EMPTY = frozenset({"c", "f", "channels", "h", "w"})
"""Names of dimensions that hold one number at least: classes, features, channels and pixels. Of rows there may be none.
"""
COMPUTED = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.complex64, torch.complex128),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)
"""The types that torch computes with, or converts to such."""
Sizes = dict[int | str, tuple[Any, str]]
"""What each name of a dimension stands for in a call, one size or for ``*name`` several, and the argument that said so.
"""


def shapes_checked(function: Callable[P, R], *, as_in: Callable[..., Any] | None = None) -> Callable[P, R]:
    """Make a function refuse arguments that are not what their annotations say, before it runs.

    Looked at are jaxtyping's types of tensors, in which a name of a dimension stands for one size in all arguments, and
    tensors, numbers, words, generators and modules, alone or as one of several (``float | Float[Tensor, " n"]``). An
    argument that is annotated with anything else may be anything. Tracing skips the check.

    Args:
        function: to be checked.
        as_in: a function with the same arguments, whose annotations hold where its own say no shape.

    Raises:
        TypeError: by the function, for arguments of another type.
        ValueError: by the function, for tensors of another shape.

    Example:
        >>> from jaxtyping import Float
        >>> @shapes_checked
        ... def gap(a: Float[Tensor, "n c"], b: Float[Tensor, "m c"]) -> Tensor:
        ...     return a.mean() - b.mean()
        >>> gap(torch.zeros(2, 4), torch.zeros(3, 5))
        Traceback (most recent call last):
        ValueError: b must have shape (m, c) with c = 4, as a has, got (3, 5).
    """
    kinds = {one.name: _kinds(one.annotation, function) for one in signature(as_in or function).parameters.values()}
    parameters = signature(function).parameters.values()
    if as_in is not None:
        own = {one.name: _kinds(one.annotation, function) for one in parameters}
        kinds |= {name: one for name, one in own.items() if any(isinstance(kind, _Tensors) for kind in one)}
    in_order = [(one.name, kinds.get(one.name, ())) for one in parameters if one.kind <= one.POSITIONAL_OR_KEYWORD]
    repeated = [one.name for one in parameters if one.kind is one.VAR_POSITIONAL and kinds.get(one.name)]
    if not any(kinds.values()):
        return function

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.compiler.is_compiling():
            sizes: Sizes = {}
            for (name, allowed), value in zip(in_order, args, strict=False):
                if allowed:
                    _check(name, allowed, value, sizes)
            for name in repeated:
                for index, value in enumerate(args[len(in_order) :]):
                    _check(f"{name}[{index}]", kinds[name], value, sizes)
            for name, value in kwargs.items():
                if allowed := kinds.get(name, ()):
                    _check(name, allowed, value, sizes)
        return function(*args, **kwargs)

    return checked


@dataclass(frozen=True)
class _Tensors:
    """Tensors of some types and one shape; the dimension in ``place`` stands for any number of them."""

    word: str
    dtypes: frozenset[torch.dtype] | None
    dimensions: tuple[int | str, ...]
    place: int | None

    def fits(self, name: str, shape: Sequence[Any], sizes: Sizes) -> bool:
        """Tell whether a shape is this one where names stand for ``sizes``; if so, add what further names stand for."""
        given, place, more = shape, self.place, len(shape) - len(self.dimensions)
        if place is not None and more >= -1:
            stop = place + more + 1
            given = (*shape[:place], tuple(shape[place:stop]), *shape[stop:])
        elif more:
            return False
        for dimension, size in zip(self.dimensions, given, strict=True):
            if dimension in sizes:
                agrees = sizes[dimension][0] == size
            elif dimension.__class__ is int:
                agrees = size == dimension
            else:
                agrees = bool(size) or dimension not in NEVER_EMPTY
                if dimension:
                    sizes[dimension] = size, name
            if not agrees:
                for new in [known for known, (_, owner) in sizes.items() if owner == name]:
                    del sizes[new]
                return False
        return True

    def described(self, sizes: Sizes) -> str:
        """Describe the shape, what its names stand for, and which arguments have said so."""
        words = [str(dimension or "…") for dimension in self.dimensions]
        if self.place is not None:
            inside = self.dimensions[self.place]
            words[self.place : self.place + 1] = map(str, sizes[inside][0]) if inside in sizes else ["…"]
        names = [one for place, one in enumerate(self.dimensions) if isinstance(one, str) and place != self.place]
        values = [f"{one} = {sizes[one][0]}" for one in dict.fromkeys(names) if one in sizes]
        values += [f"{one} at least 1" for one in names if one in NEVER_EMPTY and one not in sizes]
        owners = list(dict.fromkeys(sizes[one][1] for one in self.dimensions if one in sizes))
        shape = f"({', '.join(words)}{',' * (len(words) == 1)})"
        have = f", as {_listed(owners, 'and')} {'have' if len(owners) > 1 else 'has'}" * bool(owners)
        return f"shape {shape}{' with ' * bool(values)}{_listed(values, 'and')}{have}"


_Kind = _Tensors | type
_WORDS = {"whole numbers": torch.int64, "floating point": torch.float32}
_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a word",
    Tensor: "a tensor",
    type(None): "left out",
}


def _kinds(annotation: Any, function: Callable[..., Any]) -> tuple[_Kind, ...]:
    """Return what an annotation allows; nothing where not all of it can be looked at."""
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(function, "__globals__", {}))
        except Exception:  # no Python, or a name that only type checkers see
            return ()
    union = get_origin(annotation) in (UnionType, Union)
    kinds = [_kind(one) for one in (get_args(annotation) if union else (annotation,))]
    return tuple(kind for kind in kinds if kind is not None) if None not in kinds else ()


def _kind(annotation: Any) -> _Kind | None:
    if not isinstance(annotation, type):
        return None
    if getattr(annotation, "array_type", None) is Tensor:
        return _tensors(annotation)
    return annotation if annotation in (*_NAMES, Generator) or issubclass(annotation, nn.Module) else None


def _tensors(annotation: Any) -> _Tensors:
    """Read one of jaxtyping's types; a dimension that is neither a name nor a number may have any size."""
    names = annotation.dtypes if isinstance(annotation.dtypes, tuple | list) else None
    dtypes = None if names is None else frozenset(one for one in COMPUTED if str(one).removeprefix("torch.") in names)
    dimensions: list[int | str] = []
    place = None
    for word in annotation.dim_str.split():
        name = word.removeprefix("*")
        if name != word or word == "...":
            place = len(dimensions)
        known = name.isidentifier() and not name.startswith("_")
        dimensions.append(int(name) if name.isdecimal() else name if known else "")
    words = [word for word, one in _WORDS.items() if dtypes is None or (one in dtypes and len(dtypes) > 1)]
    return _Tensors(" or ".join(words or sorted(map(str, dtypes or ()))), dtypes, tuple(dimensions), place)


def _check(name: str, allowed: tuple[_Kind, ...], value: Any, sizes: Sizes) -> None:
    """Refuse a value that is nothing of what is allowed."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got {value.layout}: convert it with {name}.to_dense().")
        for kind in allowed:
            if kind.__class__ is _Tensors:
                if (kind.dtypes is None or value.dtype in kind.dtypes) and kind.fits(name, value.shape, sizes):
                    return
            elif kind is Tensor or (kind is float and not value.ndim and _is_number(value.dtype)):
                return
    else:
        for kind in allowed:
            if kind.__class__ is not _Tensors and _is(value, kind):  # type: ignore[arg-type]  # a type, then
                if kind is Generator and value.device.type != "cpu":
                    raise ValueError(f"{name} must be a generator on the CPU, got one on {value.device}.")
                return
    raise _refusal(name, allowed, value, sizes)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.complexfloating)
    if kind is bool:
        return isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1))
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, kind)


def _is_number(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype in (torch.int32, torch.int64)


def _refusal(name: str, allowed: tuple[_Kind, ...], value: Any, sizes: Sizes) -> Exception:
    """Return the sentence about a value that is nothing of what is allowed."""
    tensors = [kind for kind in allowed if isinstance(kind, _Tensors)]
    others = [_NAMES.get(kind, f"a {kind.__name__}") for kind in allowed if isinstance(kind, type)]
    if not isinstance(value, Tensor) or not tensors:
        word = _listed([kind.word for kind in tensors], "or")
        wanted = ["a floating-point tensor" if word == "floating point" else f"a tensor of {word}"] if tensors else []
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
        return TypeError(f"{name} must be {_listed([*wanted, *others], 'or')}, got {got}.")
    shape = tuple(value.shape)
    right = [kind for kind in tensors if kind.dtypes is None or value.dtype in kind.dtypes]
    other = [kind for kind in tensors if kind not in right and kind.fits(name, shape, dict(sizes))]
    hint = ""
    for kind in other or (tensors if not right else ()):
        if kind.word in _WORDS and value.dtype != torch.bool and not value.is_complex():
            hint = f": convert it with {name}.{'float' if kind.word == 'floating point' else 'long'}()"
    if not right:
        words = _listed([*(kind.word for kind in tensors), *(one for one in others if one != "left out")], "or")
        return TypeError(f"{name} must be {words}, got {value.dtype}{hint}.")
    wanted = [kind.described(sizes) for kind in right]
    of = f" of {value.dtype}" if len(tensors) > len(right) else ""
    return ValueError(f"{name}{of} must have {_listed(wanted, 'or')}, got {shape}{hint}.")


def _listed(words: Sequence[str], last: str) -> str:
    return " ".join([", ".join(words[:-1]), last, words[-1]]) if len(words) > 1 else "".join(words)
