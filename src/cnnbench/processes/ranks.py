"""The rank of a process among those that train one run together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """A process's number, from 0, of `count`. Rank 0 also saves, measures and reports."""

    number: int = 0
    count: int = 1

    @property
    def noise_key(self) -> tuple[int, ...]:
        """A key that gives each rank its own noise, such as dropout; empty for rank 0, as in a run without ranks."""
        return (self.number,) if self.number else ()

    def take_part(self, start: int, stop: int) -> range:
        """This rank's part of the batch from `start` to `stop`; the parts of all ranks, in order, are the batch."""
        size = stop - start
        return range(start + size * self.number // self.count, start + size * (self.number + 1) // self.count)


ALONE = Rank()
