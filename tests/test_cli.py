"""The command line by its behaviour: exit codes, what goes where, suggestions, and what is imported."""

import inspect
import json
import shlex
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oodles
from oodles import cli
from oodles.cards import cards
from oodles.cli.flags import FineTuning
from oodles.cli.parsing import flags_of
from oodles.cli.shown import print_json, print_result
from oodles.methods import METHODS
from oodles.remarks import warn
from oodles.runs import preparation
from oodles.runs.opened import Run
from oodles.runs.recipe import Recipe

Calls = list[tuple[Recipe, str, dict[str, Any]]]


def run(*arguments: str) -> int | None:
    """Run a command in this process and return its exit code."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
        assert code is None or isinstance(code, int)
        return code


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["--version"], ["methods"], ["methods", "mixup", "--json"], ["train", "mixup", "--alpah", "1"]]
    + [[*command.split(), "--help"] for command in cli.COMMANDS],
    ids=" ".join,
)
def test_needs_no_torch(arguments: list[str]) -> None:
    program = (
        "import sys; from oodles.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_is_a_module_and_a_script() -> None:
    for program in ([sys.executable, "-m", "oodles"], [f"{sys.prefix}/bin/oodles"]):
        done = subprocess.run([*program, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"oodles {oodles.__version__}\n", "")
        assert subprocess.run([*program, "trian"], capture_output=True).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "There is no command 'trian': did you mean 'train'?"),
        (["zzz"], "There is no command 'zzz': expected one of demo, benchmark, methods, train, "),
        (["methods", "mixpu"], "There is no method 'mixpu': did you mean 'mixup'?"),
        (["train", "mixpu"], "There is no method 'mixpu': did you mean 'mixup'?"),
        (["train", "mixup", "+", "regmixpu"], "There is no method 'regmixpu': did you mean 'regmixup'?"),
        (["train", "mixup", "--alpah", "1"], "mixup has no flag --alpah: did you mean '--alpha'?"),
        (["train", "mixup", "--alpah=1"], "mixup has no flag --alpah: did you mean '--alpha'?"),
        (["train", "mixup", "--sed", "1"], "mixup has no flag --sed: did you mean '--seed'?"),
        (["train", "--chain", "mixup"], "train has no flag --chain"),
        (["train", "mixup", "--alpha", "1", "+", "logit-norm", "--alpha", "1"], "logit-norm has no flag --alpha"),
        (["train", "mixup", "+"], "A method must stand on either side of '+'"),
        (["train", "--seed", "1", "+", "mixup"], "A method must stand on either side of '+'"),
        (["train"], "Say what to train with, a method or --recipe FILE"),
        (
            ["train", "mixup", "--recipe", "regmixup"],
            "The recipe regmixup has methods of its own, regmixup: leave",
        ),
        (["train", "mixup", "--alpha", "-1"], "alpha must be a finite number >= 0, got -1.0"),
        (["train", "mixup", "--alpha", "x"], "--alpha must be a number, got 'x'"),
        (["train", "mixup", "--seed", "x"], "--seed must be a whole number, got 'x'"),
        (["train", "mixup", "stray"], "mixup takes flags alone, got 'stray'"),
        (
            ["train", "mixup", "--mixed-precision", "fp8"],
            "--mixed-precision must be one of no, bf16, fp16, auto, got 'fp8'",
        ),
        (["compare", "a", "--scoer", "msp"], "--score"),
        (["evaluate"], "RUN"),
        (["score", "run"], "INPUTS"),
        (["evaluate", "run", "--ood", "svhn"], "--ood must be NAME=PATH, got 'svhn'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_command_exits_2(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert sentence in err and out == ""
    assert "Traceback" not in err


@pytest.mark.parametrize("name", METHODS)
def test_help_of_a_method_shows_its_signature(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", name, "--help") == 0
    out = capsys.readouterr().out
    card = next(card for card in cards() if card.name == name)
    assert card.summary in " ".join(out.split())
    for parameter in card.parameters:
        shown = " ".join(map(str, parameter.default)) if isinstance(parameter.default, tuple) else parameter.default
        assert parameter.flag in out
        assert shown == "" or f"(default: {shown})" in " ".join(out.replace("│", "").split())


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["generated-outliers", "--kinds", "fractals"], "There is no kind of outliers 'fractals'"),
        (["distillation", "--weight", "-1"], "weight must be a finite number >= 0, got -1.0"),
        (["logit-norm", "+", "generated-outliers", "--share", "nan"], "share must be a finite number >= 0, got nan"),
    ],
)
def test_settings_that_a_method_refuses_get_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *words, "--data", "digits") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"oodles: {sentence}") and "Traceback" not in told


def test_no_method_has_a_flag_of_training() -> None:
    flags = {*inspect.signature(cli.train).parameters, *(field.name for field in fields(FineTuning))}
    shared = {(card.name, one.name) for card in cards() for one in card.parameters if one.name in flags}
    assert shared == {("ascood", "head_learning_rate")}, "which was there before the flag"


def test_methods_lists_and_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in METHODS)
    assert run("methods", "mixup") == 0
    assert capsys.readouterr().out.startswith("mixup\n")
    assert run("methods", "--json") == 0
    assert [method["name"] for method in json.loads(capsys.readouterr().out)] == list(METHODS)
    assert run("methods", "energy-bounded", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["paper"]["year"] == 2020 and entry["parameters"][0]["name"] == "weight"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:18].strip() for line in lines if line.startswith("  ")] == list(cli.COMMANDS)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Record the calls of ``oodles.runs.training.train``, which does nothing here."""
    from oodles.runs import training

    calls: Calls = []

    def train(recipe: Recipe, data: str, **options: Any) -> Run:
        calls.append((recipe, data, options))
        return Run(Path("somewhere"), {}, (), {"status": "diverged", "reason": "It was not trained."})

    monkeypatch.setattr(training, "train", train)
    return calls


