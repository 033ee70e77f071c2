"""Damaged run folders: every command works, or names the file in one sentence, and what was trained is not lost."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from oodles import open_run
from oodles.comparing.results import result_of
from oodles.files import write_json
from oodles.runs import folder
from oodles.runs.folder import FILES, LOG, RECIPE, RESULT, RUN, SCORES, STATE, WEIGHTS
from tests.runs.damage import DAMAGES, Damage, Place, call, contents, damaged, faults, flipped, prepare

NETWORK = "tests.runs.small:linear"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return prepare(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(place: Place, tmp_path: Path) -> Path:
    return shutil.copytree(place.finished, tmp_path / "run")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_command_works_or_names_the_damaged_file(damage: Damage, place: Place, tmp_path: Path) -> None:
    answers: Counter[str] = Counter()
    for number, file in enumerate(FILES):
        for whole in (place.finished, place.unfinished):
            if not (whole / file).exists():
                continue
            run = damaged(place, whole, file, damage, np.random.default_rng(number), tmp_path)
            for command, answer in faults(place, run, file, tmp_path, ("export", "report")):
                assert answer in ("works", "refused"), f"{whole.name}, {file}, {command}: {answer}"
                answers[answer] += 1
    assert answers["refused"]


def test_nothing_is_wrong_without_damage(place: Place, run: Path, tmp_path: Path) -> None:
    answers = dict(faults(place, run, "", tmp_path, ("export",)))
    assert set(answers.values()) == {"works"} and len(answers) == 5


@pytest.mark.parametrize("file", [WEIGHTS, STATE, SCORES])
def test_two_flipped_bits_are_found(file: str, place: Place, tmp_path: Path) -> None:
    """Wherever they are: in the header, in the numbers, or two that a checksum of few bits might miss."""
    whole = place.unfinished if file == STATE else place.finished
    size = (whole / file).stat().st_size
    for number, at in enumerate([*range(0, 400, 57), *range(400, size - 9, size // 12)]):
        run = tmp_path / str(number)
        shutil.copytree(whole, run)
        content = bytearray((run / file).read_bytes())
        content[at] ^= 1
        content[at + 8] ^= 1
        (run / file).write_bytes(content)
        words = place.train(run) if file == STATE else ["score", str(run), str(place.inputs), "--network", NETWORK]
        answer = call([*words, "--json"] if file != STATE else words)
        assert answer.code == 1 and str(run / file) in answer.err and "delete it" in answer.err, (at, answer)


def changed(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return a damage that changes the content of a JSON file."""

    def do(run: Path) -> None:
        content = json.loads((run / file).read_text(encoding="utf-8"))
        new = change(content)
        write_json(run / file, content if new is None else new)

    return do


def replaced(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / file).write_bytes(content) and None


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        (
            replaced(RUN, b""),
            RUN,
            "is not JSON (it is empty): it was cut short or changed by hand; take",
        ),
        (replaced(RUN, b"\xff"), RUN, "is not UTF-8 text"),
        (replaced(RUN, b"[" * 10**5), RUN, "is not JSON that can be read: numbers or lists in it are too long"),
        (changed(RUN, lambda record: []), RUN, "its content must be a table of keys and values, got []"),
        (changed(RUN, lambda record: record.pop("suite") and None), RUN, "suite is missing"),
        (
            changed(RUN, lambda record: record["suite"].update(sizes={"test": -1})),
            RUN,
            "suite.sizes.test must be",
        ),
        (changed(RUN, lambda record: record["suite"].update(classes="abc")), RUN, "suite.classes must be a list"),
        (changed(RUN, lambda record: record["suite"].update(std=[0])), RUN, "suite.std[0] must be a number above 0"),
        (
            changed(RUN, lambda record: record["arguments"].update(network=3)),
            RUN,
            "arguments.network must be text",
        ),
        (changed(RUN, lambda record: record["recipe"].update(epochs="two")), RUN, "epochs must be a whole number"),
        (changed(RUN, lambda record: record["recipe"].update(methods=[{"name": "x"}])), RUN, "There is no method 'x'"),
        (replaced(RECIPE, b"epochs = "), RECIPE, "is no recipe: Invalid value"),
        (replaced(RECIPE, b"\x87\x88"), RECIPE, "is no recipe"),
        (replaced(LOG, b'{"epoch": 0}\n'), LOG, "line 1: terms is missing; delete it, only its curves are lost"),
        (replaced(LOG, b'{"epoch": 0\n{}\n'), LOG, "line 1 is not JSON"),
        (replaced(LOG, b"random"), LOG, "line 1 is not JSON"),
        (
            changed(RESULT, lambda result: result.update(status="done")),
            RESULT,
            "status must be one of finished",
        ),
        (changed(RESULT, lambda result: result.update(status=["finished"])), RESULT, "status must be one of finished"),
        (
            changed(RESULT, lambda result: result.update(seconds=-1)),
            RESULT,
            "seconds must be a number of seconds",
        ),
        (
            changed(RESULT, lambda result: result.update(test_accuracy=93)),
            RESULT,
            "test_accuracy must be a number",
        ),
        (changed(RESULT, lambda result: result.update(metrics={"test": 1})), RESULT, "metrics.test must be a table"),
        (lambda run: (run / LOG).unlink() or (run / LOG).mkdir(), LOG, "must be a file, and it is something else"),
    ],
)
def test_damage_is_described(damage: Callable[[Path], None], file: str, words: str, place: Place, run: Path) -> None:
    damage(run)
    with pytest.raises(ValueError) as refusal:
        open_run(run)
    assert str(refusal.value).startswith(str(run / file)) and words in str(refusal.value)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


