"""How many runs this machine computes side by side.

Their threads fit the processors, and their memory fits what is free. The memory that a run needs is estimated from
earlier runs, so a second one starts only once the first has ended an epoch. A GPU computes one run at a time.
"""

import signal
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from cnnbench.processes.cores import count_cores
from cnnbench.processes.memory import count_oom_kills, measure_available, measure_private

MOST_TOGETHER = 32  # runs that one step trains at most
# Applied to the estimated memory: a peak may fall between two measurements, and a test needs more than an epoch.
MARGIN = 1.25
GROWTH = 3  # bytes for each byte by which a run's weights and activations exceed another's: gradients and work space


@dataclass(frozen=True)
class Need:
    """What a run needs of the machine.

    Attributes:
        threads: of all its processes together.
        device: `cpu`, or another, which it does not share.
        footprint: the bytes of its weights and of a batch's activations, by which runs are compared.
    """

    threads: int = 1
    device: str = "cpu"
    footprint: int = 0


@dataclass
class Load:
    """What a running run uses.

    Attributes:
        memory: the bytes that its process shares with no other.
        peak: the highest value of `memory` so far.
        has_peaked: whether `peak` shows what the run needs, as it does after an epoch.
        is_computing: false once it only draws its pictures: its process keeps its memory, but leaves its cores.
        has_company: whether another run was computed at the same time.
        oom_kills: the system's count when the run began.
    """

    pid: int
    need: Need
    memory: int = 0
    peak: int = 0
    has_peaked: bool = False
    is_computing: bool = True
    has_company: bool = False
    oom_kills: int | None = field(default_factory=count_oom_kills)

    def was_killed_for_memory(self, code: int | None) -> bool:
        """Whether its process, which ended with this exit code, was most likely killed because memory ran out."""
        kills = count_oom_kills()
        return code in (None, -signal.SIGKILL) and (kills is None or kills != self.oom_kills)


class Capacity:
    """Decides whether a run can start beside others, and learns from each how much memory it needs.

    Args:
        most: the number of runs at once, whatever they need; None for as many as this machine can compute.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._peaks: dict[int, int] = {}  # by footprint

    def count(self, needs: Iterable[Need]) -> int:
        """How many of these runs can be computed at once, by their threads and devices alone."""
        listed = sorted(needs, key=lambda need: need.threads)
        if self.most is not None:
            return max(1, min(self.most, len(listed)))
        chosen: list[Need] = []
        for need in listed:
            if self._fits(need, chosen):
                chosen.append(need)
        return max(1, len(chosen))

    def admits(self, need: Need, loads: Sequence[Load]) -> bool:
        """Whether a run can start beside the running ones."""
        computing = [load for load in loads if load.is_computing]
        if len(loads) - len(computing) > len(computing) + 1:
            return False  # runs end faster than their pictures are drawn, and drawing processes would pile up
        if self.most is not None:
            return len(computing) < self.most
        if any(need.device == load.need.device != "cpu" for load in loads):
            return False  # a run that is drawing counts too, because it still holds memory on the GPU
        return not computing or (self._fits(need, [load.need for load in computing]) and self._has_memory(need, loads))

    def observe(self, load: Load) -> None:
        """Measure the memory of a run."""
        if (memory := measure_private(load.pid)) is not None:
            load.memory, load.peak = memory, max(load.peak, memory)
            if load.has_peaked:
                self.learn(load)

    def learn(self, load: Load) -> None:
        """Keep a run's peak as an estimate for similar runs."""
        footprint = load.need.footprint
        self._peaks[footprint] = max(load.peak, self._peaks.get(footprint, 0))

    @staticmethod
    def note_company(loads: Collection[Load]) -> None:
        """Note that these runs are computed at the same time."""
        for load in loads:
            load.has_company |= len(loads) > 1

    @staticmethod
    def _fits(need: Need, others: Sequence[Need]) -> bool:
        is_taken = need.device != "cpu" and need.device in {other.device for other in others}
        threads = need.threads + sum(other.threads for other in others)
        return not is_taken and (threads <= count_cores() or not others)

    def _has_memory(self, need: Need, loads: Sequence[Load]) -> bool:
        available = measure_available()
        if available is None:
            return True
        if not self._peaks:
            return False
        growing = sum(max(0.0, self._estimate(load.need) - load.memory) for load in loads)
        return growing + self._estimate(need) <= available

    def _estimate(self, need: Need) -> float:
        """The bytes that a run needs, by the most favourable of the runs measured so far."""
        by_others = (peak + GROWTH * max(0, need.footprint - other) for other, peak in self._peaks.items())
        return MARGIN * min(by_others)
