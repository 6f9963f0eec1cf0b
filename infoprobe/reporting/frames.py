"""Rows as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def frame(rows: Sequence[Mapping[str, Any]], name: str) -> pandas.DataFrame:
    """A data frame with a line for each row.

    Arguments:
        rows: The rows, with the same keys.
        name: What the caller calls the object that has the rows, for the error message.

    Raises:
        ImportError: pandas is not installed; the message says how to install or do without it.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "to_dataframe() needs pandas: pip install 'infoprobe[dataframe]'. "
            f"{name}.rows holds the same as a list of dictionaries."
        ) from error
    return pandas.DataFrame(rows)
