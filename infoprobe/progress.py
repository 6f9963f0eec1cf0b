"""Progress bars, which are an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(total: int, name: str, *, shown: bool = True, done: int = 0) -> Iterator[Any]:
    """A bar of ``total`` steps with ``update`` and ``set_postfix``, closed at the end.

    Arguments:
        total: How many steps there are.
        name: What is under way.
        shown: ``False`` for a bar that shows nothing, which needs no extra.
        done: How many of the steps were done before.

    Raises:
        ImportError: tqdm is not installed; the message says how to get it, or do without.
    """
    if not shown:
        yield _Silent()
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "a progress bar needs tqdm: pip install 'infoprobe[progress]', or progress=False."
        ) from error
    with tqdm(total=total, initial=done, desc=name, unit="step") as bar:
        yield bar


class _Silent:
    def update(self) -> None:
        pass

    def set_postfix(self, **postfix: Any) -> None:
        pass
