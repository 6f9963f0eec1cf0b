"""Progress bars of calls that may take long, which need the extra ``infoprobe[progress]``.

A public function with an argument ``progress`` calls what may take long within :func:`showing`,
and each loop that may take long moves a :func:`progress_bar` forward. So no function between
the two has to know of bars.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

# Whether the call that is running was asked to show bars, and whether one is shown already.
_wanted: ContextVar[bool] = ContextVar("wanted", default=False)
_shown: ContextVar[bool] = ContextVar("shown", default=False)

# A bar within another one appears if it is still there after so many seconds.
_DELAY = 0.5


class ProgressBar(Protocol):
    """A bar on the screen that moves forward step by step."""

    def update(self) -> object:
        """Moves the bar forward by one step."""

    def set_postfix(self, **postfix: object) -> None:
        """Shows names with their values behind the bar."""


@contextmanager
def showing(progress: bool) -> Iterator[None]:
    """A ``with`` block in which long loops show progress bars, in this thread.

    Arguments:
        progress: Whether they do; ``False`` leaves it to what is around the block.

    Raises:
        ImportError: Bars are to be shown, and tqdm is not installed.
    """
    if progress:
        _tqdm()
    before = _wanted.set(bool(progress) or _wanted.get())
    try:
        yield
    finally:
        _wanted.reset(before)


@contextmanager
def progress_bar(
    total: int, name: str, *, unit: str = "step", shown: bool = False, done: int = 0
) -> Iterator[ProgressBar]:
    """A ``with`` block with a progress bar, which is closed at the end.

    A bar within another one goes when it is complete.

    Arguments:
        total: The number of steps.
        name: The text in front of the bar.
        unit: What a step is called.
        shown: Whether the bar is visible even outside of :func:`showing`. An invisible bar does
            not need the extra.
        done: The number of steps that were done before.

    Raises:
        ImportError: The bar is visible, and tqdm is not installed; the message says how to
            install it or how to do without a bar.
    """
    if not (shown or _wanted.get()):
        yield _Invisible()
        return
    inside = _shown.get()
    settings = {"leave": False, "delay": _DELAY} if inside else {}
    with _tqdm()(total=total, initial=done, desc=name, unit=unit, **settings) as bar:
        before = _shown.set(True)
        try:
            yield bar
        finally:
            _shown.reset(before)


def is_installed() -> bool:
    """Whether bars can be shown."""
    try:
        _tqdm()
    except ImportError:
        return False
    return True


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "a progress bar needs tqdm: pip install 'infoprobe[progress]', or pass progress=False."
        ) from error
    return tqdm


class _Invisible:
    def update(self) -> None:
        pass

    def set_postfix(self, **postfix: object) -> None:
        pass
