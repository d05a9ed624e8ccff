r"""The tables of a study as `report.tex`, to \input into a paper; it needs the package booktabs."""

import re

from cnnbench.report.section_tables import FOLDS_TEST, tabulate_folds, tabulate_variance
from cnnbench.report.study import Study
from cnnbench.report.tables import Table, tabulate_comparisons, tabulate_groups
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
GROUPS = "Test accuracy and F1: mean ± standard deviation over n seeds."
FOLDED_GROUPS = "Accuracy and F1 on the held-out fold: mean ± standard deviation over n runs, one a fold and seed."
FOLDS = "Accuracy on each held-out fold. No run has read the dataset's test images."
COMPARISONS = (
    "Differences in test accuracy with 95 % intervals; p of the exact sign-flip test where seeds are paired, else of "
    "Welch's test, corrected by Holm's method."
)
FOLDED_COMPARISONS = "Differences in accuracy with 95 % intervals; p is corrected by Holm's method."
TABLE = r"""\begin{table}
 \centering
 \caption{CAPTION}
 \begin{tabular}{SHAPE}
  \toprule
HEAD
  \midrule
BODY
  \bottomrule
 \end{tabular}
\end{table}
"""


def format_latex(study: Study) -> str:
    """The tables of groups, of folds, of comparisons, and of the shares of the variance."""
    has_folds = study.most_folds > 0
    tables = [_format_table(tabulate_groups(study), FOLDED_GROUPS if has_folds else GROUPS)]
    if has_folds:
        tables.append(_format_table(tabulate_folds(study), FOLDS))
    if study.comparisons:
        caption = f"{FOLDED_COMPARISONS} {FOLDS_TEST}" if has_folds else COMPARISONS
        tables.append(_format_table(tabulate_comparisons(study), caption))
    if study.variance:
        variance = tabulate_variance(study)
        tables.append(_format_table(variance, variance.note))
    return "% \\usepackage{booktabs}\n" + "\n".join(tables)


def escape_latex(text: str) -> str:
    """Escape text for LaTeX, and write negative numbers with a minus sign."""
    minus = re.sub(r"(?<!\w)-(?=\d)", "−", make_printable(text))
    text = "".join(SPECIAL.get(character, character) for character in minus)
    return re.sub("-(?=-)", "-{}", text)  # two hyphens would be set as a dash


def _format_table(table: Table, caption: str) -> str:
    table = table.adapt_to("paper")
    shape = "".join("r" if column.kind == "number" else "l" for column in table.columns)
    cells = [[column.heading for column in table.columns], *table.texts]
    # Braces keep a cell that begins with [ from being read as an option of the row.
    head, *body = (f"  {' & '.join(f'{{{escape_latex(text)}}}' for text in row)} \\\\" for row in cells)
    parts = {"CAPTION": escape_latex(caption), "SHAPE": shape, "HEAD": head, "BODY": "\n".join(body)}
    return re.sub("|".join(parts), lambda found: parts[found[0]], TABLE)
