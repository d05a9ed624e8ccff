"""Lists that a user writes, checked: the filters of stages, the dilations of layers."""

from collections.abc import Sequence


def check_stages(stages: Sequence[Sequence[int]], of: str = "filter count") -> None:
    """Refuse a list of stages that is empty, or has an empty one.

    Args:
        of: what a stage lists.

    Raises:
        ValueError: as said.
    """
    if not stages or not all(stages):
        raise ValueError(f"model.stages={stages}: accepted is a list of stages, each a list of at least one {of}")


def check_dilations(dilations: Sequence[int]) -> None:
    """Refuse a list of dilations that is empty, or holds one below 1.

    Raises:
        ValueError: as said.
    """
    if not dilations or min(dilations) < 1:
        raise ValueError(f"model.dilations={dilations}: accepted is a list of whole numbers from 1")
