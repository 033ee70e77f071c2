"""A benchmark's file: what it comes to, and a sentence for every mistake, before anything trains."""

import inspect
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from oodles import Benchmark
from oodles.benchmarking.description import OPTIONS, benchmarks, check_data
from oodles.cards import card
from oodles.comparing.results import read_results
from oodles.data.description import read_description
from oodles.methods import METHODS
from oodles.runs.recipe import Recipe
from oodles.runs.training import train

PLAIN = {"methods": ["cross-entropy"]}


def parsed(at: Path | str = ".", **values: Any) -> Benchmark:
    return Benchmark.from_dict({"suites": ["digits"], "recipes": [PLAIN], **values}, name="mine", at=at)


def test_rows_win_over_settings_and_these_over_recipes(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('epochs = 7\nbatch_size = 11\nlearning_rate = 0.3\n[[methods]]\nname = "mixup"')
    rows = parsed(
        tmp_path,
        settings={"recipe": "base.toml", "batch_size": 12, "weight_decay": 0.01},
        recipes=[{"methods": ["cutmix"], "weight_decay": 0.02}, "base.toml", {"name": "third", "batch_size": 13}],
    ).rows
    assert [row.name for row in rows] == ["cutmix", "base", "third"]
    assert [row.recipe.label for row in rows] == ["cutmix", "mixup", "mixup"]
    assert [row.recipe.epochs for row in rows] == [7, 7, 7]
    assert [row.recipe.batch_size for row in rows] == [12, 12, 13]
    assert [row.recipe.weight_decay for row in rows] == [0.02, 0.01, 0.01]
    assert {row.recipe.learning_rate for row in rows} == {0.3}


def test_methods_with_settings_and_in_chains() -> None:
    (row,) = parsed(recipes=[{"methods": [{"name": "mixup", "alpha": 0.7}, "logit-norm"]}]).rows
    assert row.name == "mixup + logit-norm"
    assert row.recipe == Recipe(methods=(("mixup", {"alpha": 0.7}), ("logit-norm", {})))


def test_every_run_is_one_task_after_the_one_that_it_starts_from(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    tuned = {"name": "tuned", "methods": ["outlier-exposure"], "weights": "cross-entropy", "epochs": 2}
    spec = parsed(
        tmp_path,
        suites=["digits", "own"],
        seeds=[3, 5],
        network="cnn-6",
        accumulate=1,
        root="data",
        recipes=[{"name": "again", "methods": ["energy-gap"], "weights": "tuned"}, tuned, PLAIN],
    )
    tasks = spec.tasks(tmp_path / "out")
    assert len(tasks) == len({task.folder for task in tasks}) == 3 * 2 * 2
    assert [str(task) for task in tasks[:5]] == [
        "cross-entropy, digits, seed 3",
        "cross-entropy, digits, seed 5",
        "cross-entropy, own, seed 3",
        "cross-entropy, own, seed 5",
        "tuned, digits, seed 3",
    ]
    last = tasks[-1]
    assert last.folder == tmp_path / "out" / "runs" / "own" / "again-5"
    assert last.after == tmp_path / "out" / "runs" / "own" / "tuned-5" == Path(str(last.recipe.weights))
    assert (last.data, last.recipe.seed, last.recipe.epochs) == (str(tmp_path / "own"), 5, Recipe.epochs)
    assert last.options == {"network": "cnn-6", "root": [str(tmp_path / "data")]}, "only what is not the default"
    for place, task in enumerate(tasks):
        assert task.after is None or task.after in [other.folder for other in tasks[:place]]


def test_a_shipped_recipe_to_start_from_becomes_a_row() -> None:
    rows = parsed(settings={"epochs": 3}, recipes=[{"methods": ["outlier-exposure"], "weights": "openood"}]).rows
    assert [(row.name, row.after, row.recipe.epochs) for row in rows] == [
        ("openood", None, 3),
        ("outlier-exposure", "openood", 3),
    ]
    assert rows[0].recipe.learning_rate == Recipe.load("openood").learning_rate


def test_a_teacher_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    row = {"methods": ["distillation"], "teacher": "large"}
    (tmp_path / "mine.toml").write_text('teacher = "large"\n[[methods]]\nname = "distillation"\n')
    for given in (row, {"recipe": "mine.toml"}):
        assert parsed(tmp_path, recipes=[given]).rows[0].recipe.teacher == str(tmp_path / "large")
    (there,) = parsed(tmp_path, recipes=[{**row, "teacher": "my:function"}]).rows
    assert there.recipe.teacher == "my:function"
    with pytest.raises(ValueError, match="'distillation' cannot be trained: distillation needs a teacher, got none"):
        parsed(tmp_path, recipes=[{"methods": ["distillation"]}])


def test_a_row_learns_from_the_run_of_another_row(tmp_path: Path) -> None:
    pupil = {"name": "pupil", "methods": ["distillation"], "teacher": "tuned", "weights": "cross-entropy"}
    tuned = {"name": "tuned", "methods": ["mixup"], "weights": "cross-entropy"}
    spec = parsed(recipes=[pupil, tuned, PLAIN], seeds=[3, 5])
    assert [(row.name, row.after, row.taught_by) for row in spec.rows] == [
        ("cross-entropy", None, None),
        ("tuned", "cross-entropy", None),
        ("pupil", "cross-entropy", "tuned"),
    ]
    last = spec.tasks(tmp_path)[-1]
    teacher = tmp_path / "runs" / next(iter(spec.suites)) / "tuned-5"
    assert last.taught_by == teacher == Path(str(last.recipe.teacher)) and "cross-entropy-5" in str(last.after)
    with pytest.raises(ValueError, match="'pupil' from 'tuned' from 'pupil': rows cannot start or learn from one"):
        parsed(recipes=[pupil, {**tuned, "weights": "pupil"}, PLAIN])
    with pytest.raises(ValueError, match="teacher cannot be settings of all rows"):
        parsed(settings={"teacher": "cross-entropy"}, recipes=[pupil, tuned, PLAIN])


def test_weights_of_ones_own_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    (row,) = parsed(tmp_path, recipes=[{"methods": ["mixup"], "weights": "mine.safetensors"}]).rows
    assert (row.after, row.recipe.weights) == (None, str(tmp_path / "mine.safetensors"))
    (row,) = parsed(tmp_path, recipes=[{"methods": ["mixup"], "weights": "network"}]).rows
    assert (row.after, row.recipe.weights) == (None, "network")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"suite": ["digits"]}, "it has an unknown 'suite': did you mean 'suites'?"),
        ({"suites": []}, r"suites must be a list of one or more, got \[\]"),
        ({"suites": "digits"}, "suites must be a list of one or more, got 'digits'"),
        ({"suites": [1]}, "suites must be names, TOML files or folders, got 1"),
        ({"suites": ["digit"]}, "there is no suite 'digit': did you mean 'digits'?"),
        (
            {"suites": ["nowhere.toml"]},
            "no suite 'nowhere.toml': give a TOML file, a folder, or one of digits",
        ),
        ({"suites": ["digits", "digits"]}, "two suites are called 'digits'"),
        ({"recipes": "openood"}, "recipes must be a list of one or more, got 'openood'"),
        ({"recipes": [3]}, r"recipe 1 must be a \[\[recipes\]\] table or the name of a recipe, got 3"),
        ({"recipes": ["openod"]}, "recipe 1: There is no recipe 'openod': did you mean 'openood'?"),
        ({"recipes": ["away.toml"]}, "There is no recipe at .*away.toml"),
        ({"recipes": [{"recipe": 1}]}, "recipe 1: recipe must be the name of one or a TOML file, got 1"),
        ({"recipes": [{"method": ["mixup"]}]}, "recipe 1 has an unknown 'method': did you mean 'methods'?"),
        ({"recipes": [{"methods": "mixup"}]}, "methods must be a list of names or of tables with a name, got 'mixup'"),
        ({"recipes": [PLAIN, {"methods": ["mixpu"]}]}, "recipe 2: There is no method 'mixpu': did you mean 'mixup'?"),
        ({"recipes": [{"methods": [{"name": "mixup", "alhpa": 1}]}]}, "mixup has no 'alhpa': did you mean 'alpha'?"),
        (
            {"recipes": [{"name": "soft", "methods": [{"name": "mixup", "alpha": -1}]}]},
            "'soft' cannot be trained: alpha must be a finite number >= 0, got -1",
        ),
        (
            {"recipes": [{"name": "soft", "methods": [{"name": "mixup", "alpha": "1"}]}]},
            "'soft' cannot be trained: alpha must be a number >= 0, got '1'",
        ),
        ({"recipes": [{"methods": ["mixup", "cutmix"]}]}, r"'mixup \+ cutmix' cannot be trained: .*: use one of them"),
        ({"recipes": [{**PLAIN, "epochs": 0}]}, "recipe 1: epochs must be at least 1 to train cross-entropy, got 0"),
        ({"recipes": [{**PLAIN, "epochs": "2"}]}, "recipe 1: epochs must be a whole number, got '2'"),
        ({"recipes": [{**PLAIN, "seed": 2}]}, "recipe 1 has a seed of its own: seeds = … above"),
        ({"recipes": [{**PLAIN, "name": "a/b"}]}, "name must be one that a folder can have, got 'a/b'"),
        ({"recipes": [{**PLAIN, "name": ""}]}, "name must be one that a folder can have, got ''"),
        ({"recipes": [PLAIN, PLAIN]}, "two recipes are called 'cross-entropy': give one of them another name"),
        (
            {"recipes": [{**PLAIN, "name": "a b"}, {**PLAIN, "name": "ab"}]},
            "two recipes are called 'ab': give one of them another name",
        ),
        (
            {"recipes": [PLAIN, {"methods": ["mixup"], "weights": "cross-entorpy"}]},
            "'mixup' starts from 'cross-entorpy', which is no row, recipe or path: did you mean 'cross-entropy'?",
        ),
        (
            {"recipes": [{"methods": ["mixup"], "weights": "cutmix"}, {"methods": ["cutmix"], "weights": "mixup"}]},
            "'mixup' from 'cutmix' from 'mixup': rows cannot start or learn from one another in a circle",
        ),
        (
            {"recipes": [{"methods": ["mixup"], "name": "x", "weights": "x"}]},
            "'x' from 'x': rows cannot start or",
        ),
        ({"recipes": [{"methods": ["mixup"], "suggest": True}]}, "suggest has nothing to measure for mixup"),
        ({"settings": ["fast"]}, r"settings must be a \[settings\] table"),
        ({"settings": {"epoch": 3}}, "settings have no 'epoch': did you mean 'epochs'?"),
        ({"settings": {"network": "cnn-6"}}, r"network is no setting of a recipe: write it above \[settings\]"),
        ({"settings": {"weights": "cross-entropy"}}, "weights cannot be settings of all rows"),
        ({"settings": {"seed": 3}}, "settings have no 'seed'"),
        ({"settings": {"recipe": "fats"}}, "There is no recipe 'fats': did you mean 'fast'?"),
        ({"seeds": 0}, "seeds must be how many, at least 1, or a list of different whole numbers, got 0"),
        ({"seeds": True}, "seeds must be .* got True"),
        ({"seeds": [1, 1]}, r"seeds must be .* got \[1, 1\]"),
        ({"seeds": [-1]}, r"seeds must be .* got \[-1\]"),
        ({"seeds": []}, r"seeds must be .* got \[\]"),
        ({"network": "cnn-7"}, "there is no network 'cnn-7': did you mean 'cnn-6'?"),
        ({"network": 6}, "network must be text, got 6"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, got 'tpu'"),
        ({"compile": "yes"}, "compile must be true or false, got 'yes'"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"accumulate": "2"}, "accumulate must be a whole number, got '2'"),
        ({"root": [1]}, r"root must be a folder or a list of folders, got \[1\]"),
    ],
    ids=str,
)
def test_mistakes_get_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parsed(**values)
    assert "\n" not in str(caught.value)


