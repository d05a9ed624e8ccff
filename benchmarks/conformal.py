"""Prediction sets of networks for digits: their coverage over random splits, and the share of letters they reject.

    cnnbench train data=mnist model=lenet5 trainer.epochs=5 hydra.run.dir=RUN
    CNNBENCH_DATA=DIR python benchmarks/conformal.py RUN

The validation and test images, which the network was not trained on, are split at random into halves, 20 times. One
half calibrates the sets as `--abstain` does, and the other is measured: coverage is the share of sets that contain the
true class. Then the validation images calibrate the sets of MNIST's test images and of letters. A letter is rejected if
its set is empty. *At 5 %* moves the threshold so that exactly 5 % of the test images are rejected.

The letters are not handwritten: A to Z and a to z in matplotlib's DejaVu fonts, rotated, slanted and scaled at random,
and centred in MNIST's frame as its authors did. Those that look like a digit are left out of the second figure. Digits
from the same fonts show how much of the rejection is due to the fonts.

Our measure of misfit is compared with two others: 1 − probability, and the negative logit.
"""

import argparse
import string
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cnnbench.data import Split
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import Measurement, prepare_measurement
from cnnbench.metrics.conformal import Misfit, compute_threshold, score_sets

SIDE, BOX = 28, 20  # of an image, and of the character in it
ALIKE = "BIOSZbgiloqsz"  # letters that look like a digit
SPLITS, MISSES = 20, (0.01, 0.05, 0.1)
Measure = Callable[[np.ndarray], np.ndarray]  # logits (N, K) to how little each class fits (N, K)


def fit_gaussians(logits: np.ndarray, labels: np.ndarray) -> Measure:
    return Misfit.fit(logits, labels).measure


def use_probability(logits: np.ndarray, labels: np.ndarray) -> Measure:
    return Misfit().measure  # −log p orders classes and images as 1 − p does


def use_logit(logits: np.ndarray, labels: np.ndarray) -> Measure:
    return np.negative


WAYS = {"ours": fit_gaussians, "1 − probability": use_probability, "negative logit": use_logit}


