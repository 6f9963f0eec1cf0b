"""Data sets of images, as uint8, to train and to measure with."""

from infoprobe.datasets.image_files import ImageFiles
from infoprobe.datasets.loading import load

__all__ = ["ImageFiles", "load"]


def __dir__() -> list[str]:
    """Returns the public names, which are those that completion shows."""
    return __all__
