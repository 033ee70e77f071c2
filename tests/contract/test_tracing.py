"""Property 9: no host sync and no Python loop in the traced half; it compiles into one graph."""

import copy
import itertools
import shutil

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from oodles import EnergyGap, LogitNorm, Mixup, OutlierExposure, Part, RegMixup, TrainingStep

from .networks import batch, classifier, labels
from .rows import KINDS_OF_ROWS, ROWS, Row, together
from .steps import map_tensors, total


def check_no_sync(row: Row, kind: str) -> None:
    """Forward and backward run on tensors without values, so that nothing can have waited for a value."""
    prepared = TrainingStep(classifier(kind), *row.methods()).prepare(batch(kind))
    with FakeTensorMode() as mode:
        step = TrainingStep(classifier(kind), *row.methods())
        terms = step.losses(map_tensors(prepared, mode.from_tensor))
        total(terms).backward()
        for name, parameter in step.named_parameters():
            assert parameter.grad is not None and parameter.grad.shape == parameter.shape, name


class Operations(TorchDispatchMode):
    """Counts what reaches the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def check_no_loop(row: Row, kind: str) -> None:
    """Check that a step takes as many operations for more rows and for more classes."""
    counts = []
    for rows, classes in ((6, 4), (12, 4), (24, 4), (6, 9)):
        step = TrainingStep(
            classifier(kind, classes=classes), *row.taught(classes).methods(**dict.fromkeys(row.of_classes, ()))
        )
        given = batch(kind, rows=rows)
        given = given.with_part("id", Part(given["id"].inputs, labels(kind, rows, classes=classes)))
        with Operations() as operations:
            total(step(given)).backward()
        counts.append(operations.count)
    assert len(set(counts)) == 1, f"operations for 6, 12, 24 rows and for 9 classes: {counts}"


def check_compiles(row: Row, kind: str, backend: str) -> None:
    """Check that a step compiles to one graph with the same numbers, and is not compiled again in later steps."""
    given = [batch(kind, seed=seed) for seed in range(3)]
    eager = TrainingStep(classifier(kind), *row.methods())
    compiled = TrainingStep(classifier(kind), *row.methods())
    compiled.compile(backend=backend)
    torch._dynamo.reset()
    for index, rows in enumerate(given):
        with torch._dynamo.config.patch(error_on_recompile=index > 0):
            terms = compiled(rows)
        expected = eager(rows)
        assert terms.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6, msg=name)
        total(terms).backward()
        total(expected).backward()
        for (name, a), b in zip(compiled.named_parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_forward_and_backward_without_values(name: str, kind: str) -> None:
    check_no_sync(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_no_loop_over_rows_or_classes(name: str, kind: str) -> None:
    check_no_loop(ROWS[name], kind)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "per_sample" in row.defaults])
def test_mixers_do_not_loop(name: str, per_sample: bool) -> None:
    check_no_loop(ROWS[name].with_settings(per_sample=per_sample), "images")


@pytest.mark.parametrize("name", ROWS)
def test_one_graph(name: str) -> None:
    check_compiles(ROWS[name], "images", "aot_eager")


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's default compiler needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # inside torch's compiler
@pytest.mark.parametrize("name", ["energy-bounded", "logit-norm"])
def test_one_graph_with_the_default_compiler(name: str) -> None:
    check_compiles(ROWS[name], "vectors", "inductor")


def test_token_dictionaries_compile() -> None:
    check_compiles(ROWS["outlier-exposure"], "tokens", "aot_eager")


def test_a_composition_compiles_into_one_graph() -> None:
    torch._dynamo.reset()
    methods = RegMixup(), OutlierExposure(), EnergyGap(), LogitNorm()
    eager, compiled = (TrainingStep(classifier("images"), *methods) for _ in range(2))
    compiled.compile(backend="aot_eager")
    expected, terms = eager(batch("images")), compiled(batch("images"))
    assert list(terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)


def test_many_compiled_steps_live_in_one_process() -> None:
    torch._dynamo.reset()
    pairs = [(a, b) for a, b in itertools.combinations(ROWS, 2) if {a, b} != {"mixup", "cutmix"}]
    enough = torch._dynamo.config.recompile_limit + 2
    assert len(pairs) > enough
    for seed, names in enumerate(pairs[:enough]):
        eager, compiled = (
            TrainingStep(classifier("images", seed=seed), *together(*(ROWS[name] for name in names))) for _ in range(2)
        )
        compiled.compile(backend="eager")
        torch.testing.assert_close(total(compiled(batch("images"))), total(eager(batch("images"))))


def test_a_compiled_step_goes_through_epochs_and_validation() -> None:
    torch._dynamo.reset()
    step = TrainingStep(classifier("images", noisy=True).train(), Mixup(), OutlierExposure())
    step.compile(backend="aot_eager")
    step.epochs = 12
    for epoch in range(12):
        step.epoch = epoch
        with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
            assert total(step(batch("images", seed=epoch))).isfinite()


def test_compiling_from_outside_gives_the_same_terms() -> None:
    torch._dynamo.reset()
    given = batch("images")
    expected = TrainingStep(classifier("images"), Mixup(), OutlierExposure())(given)
    outside = torch.compile(TrainingStep(classifier("images"), Mixup(), OutlierExposure()), backend="aot_eager")
    for name, value in outside(given).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cutmix", "outlier-exposure", "energy-gap"])
def test_a_last_batch_of_another_size_and_no_outliers_at_all(name: str) -> None:
    torch._dynamo.reset()
    eager, compiled = (TrainingStep(classifier("images"), *ROWS[name].methods()) for _ in range(2))
    compiled.compile(backend="eager")
    for rows, outliers in ((6, 10), (3, 5), (1, 10), (6, 0)):
        given = batch("images", rows=rows).with_part("outliers", Part(torch.ones(outliers, 2, 8, 8)))
        expected, terms = eager(given), compiled(given)
        for term, value in expected.items():
            torch.testing.assert_close(terms[term], value, rtol=1e-5, atol=1e-6, msg=term)


def test_a_compiled_step_is_copied() -> None:
    torch._dynamo.reset()
    step = TrainingStep(classifier("vectors"), OutlierExposure())
    step.compile(backend="eager")
    step(batch("vectors"))
    copied = copy.deepcopy(step)
    with torch.no_grad():
        step.classifier.head.bias.add_(torch.arange(4.0))
    fresh = TrainingStep(classifier("vectors"), OutlierExposure())
    torch.testing.assert_close(total(copied(batch("vectors"))), total(fresh(batch("vectors"))))
    assert copied.steps == 2
