"""What the files of a run must hold, said once; see :mod:`oodles.files.forms`."""

from oodles.files.forms import (
    ANY,
    COUNT,
    MAYBE_NUMBER,
    MAYBE_SECONDS,
    MAYBE_SHARE,
    MAYBE_TEXT,
    NUMBER,
    POSITIVE,
    SECONDS,
    SHARE,
    TEXT,
    TRUTH,
    Each,
    Every,
    Form,
    Maybe,
    Value,
    one_of,
)

SIDES = Value(
    "[channels, height, width], or [features]",
    lambda value: isinstance(value, list) and len(value) in (1, 3) and all(COUNT.fits(side) and side for side in value),
)
SHARES = Value(
    "the least and the largest share",
    lambda value: isinstance(value, list) and len(value) == 2 and all(SHARE.fits(share) for share in value),
)
TWO = Value("two numbers", lambda value: isinstance(value, list) and len(value) == 2)
FACT = Value("text or a whole number", lambda value: isinstance(value, str) or COUNT.fits(value))
METRICS = Each(Each(Each((Each(SHARE), {"auroc": SHARE}))))
SIZES = (Each(COUNT), {"test": COUNT})
METHODS = Value(
    "a list of methods, each with a name",
    lambda value: (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value)
    ),
)


AUGMENT = Each(
    {
        **{"shift?": COUNT, "flip?": TRUTH, "crop?": SHARES, "transforms?": TEXT},
        **{"brightness?": SHARE, "contrast?": SHARE, "saturation?": SHARE, "hue?": SHARE},
    }
)
"""How sets are augmented, by name."""

STATED = {"mean?": Every(NUMBER), "std?": Every(POSITIVE)}
"""The normalisation of a network, where it was stated."""

RUN_FORM: Form = {
    "recipe": Each(ANY),
    "arguments": {"data": TEXT, "network": TEXT, "head": MAYBE_TEXT, "root?": Every(TEXT), **STATED},
    "initial": {"label": TEXT, "file?": TEXT, "sha256?": TEXT},
    "suggested": Each(Each(ANY)),
    "suite": {
        **{"classes": Every(TEXT), "sizes": SIZES, "notes": Each(TEXT)},
        **{"name?": TEXT, "sha256?": Each(TEXT), "input_shape?": SIDES, "resize?": COUNT},
        **{"mean?": Every(NUMBER), "std?": Every(POSITIVE), "augment?": AUGMENT},
        **{"outlier_shares?": Every(Every(NUMBER)), "imbalance?": POSITIVE},
        **{"draft?": TRUTH, "features?": {"columns?": Every(TEXT), "encoder?": TEXT, "text?": TEXT, "label?": TEXT}},
    },
    "frozen?": {"layers": Every(TEXT), "runs": TEXT, "because?": TEXT},
    "teacher?": {"label": TEXT, "file?": TEXT, "sha256?": TEXT},
    **{"draws?": COUNT, "validation_chose?": Every(TEXT), "command?": TEXT, "label?": TEXT, "environment?": Each(FACT)},
}
BUILT_FORM: Form = {"suite": {"input_shape": SIDES, "mean": Every(NUMBER), "std": Every(POSITIVE)}}
"""What building a run's network needs besides."""
LOG_FORM: Form = {
    **{"epoch": COUNT, "terms": Each(MAYBE_NUMBER), "validation_accuracy": SHARE, "seconds": SECONDS},
    **{"step?": COUNT, "learning_rate?": NUMBER, "measures?": Each(MAYBE_NUMBER), "choosing_accuracy?": SHARE},
}
RESULT_FORM: Form = {
    "status": one_of("finished", "diverged"),
    **{"reason?": TEXT, "test_accuracy?": SHARE, "validation_accuracy?": SHARE, "seconds?": SECONDS},
    **{"metrics?": METRICS, "sha256?": Each(TEXT), "chance?": SHARE, "warnings?": Every(TEXT), "remarks?": Each(TEXT)},
    "epoch?": COUNT,
}
NEW_CLASSES_FORM: Form = {
    "trainings": Every({"held_out": Every(TEXT), "rows": COUNT, "aurocs": (Each(SHARE), {"msp": SHARE})})
}
"""Of ``new-classes.json``."""
CHOICE_FORM: Form = {
    **{"own": TEXT, "chosen": TEXT, "rows": COUNT, "aurocs": Each(Each(SHARE)), "remarks": Every(TEXT)},
    "interval": Maybe((Every(NUMBER), TWO)),
}
"""Of ``choice.json``."""
STATUSES = ("finished", "diverged", "unfinished")
LINE_FORM: Form = {
    **{"data": TEXT, "label": TEXT, "seed": COUNT, "status": one_of(*STATUSES), "reason": TEXT},
    **{"settings": {"methods": METHODS}, "suggested": Each(Each(ANY)), "initial_weights": TEXT},
    **{"environment": Each(ANY), "sizes": SIZES, "sha256": Each(TEXT), "notes": Each(TEXT)},
    **{"accuracy": MAYBE_SHARE, "seconds": MAYBE_SECONDS, "metrics": METRICS},
    **{"chance?": MAYBE_SHARE, "warnings?": Every(TEXT), "remarks?": Each(TEXT), "augment?": AUGMENT},
    "chosen?": TEXT,
}
"""Of a line of a file of results."""


def counters_form(batches: int, accumulate: int) -> Form:
    """Return the form of the counters of a saved state, of a training of so many batches and batches a step."""
    position = Value(
        f"a whole number of batches, of {batches}, and of steps of {accumulate}",
        lambda value: COUNT.fits(value) and value <= batches and value % accumulate == 0,
    )
    return {"position": position, "seconds": SECONDS, "sums": Each(NUMBER), "scaler": Each(NUMBER)}