def test_what_later_versions_write_besides_is_no_damage(run: Path) -> None:
    before = result_of(open_run(run))
    for file in (RUN, RESULT):
        changed(file, lambda content: content.update(further={"a": [1]}))(run)
    for key in ("arguments", "suite", "initial"):
        changed(RUN, lambda record, key=key: record[key].update(further=1))(run)
    assert result_of(open_run(run)).metrics == before.metrics


def test_a_last_line_that_was_cut_does_not_count(place: Place, tmp_path: Path) -> None:
    run = shutil.copytree(place.unfinished, tmp_path / "run")
    whole = (run / LOG).read_bytes()
    for cut in (1, 2, 40):
        (run / LOG).write_bytes(whole[:-cut])
        assert [entry["epoch"] for entry in open_run(run).log] == ([0, 1] if cut == 1 else [0])
    assert call(place.train(run)).code == 0
    assert (run / WEIGHTS).read_bytes() == (place.finished / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    "missing", [(LOG,), (SCORES, RESULT), (WEIGHTS, RESULT), (WEIGHTS, SCORES, RESULT, LOG), (STATE,)]
)
def test_what_is_deleted_is_made_anew(missing: tuple[str, ...], place: Place, run: Path) -> None:
    for file in missing:
        (run / file).unlink()
    assert call(place.train(run)).code == 0
    for file in (WEIGHTS, *((SCORES,) if SCORES in missing else ())):
        assert (run / file).read_bytes() == (place.finished / file).read_bytes()
    before, after = open_run(place.finished).result, open_run(run).result
    assert after["test_accuracy"] == before["test_accuracy"] and after["metrics"] == before["metrics"]
    assert after["validation_accuracy"] == before["validation_accuracy"]


def test_what_is_missing_of_a_finished_run_is_said(place: Place, run: Path) -> None:
    for file in (SCORES, WEIGHTS):
        (run / file).rename(run.parent / file)
        answer = call(["score", str(run), str(place.inputs), "--network", NETWORK, "--json"])
        assert answer.code == 1 and f"{file} was deleted; delete result.json too" in answer.err
        (run.parent / file).rename(run / file)


Tensors = dict[str, torch.Tensor]


def nan_weight(tensors: Tensors, counters: dict[str, Any]) -> None:
    next(value for name, value in tensors.items() if name.endswith("weight")).view(-1)[0] = float("nan")


def inf_moment(tensors: Tensors, counters: dict[str, Any]) -> None:
    tensors["optimizer/0/momentum_buffer"].view(-1)[0] = float("inf")


def no_weight(tensors: Tensors, counters: dict[str, Any]) -> None:
    del tensors[next(name for name in tensors if name.endswith("weight"))]


def flat_weight(tensors: Tensors, counters: dict[str, Any]) -> None:
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = tensors[name].reshape(-1)


def short_moment(tensors: Tensors, counters: dict[str, Any]) -> None:
    tensors["optimizer/0/momentum_buffer"] = torch.zeros(3)


def moment_of_nothing(tensors: Tensors, counters: dict[str, Any]) -> None:
    tensors["optimizer/99/momentum_buffer"] = torch.zeros(3)


