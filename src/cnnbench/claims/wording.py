"""Verdicts in words and figures, in English or Portuguese, as pages and the terminal show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cnnbench.claims.records import ContrastRecord, VerdictRecord
from cnnbench.claims.statement import Text
from cnnbench.claims.verdict import MOST_SEEDS
from cnnbench.report.documents import LANGUAGES, read_template
from cnnbench.report.formatting import format_p, make_legible
from cnnbench.runs.captions import SWAP_MARKS
from cnnbench.storage.plain_data import parse_yaml

SHARE = "of 1"  # the unit of shares, which are written in percent
MARKS = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}
SIGNS = {"difference": "−", "ratio": "/"}
MOST_OPTIONS = 6  # of a measure


@cache
def _read_texts() -> dict[str, dict[str, Any]]:
    texts: dict[str, dict[str, Any]] = parse_yaml(read_template("claims.yaml"))
    return texts


@dataclass(frozen=True)
class Wording:
    """How one language writes verdicts."""

    language: str  # one of `LANGUAGES`
    portuguese: Mapping[str, str] = field(default_factory=dict)  # names of groups, and units, of a claim's file

    def __post_init__(self) -> None:
        assert self.language in LANGUAGES

    @property
    def texts(self) -> dict[str, Any]:
        """The fixed texts of this language."""
        return _read_texts()[self.language]

    def adapt_to(self, record: VerdictRecord) -> "Wording":
        """The same language with a record's own translations."""
        return Wording(self.language, record.portuguese)

    def choose(self, text: Text) -> str:
        """A text of a claim in this language."""
        return text.pt if self.language == "pt" else text.en

    def name(self, word: str, longest: int = 80) -> str:
        """A group or unit, on one line."""
        known = self.portuguese.get(word, word) if self.language == "pt" else word
        return make_legible(known, longest)

    def name_measure(self, contrast: ContrastRecord) -> str:
        """A measure with its options, such as `accuracy lost when images are shifted (pixels=2)`."""
        known: str = self.texts["measures"].get(contrast.measure, contrast.measure)
        options = ", ".join(f"{key}={value}" for key, value in list(contrast.options.items())[:MOST_OPTIONS])
        return make_legible(f"{known} ({options})" if options else known, 100)

    def name_sides(self, contrast: ContrastRecord, longest: int = 80) -> str:
        """What an effect compares, such as `LeNet-5 − perceptron`."""
        sign = SIGNS[contrast.compare]
        sides = [contrast.group] if contrast.against is None else [contrast.group, contrast.against]
        text = f" {sign} ".join(self.name(side, longest) for side in sides)
        if contrast.than is None:
            return text
        other = f" {sign} ".join(self.name(side, longest) for side in (contrast.than.group, contrast.than.against))
        return f"({text}) − ({other})"

    def name_unit(self, contrast: ContrastRecord, *, alone: bool = False) -> str:
        """The unit of an effect, or with `alone` of one group's value."""
        if contrast.unit == SHARE:
            units: dict[str, str] = self.texts["units"]
            return units[f"{SHARE} alone" if alone or contrast.against is None else SHARE]
        if alone and contrast.compare == "ratio":
            return ""
        return self.name(self.texts["units"].get(contrast.unit, contrast.unit), 40)

    def format_number(self, value: float) -> str:
        """Three or four digits, in the way of the language: `1,234.5` or `1.234,5`."""
        size = abs(value)
        text = f"{value:.3g}" if size < 1 or size >= 1e12 else f"{value:.4g}" if size < 1000 else f"{value:,.0f}"
        return self._localize(text).replace("-", "−")

    def format_effect(self, contrast: ContrastRecord) -> str:
        """An effect with its interval, without the unit."""
        if contrast.effect is None:
            return "–"
        text = self.format_number(scale_value(contrast, contrast.effect))
        if contrast.low is None or contrast.high is None or contrast.low == contrast.high:
            return text
        low, high = (self.format_number(scale_value(contrast, end)) for end in (contrast.low, contrast.high))
        return f"{text} [{low}{'; ' if self.language == 'pt' else ', '}{high}]"

    def describe_rule(self, contrast: ContrastRecord) -> str:
        """Such as `at least 0.5 percentage points`."""
        threshold = contrast.threshold
        two_sided = contrast.rule in ("within", "beyond")
        low = self.format_number(scale_value(contrast, -threshold if two_sided else threshold))
        high = self.format_number(scale_value(contrast, threshold))
        rule: str = self.texts["rules"][contrast.rule]
        is_single = contrast.unit == SHARE and abs(scale_value(contrast, threshold)) == 1
        unit = self.texts["units"][f"{SHARE} single"] if is_single else self.name_unit(contrast)
        return f"{rule.format(low=low, high=high)} {unit}".strip()

    def describe_obstacle(self, contrast: ContrastRecord) -> str:
        """What would decide an inconclusive contrast; empty for another one."""
        if contrast.obstacle is None:
            return ""
        text: str = self.texts["obstacles"][contrast.obstacle]
        seeds = "?" if contrast.seeds_needed is None else self.format_number(contrast.seeds_needed)
        return text.format(n=contrast.n, seeds=seeds, most=self.format_number(MOST_SEEDS))

    def format_p(self, contrast: ContrastRecord) -> str:
        """The p-value; empty where nothing was tested."""
        return "" if contrast.is_exact else self._localize(format_p(contrast.p))

    def name_verdict(self, verdict: str) -> str:
        """A verdict in this language."""
        names: dict[str, str] = self.texts["verdicts"]
        return names[verdict]

    def name_answer(self, answer: str | None) -> str:
        """A prediction in this language."""
        return str(self.texts[answer or "none"])

    def _localize(self, number: str) -> str:
        """A number in English notation, with the marks of the language."""
        return number.translate(SWAP_MARKS) if self.language == "pt" else number

    def count(self, number: int, forms: Mapping[str, str]) -> str:
        """Such as `1 claim` or `2 claims`."""
        return forms["one"] if number == 1 else forms["many"].format(n=self.format_number(number))


def scale_value(contrast: ContrastRecord, value: float) -> float:
    """A value in the unit in which it is shown: a share in percent."""
    return 100 * value if contrast.unit == SHARE else value


def list_obstacles(record: VerdictRecord, wording: Wording) -> list[str]:
    """What would decide each inconclusive contrast, after its measure where there are several."""
    several = len(record.contrasts) > 1
    return [
        f"{wording.name_measure(contrast)}, {wording.name_sides(contrast)}: {text}" if several else text
        for contrast in record.contrasts
        if (text := wording.describe_obstacle(contrast))
    ]
