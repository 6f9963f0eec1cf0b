"""CelebA, from its folder of aligned and cropped images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infoprobe.datasets.files import damaged
from infoprobe.datasets.image_files import ImageFiles
from infoprobe.errors import ArgumentValueError

_BY_HAND = (
    "Fetch img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unpack the zip, and put all of it into "
    "a folder celeba in root."
)


def read(
    root: Path, split: str, download: bool, size: int | None = None
) -> tuple[ImageFiles, Tensor]:
    """Returns the images (n, 3, H, W) and the attributes (n, 40) of a split.

    Raises:
        FileNotFoundError: There are no images, or some that a list names are missing.
        ValueError: A file is damaged, the split has no images, or a download is asked for.
    """
    if download:
        raise ArgumentValueError(
            "download",
            "expected False with 'celeba', whose files are behind Google Drive's consent pages, "
            f"got True. {_BY_HAND}",
        )
    folder = _folder(root)
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
    partition = _path_of_list(folder, "list_eval_partition.txt")
    if partition is None:
        chosen = _random_split(len(names), split)
    else:
        parts = _values_of(partition, names, folder, header=0, columns=1, values={"0", "1", "2"})
        chosen = np.flatnonzero(parts[:, 0] == {"train": 0, "test": 2}[split])
    if len(chosen) == 0:
        raise ArgumentValueError(
            "split",
            f"expected some images in {split!r}, got none of the {len(names):,} in {folder}. "
            f"Unpack all of img_align_celeba.zip, and check {partition or 'the split'}.",
        )
    attributes = _path_of_list(folder, "list_attr_celeba.txt")
    if attributes is None:
        labels = np.empty((len(names), 0), np.int64)
    else:
        signs = _values_of(attributes, names, folder, header=2, columns=40, values={"-1", "1"})
        labels = (signs + 1) // 2
    return ImageFiles([folder / names[i] for i in chosen], size), torch.from_numpy(labels[chosen])


def _folder(root: Path) -> Path:
    # The innermost folder comes first, since a stray image in root is not the data set.
    candidates = (root / "celeba" / "img_align_celeba", root / "img_align_celeba", root)
    for folder in candidates:
        if any(folder.glob("*.jpg")):
            return folder
    raise FileNotFoundError(
        f"root: found no .jpg files in any of {', '.join(map(str, candidates))}. {_BY_HAND}"
    )


def _path_of_list(folder: Path, name: str) -> Path | None:
    """Returns the path of a list beside the folder of the images or in it, if it is there."""
    absolute = Path(os.path.abspath(folder))  # "." has no parent by that name
    folders = (absolute.parent, absolute, folder.resolve().parent)  # the folder may be a link
    return next((path for f in folders if (path := f / name).is_file()), None)


def _random_split(n: int, split: str) -> np.ndarray:
    # NumPy promises never to change this generator's stream, so the split stays the same.
    order = np.random.RandomState(0).permutation(n)
    training = n * 4 // 5
    return np.sort(order[:training] if split == "train" else order[training:])


def _values_of(
    path: Path, names: list[str], folder: Path, *, header: int, columns: int, values: set[str]
) -> np.ndarray:
    """Reads lines that hold a file's name and its values: int64, (len(names), columns)."""
    rows: dict[str, list[int]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            name, *row = line.split() or [""]
            if number > header:
                if len(row) != columns or not values.issuperset(row):
                    expected = f"a file and {columns} of {', '.join(sorted(values))}"
                    raise damaged(path, f"line {number} does not hold {expected}: {line[:80]!r}")
                rows[name] = [int(value) for value in row]
    if absent := sorted(rows.keys() - set(names)):
        raise FileNotFoundError(
            f"{folder / absent[0]}: {path} lists it and {len(absent) - 1:,} more files that are "
            "not there. Unpack img_align_celeba.zip again."
        )
    for name in names:
        if name not in rows:
            raise ArgumentValueError(
                str(path),
                f"it has no line for {name}. If the image does not belong to CelebA, take it out "
                f"of {folder}; otherwise fetch the list again.",
            )
    return np.array([rows[name] for name in names])
