"""The error rate of the sequential test, which is applied after each pair of seeds, and the seeds that it needs.

    python benchmarks/sequential_null.py --paths 10000

`null`: pairs without a difference of the means, tested after each of up to 40 seeds; the share of paths with any
verdict *better* or *worse*. The first six kinds are differences of two groups whose accuracies have the same
distribution, for which the theorem holds. The other differences are skewed themselves, and nothing is proved for them.
`families`: the same for several groups against one baseline; the share of families with any false verdict.
`equal`: pairs whose means differ by exactly δ; the shares of paths with any verdict *equal within δ*, and with any
false verdict.
`power`: normal differences whose mean is `effect` standard deviations. The columns are the median number of seeds until
the verdict; the number with which the report's sign-flip test with Holm's correction finds the effect in 80 % of cases
(the other comparisons have no difference); the smallest number for any test that is valid for all symmetric
differences; and the power of a t-test with a fixed number of seeds, 60 % of the sign-flip test's.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from cnnbench.metrics.sequential import BETTER, EQUAL, LEVEL, WORSE, count_pairs, find_verdict
from cnnbench.report.statistics import compute_sign_flip_p, correct_by_holm, find_least_seeds

MAX_SEEDS = 40
SPREAD = 0.002
FAMILIES = (1, 3, 10)
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def count_right(images: int) -> Draw:
    """Accuracies of networks that are right on each image with a probability of 97 %."""
    return lambda random, shape: random.binomial(images, 0.97, shape) / images


ACCURACIES: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(0.98, SPREAD, shape),
    "skewed (exponential)": lambda random, shape: 0.984 - random.exponential(SPREAD, shape),
    "heavy tails (t, 3 degrees)": lambda random, shape: 0.98 + SPREAD * random.standard_t(3, shape),
    "heavier tails (Cauchy)": lambda random, shape: 0.98 + SPREAD * random.standard_cauchy(shape),
    "one in five fails": lambda random, shape: random.normal(0.98, SPREAD, shape) - 0.5 * (random.random(shape) < 0.2),
    "right of 360 images": count_right(360),
}
SKEWED: dict[str, Draw] = {
    "gamma, skewness 1": lambda random, shape: SPREAD * (random.gamma(4, 0.5, shape) - 2),
    "lognormal, skewness 1.75": lambda random, shape: SPREAD * (random.lognormal(0, 0.5, shape) - math.exp(1 / 8)),
    "exponential, skewness 2": lambda random, shape: SPREAD * (random.exponential(1, shape) - 1),
    "lognormal, skewness 6.2": lambda random, shape: SPREAD * (random.lognormal(0, 1, shape) - math.exp(1 / 2)),
}


def subtract_pairs(draw: Draw) -> Draw:
    return lambda random, shape: draw(random, shape) - draw(random, shape)


DIFFERENCES = {name: subtract_pairs(draw) for name, draw in ACCURACIES.items()} | SKEWED


def measure_null(random: np.random.Generator, draw: Draw, paths: int, comparisons: int = 1) -> float:
    """The share of paths on which a difference was ever called better or worse, or of families with any such path."""
    false = 0
    for _ in range(paths):
        family = draw(random, (comparisons, MAX_SEEDS))
        false += any(find_verdict(values, comparisons=comparisons)[0] in (BETTER, WORSE) for values in family)
    return false / paths


def measure_equal(random: np.random.Generator, draw: Draw, paths: int, delta: float) -> tuple[float, float]:
    """The shares of paths on which a difference of just `delta` was called equal, and was called equal or worse."""
    verdicts = [find_verdict(delta + values, delta=delta)[0] for values in draw(random, (paths, MAX_SEEDS))]
    equal = verdicts.count(EQUAL) / paths
    return equal, equal + verdicts.count(WORSE) / paths


def find_fixed_seeds(random: np.random.Generator, effect: float, comparisons: int, paths: int) -> int:
    """The fewest seeds with which the sign-flip test with Holm's correction finds the effect in 80 % of cases."""
    for n in range(find_least_seeds([1.0] * (comparisons - 1)), 20):
        found = 0
        for _ in range(paths):
            others = random.normal(0, 1, (comparisons - 1, n))
            ps = [compute_sign_flip_p(values) for values in (random.normal(effect, 1, n), *others)]
            found += correct_by_holm(ps)[0] < LEVEL
        if found >= 0.8 * paths:
            return n
    raise ValueError(f"effect={effect}: 20 seeds are too few")


def compute_t_power(n: int, effect: float, level: float) -> float:
    """The power of the paired t-test of n seeds, fixed in advance."""
    critical, shift = stats.t.ppf(1 - level / 2, n - 1), effect * math.sqrt(n)
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


def print_null(random: np.random.Generator, paths: int) -> None:
    print(f"null: paths with a false better or worse, read after each of {MAX_SEEDS} seeds; {paths:,} paths")
    for name, draw in DIFFERENCES.items():
        print(f"  {name:<28} {100 * measure_null(random, draw, paths):5.2f} %", flush=True)
    print("families: groups against one baseline, families with any false verdict")
    for comparisons in FAMILIES[1:]:
        for name, draw in ACCURACIES.items():

            def draw_family(random: np.random.Generator, shape: tuple[int, ...], draw: Draw = draw) -> np.ndarray:
                return draw(random, shape) - draw(random, shape[1:])

            rate = measure_null(random, draw_family, paths // comparisons, comparisons)
            print(f"  {comparisons:<3} {name:<28} {100 * rate:5.2f} %", flush=True)


def print_equal(random: np.random.Generator, paths: int) -> None:
    print(f"equal: a difference of just δ, called equal; any false verdict; {paths:,} paths")
    for name, draw in DIFFERENCES.items():
        for factor in (1, 2, 4):
            equal, false = measure_equal(random, draw, paths, factor * SPREAD)
            shares = f"{100 * equal:5.2f} % {100 * false:5.2f} %"
            print(f"  {name:<28} δ = {factor * SPREAD:<6g} {shares}", flush=True)


def print_power(random: np.random.Generator, paths: int) -> None:
    print("power: effect, comparisons: median seeds (90 %), sign-flip with Holm, ratio; fewest of any; t-test at 60 %")
    for effect in (2.0, 1.0):
        for comparisons in FAMILIES:
            pairs = count_pairs(random.normal(effect, 1, (paths, 5 * MAX_SEEDS)), comparisons)
            fixed = find_fixed_seeds(random, effect, comparisons, min(paths, 2000))
            median, most = np.quantile(pairs, [0.5, 0.9], method="lower")
            power = compute_t_power(math.floor(0.6 * fixed), effect, LEVEL / comparisons)
            print(
                f"  {effect:g} {comparisons:>3}: {median:g} ({most:g}), {fixed}, {100 * median / fixed:.0f} %; "
                f"{find_least_seeds([1.0] * (comparisons - 1))}; {100 * power:.0f} % with {math.floor(0.6 * fixed)}",
                flush=True,
            )


PARTS = {"null": print_null, "equal": print_equal, "power": print_power}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=10_000)
    parser.add_argument("--part", choices=PARTS, action="append")
    options = parser.parse_args()
    for part in options.part or PARTS:
        PARTS[part](np.random.default_rng(0), options.paths)


if __name__ == "__main__":
    main()
