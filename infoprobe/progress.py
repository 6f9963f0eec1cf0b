"""Progress bars, which need the extra ``infoprobe[progress]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class ProgressBar(Protocol):
    """A bar on the screen that moves forward step by step."""

    def update(self) -> object:
        """Moves the bar forward by one step."""

    def set_postfix(self, **postfix: object) -> None:
        """Shows names with their values behind the bar."""


@contextmanager
def progress_bar(
    total: int, name: str, *, shown: bool | None = None, done: int = 0
) -> Iterator[ProgressBar]:
    """A ``with`` block that shows a progress bar and closes it at the end.

    Arguments:
        total: The number of steps.
        name: The text in front of the bar.
        shown: Whether the bar is visible; ``None`` shows it if the extra is installed. An
            invisible bar does not need the extra.
        done: The number of steps that were done before.

    Raises:
        ImportError: tqdm is not installed; the message says how to install it or how to do
            without a bar.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        if shown:
            raise ImportError(
                "a progress bar needs tqdm: pip install 'infoprobe[progress]', or pass "
                "progress=False."
            ) from error
        shown = False
    if shown is False:
        yield _Invisible()
        return
    with tqdm(total=total, initial=done, desc=name, unit="step") as bar:
        yield bar


class _Invisible:
    def update(self) -> None:
        pass

    def set_postfix(self, **postfix: object) -> None:
        pass
