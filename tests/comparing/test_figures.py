"""Statistics over seeds: the bootstrap against hand-made and enumerated ones, the sign test against SciPy's."""

import itertools
import math

import numpy as np
import pytest

from oodles.comparing.figures import CAUTION, Figure, Seeds, holm, in_brackets, in_points


def seeds(values: list[float]) -> Seeds:
    return Seeds(dict(enumerate(values)))


@pytest.mark.parametrize(
    ("n", "most"),
    # of n seeds one is n and the others 0, so the mean is how often that one was drawn, which is binomial:
    # the interval ends at the largest count that 2.5 % of all resamples reach
    [(3, 3), (4, 3), (5, 3), (10, 3), (11, 3), (30, 3)],
)
def test_bootstrap_of_one_seed_unlike_the_others(n: int, most: int) -> None:
    assert sum(math.comb(n, k) * (n - 1) ** (n - k) for k in range(most, n + 1)) / n**n >= 0.025
    assert sum(math.comb(n, k) * (n - 1) ** (n - k) for k in range(most + 1, n + 1)) / n**n < 0.025
    assert seeds([float(n)] + [0.0] * (n - 1)).bootstrap == (0.0, most)
    assert seeds([0.0] * (n - 1) + [-float(n)]).bootstrap == (-most, 0.0)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_bootstrap_goes_through_every_resample(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    means = np.sort([values[list(drawn)].mean() for drawn in itertools.product(range(n), repeat=n)])
    outside = math.ceil(n**n / 40) - 1  # fewer than 2.5 %
    low, high = means[outside], means[-1 - outside]
    assert seeds(values.tolist()).bootstrap == pytest.approx((low, high), abs=1e-12)
    student = seeds(values.tolist()).interval
    assert student is not None and student[0] < low and high < student[1]  # the bootstrap is the narrower one


def test_bootstrap_of_many_seeds_is_drawn_the_same_way_each_time() -> None:
    values = np.random.default_rng(0).normal(size=40)
    interval, again = seeds(values.tolist()).bootstrap, seeds(values.tolist()).bootstrap
    assert interval == again and interval is not None
    normal = 1.96 * values.std() / math.sqrt(40)
    assert interval == pytest.approx((values.mean() - normal, values.mean() + normal), abs=0.1 * normal)


def test_two_seeds_have_no_interval() -> None:
    assert seeds([0.1, 0.2]).bootstrap is None and seeds([0.1, 0.2]).interval is None
    assert in_brackets(None) == "–"


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([0.1, 0.2, 0.3], 0.25),
        ([-0.1, -0.2, -0.3, -0.1, -0.2], 0.0625),
        ([0.1, 0.2, 0.3, -0.1, 0.4], 0.375),
        ([0.1, 0.2, 0.0, 0.3], 0.25),  # a tie is dropped
        ([0.1, -0.2], 1.0),
        ([0.0, 0.0], 1.0),
        ([0.5], 1.0),
    ],
)
def test_sign_test_by_hand(values: list[float], p: float) -> None:
    assert seeds(values).sign_test == p


