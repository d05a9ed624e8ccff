"""The error rate of tests on the folds of a cross-validation.

    python benchmarks/fold_null.py --comparisons 2000

Two classifiers of the same kind get different features of the same images. Both sets of features have the same
distribution, so neither classifier is better, and every verdict is false. A row is a classifier, a number of folds K,
and a number of seeds, each of which deals the images to folds again. The columns are the shares of comparisons with
p < 0.05: for the paired t-test, which assumes independent runs, the sign-flip test, and the corrected resampled t-test,
which the report uses. The last column is the power of the corrected test when the second classifier's features are
weaker.
"""

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np

from cnnbench.report.statistics import EXACT_SEEDS, LEVEL, compare_folds, compute_sign_flip_p

IMAGES, FEATURES = 300, 10
DISTANCE = 0.45  # of a feature's mean from 0, in standard deviations: accuracies of about 90 %
WEAKER = 0.25  # of the second classifier's features where there is a difference
DESIGNS = ((2, 1), (3, 1), (5, 1), (10, 1), (5, 3), (10, 3), (10, 10))  # folds and seeds
Classify = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def find_nearest_mean(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The class whose mean is nearest: a classifier that another training set hardly changes."""
    means = np.stack([known[labels == label].mean(0) for label in (0, 1)])
    return np.asarray(((asked[:, None] - means) ** 2).sum(2).argmin(1))


def find_nearest_image(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The class of the nearest image: a classifier that another training set changes much."""
    distances = (known**2).sum(1) - 2 * asked @ known.T
    return np.asarray(labels[distances.argmin(1)])


CLASSIFIERS: dict[str, Classify] = {"nearest mean": find_nearest_mean, "nearest image": find_nearest_image}


def deal_folds(random: np.random.Generator, labels: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each image, stratified, as `cnnbench.data.folds` deals them."""
    order = random.permutation(len(labels))
    by_class = order[labels[order].argsort(kind="stable")]
    dealt = np.empty(len(labels), dtype=np.int64)
    dealt[by_class] = np.arange(len(labels)) % folds
    return dealt


def cross_validate(
    random: np.random.Generator, classify: Classify, folds: int, seeds: int, second: float
) -> Iterator[tuple[float, float]]:
    """The accuracies of both classifiers on each fold, for one drawn set of images."""
    labels = np.arange(IMAGES) % 2
    signs = (2 * labels - 1)[:, None]
    views = [random.normal(signs * distance, 1, (IMAGES, FEATURES)) for distance in (DISTANCE, second)]
    for _ in range(seeds):
        dealt = deal_folds(random, labels, folds)
        for fold in range(folds):
            test, train = dealt == fold, dealt != fold
            first, other = (np.mean(classify(x[train], labels[train], x[test]) == labels[test]) for x in views)
            yield float(first), float(other)


def measure_rates(classify: Classify, folds: int, seeds: int, comparisons: int, second: float) -> list[float]:
    """The shares of comparisons with p < 0.05: of the t-test, the sign-flip test, and the corrected t-test."""
    random = np.random.default_rng([folds, seeds, round(1000 * second)])
    found = np.zeros(3)
    for _ in range(comparisons):
        a, b = zip(*cross_validate(random, classify, folds, seeds, second), strict=True)
        # With more pairs, signs are drawn, which takes a thousand times as long.
        flip = compute_sign_flip_p(np.subtract(a, b)) if len(a) <= EXACT_SEEDS else math.nan
        ps = compare_folds(a, b, 0).p_t, flip, compare_folds(a, b, 1 / (folds - 1)).p_t
        found += [p if p is not None and math.isnan(p) else p is not None and p < LEVEL for p in ps]
    return list(found / comparisons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2000)
    comparisons = parser.parse_args().comparisons
    print("classifier      K  seeds   paired t  sign-flip  corrected t   corrected t, real difference")
    for name, classify in CLASSIFIERS.items():
        for folds, seeds in DESIGNS:
            null = measure_rates(classify, folds, seeds, comparisons, DISTANCE)
            real = measure_rates(classify, folds, seeds, max(1, comparisons // 4), WEAKER)
            rates = "  ".join(f"{100 * rate:8.1f} %" for rate in (*null, real[2]))
            print(f"{name:<14} {folds:>2}  {seeds:>5} {rates}", flush=True)


if __name__ == "__main__":
    main()
