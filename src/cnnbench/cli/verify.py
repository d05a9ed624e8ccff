"""`cnnbench verify`: reproduce the figures of finished runs, from their data and weights or by training again."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.cli.errors import RunFailed
from cnnbench.cli.run_folders import find_folder, shorten
from cnnbench.cli.run_options import VerifyOptions
from cnnbench.report.runs import find_all_runs
from cnnbench.storage.text import format_path

COUNTED = {
    "reproduced": "reproduced to the bit",
    "agrees": "agree",
    "disagrees": "do NOT agree",
    "unverifiable": "cannot be verified",
}


def verify(options: VerifyOptions) -> None:
    """Verify runs; print a line for each and, of several, the number of each verdict.

    Raises:
        ValueError: the command is wrong, or a folder holds no run.
        RunFailed: not all figures were reproduced.
    """
    from cnnbench.experiment.measuring.verification import verify_run  # imports torch, and a wrong command needs none

    found = find_all_runs([find_folder(folder) for folder in options.runs])
    chosen = found if options.sample is None else draw_sample(found, options.sample, options.seed)
    results: list[dict[str, Any]] = []
    for number, path in enumerate(chosen, 1):
        name = format_path(shorten(path))
        if len(chosen) > 1:
            print(f"verifying {name} ({number} of {len(chosen)})", file=sys.stderr)
        one = verify_run(
            path,
            evaluate_only=options.evaluate_only,
            root=options.root,
            data_path=options.path,
        )
        results.append({"run": str(path), "verdict": one.verdict, "reason": one.reason, "tolerance": one.tolerance})
        if not options.as_json:
            print(f"{name}: {one.describe()}", flush=True)
    sample = None if options.sample is None else {"runs": len(chosen), "seed": options.seed}
    verdicts = [one["verdict"] for one in results]
    if options.as_json:
        print(json.dumps({"found": len(found), "sample": sample, "results": results}, indent=2))
    elif len(found) > 1:
        drawn = (
            f"{len(chosen)} of {len(found)} runs, drawn with --seed {options.seed}" if sample else f"{len(found)} runs"
        )
        counts = [f"{verdicts.count(verdict)} {words}" for verdict, words in COUNTED.items() if verdict in verdicts]
        print(f"{drawn}: {', '.join(counts)}")
    failed = len(verdicts) - verdicts.count("reproduced") - verdicts.count("agrees")
    if failed:
        raise RunFailed(f"{failed} of {len(chosen)} {'run was' if len(chosen) == 1 else 'runs were'} not confirmed")


def draw_sample(paths: Sequence[Path], count: int, seed: int) -> list[Path]:
    """Draw runs at random, each at most once, in their order. The same runs and seed give the same sample."""
    import torch

    from cnnbench.reproducibility import make_generator

    # By our own generator: the sample must not depend on the version of Python.
    drawn = torch.randperm(len(paths), generator=make_generator(seed, "verify", len(paths)))[:count]
    return [paths[place] for place in sorted(drawn.tolist())]
