"""What follows from the facts of methods: what they read and replace, their turns, and what is refused.

Tables and the command line read facts without importing torch, so nothing here imports it.
"""

from collections.abc import Iterable, Sequence
from types import FunctionType
from typing import Any

from oodles.spelling import nearest, suggestion

HOOKS = (
    "change_classifier",
    "parameter_groups",
    "start_epoch",
    "change_batch",
    "change_weights",
    "layers",
    "change_hidden",
    "change_outputs",
    "loss_terms",
    "change_sum",
    "after_update",
)
"""The moments of training, in time."""
FACTS = (
    "name",
    "paper",
    "score",
    "strength",
    "needs",
    "adds",
    "shares",
    "views",
    "consumes",
    "terms",
    "measures",
    "heads",
    "replaces",
    "separate",
    "as_tested",
    "differentiates",
    "trains_away",
    "suggests",
    "measured_on",
)
DERIVED = ("reads", "moments")
"""Facts that follow from the others."""
RENAMED = {"change_loss": "loss_terms", "asks": "heads"}
"""Former names of hooks and facts."""

NAMES = tuple(fact for fact in FACTS if fact not in ("name", "paper", "score", "strength"))
"""The facts that are tuples of names."""
PLAIN_TERM = "cross_entropy"
"""The term of plain training, which is the step's own."""

ROLES = ("outliers", "wild")
"""Parts that come with a batch, besides ``id``."""
NEEDS = (*ROLES, "images", "unit-range", "vectors", "linear-head", "weights", "teacher")
INPUTS = "in-distribution inputs"
CHOICE = "choice of outliers"
OUTLIER_LABELS = "labels of outliers"
REPLACES: dict[str, tuple[str, ...]] = {
    INPUTS: ("change_batch",),
    CHOICE: ("change_batch",),
    "outliers": ("change_batch",),
    OUTLIER_LABELS: ("change_batch",),
    "head": ("change_classifier",),
    "lengths of features": ("change_classifier", "change_outputs", "change_batch"),
    "weights": ("change_weights",),
    "logits": ("change_outputs", "loss_terms"),
    "cross-entropy": ("loss_terms",),
    "the sum": ("change_sum",),
}
"""Things that can be replaced, and the hooks of which one must be overridden for it."""
REPLACED_ALONE = ("cross-entropy", "logits")
"""What a method replaces that is set to train alone."""
OF_OUTLIERS = {CHOICE, "outliers", OUTLIER_LABELS}
"""Things by whose replacing a method prepares outliers for others."""
FOLLOWS = {"change_weights": "weights", "change_outputs": "logits", "change_sum": "the sum"}
"""Things that a method replaces by overriding a hook."""
BACKING: dict[str, tuple[str, ...]] = {
    "adds": ("change_batch",),
    "heads": ("change_classifier",),
    "terms": ("loss_terms", "change_sum"),
    "measures": ("loss_terms",),
}
"""Facts, and the hooks of which one must be overridden for them to be true."""
PARTS_OF = {
    "separate": "reads",
    "as_tested": "reads",
    "differentiates": "reads",
    "shares": "adds",
    "views": "adds",
    "consumes": "needs",
}
"""Facts that may only name what another fact names, too."""


def roles_read(needs: Iterable[str], adds: Iterable[str], consumes: Iterable[str]) -> tuple[str, ...]:
    """Return the roles whose outputs a method reads: ``id``, those it needs and does not consume, those it adds."""
    given = (role for role in needs if role in ROLES and role not in consumes)
    return tuple(dict.fromkeys(("id", *given, *adds)))


def things_replaced(declared: Iterable[str], moments: Iterable[str]) -> tuple[str, ...]:
    """Return what a method replaces: what it declares, and what its overridden hooks imply."""
    return tuple(dict.fromkeys((*declared, *(FOLLOWS[moment] for moment in moments if moment in FOLLOWS))))


