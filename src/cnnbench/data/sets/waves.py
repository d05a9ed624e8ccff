"""Noisy signals made from a seed: sine, square, sawtooth and chirp waves, heartbeats, and heartbeats with a fault.

The heartbeats follow the idea of McSharry, Clifford, Tarassenko and Smith, "A dynamical model for generating synthetic
electrocardiogram signals", IEEE Transactions on Biomedical Engineering, 2003: a phase runs round once a beat, and each
of the bumps P, Q, R, S, T is a Gaussian of that phase.
"""

import math
from collections.abc import Callable
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cnnbench.config.keys import Options, format_value, key
from cnnbench.config.value_types import Seed
from cnnbench.data.dataset import DatasetInfo, Source, Split
from cnnbench.data.memory import refuse_beyond_memory
from cnnbench.data.preparation import split_by_class
from cnnbench.registry import register
from cnnbench.reproducibility import make_generator

TEST_SHARE = 1 / 6
CYCLES = (2.0, 8.0)  # of a wave in a signal
BEATS = (2.5, 5.0)  # of a heart in a signal
AMPLITUDE, BASELINE = (0.5, 1.5), (-0.5, 0.5)
# Each bump of a beat: its place and width in radians, R standing at 0, and its height. ST lies flat in a healthy beat.
BUMPS = {
    "P": (-1.1, 0.20, 0.25),
    "Q": (-0.28, 0.09, -0.20),
    "R": (0.0, 0.12, 1.60),
    "S": (0.28, 0.10, -0.40),
    "ST": (0.75, 0.25, 0.0),
    "T": (1.6, 0.35, 0.45),
}
P, ST, T = (list(BUMPS).index(name) for name in ("P", "ST", "T"))


class WavesOptions(Options):
    """What `configs/data/waves.yaml` sets."""

    # Below 64 values the fastest wave and a beat's bumps have too few points.
    length: int = key("Values in a signal", ge=64, le=16_384)
    samples: int = key(
        "Signals in all, training and test; no class has over one more than another", ge=60, le=1_000_000
    )
    noise: list[Annotated[float, Field(ge=0, le=1000)]] = key(
        "Lowest and highest standard deviation of the Gaussian noise; each signal draws its own between them", length=2
    )
    waves_seed: Seed = key("Seed of the signals and the test split, independent of the run's seed")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.noise[0] > self.noise[1]:
            raise ValueError(f"data.noise={format_value(self.noise)}: must be [LOWEST,HIGHEST]")
        return self


@register("data", "waves")
def waves(options: WavesOptions, test_seed: int = 0) -> Source:
    """Signals of one channel, a function of the options; `test_seed` chooses the sixth of each class to test on."""
    length, samples, seed = options.length, options.samples, options.waves_seed
    # In memory at once: the signals, their noise, the two multiplied, and the splits.
    refuse_beyond_memory(16 * samples * length, f"data.samples={samples} with data.length={length}")
    labels = torch.arange(samples) % len(CLASSES)
    signals = torch.empty(samples, 1, length)
    for label, (name, pattern) in enumerate(CLASSES.items()):
        random = make_generator(seed, f"waves/{name}")
        count = len(range(label, samples, len(CLASSES)))
        scale, offset = _draw_uniform(AMPLITUDE, count, random), _draw_uniform(BASELINE, count, random)
        signals[label :: len(CLASSES), 0] = scale * pattern(count, length, random) + offset
    # A separate stream, so that the same signals can be made with other noise, or with none.
    random = make_generator(seed, "waves/noise")
    deviations = _draw_uniform((options.noise[0], options.noise[1]), samples, random).unsqueeze(-1)
    signals += deviations * torch.randn(signals.shape, generator=random)
    random = make_generator(seed, "waves/test", *([test_seed] if test_seed else []))
    test, train = split_by_class(labels, round(TEST_SHARE * samples), random)
    info = DatasetInfo("waves", in_channels=1, image_size=length, class_names=tuple(CLASSES), dimensions=1)
    return Source(info, Split(signals[train], labels[train]), Split(signals[test], labels[test]))


@register("data_shape", "waves")
def waves_shape(options: WavesOptions) -> tuple[tuple[int, ...], int]:
    """The shape of a signal and the number of classes."""
    return (1, options.length), len(CLASSES)


def _draw_uniform(bounds: tuple[float, float], count: int, random: torch.Generator) -> Tensor:
    """One number for each signal, (N, 1)."""
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, 1, generator=random)


