"""Measures the groups of a claim, and judges it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench import registry
from cnnbench.claims.statement import Claim, Contrast
from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.claims.verdict import Judgement, compute_effects, judge_contrast, summarise_set
from cnnbench.config.schema import Config
from cnnbench.runs.checking import UNREADABLE


@dataclass(frozen=True)
class Plan:
    """The runs of a claim."""

    claim: Claim
    configs: Mapping[str, Config]  # of each group, with the first seed
    seeds: int  # how many

    def list_runs(self) -> list[tuple[str, int, Config]]:
        """Group, seed and config of each run, seed by seed, so that an interrupted claim has whole pairs."""
        return [
            (group, seed, config.model_copy(deep=True, update={"seed": seed}))
            for seed in range(self.seeds)
            for group, config in self.configs.items()
        ]


class NotMeasurable(ValueError):
    """A network cannot be built or measured, whatever is trained: the data do not suit the claim."""


@dataclass
class Measurer:
    """Measures runs and networks, each once, also for several contrasts and claims."""

    find_run: Callable[[Config], tuple[Path, bool] | None]  # its folder, and whether it diverged; None without a result
    problems: list[str] = field(default_factory=list)  # what could not be measured
    _known: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _runs: dict[Path, FinishedRun | None] = field(default_factory=dict)

    def measure(self, contrast: Contrast, group: str, config: Config) -> float | None:
        """The value of a contrast's measure; None if there is none.

        Raises:
            NotMeasurable: a measure of a network that is not trained.
        """
        if contrast.source == "network":
            own = config.model_copy(update={"seed": 0}) if contrast.is_exact else config
            try:
                return self._compute(contrast, own.model_dump_json(), network=Network(own))
            except (ValueError, OSError) as error:
                raise NotMeasurable(f"{group}: {error}") from None
        found = self.find_run(config)
        if found is None:
            self.problems.append(f"{group}, seed {config.seed}: its run failed or was interrupted, and has no result")
            return None
        path, has_diverged = found
        if has_diverged:
            value = registry.get_facts("measure", contrast.measure).get("diverged")
            if value is None:
                self.problems.append(f"{path.name}: its loss became infinite, and {contrast.measure} has no value then")
            return None if value is None else float(value)
        run = self._read_run(path)
        try:
            return None if run is None else self._compute(contrast, str(path), run=run)
        except (ValueError, OSError) as error:
            self.problems.append(f"{contrast.measure}: {error}")
            return None

    def _compute(self, contrast: Contrast, where: str, **subject: FinishedRun | Network) -> float:
        """Compute a measure of a subject once; `where` identifies the subject."""
        name, options = contrast.measure, contrast.options
        key = (name, json.dumps(options, sort_keys=True), where)
        if key not in self._known:  # contrasts and claims share measures, some of which take seconds
            self._known[key] = float(registry.build("measure", name, options=options, **subject))
        return self._known[key]

    def _read_run(self, path: Path) -> FinishedRun | None:
        """A finished run; None, and a problem, if its figures are not to be believed."""
        if path not in self._runs:
            try:
                self._runs[path] = FinishedRun.read(path)
            except UNREADABLE as error:
                self._runs[path] = None
                self.problems.append(" ".join(str(error).split()))
        return self._runs[path]


def judge(plan: Plan, measurer: Measurer) -> tuple[list[Judgement], list[dict[str, dict[int, float]]]]:
    """Measure and judge each contrast of a claim; also return its values by group and seed."""
    judgements, all_values = [], []
    for contrast in plan.claim.contrasts:
        values: dict[str, dict[int, float]] = {name: {} for name in plan.claim.list_groups(contrast)}
        for group, seed, config in plan.list_runs():
            if group in values and not (contrast.is_exact and seed):
                value = measurer.measure(contrast, group, config)
                if value is not None:
                    values[group][seed] = value
        for name in contrast.groups:
            if name in plan.claim.sets:
                values[name] = summarise_set(plan.claim.sets[name], values)
        judgements.append(judge_contrast(contrast, [*compute_effects(contrast, values).values()], plan.seeds))
        all_values.append(values)
    return judgements, all_values
