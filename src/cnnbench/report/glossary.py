"""The words of a report that its reader may not know, a plain sentence each; a report explains those that it uses."""

import re

# Each word by what it looks like in a text.
WORDS = {
    "95 % interval": (r"95 %", "A range reckoned so that it holds the true mean in 95 of 100 such studies."),
    "baseline": (r"\bbaseline\b", "The group that the others are compared with."),
    "Cohen’s d_z": (
        r"d_z",
        "The mean of the differences over the seeds, divided by their standard deviation: how large it is beside its "
        "own scatter.",
    ),
    "F1 macro": (
        r"\bF1\b",
        "The mean over the classes of F1, which is high only where most images of a class are found and most that are "
        "given its name are of it.",
    ),
    "field": (
        r"\bfield\b",
        "The receptive field: how many pixels across is the part of an image that one value of the last feature map "
        "sees.",
    ),
    "Hedges’ g": (r"Hedges", "The difference of two means, divided by the spread within the two groups."),
    "Holm’s correction": (
        r"\bHolm\b",
        "It enlarges the p-values where several comparisons are made, so that the chance of any false verdict among "
        "them stays below 5 %.",
    ),
    "MACs": (r"\bMACs\b", "Multiplications, each with an addition, that a network makes for one image: what it costs."),
    "McNemar’s test": (
        r"\bMcNemar\b",
        "It asks whether the images that only one of two networks gets right are shared out as evenly as by a coin.",
    ),
    "nats": (
        r"\bnats\b",
        "The unit of the loss, −ln of the probability that the true class is given: 0 is perfect, and guessing among "
        "ten classes has ln 10 = 2.30.",
    ),
    "p": (
        r"\bp(-value|,| [=<&]| is)",
        "How often chance alone would make a difference at least so large, were there none.",
    ),
    "paired t-test": (
        r"\bpaired t",
        "It asks the same as the sign-flip test, and assumes that the differences are normally distributed.",
    ),
    "Pareto front": (r"\bPareto\b", "The groups than which no other is both more accurate and cheaper."),
    "sign-flip test": (
        r"\bsign-flip\b",
        "Were two groups equal, the difference of each seed could as well have the other sign: of all choices of "
        "signs, the test counts those whose mean is as far from 0.",
    ),
    "standard deviation": (r"\bstandard deviation\b", "How far single seeds lie from their mean, typically."),
    "Welch’s t-test": (
        r"\bWelch\b",
        "It compares the means of two groups whose runs are not pairs, and whose spreads may differ.",
    ),
}


def explained(text: str) -> list[tuple[str, str]]:
    """The words that occur in a text, each with its sentence, in alphabetical order."""
    return [(word, sentence) for word, (pattern, sentence) in WORDS.items() if re.search(pattern, text)]
