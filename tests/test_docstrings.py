"""Every example in a docstring is run, in every module of the package."""

import doctest
import importlib
import pkgutil

import pytest

import oodles

MODULES = ["oodles", *(module.name for module in pkgutil.walk_packages(oodles.__path__, "oodles."))]
MODULES = [name for name in MODULES if not name.endswith("__main__")]  # which runs the program


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module, name) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_shown(name: str) -> None:
    for test in examples(name):
        printed: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test, out=printed.append)
        assert not printed, "".join(printed)


def test_the_examples_are_found() -> None:
    documented = {test.name for name in MODULES for test in examples(name)}
    expected = {
        "oodles.step.TrainingStep",
        "oodles.classifier.Classifier",
        "oodles.classifier.Classifier.split",
        "oodles.outliers.pairs.pair",
        "oodles.methods.mixup.mixup_data",
        "oodles.methods.mixup.mixup_criterion",
        "oodles.methods.cutmix.CutMix",
        "oodles.methods.outlier_exposure.OutlierExposureLoss",
        "oodles.methods.energy_gap.EnergyRegularizedLoss",
    }
    assert expected <= documented, f"without an example: {sorted(expected - documented)}"
