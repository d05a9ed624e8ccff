"""The error rate of the report's tests.

    python benchmarks/null_level.py --comparisons 2000

Two equally good networks are compared repeatedly: their accuracies, about 98 % on 10,000 test images, have the named
distribution. Paired accuracies share the effect of a seed. A row is a test, a number of seeds and a distribution;
`attainable` is the largest level below 5 % that a test with few possible p-values can have. McNemar: two networks of
equal accuracy on 10,000 images, of which `discordant` are expected to be right in one network only. Family: five groups
against a baseline, and the share of families in which the report calls any of them better or worse.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from cnnbench.report.statistics import (
    compare_pairs,
    compare_samples,
    compute_mcnemar_p,
    compute_sign_flip_p,
    correct_by_holm,
)

LEVEL = 0.05
Draw = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(0.98, 0.002, n),
    "skewed": lambda random, n: 0.984 - random.exponential(0.003, n),
    "heavy tails": lambda random, n: 0.98 + 0.001 * random.standard_t(3, n),
    "one in five fails": lambda random, n: random.normal(0.98, 0.001, n) - 0.03 * (random.random(n) < 0.2),
}


def round_to_images(shares: np.ndarray) -> np.ndarray:
    """Accuracies that are counts over 10,000 test images."""
    return np.round(np.clip(shares, 0, 1), 4)


def format_rate(ps: Sequence[float | None]) -> str:
    rejected = np.mean([p is not None and p < LEVEL for p in ps])
    return f"{100 * rejected:5.2f} %"


def attainable_level(n: int) -> float:
    """Of the sign-flip test without ties: the largest multiple of 2 / 2^n below 5 %."""
    step = 2 / 2**n
    return step * (np.ceil(LEVEL / step) - 1)


def print_paired(random: np.random.Generator, comparisons: int) -> None:
    print("paired by seed: sign-flip (decides), attainable, paired t")
    for n in (6, 7, 8, 10):
        for name, draw in SHAPES.items():
            flip, t = [], []
            for _ in range(comparisons):
                shared = random.normal(0, 0.003, n)
                found = compare_pairs(
                    round_to_images(draw(random, n) + shared), round_to_images(draw(random, n) + shared)
                )
                flip.append(found.p_flip)
                t.append(found.p_t)
            print(
                f"  n = {n:<9} {name:<18} {format_rate(flip)}  {100 * attainable_level(n):5.2f} %  {format_rate(t)}",
                flush=True,
            )


def print_welch(random: np.random.Generator, comparisons: int) -> None:
    print("not paired: Welch")
    for n, m, factor in ((6, 6, 1), (6, 10, 3), (10, 10, 1)):
        for name, draw in SHAPES.items():
            centre = draw(np.random.default_rng(0), 1_000_000).mean()  # the same mean, with another spread
            ps = []
            for _ in range(comparisons):
                first = draw(random, n)
                second = centre + factor * (draw(random, m) - centre)
                ps.append(compare_samples(round_to_images(first), round_to_images(second)).p_t)
            print(f"  n = {n} and {m:<3} spread × {factor} {name:<18} {format_rate(ps)}", flush=True)


def print_mcnemar(random: np.random.Generator, comparisons: int) -> None:
    print("two networks: exact McNemar (decides), and with mid-p for comparison")
    for expected in (20, 50, 200):
        exact, mid = [], []
        for _ in range(comparisons):
            discordant = random.binomial(10_000, expected / 10_000)
            only_first = int(random.binomial(discordant, 0.5))
            p = compute_mcnemar_p(only_first, discordant - only_first)
            exact.append(p)
            mid.append(p - stats.binom.pmf(only_first, discordant, 0.5))
        print(f"  discordant {expected:<4} {format_rate(exact)}  {format_rate(mid)}", flush=True)


def print_families(random: np.random.Generator, comparisons: int) -> None:
    print("five groups against a baseline: families with any false better or worse, with Holm and without")
    for n in (6, 8, 10):
        with_holm, without = 0, 0
        for _ in range(comparisons):
            shared = random.normal(0, 0.003, n)
            groups = [round_to_images(SHAPES["normal"](random, n) + shared) for _ in range(6)]
            ps = [compute_sign_flip_p(group - groups[0]) for group in groups[1:]]
            with_holm += min(correct_by_holm(ps)) < LEVEL
            without += min(ps) < LEVEL
        print(f"  n = {n:<9} {100 * with_holm / comparisons:5.2f} %  {100 * without / comparisons:5.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2000)
    comparisons = parser.parse_args().comparisons
    random = np.random.default_rng(0)
    for print_rows in (print_paired, print_welch, print_mcnemar, print_families):
        print_rows(random, comparisons)


if __name__ == "__main__":
    main()
