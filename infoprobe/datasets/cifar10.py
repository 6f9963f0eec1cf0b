"""CIFAR-10, from its Python or its binary batches, unpacked or not, or from a subset of it."""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from infoprobe.datasets import pickles
from infoprobe.datasets.download import fetch
from infoprobe.datasets.files import LabelledImages, content, damaged, labelled, unpacked

_STEMS = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_RECORD = 1 + 3 * 32 * 32  # a label and an image

# The most bytes of a batch and of a whole archive, rounded up, and the most images of a split.
_BATCH, _ARCHIVE, _IMAGES = 1 << 25, 1 << 28, 50_000
_MEMBERS = 100  # of an archive, at the most

Arrays = tuple[np.ndarray, np.ndarray]


def read(root: Path, split: str, download: bool) -> LabelledImages:
    """Returns the images (n, 3, 32, 32) and the classes (n,) of a split.

    Raises:
        FileNotFoundError: The files are not there.
        ValueError: A file is damaged.
    """
    subset, incomplete = root / "cifar10-subset.npz", False
    for form in _FORMS:
        for folder in (root, root / form.folder):
            paths = [folder / name for name in form.names(split)]
            there = [path.is_file() for path in paths]
            if all(there):
                return _joined(form.batch(content(path, _BATCH), path) for path in paths)
            incomplete |= any(there)
    for form in _FORMS:
        if (root / form.archive).is_file():
            return form.read_archive(root / form.archive, split)
    if download:
        return _PYTHON.read_archive(fetch(_PYTHON.archive, root), split)
    if subset.is_file() and not incomplete:
        return _joined([_subset(subset, split)])
    raise FileNotFoundError(
        f"root: found neither all of {', '.join(_PYTHON.names(split))}, with or without .bin, in "
        f"{root}, {root / _PYTHON.folder} or {root / _BINARY.folder}, nor "
        f"{root / _PYTHON.archive}, {root / _BINARY.archive} or {subset}. "
        "Pass the folder that holds the standard files, or download=True."
    )


def _joined(batches: Iterable[Arrays]) -> LabelledImages:
    images, labels = zip(*batches, strict=True)
    return labelled(np.concatenate(images), np.concatenate(labels))


def _python_batch(data: bytes, path: Path) -> Arrays:
    try:
        batch = pickles.read(data)
        images = batch[b"data"].array().reshape(-1, 3, 32, 32)
        labels = batch[b"labels"]
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise ValueError("its labels are no list of integers")
        labels = np.asarray(labels)
    except Exception as error:  # a damaged pickle may raise any exception
        raise damaged(path, f"it is not a CIFAR-10 batch ({error})") from error
    return _checked(images, labels, path)


def _binary_batch(data: bytes, path: Path) -> Arrays:
    if not data or len(data) % _RECORD:
        raise damaged(
            path,
            f"it holds {len(data):,} bytes, which are no records of {_RECORD:,} bytes each",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    return _checked(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], path)


def _subset(path: Path, split: str) -> Arrays:
    data = content(path, _ARCHIVE)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            images, labels = (_array(archive, f"{split}_{part}") for part in ("images", "labels"))
    except Exception as error:  # from the zip, its compression, or the arrays in it
        raise damaged(path, f"it holds no arrays {split}_images and _labels ({error})") from error
    return _checked(images, labels, path)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of numbers from an npz file, whose sizes all agree."""
    info = archive.getinfo(f"{name}.npy")
    # Other methods than these unpack a few bytes to any number of them at once.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by the method {info.compress_type}")
    if info.file_size > _IMAGES * _RECORD:
        raise ValueError(f"{name} is said to take {info.file_size:,} bytes")
    data = archive.read(info)
    file = io.BytesIO(data)
    versions = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = versions[np.lib.format.read_magic(file)](file)
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{name} does not hold the {shape} values of its header")
    flat = np.frombuffer(data, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _checked(images: np.ndarray, labels: np.ndarray, path: Path) -> Arrays:
    if images.dtype != np.uint8 or images.shape[1:] != (3, 32, 32):
        raise damaged(
            path,
            f"its images have shape {images.shape} and dtype {images.dtype}, not uint8 "
            "(n, 3, 32, 32)",
        )
    if not len(images):
        raise damaged(path, "it holds no images")
    one_per_image = labels.shape == (len(images),) and labels.dtype.kind in "iu"
    if not one_per_image or not np.isin(labels, range(10)).all():
        raise damaged(path, f"its labels are not one of 0 to 9 for each of {len(images):,} images")
    return images, labels


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None or member.issparse() or not 0 <= member.size <= _BATCH:
        raise ValueError(f"{member.name} is said to take {member.size:,} bytes")
    return file.read()


@dataclass(frozen=True)
class _Form:
    """One of the two forms in which CIFAR-10 is published.

    Attributes:
        archive: The name of the archive.
        folder: The name of the folder that the archive holds.
        suffix: The suffix of the names of the batches.
        batch: Reads the images and the labels from the bytes of a batch.
    """

    archive: str
    folder: str
    suffix: str
    batch: Callable[[bytes, Path], Arrays]

    def names(self, split: str) -> list[str]:
        return [stem + self.suffix for stem in _STEMS[split]]

    def read_archive(self, path: Path, split: str) -> LabelledImages:
        """Reads the batches from within the archive, and unpacks nothing to the disk."""
        names = self.names(split)
        found: dict[str, bytes] = {}
        packed = content(path, _ARCHIVE)
        try:
            with gzip.open(io.BytesIO(packed)) as stream:  # to its end, where a checksum is
                data = unpacked(stream, path, _ARCHIVE)
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                for number, member in enumerate(archive):
                    if number >= _MEMBERS:
                        raise ValueError(f"it holds more than {_MEMBERS} files")
                    name = PurePosixPath(member.name).name
                    if member.isfile() and name in names:
                        found[name] = _member(archive, member)
        except Exception as error:  # a damaged archive may raise any exception
            raise damaged(path, f"it does not unpack ({error})") from error
        if absent := [name for name in names if name not in found]:
            raise damaged(path, f"it holds no {', '.join(absent)}")
        return _joined(self.batch(found[name], path / name) for name in names)


_PYTHON = _Form("cifar-10-python.tar.gz", "cifar-10-batches-py", "", _python_batch)
_BINARY = _Form("cifar-10-binary.tar.gz", "cifar-10-batches-bin", ".bin", _binary_batch)
_FORMS = (_PYTHON, _BINARY)