@pytest.mark.parametrize("n", [1, 2, 5, 10, 23])
def test_sign_test_is_scipys(n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for wins in range(n + 1):
        expected = stats.binomtest(wins, n, 0.5).pvalue
        assert seeds([1.0] * wins + [-1.0] * (n - wins)).sign_test == pytest.approx(expected, rel=1e-12)
    assert seeds([1.0] * n).smallest_p == seeds([1.0] * n).sign_test or n == 1


def test_the_caution_says_what_so_few_seeds_can_say() -> None:
    for n, p in ((3, "0.25"), (5, "0.06"), (10, "0.002")):
        assert f"{seeds([1.0] * n).smallest_p:.{len(p) - 2}f}" == p and f"{p} for" in CAUTION
    assert seeds([1.0] * 4).caution == (
        "4 seeds: a bootstrap over so few is too narrow, the sign test's p cannot be below 0.12"
    )
    assert seeds([1.0] * 10).caution == "10 seeds: the sign test's p cannot be below 0.002"


def test_differences_in_words() -> None:
    worse = seeds([-0.02, -0.03, -0.025])
    figure = Figure("mixup", "msp", "near:x", "auroc", worse, None, "energy", None, "knn", worse)
    assert (figure.against_plain, figure.verdict, figure.wins) == ("", "", 0)
    assert (figure.in_words(worse), figure.judge(worse)) == ("−2.5 ± 0.5 ▼ 0/3", "worse")
    assert in_brackets((-0.003, 0.012)) == "[−0.3, +1.2]" and in_points(-0.0251) == "−2.5"


def test_seeds_mean_and_sample_deviation() -> None:
    seeds = Seeds({0: 0.5, 1: 0.6, 4: 0.85})
    assert (seeds.n, seeds.mean, seeds.std) == (3, pytest.approx(0.65), pytest.approx(0.18027756377319948))
    assert str(seeds) == "65.0 ± 18.0"
    assert Seeds({0: 0.5}).std is None and str(Seeds({0: 0.5})) == "50.0"
    difference = seeds.minus(Seeds({1: 0.5, 2: 0.9, 4: 0.8}))
    assert difference is not None
    assert difference.by_seed == pytest.approx({1: 0.1, 4: 0.05})
    assert seeds.minus(Seeds({7: 0.1})) is None


@pytest.mark.parametrize("n", [3, 5, 12, 31, 32, 80])
def test_the_interval_is_students(n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).normal(size=n)
    half = Seeds(dict(enumerate(values.tolist()))).half_interval
    exact = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert half == pytest.approx(exact, rel=1e-4 if n <= 31 else 0.03)
    assert half is not None and half >= exact * (1 - 1e-4)


@pytest.mark.parametrize("n", [3, 5, 12])
def test_p_is_that_of_students_test_and_agrees_with_the_interval(n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(n)
    for shift in np.linspace(0, 3, 40):
        values = seeds(generator.normal(shift, size=n).tolist())
        assert values.p is not None and values.interval is not None
        assert values.p == pytest.approx(stats.ttest_1samp(list(values.by_seed.values()), 0).pvalue, rel=1e-9)
        assert (values.p < 0.05) == (values.interval[0] > 0 or values.interval[1] < 0)
    assert (seeds([0.5] * n).p, seeds([0.0] * n).p) == (0.0, 1.0)
    assert seeds([0.1, 0.2]).p is None


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # by hand
    assert (holm([]), holm([0.7]), holm([0.9, 0.8])) == ([], [0.7], [1.0, 1.0])
    values = np.random.default_rng(0).uniform(size=50) ** 6
    values[10:20] = values[:10]  # ties
    for level in (0.001, 0.05, 0.2):
        rejected, left = set[int](), sorted(range(50), key=lambda place: values[place])
        while left and values[left[0]] <= level / len(left):  # step down, until one is kept
            rejected.add(left.pop(0))
        assert rejected == {place for place, adjusted in enumerate(holm(values.tolist())) if adjusted <= level}
        assert 0 < len(rejected) < 50


def test_a_mark_is_doubled_where_it_holds_with_the_correction() -> None:
    worse, other = seeds([-0.02, -0.03, -0.025]), seeds([-0.02, -0.03, -0.025])
    for p_holm, mark in ((None, "▼"), (0.06, "▼"), (0.049, "▼▼")):
        figure = Figure("mixup", "msp", "near:x", "auroc", worse, None, "msp", worse, "knn", other, p_holm)
        assert (figure.mark, figure.against_plain) == (mark, f"−2.5 ± 0.5 {mark} 0/3")
        assert figure.in_words(other) == "−2.5 ± 0.5 ▼ 0/3"  # another difference, of no family
    noise = seeds([-0.02, 0.03, -0.025])
    assert Figure("mixup", "msp", "near:x", "auroc", noise, None, "msp", noise, p_holm=0.5).mark == ""


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.02, 0.03, 0.025, 0.028, 0.022], "better"),
        ([-0.02, -0.03, -0.025, -0.028, -0.022], "worse"),
        ([0.02, 0.03, -0.02, 0.04, 0.01], ""),  # better on four of five, and still inside the noise
        ([0.02, 0.021], ""),  # two seeds say too little
        ([0.02], ""),
        ([0.0, 0.0, 0.0], ""),
    ],
)
def test_only_what_leaves_out_zero_is_marked(differences: list[float], verdict: str) -> None:
    difference = Seeds(dict(enumerate(differences)))
    figure = Figure("mixup", "msp", "near:x", "auroc", difference, difference, "msp", difference)
    assert figure.verdict == verdict
    assert ("▲" in figure.against_plain, "▼" in figure.against_plain) == (verdict == "better", verdict == "worse")
    inverse = Figure("mixup", "msp", "near:x", "fpr95_id_positive", difference, difference, "msp", difference)
    assert inverse.verdict == {"better": "worse", "worse": "better", "": ""}[verdict]
