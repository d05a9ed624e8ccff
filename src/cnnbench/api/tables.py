"""Tables: pandas' where it is installed, and otherwise a list with a mapping for each row."""

from collections.abc import Mapping, Sequence
from typing import Any

Table = Any  # pandas.DataFrame or list[dict[str, Any]]


def make_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table."""
    try:
        import pandas
    except ImportError:
        return [dict(row) for row in rows]
    return pandas.DataFrame([*rows])


def make_matrix(matrix: Any, names: Sequence[str]) -> Any:
    """A square matrix with names for its rows and columns; without pandas, the matrix alone."""
    try:
        import pandas
    except ImportError:
        return matrix
    dense = matrix if hasattr(matrix, "tolist") else matrix.toarray()
    return pandas.DataFrame(dense, pandas.Index(names, name="true"), pandas.Index(names, name="predicted"))
