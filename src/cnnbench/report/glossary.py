"""The words of a report that its reader may not know, a plain sentence each; a report explains those that it uses."""

import re

# Each word by what it looks like in a text.
WORDS = {
    "95 % interval": (r"95 %", "A range computed so that it holds the true mean in 95 of 100 such studies."),
    "baseline": (r"\bbaseline\b", "The group that the others are compared with."),
    "Cohen’s d_z": (
        r"d_z",
        "The mean of the differences over the seeds, divided by their standard deviation: how large it is compared "
        "with its own scatter.",
    ),
    "F1 macro": (
        r"\bF1\b",
        "The mean of F1 over the classes. F1 is high only where most images of a class are recognised and most images "
        "given its name do belong to it.",
    ),
    "field": (
        r"\bfield\b",
        "The receptive field: how wide, in pixels, the part of an image is that one value of the last feature map "
        "depends on.",
    ),
    "Hedges’ g": (r"Hedges", "The difference of two means, divided by the spread within the two groups."),
    "Holm’s correction": (
        r"\bHolm\b",
        "It raises the p-values where several comparisons are made, so that the chance of any false verdict among "
        "them stays below 5 %.",
    ),
    "MACs": (
        r"\bMACs\b",
        "The multiplications, each with an addition, that a network performs for one image: its cost.",
    ),
    "McNemar’s test": (
        r"\bMcNemar\b",
        "It takes the images that only one of two networks gets right, and tests whether tossing a coin could have "
        "shared them out like this.",
    ),
    "nats": (
        r"\bnats\b",
        "The unit of the loss, −ln of the probability that the true class is given: 0 is perfect, and guessing among "
        "ten classes has ln 10 = 2.30.",
    ),
    "p": (
        r"\bp(-value|,| [=<&]| is)",
        "How often chance alone would give a difference at least this large if the groups were equal.",
    ),
    "paired t-test": (
        r"\bpaired t",
        "It answers the same question as the sign-flip test, but assumes differences that are normally distributed.",
    ),
    "Pareto front": (r"\bPareto\b", "The groups for which no other is both more accurate and cheaper."),
    "sign-flip test": (
        r"\bsign-flip\b",
        "If two groups were equal, the difference of each seed could just as well have the other sign. Of all choices "
        "of signs, the test counts those whose mean is at least as far from 0.",
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
