"""The words and numbers in a run's pictures, in the reader's language."""

from collections.abc import Mapping

from cnnbench.storage.text import format_percent

ENGLISH = {
    "worst": "Worst mistakes: {shown} of {wrong} among {total} test images",
    "worst_signals": "Worst mistakes: {shown} of {wrong} among {total} test signals",
    "true": "true",
    "answer": "pred.",
    "numbered": "#k: class k of per_class.csv, from 0 (no font here has its letters)",
    "decimal": ".",
}
SWAP_MARKS = str.maketrans(".,", ",.")


def localize_number(number: str, words: Mapping[str, str]) -> str:
    """A number in English notation, such as `1,234.5`, with the decimal mark of the reader's language."""
    return number if words["decimal"] == "." else number.translate(SWAP_MARKS)


def describe_answer(words: Mapping[str, str], label: str | None, prediction: str | None, share: float) -> list[str]:
    """What is known of an image, such as `true 7` and `pred. 9 (64%)`.

    Args:
        words: `true`, `answer` and `decimal`.
        label, prediction: names of classes; None if unknown.
        share: the probability of the prediction.
    """
    parts = [] if label is None else [f"{words['true']} {label}"]
    if prediction is not None:
        parts.append(f"{words['answer']} {prediction} ({localize_number(format_percent(share, 0), words)})")
    return parts
