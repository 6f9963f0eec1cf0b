"""Progress bars, which are an extra."""

from __future__ import annotations

from typing import Any


def progress_bar(total: int, name: str) -> Any:
    """A bar of ``total`` steps.

    Raises:
        ImportError: tqdm is not installed; the message says how to get it, or do without.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "a progress bar needs tqdm: pip install 'infoprobe[progress]', or progress=False."
        ) from error
    return tqdm(total=total, desc=name, unit="step")