def test_methods_are_listed_for_a_kind_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods", "--for", "text", "--json") == 0
    for_text = {method["name"] for method in json.loads(capsys.readouterr().out)}
    assert "outlier-exposure" in for_text and not {"cutmix", "pixmix", "ascood"} & for_text
    assert run("methods", "--for", "features") == 0
    assert "cutmix" not in capsys.readouterr().out


def test_methods_are_listed_for_a_situation(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods", "--for", "pretrained", "--json") == 0
    named = {method["name"]: method for method in json.loads(capsys.readouterr().out)}
    assert named["energy-bounded"]["fine_tunes"] and named["energy-bounded"]["step_time"] == 2.0
    assert "mixup" not in named
    assert run("methods", "--for", "no outliers") == 0
    out = capsys.readouterr().out
    assert out.startswith("no outliers: train cross-entropy and choose the score") and "\nmixup " in out
    assert "\noutlier-exposure " not in out
    assert run("methods", "--for", "some outliers") == 2
    said = capsys.readouterr().err
    assert "--for must be one of images, features, text, no outliers, outliers, pretrained, only logits" in said


def test_methods_chain_with_plus(trained: Calls) -> None:
    command = "train mixup --alpha .2 --seed 3 + outlier-exposure --weight=.25 --data there --epochs 7 + logit-norm"
    run(*command.split())
    ((recipe, data, options),) = trained
    assert recipe == Recipe(
        methods=(
            ("mixup", {"alpha": 0.2, "per_sample": False}),
            ("outlier-exposure", {"weight": 0.25}),
            ("logit-norm", {"temperature": 0.04}),
        ),
        seed=3,
        epochs=7,
    )
    assert data == "there" and options["folder"] is None


def test_flags_stand_anywhere_in_a_segment(trained: Calls) -> None:
    run(*["train", "energy-bounded", "--data", "d"], "--margin_in", "-9", "--seed", "1", "--power", "1")
    ((recipe, data, _),) = trained
    assert dict(recipe.methods[0][1]) == {"weight": 0.1, "margin_in": -9.0, "margin_out": -7.0, "power": 1}
    assert (recipe.seed, data) == (1, "d")


def test_flags_of_training_arrive(trained: Calls) -> None:
    settings = {
        "epochs": 7,
        "batch_size": 2,
        "outlier_batch_size": 3,
        "max_outliers": 40,
        "wild_batch_size": 17,
        "optimizer": "adamw",
        "learning_rate": 0.5,
        "weight_decay": 0.25,
        "momentum": 0.8,
        "nesterov": False,
        "schedule": "steps",
        "milestones": (3, 4),
        "seed": 4,
        "weights": "w.safetensors",
        "teacher": "runs/big",
        "suggest": True,
        "mixed_precision": "auto",
        "train_layers": ("layer4", "layer3.1"),
        "batch_norm": "frozen",
        "backbone_learning_rate": 0.25,
        "head_learning_rate": 2.0,
        "warm_up": 0.5,
        "decay_exempt": True,
        "clip_gradients": 1.5,
        "ema": 0.875,
        "keep": "best",
        "patience": 2,
        "class_weights": (1.0, 2.5),
        "balanced_sampling": True,
    }
    options = {
        "folder": Path("f"),
        "root": (Path("here"), Path("there")),
        "network": "p:n",
        "head": "fc",
        "mean": (0.5, 0.25, 0.75),
        "std": (1.5, 2.0, 0.5),
        "accumulate": 5,
        "device": "cpu",
        "compile": True,
        "channels_last": True,
        "workers": 6,
        "tracker": "wandb",
        "keep_frozen": True,
    }
    given = {**settings, **options, "to": options["folder"]}
    flags = flags_of(cli.train)
    words = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else [value]:
            words += [] if name == "folder" else [flag] if flags[flag].takes is None else [flag, str(one)]
    run("train", "energy-bounded", *words)
    ((recipe, data, arrived),) = trained
    assert data == "digits" and arrived == options
    assert {name: getattr(recipe, name) for name in settings} == settings
    others = {"data", "recipe", "no_suggest", "json"}
    untested = {name.removeprefix("--").replace("-", "_") for name in flags} - set(given) - others
    assert not untested, "a new flag belongs into this test"


def test_flags_of_adopt_arrive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from oodles.runs import training

    calls: Calls = []

    def adopt(network: str, **options: Any) -> Run:
        calls.append((Recipe(), network, options))
        return Run(Path("somewhere"), {}, (), {"status": "finished", "test_accuracy": 0.5})

    monkeypatch.setattr(training, "adopt", adopt)
    words = "--weights mine.pt --data photos --root here --head fc --seed 3 --to there --device cpu --json"
    numbers = "--mean .5 --mean .25 --std 1.5 --std 2"
    assert run("adopt", "timm:resnet18", *words.split(), *numbers.split()) == 0
    ((_, network, options),) = calls
    assert network == "timm:resnet18" and options == {
        "weights": Path("mine.pt"),
        "data": "photos",
        "root": (Path("here"),),
        "seed": 3,
        "folder": Path("there"),
        "head": "fc",
        "mean": (0.5, 0.25),
        "std": (1.5, 2.0),
        "device": "cpu",
    }
    flags = {name.removeprefix("--") for name in flags_of(cli.adopt)}
    assert flags == {*options, "to", "json"} - {"folder"}, "a new flag belongs into this test"
    assert json.loads(capsys.readouterr().out) == {
        "folder": "somewhere",
        "status": "finished",
        "test_accuracy": 0.5,
    }


def test_a_model_that_is_there_is_adopted_in_one_command(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "adopted", str(Path(runs[0], "weights.safetensors"))
    assert run("adopt", "small-cnn", "--weights", file, "--to", str(folder), "--device", "cpu") == 0
    out, err = capsys.readouterr()
    first = out.splitlines()
    assert first[0] == "Nothing was trained." and first[1].startswith("cross-entropy on digits, seed 0: test accuracy ")
    assert out.rstrip().endswith(f"oodles evaluate {folder}") and not err
    assert run("adopt", "small-cnn", "--to", str(tmp_path / "no")) == 1
    assert "needs a network that brings trained weights, and small-cnn is built with random" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_what_the_line_does_not_give_is_measured(trained: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "energy-bounded")
    run("train", "energy-bounded", "--margin-in=-9", "--recipe", "fast")
    run("train", "energy-bounded", "--margin_in", "-25", "--margin-out", "-7")
    run("train", "energy-bounded", "--no-suggest")
    run("train", "--recipe", "oecc")
    run("train", "--recipe", "energy-bounded")
    one = ("energy-bounded.margin_out",)
    assert [call[0].suggest for call in trained] == [True, one, False, False, False, True]
    assert run("train", "energy-bounded", "--no-suggest", "--suggest") == 2
    assert capsys.readouterr().err.endswith("oodles: Say either --suggest or --no-suggest.\n")


@pytest.mark.parametrize(
    "words",
    [
        *("", "--margin-in -9.0", "--margin-in -9.0 --suggest", "--no-suggest"),
        "--train-layers head --class-weights balanced --ema 0.5 --decay-exempt True --keep best",
        "--train-layers layer4 --train-layers layer3 --class-weights 1 --class-weights 2.5 --warm-up 0.5",
    ],
)
def test_the_command_of_a_record_repeats_it(words: str, trained: Calls) -> None:
    run("train", "energy-bounded", *words.split(), "--weight", "0.2")
    ((recipe, _, _),) = trained
    command = preparation._command(Path("f"), recipe, {"data": "digits"})
    run(*shlex.split(command)[1:])
    assert trained[1][0] == recipe


def test_warnings_of_training_are_sentences_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from oodles.runs import training

    def train(*_: Any, **__: Any) -> Run:
        with warnings.catch_warnings():  # pytest makes errors of them
            warnings.simplefilter("always")
            warn("The margins are far off.")
            warnings.warn("Something else.", UserWarning, stacklevel=1)
        return Run(Path("somewhere"), {}, (), {"status": "diverged", "reason": "It was not trained."})

    monkeypatch.setattr(training, "train", train)
    before = warnings.showwarning
    run("train", "mixup")
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "oodles: The margins are far off." and "UserWarning: Something else." in others[0]
    assert warnings.showwarning is before


def test_flags_change_single_settings_of_a_recipe(trained: Calls, tmp_path: Path) -> None:
    recipe = Recipe(methods=(("mixup", {"alpha": 0.3}),), epochs=9, seed=5, learning_rate=0.07)
    (tmp_path / "mine.toml").write_text(recipe.to_toml(), encoding="utf-8")
    run("train", "--recipe", str(tmp_path / "mine.toml"))
    run("train", "--recipe", str(tmp_path / "mine.toml"), "--seed", "6", "--learning-rate", "0.5")
    run("train", "--recipe", str(tmp_path / "mine.toml"), "--seed", "0", "--weight-decay", "0")
    changed = replace(recipe, seed=6, learning_rate=0.5)
    assert [call[0] for call in trained] == [recipe, changed, replace(recipe, seed=0, weight_decay=0.0)]


def test_methods_take_the_place_of_plain_training_in_a_recipe(trained: Calls) -> None:
    run("train", "mixup", "--alpha", "0.3", "+", "outlier-exposure", "--recipe", "openood", "--epochs", "7")
    ((recipe, _, _),) = trained
    methods = (("mixup", {"alpha": 0.3}), ("outlier-exposure", {}))
    assert recipe == replace(Recipe.load("openood"), methods=methods, epochs=7)


def test_a_diverged_run_exits_1_with_its_sentence(trained: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "mixup") == 1
    assert capsys.readouterr() == ("", "oodles: It was not trained.\n")
    assert run("train", "mixup", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "diverged" and err == "oodles: It was not trained.\n"


@pytest.mark.parametrize(("error", "code"), [(ValueError, 1), (FileNotFoundError, 1), (KeyboardInterrupt, 130)])
def test_errors_are_one_sentence(
    error: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from oodles.runs import training

    def train(*arguments: object, **options: object) -> None:
        raise error("This went wrong.")

    monkeypatch.setattr(training, "train", train)
    monkeypatch.delenv("OODLES_TRACEBACK", raising=False)
    assert run("train", "mixup") == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("oodles: ")
    assert "This went wrong." in err or error is KeyboardInterrupt
    if code == 1:
        monkeypatch.setenv("OODLES_TRACEBACK", "1")
        with pytest.raises(error, match=r"This went wrong\."):
            run("train", "mixup")


def test_a_mistake_of_the_program_is_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from oodles.runs import training

    monkeypatch.setattr(training, "train", lambda *arguments, **options: {}["bug"])
    with pytest.raises(KeyError, match="bug"):
        run("train", "mixup")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train mixup cutmix", "Methods are joined by '+', got 'cutmix' without one: oodles train mixup + cutmix"),
        ("train mixup --seed 1 cutmix --alpha 2", "Methods are joined by '+', got 'cutmix' without one: oodles train"),
        ("train mixup + edl cutmix", "oodles train mixup + edl + cutmix"),
        ("train mixup,cutmix", "There is no method 'mixup,cutmix': write oodles train mixup + cutmix"),
        ("train mixup+cutmix", "write oodles train mixup + cutmix"),
        ("train mixup + mixup", "mixup stands there twice: once is enough"),
        ("train --recipe fast mixup", "A method stands before all flags, got 'mixup' behind them"),
        ("train openood", "There is no method 'openood', but a recipe: write oodles train --recipe openood"),
        ("train mine.toml", "write oodles train --recipe mine.toml"),
        ("train mixup fast", "mixup takes flags alone, got 'fast': write --recipe fast"),
        ("mixup", "mixup is a method and no command: oodles train mixup, or oodles methods mixup"),
        (
            "train outlier-exposure --alpha",
            "outlier-exposure has no flag --alpha: oodles train outlier-exposure --help",
        ),
        ("train mixup + edl --alpha 2", "edl has no flag --alpha: write it behind mixup, whose flag it is."),
        ("train mixup --learn .1", "mixup has no flag --learn: did you mean '--learning-rate'?"),
        ("train mixup -x", "mixup has no flag -x: oodles train mixup --help lists"),
        ("compare a --scoer msp", "compare has no flag --scoer: did you mean '--score'?"),
        ("train mixup --learning-rate abc", "--learning-rate must be a number, got 'abc'."),
        ("train mixup --seed 1.5", "--seed must be a whole number, got '1.5'."),
        ("train balanced-energy --prior 1 2 x", "--prior must be a number, got 'x'."),
        ("train edl --annealing-epochs ten", "--annealing-epochs must be a whole number, got 'ten'."),
        ("train mixup --nesterov yes", "--nesterov must be one of True, False, got 'yes'."),
        ("score a b --accept most", "--accept must be a number, got 'most'."),
        ("train mixup --seed", "--seed must have a value, got none"),
        ("train mixup --seed --data digits", "--seed must have a value, got none"),
        ("train mixup --seed=", "--seed must be a whole number, got ''."),
        ("train mixup --to=", "--to must be some text, got ''."),
        ("train mixup --seed 1 2", "--seed takes one value, got '1' and '2'."),
        ("train mixup --alpha 1 --alpha 2", "--alpha is given twice, 1 and 2: give it once."),
        ("train mixup --seed 1 + edl --seed 2", "--seed is given twice, 1 and 2: give it once."),
        ("train mixup --compile=yes", "--compile takes no value, got 'yes'"),
        ("score run", "oodles score needs INPUTS: oodles score --help"),
        ("evaluate", "oodles evaluate needs RUN"),
        ("score a b c", "oodles score takes RUN and INPUTS, got a, b, c: leave the others out."),
        ("methods mixup edl", "oodles methods takes one [NAME], got mixup, edl"),
    ],
)
def test_a_mistyped_command_gets_one_sentence(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*line.split()) == 2
    out, err = capsys.readouterr()
    assert sentence in err and err.startswith("oodles: ") and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize("words", [["compare", "a", "--to", ""], ["evaluate", ""], ["train", "mixup", "--to", ""]])
def test_nothing_is_no_path(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert "must be some text, got ''" in capsys.readouterr().err


def test_right_lines_pass_the_check(trained: Calls) -> None:
    """Everything that the parser takes: repeated flags, negative numbers, several values, values behind '='."""
    for line, settings in {
        "mixup --alpha=.5 --per_sample": {"alpha": 0.5, "per_sample": True},
        "energy-bounded --margin-in -9 --margin_out=-1e0": {"margin_in": -9.0, "margin_out": -1.0},
        "balanced-energy --prior 1 2 3 --gamma 0": {"prior": (1.0, 2.0, 3.0), "gamma": 0.0},
        "manifold-mixup --at a.b c --alpha 1": {"at": ("a.b", "c")},
        "augmix --depth -1 --root a --root b --json --json": {"depth": -1},
    }.items():
        run("train", *line.split())
        assert settings.items() <= dict(trained[-1][0].methods[0][1]).items(), line
    assert len(trained) == 5


def test_what_is_printed_does_not_control_the_terminal(
    trained: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from oodles.runs import training

    def train(*arguments: object, **options: object) -> None:
        raise ValueError("\x1b]0;title\x07 and \u202e\x9b2J\rand \udce9\nends.")

    monkeypatch.setattr(training, "train", train)
    assert run("train", "mixup") == 1
    assert capsys.readouterr().err == "oodles: \\u001b]0;title\\u0007 and \\u202e\\u009b2J\\u000dand \\udce9 ends.\n"
    print_json({"name": "\x9b2J\u202e"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": "\x9b2J\u202e"} and out.replace("\n", "").isprintable()
    print_result("one\nä – ✓ 猫 👩‍🔬")
    assert capsys.readouterr().out == "one\nä – ✓ 猫 👩‍🔬\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_output_that_cannot_be_written_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "oodles", "methods"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    sentence = "oodles: The output cannot be read or written: no space left on device.\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_json_writes_no_table_unasked(runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "new.npz", images=np.zeros((2, 8, 8), dtype=np.float32))
    monkeypatch.chdir(tmp_path)
    assert run("score", runs[0], "new.npz", "--json") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["new.npz"]
    assert run("score", runs[0], "new.npz") == 0
    assert (tmp_path / "scores.csv").is_file()


def test_a_report_does_not_take_the_place_of_a_runs_file(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = (Path(runs[0]) / "result.json").read_bytes()
    assert run("compare", *runs, "--to", str(Path(runs[0]) / "result.json")) == 1
    assert "result.json belongs to a run: choose another name." in capsys.readouterr().err
    assert (Path(runs[0]) / "result.json").read_bytes() == before


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Train two short runs by the command itself."""
    folder = tmp_path_factory.mktemp("runs")
    folders = []
    for method in ("cross-entropy", "mixup"):
        folders.append(str(folder / method))
        assert run("train", method, "--epochs", "1", "--device", "cpu", "--to", folders[-1]) == 0
    return folders


def test_train_prints_results_alone(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    again = ["train", "mixup", "--epochs", "1", "--device", "cpu", "--to", runs[1]]
    assert run(*again) == 0
    out, err = capsys.readouterr()
    result = json.loads((Path(runs[1]) / "result.json").read_text(encoding="utf-8"))
    assert err == "" and runs[1] in out
    assert f"mixup on digits, seed 0: test accuracy {result['test_accuracy']:.2%}" in out
    assert run(*again, "--json") == 0
    out, err = capsys.readouterr()
    assert err == "" and json.loads(out) == {"folder": runs[1], **result}


def test_another_configuration_in_the_same_folder_is_refused(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "mixup", "--epochs", "2", "--device", "cpu", "--to", runs[1]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "epochs" in err and err.count("\n") == 1


def test_only_the_first_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    print_json({})
    print_result("result")
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    print_result("result")
    assert capsys.readouterr().out == "result\n"


def test_evaluate_measures_a_set_of_ones_own(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", images=rng.random((30, 8, 8)).astype(np.float32))
    given = ["evaluate", runs[0], "--ood", f"noise={tmp_path / 'noise.npz'}", "--score", "msp", "--score", "energy"]
    assert run(*given, "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == "" and set(document["metrics"]["noise"]) == {"msp", "energy"}
    assert "near:digits" in document["metrics"] and 0 <= document["metrics"]["noise"]["msp"]["auroc"] <= 1
    result = json.loads((Path(runs[0]) / "result.json").read_text(encoding="utf-8"))
    assert document["accuracy"] == result["test_accuracy"]
    assert run(*given) == 0
    out, err = capsys.readouterr()
    assert err == "" and f"accuracy {document['accuracy']:.2%}" in out and "noise" in out


def test_compare_prints_and_writes(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", *runs, "--to", str(tmp_path / "report.md")) == 0
    out, err = capsys.readouterr()
    assert err == "" and "mixup" in out and "\x1b" not in out
    assert "mixup" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "msp, n = 1" in out and "energy, n = 1" not in out
    assert run("compare", *runs, "--score", "energy") == 0
    out = capsys.readouterr().out
    assert "energy, n = 1" in out and "msp, n = 1" not in out
    assert run("compare", *runs, "--json") == 0
    out, err = capsys.readouterr()
    assert err == "" and len(json.loads(out)["suites"]) == 1


def test_score_writes_a_verdict_for_every_input(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "new.npz", images=np.random.default_rng(1).random((4, 8, 8)).astype(np.float32))
    table = tmp_path / "scores.csv"
    given = ["score", runs[0], str(tmp_path / "new.npz"), "--to", str(table), "--accept", "0.5", "--score", "own"]
    assert run(*given) == 0
    out, err = capsys.readouterr()
    assert err == "" and "of 4 accepted" in out and str(table) in out
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    assert header == "input,class,score,verdict,p_value" and len(rows) == 4
    assert run(*given, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["score"] == "msp"
    known = np.load(Path(runs[0]) / "scores.npz")["validation/msp"]
    assert document["threshold"] == pytest.approx(np.median(known), abs=0.02), "half of the validation rows"
    for row, entry in zip(rows, document["inputs"], strict=True):
        name, label, score, verdict, p_value = row.split(",")
        assert entry["p_value"] == float(p_value) and entry["accepted"] == (float(p_value) > 0.5)
        assert (entry["input"], entry["class"], entry["score"]) == (name, label, float(score))
        assert entry["accepted"] == (verdict == "accept") == (entry["score"] <= document["threshold"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "nowhere"], "nowhere is no run folder"),
        (["compare", "nowhere"], "nowhere is no run folder"),
        (["compare"], "compare needs at least one run"),
        (["score", "nowhere", "x.png"], "nowhere is no run folder"),
        (["demo", "--seeds", "0"], "seeds must be how many, at least 1, or a list"),
        (["train", "mixup", "--data", "nowhere"], "nowhere"),
        (["train", "mixup", "--network", "small-cn"], "did you mean 'small-cnn'?"),
        (["train", "--recipe", "mixpu"], "There is no recipe 'mixpu': did you mean 'mixup'?"),
        (["train", "mixup", "+", "cutmix"], "mixup and cutmix both replace"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_work_out_exits_1(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and err.count("\n") == 1


@pytest.mark.parametrize("help_alone", [False, True])
def test_a_reader_that_closes_early_is_no_error(runs: list[str], help_alone: bool) -> None:
    arguments = ["train", "--help"] if help_alone else ["compare", runs[0], "--json"]
    command = subprocess.Popen(
        [sys.executable, "-m", "oodles", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout is not None and command.stderr is not None
    command.stdout.close()
    err = command.stderr.read()
    command.stderr.close()
    assert (command.wait(), err) == (0, b"")
