"""One row per method: what the contract suite has to know about it, and its declared exceptions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oodles import (
    ACET,
    AOE,
    ARPL,
    ASCOOD,
    CAC,
    CEDA,
    CIDER,
    COCL,
    DAL,
    DOE,
    DOS,
    DUQ,
    EDL,
    GODIN,
    ISH,
    MCD,
    MOS,
    NPOS,
    NTOM,
    ODNL,
    OECC,
    PALM,
    PASCL,
    PFS,
    POEM,
    SAL,
    SAM,
    SCONE,
    SIREN,
    SNGP,
    VOS,
    WOODS,
    AugMix,
    BackgroundClass,
    BalancedEnergy,
    ConfidenceBranch,
    CrossEntropy,
    CutMix,
    Distillation,
    DiverseMix,
    DivOE,
    ELogitNorm,
    EnergyBounded,
    EnergyGap,
    EntropicOpenSet,
    Flooding,
    GeneratedOutliers,
    GReg,
    HopfieldBoosting,
    IsoMax,
    IsoMaxPlus,
    Jigsaw,
    LogitNorm,
    ManifoldMixup,
    Method,
    MixOE,
    Mixup,
    Objectosphere,
    OpenMix,
    OutlierExposure,
    PixMix,
    RegMixup,
    ReweightOOD,
    RotationPrediction,
    SharedDiscriminator,
    SupCon,
    T2FNorm,
    UnleashingMask,
)

from .networks import KINDS, Teacher

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Row:
    """A method under test. ``settings`` have to make it act on the inputs of ``networks.py``."""

    cls: type[Method]
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """Every hyper-parameter and the paper's value for it, written down here once more by hand."""
    wrong: tuple[tuple[Mapping[str, Any], str], ...]
    """Settings that the constructor refuses, and the words of its sentence."""
    random: bool | tuple[str, ...] = False
    """Whether it draws random numbers, or the kinds of input for which it does."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Kinds of input that it refuses, and the words of its sentence."""
    by_position: tuple[str, ...] = ()
    """Hyper-parameters that may come by position: those of the named standalone pieces."""
    still: Mapping[str, str] = field(default_factory=dict)
    """Backbone tensors on which it has no effect, and why."""
    no_strength: str = ""
    """Why there is no strength, for methods that have none."""
    aligned: tuple[str, ...] = ()
    """Added parts whose rows belong to those of the part ``id``, so that they are only doubled together."""
    together: str = ""
    """Why prepared rows cannot be divided among processes, for methods that mix rows inside the network."""
    sums: str = ""
    """Why its own terms are sums over rows and not means, for methods that are published so."""
    curved: str = ""
    """Why its own terms are not linear in the targets, for methods whose are not."""
    of_classes: tuple[str, ...] = ()
    """Settings with a number for each class, left out where a test has other classes."""
    compares: str = ""
    """Why its own terms are no means over rows but compare each row with the others of the batch, copies among them."""
    forwards: str = ""
    """Why it forwards rows itself while a batch is prepared, for methods that do."""
    backward: str = ""
    """Why autograd's derivative is not that of the loss, for methods that change it on purpose."""
    beyond: str = ""
    """Why inputs that it makes leave [0, 1], for methods whose do."""
    beside: tuple[str, ...] = ()
    """Methods that always act with it, for one that makes, chooses or changes outliers and has no terms of its own."""

    def make(self, **changes: Any) -> Method:
        return self.cls(**{**self.settings, **changes})

    def methods(self, **changes: Any) -> list[Method]:
        """Make the method, and those that always act with it."""
        return [self.make(**changes), *(ROWS[name].make() for name in self.beside)]

    @property
    def classes(self) -> tuple[type[Method], ...]:
        """Return the classes of the same."""
        return (self.cls, *(ROWS[name].cls for name in self.beside))

    @property
    def handed(self) -> Mapping[str, Any]:
        """Return the arguments that are no settings: what the method needs and is handed, a teacher."""
        return {name: value for name, value in self.settings.items() if name in self.cls.needs}

    def taught(self, classes: int) -> "Row":
        """Return the row with a teacher of so many classes, where there is one."""
        return self.with_settings(**{name: Teacher(classes) for name in self.handed})

    def off(self) -> Method:
        """Make the method at strength zero."""
        return self.make(**{str(self.cls.strength): 0})

    def with_settings(self, **changes: Any) -> "Row":
        return replace(self, settings={**self.settings, **changes})

    def draws(self, kind: str) -> bool:
        """Say whether it draws random numbers for inputs of this kind."""
        return self.random if isinstance(self.random, bool) else kind in self.random

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind not in self.refuses)


def together(*rows: Row) -> list[Method]:
    """Make the methods of rows, and those that always act with them, each once."""
    made = [row.make() for row in rows]
    names = dict.fromkeys(name for row in rows for name in row.beside)
    return [*made, *(ROWS[name].make() for name in names if all(ROWS[name].cls is not row.cls for row in rows))]


def numbers_at_least_zero(name: str) -> tuple[tuple[Mapping[str, Any], str], ...]:
    return tuple(({name: value}, rf"{name} must be a finite number >= 0, got") for value in (-0.1, NAN, INF))


