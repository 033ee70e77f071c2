"""Properties 7 and 10: two processes equal one, and each draws numbers of its own. One spawn serves all tests."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from oodles import SAM, Batch, EnergyGap, Part, TrainingStep
from oodles.scores import energy

from ..contract.additions import ADDITIONS
from ..contract.networks import batch, classifier
from ..contract.rows import KINDS_OF_ROWS, ROWS, Row
from ..contract.steps import equal_batches
from .worker import MEANS, VOID, Case, Traced, outcome, shard, void_batch, weighted, work

WORLD = 2


class LocalHinge(EnergyGap):
    """Broken on purpose: the hinge of each process looks at its own means."""

    name = "local-hinge"

    def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        gap = energy(outputs.logits["id"]).mean() - energy(outputs.logits["outliers"]).mean()
        return {"energy_gap": self.weight * (gap + self.margin).relu()}


class LocalBuffer(EnergyGap):
    """Broken on purpose: a buffer that each process fills with its own mean."""

    name = "local-buffer"

    def __init__(self, *, weight: float = 0.1, margin: float = 10.0):
        super().__init__(weight=weight, margin=margin)
        self.register_buffer("average", torch.zeros((), dtype=torch.float64))

    def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        self.average.copy_(outputs.logits["id"].detach().mean())
        return super().loss_terms(outputs, batch, now)


def prepared(row: Row, kind: str) -> Case:
    net = classifier(kind, dtype=torch.float64)
    return Case(row, net, TrainingStep(net, *row.methods(), seed=7).prepare(batch(kind, dtype=torch.float64)))


def with_a_hinge_on_one_process(name: str) -> Case:
    """Rows sorted by energy and margins between the two processes' rows, so that one hinge alone is active."""
    net = classifier("vectors", dtype=torch.float64)
    given = batch("vectors", dtype=torch.float64)
    with torch.no_grad():
        x, o = given["id"].inputs, 30 * given["outliers"].inputs  # which raises their energies
        x, o = x[energy(net(x)).argsort(descending=True)], o[energy(net(o)).argsort()]
        e_in, e_out = energy(net(x)), energy(net(o))
    rows = Batch({"id": Part(x, given["id"].targets), "outliers": Part(o)})
    if name == "energy-bounded":
        margins = {"margin_in": float(e_in[2:4].mean()), "margin_out": float(e_out[4:6].mean())}
    else:
        (first_in, last_in), (first_out, last_out) = e_in.tensor_split(2), e_out.tensor_split(2)
        gaps = first_in.mean() - first_out.mean(), last_in.mean() - last_out.mean()
        margins = {"margin": float(abs(gaps[0] - gaps[1]) / 4 - (gaps[0] + gaps[1]) / 2)}
    return Case(ROWS[name].with_settings(**margins), net, rows)


def _broken(cls: type[EnergyGap]) -> Case:
    case = with_a_hinge_on_one_process("energy-gap")
    return replace(case, row=replace(case.row, cls=cls))


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    hinges = {f"{name}/vectors/hinge": with_a_hinge_on_one_process(name) for name in ("energy-bounded", "energy-gap")}
    broken = {"broken/local hinge/": _broken(LocalHinge), "broken/local buffer/": _broken(LocalBuffer)}
    more = {f"{name}/images": prepared(row, "images") for name, row in ADDITIONS.items()}
    return {f"{name}/{kind}": prepared(ROWS[name], kind) for name, kind in KINDS_OF_ROWS} | more | hinges | broken


@pytest.fixture(scope="module")
def results(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    torch.save(cases, folder / "cases.pt")
    torch.multiprocessing.spawn(work, args=(WORLD, str(folder)), nprocs=WORLD)
    return [
        torch.load(Path(folder, f"{rank}.pt"), weights_only=False)
        | {"left": json.loads(Path(folder, f"{rank}.json").read_text())}
        for rank in range(WORLD)
    ]


def test_no_thread_of_a_group_outlives_it(results: list[dict[str, Any]]) -> None:
    """One that frees a tensor while the interpreter shuts down would abort the process, after all its work."""
    assert [result["left"] for result in results] == [[], []]


def check_two_equal_one(case: Case, outcomes: list[dict[str, Tensor]]) -> None:
    """Gradients and buffers of both processes, and the mean of their terms, are those of one process."""
    step = case.step()
    expected = outcome(step, Traced(step), case.prepared)
    assert all(found.keys() == expected.keys() for found in outcomes)
    for name, value in expected.items():
        if name.startswith("term"):
            mean = torch.stack([found[name] for found in outcomes]).mean(0)
            torch.testing.assert_close(mean, value, rtol=1e-6, atol=1e-9, msg=name)
        else:
            for found in outcomes:
                torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("name, kind", [case for case in KINDS_OF_ROWS if not ROWS[case[0]].together])
def test_two_processes_equal_one(name: str, kind: str, cases: dict[str, Case], results: list[dict[str, Any]]) -> None:
    case = f"{name}/{kind}"
    check_two_equal_one(cases[case], [result["outcomes"][case] for result in results])


@pytest.mark.parametrize("name", ADDITIONS)
def test_what_no_shipped_method_uses(name: str, cases: dict[str, Case], results: list[dict[str, Any]]) -> None:
    case = f"{name}/images"
    check_two_equal_one(cases[case], [result["outcomes"][case] for result in results])


def test_other_numbers_of_rows_are_refused_everywhere(results: list[dict[str, Any]]) -> None:
    assert {result["unequal"] for result in results} == {
        "rows must be as many in every process, got 3 to 4: drop the last batch of an epoch."
    }


def test_class_weights_count_over_all_processes(results: list[dict[str, Any]]) -> None:
    for result in results:
        for found, alone in zip(result["class weights"], weighted(0, 1), strict=True):
            torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-12)


