"""The words of a report that its reader may not know, a plain sentence each; a report explains those that it uses."""

import re

# Each word by what it looks like in a text.
WORDS = {
    "95 % interval": (r"95 %", "A range computed so that it contains the true mean in 95 of 100 such studies."),
    "baseline": (r"\bbaseline\b", "The group that the others are compared with."),
    "Cohen’s d_z": (
        r"d_z",
        "The mean difference over the seeds, divided by the standard deviation of those differences: how large the "
        "difference is relative to its scatter.",
    ),
    "F1 macro": (
        r"\bF1\b",
        "The mean of F1 over the classes. F1 is high only if most images of a class are found and most images that "
        "are predicted as this class belong to it.",
    ),
    "field": (
        r"\bfield\b",
        "The receptive field: the width, in pixels, of the part of an image that one value of the last feature map "
        "depends on.",
    ),
    "Hedges’ g": (
        r"Hedges",
        "The difference of two means, divided by the pooled standard deviation of the groups and corrected for small "
        "samples.",
    ),
    "Holm’s correction": (
        r"\bHolm\b",
        "It raises the p-values where several comparisons are made, so that the chance of even one false verdict among "
        "them stays below 5 %.",
    ),
    "MACs": (
        r"\bMACs\b",
        "Multiply–accumulate operations, one multiplication and one addition each, that a network performs for one "
        "image: its computational cost.",
    ),
    "McNemar’s test": (
        r"\bMcNemar\b",
        "It tests whether the images that only one of two networks gets right are split between them as evenly as coin "
        "tosses would be.",
    ),
    "nats": (
        r"\bnats\b",
        "The unit of the loss, which is −ln of the probability given to the true class: 0 is perfect, and guessing "
        "among ten classes gives ln 10 = 2.30.",
    ),
    "p": (
        r"\bp(-value|,| [=<&]| is)",
        "The probability of a difference at least this large by chance alone, if there were no real difference.",
    ),
    "paired t-test": (
        r"\bpaired t",
        "It asks the same question as the sign-flip test, but assumes that the differences are normally distributed.",
    ),
    "Pareto front": (r"\bPareto\b", "The groups for which no other group is both more accurate and cheaper."),
    "sign-flip test": (
        r"\bsign-flip\b",
        "If two groups were equal, the difference of each seed could just as well have the opposite sign: p is the "
        "share of all choices of signs whose mean is at least as far from 0 as the one observed.",
    ),
    "standard deviation": (r"\bstandard deviation\b", "How far single seeds typically lie from their mean."),
    "Welch’s t-test": (
        r"\bWelch\b",
        "It compares the means of two groups whose runs are not paired and whose spreads may differ.",
    ),
}


def explained(text: str) -> list[tuple[str, str]]:
    """The words that occur in a text, each with its sentence, in alphabetical order."""
    return [(word, sentence) for word, (pattern, sentence) in WORDS.items() if re.search(pattern, text)]
