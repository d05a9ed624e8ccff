"""A study's tables for a paper: `report.tex`, to be put in with \\input; needs the package booktabs."""

import re

from cnnbench.report.study import Study
from cnnbench.report.tables import Table, comparisons, headline
from cnnbench.storage.text import make_printable

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # \textquotedbl is not in LaTeX's default encoding
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
TOO_WIDE = ("accuracy [95 %]", "F1 macro [95 %]", "images/s", "depth")  # groups.csv has them
LEFT_OUT = ("p, t",)


def latex(study: Study) -> str:
    """The headline table and the comparisons."""
    tables = [_set(headline(study), "Test accuracy and F1: mean ± standard deviation over n seeds.", TOO_WIDE)]
    if study.comparisons:
        caption = (
            "Differences in test accuracy with 95 % intervals; p of the exact sign-flip test where seeds are paired, "
            "else of Welch's test, corrected by Holm's method."
        )
        tables.append(_set(comparisons(study), caption, LEFT_OUT))
    return "% \\usepackage{booktabs}\n" + "\n".join(tables)


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is, negative numbers with a minus."""
    minus = re.sub(r"(?<!\w)-(?=\d)", "−", make_printable(text))
    text = "".join(SPECIAL.get(character, character) for character in minus)
    return re.sub("-(?=-)", "-{}", text)  # two would be set as a dash


def _set(table: Table, caption: str, left_out: tuple[str, ...]) -> str:
    kept = [column for column, name in enumerate(table.header) if name not in left_out]
    shape = "".join("l" if table.is_left(column) else "r" for column in kept)
    # Braces keep a cell that begins with [ from being taken for the row's option.
    lines = [" & ".join(f"{{{escaped(cells[column])}}}" for column in kept) for cells in (table.header, *table.rows)]
    head, *body = (f"  {line} \\\\" for line in lines)
    return "\n".join(
        [
            r"\begin{table}",
            r" \centering",
            f" \\caption{{{escaped(caption)}}}",
            f" \\begin{{tabular}}{{{shape}}}",
            r"  \toprule",
            head,
            r"  \midrule",
            *body,
            r"  \bottomrule",
            r" \end{tabular}",
            r"\end{table}",
            "",
        ]
    )
