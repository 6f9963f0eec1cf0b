"""MNIST, from its IDX files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from infoprobe.datasets.download import fetch
from infoprobe.datasets.files import LabelledImages, damaged, labelled

_FOLDER = Path("MNIST", "raw")  # torchvision's


def read(root: Path, split: str, download: bool) -> LabelledImages:
    """Returns the images (n, 1, 28, 28) and the digits (n,) of a split.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is damaged.
    """
    prefix = "train" if split == "train" else "t10k"
    images_path = _path_of(root, f"{prefix}-images-idx3-ubyte", download)
    labels_path = _path_of(root, f"{prefix}-labels-idx1-ubyte", download)
    images, labels = _read_idx(images_path, 28, 28), _read_idx(labels_path)
    if len(images) != len(labels):
        raise damaged(
            labels_path, f"it holds {len(labels):,} labels for the {len(images):,} images there"
        )
    if (labels > 9).any():
        raise damaged(labels_path, f"its labels are not all 0 to 9, but up to {labels.max()}")
    return labelled(images[:, None], labels)


def _path_of(root: Path, name: str, download: bool) -> Path:
    folders = (root, root / _FOLDER)
    candidates = [folder / file for folder in folders for file in (name, f"{name}.gz")]
    for path in candidates:
        if path.is_file():
            return path
    if download:
        return fetch(f"{name}.gz", root / _FOLDER)
    raise FileNotFoundError(
        f"root: found none of {', '.join(map(str, candidates))}. "
        "Pass the folder that holds the standard files, or download=True."
    )


def _read_idx(path: Path, *sizes: int) -> np.ndarray:
    """Reads a file in the IDX format: a magic number, the sizes (big-endian), unsigned bytes.

    Arguments:
        path: The path of the file.
        sizes: The expected sizes of all dimensions but the first.
    """
    dimensions = 1 + len(sizes)
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(path, f"it does not decompress ({error})") from error
    header = 4 * (1 + dimensions)
    if len(data) < header:
        raise damaged(path, f"it ends within the header, after {len(data)} bytes")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:header])
    if magic != 0x0800 + dimensions:
        raise damaged(path, f"its magic number is {magic:#x} instead of {0x800 + dimensions:#x}")
    if shape[1:] != list(sizes):
        raise damaged(path, f"its header says {shape} instead of {['n', *sizes]}")
    if len(data) - header != math.prod(shape):
        raise damaged(
            path, f"it holds {len(data) - header:,} values where its header says {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