def trains_on(role: str, method: Any) -> bool:
    """Tell whether a method learns from a part, and does not only make, choose or change it for others."""
    prepares = role in method.adds or OF_OUTLIERS & set(method.replaces)
    return role in (*method.reads, *method.consumes) and bool(method.terms or not prepares)


def prepares_outliers(method: Any) -> bool:
    """Tell whether a method only makes, chooses or changes outliers, for others to learn from."""
    return "outliers" in (*method.needs, *method.adds) and not trains_on("outliers", method)


def turn(method: Any) -> int:
    """Return a method's turn to change the batch, from 0: in-distribution inputs are replaced before parts are made."""
    # mixing inside the network changes only targets here, and so must wait until others have made parts of clean rows
    inside = "change_hidden" in method.moments
    turns = (
        INPUTS in method.replaces and not inside and "outliers" not in method.needs,
        "outliers" in method.adds,
        CHOICE in method.replaces,
        "outliers" in method.replaces,
        OUTLIER_LABELS in method.replaces,
        INPUTS in method.replaces and not inside,
        bool(method.adds),
        inside,
        True,
    )
    return turns.index(True)


def order(methods: Sequence[Any]) -> list[int]:
    """Return the places of the methods in the order in which they act, whatever order they were written in."""
    return sorted(range(len(methods)), key=lambda index: (turn(methods[index]), methods[index].name, index))


def check_composition(methods: Sequence[Any]) -> None:
    """Refuse methods whose facts contradict their hooks, or that cannot be combined.

    Raises:
        ValueError: with a sentence that names the methods.
    """
    for method in methods:
        if not isinstance(getattr(method, "name", None), str):
            raise ValueError(f"{type(method).__name__} has no name: give the class one, as in name = 'my-method'.")
        check_facts(type(method))
        if own := [fact for fact in FACTS if fact != "name" and fact in vars(method)]:
            raise ValueError(
                f"{method.name} sets {own[0]} on an instance, and facts belong to the class: say it there."
            )
        if method.strength is not None and not hasattr(method, method.strength):
            raise ValueError(f"{method.name} has no setting {method.strength!r}, which it names as its strength.")
    for index, method in enumerate(methods):
        for other in methods[:index]:
            _check_pair(other, method)
    acting = [method for method in methods if method.active]
    if not any(trains_on("outliers", method) for method in acting):
        for method in acting:
            if OF_OUTLIERS & {*method.replaces, *method.adds}:
                raise ValueError(
                    f"{method.name} makes, chooses or changes outliers, and no other method uses them: "
                    "add one that does, such as outlier-exposure."
                )