def moment_without_a_name(tensors: Tensors, counters: dict[str, Any]) -> None:
    tensors["optimizer/x"] = torch.zeros(3)


def other_steps(tensors: Tensors, counters: dict[str, Any]) -> None:
    tensors["step/_extra_state"] = torch.tensor([-5, 0])


def no_steps(tensors: Tensors, counters: dict[str, Any]) -> None:
    tensors["step/_extra_state"] = torch.tensor([], dtype=torch.int64)


def counter(name: str, value: Any) -> Callable[[Tensors, dict[str, Any]], None]:
    def change(tensors: Tensors, counters: dict[str, Any]) -> None:
        counters[name] = value
        if value is ...:
            del counters[name]

    change.__name__ = f"{name}_{value!r}"[:40]
    return change


@pytest.mark.parametrize(
    "change",
    [nan_weight, inf_moment, no_weight, flat_weight, short_moment, moment_of_nothing, moment_without_a_name]
    + [other_steps, no_steps]
    + [counter("position", value) for value in (-3, 3.0, 10**30, True, None, "3", [3], float("nan"), ..., 5)]
    + [counter("seconds", value) for value in (-1.0, float("inf"), "1", None, ..., 10**400)]
    + [counter("sums", value) for value in (None, [1.0], {"a": "b"}, {"a": float("nan")}, ...)]
    + [counter("scaler", value) for value in (None, 3, {"scale": "x"}, ...)],
    ids=lambda change: change.__name__,
)
def test_odd_states_get_a_sentence(
    change: Callable[[Tensors, dict[str, Any]], None], place: Place, tmp_path: Path
) -> None:
    """Also where the fingerprint is right, or there is none, as in states of earlier versions."""
    run = shutil.copytree(place.unfinished, tmp_path / "run")
    with safe_open(run / STATE, framework="pt") as file:
        tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        counters = json.loads(file.metadata()["counters"])
    del counters["sha256"]
    change(tensors, counters)
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, run / STATE, {"counters": json.dumps(counters)}
    )
    before = contents(run)
    answer = call(place.train(run))
    assert answer.code == 1 and answer.err.startswith(f"oodles: {run / STATE}") and answer.err.count("\n") == 1, answer
    assert contents(run) == before


def test_states_without_a_fingerprint_are_resumed(place: Place, tmp_path: Path) -> None:
    run = shutil.copytree(place.unfinished, tmp_path / "run")
    with safe_open(run / STATE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        counters = json.loads(file.metadata()["counters"])
    del counters["sha256"]
    save_file(tensors, run / STATE, {"counters": json.dumps(counters)})
    assert call(place.train(run)).code == 0
    assert (run / WEIGHTS).read_bytes() == (place.finished / WEIGHTS).read_bytes()


def test_scores_that_claim_to_be_huge_are_not_unpacked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(RESULT, lambda result: result.pop("sha256") and None)(run)
    np.savez_compressed(run / SCORES, **{"test/msp": np.zeros(2000)})
    monkeypatch.setattr(folder, "MOST_BYTES", 16000)
    with pytest.raises(ValueError, match=r"scores.npz is damaged \(its arrays take more than .*\); delete it"):
        _ = open_run(run).scores


def test_scores_that_do_not_belong_together_are_refused(run: Path) -> None:
    changed(RESULT, lambda result: result.pop("sha256") and None)(run)
    scores = dict(open_run(run).scores)
    for further, words in (
        ({"test/msp": np.zeros((3, 3))}, "test/msp is no row of numbers"),
        ({"test/msp": np.array(["a"])}, "test/msp is no row of numbers"),
        ({"msp": np.zeros(3)}, "msp is no row of numbers"),
        ({"test/msp": np.zeros(3)}, "has another length than its set"),
        ({"test/predictions": np.full(30, 99)}, "test/predictions holds what is no class"),
    ):
        np.savez(run / SCORES, **{**scores, **further})
        with pytest.raises(ValueError, match=f"scores.npz is damaged \\({words}|{words}"):
            _ = open_run(run).scores


def test_the_damages_damage(place: Place, tmp_path: Path) -> None:
    """A flipped bit is one, so that the tests above try what they say."""
    run = damaged(place, place.finished, WEIGHTS, flipped, np.random.default_rng(0), tmp_path)
    pairs = zip((run / WEIGHTS).read_bytes(), (place.finished / WEIGHTS).read_bytes(), strict=True)
    assert sum((one ^ other).bit_count() for one, other in pairs) == 1
