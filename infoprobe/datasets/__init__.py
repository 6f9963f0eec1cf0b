"""Images to measure with, as uint8."""

from infoprobe.datasets.image_files import ImageFiles
from infoprobe.datasets.loading import load

__all__ = ["ImageFiles", "load"]