def check_facts(cls: Any) -> None:
    """Refuse a class of methods whose facts or hooks are misspelt or contradict each other.

    Raises:
        ValueError: with a sentence that names the class and the nearest right name.
    """
    who = cls.__name__
    for fact in NAMES:
        names = getattr(cls, fact)
        if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{fact} of {who} must be a tuple of names, got {names!r}: write {fact} = ('…',).")
    for owner in cls.__mro__:
        if owner.__module__ == "oodles.contract":
            break
        if hasattr(owner, "moments"):  # a class of methods, and not one that is mixed in
            for name, value in vars(owner).items():
                _check_spelling(owner.__name__, name, value)
    for fact, known in (("needs", NEEDS), ("replaces", tuple(REPLACES))):
        for word in getattr(cls, fact):
            if word not in known:
                raise ValueError(f"{who} {fact} {word!r}, which is unknown{suggestion(word, known)}")
    for fact, hooks in BACKING.items():
        _check_backed(cls, who, f"declares {fact}", getattr(cls, fact), hooks)
    for word in cls.replaces:
        _check_backed(cls, who, f"replaces {word!r}", (word,), REPLACES[word])
    for hook, facts in (("loss_terms", ("terms", "measures")), ("change_sum", ("terms",))):
        if hook in cls.moments and not any(getattr(cls, fact) for fact in facts):
            raise ValueError(f"{who} overrides {hook} and declares no {' or '.join(facts)}: name what it gives.")
    if ("layers" in cls.moments) != ("change_hidden" in cls.moments):
        raise ValueError(f"{who} must override both layers and change_hidden, or neither: one says where, one what.")
    for fact, whole in PARTS_OF.items():
        if strangers := [word for word in getattr(cls, fact) if word not in getattr(cls, whole)]:
            raise ValueError(f"{who} {fact} {strangers[0]!r}, which is not among what it {whole}: declare it there.")
    if "id" in cls.adds:
        raise ValueError(f"{who} adds 'id', which is always there: declare replaces = ({INPUTS!r},).")
    if twice := set(cls.terms) & set(cls.measures):
        raise ValueError(f"{who} declares {min(twice)!r} as a term and as a measure: give one of them another name.")
    if PLAIN_TERM in cls.measures or (PLAIN_TERM in cls.terms and "cross-entropy" not in cls.replaces):
        raise ValueError(
            f"{who} declares {PLAIN_TERM!r}, which is the step's own term: give it another name, "
            "or declare replaces = ('cross-entropy',)."
        )
    derived = roles_read(cls.needs, cls.adds, cls.consumes)
    if {"id", *cls.reads} != set(derived):
        raise ValueError(
            f"{who} declares that it reads {', '.join(cls.reads)}, and by what it needs, adds and consumes it reads "
            f"{', '.join(derived)}: leave reads out, or say what it consumes."
        )


def _check_spelling(who: str, name: str, value: Any) -> None:
    """Refuse a public function or tuple of names that is all but called like a hook or a fact."""
    is_hook = isinstance(value, FunctionType | classmethod | staticmethod)
    if name.startswith("_") or name in (*HOOKS, *FACTS, *DERIVED) or not (is_hook or isinstance(value, tuple)):
        return
    kind, known, former = ("hook", HOOKS, "change_loss") if is_hook else ("fact", NAMES, "asks")
    near = nearest(name, (*known, former), cutoff=0.9)
    if near and near != "layers":  # layer is a fair name for a function
        raise ValueError(f"{who} has {name!r}, which is no {kind} of a method: say {RENAMED.get(near, near)!r}.")


def _check_backed(cls: Any, who: str, does: str, declared: Sequence[str], hooks: Sequence[str]) -> None:
    if declared and not set(hooks) & set(cls.moments):
        raise ValueError(f"{who} {does} and overrides no {' or '.join(hooks)}: override it, or leave the fact out.")


def _check_pair(a: Any, b: Any) -> None:
    """Refuse two methods that cannot act together."""
    if type(a) is type(b):
        raise ValueError(f"{a.name} is given twice: give it once.")
    heads, parts = set(a.heads) & set(b.heads), set(a.shares) & set(b.shares)
    for what, mine, theirs, shared in (
        ("replace", a.replaced, b.replaced, set()),
        ("add the part", a.adds, b.adds, parts),
        ("add the term", (*a.terms, *a.measures), (*b.terms, *b.measures), heads),
    ):
        if clash := sorted((set(mine) & set(theirs)) - shared):
            names = [f"{method.name}{' alone' if method.alone else ''}" for method in (a, b)]
            raise ValueError(f"{names[0]} and {names[1]} both {what} {clash[0]!r}: use one of them.")
    for reader, changer in ((a, b), (b, a)):
        if "linear-head" in reader.needs and "head" in changer.replaces:
            raise ValueError(
                f"{reader.name} needs the linear last layer that {changer.name} replaces: use one of them."
            )
    for inside, viewer in ((a, b), (b, a)):
        seen = "views of" if viewer.views else "what its teacher says of" if "teacher" in viewer.needs else ""
        if "change_hidden" in inside.moments and seen and inside.active and viewer.active:
            raise ValueError(
                f"{inside.name} mixes rows inside the network and {viewer.name} compares them with {seen} the "
                "unmixed ones: use one of them."
            )
