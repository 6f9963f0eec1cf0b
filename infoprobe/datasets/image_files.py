"""Images that stay in their files until they are needed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks, files
from infoprobe.datasets.files import content, damaged
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

# Pillow knows more, some of which it leaves to other programs, such as PostScript to Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# The most pixels that are decoded, and the most bytes that a file of them takes.
_PIXELS, _BYTES = 1 << 25, 1 << 28

if TYPE_CHECKING:
    from PIL import Image


class ImageFiles:
    """Reads image files of one size when they are indexed, like a uint8 tensor (n, 3, H, W).

    An integer gives one image (3, H, W). A slice, a list or a tensor of integers or booleans gives
    a batch (m, 3, H, W). Each access reads the files of these images anew, and no others.

    Arguments:
        paths: The paths of the files: JPEG, PNG, BMP, GIF, PPM, TIFF or WebP with at most 2**25
            pixels of 8 bits a channel.
        size: The number of pixels of the shorter side. ``None`` leaves the images as they are; an
            integer resizes them as ``torchvision.transforms.Resize(size)`` does: bilinearly, with
            antialiasing, and with the longer side rounded down.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: A file is not there.
        TypeError: ``paths`` is a single path.
        ValueError: There are no files, or a file is damaged or has another size than the first
            one. Files after the first are checked when they are indexed.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> path = pathlib.Path(tempfile.mkdtemp(), "face.png")
        >>> Image.new("RGB", (178, 218)).save(path)
        >>> ip.datasets.ImageFiles([path] * 5, size=128)[:2].shape
        torch.Size([2, 3, 156, 128])
    """

    def __init__(self, paths: Iterable[str | Path], size: int | None = None) -> None:
        if isinstance(paths, (str, bytes, os.PathLike)):
            raise ArgumentTypeError(
                "paths", f"expected several, got {str(paths)!r}. Pass a list of paths."
            )
        self.paths: list[Path] = [files.as_path(path, "paths") for path in checks.items(paths)]
        if not self.paths:
            raise ArgumentValueError("paths", "expected at least one file, got none.")
        self._numbers = torch.arange(len(self.paths), device="cpu")
        self._stored_size = _decoded(self.paths[0], None).size
        self._size = self._stored_size if size is None else _resized(self._stored_size, size)

    @property
    def shape(self) -> torch.Size:
        """The shape (n, 3, H, W) of all images together."""
        width, height = self._size
        return torch.Size((len(self), 3, height, width))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tensor:
        chosen = self._numbers[index]
        if chosen.dim() > 1:
            raise IndexError(
                f"index: expected at most one axis, got shape {tuple(chosen.shape)}. Flatten it."
            )
        batch = np.empty((chosen.numel(), *self.shape[1:]), np.uint8)
        for i, number in enumerate(chosen.flatten().tolist()):
            batch[i] = self._pixels(self.paths[number]).transpose(2, 0, 1)
        return torch.from_numpy(batch if chosen.dim() else batch[0])

    def split(self, split_size: int) -> Iterator[Tensor]:
        """Yields batches of ``split_size`` images, of which the last may be smaller."""
        split_size = checks.require_integer(split_size, 1, None, "split_size")
        for start in range(0, len(self), split_size):
            yield self[start : start + split_size]

    def fingerprint(self) -> str:
        """Returns the names and the sizes in bytes of all files, and the size of the images."""
        sizes = [(path.name, path.stat().st_size) for path in self.paths]
        return f"{self._size} {sizes}"

    def require_size(self, size: tuple[int, int], path: Path) -> None:
        """Raises a ValueError unless an image has as many pixels as the first one."""
        if size != self._stored_size:
            got, expected = ("{}x{}".format(*x) for x in (size, self._stored_size))
            raise ArgumentValueError(
                str(path),
                f"expected {expected} pixels, as {self.paths[0].name} has, got {got}. "
                "Leave this file out, or bring all images to one size.",
            )

    def _pixels(self, path: Path) -> np.ndarray:
        from PIL.Image import Resampling

        image = _decoded(path, self)
        return np.asarray(image.resize(self._size, Resampling.BILINEAR))


def _decoded(path: Path, others: ImageFiles | None) -> Image.Image:
    """The image in a file, which is as large as the others."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("image files need Pillow: pip install 'infoprobe[data]'.") from error
    try:
        data = content(path, _BYTES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: it is not there. Fetch it again.") from error
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        # Only the header was read so far.
        if others is not None:
            others.require_size(image.size, path)
        if image.width * image.height > _PIXELS:
            raise ValueError(f"it has {image.width}x{image.height} pixels, more than {_PIXELS:,}")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels have more than 8 bits, mode {image.mode}")
        return image.convert("RGB")
    except ArgumentValueError:
        raise
    except Exception as error:  # a damaged image may raise any exception
        raise damaged(path, f"it does not decode ({error})") from error


def _resized(stored: tuple[int, int], size: int) -> tuple[int, int]:
    size = checks.require_integer(size, 1, None, "size")
    width, height = (size * side // min(stored) for side in stored)
    return width, height
