"""How often the report's tests call a difference where there is none.

    python benchmarks/null_level.py --comparisons 2000

Two networks that are equally good are compared over and over: accuracies on 10,000 test images around 98 %, of the
shapes named. `paired` shapes share what a seed does to both. A row is a test, a number of seeds and a shape;
`attainable` is the largest level below 5 % that a test of few possible p-values can have. McNemar: two networks of
equal accuracy on 10,000 images, of which `discordant` are expected to be right in one alone. Family: five groups
against a baseline, and the share of families in which any is called better or worse by what the report judges by.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from cnnbench.report.statistics import compare_pairs, compare_samples, holm, mcnemar, sign_flip

LEVEL = 0.05
Draw = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(0.98, 0.002, n),
    "skewed": lambda random, n: 0.984 - random.exponential(0.003, n),
    "heavy tails": lambda random, n: 0.98 + 0.001 * random.standard_t(3, n),
    "one in five fails": lambda random, n: random.normal(0.98, 0.001, n) - 0.03 * (random.random(n) < 0.2),
}


def counted(shares: np.ndarray) -> np.ndarray:
    """Accuracies as 10,000 test images give them."""
    return np.round(np.clip(shares, 0, 1), 4)


def rate(ps: Sequence[float | None]) -> str:
    rejected = np.mean([p is not None and p < LEVEL for p in ps])
    return f"{100 * rejected:5.2f} %"


def attainable(n: int) -> float:
    """Of the sign-flip test without ties: the largest multiple of 2 / 2^n below 5 %."""
    step = 2 / 2**n
    return step * (np.ceil(LEVEL / step) - 1)


def paired_rows(random: np.random.Generator, comparisons: int) -> None:
    print("paired by seed: sign-flip (decides), attainable, paired t")
    for n in (6, 7, 8, 10):
        for name, draw in SHAPES.items():
            flip, t = [], []
            for _ in range(comparisons):
                shared = random.normal(0, 0.003, n)
                found = compare_pairs(counted(draw(random, n) + shared), counted(draw(random, n) + shared))
                flip.append(found.p_flip)
                t.append(found.p_t)
            print(f"  n = {n:<9} {name:<18} {rate(flip)}  {100 * attainable(n):5.2f} %  {rate(t)}", flush=True)


def welch_rows(random: np.random.Generator, comparisons: int) -> None:
    print("not paired: Welch")
    for n, m, factor in ((6, 6, 1), (6, 10, 3), (10, 10, 1)):
        for name, draw in SHAPES.items():
            centre = draw(np.random.default_rng(0), 1_000_000).mean()  # the same mean, with another spread
            ps = []
            for _ in range(comparisons):
                first = draw(random, n)
                second = centre + factor * (draw(random, m) - centre)
                ps.append(compare_samples(counted(first), counted(second)).p_t)
            print(f"  n = {n} and {m:<3} spread × {factor} {name:<18} {rate(ps)}", flush=True)


def mcnemar_rows(random: np.random.Generator, comparisons: int) -> None:
    print("two networks: exact McNemar (decides), and with mid-p for comparison")
    for expected in (20, 50, 200):
        exact, mid = [], []
        for _ in range(comparisons):
            discordant = random.binomial(10_000, expected / 10_000)
            only_first = int(random.binomial(discordant, 0.5))
            p = mcnemar(only_first, discordant - only_first)
            exact.append(p)
            mid.append(p - stats.binom.pmf(only_first, discordant, 0.5))
        print(f"  discordant {expected:<4} {rate(exact)}  {rate(mid)}", flush=True)


def family_rows(random: np.random.Generator, comparisons: int) -> None:
    print("five groups against a baseline: families with any false better or worse, with Holm and without")
    for n in (6, 8, 10):
        with_holm, without = 0, 0
        for _ in range(comparisons):
            shared = random.normal(0, 0.003, n)
            groups = [counted(SHAPES["normal"](random, n) + shared) for _ in range(6)]
            ps = [sign_flip(group - groups[0]) for group in groups[1:]]
            with_holm += min(holm(ps)) < LEVEL
            without += min(ps) < LEVEL
        print(f"  n = {n:<9} {100 * with_holm / comparisons:5.2f} %  {100 * without / comparisons:5.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2000)
    comparisons = parser.parse_args().comparisons
    random = np.random.default_rng(0)
    for rows in (paired_rows, welch_rows, mcnemar_rows, family_rows):
        rows(random, comparisons)


if __name__ == "__main__":
    main()