needs_tensor = "cannot act on this batch: inputs must be one floating-point tensor, got a dictionary of ids, mask"
needs_rows = {"dense": r"needs features of shape \(N, F\) and one label per row, got a head for dense prediction"}
choosing = {
    "no_strength": "it keeps all where there are no more candidates than it keeps",
    "forwards": "it looks at the candidates",
    "beside": ("outlier-exposure",),
}
settings_of_choice = (*(({"kept": n}, "kept must be a whole number of at least 1, got") for n in (0, -1, 3.0, True)),)
settings_of_criterion = (
    *settings_of_choice,
    ({"by": "enrgy"}, "score must be one of .* did you mean 'energy'"),
    ({"by": "energy(temperature=0)"}, "temperature must be a finite number > 0, got 0"),
    ({"by": "knn"}, "by must be a score of what the classifier gives for a row, got 'knn', which compares with"),
    ({"by": "odin"}, "by must be a score of what the classifier gives for a row, got 'odin', which"),
    ({"by": "g-odin"}, "got 'g-odin', which differentiates in the inputs: choose another, such as energy"),
    ({"by": 3}, "by must be the name of an outlier score, got 3"),
    ({"by": None}, "by must be the name of an outlier score, got None"),
    ({"by": []}, r"by must be the name of an outlier score, got list"),
)
settings_of_contrast = (
    *(({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)),
    *(({"dimensions": n}, "dimensions must be a whole number of at least 1, got") for n in (0, 3.0, True)),
    ({"alone": "yes"}, "alone must be True or False, got 'yes'"),
)
settings_of_tails = (
    *(({"tail": value}, "tail must be a finite number > 0") for value in (0, -0.4, NAN)),
    ({"tail": 1.5}, "tail must be at most 1, got 1.5"),
    ({"class_counts": (3, 0)}, r"class_counts\[1\] must be a finite number > 0, got 0"),
)
settings_of_constraints = (
    *numbers_at_least_zero("weight"),
    *numbers_at_least_zero("false_alarms"),
    ({"false_alarms": 1.0}, "false_alarms must be below 1, got 1.0"),
    *(
        ({name: value}, f"{name} must be a finite number > 0, got")
        for name in ("loss_factor", "multiplier_rate")
        for value in (0, -1.0, NAN, INF)
    ),
    ({"penalty_growth": 0.9}, "penalty_growth must be a finite number >= 1, got 0.9"),
)
ROWS: dict[str, Row] = {
    "cross-entropy": Row(
        CrossEntropy,
        settings={"label_smoothing": 0.2},
        defaults={"label_smoothing": 0.0},
        wrong=(
            *numbers_at_least_zero("label_smoothing"),
            ({"label_smoothing": 1.0}, "label_smoothing must be below 1, got 1.0"),
            ({"label_smoothing": "0.1"}, "label_smoothing must be a number"),
        ),
    ),
    "mixup": Row(
        Mixup,
        settings={"alpha": 1.0},
        defaults={"alpha": 1.0, "per_sample": False},
        wrong=numbers_at_least_zero("alpha"),
        random=True,
        refuses={"tokens": needs_tensor},
    ),
    "cutmix": Row(
        CutMix,
        settings={"alpha": 1.0, "per_sample": True},
        defaults={"alpha": 1.0, "per_sample": False},
        wrong=numbers_at_least_zero("alpha"),
        random=True,
        refuses={
            "vectors": r"cutmix needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "cutmix needs one tensor of images, floating point, got a dict",
            "dense": r"CutMix needs one label per image, got targets of shape \(6, 8, 8\)",
        },
        by_position=("alpha",),
    ),
    "regmixup": Row(
        RegMixup,
        settings={"alpha": 2.0, "weight": 0.7},
        defaults={"alpha": 20.0, "weight": 1.0, "per_sample": False},
        wrong=(*numbers_at_least_zero("alpha"), *numbers_at_least_zero("weight")),
        random=True,
        refuses={"tokens": needs_tensor},
    ),
    "outlier-exposure": Row(
        OutlierExposure,
        settings={"weight": 0.5},
        defaults={"weight": 0.5},
        wrong=numbers_at_least_zero("weight"),
    ),
    "energy-bounded": Row(
        EnergyBounded,
        settings={"weight": 0.1, "margin_in": -3.0, "margin_out": 1.0},
        defaults={"weight": 0.1, "margin_in": -25.0, "margin_out": -7.0, "power": 2},
        wrong=(
            *numbers_at_least_zero("weight"),
            ({"margin_in": NAN}, "margin_in must be a finite number, got nan"),
            ({"margin_out": INF}, "margin_out must be a finite number, got inf"),
            ({"margin_in": -5.0, "margin_out": -5.0}, "margin_in must be below margin_out, got -5.0 and -5.0"),
            ({"power": 3}, "power must be 1 or 2, got 3"),
        ),
    ),
    "energy-gap": Row(
        EnergyGap,
        settings={"weight": 0.1, "margin": 2.0},
        defaults={"weight": 0.1, "margin": 10.0},
        wrong=(*numbers_at_least_zero("weight"), ({"margin": NAN}, "margin must be a finite number, got nan")),
    ),
    "logit-norm": Row(
        LogitNorm,
        settings={"temperature": 0.04},
        defaults={"temperature": 0.04},
        wrong=tuple(
            ({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)
        ),
        no_strength="no finite temperature gives plain cross-entropy",
    ),
    "background-class": Row(
        BackgroundClass,
        settings={"weight": 0.8},
        defaults={"weight": 1.0},
        wrong=numbers_at_least_zero("weight"),
    ),
    "rotation-prediction": Row(
        RotationPrediction,
        settings={"weight": 0.7},
        defaults={"weight": 1.0},
        wrong=numbers_at_least_zero("weight"),
        refuses={
            "vectors": r"rotation-prediction needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "rotation-prediction needs one tensor of images, floating point, got a dict",
            "dense": r"rotation-prediction needs features of shape \(N, F\)",
        },
    ),
    "jigsaw": Row(
        Jigsaw,
        settings={"weight": 0.6, "patches": 2},
        defaults={"weight": 1.0, "patches": 3},
        wrong=(
            *numbers_at_least_zero("weight"),
            *(({"patches": n}, "patches must be a whole number of at least 2, got") for n in (1, 2.0, True)),
        ),
        random=True,
        refuses={
            "vectors": r"jigsaw needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "jigsaw needs one tensor of images, floating point, got a dict",
        },
    ),
    "ceda": Row(
        CEDA,
        settings={"weight": 0.8},
        defaults={"weight": 1.0},
        wrong=numbers_at_least_zero("weight"),
        random=True,
        refuses={
            "vectors": r"ceda needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "ceda needs one tensor of images, floating point, got a dict",
        },
    ),
    "acet": Row(
        ACET,
        settings={"weight": 0.8, "steps": 3},
        defaults={"weight": 1.0, "epsilon": 0.3, "steps": 40},
        wrong=(
            *numbers_at_least_zero("weight"),
            *(({"epsilon": value}, "epsilon must be a finite number > 0, got") for value in (0, -0.3, NAN, INF)),
            *(({"steps": n}, "steps must be a whole number of at least 1, got") for n in (0, 40.0, True)),
        ),
        random=True,
        refuses={
            "vectors": r"acet needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "acet needs one tensor of images, floating point, got a dict",
        },
        forwards="it climbs to where the classifier is most confident",
    ),
    "shared-discriminator": Row(
        SharedDiscriminator,
        settings={"weight": 0.8},
        defaults={"weight": 1.0},
        wrong=numbers_at_least_zero("weight"),
    ),
    "entropic-open-set": Row(
        EntropicOpenSet,
        settings={"weight": 0.7},
        defaults={"weight": 1.0},
        wrong=numbers_at_least_zero("weight"),
    ),
    "objectosphere": Row(
        Objectosphere,
        settings={"weight": 0.7, "magnitude_weight": 0.01, "minimum_magnitude": 4.0},
        defaults={"weight": 1.0, "magnitude_weight": 1e-4, "minimum_magnitude": 50.0},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("magnitude_weight"),
            *numbers_at_least_zero("minimum_magnitude"),
        ),
    ),
    "oecc": Row(
        OECC,
        sums="the authors' terms are sums, and their weights belong to a batch size",
        settings={"weight": 0.5, "training_accuracy": 0.8},
        defaults={"weight": 1.0, "confidence_weight": 0.07, "outlier_weight": 0.05, "training_accuracy": 0.9486},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("confidence_weight"),
            *numbers_at_least_zero("outlier_weight"),
            *numbers_at_least_zero("training_accuracy"),
            ({"training_accuracy": 94.86}, "training_accuracy must be a share from 0 to 1, got 94.86"),
        ),
    ),
    "balanced-energy": Row(
        BalancedEnergy,
        settings={"weight": 0.1, "margin_in": -3.0, "margin_out": 1.0},
        defaults={"weight": 0.1, "margin_in": -25.0, "margin_out": -7.0, "alpha": 5.0, "gamma": 0.75, "prior": ()},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("alpha"),
            *numbers_at_least_zero("gamma"),
            ({"margin_in": NAN}, "margin_in must be a finite number, got nan"),
            ({"margin_in": -5.0, "margin_out": -5.0}, "margin_in must be below margin_out, got -5.0 and -5.0"),
            ({"prior": (0.5, -0.1)}, r"prior\[1\] must be a finite number >= 0, got -0.1"),
            ({"prior": (0.0, 0.0)}, "prior must have a number above 0, got zeros alone"),
        ),
    ),
    "mcd": Row(
        MCD,
        settings={"weight": 0.6, "margin": 1.2},
        defaults={"weight": 1.0, "margin": 1.2},
        wrong=(*numbers_at_least_zero("weight"), *numbers_at_least_zero("margin")),
    ),
    "odnl": Row(
        ODNL,
        settings={"weight": 0.9},
        defaults={"weight": 3.0},
        wrong=numbers_at_least_zero("weight"),
        random=True,
    ),
    "ntom": Row(
        NTOM,
        settings={"kept": 4, "quantile": 0.3, "by": "energy"},
        defaults={"kept": 128, "quantile": 0.125, "by": ""},
        wrong=(
            *settings_of_criterion,
            *numbers_at_least_zero("quantile"),
            ({"quantile": 1.0}, "quantile must be below 1, got 1.0"),
        ),
        **choosing,
    ),
    "dos": Row(
        DOS,
        settings={"kept": 4, "by": "energy"},
        defaults={"kept": 64, "by": ""},
        wrong=settings_of_criterion,
        random=True,
        refuses=needs_rows,
        **choosing,
    ),
    "poem": Row(
        POEM,
        settings={"kept": 4},
        defaults={
            "kept": 64,
            "confidence": 3.0,
            "variance": 20.0,
            "noise": 0.5,
            "exploration": 20.0,
            "memory": 4,
        },
        wrong=(
            *settings_of_choice,
            *(
                ({name: value}, f"{name} must be a finite number > 0, got")
                for name in ("confidence", "variance", "noise", "exploration")
                for value in (0, -1.0, NAN, INF)
            ),
            *(({"memory": n}, "memory must be a whole number of at least 1, got") for n in (0, 4.0, True)),
        ),
        refuses=needs_rows,
        **choosing,
    ),
    "confidence-branch": Row(
        ConfidenceBranch,
        curved="the logarithm of p mixed with the label is not linear in the label",
        settings={"budget": 0.9, "weight": 0.2},
        defaults={"budget": 0.3, "weight": 0.1},
        wrong=tuple(
            ({name: value}, f"{name} must be a finite number > 0, got")
            for name in ("budget", "weight")
            for value in (0, -0.1, NAN, INF)
        ),
        random=True,
        no_strength="rows may ask for hints at any budget and weight",
    ),
    "cac": Row(
        CAC,
        settings={"alpha": 3.0, "weight": 0.2},
        defaults={"alpha": 10.0, "weight": 0.1},
        wrong=(
            *(({"alpha": value}, "alpha must be a finite number > 0, got") for value in (0, -10.0, NAN, INF)),
            *numbers_at_least_zero("weight"),
        ),
        no_strength="without the anchor term the tuplet term still replaces the cross-entropy",
    ),
    "arpl": Row(
        ARPL,
        settings={"weight": 0.3, "temperature": 0.5, "margin": 1.0},
        defaults={"weight": 0.1, "temperature": 1.0, "margin": 1.0},
        wrong=(
            *(({"weight": value}, "weight must be a finite number > 0, got") for value in (0, -0.1, NAN, INF)),
            *(({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, -1.0, NAN)),
            *numbers_at_least_zero("margin"),
        ),
        refuses={"dense": r"arpl needs features of shape \(N, F\)"},
        no_strength="the head stays one of reciprocal points at any weight",
    ),
    "flooding": Row(
        Flooding,
        settings={"level": 5.0},
        defaults={"level": 0.05},
        wrong=numbers_at_least_zero("level"),
    ),
    "unleashing-mask": Row(
        UnleashingMask,
        settings={"level": 5.0},
        defaults={"level": 0.1},
        wrong=numbers_at_least_zero("level"),
    ),
    "edl": Row(
        EDL,
        settings={"evidence": "softplus", "annealing_epochs": 0},
        defaults={"evidence": "relu", "form": "mse", "annealing_epochs": 10},
        wrong=(
            ({"evidence": "tanh"}, "evidence must be 'relu', 'softplus' or 'exp', got 'tanh'"),
            ({"form": "kl"}, "form must be 'mse', 'log' or 'digamma', got 'kl'"),
            *(
                ({"annealing_epochs": n}, "annealing_epochs must be a whole number of at least 0, got")
                for n in (-1, 2.5, True)
            ),
        ),
        no_strength="the expected loss under a Dirichlet distribution replaces the cross-entropy",
    ),
    "t2fnorm": Row(
        T2FNorm,
        settings={"temperature": 0.1},
        defaults={"temperature": 0.1},
        wrong=tuple(
            ({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)
        ),
        no_strength="features have their own lengths in plain training, at every temperature",
        refuses={"dense": r"t2fnorm needs features of shape \(N, F\)"},
    ),
    "g-odin": Row(
        GODIN,
        settings={"form": "cosine"},
        defaults={"form": "cosine"},
        wrong=(({"form": "cos"}, "form must be 'cosine', 'euclidean' or 'inner', got 'cos'"),),
        no_strength="another last layer than that of plain training",
        refuses={"dense": r"g-odin needs features of shape \(N, F\)"},
    ),
    "isomax": Row(
        IsoMax,
        settings={"entropic_scale": 10.0, "spread": 0.5},
        defaults={"entropic_scale": 10.0, "spread": 0.0},
        wrong=(
            *numbers_at_least_zero("spread"),
            *(({"entropic_scale": n}, "entropic_scale must be a finite number > 0, got") for n in (0, -1.0, NAN, INF)),
        ),
        no_strength="another last layer than that of plain training",
        refuses={"dense": r"isomax needs features of shape \(N, F\)"},
    ),
    "isomax-plus": Row(
        IsoMaxPlus,
        settings={"entropic_scale": 10.0},
        defaults={"entropic_scale": 10.0},
        wrong=tuple(
            ({"entropic_scale": n}, "entropic_scale must be a finite number > 0, got") for n in (0, -1.0, NAN, INF)
        ),
        no_strength="another last layer than that of plain training",
        refuses={"dense": r"isomax-plus needs features of shape \(N, F\)"},
    ),
    "ish": Row(
        ISH,
        settings={"percentile": 0.6},
        defaults={"percentile": 0.85, "head_weight_decay": 5e-5},
        wrong=(
            *numbers_at_least_zero("head_weight_decay"),
            *numbers_at_least_zero("percentile"),
            ({"percentile": 1.0}, "percentile must be below 1, got 1.0"),
        ),
        no_strength="features are made larger at every percentile",
        refuses={"dense": r"ish needs features of shape \(N, F\)"},
        backward="the last layer's weights get the gradient of shaped features",
    ),
    "ascood": Row(
        ASCOOD,
        settings={"weight": 0.7},
        defaults={
            **{"weight": 1.0, "sigma": 0.5, "form": "gradient", "share": 0.1, "alpha": 10.0},
            "head_learning_rate": 1.0,
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *(
                ({name: value}, f"{name} must be a finite number > 0, got")
                for name in ("sigma", "share", "alpha", "head_learning_rate")
                for value in (0, -1.0, NAN, INF)
            ),
            ({"share": 1.5}, "share must be at most 1, got 1.5"),
            ({"form": "gaussian"}, "form must be 'gradient' or 'shuffle', got 'gaussian'"),
        ),
        no_strength="features are standardised whatever the weight",
        curved="outliers are moved along the gradient of the label's logit",
        refuses={
            "tokens": needs_tensor,
            "dense": r"ascood needs features of shape \(N, F\)",
        },
        forwards="it differentiates the labels' logits with respect to the inputs",
    ),
    "mixoe": Row(
        MixOE,
        settings={"weight": 0.6, "alpha": 2.0},
        defaults={"form": "mixup", "alpha": 1.0, "weight": 5.0},
        wrong=(
            *numbers_at_least_zero("weight"),
            *(({"alpha": value}, "alpha must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)),
            ({"form": "blur"}, "form must be 'mixup' or 'cutmix', got 'blur'"),
        ),
        random=True,
        refuses={
            "vectors": r"mixoe needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "mixoe needs one tensor of images, floating point, got a dict",
        },
    ),
    "openmix": Row(
        OpenMix,
        settings={"weight": 0.8},
        defaults={"alpha": 10.0, "weight": 1.0},
        wrong=(
            *numbers_at_least_zero("weight"),
            *(({"alpha": value}, "alpha must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)),
        ),
        random=True,
        refuses={"tokens": needs_tensor},
    ),
    "manifold-mixup": Row(
        ManifoldMixup,
        together="a row and its partner have to be in one forward pass",
        settings={"alpha": 1.0},
        defaults={"alpha": 2.0, "at": ()},
        wrong=(
            *numbers_at_least_zero("alpha"),
            ({"at": "stage1"}, "at must be names of layers, got 'stage1'"),
            ({"at": ("stage1", "stage1")}, "at must name each layer once, got"),
        ),
        random=True,
        refuses={"tokens": needs_tensor},
    ),
    "pixmix": Row(
        PixMix,
        settings={"beta": 2.0},
        defaults={"pictures": "", "rounds": 4, "beta": 3.0, "severity": 3.0, "all_operations": False},
        wrong=(
            *(({"rounds": n}, "rounds must be a whole number of at least 0, got") for n in (-1, 2.0, True)),
            *(({"beta": value}, "beta must be a finite number > 0, got") for value in (0, -3.0, NAN, INF)),
            *(({"severity": value}, "severity must be a finite number >= 0.1, got") for value in (0, -3.0, NAN, INF)),
            ({"severity": 11.0}, "severity must be at most 10, got 11"),
        ),
        random=True,
        no_strength="without any rounds, half of the images are still augmented",
        refuses={
            "vectors": r"pixmix needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "pixmix needs one tensor of images, floating point, got a dict",
            "dense": r"pixmix needs one label per image, got targets of shape \(6, 8, 8\)",
        },
    ),
    "augmix": Row(
        AugMix,
        settings={"weight": 20.0, "severity": 10.0},
        defaults={"weight": 12.0, "severity": 3.0, "width": 3, "depth": -1, "all_operations": False},
        wrong=(
            *numbers_at_least_zero("weight"),
            *(({"severity": value}, "severity must be a finite number >= 0.1, got") for value in (0, -3.0, NAN, INF)),
            ({"severity": 11.0}, "severity must be at most 10, got 11"),
            *(({"width": n}, "width must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            *(({"depth": n}, "depth must be a whole number of at least -1, got") for n in (-2, 2.0, True)),
        ),
        random=True,
        refuses={
            "vectors": r"augmix needs images of shape \(N, C, H, W\), got \(6, 6\)",
            "tokens": "augmix needs one tensor of images, floating point, got a dict",
            "dense": r"augmix needs one label per image, got targets of shape \(6, 8, 8\)",
        },
        aligned=("view1", "view2"),
    ),
    "reweight-ood": Row(
        ReweightOOD,
        settings={"weight": 0.8, "dimensions": 5},
        defaults={"weight": 0.1, "alone": False, "temperature": 0.1, "dimensions": 128},
        wrong=(*numbers_at_least_zero("weight"), *settings_of_contrast),
        random=("images",),
        refuses=needs_rows,
        aligned=("view",),
        curved="a pair is of one class with the product of two probabilities",
        backward="the weights of pairs have no gradient",
        compares="two sums over all pairs of rows stand inside a function",
    ),
    "palm": Row(
        PALM,
        settings={"weight": 0.8, "dimensions": 5, "prototype_momentum": 0.9, "prototypes": 3, "nearest": 2},
        defaults={
            "weight": 0.5,
            "alone": False,
            "prototypes": 6,
            "nearest": 5,
            "prototype_momentum": 0.999,
            "temperature": 0.1,
            "spread": 1.0,
            "dimensions": 128,
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("spread"),
            *numbers_at_least_zero("prototype_momentum"),
            ({"prototype_momentum": 1.0}, "prototype_momentum must be below 1, got 1"),
            *(({"prototypes": n}, "prototypes must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            *(({"nearest": n}, "nearest must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            *settings_of_contrast,
        ),
        random=("images",),
        refuses=needs_rows,
        aligned=("view",),
        backward="assignments have no gradient",
        curved="rows are assigned to prototypes by all rows together",
    ),
    "supcon": Row(
        SupCon,
        settings={"weight": 0.8, "dimensions": 5},
        defaults={"weight": 0.5, "alone": False, "temperature": 0.1, "dimensions": 128},
        wrong=(*numbers_at_least_zero("weight"), *settings_of_contrast),
        random=("images",),
        refuses=needs_rows,
        aligned=("view",),
        curved="a row's sum is divided by how many others are of its class",
        compares="each row is compared with all others",
    ),
    "cider": Row(
        CIDER,
        settings={"weight": 0.8, "dimensions": 5, "prototype_momentum": 0.8},
        defaults={
            "weight": 0.1,
            "alone": False,
            "compactness": 2.0,
            "temperature": 0.1,
            "prototype_momentum": 0.95,
            "dimensions": 128,
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("compactness"),
            *numbers_at_least_zero("prototype_momentum"),
            ({"prototype_momentum": 1.0}, "prototype_momentum must be below 1, got 1"),
            *settings_of_contrast,
        ),
        random=("images",),
        refuses=needs_rows,
        aligned=("view",),
        backward="compactness has no gradient in the prototypes that rows move",
        curved="prototypes are at unit length",
    ),
    "pfs": Row(
        PFS,
        settings={"weight": 0.7, "start": 0.0},
        defaults={"weight": 1.0, "start": 0.5},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("start"),
            ({"start": 1.0}, "start must be below 1, got 1"),
        ),
        refuses=needs_rows,
        backward="the weights of the last layer have no gradient from it",
    ),
    "sngp": Row(
        SNGP,
        settings={"bound": 0.5, "number": 16, "length_scale": 1.0},
        defaults={"bound": 6.0, "number": 1024, "length_scale": 1.0},
        wrong=(
            *numbers_at_least_zero("bound"),
            *(({"number": n}, "number must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            *(({"length_scale": value}, "length_scale must be a finite number > 0, got") for value in (0, -1.0, NAN)),
        ),
        no_strength="it replaces the head",
        refuses=needs_rows,
    ),
    "duq": Row(
        DUQ,
        settings={"penalty": 0.5, "length_scale": 0.5, "width": 3, "centroid_momentum": 0.9},
        defaults={"penalty": 0.1, "length_scale": 0.3, "width": 0, "centroid_momentum": 0.999},
        wrong=(
            *numbers_at_least_zero("penalty"),
            *numbers_at_least_zero("centroid_momentum"),
            ({"centroid_momentum": 1.0}, "centroid_momentum must be below 1, got 1"),
            *(({"length_scale": value}, "length_scale must be a finite number > 0, got") for value in (0, -1.0, NAN)),
            *(({"width": n}, "width must be a whole number of at least 0, got") for n in (-1, 3.0, True)),
        ),
        no_strength="it replaces the head",
        refuses={**needs_rows, "tokens": needs_tensor},
    ),
    "vos": Row(
        VOS,
        settings={"weight": 0.8, "candidates": 100, "memory": 20},
        defaults={"weight": 0.1, "start": 0.4, "candidates": 10_000, "memory": 1000},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("start"),
            ({"start": 1.0}, "start must be below 1, got 1.0"),
            *(({"candidates": n}, "candidates must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            *(({"memory": n}, "memory must be a whole number of at least 1, got") for n in (0, 3.0, True)),
        ),
        random=True,
        refuses=needs_rows,
    ),
    "npos": Row(
        NPOS,
        settings={"weight": 0.8, "memory": 8, "candidates": 30, "kept": 3},
        defaults={
            "weight": 0.1,
            "start": 0.4,
            "memory": 100,
            "neighbors": 0.3,
            "border": 0.2,
            "candidates": 600,
            "kept": 20,
            "spread": 0.1,
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("start"),
            ({"start": 1.0}, "start must be below 1, got 1.0"),
            *(({"memory": n}, "memory must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            *(({"neighbors": n}, "neighbors must be a finite number > 0, got") for n in (0, -1.0, NAN, INF)),
            ({"neighbors": 1.1}, "neighbors must be at most 1, got 1.1"),
            *(({"border": n}, "border must be a finite number > 0, got") for n in (0, -1.0, NAN, INF)),
            ({"border": 1.1}, "border must be at most 1, got 1.1"),
            *(({"kept": n}, "kept must be a whole number of at least 1, got") for n in (0, 3.0, True)),
            ({"candidates": 2}, "candidates must be a whole number of at least 3, got 2"),
            *(({"spread": n}, "spread must be a finite number > 0, got") for n in (0, -1.0, NAN, INF)),
        ),
        random=True,
        refuses=needs_rows,
    ),
    "cocl": Row(
        COCL,
        settings={"weight": 0.3, "tail_weight": 0.2, "head_weight": 0.4, "class_counts": (9, 3, 20, 4), "tail": 0.7},
        of_classes=("class_counts",),
        defaults={
            "weight": 0.05,
            "tail_weight": 0.05,
            "head_weight": 0.1,
            "temperature": 0.07,
            "margin": 1.0,
            "tail": 0.4,
            "class_counts": (),
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("tail_weight"),
            *numbers_at_least_zero("head_weight"),
            *numbers_at_least_zero("margin"),
            settings_of_contrast[0],
            *settings_of_tails,
        ),
        refuses=needs_rows,
        compares="rows are compared with all outliers",
        curved="a mean over the rows of rare classes is divided by how many these are",
    ),
    "pascl": Row(
        PASCL,
        settings={"weight": 0.8, "dimensions": 5, "class_counts": (9, 3, 20, 4), "tail": 0.7},
        of_classes=("class_counts",),
        defaults={"weight": 0.1, "temperature": 0.07, "tail": 0.4, "class_counts": (), "dimensions": 128},
        wrong=(
            *numbers_at_least_zero("weight"),
            *settings_of_contrast[:-1],
            *settings_of_tails,
        ),
        random=("images",),
        refuses=needs_rows,
        aligned=("view",),
        curved="a row's sum is divided by how many others are of its class",
        compares="each row is compared with all others",
    ),
    "elogit-norm": Row(
        ELogitNorm,
        settings={},
        defaults={},
        wrong=(),
        no_strength="no setting gives plain cross-entropy",
        refuses=needs_rows,
    ),
    "mos": Row(
        MOS,
        settings={"groups": (0, 1, 1, 0)},
        of_classes=("groups",),
        defaults={"groups": ()},
        wrong=(
            ({"groups": 2}, "groups must be a number for each class, got 2"),
            ({"groups": "ab"}, "groups must be a number for each class, got 'ab'"),
            *(({"groups": (0, n)}, r"groups\[1\] must be a whole number of at least 0, got") for n in (-1, 1.0, True)),
            ({"groups": (0, 3, 2, 0)}, "groups must be numbered from 0 on, got none of number 1"),
        ),
        no_strength="another last layer than that of plain training",
        refuses=needs_rows,
    ),
    "siren": Row(
        SIREN,
        settings={"weight": 0.8, "dimensions": 5, "prototype_momentum": 0.9, "concentration": 3.0},
        defaults={"weight": 1.5, "prototype_momentum": 0.95, "concentration": 10.0, "dimensions": 128},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("prototype_momentum"),
            ({"prototype_momentum": 1.0}, "prototype_momentum must be below 1, got 1"),
            *(({"concentration": n}, "concentration must be a finite number > 0, got") for n in (0, -1.0, NAN, INF)),
            *(({"dimensions": n}, "dimensions must be a whole number of at least 1, got") for n in (0, 3.0, True)),
        ),
        refuses=needs_rows,
    ),
    "hopfield-boosting": Row(
        HopfieldBoosting,
        settings={
            "weight": 20.0,
            "kept": 8,
            "beta": 8.0,
            "hidden": 6,
            "dimensions": 5,
            "memory": 12,
            "learn_projection": True,
        },
        defaults={
            "weight": 0.5,
            "kept": 128,
            "beta": 4.0,
            "hidden": 256,
            "dimensions": 128,
            "memory": 4096,
            "learn_projection": False,
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *(({"beta": value}, "beta must be a finite number > 0, got") for value in (0, -1.0, NAN, INF)),
            *(
                ({name: n}, f"{name} must be a whole number of at least 1, got")
                for name in ("kept", "hidden", "dimensions", "memory")
                for n in (0, 3.0, True)
            ),
        ),
        random=True,
        refuses=needs_rows,
        forwards="candidates are looked at before some are drawn",
    ),
    "distillation": Row(
        Distillation,
        settings={"teacher": Teacher(), "weight": 0.7, "temperature": 2.0, "norm_temperature": 0.3},
        defaults={"weight": 1.0, "temperature": 4.0, "norm_temperature": 0.04},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("norm_temperature"),
            *(({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, NAN, INF)),
            ({"teacher": "big"}, "teacher must be a Classifier or a module that gives logits, got str"),
        ),
        refuses=needs_rows,
    ),
    "sam": Row(
        SAM,
        settings={"radius": 0.3},
        defaults={"radius": 0.05},
        wrong=numbers_at_least_zero("radius"),
        forwards="it differentiates the loss with respect to the weights",
        curved="the weights are moved along a gradient that depends on the targets",
    ),
    "doe": Row(
        DOE,
        settings={"weight": 0.8, "start": 0.0, "scales": (0.3, 0.2, 0.1, 0.05)},
        defaults={"weight": 1.0, "start": 0.5, "scales": (0.1, 0.01, 0.001, 0.0001), "perturbation_momentum": 0.6},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("start"),
            *numbers_at_least_zero("perturbation_momentum"),
            ({"start": 1.0}, "start must be below 1, got 1"),
            ({"perturbation_momentum": 1.0}, "perturbation_momentum must be below 1, got 1"),
            *(({"scales": given}, "scales must be one or more numbers, got") for given in ((), 0.1, "ab")),
            *(({"scales": (0.1, n)}, r"scales\[1\] must be a finite number > 0, got") for n in (0, -0.1, NAN)),
        ),
        random=True,
        forwards="it differentiates the outliers' regret with respect to the weights",
    ),
    "divoe": Row(
        DivOE,
        settings={"share": 0.6, "epsilon": 0.2, "steps": 2},
        defaults={
            "share": 0.5,
            "epsilon": 0.05,
            "relative_step": 0.25,
            "steps": 5,
            "objective": "uniform",
            "best": False,
        },
        wrong=(
            *numbers_at_least_zero("share"),
            ({"share": 1.1}, "share must be at most 1, got 1.1"),
            *(({"epsilon": value}, "epsilon must be a finite number > 0, got") for value in (0, -0.3, NAN, INF)),
            *(({"relative_step": value}, "relative_step must be a finite number > 0") for value in (0, -0.3, NAN)),
            *(({"steps": n}, "steps must be a whole number of at least 1, got") for n in (0, 5.0, True)),
            ({"objective": "msp"}, "objective must be 'uniform', 'energy' or 'background', got 'msp'"),
            ({"best": "yes"}, "best must be True or False, got 'yes'"),
        ),
        random=True,
        refuses={"tokens": needs_tensor},
        forwards="it moves outliers to where the loss on them is higher",
        beside=("outlier-exposure",),
    ),
    "aoe": Row(
        AOE,
        settings={"epsilon": 0.2},
        defaults={"epsilon": 0.07, "objective": "uniform"},
        wrong=(
            *numbers_at_least_zero("epsilon"),
            ({"objective": "msp"}, "objective must be 'uniform', 'energy' or 'background', got 'msp'"),
        ),
        refuses={"tokens": needs_tensor},
        forwards="it moves outliers to where the loss on them is higher",
        beside=("outlier-exposure",),
    ),
    "diversemix": Row(
        DiverseMix,
        settings={"alpha": 4.0, "temperature": 2.0},
        defaults={"alpha": 4.0, "temperature": 10.0},
        wrong=(
            *(({"alpha": value}, "alpha must be a finite number > 0, got") for value in (0, -4.0, NAN, INF)),
            *(({"temperature": value}, "temperature must be a finite number > 0, got") for value in (0, -1.0, NAN)),
        ),
        no_strength="outliers are mixed at any setting",
        random=True,
        refuses={"tokens": needs_tensor},
        forwards="it looks at the energies of the outliers that it mixes",
        beside=("energy-bounded",),
    ),
    "generated-outliers": Row(
        GeneratedOutliers,
        settings={"share": 1.0},  # as many rows as two processes share evenly
        defaults={"kinds": (), "share": 0.5},
        wrong=(
            *numbers_at_least_zero("share"),
            ({"share": 101}, "share must be at most 100 outliers for each known row, got 101"),
            ({"kinds": ("fractals",)}, "There is no kind of outliers 'fractals'"),
            ({"kinds": "jigsaw"}, "kinds must be names of kinds or functions that make outliers, got 'jigsaw'"),
            ({"kinds": (3,)}, "kinds must be names of kinds or functions that make outliers, got 3"),
        ),
        random=True,
        curved="rows of two classes are mixed, of which the likeliest is one",
        beside=("outlier-exposure",),
    ),
    "dal": Row(
        DAL,
        settings={"weight": 0.7, "radius": 0.005, "steps": 4, "step_length": 0.02},
        defaults={
            **{"weight": 0.5, "radius": 10.0, "price_limit": 10.0, "price_rate": 0.01},
            **{"steps": 10, "step_length": 1.0},
        },
        wrong=(
            *numbers_at_least_zero("weight"),
            *(
                ({name: value}, f"{name} must be a finite number > 0, got")
                for name in ("radius", "step_length")
                for value in (0, -0.1, NAN)
            ),
            *numbers_at_least_zero("price_limit"),
            *numbers_at_least_zero("price_rate"),
            *(({"steps": n}, "steps must be a whole number of at least 1, got") for n in (0, 10.0, True)),
        ),
        refuses=needs_rows,
        backward="the way to the worst features has no gradient",
    ),
    "greg": Row(
        GReg,
        settings={"weight": 2.0, "margin_in": -1.385, "margin_out": -1.384, "delta": 0.2},
        defaults={"weight": 0.0078125, "margin_in": -25.0, "margin_out": -7.0, "delta": 0.01},
        wrong=(
            *numbers_at_least_zero("weight"),
            ({"margin_in": NAN}, "margin_in must be a finite number, got nan"),
            ({"margin_in": -5.0, "margin_out": -5.0}, "margin_in must be below margin_out, got -5.0 and -5.0"),
            *(({"delta": value}, "delta must be a finite number > 0, got") for value in (0, -0.1, NAN)),
        ),
        refuses={**needs_rows, "tokens": needs_tensor},
        forwards="it differentiates energies with respect to the inputs",
        beyond="rows are shifted by a small step in any direction",
    ),
    "woods": Row(
        WOODS,
        settings={"weight": 0.7},
        defaults={
            **{"weight": 1.0, "false_alarms": 0.05, "loss_factor": 2.0},
            **{"multiplier_rate": 1.0, "penalty_growth": 1.5},
        },
        wrong=settings_of_constraints,
    ),
    "scone": Row(
        SCONE,
        settings={"weight": 0.7, "margin": -2.0},
        defaults={
            **{"weight": 1.0, "margin": -10.0, "false_alarms": 0.05, "loss_factor": 2.0},
            **{"multiplier_rate": 1.0, "penalty_growth": 1.5},
        },
        wrong=(*settings_of_constraints, ({"margin": NAN}, "margin must be a finite number, got nan")),
    ),
    "sal": Row(
        SAL,
        settings={"weight": 0.7, "quantile": 0.9},
        defaults={"weight": 10.0, "quantile": 0.95},
        wrong=(
            *numbers_at_least_zero("weight"),
            *numbers_at_least_zero("quantile"),
            ({"quantile": 1.0}, "quantile must be below 1, got 1.0"),
        ),
        refuses=needs_rows,
        forwards="it looks at wild rows to choose among them",
    ),
}

KINDS_OF_ROWS = [(name, kind) for name, row in ROWS.items() for kind in row.kinds]
"""For ``pytest.mark.parametrize``: every method on every kind of input that it accepts."""
