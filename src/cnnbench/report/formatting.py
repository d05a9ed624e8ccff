"""Format names and figures, in the same way for every document of a report."""

from collections.abc import Callable

from cnnbench.metrics import Metric
from cnnbench.report.statistics import LEVEL, Estimate
from cnnbench.runs.class_names import shorten_text
from cnnbench.storage.text import format_percent, make_lines_printable, make_printable


def make_legible(text: object, longest: int = 200) -> str:
    """Put a name on one line, shortened if needed, without characters that hide or reorder the text around it."""
    return shorten_text(make_printable(" ".join(str(text).split())), longest)


def make_lines_legible(text: object, longest: int = 2000) -> str:
    """The same for a message or a command, which keeps its lines and spaces."""
    return shorten_text(make_lines_printable(str(text)), longest)


def format_count(number: int, noun: str) -> str:
    """Such as `1 run` or `2,000 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_share(share: float, digits: int = 2) -> str:
    """Such as `98.71 %`."""
    return format_percent(share, digits, sign=" %")


def format_ratio(share: float) -> str:
    """A share of a variance, which may exceed the whole, in percent without a sign."""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}"


def format_change(value: float, digits: int = 2) -> str:
    """Such as `+2.03` or `−0.15`, with a minus sign and not a hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")


def format_points(share: float) -> str:
    """A difference of shares in percentage points."""
    return format_change(100 * share)


def format_interval(low: float | None, high: float | None, write: Callable[[float], str] = format_share) -> str:
    """Such as `[98.63 %, 98.94 %]`; empty if there is no interval."""
    return "" if low is None or high is None else f"[{write(low)}, {write(high)}]"


def format_difference(mean: float, low: float | None, high: float | None) -> str:
    """A difference of shares with its interval, such as `+0.40 points [+0.10, +0.70]`."""
    return f"{format_points(mean)} points {format_interval(low, high, format_points)}".strip()


def format_p(p: float | None) -> str:
    """A p-value with two significant digits, or more if rounding would move it across 0.05; never 0."""
    if p is None:
        return ""
    if p < 0.0001:
        return "< 0.0001"
    if p >= 0.1:
        return f"{p:.2f}"
    texts = (f"{p:.{digits}g}" for digits in range(2, 17))
    return next((text for text in texts if (float(text) < LEVEL) == (p < LEVEL)), repr(p))


def format_p_equation(p: float) -> str:
    """Such as `p = 0.031` or `p < 0.0001`."""
    text = format_p(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def format_figure(value: float, metric: Metric) -> str:
    """A value of a metric without its unit; a percentage reads 100.00 only if it is exactly that."""
    text = format_percent(value, metric.digits, sign="") if metric.percent else f"{value:.{metric.digits}f}"
    return text.replace("-", "−")


def format_spread(estimate: Estimate, metric: Metric) -> str:
    """Mean and standard deviation, such as `98.79 ± 0.15`."""
    std = "" if estimate.std is None else f" ± {estimate.std * metric.factor:.{metric.digits}f}"
    return format_figure(estimate.mean, metric) + std


def format_mean_interval(estimate: Estimate, metric: Metric) -> str:
    """The interval of a mean, such as `[98.63, 98.94]`."""
    bounds = estimate.compute_bounds(share=metric.share, lowest=metric.lowest)
    return format_interval(*bounds, lambda value: format_figure(value, metric))