def draw_characters(characters: str, count: int, *, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Images of characters in turn, light on dark, uint8 (count, side, side)."""
    random = np.random.default_rng(seed)
    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf"))
    fonts = [font for font in fonts if "Display" not in font.name]  # those have only mathematical signs
    images = [
        _draw(characters[number % len(characters)], fonts[random.integers(len(fonts))], random, side)
        for number in range(count)
    ]
    return np.stack(images)


def _draw(character: str, font: Path, random: np.random.Generator, side: int) -> np.ndarray:
    middle = 80
    drawn = Image.new("L", (2 * middle, 2 * middle))
    letters = ImageFont.truetype(str(font), 72)
    ImageDraw.Draw(drawn).text((middle, middle), character, fill=255, font=letters, anchor="mm")
    angle, slant = np.deg2rad(random.uniform(-15, 15)), random.uniform(-0.25, 0.25)
    width, height = np.exp(random.uniform(-0.15, 0.15, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(turn @ np.array([[width, slant], [0, height]]))
    shift = middle - back @ np.full(2, middle)
    drawn = drawn.transform(drawn.size, Image.Transform.AFFINE, (*back[0], shift[0], *back[1], shift[1]), 3)
    drawn = drawn.crop(drawn.getbbox())
    # As MNIST: the longer side fills the box, and the centre of mass is the middle of the image.
    scale = side * BOX / SIDE / max(drawn.size)
    drawn = drawn.resize([max(1, round(length * scale)) for length in drawn.size], Image.Resampling.BOX)
    pixels = np.asarray(drawn)
    places = [np.average(np.arange(length), weights=pixels.sum(1 - axis)) for axis, length in enumerate(pixels.shape)]
    top, left = (
        int(np.clip(round((side - 1) / 2 - place), 0, side - length))
        for place, length in zip(places, pixels.shape, strict=True)
    )
    image = np.zeros((side, side), np.uint8)
    image[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return image


def compute_logits(ready: Measurement, split: Split) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = zip(*ready.iterate_logits(split), strict=True)
    return np.concatenate(logits), np.concatenate(labels)


def calibrate(
    fit: Callable[[np.ndarray, np.ndarray], Measure], logits: np.ndarray, labels: np.ndarray, order: np.ndarray
) -> tuple[Measure, np.ndarray]:
    """Learn from the first half of an order, and compute the scores of the true classes of the other."""
    first, rest = order[: len(order) // 2], order[len(order) // 2 :]
    measure = fit(logits[first], labels[first])
    return measure, measure(logits[rest])[np.arange(len(rest)), labels[rest]]


def print_coverage(logits: np.ndarray, labels: np.ndarray) -> None:
    print(f"{SPLITS} random halves of {len(labels):,} images: coverage mean (lowest…highest), set size, unknown")
    for name, fit in WAYS.items():
        for miss in MISSES:
            found = []
            for seed in range(SPLITS):
                order = np.random.default_rng(seed).permutation(len(labels))
                half, others = order[: len(order) // 2], order[len(order) // 2 :]
                measure, scores = calibrate(fit, logits, labels, half)
                members = measure(logits[others]) <= compute_threshold(scores, miss)
                found.append(score_sets(members.sum(1), members[np.arange(len(others)), labels[others]]))
            coverage, size, unknown = (
                np.array([one[key] for one in found]) for key in ("coverage", "mean_set_size", "unknown")
            )
            print(
                f"  {name:<16} nominal {1 - miss:.2f}  {100 * coverage.mean():.2f} % "
                f"({100 * coverage.min():.2f}…{100 * coverage.max():.2f})  {size.mean():.3f}  "
                f"{100 * unknown.mean():.2f} %",
                flush=True,
            )


def print_letters(ready: Measurement, val: tuple[np.ndarray, np.ndarray], test: np.ndarray, count: int) -> None:
    letters = string.ascii_letters
    is_clear = np.array([letters[number % len(letters)] not in ALIKE for number in range(count)])
    drawn = {
        "letters": draw_characters(letters, count),
        "font digits": draw_characters(string.digits, count // 4, seed=1),
    }
    found = {
        name: compute_logits(
            ready, Split(torch.from_numpy(images)[:, None], torch.zeros(len(images), dtype=torch.int64))
        )
        for name, images in drawn.items()
    }
    print(f"{count:,} letters, {is_clear.sum():,} of them unlike digits; rejected with --abstain 0.05, and at 5 %")
    for name, fit in WAYS.items():
        measure, scores = calibrate(fit, *val, np.random.default_rng(0).permutation(len(val[1])))
        nearest = {key: measure(logits).min(1) for key, (logits, _) in found.items()}
        digits = measure(test).min(1)
        for title, threshold in (("0.05", compute_threshold(scores, 0.05)), ("at 5 %", np.quantile(digits, 0.95))):
            rejected = {key: 100 * np.mean(values > threshold) for key, values in nearest.items()}
            clear = 100 * np.mean(nearest["letters"][is_clear] > threshold)
            print(
                f"  {name:<16} {title:<7} test digits {100 * np.mean(digits > threshold):.2f} %  all letters "
                f"{rejected['letters']:.1f} %  unlike digits {clear:.1f} %  "
                f"font digits {rejected['font digits']:.1f} %",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--letters", type=int, default=5200)
    options = parser.parse_args()
    for run in options.runs:
        parts = {name: prepare_measurement(run, DataChoice(split=name)) for name in ("val", "test")}
        val, test = (compute_logits(ready, ready.found.split) for ready in parts.values())
        accuracy = 100 * np.mean(test[0].argmax(1) == test[1])
        print(f"{run}: {len(val[1]):,} validation images, {accuracy:.2f} % of {len(test[1]):,} test images right")
        print_coverage(np.concatenate([val[0], test[0]]), np.concatenate([val[1], test[1]]))
        print_letters(parts["test"], val, test[0], options.letters)


if __name__ == "__main__":
    main()
