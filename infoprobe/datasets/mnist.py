"""MNIST, from its IDX files."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from infoprobe.datasets.download import fetch
from infoprobe.datasets.files import LabelledImages, content, damaged, labelled, unpacked

_FOLDER = Path("MNIST", "raw")  # torchvision's
_MOST = 60_000  # images, of which the training set has most


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
    header, of_one = 4 * (2 + len(sizes)), math.prod(sizes)
    most = header + _MOST * of_one
    data = content(path, most)
    if path.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(data)) as stream:
                data = unpacked(stream, path, most)
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(path, f"it does not decompress ({error})") from error
    if len(data) < header:
        raise damaged(path, f"it ends within the header, after {len(data)} bytes")
    magic, n, *shape = struct.unpack(f">{header // 4}I", data[:header])
    if magic != 0x0801 + len(sizes):
        raise damaged(path, f"its magic number is {magic:#x} instead of {0x801 + len(sizes):#x}")
    if shape != list(sizes):
        raise damaged(path, f"its header says {[n, *shape]} instead of {['n', *sizes]}")
    if len(data) - header != n * of_one:
        raise damaged(
            path, f"it holds {len(data) - header:,} values where its header says {[n, *shape]}"
        )
    if n == 0:
        raise damaged(path, "it holds no images or labels")
    values: np.ndarray = np.frombuffer(data, np.uint8, offset=header).reshape(n, *sizes)
    return values