def write_suite_file(path: Path, name: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'name = "{name}"\ntrain = "train.npz"\ntest = "test.npz"')
    return str(path)


def test_the_name_that_a_suite_gives_itself_is_the_one_that_counts(tmp_path: Path) -> None:
    first = write_suite_file(tmp_path / "a" / "data.toml", "first")
    second = write_suite_file(tmp_path / "b" / "data.toml", "second")
    (tmp_path / "v1.5").mkdir()
    spec = parsed(tmp_path, suites=["a/data.toml", "b/data.toml", "v1.5", "fashion"])
    assert spec.suites == {"first": first, "second": second, "v1.5": str(tmp_path / "v1.5"), "fashion": "fashion"}
    assert spec.tasks(tmp_path)[1].folder == tmp_path / "runs" / "second" / "cross-entropy-0"
    for name in ("first", "digits"):
        write_suite_file(tmp_path / "c.toml", name)
        with pytest.raises(ValueError, match=f"two suites are called '{name}': give one of them another name"):
            parsed(tmp_path, suites=["digits", "a/data.toml", "c.toml"])
    write_suite_file(tmp_path / "c.toml", "x/y")
    with pytest.raises(ValueError, match=r"the suite 'c\.toml' must have a name that a folder can have, got 'x/y'"):
        parsed(tmp_path, suites=["c.toml"])
    (tmp_path / "c.toml").write_text('trian = "train.npz"')
    with pytest.raises(ValueError, match=r"c\.toml has a key 'trian'.*did you mean 'train'"):
        parsed(tmp_path, suites=["c.toml"])


