"""The place of a process among those that train one run together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """A process's number, from 0, among `count` processes. Rank 0 saves, measures and reports; the others compute."""

    number: int = 0
    count: int = 1

    @property
    def noise_key(self) -> tuple[int, ...]:
        """What tells this rank's noise, such as dropout, from that of others; nothing for rank 0."""
        return (self.number,) if self.number else ()

    def take_part(self, start: int, stop: int) -> range:
        """This rank's part of a batch that spans these places; all parts together are the batch, in order."""
        size = stop - start
        return range(start + size * self.number // self.count, start + size * (self.number + 1) // self.count)


ALONE = Rank()
