"""The keys of a sweep as a whole, which hold for all its jobs."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from cnnbench.config.keys import format_value
from cnnbench.config.schema import SweepConfig, from_dict


def read_sweep(base: DictConfig, parsed: Sequence[Override]) -> SweepConfig:
    """The `sweep` section of a composed command.

    Raises:
        ValueError: a value that is not accepted, or keys that exclude each other.
    """
    for o in parsed:
        if o.key_or_group.startswith("sweep.") and o.is_sweep_override():
            raise ValueError(f"{o.input_line} names several values: give one for the whole sweep")
    plain = OmegaConf.to_container(base.sweep, resolve=True)
    sweep = from_dict({"sweep": plain}).sweep
    given = {o.key_or_group: o.input_line for o in reversed(parsed)}
    if several := given.get("seeds"):
        raise ValueError(
            f"{several}: seeds is a group of keys, such as seeds.init; sweep.seeds=N runs each config with N seeds"
        )
    own = next((f"seeds.{name}" for name, value in base.seeds.items() if value is not None), None)
    if sweep.until and (other := given.get("seed") or given.get("sweep.seeds") or own):
        raise ValueError(
            f"sweep.until={sweep.until} takes the seeds 0, 1, 2, … by itself: leave {other} out; sweep.max_seeds=N "
            "limits their number"
        )
    if sweep.until is None and (alone := given.get("sweep.delta") or given.get("sweep.max_seeds")):
        raise ValueError(f"{alone} is for sweep.until=decided: add that, or leave it out")
    if sweep.folds is not None:
        # Bets need independent pairs, and shares of the variance runs on the same test images.
        others = {"sweep.until": sweep.until, "sweep.alone": sweep.alone}
        others |= {f"data.{key}": base.data.get(key) for key in ("folds", "fold")}
        found = [f"{key}={format_value(value)}" for key, value in others.items() if value]
        # A list of values, such as data.fold=1,2, is not in the base config.
        if found := found + [line for key in ("data.folds", "data.fold") if (line := given.get(key))]:
            raise ValueError(f"sweep.folds={sweep.folds} cannot be combined with {found[0]}: leave one of them out")
    named = [given[key] for key in ("seed", *(f"seeds.{source}" for source in sweep.alone)) if key in given]
    if sweep.seeds is not None and named:
        raise ValueError(f"sweep.seeds={sweep.seeds} and {named[0]} both name seeds: leave one of them out")
    if sweep.seeds is None and sweep.alone:
        raise ValueError(f"sweep.alone={format_value(sweep.alone)} needs a number of seeds: add sweep.seeds=N")
    return sweep
