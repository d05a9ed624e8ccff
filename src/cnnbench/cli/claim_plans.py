"""Where claims are run, what they run, and what that costs."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cnnbench
from cnnbench.claims.cost import count_work
from cnnbench.claims.measuring import Plan
from cnnbench.claims.statement import Claim, Scale, list_claims
from cnnbench.cli import compose
from cnnbench.cli.choices import find_config_dir
from cnnbench.cli.run_folders import CLAIMS
from cnnbench.storage.plain_data import read_json, write_json

RUNS = "runs"  # claims share a sweep, because many of them need the same runs
WORK = "work.json"
LARGEST = 2**20


@dataclass(frozen=True)
class Place:
    """Where the claims of a dataset and a scale are kept."""

    data: str
    scale: Scale

    @property
    def folder(self) -> Path:
        """Their folder, with one below it for each claim."""
        return CLAIMS / f"{self.data}-{self.scale}"

    @property
    def runs(self) -> Path:
        """The sweep of all their runs."""
        return self.folder / RUNS


def plan_claim(claim: Claim, place: Place) -> Plan:
    """Compose the runs of a claim; a ValueError names the group whose overrides are wrong."""
    configs = {}
    for group in claim.groups:
        try:
            configs[group] = compose.compose_config(
                ["name=claims", *claim.list_overrides(group, place.scale, place.data)]
            )
        except ValueError as error:
            raise ValueError(f"{claim.id}, group {group!r}: {error}") from None
    return Plan(claim, configs, claim.protocol[place.scale].seeds)


def find_work(claim: Claim, place: Place, plan: Plan | None = None) -> float | None:
    """The multiply-accumulates of the training of a claim; None where they cannot be known.

    Args:
        plan: of the claim, if it has been composed.
    """
    # Composing and counting take seconds, so they are done once for each version of a claim's file.
    content = list_claims(find_config_dir() / "claim")[claim.id].read_bytes() + cnnbench.__version__.encode()
    known, key = _read_work(), f"{claim.id}-{place.folder.name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if key not in known:
        try:
            known[key] = count_work(plan or plan_claim(claim, place)) if claim.needs_training else 0.0
        except (ValueError, OSError):  # data that are not here, or a file that is being written
            return None
        write_json(CLAIMS / WORK, known)
    return known[key]


def _read_work() -> dict[str, float | None]:
    """What has been counted; a file that is damaged is counted again."""
    try:
        plain = read_json(CLAIMS / WORK, LARGEST)
    except (ValueError, OSError):
        return {}
    if not isinstance(plain, dict):
        return {}
    return {key: one for key, one in plain.items() if one is None or isinstance(one, int | float)}
