"""Libraries that an integration needs and that infoprobe does not bring along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(package: str, why: str) -> Iterator[None]:
    """A ``with`` block that imports a library, and says what to install if it is not there.

    Arguments:
        package: The name of the package that has the library.
        why: What needs it.

    Raises:
        ImportError: The library is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f"{why} needs {package}: pip install {package}.") from error