def test_weights_that_follow_the_gradient_follow_that_of_all_processes(results: list[dict[str, Any]]) -> None:
    given = batch("images", dtype=torch.float64)
    ((_, expected),) = TrainingStep(classifier("images", dtype=torch.float64), SAM()).prepare(given).weights
    for result in results:
        for name, value in expected.items():
            torch.testing.assert_close(result["other weights"][name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("name", ["energy-bounded", "energy-gap"])
def test_a_hinge_that_is_active_on_one_process_only(
    name: str, cases: dict[str, Case], results: list[dict[str, Any]]
) -> None:
    case = cases[f"{name}/vectors/hinge"]
    method = case.row.make()
    local = []
    for rank in range(WORLD):
        rows = shard(case.prepared, rank, WORLD)
        local.append(float(method(case.net(rows["id"].inputs), case.net(rows["outliers"].inputs)).detach()))
    assert sorted(value > 0 for value in local) == [False, True], "one process alone has an active hinge"
    check_two_equal_one(case, [result["outcomes"][f"{name}/vectors/hinge"] for result in results])


def test_a_hinge_on_local_means_is_rejected(cases: dict[str, Case], results: list[dict[str, Any]]) -> None:
    case = "broken/local hinge/"
    with pytest.raises(AssertionError, match="energy_gap"):
        check_two_equal_one(cases[case], [result["outcomes"][case] for result in results])


def test_a_buffer_kept_local_is_rejected(cases: dict[str, Case], results: list[dict[str, Any]]) -> None:
    case = "broken/local buffer/"
    with pytest.raises(AssertionError, match="average"):
        check_two_equal_one(cases[case], [result["outcomes"][case] for result in results])


def test_compiled_as_well(cases: dict[str, Case], results: list[dict[str, Any]]) -> None:
    check_two_equal_one(cases["energy-gap/vectors"], [result["compiled"] for result in results])


@pytest.mark.parametrize("name, even", VOID)
def test_void_pixels(name: str, even: bool, results: list[dict[str, Any]]) -> None:
    """Two processes equal one with as many pixels in each; else each has a mean of its own, but for energy-gap's."""
    step = TrainingStep(classifier("dense", dtype=torch.float64), *ROWS[name].methods())
    expected = outcome(step, Traced(step), step.prepare(void_batch(even)))
    found = [result["void"][name, even] for result in results]
    own_mean = {"cross_entropy"} if name in ("energy-gap", "mcd") else {"cross_entropy", *ROWS[name].cls.terms}
    for key, value in expected.items():
        mean = torch.stack([result[key] for result in found]).mean(0)
        if even or (key.startswith("term") and key.removeprefix("term ") not in {*own_mean, "second_head"}):
            torch.testing.assert_close(mean, value, rtol=1e-6, atol=1e-9, msg=key)
        elif key.startswith("term"):
            assert not torch.allclose(mean, value, rtol=1e-6), f"{key} counts each pixel once: then the docs can say so"


@pytest.mark.parametrize("name", ROWS)
def test_each_process_draws_its_own_numbers(name: str, results: list[dict[str, Any]]) -> None:
    kind = ROWS[name].kinds[0]
    step = TrainingStep(classifier(kind), *ROWS[name].methods(), seed=7)
    alone = [step.prepare(batch(kind)) for _ in range(2)]
    first, second = (result["batches"][name] for result in results)
    for index in range(2):
        assert equal_batches(first[index], alone[index]), "the first process draws what a single one would"
        differ = ROWS[name].draws(kind) and "weights" not in ROWS[name].cls.replaces  # which all processes share
        assert equal_batches(first[index], second[index]) != differ


@pytest.mark.parametrize("name", ROWS)
def test_whole_steps_in_ddp_keep_the_weights_in_step(name: str, results: list[dict[str, Any]]) -> None:
    first, second = (result["whole steps"][name] for result in results)
    start = dict(TrainingStep(classifier(ROWS[name].kinds[0]), *ROWS[name].methods()).classifier.named_parameters())
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        assert key not in start or not torch.equal(value, start[key]), f"{key} was not trained"


@pytest.mark.parametrize("index", range(len(MEANS)))
def test_the_mean_over_processes(index: int, results: list[dict[str, Any]]) -> None:
    values = [*MEANS[index][0], *MEANS[index][1]]
    expected = sum(values) / len(values) if values else 0.0
    for rank, result in enumerate(results):
        mean, count, gradient = result["means"][index]
        assert mean == pytest.approx(expected)
        assert count == len(values)
        # each process differentiates its own copy of the square; their sum is what DDP averages
        slope = WORLD * 2 * expected / max(len(values), 1)
        assert gradient == pytest.approx([slope] * len(MEANS[index][rank]))