def _draw_phase(count: int, length: int, random: torch.Generator) -> Tensor:
    """The cycles of a wave that have passed at each sample, (N, L); its start is random."""
    return torch.rand(count, 1, generator=random) + _draw_uniform(CYCLES, count, random) * torch.arange(length) / length


def _make_sine(count: int, length: int, random: torch.Generator) -> Tensor:
    return torch.sin(2 * math.pi * _draw_phase(count, length, random))


def _make_square(count: int, length: int, random: torch.Generator) -> Tensor:
    return torch.where(_draw_phase(count, length, random) % 1 < 0.5, 1.0, -1.0)


def _make_sawtooth(count: int, length: int, random: torch.Generator) -> Tensor:
    return 2 * (_draw_phase(count, length, random) % 1) - 1


def _make_chirp(count: int, length: int, random: torch.Generator) -> Tensor:
    """A sine whose frequency rises linearly to 1.5…3 times its start, or falls from there."""
    time = torch.arange(length) / length
    slow, ratio = _draw_uniform((CYCLES[0], CYCLES[1] / 2), count, random), _draw_uniform((1.5, 3.0), count, random)
    cycles = torch.rand(count, 1, generator=random) + slow * (time + (ratio - 1) * time**2 / 2)
    falls = torch.rand(count, 1, generator=random) < 0.5
    return torch.sin(2 * math.pi * torch.where(falls, cycles.flip(1), cycles))


def _make_normal_ecg(count: int, length: int, random: torch.Generator) -> Tensor:
    rate = _draw_uniform(BEATS, count, random)
    return _make_heartbeats(rate, _draw_healthy_bumps(count, random), length, random)


def _make_anomalous_ecg(count: int, length: int, random: torch.Generator) -> Tensor:
    """One fault a signal, at random: a premature and wide beat, no P wave in any beat, or a raised ST segment."""
    rate = _draw_uniform(BEATS, count, random)
    bumps = _draw_healthy_bumps(count, random)
    places, widths, heights = bumps.unbind(-1)  # views: writing to them changes the bumps
    kind = torch.randint(3, (count,), generator=random)
    heights[..., P] *= (kind != 1).unsqueeze(-1)
    heights[..., ST] += torch.where(kind == 2, 0.45, 0.0).unsqueeze(-1)
    # The first beat has begun before the signal, so the beats from the second on lie inside it.
    inside = (rate.squeeze(-1) - 1.2).floor().clamp_min(1)
    beat = 1 + (torch.rand(count, generator=random) * inside).long()
    early = (torch.arange(count)[kind == 0], beat[kind == 0])
    places[early] -= 0.9
    widths[early] *= 2.2
    heights[(*early, P)] = 0.0
    heights[(*early, T)] *= -1
    return _make_heartbeats(rate, bumps, length, random)


def _draw_healthy_bumps(count: int, random: torch.Generator) -> Tensor:
    """Place, width and height of each bump of each beat, (N, beats, bumps, 3); beats differ by some per cent."""
    bumps = torch.tensor(list(BUMPS.values()))
    varied = 1 + 0.05 * torch.randn(count, math.ceil(BEATS[1]) + 2, *bumps.shape, generator=random)
    return bumps * varied.clamp(0.8, 1.2)


def _make_heartbeats(rate: Tensor, bumps: Tensor, length: int, random: torch.Generator) -> Tensor:
    """The sum of the bumps at each sample, (N, L).

    Args:
        rate: beats in a signal, (N, 1); each beat lasts up to a tenth longer or shorter.
        bumps: as `_draw_healthy_bumps` returns them.
    """
    count, beats = bumps.shape[:2]
    durations = (1 + 0.1 * (2 * torch.rand(count, beats, generator=random) - 1)) / rate
    ends = durations.cumsum(1) - durations[:, :1] * torch.rand(count, 1, generator=random)
    time = (torch.arange(length) / length).expand(count, length).contiguous()
    beat = torch.searchsorted(ends, time, right=True).clamp_max(beats - 1)
    left = (ends.gather(1, beat) - time) / durations.gather(1, beat)
    phase = math.pi * (1 - 2 * left)
    rows = torch.arange(count).unsqueeze(1)
    total = torch.zeros(count, length)
    for bump in range(bumps.shape[2]):
        place, width, height = bumps[:, :, bump][rows, beat].unbind(-1)
        total += height * torch.exp(-((phase - place) ** 2) / (2 * width**2))
    return total


CLASSES: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "sine": _make_sine,
    "square": _make_square,
    "sawtooth": _make_sawtooth,
    "chirp": _make_chirp,
    "ecg_normal": _make_normal_ecg,
    "ecg_anomaly": _make_anomalous_ecg,
}
