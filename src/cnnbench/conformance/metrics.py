"""What every metric of the confusion matrix must do."""

import math
from dataclasses import dataclass

import numpy as np

from cnnbench import registry
from cnnbench.conformance.checking import check, require
from cnnbench.metrics.scores import Metric

COUNT = 5  # images of each class
PERFECT = COUNT * np.eye(3, dtype=np.int64)
CASES = {
    "all right": PERFECT,
    "all wrong": np.roll(PERFECT, 1, axis=1),
    "always the first class": np.outer([COUNT] * 3, [1, 0, 0]),
    "a class without images": np.diag([COUNT, COUNT, 0]),
    "one class": np.array([[COUNT]]),
    "no images": np.zeros((3, 3), np.int64),
}


@dataclass(frozen=True)
class MetricPart:
    """A registered metric."""

    name: str

    def compute(self, confusion: np.ndarray) -> float:
        """Its value for a confusion matrix, rows true and columns predicted."""
        value: float = registry.build("metric", self.name, confusion=confusion)
        return value

    @property
    def metric(self) -> Metric:
        """How tables show it."""
        return Metric(self.name, **{"title": self.name, **registry.get_facts("metric", self.name)})


@check("metric", "tables know how to show it")
def _check_facts(part: MetricPart) -> None:
    """It is registered with facts of `Metric` alone."""
    require(isinstance(part.metric.format(0.5), str), "it cannot be written")


@check("metric", "it is a finite number for any predictions")
def _check_values(part: MetricPart) -> None:
    for case, confusion in CASES.items():
        before = confusion.copy()
        value = part.compute(confusion)
        is_number = isinstance(value, float | int) and math.isfinite(value)
        require(is_number, f"{case}: must be a finite float, not {value!r} ({type(value).__name__})")
        low, high = part.metric.lowest, 1.0
        require(not part.metric.share or low <= value <= high, f"{case}: {value:g} lies outside {low:g}…1 (share=True)")
        require(np.array_equal(before, confusion), f"{case}: it changes the confusion matrix")
        require(part.compute(confusion) == value, f"{case}: computed again, it has another value")


@check("metric", "no predictions are better than the right ones")
def _check_best(part: MetricPart) -> None:
    sign = 1 if part.metric.higher_is_better else -1
    best = part.compute(PERFECT)
    for case in ("all wrong", "always the first class"):
        value = part.compute(CASES[case])
        require(
            sign * value <= sign * best,
            f"{case}: {value:g} is better than {best:g} for all right: is higher_is_better={sign == 1} right?",
        )


@check("metric", "it is the same for a large, sparse matrix")
def _check_sparse(part: MetricPart) -> None:
    """Beyond 1,000 classes the confusion matrix is sparse."""
    from scipy.sparse import csr_array

    dense = CASES["all right"] + CASES["always the first class"]
    expected, found = part.compute(dense), part.compute(csr_array(dense))
    require(math.isclose(expected, found, rel_tol=1e-12), f"sparse {found!r}, dense {expected!r}")