def test_files_and_outliers_are_looked_for_once(tmp_path: Path) -> None:
    write_suite_file(tmp_path / "data.toml", "data")
    recipes: list[dict[str, Any]] = [PLAIN, {"name": "exposed", "methods": ["outlier-exposure"]}]
    tasks = parsed(tmp_path, suites=["digits", "data.toml"], recipes=recipes, root="there").tasks(tmp_path)
    check_data([task for task in tasks if task.data == "digits"])
    with pytest.raises(FileNotFoundError, match=r"The data 'data' needs train\.npz, which is in none of .*there"):
        check_data(tasks)
    (tmp_path / "there").mkdir()
    for name in ("train", "test"):
        (tmp_path / "there" / f"{name}.npz").touch()
    check_data([task for task in tasks if task.row != "exposed"])
    with pytest.raises(
        ValueError, match=r"'exposed' cannot be trained on 'data': outlier-exposure needs outliers, and"
    ):
        check_data(tasks)


def test_files_are_named_in_the_sentence(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(FileNotFoundError, match=r"There is no benchmark at .*mine.toml: give the path of a TOML file"):
        Benchmark.load(path)
    path.write_text("suites = [")
    with pytest.raises(ValueError, match=r"mine.toml is no benchmark: Invalid value"):
        Benchmark.load(path)
    path.write_text('suites = ["digits"]\nrecipes = ["openood", "openod"]')
    with pytest.raises(ValueError, match=r"mine.toml is no benchmark: recipe 2: There is no recipe 'openod'"):
        Benchmark.load(path)
    with pytest.raises(ValueError, match=r"There is no benchmark 'digit': did you mean 'digits'?"):
        Benchmark.load("digit")


def test_what_is_read_from_a_file_is_named_after_it(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text('suites = ["digits"]\nseeds = 3\nrecipes = ["openood"]')
    spec = Benchmark.load(tmp_path / "two.toml")
    assert (spec.name, spec.seeds, [row.name for row in spec.rows]) == ("two", (0, 1, 2), ["openood"])


def test_shipped_benchmarks_are_whole() -> None:
    assert set(benchmarks()) == {
        *("demo", "digits", "digits-wild", "fashion-12k", "fashion-12k-lt", "fashion-12k-wild"),
        *("cifar10-10k", "cifar10-10k-factorial", "cifar10", "clinc150"),
    }
    for name in benchmarks():
        spec = Benchmark.load(name)
        suite = {"demo": "digits", "cifar10-10k-factorial": "cifar10-10k"}.get(name, name)
        rows = {row.name: row for row in spec.rows}
        assert spec.rows[0].name == "cross-entropy" and list(spec.suites) == [suite]
        of_images = () if name == "clinc150" else ("cutmix", "regmixup")
        usual = () if name.endswith(("-wild", "-factorial")) else ("mixup", "logit-norm", *of_images)
        assert {"outlier-exposure", *usual} <= set(rows)
        for row in spec.rows:
            assert row.after == (None if row.recipe.weights is None else "cross-entropy")
            assert row.taught_by == row.recipe.teacher in (None, "cross-entropy")
            measures = any(card(method).suggests for method, _ in row.recipe.methods)
            assert bool(row.recipe.suggest) == (measures and row.after is not None), row.name


def test_the_benchmark_of_scenes_is_what_was_recorded() -> None:
    """It is in the repository alone, since its photos are not published."""
    folder = Path(__file__).parents[2] / "benchmarks"
    spec, recorded = Benchmark.load(folder / "scenes.toml"), read_results(folder / "results" / "scenes.jsonl")
    assert {row.name for row in spec.rows} == {run.label for run in recorded}
    suite = read_description(Path(spec.suites["scenes"]))
    named = {f"{kind}:{name}" for kind in ("near", "far") for name in suite[kind]}
    assert {"train", "test", "validation", "outliers", *named} == set(recorded[0].sizes) and suite["outliers"]


def test_the_factorial_holds_every_combination_once() -> None:
    rows = [{method for method, _ in row.recipe.methods} for row in Benchmark.load("cifar10-10k-factorial").rows]
    four = set.union(*rows[1:])
    assert rows[0] == {"cross-entropy"} and len(four) == 4
    every = [set(chosen) for size in range(1, 5) for chosen in combinations(four, size)]
    assert len(rows) == 16 and all(rows.count(chosen) == 1 for chosen in every)


def test_a_row_that_says_nothing_measures_nothing() -> None:
    assert Benchmark.from_dict({"suites": ["digits"], "recipes": [{"methods": ["energy-bounded"]}]}, name="one").rows[
        0
    ].recipe == Recipe(methods=(("energy-bounded", {}),), suggest=False)


def test_the_digits_keep_their_settings() -> None:
    """Those of the recorded results."""
    spec = Benchmark.load("digits")
    assert spec.seeds == tuple(range(10)) and not spec.options
    wild = Benchmark.load("digits-wild")
    trained = {method for row in (*spec.rows, *wild.rows) for method, _ in row.recipe.methods}
    assert trained == set(METHODS), "a row for every method"
    others = [row for row in wild.rows if row not in spec.rows]
    assert others and all("wild" in card(method).needs for row in others for method, _ in row.recipe.methods)
    assert {(row.recipe.learning_rate, row.recipe.epochs, row.after) for row in others} == {(0.01, 20, "cross-entropy")}
    for row in spec.rows:
        about = (row.recipe.learning_rate, row.recipe.epochs, row.recipe.batch_size, row.recipe.schedule)
        assert about == ((0.02, 60, 64, "cosine") if row.after is None else (0.01, 20, 64, "cosine")), row.name
    assert tomllib.loads(spec.rows[0].recipe.to_toml())["weight_decay"] == 5e-4


def test_the_demo_is_a_part_of_the_digits() -> None:
    demo, digits = Benchmark.load("demo"), Benchmark.load("digits")
    rows = {row.name: row for row in digits.rows}
    assert all(rows[row.name] == row for row in demo.rows) and len(demo.rows) < len(rows) / 2


def test_fashion_has_a_row_for_every_method() -> None:
    specs = [Benchmark.load(name) for name in ("fashion-12k", "fashion-12k-wild")]
    assert {name for spec in specs for row in spec.rows for name, _ in row.recipe.methods} == set(METHODS)
    assert all(len(spec.seeds) >= 3 for spec in specs)


def test_another_schedule_leaves_the_milestones_of_a_recipe_behind() -> None:
    (row,) = parsed(recipes=[{"recipe": "mixup", "schedule": "cosine", "epochs": 2}]).rows
    assert (row.recipe.schedule, row.recipe.milestones, row.recipe.weight_decay) == ("cosine", (), 1e-4)
    (row,) = parsed(settings={"recipe": "mixup", "schedule": "cosine"}, recipes=[{"epochs": 3, "name": "m"}]).rows
    assert row.recipe.milestones == () and row.recipe.epochs == 3
    (row,) = parsed(recipes=[{"recipe": "mixup", "epochs": 9, "milestones": [2, 3]}]).rows
    assert row.recipe.milestones == (2, 3) and row.recipe.schedule == "steps"


def test_options_are_those_of_training_with_its_defaults() -> None:
    parameters = inspect.signature(train).parameters
    assert {name: parameters[name].default for name in OPTIONS} == OPTIONS
